"""A network, a picture and a patch of the result: the attribution around it, and its figure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from finescale.analyze.attribution import SIGMA, STEPS, Attribution, Patch, attribute
from finescale.figures import svg as drawing
from finescale.networks import Frame
from finescale.weights.third_party import ThirdPartyNetwork

REGION = 128
"""Side of the part of the input that is looked at, in lr pixels."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Look:
    """What was found around one patch."""

    scale: int
    """Of the network."""
    image: Tensor
    """The part of the input that was looked at, (C, H, W)."""
    corner: tuple[int, int]
    """(top, left) of it in the whole input, in lr pixels."""
    sr: Tensor
    """Its result, (C, scale * H, scale * W)."""
    patch: Patch
    """In the whole result."""
    attribution: Attribution
    """Of the patch, within the part."""

    @property
    def patch_in_part(self) -> Patch:
        """The patch in the result of the part."""
        top, left = (self.scale * start for start in self.corner)
        return Patch(top=self.patch.top - top, left=self.patch.left - left, size=self.patch.size)

    def as_json(self) -> dict[str, Any]:
        """What a report says of it."""
        return {
            "scale": self.scale,
            "patch": asdict(self.patch),
            "region": {"corner": list(self.corner), "size": list(self.image.shape[1:])},
            "diffusion_index": self.attribution.diffusion_index,
            "detector": self.attribution.sharp,
            "detector_blurred": self.attribution.blurred,
            "attributed": float(self.attribution.values.sum()),
            "gap": self.attribution.gap,
        }


def look_at(
    network: Frame | ThirdPartyNetwork,
    image: Tensor,
    patch: Patch,
    *,
    region: int = REGION,
    sigma: float = SIGMA,
    steps: int = STEPS,
    on_step: Callable[[int, int], None] | None = None,
) -> Look:
    """The attribution of a patch, in the part of a picture around it.

    The part lies within the picture, with the patch in its middle where the border leaves room; what is beyond it
    counts for nothing, and diffusion indices of parts of different sizes cannot be compared.

    Args:
        network: On its device; its parameters are taken out of the reach of gradients.
        image: (C, H, W) in [0, 1], C = 1 or 3.
        patch: In the whole result.
        region: Side of the part, in lr pixels; 0 is the whole picture.
        sigma: See `finescale.analyze.attribution.attribute`.
        steps: See there.
        on_step: See there.

    Raises:
        ValueError: The patch does not lie in the result or in the part, or an argument is out of range; or the picture
            has colours, and the network none.
    """
    scale, channels = network.scale, network.in_channels
    height, width = image.shape[1:]
    bottom, right = patch.top + patch.size, patch.left + patch.size
    if patch.size < 1 or min(patch.top, patch.left) < 0 or bottom > scale * height or right > scale * width:
        raise ValueError(
            f"a patch of {patch.size} pixels at {patch.left},{patch.top} does not lie in the result, "
            f"which has {scale * width} x {scale * height} pixels"
        )
    if region < 0 or 0 < scale * region < patch.size + 2 * scale:
        raise ValueError(f"region must be 0 or hold a patch of {patch.size} pixels at x{scale}, got {region}")
    if image.shape[0] > channels:
        raise ValueError(f"the network takes {channels} channel, the picture has {image.shape[0]}: make it gray")
    # Others' networks are called without what pads for them, which no gradient passes.
    multiple = network.period if isinstance(network, ThirdPartyNetwork) else 1
    top, rows = _part(height, (patch.top + bottom) / 2 / scale, region, multiple)
    left, columns = _part(width, (patch.left + right) / 2 / scale, region, multiple)
    module = network.model if isinstance(network, ThirdPartyNetwork) else network
    module.requires_grad_(False)
    device = next(module.parameters()).device
    part = image[:, top : top + rows, left : left + columns].expand(channels, -1, -1).to(device).contiguous()
    inside = Patch(top=patch.top - scale * top, left=patch.left - scale * left, size=patch.size)
    found = attribute(module, part, inside, sigma=sigma, steps=steps, on_step=on_step)
    with torch.no_grad():
        sr = module(part[None])[0]
    return Look(scale=scale, image=part, corner=(top, left), sr=sr, patch=patch, attribution=found)


def _part(side: int, middle: float, region: int, multiple: int) -> tuple[int, int]:
    """Begin and length of a part of so many pixels around a middle, within a side."""
    length = min(region or side, side)
    length = max(length - length % multiple, min(multiple, side))
    return min(max(round(middle - length / 2), 0), side - length), length


# ---- the figure

_PANEL = 384  # units; the side that each panel comes close to
_GAP = 24
_TITLE = 14
_AROUND = 2  # of a patch's sides, what is shown of the result on each side of it
_RED = "#e6194b"


def draw_look(look: Look) -> str:
    """Three panels as SVG: the input with the patch marked, what of it was used, and the result around the patch.

    The map is shown as the square root of its values, as shares of the largest: most are small.
    """
    lr, patch, index = _rgb(look.image), look.patch_in_part, look.attribution.diffusion_index
    height, width = look.sr.shape[-2:]
    around = _AROUND * patch.size
    top, left = max(patch.top - around, 0), max(patch.left - around, 0)
    below, beside = min(patch.top + patch.size + around, height), min(patch.left + patch.size + around, width)
    panels = [
        ("input, the patch marked", lr, (patch.top, patch.left, 1 / look.scale)),
        (f"what was used: diffusion index {index:.2f}", heat(lr, look.attribution.map.cpu()), None),
        ("result around the patch", _rgb(look.sr[:, top:below, left:beside]), (patch.top - top, patch.left - left, 1)),
    ]
    parts, x, lowest = [], float(_GAP), 0.0
    for title, pixels, mark in panels:
        enlarged = max(1, round(_PANEL / max(pixels.shape[1:])))
        parts.append(drawing.text(x, 1.5 * _GAP, title, size=_TITLE))
        parts.append(drawing.picture(x, 2 * _GAP, pixels, enlarged=enlarged))
        if mark is not None:
            row, column, unit = mark
            place = x + enlarged * unit * column, 2 * _GAP + enlarged * unit * row
            parts.append(drawing.frame(*place, *(2 * [enlarged * unit * patch.size]), colour=_RED))
        x += max(enlarged * pixels.shape[2], drawing.LETTER * _TITLE * len(title)) + _GAP
        lowest = max(lowest, 2 * _GAP + enlarged * pixels.shape[1])
    return drawing.svg(x, lowest + _GAP, parts)


def heat(image: Tensor, values: Tensor) -> Tensor:
    """Positive values (H, W), from black over red and yellow to white, over a dim gray image (3, H, W)."""
    strength = (values / values.max().clamp_min(torch.finfo(values.dtype).tiny)).sqrt()
    glow = torch.stack([(3 * strength - channel).clamp(0, 1) for channel in range(3)])
    gray = 0.45 * image.mean(0, keepdim=True)
    return gray * (1 - strength) + glow * strength


def _rgb(image: Tensor) -> Tensor:
    return image.detach().cpu().clamp(0, 1).expand(3, -1, -1)
