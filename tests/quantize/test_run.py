"""A whole quantization as one call of Python, which resumes where it was interrupted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from finescale.errors import CheckpointError, DataError
from finescale.images import write_image
from finescale.networks import FAMILIES, Frame
from finescale.quantize import (
    QuantizationResult,
    QuantSettings,
    calibration_images,
    is_quantized,
    quantize_network,
    settings_of,
)
from finescale.quantize.modules import bounds_of
from small_sets import picture

SETTINGS = QuantSettings(bits=4, method="minmax", epochs=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(2):
        write_image(folder / f"{seed}.png", picture(30, 34, seed=seed).float() / 255)
    return folder


def tiny(family: str = "drct") -> Frame:
    torch.manual_seed(0)
    known = FAMILIES[family]
    return known.network(settings=next(iter(known.tiny.values())), scale=2).eval()


def quantize(network: Frame, folder: Path, **changes: Any) -> QuantizationResult:
    return quantize_network(network, folder, SETTINGS, **{"crops": 4, "crop_size": 16, **changes})


def test_a_folder_of_pictures_quantizes_a_network_in_place(folder: Path) -> None:
    network = tiny()
    result = quantize(network, folder, with_sensitivity=True)
    assert is_quantized(network)
    assert settings_of(network) == network.quantization == result.settings == SETTINGS
    assert list(result.fidelity) == ["dual", "percentile", "minmax", "refined"]
    assert result.reached == result.fidelity["refined"]
    assert len(result.losses) == 2
    assert list(result.sensitivity.values()) == sorted(result.sensitivity.values(), reverse=True)
    with pytest.raises(ValueError, match="quantized already; quantize its float weights"):
        quantize(network, folder)


def test_an_interrupted_quantization_resumes_for_the_same_weights_alone(folder: Path, tmp_path: Path) -> None:
    whole, parted, state = tiny(), tiny(), tmp_path / "state"

    def stop_in_the_second_epoch(stage: str, done: int, _total: int) -> None:
        if (stage, done) == ("refinement", 3):
            raise KeyboardInterrupt

    expected = quantize(whole, folder)
    with pytest.raises(KeyboardInterrupt):
        quantize(parted, folder, state=state, on_progress=stop_in_the_second_epoch)
    other = tiny()
    with torch.no_grad():
        other.conv_first.weight += 1
    with pytest.raises(CheckpointError, match="other settings, images or weights"):
        quantize(other, folder, state=state)
    resumed = tiny()
    stages: list[str] = []
    remember: Callable[[str, int, int], None] = lambda stage, _done, _total: stages.append(stage)  # noqa: E731
    assert quantize(resumed, folder, state=state, on_progress=remember) == expected
    assert "ranges by dual" not in stages
    assert not state.exists()
    for path, (low, high) in bounds_of(whole).items():
        assert torch.equal(low, bounds_of(resumed)[path][0])
        assert torch.equal(high, bounds_of(resumed)[path][1])


def test_images_are_padded_as_in_the_authors_test_code(folder: Path) -> None:
    images = calibration_images(tiny("craft"), folder, crops=4, crop_size=16)
    assert images.images.shape == (4, 3, 16, 16)
    assert images.held_out.shape == (8, 3, 16, 16)
    assert images.pad(images.images).shape == (4, 3, 24, 24)  # windows of the tiny network: 8 pixels
    images = calibration_images(tiny(), folder, crops=4, crop_size=16)
    assert images.pad(images.images) is images.images


def test_pictures_that_are_too_small_are_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="no picture of 40 x 40 pixels"):
        quantize(tiny(), folder, crop_size=40)
