"""Headers of BMP files: size, coding, masks, palette and colour profile, in every version of the header.

The versions are told apart by their length: 12 bytes (OS/2 1.x), 16 to 64 (OS/2 2.x, cut anywhere), 40 (Windows), 52
and 56 (Adobe, with masks), 108 (V4, with masks and colour space) and 124 (V5, with a profile).

Source: the structures BITMAPFILEHEADER, BITMAPCOREHEADER and BITMAPINFOHEADER to BITMAPV5HEADER of the Windows API, and
OS2BITMAPHEADER of OS/2.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from finescale.errors import ImageReadError
from finescale.images.image import Notes

Bytes = npt.NDArray[np.uint8]

FILE_HEADER, INFO_HEADER = 14, 40
"""Lengths of the file header and of the most common header behind it, in bytes."""

_CORE_HEADER, _OS2_HEADER, _MASKS_HEADER, _V4_HEADER, _V5_HEADER = 12, 64, 52, 108, 124
_FIELDS = struct.Struct("<iiHHIIiiII")  # from byte 4 of the header, as far as byte 40
_CORE_FIELDS = struct.Struct("<HHHH")

_CALIBRATED, _EMBEDDED_PROFILE, _LINKED_PROFILE = b"\0\0\0\0", b"DEBM", b"KNIL"  # 'MBED' and 'LINK' in file order
_SRGB_ENDPOINTS = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06)  # x and y of red, green and blue
_SRGB_GAMMA = 2.2


class Coding(Enum):
    """How the pixels are stored."""

    PLAIN = "uncompressed"
    MASKED = "masks"
    RLE8 = "run-length coding of 8 bits"
    RLE4 = "run-length coding of 4 bits"
    JPEG = "an embedded JPEG"
    PNG = "an embedded PNG"


_CODINGS = {  # by the number for compression
    0: Coding.PLAIN,
    1: Coding.RLE8,
    2: Coding.RLE4,
    3: Coding.MASKED,
    4: Coding.JPEG,
    5: Coding.PNG,
    6: Coding.MASKED,  # with a mask of alpha
}
_DEPTHS = {
    Coding.PLAIN: (1, 2, 4, 8, 16, 24, 32),
    Coding.MASKED: (16, 32),
    Coding.RLE8: (8,),
    Coding.RLE4: (4,),
}
_UNREAD_CODINGS = {11: "CMYK", 12: "CMYK", 13: "CMYK"}
_UNREAD_OS2_CODINGS = {3: "Huffman 1D coding", 4: "run-length coding of 24 bits"}  # where Windows has other codings
_MASKS_WITH_ALPHA = 6

_USUAL_MASKS = {16: (0x7C00, 0x3E0, 0x1F), 32: (0xFF0000, 0xFF00, 0xFF)}  # red, green, blue, where the file states none


@dataclass(frozen=True)
class Header:
    """What stands before the pixels of a BMP file."""

    size: tuple[int, int]
    """(height, width)"""

    is_bottom_up: bool
    """Whether the bottom row is stored first."""

    bits: int
    """Per pixel; 0 where another format is embedded."""

    coding: Coding

    offset: int
    """Place of the first pixel in the file, in bytes."""

    masks: tuple[int, ...]
    """The bits of red, green, blue, and alpha if the file declares it, for pixels of 16 and 32 bits; else empty."""

    palette: Bytes | None
    """(colours, 3) RGB, for pixels of 8 bits and fewer."""

    profile: bytes | None
    """Embedded ICC profile, not yet checked."""

    notes: Notes

    @property
    def stride(self) -> int:
        """Bytes of an uncompressed row, padding included."""
        return (self.size[1] * self.bits + 31) // 32 * 4


def read_header(data: bytes) -> Header:
    """Return the header of a BMP file.

    Raises:
        ImageReadError: The header is truncated or damaged, or of a kind that is not supported.
    """
    length = _read_length(data)
    if length == _CORE_HEADER:
        width, height, _, bits = _CORE_FIELDS.unpack_from(data, FILE_HEADER + 4)
        compression = num_colours = 0
    else:
        fields = data[FILE_HEADER + 4 : FILE_HEADER + length].ljust(_FIELDS.size, b"\0")
        width, height, _, bits, compression, _, _, _, num_colours, _ = _FIELDS.unpack_from(fields)
    if width <= 0 or height == 0:
        raise ImageReadError(f"damaged BMP: its header states {width} x {height} pixels")
    coding = _find_coding(bits, compression, is_os2=length < INFO_HEADER or length == _OS2_HEADER)
    masks, end = _read_masks(data, length, bits, coding, has_alpha=compression == _MASKS_WITH_ALPHA)
    (offset,) = struct.unpack_from("<I", data, 10)
    if offset < end:
        raise ImageReadError(f"damaged BMP: its pixels begin at byte {offset}, inside its header of {end} bytes")
    palette = None
    if 0 < bits <= 8 and coding not in (Coding.JPEG, Coding.PNG):
        palette = _read_palette(data, end, offset, bits, num_colours, is_core=length == _CORE_HEADER)
    profile, notes = _read_colour_space(data, length)
    return Header((abs(height), width), height > 0, bits, coding, offset, masks, palette, profile, notes)


def _read_length(data: bytes) -> int:
    """Return the length of the header behind the file header, which is complete."""
    if len(data) < FILE_HEADER + _CORE_HEADER:
        raise ImageReadError("truncated BMP: its header is incomplete")
    length = int.from_bytes(data[FILE_HEADER : FILE_HEADER + 4], "little")
    if length != _CORE_HEADER and not 16 <= length <= _V5_HEADER:
        raise ImageReadError(f"damaged BMP: its header states {length} bytes as its own length")
    if len(data) < FILE_HEADER + length:
        raise ImageReadError("truncated BMP: its header is incomplete")
    return length


def _find_coding(bits: int, compression: int, *, is_os2: bool) -> Coding:
    unread = (_UNREAD_OS2_CODINGS if is_os2 else _UNREAD_CODINGS).get(compression)
    coding = _CODINGS.get(compression)
    if unread or coding is None or bits not in _DEPTHS.get(coding, (bits,)):
        kind = unread or f"{bits} bits and compression {compression}"
        raise ImageReadError(f"a BMP file with {kind} is not supported; save it as PNG first")
    return coding


def _read_masks(data: bytes, length: int, bits: int, coding: Coding, *, has_alpha: bool) -> tuple[tuple[int, ...], int]:
    """Return the masks of pixels of 16 or 32 bits, and the place behind header and masks."""
    end = FILE_HEADER + length
    if coding is Coding.PLAIN:
        return _USUAL_MASKS.get(bits, ()), end
    if coding is not Coding.MASKED:
        return (), end
    start = FILE_HEADER + INFO_HEADER
    if length < _MASKS_HEADER:  # the masks follow the header
        num_masks = 4 if has_alpha else 3
        end = start + 4 * num_masks
    else:
        num_masks = min(4, (length - INFO_HEADER) // 4)
    if start + 4 * num_masks > len(data):
        raise ImageReadError("truncated BMP: its masks are incomplete")
    masks: tuple[int, ...] = struct.unpack_from(f"<{num_masks}I", data, start)
    if num_masks == 4 and masks[3] == 0:
        masks = masks[:3]
    _check_masks(masks, bits)
    return masks, end


def _check_masks(masks: tuple[int, ...], bits: int) -> None:
    taken = 0
    for mask in masks:
        lowest = mask & -mask
        if mask == 0 or mask >> bits or mask & taken or (mask + lowest) & mask:
            listed = ", ".join(f"{mask:#x}" for mask in masks)
            raise ImageReadError(
                f"damaged BMP: its masks {listed} are not separate runs of bits of a pixel of {bits} bits"
            )
        taken |= mask


def _read_palette(data: bytes, start: int, offset: int, bits: int, num_colours: int, *, is_core: bool) -> Bytes:
    """Return the palette (colours, 3) between header and pixels: blue, green, red, and padding in all but the oldest.

    More colours than pixels can name are left out.
    """
    entry = 3 if is_core else 4
    room = (offset - start) // entry
    if not num_colours:  # the oldest header never states it, and some such files hold fewer than pixels can name
        num_colours = min(2**bits, room) if is_core else 2**bits
    if num_colours > room:
        raise ImageReadError(f"damaged BMP: its palette of {num_colours} colours reaches into its pixels")
    num_colours = min(num_colours, 2**bits)
    if start + entry * num_colours > len(data):
        raise ImageReadError(f"truncated BMP: its palette of {num_colours} colours is incomplete")
    return np.frombuffer(data, np.uint8, entry * num_colours, start).reshape(-1, entry)[:, 2::-1]


def _read_colour_space(data: bytes, length: int) -> tuple[bytes | None, Notes]:
    """Return the embedded ICC profile, and notes about colours that are not read as the file states them."""
    if length < _V4_HEADER:
        return None, ()
    space = data[FILE_HEADER + 56 : FILE_HEADER + 60]
    if space == _CALIBRATED:
        return None, () if _is_like_srgb(data) else ("its calibrated primaries and gamma are read as sRGB",)
    if length < _V5_HEADER:
        return None, ()
    if space == _LINKED_PROFILE:
        return None, ("its colour profile is a link to another file: ignored",)
    if space != _EMBEDDED_PROFILE:
        return None, ()
    start, num_bytes = struct.unpack_from("<2I", data, FILE_HEADER + 112)
    start += FILE_HEADER
    return data[start : start + num_bytes], ()


def _is_like_srgb(data: bytes) -> bool:
    """Return whether the primaries and gamma of a V4 header are those of sRGB, or absent."""
    *endpoints, red, green, blue = struct.unpack_from("<9i3I", data, FILE_HEADER + 60)
    xyz = np.array(endpoints, float).reshape(3, 3)
    sums = xyz.sum(1)
    if not sums.all() or not (red and green and blue):
        return True
    chromaticities = (xyz / sums[:, None])[:, :2].ravel()
    gammas = np.array([red, green, blue]) / 2**16
    return bool(np.abs(chromaticities - _SRGB_ENDPOINTS).max() < 0.01 and np.abs(gammas - _SRGB_GAMMA).max() < 0.1)
