"""Learner: a network with all that one training step changes: weights, their average, optimizer, loss scale."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from finescale.layers.stochastic_depth import StochasticDepth
from finescale.networks import Frame
from finescale.train.average import WeightAverage
from finescale.train.distributed import Team, gradients_kept_apart, spread, spread_like, whole
from finescale.train.losses import make_losses, total_loss
from finescale.train.optimizers import make_optimizer
from finescale.train.recompute import recompute, statistics
from finescale.train.recording import Pass, RecordedPass
from finescale.train.rehearsal import rehearse
from finescale.train.settings import StepSettings
from finescale.weights.third_party import ThirdPartyNetwork

_DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class StepResult:
    """Result of a step; the same in all processes."""

    loss: float
    """Weighted sum of the terms, mean over all samples of the step."""
    terms: dict[str, float]
    """Each loss, unweighted."""
    bad: tuple[str, ...]
    """Values that exploded, in words; where there are any, the step changed nothing."""
    stop: bool
    """Whether a process was asked to stop."""


class Learner:
    """A network in training, in one process or distributed over several.

    Args:
        network: New network on the CPU; it is moved to the team's device and changed step by step.
        settings: Settings of the steps.
        team: The processes that train together.
        patch: Side of a sample, in lr pixels.

    Attributes:
        rehearsal: Findings of a pass before the first step; parameters that no gradient reaches stay as they are.
    """

    def __init__(self, network: Frame | ThirdPartyNetwork, settings: StepSettings, team: Team, *, patch: int) -> None:
        self.network = network.to(team.device).train()
        self._settings = settings
        self._team = team
        self._losses = make_losses(settings.loss, perceptual=settings.perceptual, device=team.device)
        groups = network.groups
        if settings.checkpointing:
            recompute(groups)
        precision = _DTYPES[settings.precision]
        self.rehearsal = rehearse(self.network, patch=patch, device=team.device, dtype=precision)
        for name in self.rehearsal.unreached:  # where processes train together, each would wait for its gradient
            network.get_parameter(name).requires_grad_(False)
        self._spread = spread(network, groups, team, strategy=settings.strategy)
        self._call = torch.compile(self._spread) if settings.compile else self._spread
        self._parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self._statistics = statistics(network)
        self.average = WeightAverage(network, decay=settings.average, warm_up=settings.average_warm_up)
        self._optimizer = make_optimizer(self._parameters, settings.optimizer, settings.optimizer_arguments())
        self._scaler = torch.amp.GradScaler(team.device.type, enabled=settings.precision == "fp16")
        self._pass: Pass = RecordedPass(self._gradients) if self._can_be_recorded() else self._gradients

    def draws(self) -> bool:
        """Return whether training draws random numbers, as stochastic depth does; code of third parties may."""
        modules = self.network.modules()
        drops = any(isinstance(module, StochasticDepth) and module.rate > 0 for module in modules)
        return drops or isinstance(self.network, ThirdPartyNetwork)

    def step(
        self, lr: Tensor, hr: Tensor, *, number: int, rate: float, draw: str,
        usual: Mapping[str, float] | None = None, stop: bool = False,
    ) -> StepResult:  # fmt: skip
        """Learn from one batch.

        Args:
            lr: This process's samples (n, C, h, w).
            hr: Their HR images (n, C, s * h, s * w).
            number: Number of steps done after this one.
            rate: Learning rate.
            draw: Names the random numbers of this step, which depend on nothing else.
            usual: Usual value of each loss, by name; a loss far above it has exploded.
            stop: Whether this process was asked to stop; the result passes it on to all processes.
        """
        torch.manual_seed(_seed(f"{draw} {self._team.rank}"))
        self._team.broadcast_tensors(self._statistics)
        before = [buffer.clone() for buffer in self._statistics]
        measured, norm = self._pass(lr.to(self._team.device), hr.to(self._team.device))
        asked = measured.new_tensor([float(stop)])
        # The only place where the CPU waits for the device.
        *means, is_asked = self._team.mean(torch.cat([measured, whole(norm).reshape(1), asked])).tolist()
        names = tuple(self._losses)
        values = dict(zip((*names, "gradients"), means, strict=True))
        bad = self._exploded(values, usual or {})
        if bad:
            for buffer, value in zip(self._statistics, before, strict=True):
                buffer.copy_(value)
        else:
            if self._settings.clip is not None:
                nn.utils.clip_grads_with_norm_(self._parameters, self._settings.clip, norm)
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            self._scaler.step(self._optimizer)
            self.average.update(step=number)
        self._scaler.update()
        loss = sum(self._settings.loss[name] * values[name] for name in names)
        return StepResult(loss, {name: values[name] for name in names}, bad, is_asked > 0)

    def _exploded(self, values: Mapping[str, float], usual: Mapping[str, float]) -> tuple[str, ...]:
        """Return the values that are not finite, or are far above their usual value, each in words."""
        found = []
        for name, value in values.items():
            if not abs(value) < float("inf"):
                found.append(f"{name} {value}")
            elif name in usual and value > self._settings.explosion * usual[name]:
                found.append(f"{name} {value:.3g} (usually {usual[name]:.3g})")
        return tuple(found)

    def _can_be_recorded(self) -> bool:
        """Return whether a pass launches the same kernels each time, and waits for none of them."""
        settings = self._settings
        other = settings.compile or settings.checkpointing or self._scaler.is_enabled() or self._statistics
        return self._team.device.type == "cuda" and self._team.world == 1 and not (other or self.draws())

    def _gradients(self, lr: Tensor, hr: Tensor) -> tuple[Tensor, Tensor]:
        """Leave the gradients of one batch in the parameters; return the mean of each loss, and the gradients' norm."""
        self._optimizer.zero_grad()
        passes = self._settings.accumulate
        precision = _DTYPES[self._settings.precision]
        sums: dict[str, Tensor] = {}
        for number, (some_lr, some_hr) in enumerate(zip(lr.chunk(passes), hr.chunk(passes), strict=True), start=1):
            with nullcontext() if number == passes else gradients_kept_apart(self._spread):
                with torch.autocast(lr.device.type, dtype=precision, enabled=precision is not torch.float32):
                    sr = self._call(some_lr)
                loss, terms = total_loss(sr.float(), some_hr, self._settings.loss, self._losses)
                self._scaler.scale(loss / passes).backward()  # type: ignore[no-untyped-call]
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + term.float() / passes
        self._scaler.unscale_(self._optimizer)
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        return torch.stack([sums[name] for name in self._losses]), nn.utils.get_total_norm(gradients)

    def state(self) -> dict[str, Any]:
        """Return all that the next step depends on, whole, on the CPU; all processes of a team must call this."""
        return {
            "weights": _everywhere(self.network.state_dict()),
            "average": _everywhere(self.average.weights()),
            "optimizer": _everywhere(self._optimizer.state_dict()),
            "scaler": self._scaler.state_dict(),
        }

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a result of `state`, of this process or another."""
        for key, tensor in self.network.state_dict().items():
            tensor.copy_(spread_like(state["weights"][key], tensor))
        self.average.restore(state["average"])
        optimizer = state["optimizer"]
        moments = {
            number: {name: _spread_moment(value, self._parameters[number]) for name, value in values.items()}
            for number, values in optimizer["state"].items()
        }
        self._optimizer.load_state_dict({**optimizer, "state": moments})
        if state["scaler"]:
            self._scaler.load_state_dict(state["scaler"])


def _everywhere(values: Any) -> Any:
    """Copy nested values, with each tensor whole and on the CPU."""
    if isinstance(values, Tensor):
        return whole(values.detach()).cpu().clone()
    if isinstance(values, dict):
        return {key: _everywhere(value) for key, value in values.items()}
    return values


def _spread_moment(value: Any, parameter: Tensor) -> Any:
    """Distribute an optimizer's value as its parameter is, if it has one number for each element of that."""
    if isinstance(value, Tensor) and value.ndim > 0 and value.shape == parameter.shape:
        return spread_like(value, parameter)
    return value


def _seed(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
