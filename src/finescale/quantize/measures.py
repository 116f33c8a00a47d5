"""Measures of a quantized network: how close its answers come to those of the float network, and what costs most."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from finescale.quantize.crops import CalibrationImages
from finescale.quantize.modules import quantizers, switch


@dataclass(frozen=True, eq=False, kw_only=True)
class Aims:
    """The float network's answers to the images of a quantization."""

    images: Tensor
    """To learn from, padded, (N, C, H, W)."""
    answers: Tensor
    """To these images, without what belongs to padding."""
    unseen: Sequence[Tensor]
    """Batches to measure on, padded."""
    wanted: Sequence[Tensor]
    """Answers to these batches."""

    @classmethod
    def of(
        cls, network: nn.Module, material: CalibrationImages, *, batch: int, on_batch: Callable[[int, int], None]
    ) -> Aims:
        """Compute the answers of a float network.

        Args:
            network: Without quantizers.
            material: The images.
            batch: How many images are computed at a time.
            on_batch: Called after each with how many batches are done, and of how many.
        """
        learned, unseen = (
            [material.pad(part) for part in torch.split(images, batch)]
            for images in (material.images, material.held_out)
        )
        size = material.images.shape[-2], material.images.shape[-1]
        answers = []
        for part in (*learned, *unseen):
            answers.append(_answer(network, part, size))
            on_batch(len(answers), len(learned) + len(unseen))
        return cls(
            images=torch.cat(learned),
            answers=torch.cat(answers[: len(learned)]),
            unseen=unseen,
            wanted=answers[len(learned) :],
        )

    def fidelity(self, network: nn.Module) -> float:
        """Return the PSNR of a network's answers to the images to measure on, in dB."""
        difference = _difference(network, self.unseen, self.wanted)
        return -10 * math.log10(difference) if difference else math.inf


def sensitivity(
    network: nn.Module,
    images: Sequence[Tensor],
    *,
    on_layer: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[str, float]:
    """Measure the error that each layer, or product of attention, causes when it alone is quantized.

    Args:
        network: Quantized; all its quantizers are on again at the end.
        images: Batches (N, C, H, W) to measure on.
        on_layer: Called after each layer with how many are done, and of how many.

    Returns:
        Path to the mean squared difference from the float network's answers, the largest first.
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


def _answer(network: nn.Module, batch: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """The network's answer, cropped to what belongs to the first ``size`` pixels, by default to all."""
    with torch.no_grad():
        answer: Tensor = network(batch)
    height, width = batch.shape[-2:] if size is None else size
    scale = answer.shape[-1] // batch.shape[-1]
    return answer[..., : scale * height, : scale * width]


def _difference(network: nn.Module, batches: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """Mean squared difference of the network's answers from the wanted ones, which may be cropped."""
    total, numbers = 0.0, 0
    with torch.no_grad():
        for batch, aim in zip(batches, wanted, strict=True):
            answer = network(batch)[..., : aim.shape[-2], : aim.shape[-1]]
            total += F.mse_loss(answer, aim, reduction="sum").item()
            numbers += aim.numel()
    return total / numbers
