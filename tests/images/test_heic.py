"""HEIC files, which pillow-heif writes here; its encoder is lossless where it is asked to be."""

from __future__ import annotations

import io
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from finescale.errors import ImageReadError
from finescale.images import decode_image, read_image, read_size, write_image
from finescale.images.icc import profile_of_cicp
from images.samples import SRGB, as_levels, exif_with, smooth

pillow_heif = pytest.importorskip("pillow_heif")

LOSSLESS = {"quality": -1, "chroma": 444, "matrix_coefficients": 0}


def written(levels: np.ndarray, mode: str, **options: object) -> bytes:
    file = io.BytesIO()
    height, width = levels.shape[:2]
    pillow_heif.encode(mode, (width, height), levels.tobytes(), file, **{**LOSSLESS, **options})
    return file.getvalue()


def test_eight_bits_are_read_exactly(tmp_path: Path) -> None:
    (tmp_path / "x.heic").write_bytes(written(smooth(), "RGB"))
    image = read_image(tmp_path / "x.heic")
    np.testing.assert_array_equal(as_levels(image.pixels, 8), smooth())
    assert (image.depth, image.alpha, image.profile, image.notes) == (8, None, None, ())
    assert read_size(tmp_path / "x.heic") == (24, 40)


@pytest.mark.parametrize("bits", [10, 12])
def test_ten_and_twelve_bits_fill_sixteen(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pillow_heif.options, "SAVE_HDR_TO_12_BIT", bits == 12)
    stored = np.random.default_rng(0).integers(0, 2**bits, (16, 24, 3), dtype=np.uint16)
    stored[0, 0], stored[0, 1] = 0, 2**bits - 1
    image = decode_image(written(stored << (16 - bits), "RGB;16"), name="a test")
    assert image.depth == 16
    assert (image.pixels[:, 0, 0].max(), image.pixels[:, 0, 1].min()) == (0, 1)
    np.testing.assert_array_equal((image.pixels.numpy() * (2**bits - 1)).round().transpose(1, 2, 0), stored)


def test_transparency_is_read() -> None:
    levels = np.dstack([smooth(), np.arange(24 * 40, dtype=np.uint16).reshape(24, 40) // 4]).astype(np.uint8)
    image = decode_image(written(levels, "RGBA"), name="a test")
    assert image.alpha is not None
    np.testing.assert_array_equal(as_levels(image.pixels, 8), smooth())
    np.testing.assert_array_equal(as_levels(image.alpha, 8)[..., 0], levels[..., 3])


def test_a_photo_is_turned_once_and_keeps_profile_and_exif(tmp_path: Path) -> None:
    file = io.BytesIO()
    heif = pillow_heif.from_pillow(Pillow.fromarray(smooth()))
    heif.save(file, exif=exif_with(6).tobytes(), icc_profile=SRGB, xmp=b"<x:xmpmeta tiff:Orientation='6'/>", **LOSSLESS)
    (tmp_path / "x.heic").write_bytes(file.getvalue())
    image = read_image(tmp_path / "x.heic")
    np.testing.assert_array_equal(as_levels(image.pixels, 8), np.rot90(smooth(), -1))
    assert read_size(tmp_path / "x.heic") == image.size == (40, 24)
    assert (image.profile, image.notes) == (SRGB, ())
    write_image(tmp_path / "x.jpg", image)
    with Pillow.open(tmp_path / "x.jpg") as result:
        assert (result.getexif()[274], result.getexif()[270], result.size) == (1, "a description", (24, 40))
        assert result.info["icc_profile"] == SRGB
        assert b"tiff:Orientation='1'" in result.info["xmp"]


def test_colours_that_are_stated_by_numbers_get_a_profile() -> None:
    image = decode_image(written(smooth(), "RGB", color_primaries=12, transfer_characteristics=13), name="a test")
    assert (image.profile, image.notes) == (profile_of_cicp(12, 13, is_gray=False), ())


def test_hdr_is_refused() -> None:
    with pytest.raises(ImageReadError, match="HDR colours with the transfer function PQ"):
        decode_image(written(smooth(), "RGB", color_primaries=9, transfer_characteristics=16), name="a test")


def test_further_pictures_are_noted() -> None:
    file = io.BytesIO()
    heif = pillow_heif.from_pillow(Pillow.fromarray(smooth()))
    heif.add_from_pillow(Pillow.fromarray(smooth(30, 30)))
    heif.save(file, **LOSSLESS)
    image = decode_image(file.getvalue(), name="a test")
    assert (image.size, image.notes) == ((24, 40), ("1 further picture is not upscaled",))


def test_a_picture_beyond_the_limit_is_not_decoded() -> None:
    with pytest.raises(ImageReadError, match=r"40 x 24 pixels .* exceed the limit"):
        decode_image(written(smooth(), "RGB"), name="a test", max_pixels=959)


def test_a_file_cut_anywhere_is_refused() -> None:
    data = written(smooth(), "RGB")
    for length in range(12, len(data), 1 + len(data) // 100):
        with pytest.raises(ImageReadError, match=r"a test: truncated or damaged \("):
            decode_image(data[:length], name="a test")


def test_a_damaged_file_is_read_or_refused() -> None:
    data, rng = written(smooth(), "RGB"), np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(data)
        for place in rng.integers(12, len(data), 3):
            damaged[place] = rng.integers(256)
        with suppress(ImageReadError):
            decode_image(bytes(damaged), name="a test")


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = written(smooth(), "RGB")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageReadError, match=r"a test: HEIC files .* pip install 'finescale\[heic\]'"):
        decode_image(data, name="a test")
