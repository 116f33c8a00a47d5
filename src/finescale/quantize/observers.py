"""Observers, which find the range of a quantizer: dual clipping, extremes, percentiles, density clipping, a search.

Errors are computed in float64, and nearly equal ones count as equal, so that ranges are the same on every machine.
Letters: R rows with a range each, n numbers of a row, Q = 2^bits - 1.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from finescale.quantize.objectives import AbsoluteError, RangeObjective, SpectralError, SquaredError
from finescale.quantize.quantizer import zero_included
from finescale.quantize.settings import DENSITY_TAIL, DENSITY_TAIL_8_BITS, PERCENTILE_TAIL, QuantSettings

Range = tuple[Tensor, Tensor]
"""Lower and upper bounds, (R,) each."""

TIE = 1e-6
"""Smallest difference between two errors that counts, as a share of the larger."""

KEPT = 0.9
"""Share of the old range in the published running average."""

BINS = 2048
"""Bins of the histogram from which density clipping cuts."""

STEPS = 100
"""Ranges that the search compares."""


class Observer:
    """Range of each row of the tensors seen so far, combined over batches.

    Args:
        settings: Of the quantization.
        bits: Width of this quantizer's integers.
        frequency: Measure errors by the spectra of maps (N, C, H, W) instead of their mean.
        per_row: Each place along the first axis is a row with its own range; else the whole tensor is one row.
        upper_only: The search never moves the lower end.
    """

    def __init__(
        self,
        settings: QuantSettings,
        *,
        bits: int,
        frequency: bool = False,
        per_row: bool = False,
        upper_only: bool = False,
    ) -> None:
        self._settings = settings
        self._bits = bits
        self._frequency = frequency
        self._per_row = per_row
        self._upper_only = upper_only
        self._range: Range | None = None
        self._updates = 0

    def update(self, x: Tensor, *, times: int = 1) -> None:
        """Take in a tensor, or the same one several times at the cost of one search, for constants.

        Args:
            x: Input of the quantizer, of any shape.
            times: How often it is seen.
        """
        x = x.detach().float()
        rows = x.flatten(1) if self._per_row else x.reshape(1, -1)
        method, tail, bits = self._settings.method, self._settings.tail, self._bits
        if method == "percentile":
            self._average(percentiles(rows, tail=PERCENTILE_TAIL if tail is None else tail), times)
            return
        if method == "density" and not self._per_row:
            usual = DENSITY_TAIL_8_BITS if bits >= 8 else DENSITY_TAIL
            self._average(dense(rows, tail=usual if tail is None else tail), times)
            return
        extremes = rows.aminmax(dim=1)
        lowest, highest = zero_included(*extremes) if self._includes_zero else extremes
        if method == "search":
            error = SquaredError(rows, settings=self._settings, bits=bits)
            self._average(searched((lowest, highest), error, upper_only=self._upper_only), times)
        elif method == "dual":
            judge = SpectralError(x, settings=self._settings, bits=bits) if self._frequency else None
            new = clipped(
                (lowest, highest),
                judge or AbsoluteError(rows, settings=self._settings, bits=bits),
                bits=bits,
                include_zero=self._includes_zero,
            )
            running = self._settings.averaging == "running"
            self._range = self._range or ((lowest, highest) if running else None)
            self._average(new, times, running=running)
        else:
            low, high = self._range or (lowest, highest)
            self._range = torch.minimum(low, lowest), torch.maximum(high, highest)

    @property
    def _includes_zero(self) -> bool:
        return self._settings.include_zero and self._settings.scheme == "zero-point"

    def _average(self, new: Range, times: int, *, running: bool = False) -> None:
        kept = KEPT**times if running else self._updates / (self._updates + times)
        self._updates += times
        low, high = (
            kept * old.double() + (1 - kept) * found.double()
            for old, found in zip(self._range or new, new, strict=True)
        )
        self._range = low, high

    @property
    def bounds(self) -> Range:
        """Lower and upper bounds so far, (R,) or (), float32."""
        assert self._range is not None, "nothing was seen"
        low, high = (bound.float() if self._per_row else bound.float().squeeze(0) for bound in self._range)
        return low, high


def percentiles(rows: Tensor, *, tail: float) -> Range:
    """Return the range of each row (R, n) without a share ``tail`` at either end."""
    low, high = np.quantile(rows.cpu().numpy().astype(np.float64), (tail, 1 - tail), axis=1)
    return torch.from_numpy(low).to(rows.device), torch.from_numpy(high).to(rows.device)


def dense(rows: Tensor, *, tail: float) -> Range:
    """Return the range of each row (R, n) that density clipping finds: without sparse ends.

    The observed range is divided into `BINS` bins. Bins are cut off one by one, each at the end whose bin has fewer
    numbers, until no more than a share ``tail`` of the numbers is cut. As published the lower bound is the upper edge
    of its bin.
    """
    lowest, highest = rows.double().aminmax(dim=1)
    width = (highest - lowest)[:, None] / BINS
    places = ((rows - lowest[:, None]) / width.clamp_min(torch.finfo(torch.float64).tiny)).long().clamp_(0, BINS - 1)
    low, high = [], []
    for row in places:
        counts = torch.bincount(row, minlength=BINS).tolist()
        left, right, kept = 0, BINS - 1, len(row)
        while kept > (1 - tail) * len(row):
            if counts[left] < counts[right]:
                kept -= counts[left]
                left += 1
            else:
                kept -= counts[right]
                right -= 1
        low.append(left + 1)
        high.append(right + 1)
    edges = torch.tensor([low, high], dtype=torch.float64, device=rows.device) * width.T + lowest
    return edges[0], edges[1]


def searched(extremes: Range, objective: SquaredError, *, upper_only: bool) -> Range:
    """Return the best of `STEPS` ranges of each row, the widest of nearly equal ones.

    Args:
        extremes: Smallest and largest number of each row, the first range.
        objective: Error of the rows with many bounds.
        upper_only: The upper end moves down to the lower one; else both move to the middle.
    """
    lowest, highest = extremes
    step = (highest - lowest) / (STEPS if upper_only else 2 * STEPS)
    moves = torch.arange(STEPS, device=lowest.device)[:, None] * step  # (STEPS, R)
    lows, highs = (lowest.expand_as(moves) if upper_only else lowest + moves), highest - moves
    errors = objective(lows, highs)
    good = errors <= errors.amin(0) * (1 + TIE)
    rows = torch.arange(len(lowest), device=lowest.device)
    first = torch.where(good, torch.arange(STEPS, device=lowest.device)[:, None], STEPS).amin(0)
    return lows[first, rows], highs[first, rows]


def clipped(extremes: Range, objective: RangeObjective, *, bits: int, include_zero: bool) -> Range:
    """Return the ranges that adaptive dual clipping finds.

    The full range is divided into 2^bits bins. Bins are cut off one by one, each at the end that leaves the smaller
    error; the first cut that makes the error larger is undone and ends the search. The error of the full range is not
    computed, so at least one bin is cut.

    Args:
        extremes: Smallest and largest number of each row.
        objective: Error of the rows with given bounds.
        bits: Width of the integers.
        include_zero: Never cut off zero.
    """
    lowest, highest = extremes
    bins = 2**bits
    edges = _edges(lowest, highest, bins)
    low, high = lowest.clone(), highest.clone()
    left, right = torch.zeros_like(lowest, dtype=torch.long), torch.full_like(lowest, bins, dtype=torch.long)
    before = torch.full_like(lowest, torch.inf, dtype=torch.float64)
    live = torch.arange(len(lowest), device=lowest.device)
    while len(live):
        at, to = left[live], right[live]
        ends = [edges[live, place] for place in (at, at + 1, to - 1, to)]
        from_left, from_right = objective(live, ends[1], ends[3]), objective(live, ends[0], ends[2])
        if include_zero:
            from_left = from_left.masked_fill(ends[1] > 0, torch.inf)
            from_right = from_right.masked_fill(ends[2] < 0, torch.inf)
        cut_left = from_right - from_left > TIE * from_right  # a tie is a cut from the right, as published
        loss = torch.where(cut_left, from_left, from_right)
        better = loss <= before[live]
        better &= loss < torch.inf
        live, cut_left, loss = live[better], cut_left[better], loss[better]
        left[live] += cut_left.long()
        right[live] -= (~cut_left).long()
        low[live], high[live] = edges[live, left[live]], edges[live, right[live]]
        before[live] = loss
        live = live[left[live] + 1 < right[live]]
    return low, high


def _edges(lowest: Tensor, highest: Tensor, bins: int) -> Tensor:
    """Edges of the bins, (R, bins + 1); where all numbers are equal, those of a range of width 1 around them."""
    flat = lowest == highest
    lowest, highest = torch.where(flat, lowest - 0.5, lowest), torch.where(flat, highest + 0.5, highest)
    width = (highest - lowest) / bins
    place = torch.arange(bins + 1, device=lowest.device)
    # Counted from the nearer end, so that both ends are exact.
    from_low = lowest[:, None] + place * width[:, None]
    from_high = highest[:, None] - (bins - place) * width[:, None]
    return torch.where(place < (bins + 1) // 2, from_low, from_high)
