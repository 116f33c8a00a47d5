"""Visible flaws of an input, by which the network for photos is chosen: compression, or else noise."""

from __future__ import annotations

from finescale.images import Image
from finescale.upscale.compression import Compression, compression_of
from finescale.upscale.noise import Noise, noise_of

Flaw = Compression | Noise


def flaw_of(image: Image, *, scale: int) -> Flaw | None:
    """Return the visible flaw of an image that is to be enlarged by a scale, or None."""
    return compression_of(image, scale=scale) or noise_of(image, scale=scale)
