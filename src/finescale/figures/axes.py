"""Axes of figures: round ticks, scales from values to positions, and the grid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from finescale.figures import svg

TICK_SIZE = 13
"""Font size of the labels of a grid."""

GRID_COLOUR = "#ddd"

_MARGIN = 0.12  # of the range of the values, on each side


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Map from the values of an axis to positions in a figure."""

    low: float
    """Value at ``begin``."""
    high: float
    """Value at ``end``, which is larger."""
    begin: float
    """Position of ``low``."""
    end: float
    """Position of ``high``; before ``begin`` on an axis that points up."""

    @classmethod
    def around(cls, values: Sequence[float], *, min_range: float, begin: float, end: float) -> Scale:
        """Scale with a margin around the values, whose range is taken as at least ``min_range``."""
        middle, extent = (min(values) + max(values)) / 2, max(max(values) - min(values), min_range)
        half = (0.5 + _MARGIN) * extent
        return cls(low=middle - half, high=middle + half, begin=begin, end=end)

    def __call__(self, value: float) -> float:
        """Return the position of a value."""
        return self.begin + (value - self.low) / (self.high - self.low) * (self.end - self.begin)

    def ticks(self, *, num: int) -> list[float]:
        """Return about ``num`` round values within the scale."""
        return [tick for tick in ticks(self.low, self.high, num=num) if self.low <= tick <= self.high]


def ticks(low: float, high: float, *, num: int) -> list[float]:
    """Return round numbers that cover a range; their distance is 1, 2 or 5 times a power of ten.

    Args:
        low: Lower end of the range.
        high: Upper end, which is larger.
        num: Number of ticks, approximately.
    """
    rough = (high - low) / (num - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return [number * step for number in range(math.floor(low / step), math.ceil(high / step) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times the powers of ten between 10**low and 10**high."""
    exponents = range(math.floor(low), math.ceil(high) + 1)
    values = [factor * 10.0**exponent for exponent in exponents for factor in (1, 2, 5)]
    return [value for value in values if low <= math.log10(value) <= high]


def grid(across: Scale, up: Scale, *, columns: Mapping[float, str], rows: Mapping[float, str]) -> list[str]:
    """Draw grid lines with their labels below and on the left.

    Args:
        across: The horizontal axis, from left to right.
        up: The vertical axis, from the bottom to the top.
        columns: Labels by their values on ``across``.
        rows: Labels by their values on ``up``.
    """
    parts = []
    for value, label in rows.items():
        y = up(value)
        parts.append(svg.line(across.begin, y, across.end, y, colour=GRID_COLOUR))
        parts.append(svg.text(across.begin - 10, y + 4, label, size=TICK_SIZE, anchor="end"))
    for value, label in columns.items():
        x = across(value)
        parts.append(svg.line(x, up.begin, x, up.end, colour=GRID_COLOUR))
        parts.append(svg.text(x, up.begin + 20, label, size=TICK_SIZE, anchor="middle"))
    return parts
