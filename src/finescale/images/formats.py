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
    "HEIC": re.compile(rb".{4}ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1)", re.DOTALL),
    "BMP": re.compile(rb"BM"),
}

_UNREADABLE_SIGNATURES = {  # looked for before those above, some of which begin alike
    "a PNG file for iPhone apps (CgBI)": re.compile(rb"\x89PNG\r\n\x1a\n.{4}CgBI", re.DOTALL),
    "a camera raw file (CR2)": re.compile(rb"II\*\0.{4}CR", re.DOTALL),
    "a camera raw file (CR3)": re.compile(rb".{4}ftypcrx ", re.DOTALL),
    "a camera raw file (RAF)": re.compile(rb"FUJIFILMCCD-RAW"),
    "a camera raw file (ORF)": re.compile(rb"IIR[OS]|MMOR"),
    "a camera raw file (RW2)": re.compile(rb"IIU\0"),
    "a camera raw file (X3F)": re.compile(rb"FOVb"),
    "a camera raw file (MRW)": re.compile(rb"\0MRM"),
    "a JPEG XL file": re.compile(rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"),
    "a JPEG 2000 file": re.compile(rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"),
    "a JPEG XR file": re.compile(rb"II\xbc[\0\x01]"),
    "an OpenEXR file": re.compile(rb"v/1\x01"),
    "a Radiance HDR file": re.compile(rb"#\?R(?:ADIANCE|GBE)"),
    "a Photoshop file": re.compile(rb"8BPS\0[\1\2]"),
    "a GIMP file": re.compile(rb"gimp xcf "),
    "an icon file": re.compile(rb"\0\0[\1\2]\0[^\0]\0"),
    "a DDS file": re.compile(rb"DDS \x7c"),
    "a QOI file": re.compile(rb"qoif"),
    "a PNM file": re.compile(rb"P[1-6]\s+[\d#]|P7\nWIDTH|P[Ff]\n"),
    "a PDF file": re.compile(rb"%PDF-"),
    "an SVG file": re.compile(rb"<svg\b"),
    "a video": re.compile(rb".{4}ftyp(?:isom|iso[2-6]|mp4[12]|avc1|qt  |M4V )|\x1a\x45\xdf\xa3", re.DOTALL),
}

SIGNATURE_LENGTH = 60
"""Number of bytes from the start of a file that are enough to identify its format."""


def unreadable_kind(data: bytes) -> str | None:
    """Return what a file is, as "a JPEG XL file", if it is of a known kind that is not read; else None.

    Args:
        data: The file, or at least its first `SIGNATURE_LENGTH` bytes.
    """
    start = data[:SIGNATURE_LENGTH]
    return next((kind for kind, signature in _UNREADABLE_SIGNATURES.items() if signature.match(start)), None)


def identify_format(data: bytes) -> str:
    """Return the name of the format that the first bytes of a file identify.

    Args:
        data: The file, or at least its first `SIGNATURE_LENGTH` bytes.

    Raises:
        ImageReadError: They are the first bytes of a format that is not read, or of none that is known.
    """
    kind = unreadable_kind(data)
    if kind:
        raise ImageReadError(f"is {kind}, which finescale does not read; convert it to TIFF or PNG first")
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
DZI = OutputFormat("DZI", ".dz", 2**31 - 1, has_alpha=False, quality=95)
"""Deep Zoom: an image as tiles in several sizes, each a JPEG file, which viewers in browsers load as they need them."""
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

LARGE_FORMATS = {suffix: OUTPUT_FORMATS[suffix] for suffix in (".png", ".jpg", ".webp", ".tif", ".jpeg", ".tiff")} | {
    ".dzi": DZI
}
"""The format of each suffix under which an image larger than memory is written."""

WRITABLE_SUFFIXES = tuple(OUTPUT_FORMATS)
"""Suffixes under which an image can be written, in lower case."""

READABLE_SUFFIXES = frozenset(
    {*WRITABLE_SUFFIXES, ".apng", ".dib", ".gif", ".heic", ".heif", ".hif", ".jfif", ".jpe", ".mpo"}
)
"""Suffixes that mark a file of a folder as an image, in lower case; a file that is named itself needs none of them."""

_RAW_SUFFIXES = {
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".fff", ".iiq", ".kdc", ".mef", ".mos", ".mrw", ".nef"),
    *(".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
}

UNREADABLE_SUFFIXES = frozenset(
    {
        *_RAW_SUFFIXES,
        *(".jxl", ".jp2", ".j2k", ".jpf", ".jpx", ".jpm", ".jxr", ".hdp", ".wdp", ".exr", ".hdr", ".psd", ".psb"),
        *(".xcf", ".ico", ".cur", ".dds", ".qoi", ".tga", ".pcx", ".pnm", ".pbm", ".pgm", ".ppm", ".pam", ".svg"),
    }
)
"""Suffixes of pictures in formats that are not read, in lower case."""

UNWRITABLE_SUFFIXES = frozenset({*READABLE_SUFFIXES, *UNREADABLE_SUFFIXES}) - frozenset(WRITABLE_SUFFIXES)
"""Suffixes of pictures that cannot be written, in lower case: as the name of a result, each of them is a mistake."""
