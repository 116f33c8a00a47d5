"""Reading of image files: what comes out, and which files are refused. Pillow is the reference."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
import pyvips
import torch
from PIL import Image as Pillow
from PIL import ImageOps, PngImagePlugin

from finescale.errors import ImageReadError
from finescale.images import decode_image, encode_png, read_image, read_size, write_image
from images.samples import SRGB, SUFFIXES, as_levels, as_tensor, exif_with, levels, save_tiff, smooth

# ---- kinds of images, and of colour


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "BMP", "GIF"])
@pytest.mark.parametrize("mode", ["1", "P", "L", "RGB"])
def test_palettes_and_single_bits_are_spread_out(mode: str, file_format: str, tmp_path: Path) -> None:
    picture = Pillow.fromarray(smooth()).convert(mode)
    picture.save(tmp_path / "x", file_format)
    with Pillow.open(tmp_path / "x") as stored:
        expected = np.asarray(stored.convert("RGB"))
    image = read_image(tmp_path / "x")
    np.testing.assert_array_equal(np.broadcast_to(as_levels(image.pixels, 8), expected.shape), expected)
    if mode in ("1", "L") and file_format != "GIF":
        assert image.pixels.shape[0] == 1


def test_a_bilevel_fax_is_not_inverted(tmp_path: Path) -> None:
    Pillow.fromarray(smooth()[:, :, 0] > 100).save(tmp_path / "x.tif", compression="group4")
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif").pixels[0].numpy(), smooth()[:, :, 0] > 100)


@pytest.mark.parametrize("profile", [None, SRGB, SRGB[:300]], ids=["none", "of RGB", "cut short"])
def test_cmyk_becomes_srgb_whatever_profile_it_carries(profile: bytes | None, tmp_path: Path) -> None:
    Pillow.fromarray(smooth()).convert("CMYK").save(tmp_path / "x.tif", icc_profile=profile)
    image = read_image(tmp_path / "x.tif")
    assert image.profile is None
    assert image.notes == ("converted from CMYK to sRGB",)
    assert np.abs(as_levels(image.pixels, 8).astype(int) - smooth()).mean() < 40


def test_lab_becomes_srgb(tmp_path: Path) -> None:
    save_tiff(tmp_path / "x.tif", np.full((4, 4, 3), (53.24, 80.09, 67.2), np.float32), interpretation="lab")
    image = read_image(tmp_path / "x.tif")
    assert as_levels(image.pixels, 8)[0, 0] == pytest.approx([255, 0, 0], abs=2)  # the red of sRGB
    assert image.notes == ("converted from lab to sRGB",)


def test_floating_point_values_are_taken_as_they_are(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 48, dtype=np.float32).reshape(4, 4, 3)
    save_tiff(tmp_path / "x.tif", values)
    image = read_image(tmp_path / "x.tif")
    np.testing.assert_array_equal(image.pixels.permute(1, 2, 0).numpy(), values)
    assert (image.depth, image.notes) == (16, ())


def test_floating_point_values_beyond_the_range_are_refused_and_a_slight_overshoot_is_clipped(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 48, dtype=np.float32).reshape(4, 4, 3)
    save_tiff(tmp_path / "x.tif", values * np.float32(1.003))
    image = read_image(tmp_path / "x.tif")
    assert image.pixels.max() == 1
    assert image.notes == ("values outside [0, 1] are clipped",)
    for wrong, extent in ((values * 255, "0 to 255"), (values - 0.5, "-0.5 to 0.5"), (values * 1.5, "0 to 1.5")):
        save_tiff(tmp_path / "x.tif", wrong.astype(np.float32))
        with pytest.raises(ImageReadError, match=f"its values go from {extent}, outside 0 to 1; scale them"):
            read_image(tmp_path / "x.tif")


@pytest.mark.parametrize(
    ("shape", "kind", "reason"),
    [
        ((4, 4, 1), np.int32, "32-bit signed integer samples are not supported"),
        ((4, 4, 7), np.uint8, "7 channels per pixel are not supported"),
    ],
    ids=["int32", "7 channels"],
)
def test_samples_that_are_no_picture_are_refused(
    shape: tuple[int, ...], kind: type, reason: str, tmp_path: Path
) -> None:
    save_tiff(tmp_path / "x.tif", np.zeros(shape, kind))
    with pytest.raises(ImageReadError, match=reason):
        read_image(tmp_path / "x.tif")


# ---- size and orientation


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_exactly_once(orientation: int, file_format: str, tmp_path: Path) -> None:
    source = tmp_path / "x"
    Pillow.fromarray(smooth()).save(source, file_format, exif=exif_with(orientation), quality=100, subsampling="4:4:4")
    with Pillow.open(source) as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored).convert("RGB")).astype(int)
    image = read_image(source)
    assert image.size == expected.shape[:2]
    assert np.abs(as_levels(image.pixels, 8) - expected).max() <= 4
    for suffix in SUFFIXES:
        write_image(tmp_path / f"out{suffix}", image)
        with Pillow.open(tmp_path / f"out{suffix}") as written:
            shown = np.asarray(ImageOps.exif_transpose(written).convert("RGB")).astype(int)
        assert shown.shape == expected.shape
        assert np.abs(shown - expected).max() <= 10


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".gif"])
def test_the_size_of_a_picture_is_known_before_it_is_decoded(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"odd \xff name")
    Pillow.fromarray(smooth()).save(tmp_path / f"a{suffix}")
    (tmp_path / f"a{suffix}").rename(path)
    assert read_size(path) == (24, 40)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_of_a_turned_picture_is_the_upright_one(orientation: int, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Pillow.fromarray(smooth()).save(path, exif=exif_with(orientation))
    assert read_size(path) == read_image(path).size


def test_what_has_no_size_is_refused(tmp_path: Path) -> None:
    for name, data in {"text": b"no picture at all", "empty": b"", "start": b"\x89PNG\r\n\x1a\n"}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImageReadError, match=rf"{name}: (not an image|truncated or damaged)"):
            read_size(tmp_path / name)
    with pytest.raises(ImageReadError, match=r"gone: cannot be read \(No such file"):
        read_size(tmp_path / "gone")
    with pytest.raises(ImageReadError, match=r"cannot be read \(Is a directory"):
        read_size(tmp_path)


# ---- damage


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp", ".avif", ".gif"])
def test_a_file_cut_anywhere_is_refused_in_one_sentence(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    Pillow.fromarray(smooth()).save(path)
    whole = path.read_bytes()
    end = len(whole) - 1  # GIF's end mark and the padding of others may be missing without harm
    for length in range(0, end, max(1, len(whole) // 50)):
        path.write_bytes(whole[:length])
        with pytest.raises(ImageReadError) as error:
            read_image(path)
        assert str(error.value).startswith(f"{path}: ")
        assert "\n" not in str(error.value)
        assert "vips" not in str(error.value).lower().removeprefix(str(path).lower())


def test_a_jpeg_with_a_hole_is_refused_and_one_with_padding_is_read(tmp_path: Path) -> None:
    file = io.BytesIO()
    Pillow.fromarray(levels(3, 8, (64, 64))).save(file, "JPEG", quality=95)
    whole = file.getvalue()
    tables, scan = whole.index(b"\xff\xc4"), whole.index(b"\xff\xda")
    (tmp_path / "x.jpg").write_bytes(whole[:tables] + b"\0\0" + whole[tables:])
    image = read_image(tmp_path / "x.jpg")
    with Pillow.open(io.BytesIO(whole)) as undamaged:
        assert np.abs(as_levels(image.pixels, 8).astype(int) - np.asarray(undamaged)).max() <= 3
    assert len(image.notes) == 1
    assert image.notes[0].startswith("the decoder reports a defect (Corrupt JPEG data: 2 extraneous bytes")
    (tmp_path / "x.jpg").write_bytes(whole[: scan + 200] + whole[scan + 3000 :])
    with pytest.raises(ImageReadError, match=r"damaged \(Corrupt JPEG data: premature end of data segment\)$"):
        read_image(tmp_path / "x.jpg")


def test_many_small_texts_that_swell_are_not_inflated(tmp_path: Path) -> None:
    texts = PngImagePlugin.PngInfo()
    for number in range(3000):  # libpng alone stops at 1000, with an error
        texts.add_text(f"bomb {number}", "x" * 5000, zip=True)
    Pillow.fromarray(smooth()).save(tmp_path / "x.png", pnginfo=texts)
    np.testing.assert_array_equal(as_levels(read_image(tmp_path / "x.png").pixels, 8), smooth())


def test_a_format_that_libvips_was_built_without_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_image(tmp_path / "x.avif", as_tensor(smooth()))
    monkeypatch.setattr(pyvips, "type_find", lambda base, name: 0)
    with pytest.raises(ImageReadError, match="this libvips was built without AVIF; convert the file to PNG first"):
        read_image(tmp_path / "x.avif")


def test_missing_files_folders_and_unreadable_ones_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ImageReadError, match=r"none\.png: cannot be read \(No such file or directory\)"):
        read_image(tmp_path / "none.png")
    with pytest.raises(ImageReadError, match="is a folder or a device, not a file"):
        read_image(tmp_path)
    with pytest.raises(ImageReadError, match="is a folder or a device, not a file"):
        read_image(os.devnull)


def test_bytes_that_are_no_picture_are_refused_by_the_name_they_are_given() -> None:
    whole = encode_png(torch.zeros(1, 8, 8, dtype=torch.uint8))
    for data, reason in ((b"", "not an image"), (b"text", "not an image"), (whole[:-9], "truncated PNG")):
        with pytest.raises(ImageReadError, match=f"the third: {reason}"):
            decode_image(data, name="the third")
    with pytest.raises(ImageReadError, match="exceed the limit of"):
        decode_image(whole, name="the third", max_pixels=63)
