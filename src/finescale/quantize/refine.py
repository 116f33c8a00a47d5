"""Stage 2: training of the bounds of all quantizers, and of nothing else, to keep the network's answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import mean

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from finescale.errors import NumericalError
from finescale.quantize.modules import quantizers
from finescale.quantize.quantizer import Quantizer
from finescale.quantize.settings import QuantSettings


@dataclass(eq=False, kw_only=True)
class Refinement:
    """Progress of a refinement, besides the bounds themselves."""

    losses: list[float] = field(default_factory=list)
    """Mean loss of each finished epoch."""
    moments: list[Tensor] = field(default_factory=list)
    """State of the optimizer for each bound, low and high by turns: means of gradients and of their squares."""


def refine(
    network: nn.Module,
    images: Sequence[Tensor],
    targets: Sequence[Tensor],
    settings: QuantSettings,
    *,
    progress: Refinement | None = None,
    on_step: Callable[[float], None] | None = None,
    on_epoch: Callable[[Refinement], None] | None = None,
) -> Refinement:
    """Train the bounds by gradient descent until the quantized answers match the float ones.

    The images are used in their order; nothing is random.

    Args:
        network: Calibrated; its bounds change in place.
        images: Batches (N, C, H, W).
        targets: The float network's answer to each batch, (N, C, s * h, s * w), cropped where images were extended.
        settings: Learning rate and number of epochs.
        progress: Of an interrupted call, to resume; the network must have the bounds of that time.
        on_step: Called after each step with its loss.
        on_epoch: Called after each epoch.

    Raises:
        NumericalError: A loss is not finite.
    """
    progress = progress or Refinement()
    places = list(quantizers(network).values())
    bounds = [bound for one in places for bound in (one.low, one.high)]
    for bound in bounds:
        bound.requires_grad_()
    optimizer = torch.optim.Adam([{"params": [one.low, one.high]} for one in places], lr=settings.lr)
    steps = len(progress.losses) * len(images)
    _restore(optimizer, bounds, progress.moments, steps)
    try:
        for epoch in range(len(progress.losses), settings.epochs):
            losses = []
            units = [_unit(one, settings) for one in places]
            for batch, target in zip(images, targets, strict=True):
                rate = settings.lr * _share(steps, len(images) * settings.epochs, settings)
                for group, unit in zip(optimizer.param_groups, units, strict=True):
                    group["lr"] = rate * unit
                answer = network(batch)[..., : target.shape[-2], : target.shape[-1]]
                loss = F.mse_loss(answer, target)
                if not loss.isfinite():
                    raise NumericalError(
                        f"the refinement's loss is not finite in epoch {epoch + 1}; choose a smaller lr than "
                        f"{settings.lr:g}"
                    )
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                for one in places:
                    one.tidy()
                steps += 1
                losses.append(loss.item())
                if on_step is not None:
                    on_step(losses[-1])
            progress.losses.append(mean(losses))
            progress.moments = _moments(optimizer, bounds)
            if on_epoch is not None:
                on_epoch(progress)
    finally:
        for bound in bounds:
            bound.requires_grad_(False)
            bound.grad = None
        network.eval()
    return progress


def _unit(one: Quantizer, settings: QuantSettings) -> float:
    """Unit of the learning rate of a quantizer's bounds: the mean width of its ranges, or 1."""
    return float((one.high - one.low).detach().mean()) if settings.lr_unit == "range" else 1.0


def _share(step: int, steps: int, settings: QuantSettings) -> float:
    """Share of the learning rate that is left at a step."""
    return 0.5 + 0.5 * math.cos(math.pi * step / steps) if settings.schedule == "cosine" else 1.0


def _moments(optimizer: torch.optim.Adam, bounds: Sequence[Tensor]) -> list[Tensor]:
    return [optimizer.state[bound][name].clone() for bound in bounds for name in _MOMENTS]


def _restore(optimizer: torch.optim.Adam, bounds: Sequence[Tensor], moments: Sequence[Tensor], steps: int) -> None:
    """Restore the state of the optimizer after some steps; every bound is assumed to have had a gradient."""
    if not moments:
        return
    means, squares = moments[::2], moments[1::2]
    for bound, average, square in zip(bounds, means, squares, strict=True):
        values = torch.tensor(float(steps)), average.clone(), square.clone()
        optimizer.state[bound] = dict(zip(("step", *_MOMENTS), values, strict=True))


_MOMENTS = ("exp_avg", "exp_avg_sq")
