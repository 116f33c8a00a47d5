"""Small images with known pixels, and the conversions between numbers and tensors that tests need."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyvips
import torch
from PIL import Image as Pillow
from PIL import ImageCms

from finescale.images import Image

SUFFIXES = [".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".avif"]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def levels(channels: int, depth: int, size: tuple[int, int] = (9, 13)) -> np.ndarray:
    rng = np.random.default_rng(channels * depth)
    return rng.integers(0, 2**depth, (*size, channels), dtype=np.uint8 if depth == 8 else np.uint16)


def smooth(height: int = 24, width: int = 40) -> np.ndarray:
    """A picture that lossy formats keep well."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([40 + 4 * x, 60 + 5 * y, 200 - 2 * x - 2 * y], axis=2).astype(np.uint8)


def as_tensor(numbers: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(numbers.astype(np.float32) / np.iinfo(numbers.dtype).max).permute(2, 0, 1).contiguous()


def as_levels(tensor: torch.Tensor, depth: int) -> np.ndarray:
    return (tensor.double() * (2**depth - 1)).round().permute(1, 2, 0).numpy().astype(f"u{depth // 8}")


def as_image(numbers: np.ndarray) -> Image:
    planes = as_tensor(numbers)
    depth = 8 * numbers.dtype.itemsize
    return Image(planes[:-1], planes[-1:], depth) if len(planes) in (2, 4) else Image(planes, depth=depth)


def planes_of(image: Image) -> torch.Tensor:
    return image.pixels if image.alpha is None else torch.cat([image.pixels, image.alpha])


def exif_with(orientation: int) -> Pillow.Exif:
    exif = Pillow.Exif()
    exif[270] = "a description"
    exif[274] = orientation
    return exif


def save_tiff(path: Path, samples: np.ndarray, interpretation: str | None = None) -> None:
    path.write_bytes(pyvips.Image.new_from_array(samples, interpretation=interpretation).tiffsave_buffer())


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
