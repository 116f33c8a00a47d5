"""Multiply-adds of the published networks, by what each family declares of its own."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from finescale.metrics.cost import Beyond, Operations
from finescale.networks import FAMILIES


def beyond() -> Mapping[type[nn.Module], Beyond]:
    """Return `Publication.beyond` of all families together, for `finescale.metrics.cost.count_operations`."""
    return {kind: extra for family in FAMILIES.values() for kind, extra in family.publication.beyond.items()}


def count_by_rule(rule: str, network: nn.Module, shape: tuple[int, ...], operations: Operations) -> int | None:
    """Count the multiply-adds of one of our networks by a rule of authors; return None for a rule that no family knows.

    Args:
        rule: `finescale.networks.Count.rule` of a number that the authors print.
        network: Our network; it is not changed.
        shape: Shape of the input, (N, C, H, W).
        operations: Operations of the same network for the same input.
    """
    for family in FAMILIES.values():
        if rule in family.publication.counting:
            return family.publication.counting[rule](network, shape, operations)
    return None
