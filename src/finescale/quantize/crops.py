"""The images that a quantization looks at: parts of a folder's pictures, taken as low-resolution images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from finescale.data.hr_images import find_hr_images, read_hr_image
from finescale.errors import DataError, printable_name
from finescale.images import read_size


def calibration_crops(folder: Path, *, count: int, side: int, seed: int = 0, channels: int = 3) -> Tensor:
    """Squares at random places of the pictures in a folder, spread evenly over them.

    Args:
        folder: With pictures of any size; those smaller than a square are left out.
        count: How many.
        side: Of a square, in pixels.
        seed: Which; the same ones on every machine.
        channels: 3 for RGB, 1 for grey.

    Returns:
        (count, channels, side, side), float32 in [0, 1], in the order of the pictures.

    Raises:
        DataError: The folder does not exist, or no picture is large enough.
        ImageReadError: A picture cannot be read.
    """
    paths = [path for path in find_hr_images([folder]) if min(read_size(path)) >= side]
    if not paths:
        raise DataError(f"{printable_name(folder)}: no picture of {side} x {side} pixels at least to calibrate with")
    crops = []
    for number in range(count):
        path = paths[number * len(paths) // count] if count < len(paths) else paths[number % len(paths)]
        levels = read_hr_image(path).levels
        drawn = np.random.Philox(key=np.array([seed, number], dtype=np.uint64)).random_raw(2)
        top, left = (int(place) % (size - side + 1) for place, size in zip(drawn, levels.shape[1:], strict=True))
        crop = levels[:, top : top + side, left : left + side].float() / 255
        crops.append(crop.mean(0, keepdim=True) if channels == 1 else crop.expand(channels, -1, -1))
    return torch.stack(crops)
