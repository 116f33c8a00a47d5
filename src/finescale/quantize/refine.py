"""Stage 2: training of the bounds of all quantizers, and of nothing else, to keep the network's answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from statistics import mean

import torch
from torch import Tensor, nn

from finescale.errors import NumericalError
from finescale.quantize.losses import WITH_FEATURES, features_of, loss_of
from finescale.quantize.modules import quantized_layers, quantizers
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
    features: Sequence[Sequence[Tensor]] = (),
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
        settings: Loss, learning rate and number of epochs.
        features: The float network's features of each batch, see `finescale.quantize.losses`; needed by the losses of
            `WITH_FEATURES` alone.
        progress: Of an interrupted call, to resume; the network must have the bounds of that time.
        on_step: Called after each step with its loss.
        on_epoch: Called after each epoch.

    Raises:
        NumericalError: A loss is not finite.
        ValueError: The loss compares features, and the network has no residual groups.
    """
    progress = progress or Refinement()
    compares_features = settings.loss in WITH_FEATURES
    batches = list(zip(images, targets, features if compares_features else [()] * len(images), strict=True))
    places = quantizers(network)
    watched: AbstractContextManager[list[Tensor]] = features_of(network) if compares_features else nullcontext([])
    try:
        with watched as seen:

            def loss(image: Tensor, target: Tensor, aims: Sequence[Tensor]) -> Tensor:
                seen.clear()
                answer = network(image)[..., : target.shape[-2], : target.shape[-1]]
                return loss_of(settings.loss, answer, target, seen, aims)

            for phase in _phases(network, settings, steps=len(batches)):
                for epoch in range(max(phase.first, len(progress.losses)), phase.last):
                    phase.begin(epoch, places, progress.moments)
                    losses = []
                    for batch in batches:
                        losses.append(phase.step(loss(*batch), epoch))
                        if on_step is not None:
                            on_step(losses[-1])
                    progress.losses.append(mean(losses))
                    progress.moments = phase.moments(places)
                    if on_epoch is not None:
                        on_epoch(progress)
                phase.end()
    finally:
        for bound in _bounds(places.values()):
            bound.requires_grad_(False)
            bound.grad = None
        network.eval()
    return progress


class _Phase:
    """Epochs in which the same bounds are trained, by one optimizer.

    Args:
        trained: Quantizers whose bounds are trained.
        settings: Of the refinement.
        epochs: The first one, and the one after the last.
        lr: Learning rate at first.
        steps: Of an epoch.
    """

    def __init__(
        self, trained: Sequence[Quantizer], settings: QuantSettings, *, epochs: tuple[int, int], lr: float, steps: int
    ) -> None:
        self.first, self.last = epochs
        self._trained = trained
        self._settings = settings
        self._lr = lr
        self._steps = steps
        self._done = 0
        self._units: list[float] = []
        groups = [{"params": _bounds([one])} for one in trained]
        self._optimizer = torch.optim.Adam(groups, lr=lr, betas=(0.9, settings.beta2))

    def begin(self, epoch: int, places: Mapping[str, Quantizer], moments: Sequence[Tensor]) -> None:
        """Prepare for an epoch, with the optimizer's state at its beginning."""
        for bound in _bounds(self._trained):
            bound.requires_grad_()
        self._done = (epoch - self.first) * self._steps
        self._units = [
            float((one.high - one.low).detach().mean()) if self._settings.lr_unit == "range" else 1.0
            for one in self._trained
        ]
        if self._done and not self._optimizer.state:
            of_bounds = zip(_bounds(places.values()), moments[::2], moments[1::2], strict=True)
            for bound, average, square in of_bounds:
                if bound.requires_grad:
                    values = torch.tensor(float(self._done)), average.clone(), square.clone()
                    self._optimizer.state[bound] = dict(zip(("step", *_MOMENTS), values, strict=True))

    def step(self, loss: Tensor, epoch: int) -> float:
        """Move the bounds down the gradient of a loss, and return its value."""
        if not loss.isfinite():
            raise NumericalError(
                f"the refinement's loss is not finite in epoch {epoch + 1}; choose a smaller lr than {self._lr:g}"
            )
        rate = self._lr * _share(self._done, self._steps * (self.last - self.first), self._settings)
        for group, unit in zip(self._optimizer.param_groups, self._units, strict=True):
            group["lr"] = rate * unit
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        for one in self._trained:
            one.tidy()
        self._done += 1
        return loss.item()

    def moments(self, places: Mapping[str, Quantizer]) -> list[Tensor]:
        """Return the optimizer's state for all bounds, zeros for those that are not trained."""
        state = self._optimizer.state
        return [
            state[bound][name].clone() if bound.requires_grad else torch.zeros_like(bound)
            for bound in _bounds(places.values())
            for name in _MOMENTS
        ]

    def end(self) -> None:
        """Leave the bounds as they are from now on."""
        for bound in _bounds(self._trained):
            bound.requires_grad_(False)


def _phases(network: nn.Module, settings: QuantSettings, *, steps: int) -> list[_Phase]:
    """All bounds at once, or, where weights have a learning rate of their own, those of activations first."""
    places, layers = quantizers(network), quantized_layers(network)
    weights = [layer.weight_quantizer for layer in layers.values()]
    if settings.weights_lr is None:
        return [_Phase(list(places.values()), settings, epochs=(0, settings.epochs), lr=settings.lr, steps=steps)]
    activations = [one for one in places.values() if one not in weights]
    half = -(-settings.epochs // 2)
    return [
        _Phase(activations, settings, epochs=(0, half), lr=settings.lr, steps=steps),
        _Phase(weights, settings, epochs=(half, settings.epochs), lr=settings.weights_lr, steps=steps),
    ]


def _bounds(places: Iterable[Quantizer]) -> list[Tensor]:
    return [bound for one in places for bound in (one.low, one.high)]


def _share(step: int, steps: int, settings: QuantSettings) -> float:
    """Share of the learning rate that is left at a step."""
    if settings.schedule == "constant":
        return 1.0
    return settings.lr_end + (1 - settings.lr_end) * (0.5 + 0.5 * math.cos(math.pi * step / steps))


_MOMENTS = ("exp_avg", "exp_avg_sq")
