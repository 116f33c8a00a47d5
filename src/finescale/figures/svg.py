"""SVG elements and documents, and figures written as SVG or as PNG, which libvips renders."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import pyvips
import torch
from torch import Tensor

from finescale.errors import ImageWriteError, printable_name
from finescale.system.files import whole_file

SUFFIXES = (".svg", ".png")
"""File formats of a figure."""

PIXEL_DENSITY = 2
"""Pixels of a PNG for each unit of its SVG."""

FONT = "DejaVu Sans, Verdana, Arial, sans-serif"
LETTER_WIDTH = 0.62
"""Estimated width of an average letter, as a share of the font size; on the high side."""

INK = "#222"
"""Colour of text and lines."""


def document(width: float, height: float, parts: Sequence[str]) -> str:
    """SVG document with a white background, in units of one pixel on a screen."""
    return "\n".join(
        [
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}" font-family="{FONT}">',
            f'<rect width="{width:g}" height="{height:g}" fill="white"/>',
            *parts,
            "</svg>\n",
        ]
    )


# ---- colours

_COLOURS = (  # safe for the colour-blind as far as there are such, then darker ones
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9",
    "#7b3294", "#8c510a", "#01665e", "#b2182b", "#4d9221", "#c2a5cf",
)  # fmt: skip


def colours(num: int) -> list[str]:
    """Return colours that can be told apart; from the thirteenth on they repeat."""
    return [_COLOURS[number % len(_COLOURS)] for number in range(num)]


# ---- elements


def text(
    x: float, y: float, content: str, *, size: float = 12, colour: str = INK, anchor: str = "start", turn: float = 0
) -> str:
    """One line of text.

    Args:
        x: Where it starts, has its middle or ends, depending on ``anchor``.
        y: The baseline.
        content: Any text; control characters, which XML forbids, are left out.
        size: Font size.
        colour: Of the letters.
        anchor: "start", "middle" or "end".
        turn: Clockwise rotation about (x, y), in degrees.
    """
    turned = f' transform="rotate({turn:g} {x:g} {y:g})"' if turn else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="{colour}" text-anchor="{anchor}"{turned}>'
        f"{escape(''.join(c for c in content if c.isprintable()))}</text>"
    )


def line(x1: float, y1: float, x2: float, y2: float, *, colour: str = INK, width: float = 1) -> str:
    """A straight line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width:g}"/>'


def polyline(points: Iterable[tuple[float, float]], *, colour: str = INK, width: float = 1, opacity: float = 1) -> str:
    """A line through the points, with rounded corners."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    faint = "" if opacity == 1 else f' stroke-opacity="{opacity:g}"'
    return (
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width:g}" '
        f'stroke-linejoin="round"{faint}/>'
    )


def circle(x: float, y: float, *, radius: float, colour: str, filled: bool, opacity: float = 1) -> str:
    """A disc, or a ring, whose outline of two units is centred on the radius; ``opacity`` is that of the disc alone."""
    fill = colour if filled else "none"
    faint = "" if opacity == 1 else f' fill-opacity="{opacity:g}"'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{fill}" stroke="{colour}" stroke-width="2"{faint}/>'


def outline(x: float, y: float, width: float, height: float, *, colour: str) -> str:
    """The outline of a rectangle."""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="none" '
        f'stroke="{colour}" stroke-width="2"/>'
    )


def panel(x: float, y: float, width: float, height: float, *, colour: str) -> str:
    """A white rectangle with a thin frame, for a legend."""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="3" fill="white" '
        f'fill-opacity="0.9" stroke="{colour}"/>'
    )


def image(x: float, y: float, pixels: Tensor, *, pixel_size: float) -> str:
    """An embedded image (3, H, W) in [0, 1]; each pixel becomes a sharp square of ``pixel_size`` units."""
    levels = (pixels.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().cpu()
    png = pyvips.Image.new_from_array(levels.numpy()).write_to_buffer(".png")
    height, width = (pixel_size * side for side in pixels.shape[1:])
    return (
        f'<image x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" image-rendering="pixelated" '
        f'xlink:href="data:image/png;base64,{base64.b64encode(png).decode("ascii")}"/>'
    )


def group(parts: Iterable[str], *, down: float) -> str:
    """Elements that are moved down together."""
    return f'<g transform="translate(0 {down:g})">{"".join(parts)}</g>'


# ---- files


def check_name(path: Path) -> None:
    """Check that a file name has the suffix of a figure.

    Raises:
        ValueError: It has another one.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"a figure's name must end in {' or '.join(SUFFIXES)}, got {printable_name(path.name)!r}")


def write_figure(path: Path, figure: str, *, density: int = PIXEL_DENSITY) -> None:
    """Write a figure as SVG or PNG, depending on the suffix; the file is complete or absent.

    Args:
        path: The file.
        figure: An SVG document.
        density: Pixels of a PNG for each unit of the SVG.

    Raises:
        ValueError: The suffix is unknown.
        ImageWriteError: The file cannot be written, or this libvips cannot render SVG.
    """
    check_name(path)
    try:
        content = figure.encode() if path.suffix.lower() == ".svg" else render(figure, density=density)
        with whole_file(path) as file:
            file.write(content)
    except OSError as error:
        raise ImageWriteError(f"{printable_name(path)}: cannot be written ({error.strerror})") from None
    except pyvips.Error:
        raise ImageWriteError(
            f"{printable_name(path)}: this libvips cannot render SVG; choose .svg, or pip install 'pyvips[binary]'"
        ) from None


def render(figure: str, *, density: int = PIXEL_DENSITY) -> bytes:
    """Render an SVG document as PNG.

    Args:
        figure: The document.
        density: Pixels for each unit.

    Raises:
        pyvips.Error: This libvips cannot render SVG.
    """
    pixels = pyvips.Image.svgload_buffer(figure.encode(), scale=density, unlimited=True)
    return bytes(pixels.flatten(background=255).write_to_buffer(".png", keep="none"))
