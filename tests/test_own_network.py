"""The family of docs/own-network.md, which is not in the package, goes through every verb and the promise battery."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch

import finescale
from finescale.cli.main import run
from finescale.images import write_image
from finescale.networks import FAMILIES, Family
from small_sets import picture, write_set

PAGE = (Path(__file__).parents[1] / "docs" / "own-network.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The examples of the page in a language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the module of the page, and what an installation of its package would leave."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "ripple.py").write_text(blocks("python")[0], encoding="utf-8")
    (entry,) = re.findall(r'(\[project\.entry-points\."finescale\.families"\]\n)(.*)\n', blocks("toml")[0])
    facts = folder / "ripple-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: ripple\nVersion: 1.0\n", encoding="utf-8")
    point = entry[1].replace('"', "")
    (facts / "entry_points.txt").write_text(f"[finescale.families]\n{point}\n", encoding="utf-8")
    return folder


@pytest.fixture
def family(package: Path, monkeypatch: pytest.MonkeyPatch) -> Family:
    """The family, registered for one test."""
    monkeypatch.syspath_prepend(package)
    monkeypatch.setattr(FAMILIES, "families", dict(FAMILIES))
    family: Family = import_module("ripple").FAMILY
    finescale.register(family)
    return family


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the pictures that the page names."""
    for folder in ("hr", "pictures"):
        (tmp_path / folder).mkdir()
        write_image(tmp_path / folder / "a.png", picture(50, 60).float() / 255)
    write_set(tmp_path / "benchmark")
    (tmp_path / "ripple.yml").write_text(blocks("yaml")[0], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def python(package: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(package), str(Path(finescale.__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, cwd=package)


def test_it_takes_sixty_lines() -> None:
    assert len([line for line in blocks("python")[0].splitlines() if line]) <= 60


@pytest.mark.slow
def test_it_goes_through_every_verb(
    family: Family, work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    commands = blocks("sh")[-1].splitlines()
    verbs = [shlex.split(command)[1] for command in commands]
    assert {"train", "evaluate", "quantize", "export"} <= set(verbs)
    told = {}
    for verb, command in zip(verbs, commands, strict=True):
        assert run(shlex.split(command)[1:]) == 0, capsys.readouterr().err
        told[verb] = capsys.readouterr()
    assert "53,804" in told["models"].out
    for file, bits in (("experiments/ripple_x2/weights.safetensors", None), ("ripple_8bit_x2.safetensors", 8)):
        loaded = finescale.load(file)
        assert (loaded.family, loaded.variant, loaded.scale) == ("ripple", "ripple", 2)
        assert (loaded.quantization.bits if loaded.quantization else None) == bits
    assert (work / "pictures" / "a_x2.png").exists()
    assert (work / "ripple_x2.onnx").exists()


def test_its_entry_point_makes_it_known_and_a_broken_one_is_reported(package: Path, tmp_path: Path) -> None:
    facts = tmp_path / "torn-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: torn\nVersion: 1.0\n", encoding="utf-8")
    (facts / "entry_points.txt").write_text("[finescale.families]\ntorn = ripple:Ripple\n", encoding="utf-8")
    search = os.pathsep.join([str(package), str(tmp_path), str(Path(finescale.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-m", "finescale", "models", "ripple", "--json"],
        env={**os.environ, "PYTHONPATH": search}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    (model,) = json.loads(done.stdout)["models"]
    assert (model["family"], model["scale"], model["parameters"]) == ("ripple", 2, 53_804)
    assert "the family 'torn' of the package 'torn' is left out (TypeError: ripple:Ripple is" in done.stderr


@pytest.mark.slow
def test_the_promise_battery_runs_on_it(package: Path) -> None:
    words = shlex.split(blocks("sh")[0].strip())
    assert words[0] == "pytest"
    done = python(package, "-m", *words, "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.rpartition(" passed")[0].split()[-1]) > 50


# ---- what is refused


def test_registering_it_twice_has_no_effect(family: Family) -> None:
    before = list(FAMILIES)
    finescale.register(family)
    assert list(FAMILIES) == before
    assert before[-1] == "ripple"


def test_a_family_that_cannot_be_told_from_another_is_refused(family: Family) -> None:
    with pytest.raises(ValueError, match="another family is called 'ripple'; give this one a name of its own"):
        finescale.register(replace(family))
    with pytest.raises(ValueError, match=r"family 'waves' has variants of 'ripple' \(ripple\)"):
        finescale.register(replace(family, name="waves"))
    with pytest.raises(ValueError, match=r"has classes of settings of 'ripple' \(RippleSettings\)"):
        finescale.register(replace(family, name="waves", variants={"waves": family.variants["ripple"]}))
    with pytest.raises(ValueError, match="family 'waves' must have at least one variant, got none"):
        finescale.register(replace(family, name="waves", variants={}))
    unmarked = replace(family.files, marks=())
    with pytest.raises(ValueError, match=r"family 'waves' must have files\.marks, keys that no other family has"):
        finescale.register(replace(family, name="waves", files=unmarked))
    assert "waves" not in FAMILIES


def test_a_family_that_extends_another_leaves_that_its_files(family: Family, tmp_path: Path) -> None:
    file, bare = tmp_path / "ripple.safetensors", tmp_path / "ripple.pth"
    network = family.network(settings=family.tiny["ripple"], scale=2)
    finescale.save(network, file, source="a test")
    torch.save(network.state_dict(), bare)
    assert finescale.load(bare).family == "ripple"
    settings = type("ToughSettings", (family.settings_kinds[0],), {})(embed_dim=8, depth=2)
    extended = replace(family, name="tough", variants={"tough": settings}, tiny={"tough": settings})
    finescale.register(replace(extended, files=replace(family.files, from_state=lambda _state: (settings, 2))))
    assert finescale.load(file).family == "ripple"  # as its header states
    assert finescale.load(bare).family == "tough"
