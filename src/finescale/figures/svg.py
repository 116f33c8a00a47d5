"""Figures as SVG, written by hand, and as PNG, which libvips makes of it."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path

import pyvips
import torch
from torch import Tensor

from finescale.errors import ImageWriteError, printable_name
from finescale.system.files import whole_file

SUFFIXES = (".svg", ".png")
"""Kinds of files that a figure can be."""

PIXEL_DENSITY = 2
"""Pixels of a PNG for each unit of its SVG."""

FONT = "DejaVu Sans, Verdana, Arial, sans-serif"
LETTER = 0.62
"""Width of an average letter, as a share of the font's size; on the high side."""


def svg(width: float, height: float, parts: list[str]) -> str:
    """A figure on white from its parts, in units of one pixel on a screen."""
    return "\n".join(
        [
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}" font-family="{FONT}">',
            f'<rect width="{width:g}" height="{height:g}" fill="white"/>',
            *parts,
            "</svg>\n",
        ]
    )


def text(
    x: float, y: float, content: str, *, size: float = 12, colour: str = "#222", anchor: str = "start", turn: float = 0
) -> str:
    """Text on a line at y that begins, has its middle, or ends at x; turned by so many degrees about that point."""
    turned = f' transform="rotate({turn:g} {x:g} {y:g})"' if turn else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="{colour}" text-anchor="{anchor}"{turned}>'
        f"{escape(content)}</text>"
    )


def line(x1: float, y1: float, x2: float, y2: float, *, colour: str = "#222", width: float = 1) -> str:
    """A straight line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width:g}"/>'


def circle(x: float, y: float, *, radius: float, colour: str, filled: bool) -> str:
    """A circle, or a ring."""
    fill = colour if filled else "none"
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{fill}" stroke="{colour}" stroke-width="2"/>'


def frame(x: float, y: float, width: float, height: float, *, colour: str) -> str:
    """The outline of a rectangle."""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="none" '
        f'stroke="{colour}" stroke-width="2"/>'
    )


def picture(x: float, y: float, pixels: Tensor, *, enlarged: int) -> str:
    """An image (3, H, W) in [0, 1] of which each pixel becomes a square of ``enlarged`` units."""
    levels = (pixels.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().cpu()
    png = pyvips.Image.new_from_array(levels.numpy()).write_to_buffer(".png")
    height, width = (enlarged * side for side in pixels.shape[1:])
    return (
        f'<image x="{x:g}" y="{y:g}" width="{width}" height="{height}" image-rendering="pixelated" '
        f'xlink:href="data:image/png;base64,{base64.b64encode(png).decode("ascii")}"/>'
    )


def check_name(path: Path) -> None:
    """Refuse a name that no figure can have.

    Raises:
        ValueError: Its suffix is not known.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"a figure's name must end in {' or '.join(SUFFIXES)}, got {printable_name(path.name)!r}")


def write_figure(path: Path, figure: str) -> None:
    """Write a figure as SVG or PNG, by the suffix of the name; the file appears when it is whole.

    Raises:
        ValueError: The suffix is not known.
        ImageWriteError: It cannot be written there, or this libvips cannot read SVG.
    """
    check_name(path)
    try:
        content = figure.encode() if path.suffix.lower() == ".svg" else _to_png(figure)
        with whole_file(path) as file:
            file.write(content)
    except OSError as error:
        raise ImageWriteError(f"{printable_name(path)}: cannot be written ({error.strerror})") from None
    except pyvips.Error:
        raise ImageWriteError(
            f"{printable_name(path)}: this libvips cannot draw SVG; write an .svg, or pip install 'pyvips[binary]'"
        ) from None


def _to_png(figure: str) -> bytes:
    drawn = pyvips.Image.svgload_buffer(figure.encode(), scale=PIXEL_DENSITY, unlimited=True)
    return bytes(drawn.flatten(background=255).write_to_buffer(".png"))
