"""Profiles, EXIF, XMP and texts: what is kept on the way from file to file, and what is corrected."""

from __future__ import annotations

import dataclasses
import io
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from finescale.images import encode_png, read_image, read_size, write_image
from finescale.images.metadata import profile_mismatch, resized_exif, upright_exif
from finescale.images.png import insert_texts, xmp_chunk
from images.samples import SRGB, as_image, exif_with, smooth


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".avif"])
def test_exif_is_kept_with_the_size_made_right(suffix: str, tmp_path: Path) -> None:
    Pillow.fromarray(smooth()).save(tmp_path / "x.jpg", exif=exif_with(6), dpi=(300, 300))
    image = read_image(tmp_path / "x.jpg")
    larger = dataclasses.replace(image, pixels=image.pixels.repeat(1, 2, 2))
    assert write_image(tmp_path / f"out{suffix}", larger) == ()
    with Pillow.open(tmp_path / f"out{suffix}") as written:
        exif = written.getexif()
        assert exif[270] == "a description"
        assert exif[274] == 1
        assert exif[282] == pytest.approx(300, abs=0.1)
        assert [exif.get_ifd(0x8769)[tag] for tag in (40962, 40963)] == [48, 80]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
def test_xmp_and_profile_are_kept(suffix: str, tmp_path: Path) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">\xc3\xa9</x:xmpmeta>'
    image = dataclasses.replace(as_image(smooth()), profile=SRGB, metadata={"xmp-data": xmp})
    assert write_image(tmp_path / f"x{suffix}", image) == ()
    back = read_image(tmp_path / f"x{suffix}")
    assert back.metadata["xmp-data"].rstrip(b"\0") == xmp
    assert back.profile == SRGB
    with Pillow.open(tmp_path / f"x{suffix}") as seen_by_pillow:
        found = seen_by_pillow.info.get("xmp") or seen_by_pillow.tag_v2[700]
        assert found.rstrip(b"\0") == xmp
        assert seen_by_pillow.info["icc_profile"] == SRGB


def test_the_orientation_in_xmp_is_made_right_too(tmp_path: Path) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6"/></x:xmpmeta>'
    Pillow.fromarray(smooth()).save(tmp_path / "x.jpg", exif=exif_with(6), xmp=xmp)
    assert b'tiff:Orientation="1"' in read_image(tmp_path / "x.jpg").metadata["xmp-data"]


def test_a_profile_for_other_pixels_is_dropped_with_a_note(tmp_path: Path) -> None:
    Pillow.fromarray(smooth()).convert("L").save(tmp_path / "x.jpg", icc_profile=SRGB)
    image = read_image(tmp_path / "x.jpg")
    assert image.profile is None
    assert image.notes == ("the colour profile does not fit gray pixels: dropped",)
    wrong = dataclasses.replace(image, profile=SRGB)
    assert write_image(tmp_path / "x.png", wrong) == ("the colour profile does not fit gray pixels: dropped",)


def test_damaged_exif_is_dropped_with_a_note(tmp_path: Path) -> None:
    Pillow.fromarray(smooth()).save(tmp_path / "x.jpg", exif=b"Exif\0\0MM\0*\0\0\xff\xff")
    image = read_image(tmp_path / "x.jpg")
    assert "exif-data" not in image.metadata
    assert image.notes == ("the EXIF data are damaged: dropped",)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_the_resolution_is_kept_and_that_of_a_screen_where_there_is_none(suffix: str, tmp_path: Path) -> None:
    for resolution in (None, 300):
        Pillow.fromarray(smooth()).save(tmp_path / "x.png", **({"dpi": (resolution, resolution)} if resolution else {}))
        write_image(tmp_path / f"out{suffix}", read_image(tmp_path / "x.png"))
        with Pillow.open(tmp_path / f"out{suffix}") as written:
            assert [float(value) for value in written.info["dpi"]] == pytest.approx([resolution or 72] * 2, abs=0.5)


def test_metadata_too_large_for_a_format_are_dropped_and_others_kept(tmp_path: Path) -> None:
    def dropped(suffix: str, name: str, num_bytes: int) -> tuple[str, ...]:
        exif = exif_directory(">", (282, 3, 6), start=b"Exif\0\0")
        value = exif + bytes(num_bytes - len(exif)) if name == "exif-data" else b"x" * num_bytes
        return write_image(tmp_path / f"x{suffix}", dataclasses.replace(as_image(smooth()), metadata={name: value}))

    assert dropped(".jpg", "xmp-data", 65_502) == ()
    assert dropped(".jpg", "xmp-data", 65_503) == ("65503 bytes of XMP data do not fit into JPEG: dropped",)
    assert dropped(".png", "xmp-data", 65_503) == ()
    assert dropped(".png", "exif-data", 65_502) == ()
    assert dropped(".png", "exif-data", 65_503) == ("65503 bytes of EXIF data do not fit into PNG: dropped",)


# ---- bytes alone


def exif_directory(order: str, *entries: tuple[int, int, int], start: bytes = b"") -> bytes:
    """EXIF data whose first directory has these (tag, kind, value): kind 3 is SHORT, kind 4 is LONG."""
    mark = {"<": b"II*\0", ">": b"MM\0*"}[order]
    packed = b"".join(
        struct.pack(f"{order}HHI", tag, kind, 1) + struct.pack(f"{order}{'H2x' if kind == 3 else 'I'}", value)
        for tag, kind, value in entries
    )
    return start + mark + struct.pack(f"{order}IH", 8, len(entries)) + packed + bytes(4)


@pytest.mark.parametrize("kind", [3, 4], ids=["short", "long"])
@pytest.mark.parametrize("start", [b"", b"Exif\0\0"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_only_the_orientation_of_exif_is_changed(order: str, start: bytes, kind: int) -> None:
    turned = exif_directory(order, (256, 4, 274), (274, kind, 6), (282, 3, 6), start=start)
    assert upright_exif(turned) == exif_directory(order, (256, 4, 274), (274, kind, 1), (282, 3, 6), start=start)
    without = exif_directory(order, (282, 3, 6), start=start)
    assert upright_exif(without) == without


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_long_orientation_is_applied_once(order: str, suffix: str, tmp_path: Path) -> None:
    exif = exif_directory(order, (274, 4, 6), start=b"Exif\0\0")
    Pillow.fromarray(smooth()).save(tmp_path / "x.jpg", exif=exif)
    image = read_image(tmp_path / "x.jpg")
    assert image.size == (40, 24)
    write_image(tmp_path / f"out{suffix}", image)
    with Pillow.open(tmp_path / f"out{suffix}") as written:
        assert (written.height, written.width) == (40, 24)
        assert written.getexif().get(274) == 1


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_thumbnail_of_exif_is_unlinked(order: str) -> None:
    exif = exif_directory(order, (274, 3, 6))
    linked = exif[:-4] + struct.pack(f"{order}I", len(exif)) + exif_directory(order, (513, 4, 99))[8:]
    assert upright_exif(linked) == exif_directory(order, (274, 3, 1)) + linked[len(exif) :]
    assert upright_exif(exif[:-4]) == exif_directory(order, (274, 3, 1))[:-4]  # where the link itself is missing


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".avif"])
def test_no_result_has_the_thumbnail_of_its_input(suffix: str, tmp_path: Path) -> None:
    thumbnail = io.BytesIO()
    Pillow.fromarray(smooth(6, 10)).save(thumbnail, "JPEG")
    first = exif_directory(">", (274, 3, 1))
    second = exif_directory(">", (513, 4, len(first) + 30), (514, 4, len(thumbnail.getvalue())))[8:]
    exif = first[:-4] + struct.pack(">I", len(first)) + second + thumbnail.getvalue()
    Pillow.fromarray(smooth()).save(tmp_path / "x.jpg", exif=b"Exif\0\0" + exif)
    assert (tmp_path / "x.jpg").read_bytes().count(b"\xff\xd8\xff") == 2
    write_image(tmp_path / f"out{suffix}", read_image(tmp_path / "x.jpg"))
    assert (tmp_path / f"out{suffix}").read_bytes().count(b"\xff\xd8\xff") == (suffix == ".jpg")


@pytest.mark.parametrize("kind", [3, 4], ids=["short", "long"])
def test_the_size_in_the_first_directory_is_that_of_the_result(kind: int) -> None:
    exif = exif_directory("<", (256, kind, 30), (257, kind, 20), (282, 3, 6), start=b"Exif\0\0")
    sized = exif_directory("<", (256, kind, 60), (257, kind, 40), (282, 3, 6), start=b"Exif\0\0")
    assert resized_exif(exif, (40, 60)) == sized
    assert resized_exif(exif, (40, 70_000)) == exif_directory(
        "<", (256, 4, 70_000), (257, kind, 40), (282, 3, 6), start=b"Exif\0\0"
    )
    with pytest.raises(ValueError, match="EXIF data"):
        resized_exif(b"MM", (1, 1))


XMP_TURNED = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<a xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></x:xmpmeta>'
)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_an_orientation_of_xmp_alone_is_applied(suffix: str, tmp_path: Path) -> None:
    if suffix == ".png":
        plain = encode_png(torch.from_numpy(smooth().transpose(2, 0, 1).copy()))
        (tmp_path / "x.png").write_bytes(insert_texts(plain, xmp_chunk(XMP_TURNED)))
    else:
        options = {"tiffinfo": {700: XMP_TURNED}} if suffix == ".tif" else {"xmp": XMP_TURNED, "quality": 95}
        Pillow.fromarray(smooth()).save(tmp_path / f"x{suffix}", **options)
    image = read_image(tmp_path / f"x{suffix}")
    assert image.size == read_size(tmp_path / f"x{suffix}") == (40, 24)
    assert b'tiff:Orientation="1"' in image.metadata["xmp-data"]
    assert np.abs(image.pixels[:, :, -1].T.numpy() * 255 - smooth()[0]).max() < 16  # the first row is the last column
    write_image(tmp_path / f"out{suffix}", image)
    assert read_image(tmp_path / f"out{suffix}").size == (40, 24)


@pytest.mark.parametrize("orientation", [1, 3])
def test_an_orientation_of_the_file_goes_before_that_of_xmp(orientation: int, tmp_path: Path) -> None:
    Pillow.fromarray(smooth()).save(tmp_path / "x.jpg", exif=exif_with(orientation), xmp=XMP_TURNED)
    assert read_image(tmp_path / "x.jpg").size == (24, 40)
    Pillow.fromarray(smooth()).save(tmp_path / "x.avif", xmp=XMP_TURNED)  # which is upright unless its boxes say more
    assert read_image(tmp_path / "x.avif").size == (24, 40)


def test_damaged_xmp_is_dropped_with_a_note(tmp_path: Path) -> None:
    Pillow.fromarray(smooth()).save(tmp_path / "x.jpg", xmp=XMP_TURNED[:-4])
    image = read_image(tmp_path / "x.jpg")
    assert "xmp-data" not in image.metadata
    assert image.notes == ("the XMP data are damaged: dropped",)


def test_extended_xmp_is_dropped_with_a_note(tmp_path: Path) -> None:
    xmp = b'<a xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="0A"/>'
    Pillow.fromarray(smooth()).save(tmp_path / "x.jpg", xmp=xmp)
    image = read_image(tmp_path / "x.jpg")
    assert b"HasExtendedXMP" not in image.metadata["xmp-data"]
    assert image.notes == ("the extended XMP data are dropped",)


@pytest.mark.parametrize(
    "exif",
    [b"", b"Exif\0\0", b"XX*\0\x08\0\0\0", exif_directory(">", (274, 3, 6))[:19], b"MM\0*\0\0\xff\xff"],
    ids=["empty", "only the mark", "unknown byte order", "cut entry", "directory beyond the end"],
)
def test_exif_without_a_readable_directory_is_damaged(exif: bytes) -> None:
    assert upright_exif(exif) is None


def test_a_profile_fits_pixels_of_its_own_colour_space_only() -> None:
    gray = SRGB[:16] + b"GRAY" + SRGB[20:]
    assert profile_mismatch(SRGB, 3) is None
    assert profile_mismatch(gray, 1) is None
    assert profile_mismatch(SRGB, 1) == "does not fit gray pixels"
    assert profile_mismatch(gray, 3) == "does not fit RGB pixels"


def test_a_profile_cut_short_or_without_its_signature_is_damaged() -> None:
    header = (128).to_bytes(4, "big") + SRGB[4:128]
    assert profile_mismatch(header, 3) is None
    for damaged in (b"", header[:127], SRGB[:-1], header[:36] + b"acsq" + header[40:]):
        assert profile_mismatch(damaged, 3) == "is damaged"
