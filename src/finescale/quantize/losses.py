"""Losses of the refinement: distance of a quantized network's answers, and features, from those of the float one.

Features are what the residual groups compute before their convolutions, maps (B, H, W, C) of B images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from finescale.quantize.settings import Loss

FEATURE_WEIGHT = 5.0
"""Weight of the features beside the answers, in both papers."""

WITH_FEATURES: frozenset[Loss] = frozenset({"ptq4sr", "distill", "2dquant"})
"""Losses that compare features too."""


def loss_of(kind: Loss, answer: Tensor, target: Tensor, features: Sequence[Tensor], aims: Sequence[Tensor]) -> Tensor:
    """Return a loss of `finescale.quantize.QuantSettings.loss`.

    Args:
        kind: Which one.
        answer: Of the quantized network, (B, C, H, W).
        target: Of the float network, same shape.
        features: Of each residual group of the quantized network; empty unless ``kind`` is in `WITH_FEATURES`.
        aims: Those of the float network.
    """
    if kind == "mse":
        return F.mse_loss(answer, target)
    distance = F.l1_loss(answer, target)
    if kind == "l1":
        return distance
    pairs = zip(features, aims, strict=True)
    if kind == "ptq4sr":
        return distance + FEATURE_WEIGHT * torch.stack([energy_distance(*pair) for pair in pairs]).mean()
    if kind == "distill":
        return distance + FEATURE_WEIGHT * torch.stack([direction_distance(*pair) for pair in pairs]).sum()
    published: Tensor = distance / answer[0].numel()
    return published + FEATURE_WEIGHT * torch.stack([mixed_distance(*pair) for pair in pairs]).sum()


def energy_distance(feature: Tensor, aim: Tensor) -> Tensor:
    """Mean squared distance of the energies of maps over all channels, of unit length in each image: PTQ4SR's."""
    found, wanted = (F.normalize(maps.square().mean(-1).flatten(1), dim=1) for maps in (feature, aim))
    return F.mse_loss(found, wanted)


def direction_distance(feature: Tensor, aim: Tensor) -> Tensor:
    """Squared distance of maps of unit length in each image, mean over the images; lengths have no gradient."""
    found, wanted = (
        maps.flatten(1) / maps.detach().flatten(1).norm(dim=1, keepdim=True).clamp_min(1e-12) for maps in (feature, aim)
    )
    distance: Tensor = (found - wanted).square().sum(1).mean()
    return distance


def mixed_distance(feature: Tensor, aim: Tensor) -> Tensor:
    """Return 2DQuant's published distance of maps; lengths have no gradient.

    Every image is divided by the length of every image, and the mean over these pairs and all numbers is divided by
    their count once more.
    """
    found, wanted = (maps.flatten(1).double() for maps in (feature, aim))
    of_found, of_wanted = (1 / maps.detach().norm(dim=1) for maps in (found, wanted))
    # Sum over images i and j of |found_j / length_i - wanted_j / length_i|²
    total = (
        of_found.square().sum() * found.square().sum()
        - 2 * (of_found * of_wanted).sum() * (found * wanted).sum()
        + of_wanted.square().sum() * wanted.square().sum()
    )
    count = len(found) * found.numel()
    mean: Tensor = total / count / count
    return mean.to(feature.dtype)


@contextmanager
def features_of(network: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the features of a network while the block runs.

    Yields:
        A list to which each group's feature is appended, and which the caller clears before each pass.

    Raises:
        ValueError: The network has no residual groups.
    """
    if not has_groups(network):
        raise ValueError(
            f"{type(network).__name__} has no residual groups, whose features the losses {', '.join(WITH_FEATURES)} "
            "compare; choose 'mse' or 'l1'"
        )
    seen: list[Tensor] = []
    hooks = [
        getattr(group, "residual_group", group).register_forward_hook(
            lambda _group, _inputs, output: seen.append(output)
        )
        for group in network.get_submodule("layers").children()
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def has_groups(network: nn.Module) -> bool:
    """Return whether a network is a row of residual groups."""
    return hasattr(network, "layers")
