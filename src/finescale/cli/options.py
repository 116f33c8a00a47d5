"""Options that several verbs share, each written once: flag, type and help text; and what their texts mean.

A default that differs from verb to verb stands in the verb's signature; `--help` prints it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from finescale.system.cores import use_threads
from finescale.system.shards import WHOLE, Shard, parse_shard, shard_of_launcher

if TYPE_CHECKING:
    from finescale.engines import EngineName

# ---- the network

Network = Annotated[
    str,
    typer.Option(
        "-n", "--network", metavar="MODEL", help="A known network, owner/name on the hub, or a path to a weight file."
    ),
]
Networks = Annotated[
    list[str] | None,
    typer.Option(
        "-n",
        "--network",
        metavar="MODEL",
        help="A known network, owner/name on the hub, or a path to a weight file; may be repeated.",
    ),
]
Scale = Annotated[
    int | None,
    typer.Option(
        "-s", "--scale", help="The network's scale; default: the weight file's, or the largest of a known network."
    ),
]
FixedScale = Annotated[int, typer.Option("-s", "--scale", help="The networks' scale, 1 to 16.")]
NetworkSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="FIELD=VALUE", help="A setting of the network that its file does not show; may be repeated."
    ),
]
Offline = Annotated[
    bool, typer.Option("--offline", help="Never access the internet: use only weights that are already downloaded.")
]

# ---- how it is computed

Tile = Annotated[
    str | None,
    typer.Option("-t", "--tile", help="Largest side of a tile in input pixels; 0: the whole picture; auto: by memory."),
]
Overlap = Annotated[int | None, typer.Option(help="Input pixels that neighbouring tiles share.")]
TileRule = Annotated[
    str | None,
    typer.Option(
        metavar="RULE",
        help="blend (default), or a published rule: chop (HiT-SR, DAT), pad (HAT, DRCT) or average (DRCT).",
    ),
]
Ensemble = Annotated[
    bool, typer.Option("--ensemble", help="Average over 8 flips and rotations: slightly better, 8 times slower.")
]
Precision = Annotated[str, typer.Option(help="auto, float32, bf16 or fp16.")]
Engine = Annotated[str | None, typer.Option(help="auto, torch, compile or openvino.")]
Compile = Annotated[bool, typer.Option("--compile", help="Short for --engine compile, PyTorch's compiler.")]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1 or mps; default: cuda where it is available, else cpu.")
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        metavar="N",
        callback=lambda count: None if count is None else use_threads(count),
        help="Threads that compute; default: one per core that this process may use.",
    ),
]
CpuByDefault = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1 or mps.")]

ShardText = Annotated[
    str | None,
    typer.Option(
        "--shard", metavar="K/N", help="Do the K-th of N shares; default: all, or the share of torchrun or srun."
    ),
]

# ---- what is written

Figure = Annotated[
    Path, typer.Option("-o", "--output", metavar="FIGURE", help="File name of the figure, .svg or .png.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Redo existing results.")]
ReplaceFile = Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print a report on standard output.")]

# ---- published commands

OptionFile = Annotated[
    Path | None,
    typer.Option("-opt", "--opt", metavar="FILE.yml", help="The same as naming an option file, as in BasicSR."),
]
Launcher = Annotated[
    str | None, typer.Option(metavar="none|pytorch", help="No effect, for BasicSR's commands: torchrun is recognised.")
]
AutoResume = Annotated[
    bool, typer.Option("--auto_resume", "--auto-resume", help="No effect, for BasicSR's commands: this is the default.")
]
LocalRank = Annotated[
    int | None,
    typer.Option("--local_rank", "--local-rank", help="No effect, for PyTorch's old launcher: the environment counts."),
]

# ---- how files are prepared

Seed = Annotated[int, typer.Option(min=0, help="Seed of all random choices.")]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, metavar="N", help="Pictures processed at once; default: one per processor core."),
]


# ---- what their texts mean


def is_first_process() -> bool:
    """Return whether this process prints: the only one, or the first of several by torchrun."""
    return os.environ.get("RANK", "0") == "0"


def notes_on_launch(launcher: str | None, *, auto_resume: bool, local_rank: int | None) -> list[str]:
    """Explain the flags of BasicSR's commands that have no effect, a sentence for each.

    Raises:
        typer.BadParameter: The launcher is not one of BasicSR's, or is not supported.
    """
    from finescale.settings import suggest

    launchers = ("none", "pytorch")
    if launcher == "slurm":
        raise typer.BadParameter("--launcher slurm is not supported; start the processes by torchrun")
    if launcher not in (None, *launchers):
        raise typer.BadParameter(f"--launcher must be none or pytorch, got {launcher!r}{suggest(launcher, launchers)}")
    notes = []
    if launcher == "pytorch" and "WORLD_SIZE" in os.environ:
        notes.append("--launcher has no effect: the processes that torchrun starts join by themselves")
    elif launcher == "pytorch":
        notes.append("--launcher pytorch: this process is alone; torchrun starts one for each device")
    if auto_resume:
        notes.append("--auto_resume has no effect: what was begun is resumed in any case")
    if local_rank is not None:
        notes.append("--local-rank has no effect: the environment variable LOCAL_RANK counts")
    return notes


def read_tile(text: str) -> int | Literal["auto"]:
    """Return the side of a tile that ``--tile`` names; any word but a number is left to `Tiling` to check."""
    return int(text) if re.fullmatch(r"-?\d+", text) else cast("Literal['auto']", text)


def read_bytes(flag: str, text: str) -> int:
    """Parse a size such as "4G" or "800 MiB" into bytes."""
    found = re.fullmatch(r"(\d{1,15}(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    if not found:
        raise typer.BadParameter(f"{flag} must be a size such as 800M or 4G, got {text!r}")
    return int(float(found[1]) * _UNITS[found[2]])


_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def engine_of(named: str | None, *, compile: bool, default: EngineName = "auto") -> EngineName:
    """Return the engine that ``--engine`` and ``--compile`` select together, or else the default.

    Raises:
        typer.BadParameter: They select two different ones.
    """
    if compile and named not in (None, "compile"):
        raise typer.BadParameter(f"--compile and --engine {named} are mutually exclusive")
    return cast("EngineName", "compile" if compile else named or default)


def device_of(named: str | None, *, engine: EngineName = "torch") -> str:
    """Return the device that ``--device`` names, by default CUDA where it is available; OpenVINO needs the CPU."""
    if named is not None:
        return named
    import torch

    return "cuda" if torch.cuda.is_available() and engine != "openvino" else "cpu"


def shard_of(named: str | None) -> Shard:
    """Return the shard that ``--shard`` names, or else the one that torchrun or Slurm's srun gave this process.

    Raises:
        typer.BadParameter: There is no such shard.
    """
    from finescale.cli import console

    try:
        if named is not None:
            return parse_shard(named)
        launched = shard_of_launcher(os.environ)
    except ValueError as error:
        raise typer.BadParameter(f"--shard: {error}") from None
    if launched is None:
        return WHOLE
    shard, launcher = launched
    console.say(f"shard {shard}, by {launcher}")
    return shard


def names_of(text: str | None) -> list[str]:
    """Split names at commas, such as "Set5,Set14"; no text is no name."""
    return [] if text is None else [name.strip() for name in text.split(",") if name.strip()]
