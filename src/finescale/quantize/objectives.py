"""Errors that quantization with some range causes, by which observers choose.

They are computed in float64. Letters: R rows with a range each, n numbers of a row, Q = 2^bits - 1.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from finescale.quantize.quantizer import fake_quantize, values_of, zero_included
from finescale.quantize.settings import QuantSettings


class RangeObjective(Protocol):
    """Error that quantization with some bounds causes."""

    def __call__(self, rows: Tensor, low: Tensor, high: Tensor, /) -> Tensor:
        """Map indices of rows (r,) and bounds (r,) for them to their errors (r,), float64."""


class _SortedRows:
    """Numbers of rows, sorted once, with sums of them.

    Those with the same code are then adjacent, and so are those above and below the value of that code, so that errors
    follow from sums of sorted numbers: one takes time in proportion to the codes, not to the numbers.

    Args:
        rows: The numbers (R, n).
        settings: Of the quantization.
        bits: Width of the integers.
    """

    def __init__(self, rows: Tensor, *, settings: QuantSettings, bits: int) -> None:
        self._sorted = torch.from_numpy(np.sort(rows.cpu().numpy(), axis=1)).to(rows.device)
        self._sums = _running_sums(self._sorted)
        self._settings = settings
        self._bits = bits

    def _values(self, low: Tensor, high: Tensor) -> Tensor:
        """Values (..., Q + 1) of quantizers with bounds (...), rising, in float64."""
        anchored = self._settings.scheme == "anchored"
        if self._settings.include_zero and not anchored:
            low, high = zero_included(low, high)
        ends = low[..., None].double(), high[..., None].double()
        numbers = torch.arange(2**self._bits, device=low.device)
        return values_of(numbers, *ends, bits=self._bits, anchored=anchored)


def _running_sums(numbers: Tensor) -> Tensor:
    """Sums of the first 0 to n numbers of rows (R, n), as (R, n + 1) float64."""
    sums = numbers.new_zeros(numbers.shape[0], numbers.shape[1] + 1, dtype=torch.float64)
    torch.cumsum(numbers, dim=1, dtype=torch.float64, out=sums[:, 1:])
    return sums


class AbsoluteError(_SortedRows):
    """Mean distance of a row's numbers from their quantized values; the arguments are those of `_SortedRows`."""

    def __call__(self, rows: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Return the errors (r,) of rows with bounds, see `RangeObjective`."""
        values = self._values(low, high)
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


class SquaredError(_SortedRows):
    """Root of the summed squared distances of a row's numbers from their quantized values.

    Args:
        rows: The numbers (R, n).
        settings: Of the quantization.
        bits: Width of the integers.
    """

    def __init__(self, rows: Tensor, *, settings: QuantSettings, bits: int) -> None:
        super().__init__(rows, settings=settings, bits=bits)
        self._squares = _running_sums(self._sorted.double().square())

    def __call__(self, low: Tensor, high: Tensor) -> Tensor:
        """Return the errors (K, R), float64, with K bounds (K, R) for each row."""
        at_once = max(1, _POINTS_AT_ONCE // (low.shape[1] * 2**self._bits))
        parts = zip(torch.split(low, at_once), torch.split(high, at_once), strict=True)
        return torch.cat([self._errors(*part) for part in parts])

    def _errors(self, low: Tensor, high: Tensor) -> Tensor:
        values = self._values(low.T, high.T)  # (R, K, Q + 1)
        between = (values[..., 1:] + values[..., :-1]) / 2
        places = torch.searchsorted(self._sorted, between.flatten(1).float()).reshape(between.shape)
        places = torch.nn.functional.pad(places, (1, 0))
        places = torch.nn.functional.pad(places, (0, 1), value=self._sorted.shape[1])
        total, squares = (
            sums.gather(1, places.flatten(1)).reshape(places.shape).diff(dim=-1) for sums in (self._sums, self._squares)
        )
        errors = squares - 2 * values * total + values.square() * places.diff(dim=-1)
        roots: Tensor = errors.sum(-1).clamp_min(0).sqrt()
        return roots.T


_POINTS_AT_ONCE = 2**21
"""How many values of quantizers `SquaredError` looks up together, which limits its memory."""


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
        anchored = self._settings.scheme == "anchored"
        if self._settings.include_zero and not anchored:
            low, high = zero_included(low, high)
        quantized = fake_quantize(self._maps, low[0], high[0], bits=self._bits, anchored=anchored)
        return ((_magnitudes(quantized) - self._aim).abs() * self._share).sum()[None]


def _magnitudes(maps: Tensor) -> Tensor:
    """Magnitudes of spectra, (H, W // 2 + 1), float64."""
    spectra: Tensor = torch.fft.rfft(maps.mean(1, dtype=torch.float64))
    return spectra.abs().sum(0)
