"""Published rules of counting, each for any network, whoever printed numbers by it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from finescale.networks import counting
from finescale.settings import suggest


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One published rule of counting."""

    title: str
    """Heading of its column in a table."""
    about: str
    """What it counts, and who prints numbers by it."""
    unit: Literal["operations", "bytes", "values"]
    """Of the numbers."""
    count: counting.CountingRule
    """How it counts a network."""


RULES: Mapping[str, Rule] = {
    "fvcore": Rule(
        title="fvcore",
        about="multiply-adds, and 5, 2 and 1 for each element of a LayerNorm, a BatchNorm and a global mean; "
        "papers of HiT-SR, DAT and SRFormer, and SwinIR in later papers",
        unit="operations",
        count=counting.count_as_fvcore,
    ),
    "torchinfo": Rule(
        title="torchinfo",
        about="parameters of a convolution for each pixel, of other layers once for each window or image, no products "
        "of attention; Multi-Adds of DRCT's README",
        unit="operations",
        count=counting.count_as_torchinfo,
    ),
    "torchinfo-pass": Rule(
        title="forward/backward pass",
        about="8 bytes for each value that a layer with parameters computes; Forward of DRCT's README",
        unit="bytes",
        count=counting.count_pass_as_torchinfo,
    ),
    "linear-2d": Rule(
        title="linear in 2-D",
        about="convolutions, and linear layers as if their input had two dimensions; FLOPs of DRCT's README",
        unit="operations",
        count=counting.count_linear_in_two_dimensions,
    ),
    "swinir": Rule(
        title="SwinIR's method",
        about="multiply-adds, and 1 for each element of a LayerNorm, with the closing convolution and the head counted "
        "as in SwinIR's code; papers of SwinIR",
        unit="operations",
        count=counting.count_as_swinir,
    ),
    "swinir-size": Rule(
        title="without tables",
        about="parameters but those of tables of relative positions; papers of SwinIR",
        unit="values",
        count=counting.count_parameters_without_tables,
    ),
}
"""Rules by their names."""

ALL = "all"
"""Name that stands for every rule."""


def rules_named(names: Iterable[str]) -> dict[str, Rule]:
    """Return rules by their names, in the order of `RULES`; "all" stands for every one.

    Raises:
        ValueError: There is no such rule.
    """
    names = list(names)
    for name in names:
        if name != ALL and name not in RULES:
            raise ValueError(
                f"no counting rule is called {name!r}{suggest(name, RULES)}; known: {', '.join(RULES)}, or {ALL}"
            )
    return {name: rule for name, rule in RULES.items() if name in names or ALL in names}
