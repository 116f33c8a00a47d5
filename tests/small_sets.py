"""Test sets of a few small pictures, in the layout of the field."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from finescale.images import write_image
from finescale.resize import downsample

SIZES = {"one": (45, 50), "two": (40, 62)}
"""Height and width of each picture; neither is a multiple of 3 or 4 in both."""


def picture(height: int, width: int, *, seed: int = 0, channels: int = 3) -> Tensor:
    """Stripes and noise (C, H, W), uint8."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    waves = 128 + 90 * torch.sin(0.3 * x + 0.1 * (seed + 1) * y)
    noise = 30 * torch.randn(channels, height, width, generator=generator)
    return (waves + noise).clamp(0, 255).to(torch.uint8)


def write_set(
    root: Path, name: str = "Set5", *, scale: int = 2, sizes: Mapping[str, tuple[int, int]] = SIZES, lr: bool = True
) -> Path:
    """A set with originals and, if asked for, their low-resolution pictures; returns ``root``."""
    for seed, (stem, size) in enumerate(sizes.items()):
        hr = picture(*size, seed=seed)
        files = {root / name / "HR" / f"{stem}.png": hr}
        if lr:
            files[root / name / "LR_bicubic" / f"X{scale}" / f"{stem}x{scale}.png"] = downsample(hr, scale=scale)
        for path, pixels in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(path, pixels.float() / 255)
    return root
