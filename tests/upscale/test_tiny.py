"""Images of a few pixels: flat ones stay flat, and none gets a colour cast from what a network sees at its border."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from finescale.images import Image
from finescale.upscale import Tiling, Upscaler
from upscale.stand_ins import Convolutional

BUNDLED = [("default", 2), ("default", 3), ("default", 4), ("default-photo", 4)]
SIZES = [(1, 1), (1, 4), (4, 1), (2, 2), (3, 3), (4, 4), (2, 40), (5, 7)]


@pytest.fixture(scope="module")
def bundled() -> Callable[[str, int], Upscaler]:
    return cache(lambda name, scale: Upscaler.from_pretrained(name, scale=scale))


@pytest.mark.parametrize("size", [(1, 1), (2, 40), (5, 7)])
@pytest.mark.parametrize(("name", "scale"), BUNDLED)
def test_a_flat_picture_comes_out_flat(
    name: str, scale: int, size: tuple[int, int], bundled: Callable[[str, int], Upscaler]
) -> None:
    for color in ((0, 0, 0), (255, 255, 255), (255, 0, 0), (12, 130, 47)):
        picture = np.full((*size, 3), color, np.uint8)
        expected = np.full((size[0] * scale, size[1] * scale, 3), color, np.uint8)
        np.testing.assert_array_equal(bundled(name, scale)(picture), expected)


@pytest.mark.parametrize("size", SIZES[1:])
@pytest.mark.parametrize(("name", "scale"), BUNDLED)
def test_a_tiny_picture_keeps_its_colour(
    name: str, scale: int, size: tuple[int, int], bundled: Callable[[str, int], Upscaler]
) -> None:
    picture = (torch.rand(3, *size, generator=torch.Generator().manual_seed(0)) * 1.6 - 0.3).clamp(0, 1)
    means = F.avg_pool2d(bundled(name, scale)(picture), scale)
    assert (means - picture).abs().max() < 5e-3  # the network alone is off by up to 0.4 at white


def test_a_flat_picture_of_a_batch_is_flat_beside_another() -> None:
    batch = torch.stack([torch.full((3, 2, 3), 0.3), torch.rand(3, 2, 3)])
    upscaler = Upscaler(Convolutional())
    result = upscaler(batch)
    assert (result[0] == 0.3).all()
    torch.testing.assert_close(result[1], upscaler(batch[1]))


def test_transparency_of_a_tiny_picture_is_upscaled_as_its_colours_are() -> None:
    alpha = torch.tensor([[[0.0, 1.0]]])
    result = Upscaler(Convolutional())(Image(torch.full((3, 1, 2), 0.6), alpha))
    assert (result.pixels == 0.6).all()
    assert result.alpha is not None
    assert result.alpha.shape == (1, 2, 4)
    assert result.alpha[0, 0, 0] < 0.5 < result.alpha[0, 0, -1]


@pytest.mark.parametrize("tiling", [Tiling(), Tiling(tile=0), Tiling(tile=32)])
def test_the_network_sees_the_outermost_pixels_repeated_and_only_means_are_changed(tiling: Tiling) -> None:
    network = Convolutional()
    picture = 0.4 + 0.2 * torch.rand(3, 7, 30)
    shown = F.pad(picture[None], (8,) * 4, mode="replicate")
    with torch.inference_mode():
        answer = network(shown)[0, :, 16:-16, 16:-16]
    means = F.interpolate((picture - F.avg_pool2d(answer, 2))[None], scale_factor=2)[0]
    torch.testing.assert_close(Upscaler(network, tiling=tiling)(picture), answer + means, rtol=0, atol=2e-4)


def test_a_picture_of_8_pixels_is_shown_as_it_is() -> None:
    network = Convolutional()
    picture = torch.rand(3, 8, 8)
    with torch.inference_mode():
        assert torch.equal(Upscaler(network)(picture), network(picture[None])[0].clamp(0, 1))
