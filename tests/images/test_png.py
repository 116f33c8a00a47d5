"""PNG's chunks, against files that Pillow writes."""

from __future__ import annotations

import dataclasses
import io
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image as Pillow
from PIL import PngImagePlugin

from finescale.images import read_image, write_image
from finescale.images.png import Png, insert_texts, inspect_png, xmp_chunk
from images.samples import SRGB, as_image, smooth


def test_texts_of_a_png_are_kept_as_they_are_and_compressed_ones_dropped(tmp_path: Path) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Author", "José")
    texts.add_itxt("parameters", "名前")
    texts.add_text("long", "x" * 1000, zip=True)
    Pillow.fromarray(smooth()).save(tmp_path / "x.png", pnginfo=texts)
    image = read_image(tmp_path / "x.png")
    assert image.notes == ("compressed texts are dropped unread",)
    assert write_image(tmp_path / "out.png", image) == ()
    with Pillow.open(tmp_path / "out.png") as written:
        assert written.text == {"Author": "José", "parameters": "名前"}
    assert write_image(tmp_path / "out.jpg", image) == ("JPEG holds no PNG texts: dropped",)


def test_xmp_is_written_uncompressed_since_few_programs_read_it_otherwise(tmp_path: Path) -> None:
    write_image(tmp_path / "x.png", replace(as_image(smooth()), metadata={"xmp-data": b"<x/>"}))
    data = (tmp_path / "x.png").read_bytes()
    chunk = b"\0\0\0\x1aiTXtXML:com.adobe.xmp\0\0\0\0\0<x/>"
    assert chunk in data
    with Pillow.open(tmp_path / "x.png") as seen_by_pillow:  # which checks the checksum
        assert seen_by_pillow.info["xmp"] == b"<x/>"


def saved(**options: object) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(smooth()).save(file, "PNG", **options)
    return file.getvalue()


def test_the_facts_of_a_plain_file() -> None:
    data = saved()
    facts = Png(
        size=(24, 40),
        num_frames=1,
        has_profile=False,
        cicp=None,
        is_srgb=False,
        chromaticities=None,
        gamma=0,
        has_compressed_texts=False,
        is_whole=True,
        texts=b"",
        kept=((0, len(data)),),
    )
    assert inspect_png(data) == facts
    assert inspect_png(data + b"more") == dataclasses.replace(facts, kept=((0, len(data) + 4),))
    assert not inspect_png(data[:-1]).is_whole
    assert inspect_png(data[:20]).size == (0, 0)
    assert inspect_png(saved(icc_profile=SRGB)).has_profile
    others = [Pillow.fromarray(smooth() // (2 + number)) for number in range(2)]
    assert inspect_png(saved(save_all=True, append_images=others)).num_frames == 3


def test_texts_are_taken_out_and_put_back_in() -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Author", "a name")
    texts.add_itxt("Title", "a title")
    with_texts, plain = saved(pnginfo=texts), saved()
    png = inspect_png(with_texts)
    assert png.picture(with_texts) == plain
    assert not png.has_compressed_texts
    assert insert_texts(plain, png.texts) == with_texts


@pytest.mark.parametrize("add", ["add_itxt", "add_text"])
def test_a_compressed_text_of_either_kind_is_taken_out_unread(add: str) -> None:
    texts = PngImagePlugin.PngInfo()
    getattr(texts, add)("long", "x" * 100, zip=True)
    with_text = saved(pnginfo=texts)
    png = inspect_png(with_text)
    assert png.has_compressed_texts
    assert (png.texts, png.picture(with_text)) == (b"", saved())


def test_only_the_first_xmp_stays_for_libvips() -> None:
    plain, first, second = saved(), xmp_chunk(b"<a/>"), xmp_chunk(b"<b/>")
    with_both = insert_texts(plain, first + second)
    png = inspect_png(with_both)
    assert png.picture(with_both) == insert_texts(plain, first)
    assert png.texts == second
