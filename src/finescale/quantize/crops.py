"""Calibration images: square crops of a folder's pictures, taken as low-resolution images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from finescale.data.hr_images import find_hr_images, read_hr_image
from finescale.errors import DataError, printable_name
from finescale.images import read_size
from finescale.layers.mirror_padding import pad_to_next_multiple, pad_to_size
from finescale.networks import Frame, family_of

HELD_OUT = 8
"""Crops that are only measured on."""


@dataclass(frozen=True, eq=False, kw_only=True)
class CalibrationImages:
    """The images of a quantization."""

    images: Tensor
    """To learn from, (N, C, H, W) in [0, 1]."""
    held_out: Tensor
    """To measure on, (N, C, H, W) in [0, 1]."""
    pad: Callable[[Tensor], Tensor] = lambda images: images
    """Padding at the bottom and on the right before the network sees an image; its answers are cropped again."""

    def digest(self) -> str:
        """Return the SHA-256 of all pixels, as hexadecimal digits."""
        return sha256(self.images.cpu().numpy().tobytes() + self.held_out.cpu().numpy().tobytes()).hexdigest()


def calibration_images(
    network: Frame, folder: Path, *, crops: int = 32, crop_size: int = 48, seed: int = 0
) -> CalibrationImages:
    """Draw the images that a network is calibrated with, padded as in its authors' test code.

    Args:
        network: To be quantized; the images are on its device and have its channels.
        folder: See `calibration_crops`.
        crops: How many to learn from; `HELD_OUT` more are only measured on.
        crop_size: Side of a crop, in pixels.
        seed: Selects the crops.

    Raises:
        DataError: The folder does not exist, or no picture is large enough.
        ImageReadError: A picture cannot be read.
    """
    padding = family_of(network).publication.test_padding
    multiple = padding(network.settings) if padding else 0

    def pad(images: Tensor) -> Tensor:
        padded = pad_to_next_multiple(images, multiple)
        height, width = padded.shape[-2:]
        return pad_to_size(padded, network.mirrored_size((height, width)))

    drawn = calibration_crops(folder, count=crops + HELD_OUT, side=crop_size, seed=seed, channels=network.in_channels)
    # Evenly spaced crops are held out, so that both parts are spread over the pictures.
    every = len(drawn) // HELD_OUT
    held_out = [number % every == every - 1 and number // every < HELD_OUT for number in range(len(drawn))]
    device = next(network.parameters()).device
    return CalibrationImages(
        images=drawn[[not out for out in held_out]].to(device),
        held_out=drawn[held_out].to(device),
        pad=pad,
    )


def calibration_crops(folder: Path, *, count: int, side: int, seed: int = 0, channels: int = 3) -> Tensor:
    """Draw squares at random places of the pictures in a folder, spread evenly over them.

    Args:
        folder: Contains pictures of any size; those smaller than a square are left out.
        count: Number of squares.
        side: Of a square, in pixels.
        seed: Selects the squares; the same on every machine.
        channels: 3 for RGB, 1 for gray.

    Returns:
        (count, channels, side, side), float32 in [0, 1], in the order of the pictures.

    Raises:
        DataError: The folder does not exist, or no picture is large enough.
        ImageReadError: A picture cannot be read.
    """
    paths = calibration_pictures(folder, side=side)
    crops = []
    for number in range(count):
        path = paths[number * len(paths) // count] if count < len(paths) else paths[number % len(paths)]
        levels = read_hr_image(path).levels
        drawn = np.random.Philox(key=np.array([seed, number], dtype=np.uint64)).random_raw(2)
        top, left = (int(place) % (size - side + 1) for place, size in zip(drawn, levels.shape[1:], strict=True))
        crop = levels[:, top : top + side, left : left + side].float() / 255
        crops.append(crop.mean(0, keepdim=True) if channels == 1 else crop.expand(channels, -1, -1))
    return torch.stack(crops)


def calibration_pictures(folder: Path, *, side: int) -> list[Path]:
    """Return the pictures of a folder that contain a square of some side, by their headers alone.

    Raises:
        DataError: The folder does not exist, or no picture is large enough.
        ImageReadError: The header of a picture cannot be read.
    """
    paths = [path for path in find_hr_images([folder]) if min(read_size(path)) >= side]
    if not paths:
        raise DataError(f"{printable_name(folder)}: no picture of {side} x {side} pixels at least to calibrate with")
    return paths
