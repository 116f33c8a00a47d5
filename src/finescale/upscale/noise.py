"""Detection of visible noise, by how red and blue differ from green between neighbouring pixels.

The detail of most pictures has no colour of its own: it is nearly the same in red, green and blue, and their
differences are smooth. Noise of a camera's pixels is not the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from finescale.images import Image
from finescale.upscale.compression import middle

LEVELS = {2: 4.5, 3: 4.5, 4: 3.0}
"""From this standard deviation on, in 8-bit levels and by the scale, noise counts as visible: the bundled network for
photos is the better one, see docs/models.md."""

_OTHER_LEVEL = 3.0  # at scales without a bundled network
_BLOCK = 16
_MIN_BLOCKS = 4  # in all
_SHARE = 0.25  # of the blocks are taken to have no coloured detail


@dataclass(frozen=True)
class Noise:
    """Visible noise of an image."""

    level: float
    """Approximate standard deviation, in 8-bit levels."""

    @property
    def look(self) -> str:
        """What the image looks, after "looks"."""
        return f"noisy (about {self.level:.0f} levels)"


def noise_of(image: Image, *, scale: int) -> Noise | None:
    """Return the visible noise of an image that is to be enlarged by a scale, or None.

    Noise that is the same in all channels is not seen, nor is any in a gray image.
    """
    level = _level(image.pixels)
    return Noise(level) if level >= LEVELS.get(scale, _OTHER_LEVEL) else None


def _level(pixels: Tensor) -> float:
    """Estimate the standard deviation of noise in an image (C, H, W), in 8-bit levels; 0 where none could be seen.

    Source: the filter, of which smooth pictures leave nothing, is that of Immerkaer, "Fast Noise Variance Estimation",
    CVIU 1996; here it sees differences of colours.
    """
    rows, columns = middle(pixels.shape[1:])
    levels = 255 * pixels[:, rows, columns]
    blocks_down, blocks_across = ((side - 2) // _BLOCK for side in levels.shape[1:])
    if len(levels) < 3 or blocks_down * blocks_across < _MIN_BLOCKS:
        return 0.0
    colours = torch.stack((levels[0] - levels[1], levels[2] - levels[1]))[:, None]
    line = pixels.new_tensor([1.0, -2.0, 1.0])
    left_over = F.conv2d(colours, torch.outer(line, line)[None, None]).abs()
    means = F.avg_pool2d(left_over, _BLOCK).flatten(1)  # (2, blocks)
    # Of a normal variable the mean absolute value is sqrt(2 / pi) of its deviation; 36 is the filter's gain of
    # variance, and a difference of two channels has twice the variance of one.
    return float(means.quantile(_SHARE, dim=1).mean() * (torch.pi / 2) ** 0.5 / (36 * 2) ** 0.5)
