"""Every command of docs/coming-from.md runs, in the page's order, on published option files cut to tiny networks."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.run import parse_args

import finescale
from finescale import networks
from finescale.cli.main import run
from finescale.images import write_image
from finescale.networks import Frame
from finescale.settings import read_values
from golden_ptq import published_file
from published_options import CUTS, write_stand_ins
from small_sets import picture

PAGE = Path(__file__).parents[1] / "docs" / "coming-from.md"

REPOSITORIES = {
    "HiT-SR": "HiT-SR",
    "CRAFT and its quantization": "Frequency-Inspired-Optimization-for-EfficientSR",
    "DRCT": "DRCT",
    "SPAN, the sliding proxy network": "SPAN",
    "DAT and CIT": "DAT",
    "Habits of BasicSR": "Frequency-Inspired-Optimization-for-EfficientSR",
}
"""Folder of the option files, by the page's headings."""

SMALLER = {"1280x720": "48x32", "480,250": "8,12", "480": "24", "240": "12"}
"""Words of the page, and those that take the stand-ins' size in their place."""

OTHER_PICTURES = {
    Path("datasets/single/img_092.png"): 16,
    Path("datasets/calibration_data/X4/a.png"): 16,
    Path("datasets/calibration_data/X4/bb.png"): 16,
    Path("datasets/benchmark/Set14/HR/one.png"): 36,
    Path("datasets/benchmark/B100/HR/one.png"): 36,
    Path("originals/Set5/baby.png"): 36,
}
"""Pictures that the page names and no option file, by their sides."""

RESULTS = ("-o", "--output", "--output_dir", "--cut-hr", "--lr-output", ">")
"""Words after which a command names what it writes."""


def commands() -> dict[str, list[str]]:
    """The commands of the right columns, by the headings above their tables."""
    found: dict[str, list[str]] = {}
    heading = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            heading = line[3:]
        elif line.startswith("| "):
            there, here = line.strip("| ").split(" | ")
            assert "finescale " not in there
            found.setdefault(heading, []).extend(re.findall(r"`([^`]*\bfinescale [^`]*)`", here))
    return found


def test_every_command_of_the_page_is_one_of_its_tables() -> None:
    text = PAGE.read_text(encoding="utf-8")
    in_tables = [command for section in commands().values() for command in section]
    assert re.findall(r"`([^`]*\bfinescale [^`]*)`", text) == in_tables
    assert "```" not in text
    assert commands().keys() == REPOSITORIES.keys()


@pytest.fixture
def here(request: pytest.FixtureRequest, tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of the repository under a heading: its option files, cut, with stand-ins for all that they name."""
    heading = request.node.callspec.params["heading"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    published = data_root / "options" / REPOSITORIES[heading]
    words = [word for command in commands()[heading] for word in shlex.split(command)]
    files = [Path(word) for word in words if word.endswith(".yml")]
    write_stand_ins(tmp_path, [published / file for file in files])
    for file in files:
        values = cut(read_values(published / file))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))  # JSON is YAML
        weights = values["path"]["pretrain_network_g"]
        if weights is not None:
            write_weights(Path(weights), values["network_g"], key=values["path"].get("param_key_g", "params"))
    for path in {Path(word) for word in words if word.endswith(".pth") and "net_g" not in word}:
        if not path.exists():
            write_published_weights(path)
    for path, side in OTHER_PICTURES.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, picture(side, side, seed=len(path.stem)).float() / 255)
    return tmp_path


def cut(values: dict[str, Any]) -> dict[str, Any]:
    """An option file with a tiny network; a training of two steps of two small samples."""
    kind = values["network_g"]["type"]
    values["network_g"].update(CUTS[kind.partition("_")[0]])
    if "train" in values["datasets"]:
        values["datasets"]["train"].update(gt_size=8 * values["scale"], batch_size_per_gpu=2)
        values["train"]["total_iter"] = 2
    return values


def write_weights(path: Path, network: dict[str, Any], *, key: str) -> None:
    """A network with random weights, as BasicSR saves it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.save({key: networks.from_options(network).state_dict()}, path)


def write_published_weights(path: Path) -> None:
    """A tiny network under a published name, float or by CRAFT's quantizer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if "bit" in path.name:
        published_file(path.parent, "br").rename(path)
        return
    known = {"HiT-SIR-4x.pth": "hit-sir", "CRAFT_MODEL_x4.pth": "craft", "DRCT-L_X4.pth": "drct-l"}[path.name]
    torch.manual_seed(0)
    torch.save({"params": tiny_network(known, scale=4).state_dict()}, path)


def tiny_network(name: str, *, scale: int) -> Frame:
    family = networks.variants()[name]
    return family.network(settings=family.tiny[name], scale=scale)


def tiny_file(name: str, scale: int) -> str:
    """A weight file of a tiny network, under the name of a known one."""
    path = Path("tiny") / f"x{scale}" / f"{name}.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        finescale.save(tiny_network(name, scale=scale), path, source="a test")
    return str(path)


def words_of(command: str) -> list[str]:
    """The words of a command as a shell gives them, in the stand-ins' size; costs are counted of tiny networks."""
    words = [os.path.expanduser(SMALLER.get(word, word)) for word in shlex.split(command)]  # noqa: PTH111 - any word
    if words[:3] == ["finescale", "analyze", "cost"]:
        scale = int(words[words.index("-s") + 1]) if "-s" in words else 4
        for index, word in enumerate(words):
            if word == "-n":
                words[index + 1] = tiny_file(words[index + 1], scale)
    if words[:2] == ["finescale", "train"] and "-opt" not in words:  # a recipe
        tiny = networks.variants()[words[2]].tiny[words[2]].model_dump(mode="json")
        fields = {"network": tiny, "data.patch": 8, "train.batch": 2, "train.iterations": 2}
        words += [word for name, value in fields.items() for word in ("--set", f"{name}={json.dumps(value)}")]
    return words


def start(command: str, capsys: pytest.CaptureFixture[str], *, processes: int) -> int:
    """Run a command in this process, or one of torchrun in several; return its exit code."""
    words = words_of(command)
    if "torchrun" in words:
        asked = parse_args(words[words.index("torchrun") + 1 :])
        assert (asked.module, asked.training_script) == (True, "finescale")
        words = [asked.training_script, *asked.training_script_args]
        if processes > 1:
            launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
            environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
            done = subprocess.run([*launcher, "-m", *words], env=environment, timeout=240, check=False)
            return done.returncode
    assert words[0] == "finescale"
    if ">" not in words:
        return run(words[1:])
    at = words.index(">")
    capsys.readouterr()
    code = run(words[1:at])
    Path(words[at + 1]).write_text(capsys.readouterr().out)
    return code


def files() -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()}


@pytest.mark.filterwarnings("ignore:.*no network reads")  # where the test itself builds the network
@pytest.mark.parametrize("heading", REPOSITORIES)
def test_the_commands_under_a_heading_run(heading: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for number, command in enumerate(commands()[heading]):
        before = files()
        processes = 2 if heading == "HiT-SR" and number == 0 else 1  # torchrun itself is slow
        code = start(command, capfd, processes=processes)
        told = capfd.readouterr()
        assert code == 0, f"{command}\n{told.err}"
        if " analyze cost " in command and ">" not in command:
            assert "multiply-adds" in told.out, command
            continue
        assert files() != before, command
        words = words_of(command)
        named = [after for word, after in pairwise(words) if word in RESULTS and "cost" not in words]
        assert [path for path in named if not Path(path).exists()] == [], command
