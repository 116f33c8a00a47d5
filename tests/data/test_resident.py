from __future__ import annotations

from itertools import count, islice

import pytest
import torch

from finescale.data import DegradationSettings, make_batch
from finescale.data.resident import ResidentBatches, ResidentSamples, resident_bytes
from samples import source_of

CPU = torch.device("cpu")
AUGMENTATIONS = ["flips-and-transpose", "flip-and-turn", "flip", "upside-down-and-transpose", "none"]


def pictures(scale: int = 1) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    sizes = [(44 + 5 * n, 50 - 3 * n) for n in range(3)]
    return tuple(
        torch.randint(0, 256, (3, h // scale, w // scale), dtype=torch.uint8, generator=generator) for h, w in sizes
    )


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("channels", [1, 3])
def test_samples_cut_on_a_device_are_those_of_the_threads(augmentation: str, scale: int, channels: int) -> None:
    source = source_of(pictures(), scale=scale, patch=6, augmentation=augmentation, channels=channels)
    for found, expected in zip(
        ResidentSamples(source, CPU).batch(range(7, 40)), make_batch(source, range(7, 40)), strict=True
    ):
        assert found.dtype == torch.float32
        assert torch.equal(found, expected)


def test_given_low_resolution_pictures_are_cut() -> None:
    source = source_of(pictures(), pictures(scale=2), scale=2, patch=5)
    for found, expected in zip(
        ResidentSamples(source, CPU).batch(range(20)), make_batch(source, range(20)), strict=True
    ):
        assert torch.equal(found, expected)


def test_batches_follow_their_indices_and_end_when_they_are_closed() -> None:
    source = source_of(pictures(), scale=2, patch=6)
    batches = ResidentBatches(ResidentSamples(source, CPU), (range(first, first + 4) for first in count(8, 4)))
    for step, (lr, _) in enumerate(islice(batches, 2), start=2):
        assert torch.equal(lr, make_batch(source, range(4 * step, 4 * step + 4))[0])
    batches.close()
    assert list(batches) == []


def test_the_bytes_are_those_of_all_pictures() -> None:
    source = source_of(pictures(), scale=2, patch=6)
    hr = sum(picture.numel() for picture in source.hr)
    assert hr < resident_bytes(source) <= hr * 5 / 4


def test_a_degradation_is_refused() -> None:
    source = source_of(pictures(), scale=2, patch=6, degradation=DegradationSettings())
    with pytest.raises(ValueError, match="made by the CPU"):
        ResidentSamples(source, CPU)
