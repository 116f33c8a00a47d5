"""An image in memory: pixels, transparency, and everything that goes with them into the next file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt
from torch import Tensor

Levels = npt.NDArray[Any]
"""(H, W, C) in the numbers of a file: 8 or 16 bits per channel, or floating point."""

Notes = tuple[str, ...]
"""What was dropped, reduced or converted, one sentence each."""


@dataclass(frozen=True, eq=False)
class Image:
    """Pixels with their transparency, colour profile and metadata.

    Raises:
        ValueError: The shape or dtype of a tensor, or the depth, is not as described below.
    """

    pixels: Tensor
    """(C, H, W) in [0, 1]; C = 1 (gray) or 3 (RGB, in the colour space of ``profile``, sRGB where there is none)."""

    alpha: Tensor | None = None
    """(1, H, W) in [0, 1], 1 is opaque; colours are not premultiplied. None where the file has no transparency."""

    depth: int = 8
    """Bits per channel of the source, 8 or 16; written with the same depth where the format supports it."""

    profile: bytes | None = None
    """ICC profile of the pixels."""

    metadata: Mapping[str, bytes] = field(default_factory=dict)
    """Further metadata by libvips' field names: ``exif-data`` and ``xmp-data`` (orientation already applied),
    ``iptc-data``, ``xres`` and ``yres`` (pixels per millimetre, as decimal text); and the text chunks of a PNG file,
    ``png-text``."""

    jpeg_quality: int | None = None
    """Estimated quality of the source, 1 to 100; None if it is no JPEG file, or one without the tables that show it."""

    notes: Notes = ()
    """From reading, and about what upscaling did differently than asked."""

    def __post_init__(self) -> None:
        shape = tuple(self.pixels.shape)
        if len(shape) != 3 or shape[0] not in (1, 3) or 0 in shape or not self.pixels.is_floating_point():
            raise ValueError(f"pixels must be float (1 or 3, H, W), got {self.pixels.dtype} {shape}")
        alpha = self.alpha
        if alpha is not None and (tuple(alpha.shape) != (1, *shape[1:]) or not alpha.is_floating_point()):
            raise ValueError(f"alpha must be float {(1, *shape[1:])}, got {alpha.dtype} {tuple(alpha.shape)}")
        if self.depth not in (8, 16):
            raise ValueError(f"depth must be 8 or 16, got {self.depth}")

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.pixels.shape[1], self.pixels.shape[2]
