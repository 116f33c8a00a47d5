"""What finds the range of a quantizer from the tensors that pass: adaptive dual clipping, extremes, percentiles.

Scores are computed in float64, and nearly equal ones count as equal, so that ranges are the same on every machine.
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
"""Share of the larger by which two scores differ at least."""

KEPT = 0.9
"""Share of the old in the published running average."""


class Score(Protocol):
    """How bad bounds are for the rows with some numbers."""

    def __call__(self, rows: Tensor, low: Tensor, high: Tensor, /) -> Tensor:
        """From numbers of rows (r,) and bounds (r,) for them to (r,), float64."""


class Observer:
    """Sees tensors and keeps a range for each row, combined over batches.

    Args:
        settings: Of the quantization.
        bits: Width of this quantizer's integers.
        frequency: Whether errors are judged by spectra, of maps (N, C, H, W); else by their mean.
        per_row: Whether each place along the first axis has a range of its own; else a tensor is one row.
    """

    def __init__(self, settings: QuantSettings, *, bits: int, frequency: bool = False, per_row: bool = False) -> None:
        self._settings = settings
        self._bits = bits
        self._frequency = frequency
        self._per_row = per_row
        self._range: Range | None = None
        self._updates = 0

    def update(self, x: Tensor, *, times: int = 1) -> None:
        """See a tensor, or the same one several times over: constants need one search.

        Args:
            x: What passes the quantizer, of any shape.
            times: How often.
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
            score = SpectralError(x, settings=self._settings, bits=self._bits) if self._frequency else None
            new = clipped(
                (lowest, highest),
                score or AbsoluteError(rows, settings=self._settings, bits=self._bits),
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
        """Lower and upper bounds, (R,) or (), float32."""
        assert self._range is not None, "nothing was seen"
        low, high = (bound.float() if self._per_row else bound.float().squeeze(0) for bound in self._range)
        return low, high


def percentiles(rows: Tensor, *, tail: float) -> Range:
    """Between which numbers each row (R, n) lies, but for a share ``tail`` at either end."""
    low, high = np.quantile(rows.cpu().numpy().astype(np.float64), (tail, 1 - tail), axis=1)
    return torch.from_numpy(low).to(rows.device), torch.from_numpy(high).to(rows.device)


def clipped(extremes: Range, score: Score, *, bits: int, include_zero: bool) -> Range:
    """The ranges that adaptive dual clipping finds.

    The full range is divided into 2^bits bins. A bin is cut from one end after the other, each time from that which
    leaves the better score; the first cut that makes it worse is undone and ends the search. The full range itself is
    not scored, so one bin is cut at least.

    Args:
        extremes: Smallest and largest number of each row.
        score: See `Score`.
        bits: Width of the integers.
        include_zero: Never to cut zero off.
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
        from_left, from_right = score(live, ends[1], ends[3]), score(live, ends[0], ends[2])
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
    """Bounds of the bins, (R, bins + 1); where all numbers are equal, those of a range of width 1 around them."""
    flat = lowest == highest
    lowest, highest = torch.where(flat, lowest - 0.5, lowest), torch.where(flat, highest + 0.5, highest)
    width = (highest - lowest) / bins
    place = torch.arange(bins + 1, device=lowest.device)
    # From the nearer end, which is exact then.
    from_low = lowest[:, None] + place * width[:, None]
    from_high = highest[:, None] - (bins - place) * width[:, None]
    return torch.where(place < (bins + 1) // 2, from_low, from_high)


class AbsoluteError:
    """Mean distance of a row's numbers from what the quantizer makes of them.

    The numbers are sorted once. All that become the same code lie side by side, and so do those above and below what
    the code stands for, so that their distances follow from sums of sorted numbers: a score takes time in proportion to
    the codes, not to the numbers.

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
        """See `Score`."""
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
    """Mean distance of the magnitudes of a map's spectra from those of the quantized map's.

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
        """See `Score`; there is one row."""
        if self._settings.include_zero:
            low, high = zero_included(low, high)
        quantized = fake_quantize(self._maps, low[0], high[0], bits=self._bits)
        return ((_magnitudes(quantized) - self._aim).abs() * self._share).sum()[None]


def _magnitudes(maps: Tensor) -> Tensor:
    """(H, W // 2 + 1), float64."""
    spectra: Tensor = torch.fft.rfft(maps.mean(1, dtype=torch.float64))
    return spectra.abs().sum(0)
