"""Attribution of a patch to the region of the input around it, and its figure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from finescale.analyze.attribution import SIGMA, STEPS, Attribution, Patch, attribute
from finescale.figures import svg
from finescale.networks import Frame
from finescale.weights.third_party import ThirdPartyNetwork

REGION = 128
"""Side length of the region, in lr pixels."""


@dataclass(frozen=True, eq=False, kw_only=True)
class PatchAttribution:
    """Attribution of one patch of a result within a region of the input."""

    scale: int
    """Of the network."""
    image: Tensor
    """The region of the input, (C, H, W)."""
    corner: tuple[int, int]
    """(top, left) of the region in the whole input, in lr pixels."""
    sr: Tensor
    """Result of the region, (C, scale * H, scale * W)."""
    patch: Patch
    """Position in the whole result."""
    attribution: Attribution
    """Contribution of each value of ``image``."""

    @property
    def patch_in_region(self) -> Patch:
        """Position of the patch in ``sr``."""
        top, left = (self.scale * start for start in self.corner)
        return Patch(top=self.patch.top - top, left=self.patch.left - left, size=self.patch.size)

    def as_json(self) -> dict[str, Any]:
        """Return the fields of a report."""
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


def attribute_patch(
    network: Frame | ThirdPartyNetwork,
    image: Tensor,
    patch: Patch,
    *,
    region: int = REGION,
    sigma: float = SIGMA,
    steps: int = STEPS,
    on_step: Callable[[int, int], None] | None = None,
) -> PatchAttribution:
    """Attribute a patch of a network's result to the pixels of the input around it.

    The region lies within the image, with the patch in its middle unless the image's border is near. Pixels outside
    of the region are ignored, and diffusion indices of regions of different sizes cannot be compared.

    Args:
        network: On its device; gradients of its parameters are switched off.
        image: (C, H, W) in [0, 1], C = 1 or 3.
        patch: Position in the whole result.
        region: Side length of the region, in lr pixels; 0 takes the whole image.
        sigma: Standard deviation of the blur at the start of the path, in lr pixels.
        steps: Steps of the path from blurred to sharp; the error falls with their square.
        on_step: Called after each step with the number of steps done and their total.

    Raises:
        ValueError: The patch lies outside of the result or does not fit into the region, an argument is out of range,
            or the image has colours and the network takes none.
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
        raise ValueError(
            f"the network takes {channels} channel, but the image has {image.shape[0]}; convert it to grayscale"
        )
    # Third-party networks are called without their padding, which no gradient passes.
    multiple = network.period if isinstance(network, ThirdPartyNetwork) else 1
    top, rows = _interval(height, (patch.top + bottom) / 2 / scale, region, multiple)
    left, columns = _interval(width, (patch.left + right) / 2 / scale, region, multiple)
    module = network.model if isinstance(network, ThirdPartyNetwork) else network
    module.requires_grad_(False)
    device = next(module.parameters()).device
    part = image[:, top : top + rows, left : left + columns].expand(channels, -1, -1).to(device).contiguous()
    inside = Patch(top=patch.top - scale * top, left=patch.left - scale * left, size=patch.size)
    found = attribute(module, part, inside, sigma=sigma, steps=steps, on_step=on_step)
    with torch.no_grad():
        sr = module(part[None])[0]
    return PatchAttribution(scale=scale, image=part, corner=(top, left), sr=sr, patch=patch, attribution=found)


def _interval(side: int, middle: float, region: int, multiple: int) -> tuple[int, int]:
    """Start and length of the region along one side of the image."""
    length = min(region or side, side)
    length = max(length - length % multiple, min(multiple, side))
    return min(max(round(middle - length / 2), 0), side - length), length


# ---- the figure

_PANEL = 384  # units; approximate side length of each panel
_GAP = 24
_TITLE_SIZE = 14
_AROUND = 2  # part of the result shown on each side of the patch, as a multiple of its size
_RED = "#e6194b"


def draw_patch_attribution(found: PatchAttribution) -> str:
    """Draw three panels as SVG: the input with the patch marked, the pixels used, and the result around the patch.

    The map is shown as the square root of its values relative to the largest, since most are small.
    """
    lr, patch, index = _rgb(found.image), found.patch_in_region, found.attribution.diffusion_index
    height, width = found.sr.shape[-2:]
    around = _AROUND * patch.size
    top, left = max(patch.top - around, 0), max(patch.left - around, 0)
    below, beside = min(patch.top + patch.size + around, height), min(patch.left + patch.size + around, width)
    panels = [
        ("input with the patch", lr, (patch.top, patch.left, 1 / found.scale)),
        (f"pixels used, diffusion index {index:.2f}", heat(lr, found.attribution.map.cpu()), None),
        ("result around the patch", _rgb(found.sr[:, top:below, left:beside]), (patch.top - top, patch.left - left, 1)),
    ]
    parts, x, lowest = [], float(_GAP), 0.0
    for title, pixels, mark in panels:
        pixel_size = max(1, round(_PANEL / max(pixels.shape[1:])))
        parts.append(svg.text(x, 1.5 * _GAP, title, size=_TITLE_SIZE))
        parts.append(svg.image(x, 2 * _GAP, pixels, pixel_size=pixel_size))
        if mark is not None:
            row, column, unit = mark
            place = x + pixel_size * unit * column, 2 * _GAP + pixel_size * unit * row
            parts.append(svg.outline(*place, *(2 * [pixel_size * unit * patch.size]), colour=_RED))
        x += max(pixel_size * pixels.shape[2], svg.LETTER_WIDTH * _TITLE_SIZE * len(title)) + _GAP
        lowest = max(lowest, 2 * _GAP + pixel_size * pixels.shape[1])
    return svg.document(x, lowest + _GAP, parts)


def heat(image: Tensor, values: Tensor) -> Tensor:
    """Colour positive values (H, W) from black over red and yellow to white, above a dim gray image (3, H, W)."""
    strength = (values / values.max().clamp_min(torch.finfo(values.dtype).tiny)).sqrt()
    glow = torch.stack([(3 * strength - channel).clamp(0, 1) for channel in range(3)])
    gray = 0.45 * image.mean(0, keepdim=True)
    return gray * (1 - strength) + glow * strength


def _rgb(image: Tensor) -> Tensor:
    return image.detach().cpu().clamp(0, 1).expand(3, -1, -1)
