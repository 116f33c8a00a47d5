"""Colours without a profile of the file's own: what is attached at reading, and converted at writing."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from PIL import ImageCms

from finescale.errors import ImageReadError
from finescale.images import Image, decode_image, read_image, write_image
from finescale.images.color import to_srgb
from finescale.images.icc import SRGB_PRIMARIES, build_profile, profile_of_cicp
from images.samples import SRGB, as_levels, as_tensor, smooth

P3 = (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
IMPOSSIBLE = (0.3127, 0.3290, 0, 0, 0, 0, 0, 0)


def png_with(*chunks: tuple[bytes, bytes], mode: str = "RGB", **options: object) -> bytes:
    """A PNG file with chunks behind its header."""
    file = io.BytesIO()
    Pillow.fromarray(smooth()).convert(mode).save(file, "PNG", **options)
    data = file.getvalue()
    added = b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
    return data[:33] + added + data[33:]


def cicp(primaries: int, transfer: int, matrix: int = 0, full: int = 1) -> tuple[bytes, bytes]:
    return b"cICP", bytes((primaries, transfer, matrix, full))


def chromaticities(*values: float) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *(round(100_000 * value) for value in values))


def gamma(value: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(100_000 * value))


def read(*chunks: tuple[bytes, bytes], mode: str = "RGB", **options: object) -> Image:
    return decode_image(png_with(*chunks, mode=mode, **options), name="x.png")


def test_numbers_of_a_png_become_a_profile_and_pixels_stay() -> None:
    image = read(cicp(12, 13))
    assert image.profile == profile_of_cicp(12, 13, is_gray=False)
    np.testing.assert_array_equal(as_levels(image.pixels, 8), smooth())
    assert image.notes == ()
    assert read(cicp(12, 8), mode="L").profile == profile_of_cicp(12, 8, is_gray=True)


def test_numbers_go_before_a_profile_and_a_profile_before_chromaticities() -> None:
    assert read(cicp(12, 13), icc_profile=SRGB).profile == profile_of_cicp(12, 13, is_gray=False)
    assert read(cicp(1, 13), icc_profile=SRGB).profile is None
    assert read(chromaticities(*P3), icc_profile=SRGB).profile == SRGB
    assert read(cicp(1, 13), chromaticities(*P3)).profile is None
    assert read((b"sRGB", b"\0"), chromaticities(*P3)).profile is None


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_is_refused_by_name(transfer: int) -> None:
    with pytest.raises(ImageReadError, match=r"x\.png: HDR colours with the transfer function (PQ|HLG)"):
        read(cicp(9, transfer))
    with pytest.raises(ImageReadError, match="narrow"):
        read(cicp(1, 13, full=0))
    assert read(cicp(9, transfer, matrix=9)).profile is None  # invalid in PNG


def test_chromaticities_of_a_png_become_a_profile_with_its_gamma() -> None:
    assert read(chromaticities(*P3)).profile == build_profile(P3, None, name="PNG chromaticities", is_gray=False)
    expected = build_profile(P3, 1 / 0.45455, name="PNG chromaticities", is_gray=False)
    assert read(chromaticities(*P3), gamma(0.45455)).profile == expected
    assert read(chromaticities(*P3), mode="L").profile is None  # of gray they say nothing


def test_a_gamma_without_other_primaries_is_left_without_effect() -> None:
    for chunks in ([gamma(1)], [gamma(1), chromaticities(*SRGB_PRIMARIES)], [gamma(0), gamma(3)]):
        image = read(*chunks)
        assert (image.profile, image.notes) == (None, ())


def test_impossible_chromaticities_are_dropped_with_a_note() -> None:
    image = read(chromaticities(*IMPOSSIBLE))
    assert (image.profile, image.notes) == (None, ("the stated primaries are impossible: dropped",))
    image = read(chromaticities(*P3), gamma(0.00001))
    assert (image.profile, image.notes) == (None, ("the stated primaries are impossible: dropped",))


# ---- conversion


def converted(levels: np.ndarray, profile: bytes) -> np.ndarray:
    own, srgb = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
    return np.asarray(ImageCms.profileToProfile(Pillow.fromarray(levels), own, srgb, outputMode="RGB")).astype(int)


def test_conversion_is_that_of_little_cms_in_colour_and_gray() -> None:
    profile = profile_of_cicp(12, 13, is_gray=False)
    gray_profile = profile_of_cicp(12, 8, is_gray=True)
    assert profile is not None
    assert gray_profile is not None
    ours = as_levels(to_srgb(as_tensor(smooth()), profile), 8)
    assert np.abs(ours.astype(int) - converted(smooth(), profile)).mean() < 0.1  # at the edge of the gamut more
    gray = smooth()[..., 1]
    ours = as_levels(to_srgb(as_tensor(gray[..., None]), gray_profile), 8)
    assert ours.shape == (24, 40, 1)
    assert np.abs(ours.astype(int) - converted(gray, gray_profile)[..., :1]).max() <= 1


def test_a_profile_that_bmp_does_not_hold_is_converted_before_alpha_is_flattened(tmp_path: Path) -> None:
    profile = profile_of_cicp(12, 13, is_gray=False)
    assert profile is not None
    image = Image(as_tensor(smooth()), torch.full((1, 24, 40), 0.5), profile=profile)
    assert write_image(tmp_path / "x.bmp", image) == (
        "BMP holds no transparency: flattened on white",
        "BMP holds no colour profile: converted to sRGB",
    )
    back = as_levels(read_image(tmp_path / "x.bmp").pixels, 8).astype(float)
    assert np.abs(back - (converted(smooth(), profile) / 2 + 127.5)).mean() < 0.5


@pytest.mark.parametrize("suffix", [".webp", ".avif", ".bmp"])
def test_a_gray_profile_is_converted_where_gray_becomes_rgb(suffix: str, tmp_path: Path) -> None:
    profile = profile_of_cicp(12, 8, is_gray=True)
    assert profile is not None
    gray = smooth()[..., 1:2]
    (note,) = write_image(tmp_path / f"x{suffix}", Image(as_tensor(gray), profile=profile))
    assert note.endswith("colour profile: converted to sRGB")
    back = read_image(tmp_path / f"x{suffix}")
    assert back.profile is None
    assert np.abs(as_levels(back.pixels, 8).astype(int)[..., :1] - converted(gray[..., 0], profile)[..., :1]).mean() < 2


@pytest.mark.parametrize("kept", [132, 300], ids=["no tags", "tags of nothing"])
def test_a_profile_without_colours_is_dropped_and_said(kept: int, tmp_path: Path) -> None:
    whole = profile_of_cicp(12, 13, is_gray=False)
    assert whole is not None
    damaged = whole[:128] + bytes(4) if kept == 132 else whole[:kept] + b"\xff" * (len(whole) - kept)
    damaged = len(damaged).to_bytes(4, "big") + damaged[4:]
    assert write_image(tmp_path / "x.bmp", Image(as_tensor(smooth()), profile=damaged)) == (
        "the colour profile is damaged: dropped",
    )
    np.testing.assert_array_equal(as_levels(read_image(tmp_path / "x.bmp").pixels, 8), smooth())


def test_what_a_format_holds_is_not_converted(tmp_path: Path) -> None:
    profile = profile_of_cicp(12, 13, is_gray=False)
    assert write_image(tmp_path / "x.png", Image(as_tensor(smooth()), profile=profile)) == ()
    back = read_image(tmp_path / "x.png")
    assert back.profile == profile
    np.testing.assert_array_equal(as_levels(back.pixels, 8), smooth())
