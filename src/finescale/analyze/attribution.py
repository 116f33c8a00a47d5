"""Local attribution maps: which pixels of the input a network uses for a patch of its result.

J. Gu and C. Dong, "Interpreting Super-Resolution Networks with Local Attribution Maps", CVPR 2021. A detector D sums
the gradient magnitude within a patch of the result, which measures the edges and textures there. Integrated gradients
of D, along a path from a blurred to the sharp input, attribute the increase of D to the pixels of the input.
Letters: F network, I lr image, C channels, H W its size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIGMA = 1.2
"""Standard deviation of the blur at the start of the path, in lr pixels, as in the authors' code."""

STEPS = 50
"""Steps of the path, as in the authors' code."""

_RADIUS = 4  # of the kernel, in pixels; the authors use 9 x 9
_ROUNDING = 1e-6  # of a sum in float32
_TINY = 1e-12  # under the root, whose slope would be infinite for a flat patch


@dataclass(frozen=True, kw_only=True)
class Patch:
    """Square part of the result, in pixels of the result."""

    top: int
    """Rows above it."""
    left: int
    """Columns before it."""
    size: int
    """Side length."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Attribution:
    """Contribution of each input value to the detector of a patch."""

    values: Tensor
    """(C, H, W), float32; may be negative."""
    sharp: float
    """D(F(I)), the detector's value for the image itself."""
    blurred: float
    """Its value for the image at the start of the path."""

    @property
    def map(self) -> Tensor:
        """Involvement of each pixel, (H, W): the absolute sum over its channels."""
        return self.values.sum(0).abs()

    @property
    def diffusion_index(self) -> float:
        """Spread of the used pixels: near 0 for a single pixel, 100 for all pixels alike."""
        return 100 * (1 - gini(self.map))

    @property
    def gap(self) -> float:
        """Integration error: the share of ``sharp - blurred`` that the values miss; it falls with more steps."""
        gained = self.sharp - self.blurred
        least = _ROUNDING * max(abs(self.sharp), abs(self.blurred), _TINY)  # for a detector that does not change
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
    """Attribute a patch of a network's result to the pixels of the input.

    Args:
        network: Differentiable map from images (N, C, H, W) to larger ones.
        image: (C, H, W) in [0, 1], on the network's device.
        patch: The patch of the result.
        sigma: Standard deviation of the blur at the start of the path, in lr pixels.
        steps: Points at which gradients are taken; the error falls with their square.
        on_step: Called after each step with the number of steps done and their total.

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
    """Return the detector D: gradient magnitude by forward differences, summed over a patch and its channels.

    Args:
        sr: One result (1, C, H, W).
        patch: The patch of the result.

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
    """Blur an image (C, H, W) by a Gaussian of 9 x 9 pixels with replicated edges; a sigma of 0 copies it."""
    if sigma == 0:
        return image.clone()
    offsets = torch.arange(-_RADIUS, _RADIUS + 1, device=image.device)
    kernel = torch.exp(-offsets.square() / (2 * sigma**2)).to(image.dtype)
    kernel = kernel / kernel.sum()
    planes = F.pad(image[:, None], (_RADIUS,) * 4, mode="replicate")  # (C, 1, H + 8, W + 8)
    planes = F.conv2d(planes, kernel.reshape(1, 1, -1, 1))
    return F.conv2d(planes, kernel.reshape(1, 1, 1, -1))[:, 0]


def gini(values: Tensor) -> float:
    """Return the Gini index of positive values: 0 if all are equal, near 1 if one holds everything.

    It is the mean absolute difference of two values over twice their mean, and 0 if all values are 0.
    """
    ordered = values.double().flatten().sort().values
    total, number = float(ordered.sum()), ordered.numel()
    if total == 0:
        return 0.0
    ranks = torch.arange(1, number + 1, dtype=torch.float64, device=ordered.device)
    return 2 * float((ranks * ordered).sum()) / (number * total) - (number + 1) / number
