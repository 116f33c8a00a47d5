"""Every command and every example on the pages of the manual runs, on small stand-ins for what the pages name."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
import yaml
from torch.distributed.run import parse_args

import finescale
import manual
from finescale import networks
from finescale.cli.main import run
from finescale.images import write_image
from published_options import CUTS
from serving import Running, start
from small_sets import picture, write_set

if TYPE_CHECKING:
    from finescale.serve.settings import ServeSettings

RUN_ELSEWHERE = {"coming-from.md": "test_coming_from.py", "own-network.md": "test_own_network.py"}
"""Pages whose commands another file of tests runs."""

NOT_RUN = {
    "CONTRIBUTING.md": 1,
    "README.md": 1,
    "benchmarks/README.md": 11,
    "docs/README.md": 1,
    "docs/export.md": 1,
    "docs/models.md": 1,
    "docs/quantize.md": 1,
    "docs/scale.md": 10,
    "docs/speed.md": 1,
    "docs/train.md": 2,
}
"""Number of blocks on each page that are marked as not run."""

PAGES = [*manual.pages(), manual.ROOT / "README.md"]


def name_of(page: Path) -> str:
    return page.relative_to(manual.ROOT).as_posix()


# ---- what the pages are


def test_every_page_of_the_folder_is_in_the_nav() -> None:
    assert {page for page in PAGES if not page.exists()} == set()
    assert sorted(set((manual.ROOT / "docs").rglob("*.md")) - set(PAGES)) == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name_of)
def test_a_page_begins_with_a_sentence(page: Path) -> None:
    text = re.sub(r"<!-- (?!not run).*? -->\s*", "", page.read_text(encoding="utf-8"))
    heading, _, rest = text.partition("\n\n")
    assert heading.startswith("# ")
    assert re.match(r"[A-Z#`](?!#)", rest), "what one can do with the page comes before tables and examples"


def test_what_is_not_run_is_marked_and_counted() -> None:
    marked = {name_of(page): sum(block.not_run is not None for block in manual.blocks(page)) for page in PAGES}
    assert {name: count for name, count in marked.items() if count} == NOT_RUN


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_stand_in_blocks_that_are_run(page: Path) -> None:
    others = [block.text for block in manual.blocks(page) if block.language not in ("sh", "python")]
    assert [text for text in others if re.search(r"^(\$ )?finescale ", text, re.MULTILINE)] == []
    text = page.read_text(encoding="utf-8")
    assert text.count("<!-- not run") == sum(block.not_run is not None for block in manual.blocks(page))


# ---- stand-ins

SMALLER = {
    "1/8": "1/2",
    "480,250": "8,12",
    "480": "24",
    "240": "12",
    "6000": "60",
    "50000": "1",
    "FINESCALE_TOKEN=...": "FINESCALE_TOKEN=0123456789abcdef",
}
"""Words of the pages, and those that take the stand-ins' size in their place."""

PICTURES = (
    *("photo.jpg", "photo.png", "scan.tif", "scan.png", "still_life.png", "examples/still_life.png"),
    *("holiday/IMG_0001.jpg", "holiday/IMG_0002.jpg", "photos/a.png", "photos/b.png", "pictures/a.png", "hr/a.png"),
    *("patches/a.png", "patches/b.png", "inputs/a.png"),
)
ORIGINALS = ("datasets/DIV2K/HR/one.png", "DIV2K/HR/one.png", "originals/one.png", "Set5/one.png")

WEIGHTS = {
    "HiT-SRF-4x.pth": ("hit-srf", 4),
    "CRAFT_MODEL_x4.pth": ("craft", 4),
    "SwinIR.pth": ("swinir", 4),
    "NGswin_x2.pth": ("ngswin", 2),
    "RealESRGAN_x4plus.pth": ("hit-sir", 4),
    "unknown.pth": ("dat-light", 4),
    "mine.safetensors": ("hit-srf", 4),
    "mine_x2.safetensors": ("hit-srf", 2),
    "experiments/mine/weights.safetensors": ("hit-srf", 4),
    "experiments/pretrained_models/HiT-SRF-4x.pth": ("hit-srf", 4),
}
"""Weight files that the pages name, and the networks whose tiny sizes they have."""

FIRST = {
    "docs/analyze.md": [
        "finescale evaluate -n default -s 4 --data datasets/benchmark --sets Set5 -o results/mine",
        "finescale train hit-srf -s 4 --hr hr --start none",
        "finescale train hit-srf -s 4 --hr hr --name mine --start none",
    ],
    "docs/report.md": ["finescale upscale photos -o large --shard 1/2"],
}
"""Commands whose results a page takes as given."""


def tiny(name: str, scale: int) -> networks.Frame:
    family = networks.variants()[name]
    torch.manual_seed(0)
    return family.network(settings=family.tiny[name], scale=scale)


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the pages name."""
    root = tmp_path_factory.mktemp("stand_ins")
    for side, names in ((16, PICTURES), (36, ORIGINALS)):
        for number, name in enumerate(names):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            write_image(root / name, picture(side, side + 4, seed=number).float() / 255)
    for name in ("datasets/benchmark", "ROOT", "DATA", "sets", "benchmark"):
        for scale in (2, 4):
            write_set(root / name, "Set5", scale=scale, sizes={"one": (36, 40)})
            write_set(root / name, "Set14", scale=scale, sizes={"two": (32, 36)})
    shutil.copytree(root / "datasets/benchmark/Set5/LR_bicubic/X4", root / "small")
    (root / "originals" / "one.png").unlink()
    shutil.copy(root / "datasets/benchmark/Set5/HR/one.png", root / "originals")
    for name, (variant, scale) in WEIGHTS.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".pth":
            torch.save({"params": tiny(variant, scale).state_dict()}, path)
        else:
            finescale.save(tiny(variant, scale), path, source="a test")
    finescale.save(finescale.load(root / "CRAFT_MODEL_x4.pth").network, root / "mine_x4.safetensors", source="a test")
    published = networks.build("hit-srf", scale=4)  # a name is that of the published size
    (root / "cache").mkdir()
    torch.save({"params": published.state_dict()}, root / "cache" / "HiT-SRF-4x.pth")
    write_option_files(root / "options")
    settings = {
        "name": "small_x4",
        "variant": "hit-sir",
        "network": tiny("hit-sir", 4).settings.model_dump(mode="json"),
        "scale": 4,
        "data": {"hr": ["hr"], "patch": 4},
        "train": {"batch": 2, "iterations": 2},
    }
    (root / "settings.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    own = ("variant", "network")
    finetune = {key: value for key, value in settings.items() if key not in own} | {"name": "finetuned"}
    (root / "finetune.yml").write_text(yaml.safe_dump(finetune), encoding="utf-8")
    (root / "others.csv").write_text("name,psnr,parameters,multiply-adds\nELAN-light,26.54,601K,43.2G\n")
    (root / "picture.ppm").write_bytes(b"P6\n20 16\n255\n" + picture(16, 20).permute(1, 2, 0).numpy().tobytes())
    shutil.copy(manual.ROOT / "examples" / "onnx_tiles.py", root)
    return root


FLIPS = {"use_hflip": True, "use_rot": True}


def write_option_files(folder: Path) -> None:
    """Option files like those of HiT-SR's repository, of a tiny network: one for testing, one for training."""
    network = {"type": "HiT_SRF", "in_chans": 3, "img_range": 1.0, "upsampler": "pixelshuffledirect", **CUTS["HiT"]}
    base = "datasets/benchmark/Set5"

    def pair(scale: int) -> dict[str, str]:
        return {
            "name": "Set5",
            "type": "PairedImageDataset",
            "dataroot_gt": f"{base}/HR",
            "dataroot_lq": f"{base}/LR_bicubic/X{scale}",
            "filename_tmpl": f"{{}}x{scale}",
        }

    weights = "experiments/pretrained_models/cut.pth"
    path = folder.parent / weights
    torch.save({"params": networks.from_options({**network, "upscale": 4}).state_dict()}, path)
    files = {
        "Test/test_HiT_SRF_x4.yml": {
            "name": "HiT_SRF_x4",
            "model_type": "HITModel",
            "scale": 4,
            "num_gpu": 1,
            "manual_seed": 0,
            "datasets": {"test_1": pair(4)},
            "network_g": {**network, "upscale": 4},
            "path": {"pretrain_network_g": weights},
        },
        "Train/train_HiT_SRF_x2.yml": {
            "name": "HiT_SRF_x2",
            "model_type": "HITModel",
            "scale": 2,
            "num_gpu": 1,
            "manual_seed": 0,
            "datasets": {"train": {**pair(2), "gt_size": 16, "batch_size_per_gpu": 2, **FLIPS}},
            "network_g": {**network, "upscale": 2},
            "path": {"pretrain_network_g": None},
            "train": {
                "optim_g": {"type": "Adam", "lr": 5e-4},
                "scheduler": {"type": "MultiStepLR", "milestones": [1], "gamma": 0.5},
                "total_iter": 2,
                "pixel_opt": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"},
            },
        },
    }
    for name, values in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(values), encoding="utf-8")  # JSON is YAML


@pytest.fixture
def here(stand_ins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of one page."""
    work = tmp_path / "page"
    shutil.copytree(stand_ins, work)
    monkeypatch.chdir(work)
    monkeypatch.setenv("FINESCALE_CACHE", str(work / "cache"))
    return work


# ---- how they run


def quickened(words: list[str]) -> list[str]:
    """The words of a command with what makes it quick: tiny networks, few steps."""
    verb = words[:2]
    if words[:3] == ["analyze", "cost", "--all"]:  # test_analyze.py shows that it counts all
        words = ["analyze", "cost", "-n", "hit-sir", "-n", "span", "--no-time", *words[3:]]
    elif words[0] == "convert" and any(word.endswith(".pth") for word in words[2:]):
        words = [*words, "--unstated"]  # a .pth cannot state sizes of tiny networks
    elif words[:3] == ["analyze", "cost", "-n"] and "--hierarchical" not in words:
        scale = int(words[words.index("-s") + 1]) if "-s" in words else 4
        words = [
            str(tiny_file(word, scale)) if before == "-n" and word in networks.variants() else word
            for before, word in zip(["", *words], words, strict=False)
        ]
        given = {"--input": "16x16", "--runs": "1"} if "--no-time" not in words else {}
        for flag, value in given.items():
            if flag in words:
                words[words.index(flag) + 1] = value
            else:
                words += [flag, value]
    elif verb == ["analyze", "cost"] and "--no-time" not in words:
        words = [*words, "--no-time"]
    elif verb == ["analyze", "plot"] and "multiply-adds" in words:  # test_analyze.py counts all networks
        words = [*words, "--only", "hit-srf,craft"]
    elif words[0] == "train" and words[1] in networks.variants():
        sizes = networks.variants()[words[1]].tiny[words[1]].model_dump(mode="json")
        fields = {"network": sizes, "data.patch": 4, "train.batch": 2, "train.iterations": 2}
        if any(word.startswith("data.degradation") for word in words):  # else it resumes another training
            words = [*words, "--name", f"degraded_{words[-1]}"]
        words = words + [word for name, value in fields.items() for word in ("--set", f"{name}={json.dumps(value)}")]
    elif words[0] in ("quantize", "export"):
        words = ["mine.safetensors" if word in ("default", "hit-srf") else word for word in words]
        if words[0] == "export" and "small.safetensors" in words:
            words = [*words, "--size", "16x16"]
        if words[0] == "quantize" and "--epochs" not in words:
            words = [*words, "--epochs", "1"]
        if words[0] == "quantize" and not {"--recipe", "--start"} & set(words):
            words = [*words, "--crops", "2", "--crop-size", "16"]
    return words


def tiny_file(name: str, scale: int) -> Path:
    """A weight file of a tiny network, under the name of a known one."""
    path = Path("tiny") / f"x{scale}" / f"{name}.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        finescale.save(tiny(name, scale), path, source="a test")
    return path


class Terminal:
    """Runs the commands of a page, one after the other."""

    def __init__(self, folder: Path, captured: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.captured = captured
        self.monkeypatch = monkeypatch
        self.server: Running | None = None

    def run(self, command: str) -> None:
        words = [SMALLER.get(word, word) for word in shlex.split(command)]
        with self.monkeypatch.context() as patch:
            while "=" in words[0]:
                patch.setenv(*words.pop(0).split("=", 1))
            self.start(command, *words)

    def start(self, command: str, program: str, *rest: str) -> None:
        arguments = list(rest)
        if program == "torchrun":
            program, arguments = self.launched(arguments)
        runners: dict[str, Callable[[list[str]], None]] = {
            "finescale": self.finescale,
            "curl": self.curl,
            "python": self.python,
        }
        assert program in runners, f"{command}: no test runs {program}; mark the block, with the reason"
        runners[program](arguments)

    def launched(self, words: list[str]) -> tuple[str, list[str]]:
        """What torchrun is told to start; one process of it, here."""
        asked = parse_args(words)
        if asked.no_python:
            return asked.training_script, asked.training_script_args
        assert asked.module
        return asked.training_script, asked.training_script_args

    def finescale(self, words: list[str]) -> None:
        if words[0] == "serve":
            self.serve(words[1:])
            return
        target = None
        if ">" in words:
            words, target = words[: words.index(">")], Path(words[-1])
        if "--workers" in words:
            words[words.index("--workers") + 1] = "2"
        shards = words.index("--shard") + 1 if "--shard" in words else None
        count = int(words[shards].partition("/")[2]) if shards else 1
        for number in range(1, count + 1):  # a page shows the first of several machines
            given = list(words)
            if shards:
                given[shards] = f"{number}/{count}"
            self.captured.readouterr()
            code = run(quickened(given))
            told = self.captured.readouterr()
            assert code == 0, f"finescale {shlex.join(given)}\n{told.err}"
            if target:
                target.write_text(told.out)

    def serve(self, words: list[str]) -> None:
        """Run the command until it would listen; a page's requests go to one server, which `ready` starts."""
        pytest.importorskip("fastapi")
        from finescale.serve import server

        started: list[ServeSettings] = []
        with self.monkeypatch.context() as patch:
            patch.setattr(server, "serve", lambda settings, *, on_start: started.append(settings))
            assert run(["serve", *words]) == 0
        assert len(started) == 1

    def ready(self) -> str:
        """The address of a server that takes pictures."""
        pytest.importorskip("uvicorn")
        if self.server is None:
            self.server = start(Path("server"), Path("mine_x2.safetensors").resolve())
        return self.server.address

    def curl(self, words: list[str]) -> None:
        address = self.ready()
        words = [word.replace("http://127.0.0.1:8188", address) for word in words]
        done = subprocess.run(["curl", "-sS", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        if "-o" in words:
            assert finescale.read_image(words[words.index("-o") + 1]).pixels.shape[-2:] == (32, 40)

    def python(self, words: list[str]) -> None:
        self.monkeypatch.setattr(sys, "argv", words)
        runpy.run_path(words[0], run_name="__main__")

    def stop(self) -> None:
        if self.server is not None:
            self.server.stop()


@pytest.fixture
def terminal(here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    terminal = Terminal(here, capfd, monkeypatch)
    yield terminal
    terminal.stop()


WITH_COMMANDS = [
    page for page in PAGES if page.name not in RUN_ELSEWHERE and (manual.commands(page) or manual.table_commands(page))
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*no network reads")  # where the test itself builds the network
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of the hub's client
@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name_of)
def test_the_commands_of_a_page_run(page: Path, terminal: Terminal, request: pytest.FixtureRequest) -> None:
    commands = [*manual.table_commands(page), *manual.commands(page)]
    text = "\n".join(commands)
    if "--for spandrel" in text or "theirs.pth" in text:
        spandrel = request.getfixturevalue("spandrel")
        theirs = spandrel.architectures.ESRGAN.ESRGAN(num_filters=4, num_blocks=1)
        torch.save(theirs.state_dict(), terminal.folder / "theirs.pth")
    for needed, packages in {
        "finescale export": ["onnx", "onnxruntime", "onnxscript"],
        "openvino": ["openvino"],
    }.items():
        if needed in text:
            for package in packages:
                pytest.importorskip(package)
    if page.name == "hub.md":  # where its examples put the network that its command takes
        run_examples(page, terminal, request)
    for command in [*FIRST.get(name_of(page), []), *commands]:
        terminal.run(command)


# ---- examples in Python

IN_TEST_DOCS = {"convert.md", "evaluate.md", "export.md", "other-tools.md", "prepare.md", "python.md", "quantize.md"}
"""Pages whose examples in Python test_docs.py runs."""

IN_THE_EXAMPLES = {
    'device="cuda", ': "",
    "top=250, left=480, size=16": "top=4, left=4, size=8",
}
"""Parts of examples, and those that take the stand-ins' size or device in their place."""

WITH_EXAMPLES = [page for page in PAGES if any(block.language == "python" for block in manual.blocks(page))]


def run_examples(page: Path, terminal: Terminal, request: pytest.FixtureRequest) -> None:
    """Run the examples of a page together: later ones build on earlier ones."""
    blocks = [block for block in manual.blocks(page) if block.language == "python" and block.not_run is None]
    text = "\n".join(block.text for block in blocks)
    if "HubNetwork" in text:
        request.getfixturevalue("hub")
        os.chdir(terminal.folder)
    for command in FIRST.get(name_of(page), []):
        terminal.run(command)
    for there, here in IN_THE_EXAMPLES.items():
        text = text.replace(there, here)
    if "http://127.0.0.1:8188" in text:
        text = text.replace("http://127.0.0.1:8188", terminal.ready())
    exec(text, {"image": finescale.read_image("photo.png")})


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [page for page in WITH_EXAMPLES if page.name not in {*IN_TEST_DOCS, *RUN_ELSEWHERE, "hub.md"}],
    ids=name_of,
)
def test_the_examples_of_a_page_run(page: Path, terminal: Terminal, request: pytest.FixtureRequest) -> None:
    run_examples(page, terminal, request)
