"""Profiles of colours that a file states by numbers; Little CMS, by Pillow, is the reference."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageCms

from finescale.errors import ImageReadError
from finescale.images.icc import SRGB_PRIMARIES, build_profile, is_srgb, profile_of_cicp
from finescale.images.metadata import profile_mismatch

# Linear Display P3 to linear sRGB (CSS Color 4), both under D65.
P3_TO_SRGB = np.array([[1.2249402, -0.2249402, 0], [-0.0420569, 1.0420569, 0], [-0.0196376, -0.0786361, 1.0982735]])


def through(profile: bytes, levels: np.ndarray) -> np.ndarray:
    own, srgb = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
    return np.asarray(ImageCms.profileToProfile(Pillow.fromarray(levels), own, srgb, outputMode="RGB")).astype(float)


def linear(levels: np.ndarray) -> np.ndarray:
    share = levels / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def encoded(light: np.ndarray) -> np.ndarray:
    light = light.clip(0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def colors() -> np.ndarray:
    return np.stack(np.meshgrid(*[np.linspace(60, 190, 9)] * 3), -1).reshape(27, 27, 3).astype(np.uint8)


def test_display_p3_is_what_css_says() -> None:
    profile = profile_of_cicp(12, 13, is_gray=False)
    assert profile is not None
    expected = encoded(linear(colors()) @ P3_TO_SRGB.T)
    assert np.abs(through(profile, colors()) - expected).max() <= 1.1


def test_primaries_of_srgb_change_nothing_and_a_gamma_changes_the_curve() -> None:
    slightly = (*SRGB_PRIMARIES[:-1], 0.066)  # just different enough to get a profile
    profile = build_profile(slightly, None, name="x", is_gray=False)
    assert profile is not None
    assert np.abs(through(profile, colors()) - colors()).mean() < 2
    profile = build_profile(SRGB_PRIMARIES, 1.0, name="x", is_gray=False)
    assert profile is not None
    assert np.abs(through(profile, colors()) - encoded(colors() / 255)).max() <= 1.1


def test_a_gray_profile_has_the_curve_alone() -> None:
    profile = profile_of_cicp(9, 4, is_gray=True)
    assert profile is not None
    assert profile_mismatch(profile, 1) is None
    ramp = np.arange(256, dtype=np.uint8)[None]
    expected = encoded((ramp / 255) ** 2.2)[..., None]
    assert np.abs(through(profile, ramp) - expected).max() <= 1.1


@pytest.mark.parametrize("primaries", [1, 4, 5, 6, 7, 8, 9, 11, 12, 22])
def test_every_profile_fits_rgb_and_keeps_white(primaries: int) -> None:
    profile = profile_of_cicp(primaries, 4, is_gray=False)
    assert profile is not None
    assert profile_mismatch(profile, 3) is None
    assert (through(profile, np.full((1, 1, 3), 255, np.uint8)) == 255).all()
    assert len(profile) == int.from_bytes(profile[:4], "big")


@pytest.mark.parametrize("transfer", [1, 2, 6, 13, 14, 15])
@pytest.mark.parametrize("primaries", [1, 2])
def test_what_is_shown_as_srgb_gets_no_profile(primaries: int, transfer: int) -> None:
    assert profile_of_cicp(primaries, transfer, is_gray=False) is None
    assert profile_of_cicp(12, transfer, is_gray=True) is None


@pytest.mark.parametrize(
    ("primaries", "transfer", "is_full_range", "reason"),
    [
        (9, 16, True, "HDR colours with the transfer function PQ (SMPTE ST 2084) are not supported; convert it to SDR"),
        (9, 18, True, "HDR colours with the transfer function HLG (ARIB STD-B67) are not supported; convert it to SDR"),
        (1, 13, False, "samples of narrow (video) range are not supported"),
        (1, 17, True, "colours with the transfer function 17 (CICP) are not supported"),
        (10, 13, True, "colours with the primaries 10 (CICP) are not supported"),
    ],
)
def test_what_cannot_be_right_is_refused(primaries: int, transfer: int, is_full_range: bool, reason: str) -> None:
    with pytest.raises(ImageReadError, match=re.escape(reason)):
        profile_of_cicp(primaries, transfer, is_full_range=is_full_range, is_gray=False)


@pytest.mark.parametrize(
    "primaries",
    [(0.0,) * 8, (0.3127, 0.329) * 4, (0.3, 1e-5, *SRGB_PRIMARIES[2:]), (0.3127, 0.329, 0.1, 0.1, 0.2, 0.2, 0.3, 0.3)],
    ids=["zero", "all white", "white without light", "on a line"],
)
def test_impossible_primaries_are_an_error(primaries: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="primaries must be those of three lights"):
        build_profile(primaries, None, name="x", is_gray=False)  # type: ignore[arg-type]


def test_rounded_primaries_of_srgb_are_known() -> None:
    assert is_srgb((0.31269, 0.32899, 0.63999, 0.33001, 0.3, 0.6, 0.15, 0.05999))
    assert not is_srgb((0.3127, 0.3290, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06))
    with pytest.raises(ValueError, match="gamma must be between"):
        build_profile(SRGB_PRIMARIES, 100.0, name="x", is_gray=False)
