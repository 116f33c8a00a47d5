"""Test protocols: that of the papers, and others for comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field
from torch import Tensor

from finescale.errors import DataError
from finescale.metrics import Channel, psnr, ssim
from finescale.metrics.ssim import SSIM_WINDOW
from finescale.settings import Settings, suggest


class Protocol(Settings):
    """Rules of a measurement; by default those of the papers' tables."""

    name: str = "custom"
    """Its name in reports."""
    border: int | None = Field(default=None, ge=0)
    """Pixels left out on every side of both images; None uses the scale."""
    channel: Channel = "y"
    """What is compared: "y" is BT.601 luma, "rgb" all three channels."""
    rounding: Literal["8-bit", "none"] = "8-bit"
    """Whether results are rounded to 8 bits before they are compared."""
    padding: Literal["published", "network"] = "published"
    """How images are padded to sizes that a network takes: as in its authors' test code, or by the network."""

    def border_at(self, scale: int) -> int:
        """Return the number of pixels left out on every side."""
        return scale if self.border is None else self.border

    @property
    def columns(self) -> tuple[str, str]:
        """Names of PSNR and SSIM that tell the channel: "psnr_y" and "ssim_y", or "psnr_rgb" and "ssim_rgb"."""
        return f"psnr_{self.channel}", f"ssim_{self.channel}"

    def with_other_channel(self) -> Protocol:
        """Return the same rules for the other channel: RGB in place of luma, or luma in place of RGB."""
        return self.model_copy(update={"channel": "rgb" if self.channel == "y" else "y"})

    def scores(self, sr: Tensor, hr: Tensor, *, scale: int) -> tuple[float, float]:
        """Return PSNR in dB and SSIM of an upscaled image.

        Args:
            sr: Upscaled image (3, H, W) in [0, 1].
            hr: Original of the same size and range, RGB or gray.
            scale: How many times the image was enlarged.

        Raises:
            DataError: The image is too small to be measured.
        """
        border = self.border_at(scale)
        left = min(hr.shape[-2:]) - 2 * border
        if left < SSIM_WINDOW:
            raise DataError(
                f"SSIM needs {SSIM_WINDOW} pixels a side inside a border of {border}, {max(left, 0)} are left"
            )
        rounded = self.rounding == "8-bit"
        return (
            psnr(sr, hr, border=border, channel=self.channel, rounded=rounded),
            ssim(sr, hr, border=border, channel=self.channel, rounded=rounded),
        )


PAPERS = Protocol(name="papers")
"""Luma, rounded, as many pixels left out as the scale: the tables of all our networks' papers."""

PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        PAPERS,
        Protocol(name="rgb", channel="rgb"),
        Protocol(name="no-border", border=0),
        Protocol(name="no-rounding", rounding="none"),
        Protocol(name="network-padding", padding="network"),
    )
}
"""The named protocols; each differs from the first in one rule."""


def protocol_named(name: str) -> Protocol:
    """Return one of `PROTOCOLS`.

    Raises:
        ValueError: No protocol has that name.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"no protocol is called {name!r}{suggest(name, PROTOCOLS)}; known: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
