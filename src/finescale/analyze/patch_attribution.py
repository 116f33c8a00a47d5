"""Attribution of a patch to the region of the input around it, by one or several networks, and its figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from finescale.analyze.attribution import SIGMA, STEPS, Attribution, Patch, attribute
from finescale.figures import svg
from finescale.networks import Frame, WrappedNetwork

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
    network: Frame | WrappedNetwork,
    image: Tensor,
    patch: Patch,
    *,
    region: int = REGION,
    multiple: int = 1,
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
        multiple: Number that divides the sides of the region, besides those that a third-party network needs.
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
    multiple = math.lcm(multiple, _needed_multiple(network))
    top, rows = _interval(height, (patch.top + bottom) / 2 / scale, region, multiple)
    left, columns = _interval(width, (patch.left + right) / 2 / scale, region, multiple)
    network.requires_grad_(False)
    device = next(network.parameters()).device
    part = image[:, top : top + rows, left : left + columns].expand(channels, -1, -1).to(device).contiguous()
    inside = Patch(top=patch.top - scale * top, left=patch.left - scale * left, size=patch.size)
    found = attribute(network, part, inside, sigma=sigma, steps=steps, on_step=on_step)
    with torch.no_grad():
        sr = network(part[None])[0]
    return PatchAttribution(scale=scale, image=part, corner=(top, left), sr=sr, patch=patch, attribution=found)


def compare_attributions(
    networks: Mapping[str, Frame | WrappedNetwork],
    image: Tensor,
    patch: Patch,
    *,
    region: int = REGION,
    sigma: float = SIGMA,
    steps: int = STEPS,
    on_step: Callable[[str, int, int], None] | None = None,
) -> dict[str, PatchAttribution]:
    """Attribute one patch by several networks, on the same region, so that their diffusion indices can be compared.

    Args:
        networks: Networks of one scale by their names; see `attribute_patch` for them and the other arguments.
        image: (C, H, W) in [0, 1], C = 1 or 3.
        patch: Position in the whole result.
        region: Side length of the region, in lr pixels; less where third-party networks need a multiple of a size.
        sigma: Standard deviation of the blur at the start of the path, in lr pixels.
        steps: Steps of the path from blurred to sharp.
        on_step: Called after each step with the network's name, the number of its steps done and their total.

    Returns:
        The attributions by the networks' names.

    Raises:
        ValueError: The networks have different scales, or as for `attribute_patch`.
    """
    scales = {name: network.scale for name, network in networks.items()}
    if len(set(scales.values())) > 1:
        told = ", ".join(f"{name} x{scale}" for name, scale in scales.items())
        raise ValueError(f"all networks must have one scale, got {told}")
    multiple = math.lcm(*(_needed_multiple(network) for network in networks.values()))
    found = {}
    for name, network in networks.items():

        def on_step_of_one(done: int, total: int, name: str = name) -> None:
            if on_step is not None:
                on_step(name, done, total)

        found[name] = attribute_patch(
            network, image, patch, region=region, multiple=multiple, sigma=sigma, steps=steps, on_step=on_step_of_one
        )
    return found


def _needed_multiple(network: Frame | WrappedNetwork) -> int:
    """Return what divides the sides of images that a network takes without padding; ours take any size."""
    return network.period if isinstance(network, WrappedNetwork) else 1


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

_Mark = tuple[float, float, float]
"""Row and column of the patch, in pixels of the result, and the pixels of the picture for each of them."""


def draw_patch_attribution(found: PatchAttribution) -> str:
    """Draw three panels as SVG: the input with the patch marked, the pixels used, and the result around the patch.

    The map is shown as the square root of its values relative to the largest, since most are small.
    """
    lr, patch = _rgb(found.image), found.patch_in_region
    used = f"pixels used, diffusion index {found.attribution.diffusion_index:.2f}"
    result, mark = _around_patch(found)
    panels = [
        ("input with the patch", lr, (patch.top, patch.left, 1 / found.scale)),
        (used, heat(lr, found.attribution.map.cpu()), None),
        ("result around the patch", result, mark),
    ]
    parts, x, lowest = [], float(_GAP), 0.0
    for title, pixels, place in panels:
        pixel_size = max(1, round(_PANEL / max(pixels.shape[1:])))
        parts.append(svg.text(x, 1.5 * _GAP, title, size=_TITLE_SIZE))
        parts += _picture(x, 2 * _GAP, pixels, pixel_size=pixel_size, mark=place, size=patch.size)
        x += max(pixel_size * pixels.shape[2], svg.LETTER_WIDTH * _TITLE_SIZE * len(title)) + _GAP
        lowest = max(lowest, 2 * _GAP + pixel_size * pixels.shape[1])
    return svg.document(x, lowest + _GAP, parts)


_COLUMN = 232  # units; side length of a panel that compares networks
_BETWEEN = 10  # between such panels


def draw_attributions(found: Mapping[str, PatchAttribution]) -> str:
    """Draw networks side by side as SVG: above the pixels that each uses, below its result, then its diffusion index.

    The first column shows the input with the patch marked, and its pixels around the patch.

    Args:
        found: Attributions of one patch by the names of the networks, see `compare_attributions`.
    """
    first = next(iter(found.values()))
    lr, patch, scale = _rgb(first.image), first.patch_in_region, first.scale
    near, (top, left, _) = _around_patch(first)
    rows, columns = near.shape[1:]
    begin = patch.top - top, patch.left - left  # of what is shown around the patch, in pixels of the result
    enlarged = lr.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    plain = enlarged[:, begin[0] : begin[0] + rows, begin[1] : begin[1] + columns]
    cells: list[tuple[str, Tensor, _Mark | None, Tensor, _Mark, str]]
    cells = [("input", lr, (patch.top, patch.left, 1 / scale), plain, (top, left, 1.0), "")]
    for name, one in found.items():
        result, mark = _around_patch(one)
        index = f"diffusion index {one.attribution.diffusion_index:.2f}"
        cells.append((name, heat(lr, one.attribution.map.cpu()), None, result, mark, index))
    heights = [_COLUMN * pixels.shape[1] / pixels.shape[2] for pixels in (lr, plain)]
    parts, x = [], float(_GAP)
    below = 2 * _GAP + heights[0] + _BETWEEN
    for name, above, above_mark, result, mark, index in cells:
        middle = x + _COLUMN / 2
        parts.append(svg.text(middle, 1.5 * _GAP, _shortened(name), size=_TITLE_SIZE, anchor="middle"))
        parts += _picture(x, 2 * _GAP, above, pixel_size=_COLUMN / above.shape[2], mark=above_mark, size=patch.size)
        parts += _picture(x, below, result, pixel_size=_COLUMN / result.shape[2], mark=mark, size=patch.size)
        if index:
            parts.append(svg.text(middle, below + heights[1] + 20, index, size=_TITLE_SIZE, anchor="middle"))
        x += _COLUMN + _BETWEEN
    height = below + heights[1] + 20 + _GAP
    return svg.document(x - _BETWEEN + _GAP, height, parts)


def _shortened(name: str) -> str:
    """Return the end of a name that is too long to stand above its column."""
    longest = int(_COLUMN / (svg.LETTER_WIDTH * _TITLE_SIZE))
    return name if len(name) <= longest else f"…{name[1 - longest :]}"


def _around_patch(found: PatchAttribution) -> tuple[Tensor, _Mark]:
    """Return the result around the patch, and where the patch lies in it."""
    patch = found.patch_in_region
    height, width = found.sr.shape[-2:]
    around = _AROUND * patch.size
    top, left = max(patch.top - around, 0), max(patch.left - around, 0)
    below, beside = min(patch.top + patch.size + around, height), min(patch.left + patch.size + around, width)
    return _rgb(found.sr[:, top:below, left:beside]), (patch.top - top, patch.left - left, 1)


def _picture(x: float, y: float, pixels: Tensor, *, pixel_size: float, mark: _Mark | None, size: int) -> list[str]:
    """Draw a picture, and the outline of a patch of ``size`` pixels of the result in it."""
    parts = [svg.image(x, y, pixels, pixel_size=pixel_size)]
    if mark is not None:
        row, column, unit = mark
        place = x + pixel_size * unit * column, y + pixel_size * unit * row
        parts.append(svg.outline(*place, *(2 * [pixel_size * unit * size]), colour=_RED))
    return parts


def heat(image: Tensor, values: Tensor) -> Tensor:
    """Colour positive values (H, W) from black over red and yellow to white, above a dim gray image (3, H, W)."""
    strength = (values / values.max().clamp_min(torch.finfo(values.dtype).tiny)).sqrt()
    glow = torch.stack([(3 * strength - channel).clamp(0, 1) for channel in range(3)])
    gray = 0.45 * image.mean(0, keepdim=True)
    return gray * (1 - strength) + glow * strength


def _rgb(image: Tensor) -> Tensor:
    return image.detach().cpu().clamp(0, 1).expand(3, -1, -1)
