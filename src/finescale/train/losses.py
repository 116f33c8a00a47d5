"""Losses: measures of the difference between an upscaled picture and its HR image, which a training minimises.

Each takes sr and hr, (N, C, H, W) float32 in [0, 1], sr unclamped, and returns a mean over all elements, a scalar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from finescale.train.perceptual import PerceptualLoss

Loss = Callable[[Tensor, Tensor], Tensor]
"""Function of sr and hr to a scalar."""

CHARBONNIER_EPSILON = 1e-3
"""Difference below which `charbonnier` is quadratic, and above which it is linear."""


def l1(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean of |sr - hr|; the loss of all published trainings."""
    return F.l1_loss(sr, hr)


def mse(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean of (sr - hr)^2, whose logarithm is PSNR."""
    return F.mse_loss(sr, hr)


def charbonnier(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean of sqrt((sr - hr)^2 + epsilon^2), an L1 that is smooth at 0; epsilon is `CHARBONNIER_EPSILON`."""
    return ((sr - hr).square() + CHARBONNIER_EPSILON**2).sqrt().mean()


def frequency(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean of |FFT(sr - hr)| over all frequencies, by the orthonormal two-dimensional transform of each channel."""
    spectrum: Tensor = torch.fft.fft2(sr - hr, norm="ortho")
    return spectrum.abs().mean()


def edge(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean of sqrt((lap(sr) - lap(hr))^2 + 1e-12), the edge loss of CRAFT's sequel, for any number of channels.

    lap(x) = x - G(U(G(x))) is a level of a Laplacian pyramid: G filters each channel by a smooth 5x5
    kernel, the border repeated; U keeps four times the value at even rows and columns, and 0 elsewhere.
    """
    # lap is linear, so the difference is filtered once
    return (_laplacian(sr - hr).square() + 1e-12).sqrt().mean()


def _laplacian(x: Tensor) -> Tensor:
    blurred = _blur(x)
    sparse = torch.zeros_like(blurred)
    sparse[..., ::2, ::2] = 4 * blurred[..., ::2, ::2]
    return x - _blur(sparse)


def _blur(x: Tensor) -> Tensor:
    line = x.new_tensor([0.05, 0.25, 0.4, 0.25, 0.05])
    kernel = torch.outer(line, line)[None, None]
    planes = F.pad(x, (2, 2, 2, 2), mode="replicate").flatten(0, 1).unsqueeze(1)  # (N * C, 1, H + 4, W + 4)
    return F.conv2d(planes, kernel).view(x.shape)


LOSSES: Mapping[str, Loss] = {
    "l1": l1,
    "charbonnier": charbonnier,
    "mse": mse,
    "edge": edge,
    "frequency": frequency,
}
"""Losses without weights of their own, by their names in the settings."""

LOSS_NAMES = (*LOSSES, "perceptual")
"""All losses; the perceptual one needs weights."""


def make_losses(names: Iterable[str], *, perceptual: Path | None = None, device: torch.device) -> dict[str, Loss]:
    """Make losses by name.

    Args:
        names: Some of `LOSS_NAMES`.
        perceptual: Weights of VGG19 for `PerceptualLoss`, where "perceptual" is among the names.
        device: Device of the pictures to compare.

    Raises:
        WeightsError: The weights are missing, cannot be read, or belong to another network.
    """
    made: dict[str, Loss] = {}
    for name in names:
        if name == "perceptual":
            assert perceptual is not None
            made[name] = PerceptualLoss(perceptual).to(device)
        else:
            made[name] = LOSSES[name]
    return made


def total_loss(
    sr: Tensor, hr: Tensor, weights: Mapping[str, float], losses: Mapping[str, Loss] = LOSSES
) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute the weighted sum of some losses.

    It is computed in float32 even within `torch.autocast`, since a loss adds up many small numbers.

    Args:
        sr: The network's output (N, C, H, W), in [0, 1] or slightly beyond; of any floating type.
        hr: HR images, same shape.
        weights: Weight of each loss, by name.
        losses: The losses, by name.

    Returns:
        The sum, a scalar with gradients, and each loss without its weight, detached.

    Raises:
        ValueError: The shapes differ.
    """
    if sr.shape != hr.shape:
        raise ValueError(f"sr and hr must have the same shape, got {tuple(sr.shape)} and {tuple(hr.shape)}")
    with torch.autocast(sr.device.type, enabled=False):
        terms = {name: losses[name](sr.float(), hr.float()) for name in weights}
        total = torch.stack([weight * terms[name] for name, weight in weights.items()]).sum()
    return total, {name: term.detach() for name, term in terms.items()}
