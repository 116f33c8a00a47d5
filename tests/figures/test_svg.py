from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
import pyvips
import torch

from finescale import images
from finescale.errors import ImageWriteError
from finescale.figures import svg

FIGURE = svg.document(40, 20, [svg.line(0, 10, 40, 10, colour="#ff0000", width=10)])


def test_a_figure_is_written_as_it_is_or_drawn_by_its_suffix(tmp_path: Path) -> None:
    svg.write_figure(tmp_path / "figure.svg", FIGURE)
    assert (tmp_path / "figure.svg").read_text() == FIGURE
    svg.write_figure(tmp_path / "figure.PNG", FIGURE)
    drawn = images.read_image(tmp_path / "figure.PNG")
    assert drawn.size == (20 * svg.PIXEL_DENSITY, 40 * svg.PIXEL_DENSITY)
    assert drawn.pixels[:, 20, 40].tolist() == [1, 0, 0]
    assert drawn.pixels[:, 2, 2].tolist() == [1, 1, 1]
    assert drawn.alpha is None
    assert len(list(tmp_path.iterdir())) == 2


def test_other_suffixes_are_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a figure's name must end in \.svg or \.png, got 'figure.pdf'"):
        svg.write_figure(tmp_path / "figure.pdf", FIGURE)


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ImageWriteError, match="cannot be written"):
        svg.write_figure(tmp_path / "nowhere" / "figure.svg", FIGURE)


def test_a_libvips_without_svg_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise pyvips.Error("no such operation")

    monkeypatch.setattr(svg.pyvips.Image, "svgload_buffer", fail, raising=False)
    with pytest.raises(ImageWriteError, match=r"this libvips cannot render SVG; choose \.svg"):
        svg.write_figure(tmp_path / "figure.png", FIGURE)
    assert not list(tmp_path.iterdir())


def test_names_cannot_break_the_figure() -> None:
    figure = svg.document(10, 10, [svg.text(0, 0, 'a < b & "c"\x07')])
    assert [element.text for element in ElementTree.fromstring(figure) if element.text] == ['a < b & "c"']


def test_pixels_of_an_image_are_squares_with_sharp_edges(tmp_path: Path) -> None:
    pixels = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]).expand(3, -1, -1)
    svg.write_figure(tmp_path / "figure.png", svg.document(20, 20, [svg.image(0, 0, pixels, pixel_size=10)]))
    drawn = images.read_image(tmp_path / "figure.png").pixels
    expected = pixels.repeat_interleave(20, 1).repeat_interleave(20, 2)
    assert torch.equal(drawn, expected)


def test_elements_of_a_group_move_down_together(tmp_path: Path) -> None:
    points = [(0.0, 5.0), (20.0, 5.0), (40.0, 5.0)]
    svg.write_figure(
        tmp_path / "figure.png",
        svg.document(40, 20, [svg.group([svg.polyline(points, colour="#0000ff", width=2)], down=10)]),
        density=1,
    )
    drawn = images.read_image(tmp_path / "figure.png").pixels
    assert drawn.shape == (3, 20, 40)
    assert (drawn[0] == 0).any(1).nonzero().flatten().tolist() == [14, 15]
