from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
import pyvips
import torch

from finescale import images
from finescale.errors import ImageWriteError
from finescale.figures import svg as drawing

FIGURE = drawing.svg(40, 20, [drawing.line(0, 10, 40, 10, colour="#ff0000", width=10)])


def test_a_figure_is_written_as_it_is_or_drawn_by_its_suffix(tmp_path: Path) -> None:
    drawing.write_figure(tmp_path / "figure.svg", FIGURE)
    assert (tmp_path / "figure.svg").read_text() == FIGURE
    drawing.write_figure(tmp_path / "figure.PNG", FIGURE)
    drawn = images.read_image(tmp_path / "figure.PNG")
    assert drawn.size == (20 * drawing.PIXEL_DENSITY, 40 * drawing.PIXEL_DENSITY)
    assert drawn.pixels[:, 20, 40].tolist() == [1, 0, 0]
    assert drawn.pixels[:, 2, 2].tolist() == [1, 1, 1]
    assert drawn.alpha is None
    assert len(list(tmp_path.iterdir())) == 2


def test_other_suffixes_are_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a figure's name must end in \.svg or \.png, got 'figure.pdf'"):
        drawing.write_figure(tmp_path / "figure.pdf", FIGURE)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ImageWriteError, match="cannot be written"):
        drawing.write_figure(tmp_path / "nowhere" / "figure.svg", FIGURE)


def test_a_libvips_without_svg_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise pyvips.Error("no such operation")

    monkeypatch.setattr(drawing.pyvips.Image, "svgload_buffer", fail, raising=False)
    with pytest.raises(ImageWriteError, match=r"this libvips cannot draw SVG; write an \.svg"):
        drawing.write_figure(tmp_path / "figure.png", FIGURE)
    assert not list(tmp_path.iterdir())


def test_names_cannot_break_the_figure() -> None:
    figure = drawing.svg(10, 10, [drawing.text(0, 0, 'a < b & "c"')])
    assert [element.text for element in ElementTree.fromstring(figure) if element.text] == ['a < b & "c"']


def test_pixels_of_a_picture_are_squares_with_sharp_edges(tmp_path: Path) -> None:
    pixels = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]).expand(3, -1, -1)
    drawing.write_figure(tmp_path / "figure.png", drawing.svg(20, 20, [drawing.picture(0, 0, pixels, enlarged=10)]))
    drawn = images.read_image(tmp_path / "figure.png").pixels
    expected = pixels.repeat_interleave(20, 1).repeat_interleave(20, 2)
    assert torch.equal(drawn, expected)
