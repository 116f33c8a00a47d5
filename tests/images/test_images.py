"""The door for pixels: what goes in comes out, and what does not is said. Pillow and scikit-image are the witnesses."""

from __future__ import annotations

import dataclasses
import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import pyvips
import skimage.io
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow
from PIL import ImageCms, ImageOps, PngImagePlugin

from finescale import images
from finescale.errors import ImageReadError, ImageWriteError, printable_name
from finescale.images import Image, decode_image, encode_png, read_image, read_size, write_image

SUFFIXES = [".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".avif"]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def levels(channels: int, depth: int, size: tuple[int, int] = (9, 13)) -> np.ndarray:
    rng = np.random.default_rng(channels * depth)
    return rng.integers(0, 2**depth, (*size, channels), dtype=np.uint8 if depth == 8 else np.uint16)


def smooth(height: int = 24, width: int = 40) -> np.ndarray:
    """A picture that lossy formats keep well."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([40 + 4 * x, 60 + 5 * y, 200 - 2 * x - 2 * y], axis=2).astype(np.uint8)


def as_tensor(numbers: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(numbers.astype(np.float32) / np.iinfo(numbers.dtype).max).permute(2, 0, 1).contiguous()


def as_levels(tensor: torch.Tensor, depth: int) -> np.ndarray:
    return (tensor.double() * (2**depth - 1)).round().permute(1, 2, 0).numpy().astype(f"u{depth // 8}")


def as_image(numbers: np.ndarray) -> Image:
    planes = as_tensor(numbers)
    depth = 8 * numbers.dtype.itemsize
    return Image(planes[:-1], planes[-1:], depth) if len(planes) in (2, 4) else Image(planes, depth=depth)


def planes_of(image: Image) -> torch.Tensor:
    return image.pixels if image.alpha is None else torch.cat([image.pixels, image.alpha])


def save_tiff(path: Path, samples: np.ndarray, interpretation: str | None = None) -> None:
    path.write_bytes(pyvips.Image.new_from_array(samples, interpretation=interpretation).tiffsave_buffer())


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# -------------------------------------------------------------------------------------------------------- round trips


WITHOUT_LOSS = [
    *((suffix, depth, channels) for suffix in (".png", ".tif") for depth in (8, 16) for channels in (1, 2, 3, 4)),
    *((".webp", 8, channels) for channels in (1, 2, 3, 4)),
    *((".bmp", 8, channels) for channels in (1, 3)),
]


@pytest.mark.parametrize(("suffix", "depth", "channels"), WITHOUT_LOSS)
def test_formats_without_loss_keep_every_number(suffix: str, depth: int, channels: int, tmp_path: Path) -> None:
    numbers, path = levels(channels, depth), tmp_path / f"x{suffix}"
    assert write_image(path, as_image(numbers), quality=100) == ()
    back = read_image(path)
    expected = numbers
    if suffix == ".webp" and channels < 3:  # WebP knows no gray
        expected = numbers[:, :, [0, 0, 0, 1][: channels + 2]]
    np.testing.assert_array_equal(as_levels(planes_of(back), depth), expected)
    assert back.depth == depth
    assert (back.alpha is None) == (channels in (1, 3))
    assert back.notes == ()
    if depth == 8:
        with Pillow.open(path) as seen_by_pillow:
            np.testing.assert_array_equal(np.asarray(seen_by_pillow).reshape(expected.shape), expected)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_are_seen_by_others_and_read_from_them(channels: int, tmp_path: Path) -> None:
    numbers = levels(channels, 16)
    write_image(tmp_path / "ours.tif", as_image(numbers))
    np.testing.assert_array_equal(skimage.io.imread(tmp_path / "ours.tif").reshape(numbers.shape), numbers)
    skimage.io.imsave(tmp_path / "theirs.tif", numbers.squeeze(), check_contrast=False)
    np.testing.assert_array_equal(as_levels(planes_of(read_image(tmp_path / "theirs.tif")), 16), numbers)


def test_sixteen_bits_of_gray_are_kept_in_png_as_pillow_sees_it(tmp_path: Path) -> None:
    numbers = levels(1, 16)
    write_image(tmp_path / "ours.png", as_image(numbers))
    with Pillow.open(tmp_path / "ours.png") as seen_by_pillow:
        np.testing.assert_array_equal(np.asarray(seen_by_pillow)[:, :, None], numbers)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp", ".avif", ".JPG"])
def test_lossy_formats_keep_the_picture(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    assert write_image(path, as_tensor(smooth())) == ()
    with Pillow.open(path) as seen_by_pillow:
        assert np.abs(np.asarray(seen_by_pillow.convert("RGB")).astype(int) - smooth()).max() <= 10
    assert np.abs(as_levels(read_image(path).pixels, 8).astype(int) - smooth()).max() <= 10


def test_jpeg_keeps_gray_gray_and_colours_at_full_resolution(tmp_path: Path) -> None:
    write_image(tmp_path / "gray.jpg", as_tensor(smooth()[:, :, :1]))
    assert read_image(tmp_path / "gray.jpg").pixels.shape == (1, 24, 40)
    stripes = torch.zeros(3, 16, 16)
    stripes[0, :, ::2] = 1  # red columns, one pixel wide: halving the chroma would smear them
    write_image(tmp_path / "stripes.jpg", stripes)
    assert (read_image(tmp_path / "stripes.jpg").pixels - stripes).abs().max() < 0.08


def test_a_lower_quality_makes_a_smaller_file(tmp_path: Path) -> None:
    for suffix in (".jpg", ".webp", ".avif"):
        sizes = []
        for quality in (30, 90):
            write_image(tmp_path / f"x{suffix}", as_tensor(levels(3, 8, (64, 64))), quality=quality)
            sizes.append((tmp_path / f"x{suffix}").stat().st_size)
        assert sizes[0] < sizes[1]


@given(st.floats(min_value=-0.5, max_value=1.5, width=32))
def test_values_are_clamped_and_rounded_half_up(value: float) -> None:
    for depth, kind in ((8, np.uint8), (16, np.uint16)):
        peak = 2**depth - 1
        expected = np.clip(np.floor(np.float32(value) * np.float32(peak) + np.float32(0.5)), 0, peak).astype(kind)
        assert images._to_levels([torch.full((1, 1), value)], depth) == expected


def test_half_a_level_goes_up(tmp_path: Path) -> None:
    write_image(tmp_path / "x.png", torch.tensor([0.5, 2.5, 3.5, 254.5]).reshape(1, 1, 4) / 255)
    with Pillow.open(tmp_path / "x.png") as seen_by_pillow:
        assert np.asarray(seen_by_pillow).tolist() == [[1, 3, 4, 255]]


def test_tensors_of_half_precision_with_gradient_are_written(tmp_path: Path) -> None:
    write_image(tmp_path / "x.png", torch.full((3, 2, 2), 1.0, dtype=torch.bfloat16, requires_grad=True))
    assert read_image(tmp_path / "x.png").pixels.min() == 1


# ------------------------------------------------------------------------------------- kinds of pictures, and of colour


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
    save_tiff(tmp_path / "x.tif", values * 2)
    image = read_image(tmp_path / "x.tif")
    assert image.pixels.max() == 1
    assert image.notes == ("values outside [0, 1] are clipped",)


@pytest.mark.parametrize(
    ("shape", "kind", "reason"),
    [((4, 4, 1), np.int32, "samples of kind int are not known"), ((4, 4, 7), np.uint8, "7 channels per pixel")],
    ids=["int32", "7 channels"],
)
def test_samples_that_are_no_picture_are_refused(
    shape: tuple[int, ...], kind: type, reason: str, tmp_path: Path
) -> None:
    save_tiff(tmp_path / "x.tif", np.zeros(shape, kind))
    with pytest.raises(ImageReadError, match=reason):
        read_image(tmp_path / "x.tif")


# ------------------------------------------------------------------------------------------- what goes with the pixels


def exif_with(orientation: int) -> Pillow.Exif:
    exif = Pillow.Exif()
    exif[270] = "a description"
    exif[274] = orientation
    return exif


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_exactly_once(orientation: int, file_format: str, tmp_path: Path) -> None:
    source = tmp_path / "x"
    Pillow.fromarray(smooth()).save(source, file_format, exif=exif_with(orientation), quality=100)
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


def test_what_a_format_cannot_hold_is_said(tmp_path: Path) -> None:
    everything = dataclasses.replace(
        as_image(levels(4, 16)),
        profile=SRGB,
        metadata={"exif-data": exif_with(1).tobytes(), "xmp-data": b"<x/>", "iptc-data": b"\x1c\x02"},
    )
    assert write_image(tmp_path / "x.jpg", everything) == (
        "JPEG holds 8 bits per channel: reduced from 16",
        "JPEG holds no transparency: flattened on white",
    )
    assert write_image(tmp_path / "x.bmp", everything)[2:] == (
        "BMP holds no colour profile: dropped",
        "BMP holds no EXIF data: dropped",
        "BMP holds no XMP data: dropped",
        "BMP holds no IPTC data: dropped",
    )
    assert write_image(tmp_path / "x.tif", everything) == ("TIFF holds no EXIF data: dropped",)
    assert write_image(tmp_path / "x.png", everything) == ("PNG holds no IPTC data: dropped",)
    large = dataclasses.replace(as_image(smooth()), metadata={"xmp-data": b"x" * 70_000})
    assert write_image(tmp_path / "x.jpg", large) == ("70000 bytes of XMP data do not fit into JPEG: dropped",)


def test_a_profile_for_other_pixels_is_dropped_and_said(tmp_path: Path) -> None:
    Pillow.fromarray(smooth()).convert("L").save(tmp_path / "x.jpg", icc_profile=SRGB)
    image = read_image(tmp_path / "x.jpg")
    assert image.profile is None
    assert image.notes == ("the colour profile does not fit gray pixels: dropped",)
    wrong = dataclasses.replace(image, profile=SRGB)
    assert write_image(tmp_path / "x.png", wrong) == ("the colour profile does not fit gray pixels: dropped",)


def test_damaged_exif_is_dropped_and_said(tmp_path: Path) -> None:
    Pillow.fromarray(smooth()).save(tmp_path / "x.jpg", exif=b"Exif\0\0MM\0*\0\0\xff\xff")
    image = read_image(tmp_path / "x.jpg")
    assert "exif-data" not in image.metadata
    assert image.notes == ("the EXIF data are damaged: dropped",)


def test_transparency_is_flattened_on_white_and_opaque_alpha_just_left_out(tmp_path: Path) -> None:
    black = torch.zeros(1, 8, 8)
    half = Image(black, torch.full((1, 8, 8), 0.5))
    assert write_image(tmp_path / "x.bmp", half) == ("BMP holds no transparency: flattened on white",)
    assert as_levels(read_image(tmp_path / "x.bmp").pixels, 8)[0, 0, 0] == 128
    assert write_image(tmp_path / "x.bmp", Image(black, torch.ones(1, 8, 8))) == ()


# -------------------------------------------------------------------------------------------------- damage in reading


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
    assert image.notes[0].startswith("the file is not quite in order (Corrupt JPEG data: 2 extraneous bytes")
    (tmp_path / "x.jpg").write_bytes(whole[: scan + 200] + whole[scan + 3000 :])
    with pytest.raises(ImageReadError, match=r"damaged \(Corrupt JPEG data: premature end of data segment\)$"):
        read_image(tmp_path / "x.jpg")


def test_many_small_texts_that_swell_are_not_inflated(tmp_path: Path) -> None:
    texts = PngImagePlugin.PngInfo()
    for number in range(3000):  # libpng alone stops at 1000, with an error
        texts.add_text(f"bomb {number}", "x" * 5000, zip=True)
    Pillow.fromarray(smooth()).save(tmp_path / "x.png", pnginfo=texts)
    np.testing.assert_array_equal(as_levels(read_image(tmp_path / "x.png").pixels, 8), smooth())


def test_a_format_that_libvips_was_built_without_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
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


# -------------------------------------------------------------------------------------------------- refusals in writing


def test_an_unknown_suffix_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    for name in ("x.gif", "x", "x.png.txt"):
        with pytest.raises(ImageWriteError, match=r"known: \.png \.jpg \.webp \.tif \.bmp \.avif \.jpeg \.tiff"):
            write_image(tmp_path / name, torch.zeros(3, 2, 2))
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(("suffix", "limit"), [(".jpg", 65500), (".webp", 16383), (".avif", 16384)])
def test_a_picture_too_large_for_its_format_is_refused_with_the_limit(suffix: str, limit: int, tmp_path: Path) -> None:
    write_image(tmp_path / f"fits{suffix}", torch.zeros(1, 1, limit))
    with pytest.raises(ImageWriteError, match=rf"{limit + 1} x 1 pixels pass the {limit} a side .* choose \.png"):
        write_image(tmp_path / f"large{suffix}", torch.zeros(1, 1, limit + 1))
    assert files_in(tmp_path) == [f"fits{suffix}"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_is_never_written(value: float, tmp_path: Path) -> None:
    pixels, hole = torch.zeros(3, 4, 4), torch.ones(1, 4, 4)
    hole[0, 2, 2] = value
    for image in (Image(pixels * hole), Image(pixels, hole)):
        for suffix in SUFFIXES if value != value else [".png"]:
            with pytest.raises(ImageWriteError, match="NaN or infinite"):
                write_image(tmp_path / f"x{suffix}", image)
    assert files_in(tmp_path) == []


def test_wrong_arguments_are_refused_with_their_values(tmp_path: Path) -> None:
    for shape in ((4, 4), (2, 4, 4), (1, 3, 4, 4), (3, 0, 4)):
        with pytest.raises(ValueError, match=r"pixels must be float \(1 or 3, H, W\), got"):
            write_image(tmp_path / "x.png", torch.zeros(shape))
    with pytest.raises(ValueError, match=r"got torch\.uint8"):
        write_image(tmp_path / "x.png", torch.zeros(3, 4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"alpha must be float \(1, 4, 4\), got torch.float32 \(4, 4\)"):
        Image(torch.zeros(3, 4, 4), torch.zeros(4, 4))
    with pytest.raises(ValueError, match="depth must be 8 or 16, got 10"):
        Image(torch.zeros(3, 4, 4), depth=10)
    with pytest.raises(ValueError, match="quality must be between 1 and 100, got 0"):
        write_image(tmp_path / "x.jpg", torch.zeros(3, 4, 4), quality=0)


@pytest.fixture(params=[KeyboardInterrupt, OSError(28, "No space left on device")], ids=["interrupt", "full disk"])
def failing_disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[BaseException]:
    """The moment when most has been written and it is not yet whole."""

    def fail(descriptor: int) -> None:
        raise request.param

    monkeypatch.setattr(os, "fsync", fail)
    return ImageWriteError if isinstance(request.param, OSError) else request.param


def test_a_failure_leaves_nothing_and_what_was_there(failing_disk: type[BaseException], tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"the older file")
    with pytest.raises(failing_disk):
        write_image(tmp_path / "x.png", torch.zeros(3, 2, 2))
    assert files_in(tmp_path) == ["x.png"]
    assert (tmp_path / "x.png").read_bytes() == b"the older file"


def test_places_that_cannot_be_written_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    for path, reason in (
        (tmp_path / "none" / "x.png", r"the folder .*none does not exist"),
        (tmp_path / "file" / "x.png", r"cannot be written \(Not a directory\)"),
        (tmp_path / "folder.png", r"cannot be written \(Is a directory\)"),
        (tmp_path / f"{'a' * 252}.png", r"the name's 256 bytes are more than the system allows"),
    ):
        with pytest.raises(ImageWriteError, match=reason):
            write_image(path, torch.zeros(3, 2, 2))
    assert files_in(tmp_path) == ["file", "folder.png"]


# --------------------------------------------------------------------------------------------------------------- names


LONGEST = f"{'é' * 125}b.png"  # 255 bytes


@pytest.mark.skipif(sys.platform != "linux", reason="other systems forbid some of these names")
@pytest.mark.parametrize(
    "name",
    [
        "-dash [Q=1].png",
        "line\nbreak.png",
        "100 %s {0}.png",
        "名前 🙂.png",
        "a\u202egnp.png",
        "\udcff\udc80.png",
        LONGEST,
    ],
    ids=ascii,
)
def test_any_name_is_read_and_written(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with pytest.raises(ImageReadError, match=r"No such file or directory") as error:
        read_image(path)
    assert "\n" not in str(error.value)
    write_image(path, as_tensor(smooth()))
    np.testing.assert_array_equal(as_levels(read_image(str(path)).pixels, 8), smooth())
    assert files_in(tmp_path) == [name]


def test_names_are_printed_on_one_line() -> None:
    assert printable_name("名前 a\n\t\x07b\u202ec\udcff.png") == "名前 a\\n\\t\\x07b\\u202ec\\udcff.png"
    assert printable_name(Path("plain.png")) == "plain.png"


# ---- bytes instead of files


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("compression", [0, 1, 9])
def test_encoded_pixels_are_a_png_of_nothing_else_and_decoded_exactly(channels: int, compression: int) -> None:
    numbers = levels(channels, 8)
    encoded = encode_png(torch.from_numpy(numbers).permute(2, 0, 1), compression=compression)
    with Pillow.open(io.BytesIO(encoded)) as picture:
        assert picture.mode == ("L" if channels == 1 else "RGB")
        assert np.array_equal(np.atleast_3d(np.asarray(picture)), numbers)
        assert set(picture.info) <= {"dpi"}
    assert np.array_equal(as_levels(decode_image(encoded, name="a").pixels, 8), numbers)


def test_bytes_that_are_no_picture_are_refused_by_the_name_they_are_given() -> None:
    whole = encode_png(torch.zeros(1, 8, 8, dtype=torch.uint8))
    for data, reason in ((b"", "not an image"), (b"text", "not an image"), (whole[:-9], "truncated PNG")):
        with pytest.raises(ImageReadError, match=f"the third: {reason}"):
            decode_image(data, name="the third")
    with pytest.raises(ImageReadError, match="pass the limit of"):
        decode_image(whole, name="the third", max_pixels=63)


@pytest.mark.parametrize(
    "tensor", [torch.zeros(3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.uint8), torch.zeros(3, 0, 4, dtype=torch.uint8)]
)
def test_only_8_bit_pixels_are_encoded(tensor: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"levels must be uint8 \(1 or 3, H, W\), got torch"):
        encode_png(tensor)
