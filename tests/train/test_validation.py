"""What a training measures is what `finescale evaluate` measures, on the same pictures each time."""

from __future__ import annotations

import json
import logging
from itertools import count
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from finescale.data import find_pairs
from finescale.errors import CheckpointError, DataError
from finescale.evaluate import Protocol, evaluate
from finescale.images import read_image
from finescale.networks import Frame, variants
from finescale.train import validation
from finescale.train.settings import ValidationSettings
from finescale.train.validation import Validation
from finescale.upscale import Upscaler
from pictures import draw, files_below
from small_sets import SIZES, write_set

TINY = {"embed_dim": 16, "depths": (2,), "num_heads": (2,), "base_window": (4, 4), "window_ratios": (0.5, 2)}


@pytest.fixture
def network() -> Frame:
    family = variants()["hit-sir"]
    settings = variants()["hit-sir"].variants["hit-sir"].model_copy(update=TINY)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = family.network(settings=settings, scale=2)
    return network.train()


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Originals, and their low-resolution pictures at x2."""
    root = write_set(tmp_path, scale=2) / "Set5"
    return root / "HR", root / "LR_bicubic" / "X2"


def test_the_values_are_those_of_evaluate(network: Frame, folders: tuple[Path, Path]) -> None:
    hr, lr = folders
    expected = evaluate(Upscaler(network), find_pairs(hr))
    for given in (None, lr):
        values = Validation(ValidationSettings(hr=hr, lr=given), scale=2).run(network)
        assert list(values) == ["psnr_y", "ssim_y", "images"]
        assert values["images"] == 2
        assert values["psnr_y"] == sum(score.psnr for score in expected) / 2
        assert values["ssim_y"] == sum(score.ssim for score in expected) / 2


def test_several_sets_are_measured_one_by_one(network: Frame, folders: tuple[Path, Path], tmp_path: Path) -> None:
    hr, lr = folders
    other = write_set(tmp_path, "Set14", scale=2, sizes={"one": (40, 44)}) / "Set14" / "HR"
    sets = {"Set5": {"hr": hr, "lr": lr}, "Set14": {"hr": other}}
    settings = ValidationSettings.model_validate({"sets": sets, "pictures": None})
    values = Validation(settings, scale=2, folder=tmp_path / "mine").run(network, step=7)
    alone = {name: Validation(ValidationSettings(hr=one["hr"]), scale=2).run(network) for name, one in sets.items()}
    for metric in ("psnr_y", "ssim_y"):
        assert {name: values[f"{metric}_{name}"] for name in sets} == {name: alone[name][metric] for name in sets}
        assert values[metric] == sum(one[metric] for one in alone.values()) / 2
    assert values["images"] == 3
    assert files_below(tmp_path / "mine") == {
        "visualization/Set5_one/Set5_one_7.png", "visualization/two/two_7.png",
        "visualization/Set14_one/Set14_one_7.png",
    }  # fmt: skip


def test_border_and_channel_are_followed(network: Frame, folders: tuple[Path, Path]) -> None:
    settings = ValidationSettings(hr=folders[0], border=5, channel="rgb")
    expected = evaluate(Upscaler(network), find_pairs(folders[0]), Protocol(border=5, channel="rgb"))
    values = Validation(settings, scale=2).run(network)
    assert list(values) == ["psnr_rgb", "ssim_rgb", "images"]
    assert values["psnr_rgb"] == sum(score.psnr for score in expected) / 2
    assert values["ssim_rgb"] == sum(score.ssim for score in expected) / 2


def test_one_folder_and_several_sets_are_not_mixed(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="hr and sets are mutually exclusive"):
        ValidationSettings.model_validate({"hr": tmp_path, "sets": {"Set5": {"hr": tmp_path}}})
    with pytest.raises(ValidationError, match=r"the name of a set must be a name without folders, got '\.\./x'"):
        ValidationSettings.model_validate({"sets": {"../x": {"hr": tmp_path}}})


@pytest.mark.parametrize("mode", [True, False])
def test_the_network_goes_on_as_it_was(network: Frame, folders: tuple[Path, Path], mode: bool) -> None:
    network.train(mode)
    state = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    Validation(ValidationSettings(hr=folders[0]), scale=2).run(network)
    assert all(module.training is mode for module in network.modules())
    assert all(torch.equal(tensor, network.state_dict()[key]) for key, tensor in state.items())
    network(torch.zeros(1, 3, 8, 8)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_changed_weights_are_measured_anew(network: Frame, folders: tuple[Path, Path]) -> None:
    measure = Validation(ValidationSettings(hr=folders[0]), scale=2)
    before = measure.run(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.1)
    assert measure.run(network) != before


def test_random_numbers_are_those_of_a_training_that_is_not_validated(
    network: Frame, folders: tuple[Path, Path]
) -> None:
    before = torch.random.get_rng_state()
    Validation(ValidationSettings(hr=folders[0]), scale=2).run(network)
    assert torch.equal(before, torch.random.get_rng_state())


# ---- pictures that are kept


def test_the_first_pictures_are_kept_at_every_validation(
    network: Frame, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    measure = Validation(ValidationSettings(hr=folders[0]), scale=2, folder=tmp_path / "mine")
    measure.run(network, step=500)
    measure.run(network, step=1_000_000)
    assert files_below(tmp_path / "mine") == {
        "visualization/one/one_500.png", "visualization/one/one_1000000.png",
    }  # fmt: skip
    height, width = (side // 2 * 2 for side in SIZES["one"])
    assert read_image(tmp_path / "mine/visualization/one/one_500.png").size == (height, width)


@pytest.mark.parametrize(("pictures", "step"), [(0, 500), (2, None)])
def test_no_picture_is_kept_unasked(
    network: Frame, folders: tuple[Path, Path], tmp_path: Path, pictures: int, step: int | None
) -> None:
    settings = ValidationSettings(hr=folders[0], pictures=pictures)
    Validation(settings, scale=2, folder=tmp_path / "mine").run(network, step=step)
    assert not (tmp_path / "mine").exists()


# ---- the time that it may take


def test_pictures_that_do_not_fit_into_the_time_are_left_out_of_all_validations(
    network: Frame,
    folders: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name in ("three", "two0"):
        draw(folders[0] / f"{name}.png", width=30, height=30)
    seconds = count(step=10)
    monkeypatch.setattr(validation.time, "monotonic", lambda: float(next(seconds)))  # ten for each picture
    settings = ValidationSettings(hr=folders[0], seconds=15)
    measure = Validation(settings, scale=2, folder=tmp_path / "mine")
    with caplog.at_level(logging.WARNING, "finescale"):
        first = measure.run(network)
        assert first["images"] == 2
        assert measure.run(network) == first
    assert [record.message for record in caplog.records] == [
        "2 of 4 validation pictures fit into 15 s; the others are left out of all further validations"
    ]
    resumed = Validation(settings, scale=2, folder=tmp_path / "mine")
    seconds = count(step=100)
    assert resumed.run(network) == first
    longer = Validation(settings.model_copy(update={"seconds": 1e4}), scale=2, folder=tmp_path / "mine")
    assert longer.run(network)["images"] == 4


def test_a_single_picture_is_always_measured(network: Frame, folders: tuple[Path, Path]) -> None:
    assert Validation(ValidationSettings(hr=folders[0], seconds=1e-9), scale=2).run(network)["images"] == 1


@pytest.mark.parametrize("text", ["", "[]", '{"seconds": 5}', '{"seconds": 5, "pictures": "few"}'])
def test_a_damaged_choice_of_pictures_is_refused(folders: tuple[Path, Path], tmp_path: Path, text: str) -> None:
    (tmp_path / "validation").mkdir()
    (tmp_path / "validation" / "measured.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"measured\.json: damaged; delete it"):
        Validation(ValidationSettings(hr=folders[0], seconds=5), scale=2, folder=tmp_path)


def test_the_choice_of_pictures_is_plain_values(network: Frame, folders: tuple[Path, Path], tmp_path: Path) -> None:
    Validation(ValidationSettings(hr=folders[0], seconds=600), scale=2, folder=tmp_path).run(network)
    assert json.loads((tmp_path / "validation" / "measured.json").read_text()) == {"seconds": 600, "pictures": 2}


# ---- what is refused before the first step


def test_everything_that_is_wrong_with_the_pictures_is_told_at_once(folders: tuple[Path, Path]) -> None:
    hr, lr = folders
    draw(hr / "single.png", width=40, height=40)
    draw(hr / "small.png", width=40, height=14)
    draw(lr / "smallx2.png", width=20, height=7)
    draw(lr / "twox2.png", width=30, height=20)
    (hr / "broken.png").write_bytes(b"not a picture")
    draw(lr / "brokenx2.png")
    with pytest.raises(DataError) as caught:
        Validation(ValidationSettings(hr=hr, lr=lr), scale=2)
    text = str(caught.value)
    assert text.startswith("4 pictures cannot be used for validation: ")
    for wanted in (
        "single.png: its low-resolution picture is missing",
        "small.png: smaller than the 15 pixels per side that SSIM needs",
        "twox2.png: 30 x 20 pixels, where an HR image of 62 x 40 needs 31 x 20",
        "broken.png: not an image",
    ):
        assert wanted in text


def test_a_validation_needs_originals(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"validation\.hr must name a folder"):
        Validation(ValidationSettings(), scale=2)
    with pytest.raises(DataError, match="is not a folder"):
        Validation(ValidationSettings(hr=tmp_path / "gone"), scale=2)
