"""A whole quantization: targets, baselines, the two stages and what they reach; it goes on where it was interrupted."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from finescale.networks import Frame
from finescale.networks.placement import Placement
from finescale.quantize.calibrate import calibrate
from finescale.quantize.modules import insert_quantizers, quantizers, switch
from finescale.quantize.refine import Refinement, refine
from finescale.quantize.resume import load_standing, save_standing
from finescale.quantize.settings import Method, QuantSettings

REFINED = "refined"
"""What stage 2 reaches, beside the names of `Method` for what its ranges reach."""

OnProgress = Callable[[str, int, int], None]
"""Name of a stage, and how many of its parts are done of how many."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Material:
    """The images of a quantization, and how they are shown to the network."""

    images: Tensor
    """To learn from, (N, C, H, W) in [0, 1]."""
    held_out: Tensor
    """To measure on, likewise."""
    extend: Callable[[Tensor], Tensor] = lambda images: images
    """What test code adds to images at the bottom and on the right; answers are cropped again."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a quantization reached."""

    fidelity: Mapping[str, float]
    """For each way to find ranges, and for `REFINED`: PSNR in dB of the quantized network's answers against the float
    network's, on images that nothing was learned from."""
    losses: Sequence[float]
    """Mean squared difference in each epoch of the refinement."""


def quantize_network(
    network: Frame,
    material: Material,
    placement: Placement,
    settings: QuantSettings,
    *,
    state: Path | None = None,
    identity: Mapping[str, Any] | None = None,
    on_progress: OnProgress = lambda _stage, _done, _total: None,
) -> Outcome:
    """Quantize a network in place: find ranges, by every method for comparison and then by that asked for; refine them.

    Args:
        network: A float network, in evaluation mode.
        material: See there.
        placement: What its family says of its quantization.
        settings: See there.
        state: File that keeps what is done, after the ranges and after each epoch, and is deleted at the end; one that
            is there is gone on from. None keeps nothing.
        identity: What decides the result besides ``settings``, as plain values; a state of another is refused.
        on_progress: Called whenever a part of a stage is done.

    Raises:
        CheckpointError: ``state`` is of another quantization, or damaged.
        NumericalError: The refinement fails.
        ValueError: As for `insert_quantizers` and `calibrate`.
    """
    known = json.dumps({"settings": settings.model_dump(mode="json"), **(identity or {})}, sort_keys=True)
    batches = [material.extend(batch) for batch in torch.split(material.images, settings.refined_batch)]
    unseen = [material.extend(batch) for batch in torch.split(material.held_out, settings.refined_batch)]
    float_parts = count(1)
    size = material.images.shape[-2], material.images.shape[-1]

    def answer(batch: Tensor) -> Tensor:
        answered = _answer(network, batch, size)
        on_progress("float answers", next(float_parts), len(batches) + len(unseen))
        return answered

    targets, wanted = [answer(batch) for batch in batches], [answer(batch) for batch in unseen]
    insert_quantizers(network, placement, settings)
    if state is not None and state.exists():
        fidelity, progress = load_standing(state, network, identity=known)
    else:
        fidelity, progress = {}, Refinement()
        observed = [material.extend(batch) for batch in torch.split(material.images, settings.observed_batch)]
        for method in _methods(settings):
            parts = count(1)
            calibrate(
                network,
                observed,
                placement,
                settings.model_copy(update={"method": method}),
                on_batch=lambda: on_progress(f"ranges by {method}", next(parts), len(observed)),  # noqa: B023
            )
            fidelity[method] = _fidelity(network, unseen, wanted)

    def keep(progress: Refinement) -> None:
        if state is not None:
            save_standing(state, network, identity=known, fidelity=fidelity, progress=progress)

    keep(progress)
    steps = count(len(progress.losses) * len(batches) + 1)
    refine(
        network,
        batches,
        targets,
        settings,
        progress=progress,
        on_step=lambda _: on_progress("refinement", next(steps), settings.epochs * len(batches)),
        on_epoch=keep,
    )
    if settings.epochs:
        fidelity[REFINED] = _fidelity(network, unseen, wanted)
    if state is not None:
        state.unlink(missing_ok=True)
    return Outcome(fidelity=fidelity, losses=progress.losses)


def sensitivity(
    network: nn.Module,
    images: Sequence[Tensor],
    *,
    on_layer: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[str, float]:
    """What each layer, or product of attention, costs when it alone is quantized.

    Args:
        network: Quantized; it is so again at the end.
        images: Batches (N, C, H, W) to measure on.
        on_layer: Called after each one with how many are done of how many.

    Returns:
        Path to the mean squared difference from the float network's answers, the costliest first.
    """
    groups: dict[str, set[str]] = {}
    for path in quantizers(network):
        groups.setdefault(path.rpartition(".")[0] or path, set()).add(path)
    try:
        switch(network, on=False)
        wanted = [_answer(network, batch) for batch in images]
        costs = {}
        for done, (layer, paths) in enumerate(groups.items(), start=1):
            switch(network, on=True, only=paths)
            costs[layer] = _difference(network, images, wanted)
            on_layer(done, len(groups))
    finally:
        switch(network, on=True)
    return dict(sorted(costs.items(), key=lambda cost: -cost[1]))


def _methods(settings: QuantSettings) -> list[Method]:
    """All that exist at this width, the one asked for as the last."""
    others: list[Method] = [method for method in get_args(Method) if method != settings.method]
    if 16 in (settings.bits, settings.edge_bits):
        others.remove("dual")
    return [*others, settings.method]


def _answer(network: nn.Module, batch: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """The network's answer, cropped to what it makes of the first ``size`` pixels, by default of all."""
    with torch.no_grad():
        answer: Tensor = network(batch)
    height, width = batch.shape[-2:] if size is None else size
    scale = answer.shape[-1] // batch.shape[-1]
    return answer[..., : scale * height, : scale * width]


def _difference(network: nn.Module, batches: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """Mean squared difference of the network's answers from those that are wanted, which may be cropped."""
    total, numbers = 0.0, 0
    with torch.no_grad():
        for batch, aim in zip(batches, wanted, strict=True):
            answer = network(batch)[..., : aim.shape[-2], : aim.shape[-1]]
            total += F.mse_loss(answer, aim, reduction="sum").item()
            numbers += aim.numel()
    return total / numbers


def _fidelity(network: nn.Module, batches: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    difference = _difference(network, batches, wanted)
    return -10 * math.log10(difference) if difference else math.inf
