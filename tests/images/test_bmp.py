"""BMP files. Pillow, which reads and writes the same kinds, is the reference."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image as Pillow

from finescale.errors import ImageReadError, ImageWriteError
from finescale.images import bmp

PICTURE = np.random.default_rng(0).integers(0, 256, (7, 13, 3), dtype=np.uint8)  # 13 * 3 bytes need padding


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
    assert bmp.read_size(data) == (7, 13)
    if mode == "RGBA":  # Pillow writes 32 bits and declares no alpha channel
        expected = expected[:, :, :3]
    np.testing.assert_array_equal(bmp.decode(data), expected)


def test_an_alpha_channel_that_is_declared_is_read() -> None:
    rgba = np.dstack([PICTURE, PICTURE[:, :, :1]])
    masks = np.array([0xFF0000, 0xFF00, 0xFF, 0xFF000000], "<u4").tobytes()
    numbers = [108, 13, -7, 1 | 32 << 16, 3, 0, 0, 0, 0, 0]
    header = b"BM" + np.array([0, 0, 122], "<i4").tobytes() + np.array(numbers, "<i4").tobytes() + masks + bytes(52)
    data = header + rgba[:, :, [2, 1, 0, 3]].tobytes()  # a negative height: the top row first
    np.testing.assert_array_equal(bmp.decode(data), rgba)


def test_four_bits_hold_two_pixels_in_a_byte() -> None:
    palette = np.arange(64, dtype=np.uint8).reshape(16, 4)
    numbers = [40, 3, 1, 1 | 4 << 16, 0, 0, 0, 0, 16, 0]
    header = b"BM" + np.array([0, 0, 118], "<i4").tobytes() + np.array(numbers, "<i4").tobytes() + palette.tobytes()
    np.testing.assert_array_equal(bmp.decode(header + b"\x1f\x20\0\0")[0], palette[[1, 15, 2], 2::-1])


@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_written_is_read_by_pillow_and_by_us(channels: int) -> None:
    pixels = PICTURE[:, :, :channels]
    data = bmp.encode(pixels)
    np.testing.assert_array_equal(np.atleast_3d(np.asarray(Pillow.open(io.BytesIO(data)))), pixels)
    np.testing.assert_array_equal(bmp.decode(data), pixels)


@pytest.mark.parametrize("mode", ["RGB", "P", "1"])
def test_a_file_cut_anywhere_is_refused(mode: str) -> None:
    data, _ = written_by_pillow(mode)
    for length in range(2, len(data)):
        with pytest.raises(ImageReadError, match=r"truncated|damaged|not supported"):
            bmp.decode(data[:length])


def test_a_run_length_coded_file_is_refused_with_the_remedy() -> None:
    data = bytearray(bmp.encode(PICTURE[:, :, :1]))
    data[30] = 1
    with pytest.raises(ImageReadError, match="8 bits and compression 1 is not supported; save it as PNG first"):
        bmp.decode(bytes(data))


def test_a_colour_beyond_the_palette_is_refused() -> None:
    data = bytearray(bmp.encode(PICTURE[:, :, :1]))
    data[46] = 2  # colours in the palette
    with pytest.raises(ImageReadError, match=r"refers to colour 2.. of a palette of 2"):
        bmp.decode(bytes(data))


def test_the_oldest_header_with_a_palette_of_three_bytes_is_read() -> None:
    size_and_kind = np.array([2, 1, 1, 1], "<u2").tobytes()  # 2 x 1 pixels of 1 bit
    header = b"BM" + np.array([0, 0, 32, 12], "<i4").tobytes() + size_and_kind
    data = header + bytes([10, 20, 30, 40, 50, 60]) + b"\x40\0\0\0"
    np.testing.assert_array_equal(bmp.decode(data), [[[30, 20, 10], [60, 50, 40]]])


@pytest.mark.parametrize(("at", "value"), [(18, 0), (22, 0), (14, 13_000)], ids=["width", "height", "header"])
def test_a_header_without_sense_is_refused(at: int, value: int) -> None:
    data = bytearray(bmp.encode(PICTURE))
    data[at : at + 4] = value.to_bytes(4, "little")
    with pytest.raises(ImageReadError, match="damaged BMP: its header states"):
        bmp.decode(bytes(data))


def test_a_picture_beyond_four_gibibytes_is_refused() -> None:
    pixels = np.broadcast_to(np.uint8(0), (40_000, 40_000, 3))
    with pytest.raises(ImageWriteError, match="40000 x 40000 pixels exceed the 4 GiB that a BMP holds"):
        bmp.encode(pixels)
