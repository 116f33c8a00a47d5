"""The image in memory refuses what is none."""

from __future__ import annotations

import pytest
import torch

from finescale.images import Image


@pytest.mark.parametrize("shape", [(4, 4), (2, 4, 4), (1, 3, 4, 4), (3, 0, 4)])
def test_pixels_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"pixels must be float \(1 or 3, H, W\), got torch\.float32 \("):
        Image(torch.zeros(shape))


def test_wrong_dtypes_depths_and_alpha_are_refused_with_their_values() -> None:
    with pytest.raises(ValueError, match=r"pixels must be float \(1 or 3, H, W\), got torch\.uint8"):
        Image(torch.zeros(3, 4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"alpha must be float \(1, 4, 4\), got torch.float32 \(4, 4\)"):
        Image(torch.zeros(3, 4, 4), torch.zeros(4, 4))
    with pytest.raises(ValueError, match=r"alpha must be float \(1, 4, 4\), got torch.uint8"):
        Image(torch.zeros(3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match="depth must be 8 or 16, got 10"):
        Image(torch.zeros(3, 4, 4), depth=10)


def test_the_size_is_height_and_width() -> None:
    assert Image(torch.zeros(3, 4, 5)).size == (4, 5)
