"""Calibration images: square crops of a folder's pictures, taken as low-resolution images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from finescale.networks import Frame, WrappedNetwork, family_of

HELD_OUT = 8
"""Crops that are only measured on."""

CROPS, CROP_SIZE = 32, 48
"""How many crops are learned from by default, and their side."""

PUBLISHED_CROPS: Mapping[str, tuple[int, int]] = {"published": (100, 128), "ptq4sr": (480, 48), "2dquant": (32, 64)}
"""The same for `finescale.quantize.RECIPES`; the authors of "published" state the side alone."""

LARGEST_PATCH = 256
"""Longest side of pictures that are taken for crops already, where all have the same size."""


@dataclass(frozen=True, eq=False, kw_only=True)
class CalibrationImages:
    """The images of a quantization."""

    images: Tensor
    """To learn from, (N, C, H, W) in [0, 1]."""
    held_out: Tensor
    """To measure on, (N, C, H, W) in [0, 1]; patches that are taken whole are the same ones."""
    pad: Callable[[Tensor], Tensor] = lambda images: images
    """Padding at the bottom and on the right before the network sees an image; its answers are cropped again."""

    def digest(self) -> str:
        """Return the SHA-256 of all pixels, as hexadecimal digits."""
        return sha256(self.images.cpu().numpy().tobytes() + self.held_out.cpu().numpy().tobytes()).hexdigest()


def calibration_images(
    network: Frame | WrappedNetwork,
    folder: Path,
    *,
    crops: int | None = None,
    crop_size: int | None = None,
    seed: int = 0,
) -> CalibrationImages:
    """Draw the images that a network is calibrated with, padded as in its authors' test code.

    A folder of patches is taken as it is, see `find_patches`, unless ``crops`` or ``crop_size`` is given.

    Args:
        network: To be quantized; the images are on its device and have its channels.
        folder: See `calibration_crops`.
        crops: How many to learn from, by default `CROPS`; `HELD_OUT` more are only measured on.
        crop_size: Side of a crop, in pixels, by default `CROP_SIZE`.
        seed: Selects the crops.

    Raises:
        DataError: The folder does not exist, or no picture is large enough.
        ImageReadError: A picture cannot be read.
    """
    multiple = family_of(network).publication.test_padding(network.settings) if isinstance(network, Frame) else 0

    def pad(images: Tensor) -> Tensor:
        padded = pad_to_next_multiple(images, multiple)
        height, width = padded.shape[-2:]
        return pad_to_size(padded, network.mirrored_size((height, width)))

    device = next(network.parameters()).device
    if crops is None and crop_size is None and (patches := find_patches(folder)):
        images = torch.stack([_pixels(read_hr_image(path).levels, network.in_channels) for path in patches])
        learned = measured = images.to(device)
    else:
        drawn = calibration_crops(
            folder,
            count=(crops or CROPS) + HELD_OUT,
            side=crop_size or CROP_SIZE,
            seed=seed,
            channels=network.in_channels,
        )
        # Evenly spaced crops are held out, so that both parts are spread over the pictures.
        every = len(drawn) // HELD_OUT
        held_out = [number % every == every - 1 and number // every < HELD_OUT for number in range(len(drawn))]
        learned, measured = drawn[[not out for out in held_out]].to(device), drawn[held_out].to(device)
    return CalibrationImages(
        images=learned,
        held_out=measured,
        pad=pad,
    )


def find_patches(folder: Path) -> list[Path]:
    """List the pictures of a folder, in order of their names, that has nothing but crops, to be taken as they are.

    Returns:
        The pictures where there are several, all of the same size, of at most `LARGEST_PATCH` pixels a side; else none.

    Raises:
        DataError: The folder does not exist, or contains no picture.
        ImageReadError: The header of a picture cannot be read.
    """
    paths = find_hr_images([folder])
    sizes = {tuple(read_size(path)) for path in paths}
    return paths if len(paths) > 1 and len(sizes) == 1 and max(sizes.pop()) <= LARGEST_PATCH else []


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
        crops.append(_pixels(levels[:, top : top + side, left : left + side], channels))
    return torch.stack(crops)


def _pixels(levels: Tensor, channels: int) -> Tensor:
    """Convert levels (1 or 3, H, W) to float32 (channels, H, W) in [0, 1]."""
    pixels = levels.float() / 255
    return pixels.mean(0, keepdim=True) if channels == 1 else pixels.expand(channels, -1, -1)


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
