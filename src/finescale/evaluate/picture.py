"""Comparison pictures in the style of papers: one detail by each model, with its PSNR below."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

import pyvips
import torch
import torch.nn.functional as F
from torch import Tensor

from finescale.evaluate.run import Score
from finescale.metrics.luma import rgb_to_y
from finescale.resize import resize

DETAIL = 80
"""Height and width of a detail, in pixels of the original."""

_PANEL = 240  # pixels: the longer side of an enlarged detail
_COLUMNS = 4
_GAP = 10
_FRAME = (0.9, 0.1, 0.1)


@dataclass(frozen=True)
class Crop:
    """A part of an original, in its pixels."""

    x: int
    """First column."""
    y: int
    """First row."""
    width: int
    """Columns."""
    height: int
    """Rows."""

    def cut(self, image: Tensor) -> Tensor:
        """Return this part of an image (C, H, W)."""
        return image[:, self.y : self.y + self.height, self.x : self.x + self.width]

    def fits(self, image: Tensor) -> bool:
        """Return whether this part lies inside an image (C, H, W)."""
        return self.x + self.width <= image.shape[-1] and self.y + self.height <= image.shape[-2]


@dataclass(frozen=True, eq=False)
class Panel:
    """The detail of one model in a comparison."""

    label: str
    """Text below the detail; may have several lines."""
    image: Tensor
    """The whole picture (3, H, W) in [0, 1]."""


def salient_image(scores: Sequence[Score], set_name: str, *, baseline: str) -> str | None:
    """Return the picture on which the models gain most PSNR over the baseline; None where none was measured by all."""
    models = list(dict.fromkeys(score.model for score in scores))
    psnr: dict[str, dict[str, float]] = {}
    for score in scores:
        if score.set == set_name and score.psnr is not None:
            psnr.setdefault(score.image, {})[score.model] = score.psnr
    gains = {
        image: mean(value for model, value in values.items() if model != baseline) - values[baseline]
        for image, values in psnr.items()
        if len(values) == len(models) > 1
    }
    return max(gains, key=lambda image: gains[image], default=None)


def salient_crop(baseline: Tensor, others: Sequence[Tensor], *, size: int = DETAIL) -> Crop:
    """Return the square detail in which pictures differ most from the baseline, on luma.

    Args:
        baseline: (3, H, W) in [0, 1].
        others: One or more pictures, likewise.
        size: Height and width of the detail; reduced where the picture is smaller.
    """
    size = min(size, *baseline.shape[-2:])
    luma = rgb_to_y(baseline * 255)
    distance = torch.stack([(rgb_to_y(other * 255) - luma).square() for other in others]).mean(0)
    means = F.avg_pool2d(distance[None], size, stride=1)[0, 0]
    y, x = divmod(int(means.argmax()), means.shape[1])
    return Crop(x, y, size, size)


def comparison_picture(original: Tensor, title: str, panels: Sequence[Panel], crop: Crop) -> Tensor:
    """Draw the whole original with the detail framed, then the detail of each panel with its label.

    Args:
        original: (3, H, W) in [0, 1].
        title: Text below the original.
        panels: The pictures to compare, in reading order; all of the original's size.
        crop: The detail.

    Returns:
        (3, H', W') in [0, 1] on white.
    """
    factor = max(1, _PANEL // max(crop.width, crop.height))
    details = [
        _with_label(crop.cut(panel.image).repeat_interleave(factor, 1).repeat_interleave(factor, 2), panel.label)
        for panel in panels
    ]
    rows = [_beside(details[first : first + _COLUMNS]) for first in range(0, len(details), _COLUMNS)]
    grid = _below(rows)
    line = _text("x", 100).shape[1]
    height = max(grid.shape[1] - 2 * line, line)
    framed = _framed(original, crop, thickness=max(1, round(2 * original.shape[1] / height)))
    overview = resize(framed, size=(height, max(1, round(height * original.shape[2] / original.shape[1])))).clamp(0, 1)
    picture = _beside([_with_label(overview, title), grid])
    return F.pad(picture, (_GAP,) * 4, value=1.0)


def _framed(image: Tensor, crop: Crop, *, thickness: int) -> Tensor:
    framed = image.clone()
    top, left = max(crop.y - thickness, 0), max(crop.x - thickness, 0)
    around = framed[:, top : crop.y + crop.height + thickness, left : crop.x + crop.width + thickness]
    around[:] = torch.tensor(_FRAME)[:, None, None]
    crop.cut(framed)[:] = crop.cut(image)
    return framed


def _with_label(image: Tensor, label: str) -> Tensor:
    text = _text(label, image.shape[2])
    return _below([image, text], gap=_GAP // 2)


def _text(text: str, width: int) -> Tensor:
    """Black text on white, (3, height of its lines, width), centred."""
    escaped = html.escape(text, quote=False)
    mask = pyvips.Image.text(escaped, font="sans 11", dpi=90, width=width, align="centre", wrap="word-char", spacing=2)
    ink = torch.from_numpy(mask.numpy().copy()).reshape(mask.height, mask.width)[None, :, :width].float() / 255
    return _centred(1 - ink, width).expand(3, -1, -1)


def _centred(image: Tensor, width: int) -> Tensor:
    missing = width - image.shape[2]
    return F.pad(image, (missing // 2, missing - missing // 2, 0, 0), value=1.0)


def _beside(images: Sequence[Tensor]) -> Tensor:
    height = max(image.shape[1] for image in images)
    filled = [F.pad(image, (0, 0, 0, height - image.shape[1]), value=1.0) for image in images]
    gap = torch.ones(3, height, _GAP)
    return torch.cat([part for image in filled for part in (image, gap)][:-1], dim=2)


def _below(images: Sequence[Tensor], gap: int = _GAP) -> Tensor:
    width = max(image.shape[2] for image in images)
    filled = [F.pad(image, (0, width - image.shape[2], 0, 0), value=1.0) for image in images]
    between = torch.ones(3, gap, width)
    return torch.cat([part for image in filled for part in (image, between)][:-1], dim=1)
