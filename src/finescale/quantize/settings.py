"""Settings of a quantization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from finescale.settings import Settings

Bits = Literal[2, 3, 4, 6, 8, 16]
"""Widths of the integers; 16 is for tests and comparisons."""

Method = Literal["dual", "minmax", "percentile", "density", "search"]
"""Methods to find ranges, see `QuantSettings.method`."""

Loss = Literal["mse", "l1", "ptq4sr", "distill", "2dquant"]
"""What the refinement makes small, see `QuantSettings.loss`."""

PERCENTILE_TAIL = 1e-3
DENSITY_TAIL, DENSITY_TAIL_8_BITS = 1e-4, 1e-5
"""Shares of values that are left out where `QuantSettings.tail` states none."""


class QuantSettings(Settings):
    """Settings of a quantization; the defaults suit networks of any family."""

    bits: Bits = 8
    """Width of the integers, for weights and activations."""
    edge_bits: Bits = 8
    """Width for the input image and for the result."""
    keep: tuple[str, ...] = ()
    """Layers that have 8 bits for weights and input regardless of ``bits``: "first", "last", or module paths in which
    ``*`` stands for any text."""
    method: Method = "dual"
    """How ranges are found: "minmax" takes the observed range; "dual" shrinks it from either end for as long as the
    error falls (adaptive dual clipping); "percentile" leaves out the share ``tail`` at either end; "density" leaves out
    the share ``tail`` at the ends where values are sparse, and nothing of weights (PTQ4SR); "search" takes the best of
    100 ranges by their squared error (2DQuant)."""
    tail: float | None = Field(None, ge=0, lt=0.5)
    """Share of the values that "percentile" leaves out at either end, and "density" altogether. None is 0.001 for
    "percentile", and for "density" 0.0001, or 0.00001 with 8 bits."""
    scheme: Literal["zero-point", "anchored"] = "zero-point"
    """What the integers stand for: "zero-point" includes zero, and engines can compute with it; "anchored" starts at
    the lower bound, and engines compute its values in floats."""
    granularity: Literal["row", "tensor"] = "row"
    """Whether each output channel of weights has a range, or all have one."""
    split_qkv: bool = False
    """Give queries, keys and values ranges of their own where one linear layer computes them: of its weights in thirds
    and of its input."""
    placement: Literal["all", "blocks"] = "all"
    """Where quantizers stand: "all" is the rule of the family; "blocks" leaves out what is outside the blocks, and
    convolutions larger than 1x1."""
    sides: Literal["both", "paper"] = "both"
    """Ends that "search" moves: "both" at once, or, as 2DQuant's paper states, the upper one alone for attention
    weights and for what follows an activation function."""
    averaging: Literal["mean", "running"] = "mean"
    """How the ranges of several batches are combined: by their mean, or "running" as published, which starts with the
    first batch's extremes and adds a tenth of each new range: the fewer batches, the less is clipped."""
    include_zero: bool = True
    """Extend ranges to include zero. Without it, as published, a range of one sign loses what is beyond its width.
    Anchored ranges lose nothing and are never extended."""
    epochs: int = Field(10, ge=0)
    """Passes of the refinement through the images; 0 skips it."""
    lr: float = Field(2e-3, gt=0)
    """Learning rate of the refinement (Adam), in units of ``lr_unit``."""
    weights_lr: float | None = Field(None, gt=0)
    """Learning rate of the ranges of weights; None is ``lr``. With it activations are trained first, in half of the
    epochs, and then weights."""
    lr_end: float = Field(0, ge=0, le=1)
    """Share of the learning rate that "cosine" ends with."""
    beta2: float = Field(0.999, gt=0, lt=1)
    """Decay of the mean of squared gradients in Adam."""
    loss: Loss = "mse"
    """What the refinement makes small: "mse" or "l1" of the answers; "ptq4sr" and "distill" add features of the
    residual groups to "l1"; "2dquant" is the published form of "distill", whose terms are divided twice."""
    bound_gradients: Literal["plain", "ptq4sr"] = "plain"
    """Gradients of anchored bounds: "ptq4sr" divides them by the root of the number of values, and values on a bound do
    not move it."""
    lr_unit: Literal["range", "absolute"] = "range"
    """Unit of the learning rate: "range" is the width of the quantizer's range, "absolute", as published, moves all
    bounds by the same numbers, whatever their ranges."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate over the steps: "cosine" falls to 0 by half a cosine, "constant" is as published."""
    observed_batch: int = Field(16, ge=1)
    """Batch size while ranges are found."""
    refined_batch: int = Field(2, ge=1)
    """Batch size while ranges are refined."""

    def of_ranges(self) -> dict[str, object]:
        """Return the fields that decide the ranges, and not only their refinement."""
        return self.model_dump(exclude=_OF_REFINEMENT)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.keep and self.bits >= 8:
            raise ValueError(f"keep needs bits below 8, which its layers have, got bits = {self.bits}")
        if self.method == "dual" and 16 in (self.bits, self.edge_bits):
            raise ValueError("method must be 'minmax' or 'percentile' at 16 bits, got 'dual'")
        if self.bound_gradients == "ptq4sr" and self.scheme != "anchored":
            raise ValueError(f"bound_gradients 'ptq4sr' needs scheme 'anchored', got {self.scheme!r}")
        return self


_OF_REFINEMENT = {
    "epochs", "lr", "weights_lr", "lr_end", "beta2", "lr_unit", "schedule", "loss", "bound_gradients", "refined_batch",
}  # fmt: skip

RECIPES: Mapping[str, Mapping[str, Any]] = {
    "published": {"averaging": "running", "include_zero": False, "lr_unit": "absolute", "schedule": "constant"},
    "ptq4sr": {
        "method": "density",
        "scheme": "anchored",
        "keep": ("first", "last"),
        "loss": "l1",
        "bound_gradients": "ptq4sr",
        "epochs": 2,
        "lr": 5e-3,
        "weights_lr": 5e-6,
        "lr_end": 0.4,
        "lr_unit": "absolute",
    },
    "2dquant": {
        "method": "search",
        "scheme": "anchored",
        "granularity": "tensor",
        "split_qkv": True,
        "placement": "blocks",
        "loss": "2dquant",
        "epochs": 2000,
        "lr": 0.01,
        "beta2": 0.99,
        "lr_unit": "absolute",
        "schedule": "constant",
        "observed_batch": 32,
        "refined_batch": 16,
    },
}
"""Settings by name: what authors do otherwise than our defaults. "published" is that of adaptive dual clipping."""


def recipe(name: str, *, bits: int) -> Mapping[str, Any]:
    """Return a recipe of `RECIPES` for a width of the integers; with 8 bits no layer can keep more."""
    return {field: value for field, value in RECIPES[name].items() if field != "keep" or bits < 8}
