"""TIFF files: which page is the picture, what its samples are, and which files are refused by the name of the thing."""

from __future__ import annotations

import re
import struct
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageCms

from finescale.errors import ImageReadError
from finescale.images import Image, decode_image, read_size
from finescale.images.tiff import RAW_REFUSED, inspect_tiff
from images.samples import as_levels, levels, smooth
from images.tiff_files import Page, tiff_file

ALPHA = np.full((24, 40, 1), 128, np.uint8)


def read(*pages: Page, **options: object) -> Image:
    return decode_image(tiff_file(*pages, **options), name="x.tif")


def refusal(*pages: Page, **options: object) -> str:
    with pytest.raises(ImageReadError, match=r"^x\.tif: ") as error:
        read(*pages, **options)
    return str(error.value)


# ---- which page


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("is_big", [False, True], ids=["classic", "big"])
def test_a_plain_file_of_either_order_and_size_is_read(byte_order: str, is_big: bool) -> None:
    image = read(Page(smooth()), byte_order=byte_order, is_big=is_big)
    np.testing.assert_array_equal(as_levels(image.pixels, 8), smooth())
    assert image.notes == ()


@pytest.mark.parametrize("preview", [{254: 1}, {255: 2}, {254: 5}], ids=["new tag", "old tag", "reduced mask"])
def test_the_first_full_page_is_the_picture_and_previews_are_passed_over(
    preview: dict[int, int], tmp_path: Path
) -> None:
    pages = Page(smooth(6, 10), preview), Page(smooth()), Page(smooth(12, 20), {254: 1}), Page(smooth(3, 4), {254: 2})
    image = read(*pages)
    np.testing.assert_array_equal(as_levels(image.pixels, 8), smooth())
    assert "1 further frame is not upscaled" in image.notes
    (tmp_path / "x.tif").write_bytes(tiff_file(*pages))
    assert read_size(tmp_path / "x.tif") == (24, 40)


def test_a_picture_in_a_subdirectory_of_its_preview_is_found(tmp_path: Path) -> None:
    page = Page(smooth(6, 10), {254: 1}, subpages=[Page(smooth(3, 5), {254: 1}), Page(smooth())])
    np.testing.assert_array_equal(as_levels(read(page).pixels, 8), smooth())
    (tmp_path / "x.tif").write_bytes(tiff_file(page))
    assert read_size(tmp_path / "x.tif") == (24, 40)


def test_a_file_of_previews_alone_is_its_first_page_and_masks_are_reported() -> None:
    image = read(Page(smooth(6, 10), {254: 1}), Page(smooth(), {254: 1}))
    assert image.size == (6, 10)
    assert image.notes == ()
    assert read(Page(smooth()), Page(smooth()[..., 0], {254: 4})).notes == ("a transparency mask is dropped",)


# ---- camera raws


@pytest.mark.parametrize(
    "page",
    [
        Page(smooth().astype(np.uint16), {262: 34892}),
        Page(smooth()[..., 0], {262: 32803}),
        Page(smooth(), {254: 1}, subpages=[Page(smooth()[..., 0], {262: 32803})]),
        Page(smooth(), {50706: [1, 4, 0, 0]}),
    ],
    ids=["linear", "mosaic", "behind a preview", "DNG"],
)
def test_sensor_data_are_refused_as_a_camera_raw(page: Page) -> None:
    assert refusal(page) == f"x.tif: {RAW_REFUSED}"


def test_a_raw_on_a_later_page_and_one_of_canon_are_refused() -> None:
    assert refusal(Page(smooth()), Page(smooth()[..., 0], {262: 32803})) == f"x.tif: {RAW_REFUSED}"
    with pytest.raises(ImageReadError, match=re.escape(RAW_REFUSED)):
        inspect_tiff(b"II*\0\x10\0\0\0CR\2\0" + bytes(40))


# ---- samples besides the colours


@pytest.mark.parametrize("stated", [0, None], ids=["unspecified", "absent"])
@pytest.mark.parametrize("color", [smooth(), smooth()[..., :1]], ids=["RGB", "gray"])
def test_a_sample_that_is_not_marked_as_transparency_is_never_taken_for_it(color: np.ndarray, stated: int) -> None:
    image = read(Page(np.dstack([color, ALPHA]), {338: stated}))
    np.testing.assert_array_equal(as_levels(image.pixels, 8), color)
    assert image.alpha is None
    assert image.notes == ("a sample per pixel that is not marked as transparency is dropped",)


@pytest.mark.parametrize(("stated", "factor"), [(2, 1), (1, 128 / 255)], ids=["unassociated", "associated"])
def test_a_sample_that_is_marked_as_transparency_is_taken_for_it(stated: int, factor: float) -> None:
    color = (smooth() * factor).round().astype(np.uint8)
    image = read(Page(np.dstack([color, ALPHA]), {338: stated}))
    assert image.alpha is not None
    assert (as_levels(image.alpha, 8) == 128).all()
    assert np.abs(as_levels(image.pixels, 8).astype(int) - smooth()).max() <= 2
    assert image.notes == ()


def test_more_samples_are_refused() -> None:
    for samples, tags in (
        (np.dstack([smooth(), ALPHA, ALPHA]), {338: [2, 0]}),
        (smooth(), {262: 1}),  # gray and two samples that nothing is said of
        (np.dstack([smooth(), ALPHA]), {262: 8}),
    ):
        assert f"{samples.shape[2]} channels per pixel are not supported" in refusal(Page(samples, tags))


# ---- kinds of samples and of colours


@pytest.mark.parametrize(
    ("samples", "tags", "name"),
    [
        (smooth().astype(np.int16), {}, "16-bit signed integer samples"),
        (smooth().astype(np.int8), {}, "8-bit signed integer samples"),
        (smooth().astype(np.uint32), {}, "32-bit integer samples"),
        (smooth() / 255, {}, "64-bit floating-point samples"),
        (smooth()[..., 0].astype(np.complex64), {}, "complex samples"),
        (smooth(), {258: [10, 10, 10]}, "10-bit integer samples"),
        (smooth()[..., 0], {258: 12}, "12-bit integer samples"),
        (smooth()[..., 0], {258: 14}, "14-bit integer samples"),
        (smooth(), {258: [5, 6, 5]}, "channels of different bits or kinds"),
        (smooth(), {262: 6}, "YCbCr colours without JPEG compression"),
        (smooth(), {262: 9}, "ICC L*a*b* colours"),
        (smooth(), {262: 10}, "ITU L*a*b* colours"),
        (smooth()[..., 0], {262: 32844}, "HDR (LogLuv) colours"),
        (smooth(), {262: 77}, "colours of the kind 77 (PhotometricInterpretation)"),
        (np.dstack([smooth(), ALPHA]), {262: 5, 332: 2}, "inks other than CMYK"),
        (smooth(), {262: 5}, "inks other than CMYK"),
        (smooth(), {259: 34925}, "LZMA compression"),
        (smooth(), {259: 50000}, "ZSTD compression"),
        (smooth(), {259: 34712}, "JPEG 2000 compression"),
        (smooth(), {259: 34887}, "LERC compression"),
        (smooth(), {259: 50002}, "JPEG XL compression"),
        (smooth(), {259: 9999}, "scheme 9999 compression"),
    ],
)
def test_what_is_not_read_is_refused_by_its_name(samples: np.ndarray, tags: dict[int, int], name: str) -> None:
    message = refusal(Page(samples, tags))
    assert re.search(rf"{re.escape(name)} (is|are) not supported", message), message
    assert "damaged" not in message


def test_half_precision_is_read() -> None:
    image = read(Page((smooth() / 255).astype(np.float16)))
    np.testing.assert_allclose(image.pixels.permute(1, 2, 0).numpy(), smooth() / 255, atol=1e-3)


@pytest.mark.parametrize("photometric", [0, 1, 2])
@pytest.mark.parametrize("peak", [1023, 4095, 16383])
def test_fewer_bits_in_16_are_spread_over_the_range(peak: int, photometric: int) -> None:
    channels = 3 if photometric == 2 else 1
    shares = np.linspace(0, 1, 24 * 40 * channels).reshape(24, 40, channels)
    stored = (shares * peak).round().astype(np.uint16)
    image = read(Page(stored, {262: photometric, 281: [peak] * channels}))
    seen = 1 - shares if photometric == 0 else shares
    np.testing.assert_allclose(image.pixels.permute(1, 2, 0).numpy(), seen, atol=1 / peak)
    assert image.notes == (f"values are scaled from 0 to {peak}",)


@pytest.mark.parametrize("stated", [39871, 65535, 255, 4094])
def test_a_largest_value_that_is_no_number_of_bits_is_left_without_effect(stated: int) -> None:
    stored = levels(1, 16) // 300
    image = read(Page(stored, {281: stated}))
    np.testing.assert_array_equal(as_levels(image.pixels, 16), stored)


def test_values_beyond_the_stated_largest_show_that_it_is_no_range() -> None:
    stored = levels(1, 16)
    image = read(Page(stored, {281: 4095}))
    np.testing.assert_array_equal(as_levels(image.pixels, 16), stored)
    assert image.notes == ()


@pytest.mark.parametrize("bits", [8, 16])
def test_unsigned_lab_is_read_with_the_white_of_icc_profiles(bits: int) -> None:
    transform = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    lab = np.asarray(ImageCms.applyTransform(Pillow.fromarray(smooth()), transform)).astype(np.uint8)
    if bits == 16:
        signed = lab[..., 1:].view(np.int8).astype(np.int16) * 256
        lab = np.dstack([lab[..., 0].astype(np.uint16) * 257, signed.view(np.uint16)])
    image = read(Page(lab, {262: 8}))
    assert np.abs(as_levels(image.pixels, 8).astype(int) - smooth()).mean() < 1.5
    assert (image.depth, image.profile) == (bits, None)
    assert image.notes == ("converted from lab to sRGB",)


# ---- damage


def test_directories_in_a_ring_end(monkeypatch: pytest.MonkeyPatch) -> None:
    file = bytearray(tiff_file(Page(smooth())))
    (first,) = struct.unpack_from("<I", file, 4)
    struct.pack_into("<I", file, len(file) - 4, first)
    assert inspect_tiff(bytes(file)).num_further == 0
    monkeypatch.setattr("finescale.images.tiff._MAX_ENTRIES", 20)
    with pytest.raises(ImageReadError, match="damaged TIFF: its directories have more than 20 entries"):
        inspect_tiff(tiff_file(Page(smooth()), Page(smooth()), Page(smooth())))


def test_counts_that_lie_take_neither_time_nor_memory() -> None:
    file = bytearray(tiff_file(Page(smooth()), is_big=True))
    (at,) = struct.unpack_from("<Q", file, 8)
    struct.pack_into("<Q", file, at, 2**63)
    with pytest.raises(ImageReadError, match="its first directory cannot be read"):
        inspect_tiff(bytes(file))
    struct.pack_into("<Q", file, at, 2)
    struct.pack_into("<Q", file, at + 12, 2**62)  # values of the first entry
    started = time.monotonic()
    with pytest.raises(ImageReadError):
        decode_image(bytes(file), name="x.tif")
    assert time.monotonic() - started < 1


def test_an_absurd_size_is_refused_before_libvips_sees_it(capfd: pytest.CaptureFixture[str]) -> None:
    assert "4294967295 x 24 pixels" in refusal(Page(smooth(), {256: 2**32 - 1}))
    assert capfd.readouterr().err == ""


def test_a_file_cut_anywhere_is_refused() -> None:
    whole = tiff_file(Page(smooth(), {254: 1}), Page(np.dstack([smooth(), ALPHA]), {338: None}))
    for length in range(0, len(whole), 97):
        with pytest.raises(ImageReadError):
            decode_image(whole[:length], name="x.tif")
