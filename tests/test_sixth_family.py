"""Another family is one file and its name in one list: all else follows by itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import finescale

SOURCE = Path(finescale.__file__).parent
TESTS = Path(__file__).parent
LIST = "_ALL = (hit_sr, craft, drct, span, dat, cit, swinir, srformer, hat, ngram)"
IMPORT = "from finescale.networks import cit, craft, dat, drct, hat, hit_sr, ngram, span, srformer, swinir"

TOUR = """
import sys
import torch
import finescale
from finescale.analyze.costs import compare_with_published, measure_cost, subject
from finescale.analyze.plot import gather_points

network = finescale.build("toy", scale=2)
assert finescale.networks.from_options({"type": "Toy", "upscale": 2}).settings == network.settings
finescale.save(network, sys.argv[1], source="a test")
loaded = finescale.load(sys.argv[1])
assert (loaded.family, loaded.variant, loaded.scale) == ("toy", "toy", 2), loaded
image = torch.rand(3, 9, 7)
assert finescale.Upscaler.from_pretrained(sys.argv[1])(image).shape == (3, 18, 14)

# What it declares of its costs is counted, by its own rule and beyond our steps, and shown under its own label.
(comparison,) = compare_with_published(subject("toy", scale=2))
operations = measure_cost(subject("toy", scale=2), (8, 8)).operations
assert comparison.counted == 1000 * operations.multiply_adds
blocks = 4
assert operations.multiply_adds - operations.executed == blocks * network.settings.embed_dim * 8 * 8
points = gather_points(scale=2, axis="parameters", test_set="Set5").points
assert ("a toy", "Toy") in {(point.label, point.family) for point in points}
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment whose finescale has the toy family."""
    package = tmp_path_factory.mktemp("six") / "finescale"
    shutil.copytree(SOURCE, package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(TESTS / "networks" / "toy.py", package / "networks" / "toy.py")
    families = package / "networks" / "__init__.py"
    text = families.read_text(encoding="utf-8")
    assert text.count(LIST) == text.count(IMPORT) == 1
    text = text.replace(LIST, LIST.replace(")", ", toy)")).replace(IMPORT, f"{IMPORT}, toy")
    families.write_text(text, encoding="utf-8")
    return {**os.environ, "PYTHONPATH": f"{package.parent}{os.pathsep}{TESTS}"}


def run(environment: dict[str, str], *arguments: str | Path) -> str:
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, cwd=TESTS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_promises_are_asked_of_it(environment: dict[str, str]) -> None:
    told = run(
        environment, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "toy", "--pyargs",
        "finescale.testing", "networks/test_family.py", "quantize/test_networks.py", "zoo",
    )  # fmt: skip
    passed = int(told.rpartition(" passed")[0].split()[-1])
    assert passed > 50


@pytest.mark.slow
def test_it_is_built_saved_recognised_and_used(environment: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    run(environment, "-c", TOUR, path)
    facts = json.loads(run(environment, "-m", "finescale", "inspect", path, "--json"))
    listed = json.loads(run(environment, "-m", "finescale", "models", "toy", "--json"))["models"]
    assert [(model["name"], model["scale"], model["paper"]["title"]) for model in listed] == [
        ("toy", scale, "How to add a family") for scale in (2, 3, 4)
    ]
    assert "## Toy" in run(environment, "-m", "finescale.zoo")
    assert (facts["family"], facts["variant"], facts["scale"]) == ("toy", "toy", 2)
