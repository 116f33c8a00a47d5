"""An image on disk is upscaled to the same pixels as in memory, in memory that does not grow with its height."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
import torch
from PIL import Image as Pillow
from torch import Tensor

from finescale.errors import DeviceError, ImageReadError, ImageWriteError
from finescale.images import Image, read_image, write_image
from finescale.upscale import Tiling, Upscaler, streaming
from finescale.upscale.streaming import pixel_limit, upscale_on_disk
from upscale.stand_ins import Convolutional, Limited, Nearest, natural

SIZE = 75, 90
TILES = Tiling(tile=32, overlap=8)


def natural_image(channels: int = 3, *, depth: int = 8, alpha: Tensor | None = None, **facts: Any) -> Image:
    return Image(natural(*SIZE, channels=channels), alpha, depth, **facts)


def half_hidden() -> Tensor:
    """Alpha with a hole, of which colours must be filled, and a soft edge."""
    alpha = torch.ones(1, *SIZE)
    alpha[:, 20:60, 10:70] = 0
    alpha[:, 18:20, 10:70] = 0.4
    return alpha


def assert_same(upscaler: Upscaler, path: Path, suffix: str = ".png") -> None:
    """Both ways lead to the same pixels, profile, metadata and notes; to the same bytes except of TIFF."""
    whole = upscaler(read_image(path))
    expected, streamed = path.with_name(f"whole{suffix}"), path.with_name(f"streamed{suffix}")
    lost = write_image(expected, whole)
    report = upscale_on_disk(upscaler, path, streamed)
    assert report.notes == (*whole.notes, *lost)
    assert (report.input_size, report.output_size) == (read_image(path).size, whole.size)
    one, other = read_image(expected), read_image(streamed)
    assert torch.equal(one.pixels, other.pixels)
    assert (one.alpha is None) == (other.alpha is None)
    assert one.alpha is None or other.alpha is None or torch.equal(one.alpha, other.alpha)
    assert (one.depth, one.profile, one.metadata) == (other.depth, other.profile, other.metadata)
    if suffix != ".tif":
        assert expected.read_bytes() == streamed.read_bytes()
    assert not [entry.name for entry in path.parent.iterdir() if entry.name.startswith(".")]


@pytest.fixture(scope="module")
def upscaler() -> Upscaler:
    return Upscaler(Convolutional(), tiling=TILES)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize(
    "image",
    [
        natural_image(),
        natural_image(1),
        natural_image(depth=16),
        natural_image(1, depth=16, alpha=half_hidden()),
        natural_image(alpha=half_hidden()),
        natural_image(alpha=torch.full((1, *SIZE), 0.5)),
        natural_image(alpha=torch.zeros(1, *SIZE)),
    ],
    ids=["rgb", "gray", "rgb16", "gray16-alpha", "alpha", "uniform-alpha", "all-hidden"],
)
def test_the_result_is_that_of_the_whole_image(
    upscaler: Upscaler, image: Image, suffix: str, tmp_path: Path
) -> None:
    write_image(tmp_path / "input.png", image)
    assert_same(upscaler, tmp_path / "input.png", suffix)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_applied(upscaler: Upscaler, orientation: int, tmp_path: Path) -> None:
    exif = Pillow.Exif()
    exif[270], exif[274] = "a description", orientation
    levels = (natural(*SIZE) * 255).round().byte().permute(1, 2, 0).numpy()
    Pillow.fromarray(levels).save(tmp_path / "input.png", exif=exif)
    assert_same(upscaler, tmp_path / "input.png")
