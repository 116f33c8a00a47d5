"""ICC profiles of colours that a file states without one: by numbers (CICP), or by primaries and a gamma.

Conversion is left to libvips; here a profile is only put together, of a matrix and a curve (ICC.1:2022).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from finescale.errors import ImageReadError

Primaries = tuple[float, float, float, float, float, float, float, float]
"""x and y of white, red, green and blue (CIE 1931)."""

_D65, _C = (0.3127, 0.3290), (0.310, 0.316)
SRGB_PRIMARIES: Final[Primaries] = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)

# ITU-T H.273, table 2: ColourPrimaries that differ from sRGB's.
_PRIMARIES: Final[dict[int, Primaries]] = {
    1: SRGB_PRIMARIES,
    4: (*_C, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),  # BT.470 M
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),  # BT.470 BG
    6: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),  # BT.601 with 525 lines
    7: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),  # SMPTE 240M
    8: (*_C, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),  # film
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),  # BT.2020
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),  # DCI-P3
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),  # Display P3
    22: (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),  # EBU 3213
}
_UNSPECIFIED = 2

# ITU-T H.273, table 3: TransferCharacteristics. Those of standard television are shown as sRGB, as browsers do.
_GAMMAS: Final[dict[int, float | None]] = {
    **dict.fromkeys((1, 6, 7, 11, 12, 13, 14, 15), None),
    4: 2.2,
    5: 2.8,
    8: 1.0,
}
_HDR = {16: "PQ (SMPTE ST 2084)", 18: "HLG (ARIB STD-B67)"}

_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_D50 = np.array([0.9642, 1.0, 0.8249])
_COLORANTS = (b"rXYZ", b"gXYZ", b"bXYZ")
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def profile_of_cicp(primaries: int, transfer: int, *, is_full_range: bool = True, is_gray: bool) -> bytes | None:
    """Return an ICC profile of colours that are stated by the numbers of ITU-T H.273 (CICP), None where it is sRGB.

    Args:
        primaries: ColourPrimaries.
        transfer: TransferCharacteristics.
        is_full_range: Whether the samples, as they are decoded, go from black at 0 to white at their maximum.
        is_gray: Whether the pixels are gray, whose primaries do not matter.

    Raises:
        ImageReadError: The colours are of high dynamic range, or of a kind that is not supported.
    """
    if transfer in _HDR:
        raise ImageReadError(
            f"HDR colours with the transfer function {_HDR[transfer]} are not supported; convert it to SDR first"
        )
    if not is_full_range:
        raise ImageReadError("samples of narrow (video) range are not supported; convert it to full range first")
    if transfer != _UNSPECIFIED and transfer not in _GAMMAS:
        raise ImageReadError(f"colours with the transfer function {transfer} (CICP) are not supported; save it as sRGB")
    if primaries != _UNSPECIFIED and primaries not in _PRIMARIES:
        raise ImageReadError(f"colours with the primaries {primaries} (CICP) are not supported; save it as sRGB")
    lights, name = _PRIMARIES.get(primaries, SRGB_PRIMARIES), f"CICP {primaries}/{transfer}"
    return build_profile(lights, _GAMMAS.get(transfer), name=name, is_gray=is_gray)


def has_colors(profile: bytes) -> bool:
    """Return whether an ICC profile of gray or RGB says how its numbers are seen: by curves, or by a table."""
    (num_tags,) = struct.unpack_from(">I", profile.ljust(132, b"\0"), 128)
    names = {profile[at : at + 4] for at in range(132, min(132 + 12 * num_tags, len(profile)), 12)}
    needed = {b"kTRC"} if profile[16:20] == b"GRAY" else {*_COLORANTS, b"rTRC", b"gTRC", b"bTRC"}
    return names >= needed or not names.isdisjoint((b"A2B0", b"A2B1", b"D2B0", b"D2B1"))


def is_srgb(primaries: Primaries) -> bool:
    """Return whether primaries are those of sRGB, as files round them."""
    return max(abs(one - other) for one, other in zip(primaries, SRGB_PRIMARIES, strict=True)) < 0.002


def build_profile(primaries: Primaries, gamma: float | None, *, name: str, is_gray: bool) -> bytes | None:
    """Return an ICC profile of given primaries, None where it would be that of sRGB.

    Args:
        primaries: Chromaticities.
        gamma: Exponent from samples to light; None is the curve of sRGB.
        name: Description that the profile carries.
        is_gray: Whether the pixels are gray, whose primaries do not matter.

    Raises:
        ValueError: The primaries are not those of three lights.
    """
    if gamma is None and (is_gray or is_srgb(primaries)):
        return None
    if gamma is not None and not 0.1 <= gamma <= 10:
        raise ValueError(f"gamma must be between 0.1 and 10, got {gamma}")
    to_pcs, adaptation = _to_d50(SRGB_PRIMARIES if is_gray else primaries)
    curve = b"para" + (_numbers(_SRGB_CURVE, "4xHxx", 3) if gamma is None else _numbers([gamma], "4xHxx", 0))
    tags = {
        b"desc": _text(name),
        b"cprt": _text("No copyright, use freely"),
        b"wtpt": b"XYZ " + _numbers(_D50, "4x"),
        b"chad": b"sf32" + _numbers(adaptation.ravel(), "4x"),
    }
    if is_gray:
        tags[b"kTRC"] = curve
    else:
        tags |= {name: b"XYZ " + _numbers(column, "4x") for name, column in zip(_COLORANTS, to_pcs.T, strict=True)}
        tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    return _assemble(tags, b"GRAY" if is_gray else b"RGB ")


def _to_d50(primaries: Primaries) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the matrix from linear RGB to XYZ under D50, and the adaptation of white that is part of it."""
    x, y = np.array(primaries).reshape(4, 2).T
    colors = np.stack([x, y, 1 - x - y])
    if y[0] < 0.01 or abs(np.linalg.det(colors[:, 1:])) < 1e-4:
        raise ValueError(f"primaries must be those of three lights, got {primaries}")
    white = colors[:, 0] / y[0]
    matrix = colors[:, 1:] * np.linalg.solve(colors[:, 1:], white)
    adaptation = np.linalg.inv(_BRADFORD) @ np.diag(_BRADFORD @ _D50 / (_BRADFORD @ white)) @ _BRADFORD
    to_pcs = adaptation @ matrix
    if not np.abs(to_pcs).max() < 10:
        raise ValueError(f"primaries must be those of three lights, got {primaries}")
    return to_pcs, adaptation


def _numbers(values: Sequence[float] | npt.NDArray[np.float64], start: str, *more: int) -> bytes:
    """Return signed 15.16 fixed-point numbers behind what a format describes."""
    return struct.pack(f">{start}{len(values)}i", *more, *(round(float(value) * 65536) for value in values))


def _text(text: str) -> bytes:
    """Return a text of one language, as the type mluc."""
    encoded = text.encode("utf-16-be")
    return b"mluc" + struct.pack(">4xII4sII", 1, 12, b"enUS", len(encoded), 28) + encoded


def _assemble(tags: dict[bytes, bytes], color_space: bytes) -> bytes:
    """Return a profile of tags, in which equal values are stored once."""
    offset = 128 + 4 + 12 * len(tags)
    table, stored = struct.pack(">I", len(tags)), b""
    places: dict[bytes, int] = {}
    for name, value in tags.items():
        if value not in places:
            places[value] = offset + len(stored)
            stored += value + bytes(-len(value) % 4)
        table += struct.pack(">4sII", name, places[value], len(value))
    date = struct.pack(">6H", 2024, 1, 1, 0, 0, 0)
    header = struct.pack(
        ">I4sI4s4s4s12s4s", offset + len(stored), b"", 0x04300000, b"mntr", color_space, b"XYZ ", date, b"acsp"
    )
    header += bytes(28) + _numbers(_D50, "")  # platform, flags, device, intent; the illuminant
    return header.ljust(128, b"\0") + table + stored
