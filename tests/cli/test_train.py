"""``finescale train`` through its entry point: a folder of pictures to a weight file that upscales."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import finescale.train
from finescale import images, weights
from finescale.cli.main import run
from finescale.networks import FAMILIES
from finescale.settings import load_settings
from finescale.train import TrainSettings

RECIPE = """
name: small
variant: hit-sir
network: {embed_dim: 16, depths: [1], num_heads: [1], window_ratios: [1]}
scale: 2
data: {patch: 8}
train: {batch: 2, iterations: 4, lr: 1e-3}
keep: {log_every: 2}
"""


@pytest.fixture
def hr(tmp_path: Path) -> Path:
    (tmp_path / "hr").mkdir()
    images.write_image(tmp_path / "hr" / "a.png", torch.linspace(0, 1, 3 * 20 * 24).reshape(3, 20, 24))
    return tmp_path / "hr"


@pytest.fixture
def recipe(tmp_path: Path, hr: Path) -> Path:
    path = tmp_path / "recipe.yml"
    path.write_text(f"{RECIPE}output: {tmp_path}\n", encoding="utf-8")
    return path


def train(recipe: Path, *flags: str) -> int:
    return run(["train", str(recipe), "--hr", str(recipe.parent / "hr"), *flags])


def planned(capsys: pytest.CaptureFixture[str], tmp_path: Path, *words: str) -> tuple[TrainSettings, str]:
    """The settings that ``--plan`` prints, and what it tells besides."""
    assert run(["train", *words, "--plan"]) == 0
    told = capsys.readouterr()
    path = tmp_path / "plan.yml"
    path.write_text(told.out, encoding="utf-8")
    return load_settings(TrainSettings, path), told.err


def test_a_settings_file_becomes_weights_that_upscale(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(recipe) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert "training small: hit-sir x2 with embed_dim, depths, num_heads, window_ratios changed" in told.err
    assert "4 steps of 2 samples of 8x8, l1, Adam at 0.001, constant" in told.err
    weights = recipe.parent / "small" / "weights.safetensors"
    assert f"weights: {weights}" in told.err
    assert run(["upscale", str(recipe.parent / "hr"), "-n", str(weights)]) == 0
    assert images.read_image(recipe.parent / "hr" / "a_x2.png").size == (40, 48)


def test_a_training_goes_on_by_itself_unless_that_is_refused(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(recipe, "--resume") == 1
    assert "there is no checkpoint to resume from" in capsys.readouterr().err
    assert train(recipe) == 0
    assert train(recipe, "--no-resume") == 1
    capsys.readouterr()
    assert train(recipe, "--set", "train.iterations=6") == 0
    assert "step 6 of 6" in capsys.readouterr().err
    assert train(recipe, "--set", "train.iterations=5") == 1
    assert "6 steps are done already, more than train.iterations=5" in capsys.readouterr().err


def test_the_library_is_called_with_what_the_flags_say(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[TrainSettings, dict[str, Any]]] = []

    def stand_in(settings: TrainSettings, **flags: Any) -> Path:
        calls.append((settings, flags))
        return Path("weights")

    monkeypatch.setattr(finescale.train, "train", stand_in)
    monkeypatch.setenv("RANK", "1")
    assert train(recipe, "--device", "cpu", "--name", "other", "--lr", "low", "--val", "valid", "--resume") == 0
    assert capsys.readouterr().err == ""
    ((settings, flags),) = calls
    assert flags == {"resume": True, "device": "cpu", "on_step": None}
    assert (settings.name, settings.data.lr, settings.validation.hr) == ("other", (Path("low"),), Path("valid"))


def test_a_published_recipe_is_planned_in_full(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings, told = planned(capsys, tmp_path, "hit-srf", "-s", "2", "--hr", "a", "--hr", "b", "--set", "train.batch=8")
    assert (settings.name, settings.variant, settings.scale) == ("hit-srf_x2", "hit-srf", 2)
    assert settings.data.hr == (Path("a"), Path("b"))
    assert (settings.train.batch, settings.train.lr, settings.train.iterations) == (8, 5e-4, 500_000)
    assert "note: the authors train it on DIV2K" in told
    assert "times 0.5 after 250,000, 400,000, 450,000, 475,000" in told


def test_a_recipe_begins_with_the_training_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("hit-srf", "-s", "4", "--hr", "a")
    settings, told = planned(capsys, tmp_path, *words, "--set", "output=out")
    assert settings.warm_start == Path("out/hit-srf_x2/weights.safetensors")
    assert "starts from the weights of hit-srf x2" in told
    assert "which does not exist: train that first, or give --start MODEL or none" in told
    (tmp_path / "out" / "hit-srf_x2").mkdir(parents=True)
    facts = FAMILIES["hit-sr"]
    file = tmp_path / "out" / "hit-srf_x2" / "weights.safetensors"
    weights.save(facts.network(settings=facts.tiny["hit-srf"], scale=2), file, source="a test")
    assert "which does not exist" not in planned(capsys, tmp_path, *words, "--set", "output=out")[1]
    assert planned(capsys, tmp_path, *words, "--start", str(file))[0].warm_start == file
    assert planned(capsys, tmp_path, *words, "--start", "none")[0].warm_start is None
    assert planned(capsys, tmp_path, *words, "--set", "warm_start=null")[0].warm_start is None


def test_a_known_network_to_begin_with_is_found_at_the_scale_of_the_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, _ = planned(capsys, tmp_path, "hit-sir", "-s", "4", "--hr", "a", "--start", "default")
    assert settings.warm_start == weights.find("default", scale=2)


def test_a_recipe_of_several_stages_is_trained_stage_by_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, told = planned(capsys, tmp_path, "drct", "-s", "4", "--stage", "2", "--hr", "a")
    assert (settings.name, settings.train.lr) == ("drct_x4_stage2", 1e-5)
    assert settings.warm_start == Path("experiments/drct_x4_stage1/weights.safetensors")
    assert "note: 250,000 steps in the option files, 800,000 in the paper" in told


def test_a_published_option_file_is_converted_and_what_has_no_effect_is_told(
    data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(data_root / "options" / "HiT-SR" / "options" / "Train" / "train_HiT_SRF_x2.yml")
    settings, told = planned(capsys, tmp_path, file, "--hr", "mine", "--val", "valid")
    assert (settings.variant, settings.train.batch, settings.train.iterations) == ("hit-srf", 16, 500_000)
    assert settings.validation.sets == {}
    assert (settings.data.hr, settings.data.lr) == ((Path("mine"),), ())
    assert (settings.validation.hr, settings.validation.lr) == (Path("valid"), None)
    assert "is an option file of BasicSR; --plan prints it as a settings file" in told
    assert "note: no effect here: model_type, dist_params, path.strict_load_g, datasets.train.name" in told
    assert "note: 16 samples per step: batch_size_per_gpu 16 times 1, by num_gpu auto; the authors take 64" in told
    assert "samples per step" not in planned(capsys, tmp_path, file, "--set", "train.batch=64")[1]
    assert planned(capsys, tmp_path, "-opt", file)[0] == planned(capsys, tmp_path, file)[0]
    assert planned(capsys, tmp_path, "--opt", file)[0].validation.sets.keys() == {"Set5"}


def test_flags_of_published_commands_are_taken_and_explained(
    recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--launcher", "pytorch", "--auto_resume", "--local-rank", "0")
    assert train(recipe, *flags, "--plan") == 0
    told = capsys.readouterr().err
    assert "note: --launcher pytorch: this process is alone; torchrun starts one for each device" in told
    assert "note: --auto_resume has no effect: what was begun is resumed in any case" in told
    assert "note: --local-rank has no effect: the environment variable LOCAL_RANK counts" in told
    assert run(["--local-rank=0", "train", str(recipe), "--hr", str(recipe.parent / "hr"), "--plan"]) == 0
    assert "note: --local-rank has no effect" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert train(recipe, "--launcher", "pytorch", "--local_rank=1", "--plan") == 0
    assert "the processes that torchrun starts join by themselves" in capsys.readouterr().err


def test_a_plan_refuses_weights_that_the_start_would_refuse(
    recipe: Path, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(recipe, "--start", str(tiny_weights), "--plan") == 0
    foreign = tmp_path / "foreign.pth"
    torch.save({"conv.weight": torch.zeros(3, 3, 3, 3)}, foreign)
    capsys.readouterr()
    assert train(recipe, "--start", str(foreign), "--plan") == 1
    told = capsys.readouterr()
    assert f"{foreign}: no known family has its keys" in told.err
    assert told.out == ""
    assert train(recipe, "--set", "warm_start=nowhere.pth", "--plan") == 0
    assert "it starts from nowhere.pth, which does not exist: train that first" in capsys.readouterr().err


def test_a_plan_refuses_places_for_numbers_that_are_not_installed(
    recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finescale.train.log.find_spec", lambda _name: None)
    for field, package in (("tensorboard=true", "finescale[train]"), ("tracker=wandb", "pip install wandb")):
        assert train(recipe, "--set", f"keep.{field}", "--plan") == 1
        assert package in capsys.readouterr().err


def test_a_plan_refuses_a_batch_that_cannot_be_divided(
    recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert train(recipe, "--plan") == 1
    assert "train.batch must be a multiple of 3, devices times train.accumulate, got 2" in capsys.readouterr().err


def test_every_field_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--describe"]) == 0
    told = capsys.readouterr().out
    assert "train: Optimization of the weights.\n" in told
    assert "  train.batch (default 16)\n      Samples per step, over all devices.\n" in told
    assert "  name (required)\n" in told


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--set", "train.iteration=3"], "did you mean 'train.iterations'?"),
        (["--set", "scale=17"], "scale must be 1 to 16 for the upsampler 'pixelshuffledirect', got 17"),
        (["--set", "network={embed_dims: 8}"], "did you mean 'embed_dim'?"),
        (["--set", "data.hr=[nowhere]"], "nowhere is not a folder"),
        (["--set", "data=3"], "'data'"),
        (["-opt", "a.yml"], "name one file, got"),
        (["--launcher", "slurm"], "--launcher slurm is not supported; start the processes by torchrun"),
        (["--launcher", "pytoch"], "--launcher must be none or pytorch, got 'pytoch' (did you mean 'pytorch'?)"),
        (["--auto_resume", "--no-resume"], "--auto_resume and --no-resume are mutually exclusive"),
        (["-optt", "a.yml"], "no such option: -optt (did you mean --opt?)"),
        (["--set", "train.optimizer=Adm"], "did you mean 'Adam'?"),
        (["--set", "train.optimizer=SGD"], "leave it out with betas: null"),
        (["--set", "train.loss={l2: 1}"], "unknown loss 'l2'"),
        (["-s", "2"], "-s and --stage need a recipe"),
        (["--start", "nowhere.pth"], "nowhere.pth: there is no such file"),
        (["--name", "../../x"], "'name': must be a name without folders, got '../../x'"),
        (["--name", "x" * 300], "'name': must have at most 255 bytes, got 'xxx"),
        (["--set", f"output={'x' * 300}"], "cannot be written (File name too long); choose another output or name"),
        (["--val", "x" * 300, "--start", "default"], "cannot be read (File name too long)"),
        (["--set", "network={in_channels: 4}"], "network.in_channels must be 3, for RGB pictures, or 1, for gray ones"),
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


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "name a recipe or a settings file"),
        (["hit-srf", "-s", "2"], "no pictures to train on: give --hr FOLDER"),
        (["hit-srf", "--hr", "a"], "the scale of hit-srf must be one of 2, 3, 4, got none"),
        (["hit-srff", "-s", "2", "--hr", "a"], "unknown recipe 'hit-srff' (did you mean 'hit-srf'?)"),
        (["drct", "-s", "2", "--hr", "a"], "the stage of drct x2 must be 1 (ImageNet), then 2 (DF2K"),
        (["x" * 300, "--hr", "a"], "unknown recipe 'xxx"),
        (["nowhere.yml"], "nowhere.yml: cannot be read (No such file or directory)"),
    ],
)
def test_an_incomplete_command_is_one_sentence_and_exit_code_1(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", *words]) == 1
    assert sentence in capsys.readouterr().err
