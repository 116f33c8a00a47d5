"""Writing of image files: what every format keeps, and what is refused. Pillow and scikit-image are the reference."""

from __future__ import annotations

import dataclasses
import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.io
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from finescale.errors import ImageReadError, ImageWriteError, printable_name
from finescale.images import Image, decode_image, encode_png, read_image, write_image
from finescale.images.levels import to_levels
from images.samples import (
    SRGB,
    SUFFIXES,
    as_image,
    as_levels,
    as_tensor,
    exif_with,
    files_in,
    levels,
    planes_of,
    smooth,
)

# ---- round trips


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
        assert to_levels([torch.full((1, 1), value)], depth) == expected


def test_half_a_level_goes_up(tmp_path: Path) -> None:
    write_image(tmp_path / "x.png", torch.tensor([0.5, 2.5, 3.5, 254.5]).reshape(1, 1, 4) / 255)
    with Pillow.open(tmp_path / "x.png") as seen_by_pillow:
        assert np.asarray(seen_by_pillow).tolist() == [[1, 3, 4, 255]]


def test_tensors_of_half_precision_with_gradient_are_written(tmp_path: Path) -> None:
    write_image(tmp_path / "x.png", torch.full((3, 2, 2), 1.0, dtype=torch.bfloat16, requires_grad=True))
    assert read_image(tmp_path / "x.png").pixels.min() == 1


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


# ---- what a format cannot hold


def test_what_a_format_cannot_hold_is_reported(tmp_path: Path) -> None:
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
        "BMP holds no colour profile: converted to sRGB",
        "BMP holds no EXIF data: dropped",
        "BMP holds no XMP data: dropped",
        "BMP holds no IPTC data: dropped",
    )
    assert write_image(tmp_path / "x.tif", everything) == ("TIFF holds no EXIF data: dropped",)
    assert write_image(tmp_path / "x.png", everything) == ("PNG holds no IPTC data: dropped",)
    large = dataclasses.replace(as_image(smooth()), metadata={"xmp-data": b"x" * 70_000})
    assert write_image(tmp_path / "x.jpg", large) == ("70000 bytes of XMP data do not fit into JPEG: dropped",)


def test_transparency_is_flattened_on_white_and_opaque_alpha_just_left_out(tmp_path: Path) -> None:
    black = torch.zeros(1, 8, 8)
    half = Image(black, torch.full((1, 8, 8), 0.5))
    assert write_image(tmp_path / "x.bmp", half) == ("BMP holds no transparency: flattened on white",)
    assert as_levels(read_image(tmp_path / "x.bmp").pixels, 8)[0, 0, 0] == 128
    assert write_image(tmp_path / "x.bmp", Image(black, torch.ones(1, 8, 8))) == ()


# ---- refusals


def test_an_unknown_suffix_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    for name in ("x.gif", "x", "x.png.txt"):
        with pytest.raises(ImageWriteError, match=r"known: \.png \.jpg \.webp \.tif \.bmp \.avif \.jpeg \.tiff"):
            write_image(tmp_path / name, torch.zeros(3, 2, 2))
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(("suffix", "limit"), [(".jpg", 65500), (".webp", 16383), (".avif", 16384)])
def test_a_picture_too_large_for_its_format_is_refused_with_the_limit(suffix: str, limit: int, tmp_path: Path) -> None:
    write_image(tmp_path / f"fits{suffix}", torch.zeros(1, 1, limit))
    with pytest.raises(ImageWriteError, match=rf"{limit + 1} x 1 pixels exceed the {limit} per side .* choose \.png"):
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
    with pytest.raises(ValueError, match="quality must be between 1 and 100, got 0"):
        write_image(tmp_path / "x.jpg", torch.zeros(3, 4, 4), quality=0)


@pytest.mark.parametrize(
    "tensor", [torch.zeros(3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.uint8), torch.zeros(3, 0, 4, dtype=torch.uint8)]
)
def test_only_8_bit_pixels_are_encoded(tensor: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"levels must be uint8 \(1 or 3, H, W\), got torch"):
        encode_png(tensor)


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
        (tmp_path / f"{'a' * 252}.png", r"the file name has 256 bytes, more than the system allows"),
    ):
        with pytest.raises(ImageWriteError, match=reason):
            write_image(path, torch.zeros(3, 2, 2))
    assert files_in(tmp_path) == ["file", "folder.png"]


# ---- names


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
