"""AVIF files as bytes: colours by numbers, and what is stored besides the picture."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from finescale.errors import ImageReadError
from finescale.images import decode_image, read_image
from finescale.images.heif import Heif, inspect_heif
from finescale.images.icc import profile_of_cicp
from images.samples import SRGB, as_levels, smooth


def saved(**options: object) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(smooth()).save(file, "AVIF", quality=100, subsampling="4:4:4", **options)
    return file.getvalue()


def with_numbers(data: bytes, primaries: int, transfer: int) -> bytes:
    """The file with other numbers of its colours."""
    at = data.index(b"nclx") + 4
    return data[:at] + struct.pack(">HH", primaries, transfer) + data[at + 4 :]


def test_the_numbers_of_the_picture_are_found() -> None:
    assert inspect_heif(with_numbers(saved(), 12, 13)) == Heif((24, 40), (12, 13), ())
    assert inspect_heif(b"") == Heif((0, 0), None, ())


def test_an_absurd_size_is_refused_before_libvips_sees_it(capfd: pytest.CaptureFixture[str]) -> None:
    at = saved().index(b"ispe") + 8
    data = saved()[:at] + b"\x7f\0\0\x28" + saved()[at + 4 :]
    with pytest.raises(ImageReadError, match="2130706472 x 24 pixels"):
        decode_image(data, name="x.avif")
    assert capfd.readouterr().err == ""


def test_display_p3_becomes_a_profile_and_hdr_is_refused() -> None:
    plain = decode_image(saved(), name="x.avif")
    assert plain.profile is None
    image = decode_image(with_numbers(saved(), 12, 13), name="x.avif")
    assert image.profile == profile_of_cicp(12, 13, is_gray=False)
    np.testing.assert_array_equal(as_levels(image.pixels, 8), as_levels(plain.pixels, 8))
    for transfer in (16, 18):
        with pytest.raises(ImageReadError, match=r"x\.avif: HDR colours"):
            decode_image(with_numbers(saved(), 9, transfer), name="x.avif")


def test_a_profile_goes_before_numbers() -> None:
    assert decode_image(with_numbers(saved(icc_profile=SRGB), 12, 13), name="x.avif").profile == SRGB


def box(kind: bytes, *contents: bytes) -> bytes:
    content = b"".join(contents)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def heif(
    *properties: bytes, primary: int = 2, items: bytes = b"", owners: dict[int, list[int]], large: bool = False
) -> bytes:
    """A file of boxes without pictures; ``owners`` are the numbers of the properties of each item."""
    number = ">I" if large else ">H"
    associations = b"".join(
        struct.pack(number, item)
        + bytes([len(places)])
        + b"".join(struct.pack(">H" if large else ">B", place | (0x8000 if large else 0x80)) for place in places)
        for item, places in owners.items()
    )
    version, flags = (b"\1", b"\0\0\1") if large else (b"\0", b"\0\0\0")
    meta = box(
        b"meta",
        bytes(4),
        box(b"pitm", version, bytes(3), struct.pack(number, primary)),
        box(b"iinf", bytes(4), struct.pack(">H", 1), items),
        box(
            b"iprp",
            box(b"ipco", *properties),
            box(b"ipma", version, flags, struct.pack(">I", len(owners)), associations),
        ),
    )
    return box(b"ftyp", b"avif", bytes(4)) + meta


def nclx(primaries: int) -> bytes:
    return box(b"colr", b"nclx", struct.pack(">HHHB", primaries, 13, 0, 0x80))


@pytest.mark.parametrize("large", [False, True])
def test_numbers_of_other_items_are_not_those_of_the_picture(large: bool) -> None:
    properties = box(b"ispe", bytes(12)), nclx(9), nclx(12)
    assert inspect_heif(heif(*properties, owners={1: [1, 2], 2: [1, 3]}, large=large)).cicp == (12, 13)
    assert inspect_heif(heif(*properties, owners={1: [1, 2], 2: [1]}, large=large)).cicp is None
    assert inspect_heif(heif(*properties, owners={2: [0, 9]}, large=large)).cicp is None


def test_second_pictures_are_named() -> None:
    kinds = [
        b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha",
        b"urn:mpeg:hevc:2015:auxid:2",
        b"urn:com:apple:photo:2020:aux:hdrgainmap",
        b"urn:something:else",
    ]
    for kind, parts in zip(kinds, [(), ("depth map",), ("gain map",), ("auxiliary picture",)], strict=True):
        assert inspect_heif(heif(box(b"auxC", bytes(4), kind, b"\0"), owners={})).parts == parts
    item = box(b"infe", b"\2\0\0\0", struct.pack(">HH", 3, 0), b"tmap", b"\0")
    assert inspect_heif(heif(items=item, owners={})).parts == ("gain map",)


def test_boxes_that_lie_are_passed_over() -> None:
    whole = heif(nclx(12), owners={2: [1]})
    for length in range(len(whole)):
        inspect_heif(whole[:length])
    for at in range(0, len(whole)):
        for value in (0, 1, 0xFF):
            inspect_heif(whole[:at] + bytes([value]) + whole[at + 1 :])


def test_transparency_of_a_file_is_no_second_picture(tmp_path: Path) -> None:
    Pillow.fromarray(np.dstack([smooth(), smooth()[..., :1]])).save(tmp_path / "x.avif")
    image = read_image(tmp_path / "x.avif")
    assert image.alpha is not None
    assert image.notes == ()
