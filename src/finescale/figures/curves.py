"""Curves of a training as a picture."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

import pyvips

_WIDTH, _HEIGHT = 900, 260  # pixels, of one curve
_LEFT, _RIGHT, _TOP, _BOTTOM = 90, 30, 50, 40  # around what is drawn
_TITLE = 50  # pixels above all
_INK, _FAINT, _LINE = "#222222", "#dddddd", "#0b62a4"


@dataclass(frozen=True)
class Series:
    """Values over steps."""

    name: str
    """What is drawn, with its unit."""
    points: Sequence[tuple[int, float]]
    """Steps and values, at least one; values that are not finite are left out."""


def draw_curves(series: Sequence[Series], *, title: str) -> bytes:
    """Curves under one another, over the same steps, each with the range of its own values.

    Args:
        series: What to draw.
        title: Stands above all.

    Returns:
        A PNG file.
    """
    last = max(step for one in series for step, _ in one.points)
    height = _TITLE + _HEIGHT * len(series)
    parts = [_text(_LEFT, 34, f"{title}, {last:,} steps", size=20)]
    for number, one in enumerate(series):
        panel = "".join(_panel(one, max(last, 1)))
        parts.append(f'<g transform="translate(0 {_TITLE + number * _HEIGHT})">{panel}</g>')
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" font-family="sans-serif">'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>'
    )
    picture = pyvips.Image.svgload_buffer(svg.encode()).flatten(background=255)
    png: bytes = picture.write_to_buffer(".png", keep="none")
    return png


def ticks(low: float, high: float, *, num: int) -> list[float]:
    """Round numbers that cover a range, 1, 2 or 5 times a power of ten apart.

    Args:
        low: The least value.
        high: The largest value, which is larger.
        num: About how many.
    """
    rough = (high - low) / (num - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return [number * step for number in range(math.floor(low / step), math.ceil(high / step) + 1)]


def _panel(series: Series, last: int) -> list[str]:
    points = [(step, value) for step, value in series.points if math.isfinite(value)]
    values = [value for _, value in points] or [0.0]
    low, high = min(values), max(values)
    if high - low < 1e-6 * max(abs(high), 1e-6):  # one value has no range
        low, high = low - abs(low or 1) / 10, high + abs(high or 1) / 10
    rows, columns = ticks(low, high, num=5), [tick for tick in ticks(0, last, num=9) if tick <= last]
    low, high = rows[0], rows[-1]

    def x(step: float) -> float:
        return _LEFT + step / last * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    last_value = f", last {points[-1][1]:.4g}" if points else ""
    parts = [_text(_LEFT, 30, series.name + last_value, size=15)]
    for tick in rows:
        parts.append(_line(_LEFT, y(tick), _WIDTH - _RIGHT, y(tick)))
        parts.append(_text(_LEFT - 10, y(tick) + 4, f"{tick:.6g}", anchor="end"))
    for tick in columns:
        parts.append(_line(x(tick), _TOP, x(tick), _HEIGHT - _BOTTOM))
        parts.append(_text(x(tick), _HEIGHT - _BOTTOM + 20, f"{tick:,.0f}", anchor="middle"))
    path = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in points)
    parts.append(f'<polyline points="{path}" fill="none" stroke="{_LINE}" stroke-width="2" stroke-linejoin="round"/>')
    if points:
        step, value = points[-1]
        parts.append(f'<circle cx="{x(step):.1f}" cy="{y(value):.1f}" r="3.5" fill="{_LINE}"/>')
    return parts


def _text(x: float, y: float, text: str, *, size: int = 13, anchor: str = "start") -> str:
    escaped = html.escape("".join(c for c in text if c.isprintable()))
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{_INK}" text-anchor="{anchor}">{escaped}</text>'


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{_FAINT}"/>'
