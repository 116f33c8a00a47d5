"""GIF files as bytes: whether the first frame is whole, which libvips' decoder does not report.

The decoder fills what is missing with the background, so that a tenth of a picture would pass for all of it. Only the
lengths of the decoded strings are counted here; no pixel is kept.

Source: Graphics Interchange Format, version 89a.
"""

from __future__ import annotations

from dataclasses import dataclass

from finescale.errors import ImageReadError

_SCREEN_END = 13  # bytes: the signature and the logical screen descriptor
_EXTENSION, _FRAME, _TRAILER = 0x21, 0x2C, 0x3B
_GRAPHIC_CONTROL = 0xF9
_MAX_CODE_BITS = 12


@dataclass(frozen=True)
class _Frame:
    """The first frame, as it is stored."""

    num_pixels: int
    num_colours: int
    transparent: int | None
    """Index of a colour that need not be in the palette."""

    code_bits: int
    """Bits of the smallest codes, without those for clear and end."""

    codes: bytes


def check_first_frame(data: bytes) -> None:
    """Check that every pixel of the first frame of a GIF file is coded, by a colour that exists.

    Raises:
        ImageReadError: The file is truncated, holds no frame, or has a wrong code.
    """
    try:
        frame = _read_first_frame(data)
    except IndexError:
        raise ImageReadError("truncated GIF: it ends before its first frame") from None
    num_pixels, largest = _follow_codes(frame)
    if num_pixels < frame.num_pixels:
        raise ImageReadError(
            f"truncated GIF: {frame.num_pixels - num_pixels} of the {frame.num_pixels} pixels of its first frame are "
            "missing"
        )
    if largest >= frame.num_colours and largest != frame.transparent:
        raise ImageReadError(f"damaged GIF: a pixel refers to colour {largest} of a palette of {frame.num_colours}")


def _read_first_frame(data: bytes) -> _Frame:
    """Return the first frame.

    Raises:
        ImageReadError: There is none, or what should be a block is none.
        IndexError: The file ends before its codes.
    """
    num_colours = _palette_colours(data[10])
    at = _SCREEN_END + 3 * num_colours
    transparent = None
    while data[at] == _EXTENSION:
        content, end = _join_blocks(data, at + 2)
        if data[at + 1] == _GRAPHIC_CONTROL and len(content) >= 4 and content[0] & 1:
            transparent = content[3]
        at = end
    if data[at] == _TRAILER:
        raise ImageReadError("the GIF file holds no picture")
    if data[at] != _FRAME:
        raise ImageReadError(f"damaged GIF: {data[at]:#04x} at byte {at} begins no block")
    width, height = (int.from_bytes(data[at + start : at + start + 2], "little") for start in (5, 7))
    own_colours = _palette_colours(data[at + 9])
    at += 10 + 3 * own_colours
    codes, _ = _join_blocks(data, at + 1)
    return _Frame(width * height, own_colours or num_colours, transparent, data[at], codes)


def _palette_colours(flags: int) -> int:
    return 2 << (flags & 7) if flags & 0x80 else 0


def _join_blocks(data: bytes, at: int) -> tuple[bytes, int]:
    """Join blocks of one byte of length and content each, up to an empty one or the end of the file.

    Returns:
        The content, and the place behind it.
    """
    blocks = []
    while at < len(data) and data[at]:
        blocks.append(data[at + 1 : at + 1 + data[at]])
        at += 1 + data[at]
    return b"".join(blocks), at + 1


def _follow_codes(frame: _Frame) -> tuple[int, int]:
    """Follow the LZW codes of a frame until its last pixel, or until they end.

    Returns:
        The number of pixels, and the largest colour among them, -1 if there are none.

    Raises:
        ImageReadError: A code stands for nothing.
    """
    if not 1 <= frame.code_bits <= 8:
        raise ImageReadError(f"damaged GIF: its codes begin with {frame.code_bits} bits")
    clear = 1 << frame.code_bits
    end = clear + 1
    lengths = [1] * clear + [0, 0]  # pixels that each code stands for
    code_bits = frame.code_bits + 1
    buffer = num_bits = num_pixels = previous = 0
    largest = -1
    for byte in frame.codes:
        buffer |= byte << num_bits
        num_bits += 8
        while num_bits >= code_bits:
            code = buffer & ((1 << code_bits) - 1)
            buffer >>= code_bits
            num_bits -= code_bits
            if code == end:
                return num_pixels, largest
            if code == clear:
                del lengths[clear + 2 :]
                code_bits = frame.code_bits + 1
                previous = 0
                continue
            if previous and len(lengths) < 1 << _MAX_CODE_BITS:
                lengths.append(previous + 1)  # the previous string and the first pixel of this one
            if code >= len(lengths):
                raise ImageReadError(f"damaged GIF: the code {code} behind {num_pixels} pixels stands for nothing")
            if largest < code < clear:
                largest = code
            previous = lengths[code]
            num_pixels += previous
            if num_pixels >= frame.num_pixels:
                return num_pixels, largest
            if len(lengths) == 1 << code_bits and code_bits < _MAX_CODE_BITS:
                code_bits += 1
    return num_pixels, largest
