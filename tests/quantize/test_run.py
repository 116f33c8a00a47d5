"""A whole quantization as one call of Python, which resumes where it was interrupted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from finescale import weights
from finescale.errors import CheckpointError, DataError
from finescale.images import write_image
from finescale.networks import FAMILIES, Frame
from finescale.quantize import (
    RECIPES,
    QuantizationResult,
    QuantSettings,
    calibration_images,
    find_patches,
    is_quantized,
    quantize_network,
    settings_from,
    settings_of,
)
from finescale.quantize.modules import bounds_of
from golden_ptq import published_file
from small_sets import picture

SETTINGS = QuantSettings(bits=4, method="minmax", epochs=2)


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


def test_a_folder_of_patches_is_taken_as_it_is(tmp_path: Path) -> None:
    levels = [picture(16, 20, seed=seed) for seed in range(3)]
    for seed, name in enumerate(("b", "a", "c")):
        write_image(tmp_path / f"{name}.png", levels[seed].float() / 255)
    assert [path.stem for path in find_patches(tmp_path)] == ["a", "b", "c"]
    images = calibration_images(tiny(), tmp_path)
    expected = torch.stack([levels[number].float() / 255 for number in (1, 0, 2)])
    assert torch.equal(images.images, expected)
    assert torch.equal(images.held_out, expected)
    assert calibration_images(tiny(), tmp_path, crops=4, crop_size=16).images.shape == (4, 3, 16, 16)
    result = quantize_network(tiny(), tmp_path, SETTINGS.model_copy(update={"epochs": 0}))
    assert list(result.fidelity) == ["dual", "percentile", "minmax"]


@pytest.mark.parametrize("sizes", [[(16, 20), (20, 16)], [(16, 257), (16, 257)], [(16, 20)]])
def test_pictures_of_several_sizes_large_ones_and_a_single_one_are_no_patches(
    sizes: list[tuple[int, int]], tmp_path: Path
) -> None:
    for number, size in enumerate(sizes):
        write_image(tmp_path / f"{number}.png", picture(*size).float() / 255)
    assert find_patches(tmp_path) == []


def test_the_second_stage_starts_from_the_first_and_ends_as_one_call(folder: Path) -> None:
    whole, first, second = tiny(), tiny(), tiny()
    expected = quantize(whole, folder, crops=2)
    quantize_network(first, folder, SETTINGS.model_copy(update={"epochs": 0}), crops=2, crop_size=16)
    settings = settings_from(first, {"epochs": 2})
    assert settings == SETTINGS
    stages: list[str] = []
    result = quantize_network(
        second, folder, settings, crops=2, crop_size=16, start=first,
        on_progress=lambda stage, _done, _total: stages.append(stage),
    )  # fmt: skip
    assert set(stages) == {"float answers", "refinement"}
    assert result.losses == expected.losses
    assert result.fidelity == {name: expected.fidelity[name] for name in ("minmax", "refined")}
    assert result.better_method is None
    for path, (low, high) in bounds_of(whole).items():
        assert torch.equal(low, bounds_of(second)[path][0])
        assert torch.equal(high, bounds_of(second)[path][1])


def test_the_first_stage_of_the_authors_can_be_refined(folder: Path, tmp_path: Path) -> None:
    start = weights.load(published_file(tmp_path, "adc"))
    network = FAMILIES["craft"].network(settings=start.settings, scale=start.scale).eval()
    network.load_state_dict(start.network.state_dict())
    settings = settings_from(start.network, {**RECIPES["published"], "epochs": 1})
    result = quantize_network(network, folder, settings, crops=1, crop_size=16, start=start.network)
    assert result.settings == QuantSettings(bits=4, epochs=1, **RECIPES["published"])
    assert list(result.fidelity) == ["dual", "refined"]


def test_a_start_that_contradicts_is_refused(folder: Path) -> None:
    first = tiny()
    quantize_network(first, folder, SETTINGS.model_copy(update={"epochs": 0}), crops=1, crop_size=16)
    for changes, reason in (
        ({"bits": 8}, "bits must be 4, by which the ranges were found, got 8"),
        ({"method": "percentile"}, "method must be 'minmax', by which the ranges were found, got 'percentile'"),
        ({"epochs": 0}, "epochs must be at least 1 to refine ranges that are found already, got 0"),
    ):
        with pytest.raises(ValueError, match=f"^{reason}$"):
            settings_from(first, changes)
    other = tiny()
    with torch.no_grad():
        other.conv_first.weight[0] *= 2
    with pytest.raises(ValueError, match=r"quantized from other weights \(first: conv_first\)"):
        quantize(other, folder, start=first)
    with pytest.raises(ValueError, match="another family, scale or settings"):
        quantize(tiny("dat"), folder, start=first)
    with pytest.raises(ValueError, match="quantized by other settings"):
        quantize_network(tiny(), folder, SETTINGS.model_copy(update={"bits": 6}), start=first)


def test_the_published_recipe_is_that_of_the_authors() -> None:
    settings = QuantSettings(bits=4, **RECIPES["published"])
    assert (settings.averaging, settings.include_zero, settings.lr_unit, settings.schedule) == (
        "running",
        False,
        "absolute",
        "constant",
    )
    assert (settings.method, settings.edge_bits, settings.epochs, settings.lr) == ("dual", 8, 10, 2e-3)
    assert (settings.observed_batch, settings.refined_batch) == (16, 2)


def test_pictures_that_are_too_small_are_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="no picture of 40 x 40 pixels"):
        quantize(tiny(), folder, crop_size=40)
