"""Whole calls of ``finescale upscale`` by engine, from the start of Python to its end, as the theme "calls".

Usage: python benchmarks/calls.py [NETWORK...] [--sets one,three,twenty,hundreds,large,album] [--ways torch,auto]
           [--threads 2]

Each call is a process of its own, and runs once. "OpenVINO, first" begins with an empty cache, so it translates and
compiles; "OpenVINO, again" has what the first call kept, and follows it. ONNX Runtime computes the exported file by
examples/onnx_tiles.py, a process for each picture; the export is not counted. bf16 is left out where the CPU lacks it.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyvips
import torch
from record import write_row

import finescale
from finescale import weights
from finescale.engines.precision import cpu_has_bf16
from finescale.export import export_onnx

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "still_life.png"
TILES = ROOT / "examples" / "onnx_tiles.py"
MIXED = ((240, 180), (180, 240), (200, 200), (320, 180), (160, 120))  # width and height, in turns
SETS = {
    "one": MIXED[:1],
    "three": MIXED[:3],
    "twenty": MIXED * 4,
    "hundreds": MIXED * 40,
    "large": ((1000, 750),),
    "album": ((1000, 750),) * 24,
}
NAMES = {
    "one": "1 picture",
    "three": "3 pictures of 3 sizes",
    "twenty": "20 pictures of 5 sizes",
    "hundreds": "200 pictures of 5 sizes",
    "large": "1 picture to 12 megapixels",
    "album": "24 pictures to 12 megapixels each",
}
WAYS = ("torch", "openvino_first", "openvino_again", "torch_bf16", "openvino_bf16", "onnxruntime", "auto")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=["default", "hit-srf"])
    parser.add_argument("--sets", default="one,three,twenty,large", help=f"with commas, of: {', '.join(SETS)}")
    parser.add_argument("--ways", default=",".join(WAYS), help="what is timed, with commas; default: all")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    for kind, named, known in (("set", given.sets, SETS), ("way", given.ways, WAYS)):
        if unknown := [one for one in named.split(",") if one not in known]:
            parser.error(f"no {kind} is called {unknown[0]!r}; known: {', '.join(known)}")
    for network in given.networks:
        with tempfile.TemporaryDirectory() as name:
            file = _weights(network, Path(name))
            for one in given.sets.split(","):
                row = measured(
                    network, file, one, ways=given.ways.split(","), folder=Path(name) / one, threads=given.threads
                )
                print(row, flush=True)
                conditions = {"scale": 4, "dtype": "float32", "sizes": [list(size) for size in MIXED]}
                path = write_row("calls", row, conditions=conditions, threads=given.threads)
    print(f"\nwritten to {path}")


def _weights(network: str, folder: Path) -> Path:
    """The network's weight file beside its ONNX file; those of networks that are not bundled are random."""
    torch.manual_seed(0)
    file = folder / f"{network}.safetensors"
    if network == "default":
        file = weights.load_named("default", scale=4).path
    else:
        finescale.save(finescale.build(network, scale=4), file, source="a benchmark")
    export_onnx(finescale.load(file).network, folder / "network.onnx")
    return file


def measured(network: str, file: Path, one: str, *, ways: Sequence[str], folder: Path, threads: int) -> dict[str, Any]:
    """Seconds of some ways to upscale a set of pictures; what auto chose, and how it compares with the best."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    for number, (width, height) in enumerate(SETS[one]):
        picture = pyvips.Image.new_from_file(str(EXAMPLE)).replicate(8, 8).crop(7 * number, 5 * number, width, height)
        picture.write_to_file(str(pictures / f"{number:03}.png"))
        (folder / f"{number:03}.ppm").write_bytes(b"P6 %d %d 255\n" % (width, height) + picture.write_to_memory())
    row: dict[str, Any] = {"subject": f"{network}, {NAMES[one]}"}
    for way in WAYS:
        if way not in ways or (way.endswith("_bf16") and not cpu_has_bf16()):
            continue
        if way == "onnxruntime":
            row[way] = sum(_onnx_runtime(folder, threads=threads))
            continue
        engine, precision = way.partition("_")[0], "bf16" if way.endswith("_bf16") else "float32"
        cache = folder / ("auto" if way == "auto" else "known")
        row[way], chosen = _upscale(file, pictures, engine, precision, cache=cache, threads=threads)
        if way == "auto":
            row["auto_is"] = chosen
    # The best that a user can have at the first call.
    best = min((row[way] for way in ("torch", "openvino_first") if way in row), default=None)
    if best is not None and "auto" in row:
        row["against_best"] = row["auto"] / best
    return {field: round(value, 2) if isinstance(value, float) else value for field, value in row.items()}


def _upscale(
    file: Path, pictures: Path, engine: str, precision: str, *, cache: Path, threads: int
) -> tuple[float, str]:
    """Seconds of a call, and the engine that it reports."""
    with tempfile.TemporaryDirectory() as results:
        command = [sys.executable, "-m", "finescale", "upscale", str(pictures), "-n", str(file), "-o", results]
        command += ["--engine", engine, "--precision", precision, "--threads", str(threads)]
        seconds, told = _timed(command, {"FINESCALE_CACHE": str(cache)})
    named = re.search(r"by engine (\w+)", told)
    assert named is not None, told
    return seconds, named[1]


def _onnx_runtime(folder: Path, *, threads: int) -> Iterator[float]:
    """Seconds of examples/onnx_tiles.py for each picture."""
    for picture in sorted(folder.glob("*.ppm")):
        command = [sys.executable, str(TILES), str(folder.parent / "network.onnx"), str(picture), os.devnull]
        yield _timed(command, {"OMP_NUM_THREADS": str(threads)})[0]


def _timed(command: Sequence[str], variables: dict[str, str]) -> tuple[float, str]:
    """Seconds of a command, and its standard error."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "VIPS_"))}
    start = time.perf_counter()
    done = subprocess.run(command, env={**kept, **variables}, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return seconds, done.stderr


if __name__ == "__main__":
    main()
