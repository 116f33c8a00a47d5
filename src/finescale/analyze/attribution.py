"""Local attribution maps: which pixels of the input a network uses for a patch of its result.

J. Gu and C. Dong, "Interpreting Super-Resolution Networks with Local Attribution Maps", CVPR 2021. A detector D adds up
the gradient magnitude within a patch of the result: how much edge and texture the network has put there. Integrated
gradients of D over inputs that begin blurred and become sharp share out among the pixels of the input what the network
gained. Letters: F network, I lr image, C channels, H W its size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIGMA = 1.2
"""Standard deviation, in lr pixels, of the blur at which the path begins, as in the code of the map's authors."""

STEPS = 50
"""Steps of the path, as in the code of the map's authors."""

_RADIUS = 4  # of the kernel, in pixels; the authors' kernel has 9 x 9
_ROUNDING = 1e-6  # of a sum in float32
_TINY = 1e-12  # under the root, where the slope of a flat patch would be infinite


@dataclass(frozen=True, kw_only=True)
class Patch:
    """A square of the result, in its pixels."""

    top: int
    """Rows above it."""
    left: int
    """Columns before it."""
    size: int
    """Its side."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Attribution:
    """What each value of the input contributes to the detector of a patch."""

    values: Tensor
    """(C, H, W), float32; may be negative."""
    sharp: float
    """D(F(I)), what the detector says for the image."""
    blurred: float
    """What it says for the image at its most blurred."""

    @property
    def map(self) -> Tensor:
        """How much each pixel is involved: |sum over its channels|, (H, W)."""
        return self.values.sum(0).abs()

    @property
    def diffusion_index(self) -> float:
        """How widely the network looks: 0 if all depends on one pixel, up to 100 if on all alike."""
        return 100 * (1 - gini(self.map))

    @property
    def gap(self) -> float:
        """Share of ``sharp - blurred`` that the values miss; the integral's error, which falls with more steps."""
        gained = self.sharp - self.blurred
        least = _ROUNDING * max(abs(self.sharp), abs(self.blurred), _TINY)  # where there is nothing to gain
        return abs(float(self.values.sum()) - gained) / max(abs(gained), least)


def attribute(
    network: nn.Module,
    image: Tensor,
    patch: Patch,
    *,
    sigma: float = SIGMA,
    steps: int = STEPS,
    on_step: Callable[[int, int], None] | None = None,
) -> Attribution:
    """Share out among the pixels of an image what a network makes of them in a patch of its result.

    Args:
        network: Images (N, C, H, W) to larger ones; any network that gradients pass through.
        image: (C, H, W) in [0, 1], on the network's device.
        patch: Where in the result.
        sigma: Standard deviation of the blur at which the path begins, in lr pixels.
        steps: Points at which gradients are taken; the error falls with their square.
        on_step: Called after each step with the steps done and the steps in all.

    Raises:
        ValueError: The patch does not lie in the result, or ``sigma`` or ``steps`` is not positive.
    """
    if sigma <= 0 or steps < 1:
        raise ValueError(f"sigma and steps must be positive, got {sigma} and {steps}")
    image = image.float()
    values = torch.zeros_like(image)
    sigmas = [sigma * (1 - step / steps) for step in range(steps + 1)]
    current = blur(image, sigmas[0])
    with torch.no_grad():
        blurred = float(detect(network(current[None]), patch))
        sharp = float(detect(network(image[None]), patch))
    for step in range(steps):
        middle = blur(image, (sigmas[step] + sigmas[step + 1]) / 2).requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(detect(network(middle[None]), patch), middle)
        following = blur(image, sigmas[step + 1])
        values += gradient * (following - current)
        current = following
        if on_step is not None:
            on_step(step + 1, steps)
    return Attribution(values=values, sharp=sharp, blurred=blurred)


def detect(sr: Tensor, patch: Patch) -> Tensor:
    """The detector D: gradient magnitude, by forward differences, added up over a patch and its channels.

    Args:
        sr: One result (1, C, H, W).
        patch: Where to look.

    Raises:
        ValueError: The patch does not lie in the result.
    """
    height, width = sr.shape[-2:]
    bottom, right = patch.top + patch.size, patch.left + patch.size
    if patch.size < 1 or min(patch.top, patch.left) < 0 or bottom > height or right > width:
        raise ValueError(
            f"a patch of {patch.size} pixels at {patch.left},{patch.top} does not lie in a result of {width} x {height}"
        )
    part = F.pad(sr, (0, 1, 0, 1), mode="replicate")[..., patch.top : bottom + 1, patch.left : right + 1]
    down = part[..., 1:, :-1] - part[..., :-1, :-1]
    across = part[..., :-1, 1:] - part[..., :-1, :-1]
    return (down.square() + across.square() + _TINY).sqrt().sum()


def blur(image: Tensor, sigma: float) -> Tensor:
    """An image (C, H, W) after a Gaussian of 9 x 9 pixels, its edge repeated; 0 leaves it as it is."""
    if sigma == 0:
        return image.clone()
    offsets = torch.arange(-_RADIUS, _RADIUS + 1, device=image.device)
    kernel = torch.exp(-offsets.square() / (2 * sigma**2)).to(image.dtype)
    kernel = kernel / kernel.sum()
    planes = F.pad(image[:, None], (_RADIUS,) * 4, mode="replicate")  # (C, 1, H + 8, W + 8)
    planes = F.conv2d(planes, kernel.reshape(1, 1, -1, 1))
    return F.conv2d(planes, kernel.reshape(1, 1, 1, -1))[:, 0]


def gini(values: Tensor) -> float:
    """How unequal positive values are: 0 if all are alike, near 1 if one has it all.

    The mean absolute difference of two of them, over twice their mean; of values that are all 0 it is 0.
    """
    ordered = values.double().flatten().sort().values
    total, number = float(ordered.sum()), ordered.numel()
    if total == 0:
        return 0.0
    ranks = torch.arange(1, number + 1, dtype=torch.float64, device=ordered.device)
    return 2 * float((ranks * ordered).sum()) / (number * total) - (number + 1) / number
