"""BMP files. Pillow is the reference of the kinds that it writes; the others are put together here, byte by byte."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image as Pillow

from finescale.errors import ImageReadError, ImageWriteError
from finescale.images import bmp, decode_image
from finescale.images.bmp_header import read_header
from images.samples import SRGB, as_levels, exif_with

PICTURE = np.random.default_rng(0).integers(0, 256, (7, 13, 3), dtype=np.uint8)  # 13 * 3 bytes need padding


def file_of(
    pixels: bytes,
    size: tuple[int, int],
    bits: int,
    *,
    compression: int = 0,
    length: int = 40,
    extra: bytes = b"",
    palette: bytes = b"",
    num_colours: int = 0,
    gap: int = 0,
) -> bytes:
    """A file with a header of any length, filled up with ``extra``; what is beyond its length follows, then a gap."""
    width, height = size
    fields = struct.pack("<IiiHHIIiiII", length, width, height, 1, bits, compression, 0, 0, 0, num_colours, 0)
    fields = (fields + extra).ljust(length, b"\0") if length >= 40 else fields[:length]
    offset = 14 + len(fields) + len(palette) + gap
    file_header = struct.pack("<2sIHHI", b"BM", offset + len(pixels), 0, 0, offset)
    return file_header + fields + palette + bytes(gap) + pixels


def masks(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


def decoded(data: bytes) -> np.ndarray:
    return bmp.decode(data, read_header(data))[0]


def written_by_pillow(mode: str) -> tuple[bytes, Pillow.Image]:
    picture = Pillow.fromarray(PICTURE).convert(mode)
    file = io.BytesIO()
    picture.save(file, "BMP")
    return file.getvalue(), picture


@pytest.mark.parametrize(
    ("mode", "shown_as"), [("RGB", "RGB"), ("P", "RGB"), ("L", "L"), ("1", "L"), ("RGBA", "RGBA")], ids=str
)
def test_what_pillow_writes_is_read_exactly(mode: str, shown_as: str) -> None:
    data, picture = written_by_pillow(mode)
    expected = np.atleast_3d(np.asarray(picture.convert(shown_as)))
    assert read_header(data).size == (7, 13)
    if mode == "RGBA":  # Pillow writes 32 bits and declares no alpha channel
        expected = expected[:, :, :3]
    np.testing.assert_array_equal(decoded(data), expected)


def test_an_alpha_channel_that_is_declared_is_read() -> None:
    rgba = np.dstack([PICTURE, PICTURE[:, :, :1]])
    masks = np.array([0xFF0000, 0xFF00, 0xFF, 0xFF000000], "<u4").tobytes()
    numbers = [108, 13, -7, 1 | 32 << 16, 3, 0, 0, 0, 0, 0]
    header = b"BM" + np.array([0, 0, 122], "<i4").tobytes() + np.array(numbers, "<i4").tobytes() + masks + bytes(52)
    data = header + rgba[:, :, [2, 1, 0, 3]].tobytes()  # a negative height: the top row first
    np.testing.assert_array_equal(decoded(data), rgba)


def test_four_bits_hold_two_pixels_in_a_byte() -> None:
    palette = np.arange(64, dtype=np.uint8).reshape(16, 4)
    numbers = [40, 3, 1, 1 | 4 << 16, 0, 0, 0, 0, 16, 0]
    header = b"BM" + np.array([0, 0, 118], "<i4").tobytes() + np.array(numbers, "<i4").tobytes() + palette.tobytes()
    np.testing.assert_array_equal(decoded(header + b"\x1f\x20\0\0")[0], palette[[1, 15, 2], 2::-1])


@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_written_is_read_by_pillow_and_by_us(channels: int) -> None:
    pixels = PICTURE[:, :, :channels]
    data = bmp.encode(pixels)
    np.testing.assert_array_equal(np.atleast_3d(np.asarray(Pillow.open(io.BytesIO(data)))), pixels)
    np.testing.assert_array_equal(decoded(data), pixels)


@pytest.mark.parametrize("mode", ["RGB", "P", "1"])
def test_a_file_cut_anywhere_is_refused(mode: str) -> None:
    data, _ = written_by_pillow(mode)
    for length in range(2, len(data)):
        with pytest.raises(ImageReadError, match=r"truncated|damaged|not supported"):
            decoded(data[:length])


def test_a_colour_beyond_the_palette_is_refused() -> None:
    data = bytearray(bmp.encode(PICTURE[:, :, :1]))
    data[46] = 2  # colours in the palette
    with pytest.raises(ImageReadError, match=r"refers to colour 2.. of a palette of 2"):
        decoded(bytes(data))


def test_the_oldest_header_with_a_palette_of_three_bytes_is_read() -> None:
    size_and_kind = np.array([2, 1, 1, 1], "<u2").tobytes()  # 2 x 1 pixels of 1 bit
    header = b"BM" + np.array([0, 0, 32, 12], "<i4").tobytes() + size_and_kind
    data = header + bytes([10, 20, 30, 40, 50, 60]) + b"\x40\0\0\0"
    np.testing.assert_array_equal(decoded(data), [[[30, 20, 10], [60, 50, 40]]])


@pytest.mark.parametrize(
    ("at", "value", "problem"),
    [
        (18, 0, "its header states 0 x 7 pixels"),
        (22, 0, "its header states 13 x 0 pixels"),
        (14, 13_000, "its header states 13000 bytes as its own length"),
        (10, 0, "its pixels begin at byte 0, inside its header of 54 bytes"),
        (10, 53, "its pixels begin at byte 53, inside its header of 54 bytes"),
    ],
)
def test_a_header_without_sense_is_refused(at: int, value: int, problem: str) -> None:
    data = bytearray(bmp.encode(PICTURE))
    data[at : at + 4] = value.to_bytes(4, "little")
    with pytest.raises(ImageReadError, match=f"damaged BMP: {problem}"):
        decoded(bytes(data))


def test_a_picture_beyond_four_gibibytes_is_refused() -> None:
    pixels = np.broadcast_to(np.uint8(0), (40_000, 40_000, 3))
    with pytest.raises(ImageWriteError, match="40000 x 40000 pixels exceed the 4 GiB that a BMP holds"):
        bmp.encode(pixels)


# ---------------------------------------------------------------------------------------------------- palettes, masks


def test_a_palette_that_reaches_into_the_pixels_is_refused() -> None:
    data = bytearray(bmp.encode(PICTURE[:, :, :1]))
    data[46:50] = (257).to_bytes(4, "little")
    with pytest.raises(ImageReadError, match="damaged BMP: its palette of 257 colours reaches into its pixels"):
        decoded(bytes(data))


def test_colours_that_no_pixel_can_name_and_a_gap_before_the_pixels_are_passed_over() -> None:
    palette = np.arange(1200, dtype=np.uint32).astype("<u1").tobytes()
    data = file_of(b"\x07\xff\0\0", (2, 1), 8, palette=palette, num_colours=300, gap=5)
    np.testing.assert_array_equal(decoded(data), [[[30, 29, 28], [254, 253, 252]]])


def test_the_oldest_header_may_hold_fewer_colours_than_pixels_can_name() -> None:
    header = b"BM" + struct.pack("<IHHI", 0, 0, 0, 32) + struct.pack("<IHHHH", 12, 2, 1, 1, 8)
    np.testing.assert_array_equal(decoded(header + bytes([1, 2, 3, 4, 5, 6]) + b"\1\0\0\0"), [[[6, 5, 4], [3, 2, 1]]])


def test_two_bits_hold_four_pixels_in_a_byte() -> None:
    palette = np.arange(16, dtype=np.uint8).reshape(4, 4)
    data = file_of(b"\x1b\x80\0\0", (5, 1), 2, palette=palette.tobytes())
    np.testing.assert_array_equal(decoded(data)[0], palette[[0, 1, 2, 3, 2], 2::-1])


def test_a_header_of_os2_that_ends_early_is_read() -> None:
    palette = np.arange(8, dtype=np.uint8).reshape(2, 4)
    data = file_of(b"\x40\0\0\0", (2, 1), 1, length=16, palette=palette.tobytes())
    np.testing.assert_array_equal(decoded(data)[0], palette[[0, 1], 2::-1])


def test_sixteen_bits_are_five_a_channel_or_as_the_masks_state() -> None:
    pixels = struct.pack("<4H", 0x7C00, 0x03E0, 0x001F, 0x8000 | 0x4210)
    expected = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [132, 132, 132]]  # 16 of 31 is 131.6 of 255
    np.testing.assert_array_equal(decoded(file_of(pixels, (4, 1), 16))[0], expected)
    pixels = struct.pack("<2H", 0xF800, 0x8410)
    of_565 = file_of(pixels, (2, 1), 16, compression=3, palette=masks(0xF800, 0x7E0, 0x1F))
    np.testing.assert_array_equal(decoded(of_565)[0], [[255, 0, 0], [132, 130, 132]])


def test_a_mask_of_alpha_counts_inside_and_behind_the_header() -> None:
    pixels = struct.pack("<2H", 0x8F00, 0x00F7)
    numbers = masks(0xF00, 0xF0, 0xF, 0xF000)
    expected = [[[255, 0, 0, 136], [0, 255, 119, 0]]]
    for data in (
        file_of(pixels, (2, 1), 16, compression=3, length=56, extra=numbers),
        file_of(pixels, (2, 1), 16, compression=6, palette=numbers),
    ):
        np.testing.assert_array_equal(decoded(data), expected)
    opaque = file_of(pixels, (2, 1), 16, compression=3, length=52, extra=numbers)
    np.testing.assert_array_equal(decoded(opaque), np.array(expected)[:, :, :3])


def test_masks_of_more_than_eight_bits_give_sixteen() -> None:
    pixel = (1023 << 20) | (512 << 10) | 1 | (2 << 30)
    data = file_of(
        masks(pixel), (1, 1), 32, compression=3, length=56, extra=masks(1023 << 20, 1023 << 10, 1023, 3 << 30)
    )
    levels = decoded(data)
    assert levels.dtype == np.uint16
    np.testing.assert_array_equal(levels, [[[65535, 32800, 64, 43690]]])
    image = decode_image(data, name="a test")
    assert image.depth == 16
    np.testing.assert_array_equal(as_levels(image.pixels, 16), levels[:, :, :3])


def test_of_masks_of_more_than_sixteen_bits_the_upper_ones_count() -> None:
    data = file_of(masks(0x01FFFF80 | 1), (1, 1), 32, compression=3, palette=masks(0xFE000000, 0x01FFFF80, 0x7F))
    np.testing.assert_array_equal(decoded(data), [[[0, 65535, round(65535 / 127)]]])


@pytest.mark.parametrize(
    "numbers", [(0xFF, 0xFF00, 0), (0xFF, 0xFFF, 0xF000), (0x5, 0xF0, 0xF00), (0xFF0000, 0xFF00, 0xFF)]
)
def test_masks_that_overlap_have_holes_or_lie_outside_are_refused(numbers: tuple[int, ...]) -> None:
    with pytest.raises(
        ImageReadError, match=r"damaged BMP: its masks .* are not separate runs of bits of a pixel of 16"
    ):
        read_header(file_of(bytes(4), (1, 1), 16, compression=3, palette=masks(*numbers)))


@pytest.mark.parametrize(
    ("bits", "compression", "length", "kind"),
    [
        (1, 3, 64, "Huffman 1D coding"),
        (24, 4, 64, "run-length coding of 24 bits"),
        (32, 11, 40, "CMYK"),
        (64, 0, 40, "64 bits and compression 0"),
        (4, 1, 40, "4 bits and compression 1"),
        (24, 3, 40, "24 bits and compression 3"),
        (8, 77, 40, "8 bits and compression 77"),
    ],
)
def test_other_kinds_are_refused_by_name_with_the_remedy(bits: int, compression: int, length: int, kind: str) -> None:
    with pytest.raises(ImageReadError, match=f"a BMP file with {kind} is not supported; save it as PNG first"):
        read_header(file_of(bytes(64), (1, 1), bits, compression=compression, length=length))


# ---------------------------------------------------------------------------------------------------------------- runs

PALETTE = np.array([[index, 100 + index, 200 + index, 0] for index in range(16)], np.uint8)


def runs(codes: str, size: tuple[int, int], bits: int) -> bytes:
    compression = {8: 1, 4: 2}[bits]
    return file_of(bytes.fromhex(codes), size, bits, compression=compression, palette=PALETTE.tobytes(), num_colours=16)


@pytest.mark.parametrize(
    ("bits", "codes", "indices"),
    [
        (8, "0307 0000 0003 010203 00 0001", [[7, 7, 7], [1, 2, 3]]),
        (8, "0207 0105 0000 0301", [[7, 7, 5], [1, 1, 1]]),  # without an end
        (4, "0312 0000 0003 4560 0001", [[1, 2, 1], [4, 5, 6]]),
        (4, "0107 0203 0000 0311 0000 0001", [[0, 0, 3], [1, 1, 1]]),
    ],
)
def test_runs_and_pixels_as_they_are_take_turns(bits: int, codes: str, indices: list[list[int]]) -> None:
    upwards, downwards = runs(codes, (3, 2), bits), runs(codes, (3, -2), bits)
    np.testing.assert_array_equal(decoded(upwards)[::-1], PALETTE[indices][:, :, 2::-1])
    np.testing.assert_array_equal(decoded(downwards), decoded(upwards)[::-1])


@pytest.mark.parametrize(
    ("codes", "indices", "left_out"),
    [
        ("0107 0002 0101 0105 0001", [[7, 0, 0], [0, 0, 5]], 4),  # a jump to the right and up
        ("0107 0000 0301 0001", [[7, 0, 0], [1, 1, 1]], 2),  # an early end of a row
        ("0307 0001", [[7, 7, 7], [0, 0, 0]], 3),  # an early end of the picture
        ("0001", [[0, 0, 0], [0, 0, 0]], 6),
    ],
)
def test_pixels_that_are_left_out_are_transparent(codes: str, indices: list[list[int]], left_out: int) -> None:
    image = decode_image(runs(codes, (3, -2), 8), name="a test")
    assert image.alpha is not None
    assert image.notes == (f"the file leaves out {left_out} pixels: they are transparent",)
    assert int((image.alpha == 0).sum()) == left_out
    np.testing.assert_array_equal(as_levels(image.pixels, 8), PALETTE[indices][:, :, 2::-1])


@pytest.mark.parametrize(
    ("codes", "problem"),
    [
        ("0407 0001", "damaged BMP: a run leaves its 3 x 2 pixels at 4, 0"),
        ("0307 0000 0307 0000 0107 0001", "damaged BMP: a run leaves its 3 x 2 pixels at 1, 2"),
        ("0002 0400 0001", "damaged BMP: a run leaves its 3 x 2 pixels at 4, 0"),
        ("0002 0003 0001", "damaged BMP: a run leaves its 3 x 2 pixels at 0, 3"),
        ("0307 0000 0107", "truncated BMP: its pixels end at 1, 1 of 3 x 2"),
        ("0307 0000 0003 0102", "truncated BMP: its pixels end at 0, 1 of 3 x 2"),
        ("0307 0002 01", "truncated BMP: its pixels end at 3, 0 of 3 x 2"),
        ("", "truncated BMP: its pixels end at 0, 0 of 3 x 2"),
        ("0310 0000 0310 0001", "damaged BMP: a pixel refers to colour 16 of a palette of 16"),
    ],
)
def test_runs_that_leave_the_picture_or_end_before_it_are_refused(codes: str, problem: str) -> None:
    with pytest.raises(ImageReadError, match=problem):
        decoded(runs(codes, (3, 2), 8))


# ------------------------------------------------------------------------------------------- embedded files, profiles


@pytest.mark.parametrize(("format_name", "compression"), [("JPEG", 4), ("PNG", 5)])
def test_an_embedded_file_is_read_in_place_of_pixels(format_name: str, compression: int) -> None:
    file = io.BytesIO()
    Pillow.fromarray(PICTURE).save(file, format_name)
    data = file_of(file.getvalue(), (13, 7), 0, compression=compression)
    image, alone = decode_image(data, name="a test"), decode_image(file.getvalue(), name="a test")
    np.testing.assert_array_equal(image.pixels, alone.pixels)
    assert (image.jpeg_quality, image.notes) == (alone.jpeg_quality, ())


def embedded_png(picture: np.ndarray = PICTURE, **options: object) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(picture).save(file, "PNG", **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (file_of(embedded_png(), (12, 7), 0, compression=5), "its header states 12 x 7 pixels, its picture has 13 x 7"),
        (
            file_of(embedded_png(), (13, 7), 0, compression=4),
            "it states an embedded JPEG file and holds another format",
        ),
        (file_of(bmp.encode(PICTURE), (13, 7), 0, compression=5), "it states an embedded PNG file and holds another"),
        (file_of(embedded_png()[:60], (13, 7), 0, compression=5), "truncated PNG"),
        (file_of(b"", (13, 7), 0, compression=5), "truncated BMP: an embedded PNG file is missing at the end"),
        (file_of(embedded_png(), (40_000, 7_000), 0, compression=5), "exceed the limit of 250 megapixels"),
    ],
)
def test_an_embedded_file_that_is_not_as_stated_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(ImageReadError, match=problem):
        decode_image(data, name="a test")


def with_colour_space(space: bytes, profile: bytes = b"", *, calibration: bytes = bytes(48), bits: int = 24) -> bytes:
    rows = np.zeros((7, 40), np.uint8)
    rows[:, :39] = PICTURE.reshape(7, 39)
    palette = b"" if bits == 24 else np.repeat(np.arange(256, dtype=np.uint8), 4).tobytes()
    place = struct.pack("<4I", 0, 124 + len(palette) + rows.size, len(profile), 0)
    extra = bytes(16) + space + calibration + place
    return (
        file_of(rows.tobytes(), (13 if bits == 24 else 39, 7), bits, length=124, extra=extra, palette=palette) + profile
    )


@pytest.mark.parametrize("bits", [24, 8])
def test_an_embedded_profile_is_kept_even_where_a_palette_is_gray(bits: int) -> None:
    image = decode_image(with_colour_space(b"DEBM", SRGB, bits=bits), name="a test")
    assert (image.profile, image.notes, len(image.pixels)) == (SRGB, (), 3)


@pytest.mark.parametrize(
    ("space", "profile", "notes"),
    [
        (b"BGRs", b"", ()),
        (b" niW", b"", ()),
        (b"KNIL", b"C:\\a.icm\0", ("its colour profile is a link to another file: ignored",)),
        (b"DEBM", b"no profile", ("the colour profile is damaged: dropped",)),
        (b"DEBM", SRGB[:200], ("the colour profile is damaged: dropped",)),
        (b"\0\0\0\0", b"", ()),
    ],
    ids=["sRGB", "Windows", "linked", "no profile", "cut", "calibrated"],  # a profile has the time it was made
)
def test_other_colour_spaces_are_srgb_or_noted(space: bytes, profile: bytes, notes: tuple[str, ...]) -> None:
    image = decode_image(with_colour_space(space, profile), name="a test")
    assert (image.profile, image.notes) == (None, notes)


def test_primaries_that_are_not_those_of_srgb_are_noted() -> None:
    def calibration(*chromaticities: float, gamma: float) -> bytes:
        points = [(x, y, 1 - x - y) for x, y in zip(chromaticities[::2], chromaticities[1::2], strict=True)]
        return struct.pack("<9i3I", *(round(v * 2**30) for xyz in points for v in xyz), *[round(gamma * 2**16)] * 3)

    like_srgb = calibration(0.64, 0.33, 0.30, 0.60, 0.15, 0.06, gamma=2.2)
    assert decode_image(with_colour_space(b"\0\0\0\0", calibration=like_srgb), name="a test").notes == ()
    for other in (
        calibration(0.64, 0.33, 0.21, 0.71, 0.15, 0.06, gamma=2.2),
        calibration(0.64, 0.33, 0.30, 0.60, 0.15, 0.06, gamma=1.0),
    ):
        image = decode_image(with_colour_space(b"\0\0\0\0", calibration=other), name="a test")
        assert image.notes == ("its calibrated primaries and gamma are read as sRGB",)


def test_the_profile_of_the_header_goes_with_an_embedded_file_without_one() -> None:
    png = embedded_png()
    extra = bytes(16) + b"DEBM" + bytes(48) + struct.pack("<4I", 0, 124 + len(png), len(SRGB), 0)
    data = file_of(png, (13, 7), 0, compression=5, length=124, extra=extra) + SRGB
    assert decode_image(data, name="a test").profile == SRGB


def test_an_embedded_file_that_is_turned_is_not_as_stated() -> None:
    file = io.BytesIO()
    Pillow.fromarray(PICTURE).save(file, "JPEG", exif=exif_with(6))
    with pytest.raises(ImageReadError, match="its header states 13 x 7 pixels, its picture has 7 x 13"):
        decode_image(file_of(file.getvalue(), (13, 7), 0, compression=4), name="a test")
