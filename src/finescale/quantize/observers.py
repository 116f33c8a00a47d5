"""Observers, which find the range of a quantizer: adaptive dual clipping, extremes, percentiles.

Errors are computed in float64, and nearly equal ones count as equal, so that ranges are the same on every machine.
Letters: R rows with a range each, n numbers of a row, Q = 2^bits - 1.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from finescale.quantize.quantizer import fake_quantize, step_and_zero, zero_included
from finescale.quantize.settings import QuantSettings

Range = tuple[Tensor, Tensor]
"""Lower and upper bounds, (R,) each."""

TIE = 1e-6
"""Smallest difference between two errors that counts, as a share of the larger."""

KEPT = 0.9
"""Share of the old range in the published running average."""


class RangeObjective(Protocol):
    """Error that quantization with some bounds causes."""

    def __call__(self, rows: Tensor, low: Tensor, high: Tensor, /) -> Tensor:
        """Map indices of rows (r,) and bounds (r,) for them to their errors (r,), float64."""


class Observer:
    """Range of each row of the tensors seen so far, combined over batches.

    Args:
        settings: Of the quantization.
        bits: Width of this quantizer's integers.
        frequency: Measure errors by the spectra of maps (N, C, H, W) instead of their mean.
        per_row: Each place along the first axis is a row with its own range; else the whole tensor is one row.
    """

    def __init__(self, settings: QuantSettings, *, bits: int, frequency: bool = False, per_row: bool = False) -> None:
        self._settings = settings
        self._bits = bits
        self._frequency = frequency
        self._per_row = per_row
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
        lowest, highest = rows.aminmax(dim=1)
        if self._settings.include_zero:
            lowest, highest = zero_included(lowest, highest)
        if self._settings.method == "minmax":
            new = lowest, highest
            low, high = self._range or new
            self._range = torch.minimum(low, lowest), torch.maximum(high, highest)
        elif self._settings.method == "percentile":
            self._average(percentiles(rows, tail=self._settings.tail), times, running=False)
        else:
            spectral = SpectralError(x, settings=self._settings, bits=self._bits) if self._frequency else None
            new = clipped(
                (lowest, highest),
                spectral or AbsoluteError(rows, settings=self._settings, bits=self._bits),
                bits=self._bits,
                include_zero=self._settings.include_zero,
            )
            self._range = self._range or ((lowest, highest) if self._settings.averaging == "running" else None)
            self._average(new, times, running=self._settings.averaging == "running")

    def _average(self, new: Range, times: int, *, running: bool) -> None:
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


class AbsoluteError:
    """Mean distance of a row's numbers from their quantized values.

    The numbers are sorted once. Those with the same code are then adjacent, and so are those above and below the value
    of that code, so that their distances follow from sums of sorted numbers: an error takes time in proportion to the
    codes, not to the numbers.

    Args:
        rows: The numbers (R, n).
        settings: Of the quantization.
        bits: Width of the integers.
    """

    def __init__(self, rows: Tensor, *, settings: QuantSettings, bits: int) -> None:
        self._sorted = torch.from_numpy(np.sort(rows.cpu().numpy(), axis=1)).to(rows.device)
        self._sums = torch.zeros(rows.shape[0], rows.shape[1] + 1, dtype=torch.float64, device=rows.device)
        torch.cumsum(self._sorted, dim=1, dtype=torch.float64, out=self._sums[:, 1:])
        self._settings = settings
        self._bits = bits

    def __call__(self, rows: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Return the errors (r,) of rows with bounds, see `RangeObjective`."""
        if self._settings.include_zero:
            low, high = zero_included(low, high)
        step, zero = (term.double()[:, None] for term in step_and_zero(low, high, bits=self._bits))
        values = (torch.arange(2**self._bits, device=low.device) - zero) * step  # (r, Q + 1)
        between = (values[:, 1:] + values[:, :-1]) / 2
        points = torch.cat((values, between), dim=1).sort(dim=1).values  # value, middle, value, ...
        whole = len(rows) == len(self._sorted)
        numbers, sums = (self._sorted, self._sums) if whole else (self._sorted[rows], self._sums[rows])
        places = torch.searchsorted(numbers, points.float())
        places = torch.nn.functional.pad(places, (1, 0))
        places = torch.nn.functional.pad(places, (0, 1), value=numbers.shape[1])
        total = sums.gather(1, places).diff(dim=1)
        nearest = values.repeat_interleave(2, dim=1)
        excess = total - nearest * places.diff(dim=1)
        return (excess[:, 1::2] - excess[:, ::2]).sum(1) / numbers.shape[1]  # above their value, less those below


class SpectralError:
    """Mean distance between the magnitudes of a map's spectra before and after quantization.

    The spectra are of the rows of pixels of the mean over channels, and their magnitudes are summed over the images.

    Args:
        maps: (N, C, H, W).
        settings: Of the quantization.
        bits: Width of the integers.
    """

    def __init__(self, maps: Tensor, *, settings: QuantSettings, bits: int) -> None:
        self._maps = maps
        self._settings = settings
        self._bits = bits
        self._aim = _magnitudes(maps)
        width = maps.shape[-1]
        twice = torch.full((width // 2 + 1,), 2.0, dtype=torch.float64, device=maps.device)  # for negative frequencies
        twice[0] = 1
        if width % 2 == 0:
            twice[-1] = 1
        self._share = twice / (maps.shape[-2] * width)

    def __call__(self, _rows: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Return the error (1,) with bounds; there is one row."""
        if self._settings.include_zero:
            low, high = zero_included(low, high)
        quantized = fake_quantize(self._maps, low[0], high[0], bits=self._bits)
        return ((_magnitudes(quantized) - self._aim).abs() * self._share).sum()[None]


def _magnitudes(maps: Tensor) -> Tensor:
    """Magnitudes of spectra, (H, W // 2 + 1), float64."""
    spectra: Tensor = torch.fft.rfft(maps.mean(1, dtype=torch.float64))
    return spectra.abs().sum(0)
