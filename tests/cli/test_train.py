"""``finescale train`` through its entry point: a folder of pictures to a weight file that upscales."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from finescale import images
from finescale.cli.main import run

RECIPE = """
name: small
variant: hit-sir
network: {embed_dim: 16, depths: [1], num_heads: [1], window_ratios: [1]}
scale: 2
lr_patch: 8
batch: 2
iterations: 4
learning_rate: 1e-3
log_every: 2
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "hr").mkdir()
    images.write_image(tmp_path / "hr" / "a.png", torch.linspace(0, 1, 3 * 20 * 24).reshape(3, 20, 24))
    path = tmp_path / "recipe.yml"
    path.write_text(f"{RECIPE}hr: [{tmp_path / 'hr'}]\noutput: {tmp_path}\n", encoding="utf-8")
    return path


def train(recipe: Path, *flags: str) -> int:
    return run(["train", str(recipe), *flags])


def test_a_recipe_becomes_weights_that_upscale(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(recipe) == 0
    told = capsys.readouterr()
    assert "pictures to train on: 1" in told.err
    assert told.out == ""
    assert "step 4 of 4" in told.err
    weights = recipe.parent / "small" / "weights.safetensors"
    assert f"weights: {weights}" in told.err
    assert run(["upscale", str(recipe.parent / "hr"), "-n", str(weights)]) == 0
    assert images.read_image(recipe.parent / "hr" / "a_x2.png").size == (40, 48)


def test_a_finished_training_is_resumed_for_longer_but_not_begun_again(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(recipe) == 0
    assert train(recipe) == 1
    assert "holds a training already" in capsys.readouterr().err
    assert train(recipe, "--resume", "--set", "iterations=6") == 0
    assert "step 6 of 6" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--set", "iteration=3"], "did you mean 'iterations'?"),
        (["--set", "scale=5"], "scale must be 2, 3 or 4, got 5"),
        (["--set", "network={embed_dims: 8}"], "did you mean 'embed_dim'?"),
        (["--set", "hr=[nowhere]"], "nowhere is not a folder"),
        (["--resume"], "there is no checkpoint to resume from"),
    ],
)
def test_wrong_settings_are_one_sentence_and_exit_code_1(
    flags: list[str], sentence: str, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(recipe, *flags) == 1
    told = capsys.readouterr().err
    assert sentence in told
    assert "Traceback" not in told
    assert not (recipe.parent / "small").exists()
