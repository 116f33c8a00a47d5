"""Image formats: the signature that identifies each, the suffixes they are written under, and what each can hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from finescale.errors import ImageReadError

MAX_PIXELS = 250_000_000
"""Default limit on the size of an image that is read: 3 GB as float32 RGB."""

_SIGNATURES = {
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "WebP": re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
    "TIFF": re.compile(rb"II[*+]\0|MM\0[*+]"),
    "GIF": re.compile(rb"GIF8[79]a"),
    "AVIF": re.compile(rb".{4}ftyp.{0,48}avi[fs]", re.DOTALL),
    "BMP": re.compile(rb"BM"),
}

SIGNATURE_LENGTH = 60
"""Number of bytes from the start of a file that are enough to identify its format."""


def identify_format(data: bytes) -> str:
    """Return the name of the format that the first bytes of a file identify.

    Args:
        data: The file, or at least its first `SIGNATURE_LENGTH` bytes.

    Raises:
        ImageReadError: They are the first bytes of no known format.
    """
    for name, signature in _SIGNATURES.items():
        if signature.match(data[:SIGNATURE_LENGTH]):
            return name
    raise ImageReadError(f"not an image (its first bytes are not those of {', '.join(_SIGNATURES)})")


@dataclass(frozen=True)
class OutputFormat:
    """What a format can hold, and how it is encoded."""

    name: str
    encoder: str
    """Suffix that selects libvips' encoder."""
    max_side: int
    """Limit on the height and on the width, in pixels."""
    depth: int = 8
    """Bits per channel, at most."""
    has_gray: bool = True
    has_alpha: bool = True
    has_profile: bool = True
    metadata: tuple[str, ...] = ()
    """The keys of `METADATA_NAMES` that the format can hold."""
    quality: int | None = None
    """Default quality; None where the format is lossless."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further options of libvips' encoder."""


METADATA_NAMES = {"exif-data": "EXIF data", "xmp-data": "XMP data", "iptc-data": "IPTC data", "png-text": "PNG texts"}
"""Names of the fields of `Image.metadata` in messages."""

MAX_SEGMENT = 65_502
"""Limit on one field of metadata in JPEG, and on EXIF data in any format that libvips writes, in bytes."""

PNG = OutputFormat("PNG", ".png", 2**31 - 1, depth=16, metadata=("exif-data", "xmp-data", "png-text"))
JPEG = OutputFormat(
    "JPEG",
    ".jpg",
    65500,
    has_alpha=False,
    metadata=("exif-data", "xmp-data", "iptc-data"),
    quality=95,
    options={"subsample_mode": "off"},
)
WEBP = OutputFormat(
    "WebP", ".webp", 16383, has_gray=False, metadata=("exif-data", "xmp-data"), quality=95, options={"exact": True}
)
TIFF = OutputFormat(
    "TIFF",
    ".tif",
    2**31 - 1,
    depth=16,
    metadata=("xmp-data", "iptc-data"),
    options={"compression": "deflate", "predictor": "horizontal"},
)
BMP = OutputFormat("BMP", ".bmp", 2**31 - 1, has_alpha=False, has_profile=False)
AVIF = OutputFormat(
    "AVIF",
    ".avif",
    16384,
    has_gray=False,
    metadata=("exif-data", "xmp-data"),
    quality=90,
    options={"bitdepth": 8, "subsample_mode": "off"},
)

OUTPUT_FORMATS = {
    ".png": PNG,
    ".jpg": JPEG,
    ".webp": WEBP,
    ".tif": TIFF,
    ".bmp": BMP,
    ".avif": AVIF,
    ".jpeg": JPEG,
    ".tiff": TIFF,
}
"""The format that each suffix, in lower case, is written in."""

WRITABLE_SUFFIXES = tuple(OUTPUT_FORMATS)
"""Suffixes under which an image can be written, in lower case."""

READABLE_SUFFIXES = frozenset({*WRITABLE_SUFFIXES, ".gif"})
"""Suffixes that mark a file of a folder as an image, in lower case; a file that is named itself needs none of them."""
