"""TIFF files as bytes: the page that holds the picture, and what its samples mean.

libvips opens the first page and takes samples for what they usually are. The tags say more: a first page that is only a
preview, a fourth sample that is not transparency, the sensor data of a camera. Only tags are read here; nothing is
decompressed, and no memory is allocated on the word of a file.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from mmap import mmap
from typing import Final

from finescale.errors import ImageReadError

Buffer = bytes | mmap
"""A file as it was read, or mapped into memory."""

_MAX_ENTRIES = 1_000_000  # of all directories together: a damaged chain may go through the same bytes again and again
_MAX_VALUES = 64  # of one tag

# Tags (TIFF 6.0; DNG 1.7 for the last ones).
_NEW_SUBFILE_TYPE = 254
_SUBFILE_TYPE = 255
_WIDTH = 256
_HEIGHT = 257
_BITS_PER_SAMPLE = 258
_COMPRESSION = 259
_PHOTOMETRIC = 262
_ORIENTATION = 274
_SAMPLES_PER_PIXEL = 277
_MAX_SAMPLE_VALUE = 281
_SUB_IFDS = 330
_INK_SET = 332
_EXTRA_SAMPLES = 338
_SAMPLE_FORMAT = 339
_DNG_VERSION = 50706
_TAGS = {
    _NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _WIDTH, _HEIGHT, _BITS_PER_SAMPLE, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION,
    _SAMPLES_PER_PIXEL, _MAX_SAMPLE_VALUE, _SUB_IFDS, _INK_SET, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _DNG_VERSION,
}  # fmt: skip

_TYPES: Final[Mapping[int, str]] = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # unsigned integers

_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_WHITE_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR, _CIELAB = 0, 2, 3, 5, 6, 8  # photometric interpretations
_RAW = (32803, 34892)  # a mosaic of colour filters, linear sensor data
_COLORS = {0: 1, 1: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3, _CIELAB: 3}
"""Samples per pixel that are colours, for each photometric interpretation that is read."""
_OTHER_PHOTOMETRICS = {4: "transparency masks", 9: "ICC L*a*b* colours", 10: "ITU L*a*b* colours"} | dict.fromkeys(
    (32844, 32845), "HDR (LogLuv) colours"
)
_JPEG = 7
_UNSIGNED, _SIGNED, _FLOAT, _UNDEFINED = 1, 2, 3, 4
_ALPHA = (1, 2)  # values of ExtraSamples: associated, which libvips divides out, and unassociated

_COMPRESSIONS = {
    6: "old-style JPEG",
    33003: "JPEG 2000",
    33004: "JPEG 2000",
    33005: "JPEG 2000",
    34661: "JBIG",
    34712: "JPEG 2000",
    34887: "LERC",
    34925: "LZMA",
    50000: "ZSTD",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
_NOT_BUILT_IN = re.compile(r"compression support is not configured|Compression scheme \d+ .*not implemented")

RAW_REFUSED = "is a camera raw file, which finescale does not read; convert it to TIFF or PNG first"


@dataclass(frozen=True)
class Tiff:
    """The page of a TIFF file that holds its picture."""

    page: int
    """Its number, 0 for the first."""

    subifd: int
    """Number of its sub-directory if the picture is in one, else -1."""

    size: tuple[int, int]
    """(height, width) as they are stored; libvips complains of absurd ones on standard error."""

    num_further: int
    """Full-size pages after it."""

    num_masks: int
    """Pages that are transparency masks of others."""

    has_unknown_sample: bool
    """Whether the last sample of each pixel is neither a colour nor transparency."""

    is_sample_undeclared: bool
    """Whether the tag is missing that says what the last sample is, of which libtiff warns."""

    peak: int | None
    """Largest sample value of 16-bit samples that hold fewer bits, such as 4095; None where they fill 16."""

    white_is_zero: bool
    """Whether 0 is white in the file; libvips inverts such samples."""

    lab_bits: int | None
    """8 or 16 where the samples are CIELAB as TIFF defines it, else None."""

    states_orientation: bool
    """Whether the file itself states the orientation of its picture."""

    compression: str
    """Name of the compression."""

    declared_rgb: bytes | None
    """The file with 8-bit CIELAB, which libvips refuses, declared to be RGB; None for all others."""


@dataclass(frozen=True)
class _Directory:
    """The tags of one page that matter here."""

    tags: Mapping[int, tuple[int, ...]]
    values_at: Mapping[int, int]
    """Where the values of each tag are in the file."""
    byte_order: str
    subdirectories: tuple[_Directory, ...] = field(default=())

    def value(self, tag: int, default: int) -> int:
        return self.tags.get(tag, (default,))[0]

    @property
    def is_reduced(self) -> bool:
        return bool(self.value(_NEW_SUBFILE_TYPE, 0) & _REDUCED) or self.value(_SUBFILE_TYPE, 1) == 2

    @property
    def is_mask(self) -> bool:
        return bool(self.value(_NEW_SUBFILE_TYPE, 0) & _MASK)

    @property
    def is_full(self) -> bool:
        return not (self.is_reduced or self.is_mask)

    @property
    def is_raw(self) -> bool:
        return _DNG_VERSION in self.tags or self.value(_PHOTOMETRIC, 0) in _RAW


def inspect_tiff(data: Buffer) -> Tiff:
    """Find the picture of a TIFF file: its first page that is neither a preview nor a mask.

    Raises:
        ImageReadError: The file is a camera raw, has samples that are not supported, or its tags cannot be read.
    """
    if data[8:10] == b"CR":  # Canon's CR2, whose pages carry no tag that says so
        raise ImageReadError(RAW_REFUSED)
    pages = list(_directories(data))
    if not pages:
        raise ImageReadError("truncated or damaged TIFF: its first directory cannot be read")
    if any(page.is_raw or any(sub.is_raw for sub in page.subdirectories) for page in pages):
        raise ImageReadError(RAW_REFUSED)
    places = [(page, -1, pages[page]) for page in range(len(pages))]
    places += [(page, sub, found) for page in range(len(pages)) for sub, found in enumerate(pages[page].subdirectories)]
    page, subifd, picture = next((place for place in places if place[2].is_full), places[0])
    _check_samples(picture)
    photometric = picture.value(_PHOTOMETRIC, _RGB)
    bits = picture.value(_BITS_PER_SAMPLE, 1)
    is_lab = photometric == _CIELAB and picture.value(_SAMPLE_FORMAT, _UNSIGNED) == _UNSIGNED
    compression = picture.value(_COMPRESSION, 1)
    return Tiff(
        page,
        subifd,
        size=(max(1, picture.value(_HEIGHT, 1)), max(1, picture.value(_WIDTH, 1))),
        num_further=sum(found.is_full for found in pages[page + 1 :]),
        num_masks=sum(found.is_mask for found in pages),
        has_unknown_sample=_num_extra(picture) == 1 and picture.value(_EXTRA_SAMPLES, 0) not in _ALPHA,
        is_sample_undeclared=_num_extra(picture) == 1 and _EXTRA_SAMPLES not in picture.tags,
        peak=_peak(picture),
        white_is_zero=photometric == _WHITE_IS_ZERO,
        lab_bits=bits if is_lab else None,
        states_orientation=_ORIENTATION in picture.tags,
        compression=_COMPRESSIONS.get(compression, f"scheme {compression}"),
        declared_rgb=_declared_rgb(data, picture) if is_lab and bits == 8 else None,
    )


def is_missing_codec(message: str) -> bool:
    """Return whether libtiff's message says that it was built without the compression of the file."""
    return _NOT_BUILT_IN.search(message) is not None


def _directories(data: Buffer) -> Iterator[_Directory]:
    """Yield the directory of each page, as far as the chain can be followed; those in other formats' data are none."""
    try:
        byte_order = {b"II": "<", b"MM": ">"}[data[:2]]
        (version,) = struct.unpack_from(f"{byte_order}H", data, 2)
        is_big = version == 43
        (offset,) = struct.unpack_from(f"{byte_order}Q" if is_big else f"{byte_order}I", data, 8 if is_big else 4)
    except (KeyError, struct.error):
        return
    budget, seen = _MAX_ENTRIES, set[int]()
    while offset and offset not in seen:
        seen.add(offset)
        try:
            directory, offset, num_entries = _read_directory(data, offset, byte_order, is_big=is_big)
            subdirectories = []
            for at in directory.tags.get(_SUB_IFDS, ()):
                found, _, num_more = _read_directory(data, at, byte_order, is_big=is_big)
                subdirectories.append(found)
                num_entries += num_more
        except (struct.error, OverflowError):
            return
        budget -= num_entries + 1
        if budget < 0:
            raise ImageReadError(f"damaged TIFF: its directories have more than {_MAX_ENTRIES} entries")
        yield _Directory(directory.tags, directory.values_at, byte_order, tuple(subdirectories))


def _read_directory(data: Buffer, offset: int, byte_order: str, *, is_big: bool) -> tuple[_Directory, int, int]:
    """Return the directory at an offset, the offset of the next one (0 for none), and its number of entries.

    Raises:
        struct.error: It does not lie within the file.
        OverflowError: It lies beyond any file.
    """
    count_format, entry_format, next_format = ("Q", "HHQ8s", "Q") if is_big else ("H", "HHI4s", "I")
    (num_entries,) = struct.unpack_from(byte_order + count_format, data, offset)
    start = offset + struct.calcsize(f"={count_format}")
    entry_size = struct.calcsize(f"={entry_format}")
    end = start + entry_size * num_entries
    (following,) = struct.unpack_from(byte_order + next_format, data, end)  # fails before a large slice is taken
    tags: dict[int, tuple[int, ...]] = {}
    values_at: dict[int, int] = {}
    entries = struct.iter_unpack(byte_order + entry_format, data[start:end])
    for number, (tag, kind, count, field_bytes) in enumerate(entries):
        if tag not in _TAGS or tag in tags or kind not in _TYPES or not count:
            continue
        one = byte_order + _TYPES[kind]
        at = start + entry_size * (number + 1) - len(field_bytes)
        if struct.calcsize(one) * count > len(field_bytes):
            (at,) = struct.unpack(byte_order + next_format, field_bytes)
        tags[tag] = struct.unpack_from(byte_order + _TYPES[kind] * min(count, _MAX_VALUES), data, at)
        values_at[tag] = at
    return _Directory(tags, values_at, byte_order), following, num_entries


def _num_extra(page: _Directory) -> int:
    """Return the number of samples per pixel besides colours."""
    samples = page.value(_SAMPLES_PER_PIXEL, 1)
    colors = _COLORS.get(page.value(_PHOTOMETRIC, _RGB if samples > 2 else 1), samples)
    return samples - colors


def _check_samples(page: _Directory) -> None:
    """Refuse samples that libvips does not read, or would read as something else."""
    photometric, num_samples = page.value(_PHOTOMETRIC, _RGB), page.value(_SAMPLES_PER_PIXEL, 1)
    depths, kinds = set(page.tags.get(_BITS_PER_SAMPLE, (1,))), set(page.tags.get(_SAMPLE_FORMAT, (_UNSIGNED,)))
    if _PHOTOMETRIC in page.tags and photometric not in _COLORS:
        colors = _OTHER_PHOTOMETRICS.get(photometric, f"colours of the kind {photometric} (PhotometricInterpretation)")
        raise ImageReadError(f"{colors} are not supported; save it as gray or RGB")
    if photometric == _YCBCR and page.value(_COMPRESSION, 1) not in (6, _JPEG):
        raise ImageReadError("YCbCr colours without JPEG compression are not supported; save it as RGB")
    if photometric == _CMYK and (page.value(_INK_SET, 1) != 1 or num_samples < 4):
        raise ImageReadError("inks other than CMYK are not supported; save it as RGB")
    most_extra = 0 if photometric in (_PALETTE, _CIELAB) else 1
    if not 0 <= _num_extra(page) <= most_extra:
        raise ImageReadError(
            f"{num_samples} channels per pixel are not supported; save it as gray, RGB or CMYK, with or without alpha"
        )
    remedy = "save it with 8 or 16 bits per channel"
    if len(depths) > 1 or len(kinds) > 1:
        raise ImageReadError(f"channels of different bits or kinds are not supported; {remedy}")
    (bits,), (kind,) = depths, kinds
    is_vips_lab = photometric == _CIELAB and kind == _SIGNED and bits == 16
    name = {_SIGNED: "signed integer", _FLOAT: "floating-point"}.get(kind, "integer")
    if kind not in (_UNSIGNED, _SIGNED, _FLOAT, _UNDEFINED):
        raise ImageReadError(f"complex samples are not supported; {remedy}")
    if bits not in {_FLOAT: (16, 32), _SIGNED: (16,) if is_vips_lab else ()}.get(kind, (1, 2, 4, 8, 16)):
        raise ImageReadError(f"{bits}-bit {name} samples are not supported; {remedy}")
    if photometric == _CIELAB and kind == _UNSIGNED and bits not in (8, 16):
        raise ImageReadError(f"CIELAB colours of {bits} bits are not supported; save it as RGB")


def _peak(page: _Directory) -> int | None:
    """Return the largest value of fewer than 16 bits in samples of 16.

    MaxSampleValue is also used for the largest value that occurs, so that only full bits are taken for a range.
    """
    peak = max(page.tags.get(_MAX_SAMPLE_VALUE, (0,)))
    is_gray_or_rgb = page.value(_PHOTOMETRIC, _RGB) in (0, 1, _RGB)
    is_range = peak.bit_count() == peak.bit_length() and 8 < peak.bit_length() < 16
    return peak if page.value(_BITS_PER_SAMPLE, 1) == 16 and is_gray_or_rgb and is_range else None


def _declared_rgb(data: Buffer, page: _Directory) -> bytes:
    """Return the file with RGB as the photometric interpretation of a page."""
    changed = bytearray(data)
    struct.pack_into(f"{page.byte_order}H", changed, page.values_at[_PHOTOMETRIC], _RGB)
    return bytes(changed)
