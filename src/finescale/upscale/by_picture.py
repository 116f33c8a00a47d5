"""Choice between the bundled networks for each picture: one for clean ones, one for those that look otherwise."""

from __future__ import annotations

from functools import partial
from typing import Any

from finescale.upscale.upscaler import Upscaler
from finescale.weights import AUTO, CLEAN, PHOTO


def load_upscaler(name: str, *, scale: int | None = None, **arguments: Any) -> Upscaler:
    """Build the upscaler of a batch of files.

    Args:
        name: As for `Upscaler.from_pretrained`; or "auto": the upscaler of "default", with that of "default-photo" for
            pictures that look compressed or noisy.
        scale: Which of the model's scales, by default the largest.
        arguments: As for `Upscaler.from_pretrained`.

    Raises:
        FinescaleError: As `Upscaler.from_pretrained`.
        ValueError: As `Upscaler.from_pretrained`.
    """
    if name != AUTO:
        return Upscaler.from_pretrained(name, scale=scale, **arguments)
    upscaler = Upscaler.from_pretrained(CLEAN, scale=scale, **arguments)
    upscaler.build_for_flawed = partial(Upscaler.from_pretrained, PHOTO, scale=upscaler.scale, **arguments)
    return upscaler
