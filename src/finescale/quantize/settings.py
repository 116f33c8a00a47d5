"""Settings of a quantization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from finescale.settings import Settings

Bits = Literal[4, 6, 8, 16]
"""Widths of the integers; 16 is for tests and comparisons."""

Method = Literal["dual", "minmax", "percentile"]
"""Methods to find ranges, see `QuantSettings.method`."""


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
    error falls (adaptive dual clipping); "percentile" leaves out the share ``tail`` at either end."""
    tail: float = Field(0.001, ge=0, lt=0.5)
    """Share of the values that "percentile" leaves out at either end; 0 is "minmax" of the mean batch."""
    averaging: Literal["mean", "running"] = "mean"
    """How the ranges of several batches are combined: by their mean, or "running" as published, which starts with the
    first batch's extremes and adds a tenth of each new range: the fewer batches, the less is clipped."""
    include_zero: bool = True
    """Extend ranges to include zero. Without it, as published, a range of one sign loses what is beyond its width."""
    epochs: int = Field(10, ge=0)
    """Passes of the refinement through the images; 0 skips it."""
    lr: float = Field(2e-3, gt=0)
    """Learning rate of the refinement (Adam), in units of ``lr_unit``."""
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
        return self.model_dump(exclude={"epochs", "lr", "lr_unit", "schedule", "refined_batch"})

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.keep and self.bits >= 8:
            raise ValueError(f"keep needs bits below 8, which its layers have, got bits = {self.bits}")
        if self.method == "dual" and 16 in (self.bits, self.edge_bits):
            raise ValueError("method must be 'minmax' or 'percentile' at 16 bits, got 'dual'")
        return self


RECIPES: Mapping[str, Mapping[str, Any]] = {
    "published": {"averaging": "running", "include_zero": False, "lr_unit": "absolute", "schedule": "constant"}
}
"""Settings by name; "published" has what the method's authors do otherwise than our defaults."""
