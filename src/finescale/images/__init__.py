"""Image file <-> RGB float tensor: the one door for pixels, on libvips.

What a file is, its first bytes say, never its name; what is written, the name's suffix says. Python opens the files
and hands over their bytes, so that no name is ever parsed by libvips (``[`` would begin options there). Size and kind
are checked in the header, before anything is decoded.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyvips
import torch
from torch import Tensor

from finescale.errors import ImageReadError, ImageWriteError, printable_name
from finescale.images import bmp
from finescale.images.imagebytes import (
    insert_texts,
    inspect_png,
    jpeg_quality,
    profile_mismatch,
    upright_exif,
    upright_xmp,
    xmp_chunk,
)
from finescale.system.files import whole_file

MAX_PIXELS = 250_000_000
"""The largest picture that is read unasked: 3 GB as float32 RGB."""

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Image:
    """A picture and all that goes with it into the next file.

    Raises:
        ValueError: The tensors' shapes or kinds, or the depth, are not as described below.
    """

    pixels: Tensor
    """(C, H, W) in [0, 1]; C = 1 (gray) or 3 (RGB, in the colour space of ``profile``, sRGB where there is none)."""

    alpha: Tensor | None = None
    """(1, H, W) in [0, 1], 1 is opaque; the colours are not multiplied by it. None where the file has none."""

    depth: int = 8
    """Bits per channel of the source, 8 or 16; written with as many where the format can."""

    profile: bytes | None = None
    """ICC profile of the pixels."""

    metadata: Mapping[str, bytes] = field(default_factory=dict)
    """What else the file says, by libvips' field names: ``exif-data`` and ``xmp-data`` (orientation already applied),
    ``iptc-data``, ``xres`` and ``yres`` (pixels per millimetre, as decimal text); and PNG's chunks ``png-text``."""

    jpeg_quality: int | None = None
    """About what quality the source was stored with, 1 to 100; None where it is no JPEG file, or does not say."""

    notes: tuple[str, ...] = ()
    """What reading gave up on purpose, and upscaling did otherwise than asked; one sentence each."""

    def __post_init__(self) -> None:
        shape = tuple(self.pixels.shape)
        if len(shape) != 3 or shape[0] not in (1, 3) or 0 in shape or not self.pixels.is_floating_point():
            raise ValueError(f"pixels must be float (1 or 3, H, W), got {self.pixels.dtype} {shape}")
        alpha = self.alpha
        if alpha is not None and (tuple(alpha.shape) != (1, *shape[1:]) or not alpha.is_floating_point()):
            raise ValueError(f"alpha must be float {(1, *shape[1:])}, got {alpha.dtype} {tuple(alpha.shape)}")
        if self.depth not in (8, 16):
            raise ValueError(f"depth must be 8 or 16, got {self.depth}")

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.pixels.shape[1], self.pixels.shape[2]


# ---------------------------------------------------------------------------------------------------------- reading

_SIGNATURES = {
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "WebP": re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
    "TIFF": re.compile(rb"II[*+]\0|MM\0[*+]"),
    "GIF": re.compile(rb"GIF8[79]a"),
    "AVIF": re.compile(rb".{4}ftyp.{0,48}avi[fs]", re.DOTALL),
    "BMP": re.compile(rb"BM"),
}
_SIGNATURE_LENGTH = 60  # bytes; more than any of the above looks at

# Complaints of the JPEG decoder about files of phones and cameras whose picture is whole.
_HARMLESS = re.compile(r"\d+ extraneous bytes before marker|Invalid SOS parameters for sequential JPEG")

_AS_STORED = ("b-w", "srgb", "rgb", "grey16", "rgb16", "scrgb", "multiband")  # interpretations taken as they are
_TURNED = (5, 6, 7, 8)  # values of the EXIF orientation at which rows are stored as columns
_UNKNOWN_RESOLUTION = 1.0  # libvips' pixels per millimetre where a file says nothing


def read_image(path: Path | str, *, max_pixels: int = MAX_PIXELS) -> Image:
    """Read a PNG, JPEG, WebP, TIFF, BMP, GIF or AVIF file, whatever its name.

    Gray stays gray and 16 bits stay 16; palettes and single bits are spread out; CMYK and Lab become sRGB; values of
    floating-point TIFFs are taken as they are, [0, 1]. The EXIF orientation is applied. Of several frames or pages the
    first is read.

    Args:
        path: The file, under any name that the system allows.
        max_pixels: Width times height beyond which nothing is decoded.

    Returns:
        The picture; its ``notes`` say what was given up.

    Raises:
        ImageReadError: There is no such file, or it is not an image, empty, truncated, damaged, or too large.
    """
    path = Path(path)
    try:
        data = _bytes_of_image(path)
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
    except ImageReadError as error:
        reason = str(error)
    else:
        return decode_image(data, name=str(path), max_pixels=max_pixels)
    raise ImageReadError(f"{printable_name(path)}: {reason}")


def read_size(path: Path | str) -> tuple[int, int]:
    """Height and width of a picture, upright, from the start of its file; nothing is decoded.

    Raises:
        ImageReadError: There is no such file, or its start is not that of an image.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            name = _format_of(file.read(_SIGNATURE_LENGTH))
            file.seek(0)
            if name == "BMP":
                return bmp.read_size(file.read())
            header = _open(pyvips.Source.new_from_descriptor(file.fileno()), name)
            turned = _field(header, "orientation", 1) in _TURNED
            return (header.width, header.height) if turned else (header.height, header.width)
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
    except ImageReadError as error:
        reason = str(error)
    except pyvips.Error as error:
        reason = f"truncated or damaged{_said_by(error)}"
    raise ImageReadError(f"{printable_name(path)}: {reason}")


def decode_image(data: bytes, *, name: str, max_pixels: int = MAX_PIXELS) -> Image:
    """Read a picture from the bytes of its file, as `read_image` does.

    Args:
        data: The whole file.
        name: What errors call it.
        max_pixels: Width times height beyond which nothing is decoded.

    Raises:
        ImageReadError: It is not an image, empty, truncated, damaged, or too large.
    """
    try:
        return _read(data, max_pixels)
    except pyvips.Error as error:
        reason = f"truncated or damaged{_said_by(error)}"
    except ImageReadError as error:
        reason = str(error)
    raise ImageReadError(f"{printable_name(name)}: {reason}")


def _bytes_of_image(path: Path) -> bytes:
    """The whole file, once its first bytes promise an image."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ImageReadError("is a folder or a device, not a file")
    with path.open("rb") as file:
        start = file.read(_SIGNATURE_LENGTH)
        if not start:
            raise ImageReadError("the file is empty")
        _format_of(start)
        file.seek(0)
        return file.read()


def _format_of(data: bytes) -> str:
    for name, signature in _SIGNATURES.items():
        if signature.match(data[:_SIGNATURE_LENGTH]):
            return name
    raise ImageReadError(f"not an image (its first bytes are not those of {', '.join(_SIGNATURES)})")


def _read(data: bytes, max_pixels: int) -> Image:
    name = _format_of(data)
    if name == "BMP":
        _check_size(bmp.read_size(data), max_pixels)
        return Image(*_to_planes(bmp.decode(data), []))
    notes: list[str] = []
    png = inspect_png(data) if name == "PNG" else None
    if png is not None:
        _check_size(png.size, max_pixels)
        if not png.is_whole:
            raise ImageReadError("truncated PNG: its end is missing")
        if png.has_compressed_texts:
            notes.append("compressed texts are dropped unread")
        data = png.picture
    header = _open(data, name)
    _check_size((header.height, header.width), max_pixels)
    _check_samples(header)
    num_frames = png.num_frames if png else _field(header, "n-pages", 1)
    if num_frames > 1:
        notes.append(f"{num_frames - 1} further frame{'s are' if num_frames > 2 else ' is'} not upscaled")
    try:
        levels = _decode(header, notes)
    except pyvips.Error as error:
        if not _lines(error) or not all(_HARMLESS.search(line) for line in _lines(error)):
            raise
        notes.append(f"the file is not quite in order{_said_by(error)}; check the result")
        levels = _decode(_open(data, name, fail_on="error"), [])
    pixels, alpha = _to_planes(levels, notes)
    metadata = _read_metadata(header, notes)
    if png and png.texts:
        metadata["png-text"] = png.texts
    return Image(
        pixels,
        alpha,
        depth=8 if levels.dtype == np.uint8 else 16,
        profile=_read_profile(header, len(pixels), png is not None and png.has_profile, notes),
        metadata=metadata,
        jpeg_quality=jpeg_quality(data) if name == "JPEG" else None,
        notes=tuple(notes),
    )


def _open(source: bytes | pyvips.Source, name: str, *, fail_on: str = "warning") -> pyvips.Image:
    """The header of an image whose pixels are decoded when they are asked for, once and from top to bottom."""
    loader = f"{'heif' if name == 'AVIF' else name.lower()}load_source"
    if not pyvips.type_find("VipsOperation", loader):
        raise ImageReadError(f"this libvips was built without {name}; convert the file to PNG first")
    _forget_errors()
    if isinstance(source, bytes):
        source = pyvips.Source.new_from_memory(source)
    image: pyvips.Image = pyvips.Operation.call(loader, source, access="sequential", fail_on=fail_on)
    return image


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    height, width = size
    if height * width > max_pixels:
        raise ImageReadError(
            f"{width} x {height} pixels ({height * width / 1e6:.1f} megapixels) pass the limit of "
            f"{max_pixels / 1e6:g} megapixels; raise it with --max-pixels if you trust the file"
        )


def _check_samples(header: pyvips.Image) -> None:
    if header.format not in ("uchar", "ushort", "float", "double"):
        raise ImageReadError(f"samples of kind {header.format} are not known; save it with 8 or 16 bits per channel")
    if header.bands > (5 if header.interpretation == "cmyk" else 4):
        raise ImageReadError(
            f"{header.bands} channels per pixel, where gray, RGB or CMYK, perhaps with alpha, are known"
        )


def _decode(image: pyvips.Image, notes: list[str]) -> Array:
    """(H, W, C), upright: gray or RGB and perhaps alpha, in the numbers of the file."""
    if image.interpretation == "cmyk":
        notes.append("converted from CMYK to sRGB")
        depth = 16 if image.format == "ushort" else 8
        image = image.icc_transform(
            "srgb", embedded=True, input_profile="cmyk", black_point_compensation=True, depth=depth
        )
    elif image.interpretation not in _AS_STORED:
        notes.append(f"converted from {image.interpretation} to sRGB")
        image = image.colourspace("srgb")
    if _field(image, "orientation", 1) != 1:
        image = image.copy_memory().autorot()  # turning needs the rows in any order
    return np.atleast_3d(image.numpy())


def _to_planes(levels: Array, notes: list[str]) -> tuple[Tensor, Tensor | None]:
    """(H, W, C) in the numbers of the file -> pixels (1 or 3, H, W) and alpha (1, H, W) in [0, 1]."""
    planes = torch.from_numpy(levels).permute(2, 0, 1).to(torch.float32, memory_format=torch.contiguous_format)
    if levels.dtype.kind == "u":
        planes.div_(np.iinfo(levels.dtype).max)
    elif not torch.isfinite(planes).all():
        raise ImageReadError("some of its values are NaN or infinite")
    elif planes.min() < 0 or planes.max() > 1:
        notes.append("values outside [0, 1] are clipped")
        planes = planes.clamp(0, 1)
    return (planes[:-1], planes[-1:]) if len(planes) in (2, 4) else (planes, None)


def _read_profile(header: pyvips.Image, num_channels: int, is_promised: bool, notes: list[str]) -> bytes | None:
    if header.interpretation not in _AS_STORED:
        return None  # the pixels are sRGB by now
    profile: bytes | None = _field(header, "icc-profile-data", None)
    if profile is None and not is_promised:
        return None
    mismatch = profile_mismatch(profile, num_channels) if profile else "is damaged"  # libpng hides what it cannot read
    if mismatch:
        notes.append(f"the colour profile {mismatch}: dropped")
        return None
    return profile


def _read_metadata(header: pyvips.Image, notes: list[str]) -> dict[str, bytes]:
    names = ("exif-data", "xmp-data", "iptc-data")
    metadata: dict[str, bytes] = {name: header.get(name) for name in names if name in header.get_fields()}
    if "exif-data" in metadata:
        exif = upright_exif(metadata.pop("exif-data"))
        if exif is None:
            notes.append("the EXIF data are damaged: dropped")
        else:
            metadata["exif-data"] = exif
    if "xmp-data" in metadata:
        metadata["xmp-data"] = upright_xmp(metadata["xmp-data"])
    for name in ("xres", "yres"):
        if header.get(name) != _UNKNOWN_RESOLUTION:
            metadata[name] = repr(header.get(name)).encode()
    return metadata


def _field(image: pyvips.Image, name: str, default: Any) -> Any:
    return image.get(name) if name in image.get_fields() else default


def _forget_errors() -> None:
    """Empty libvips' one list of complaints: those that it made without failing would be told with the next error."""
    pyvips.vips_lib.vips_error_clear()


def _lines(error: pyvips.Error) -> list[str]:
    """What decoder or encoder said, without the parts of libvips that passed it on."""
    return [re.sub(r"^\w+: ", "", line.strip()) for line in error.detail.split("\n") if line.strip()]


def _said_by(error: pyvips.Error) -> str:
    """The most telling line of it, in brackets."""
    return f" ({max(_lines(error), key=len)})" if _lines(error) else ""


# ---------------------------------------------------------------------------------------------------------- writing


@dataclass(frozen=True)
class _Format:
    """What a format of files can hold, and how it is written."""

    name: str
    suffix: str  # by which libvips knows its encoder
    max_side: int  # pixels
    depth: int = 8
    has_gray: bool = True
    has_alpha: bool = True
    has_profile: bool = True
    metadata: tuple[str, ...] = ()  # which of the fields below it holds
    quality: int | None = None  # the default where there is a choice
    options: Mapping[str, Any] = field(default_factory=dict)  # of libvips' encoder


_METADATA = {"exif-data": "EXIF data", "xmp-data": "XMP data", "iptc-data": "IPTC data", "png-text": "PNG texts"}
_MAX_SEGMENT = 65_502  # bytes of metadata that JPEG holds in one piece, and that libvips holds of EXIF anywhere

_PNG = _Format("PNG", ".png", 2**31 - 1, depth=16, metadata=("exif-data", "xmp-data", "png-text"))
_JPEG = _Format(
    "JPEG",
    ".jpg",
    65500,
    has_alpha=False,
    metadata=("exif-data", "xmp-data", "iptc-data"),
    quality=95,
    options={"subsample_mode": "off"},
)
_WEBP = _Format(
    "WebP", ".webp", 16383, has_gray=False, metadata=("exif-data", "xmp-data"), quality=95, options={"exact": True}
)
_TIFF = _Format(
    "TIFF",
    ".tif",
    2**31 - 1,
    depth=16,
    metadata=("xmp-data", "iptc-data"),
    options={"compression": "deflate", "predictor": "horizontal"},
)
_AVIF = _Format(
    "AVIF",
    ".avif",
    16384,
    has_gray=False,
    metadata=("exif-data", "xmp-data"),
    quality=90,
    options={"bitdepth": 8, "subsample_mode": "off"},
)
_BMP = _Format("BMP", ".bmp", 2**31 - 1, has_alpha=False, has_profile=False)

_FORMATS = {form.suffix: form for form in (_PNG, _JPEG, _WEBP, _TIFF, _BMP, _AVIF)}
_FORMATS |= {".jpeg": _JPEG, ".tiff": _TIFF}

WRITABLE_SUFFIXES = tuple(_FORMATS)
"""What the name of a picture to be written may end with, in lower case."""

READABLE_SUFFIXES = frozenset({*WRITABLE_SUFFIXES, ".gif"})
"""By which a picture is told from the other files of a folder, in lower case; a file that is named needs none."""

_INTERPRETATIONS = {(1, 8): "b-w", (3, 8): "srgb", (1, 16): "grey16", (3, 16): "rgb16"}
_SCREEN_RESOLUTION = 72 / 25.4  # pixels per millimetre, where nothing is known
_MAX_CLASSIC_TIFF = 2**32 - 2**26  # bytes before compression; larger files need 64-bit offsets


def write_image(path: Path | str, image: Image | Tensor, *, quality: int | None = None) -> tuple[str, ...]:
    """Write a picture in the format that the name's suffix says: .png .jpg .jpeg .webp .tif .tiff .bmp .avif.

    Values are clamped to [0, 1] and rounded half up. The file appears under its name when it is whole, or not at all.

    Args:
        path: Where to; a file of that name is replaced.
        image: A picture, or just its pixels (1 or 3, H, W) in [0, 1], then written with 8 bits.
        quality: 1 to 100 for JPEG (default 95), WebP (95; 100 is lossless) and AVIF (90); the others are lossless.

    Returns:
        What the format cannot hold and was given up, one sentence each.

    Raises:
        ValueError: ``quality`` is out of range, or the tensor is not a picture (see `Image`).
        ImageWriteError: The suffix is unknown, the picture is too large for the format or has NaN in it, or the file
            cannot be written there.
    """
    path = Path(path)
    if quality is not None and not 1 <= quality <= 100:
        raise ValueError(f"quality must be between 1 and 100, got {quality}")
    if isinstance(image, Tensor):
        image = Image(image)
    notes: list[str] = []
    try:
        target = _FORMATS.get(path.suffix.lower())
        if target is None:
            raise ImageWriteError(f"no format is known for the suffix {path.suffix!r}; known: {' '.join(_FORMATS)}")
        encoded = _encode(image, target, quality, notes)
        with whole_file(path) as file:
            file.write(encoded)
    except OSError as error:
        reason = _refused_by_system(path, error)
    except pyvips.Error as error:
        reason = f"cannot be encoded{_said_by(error)}"
    except ImageWriteError as error:
        reason = str(error)
    else:
        return tuple(notes)
    raise ImageWriteError(f"{printable_name(path)}: {reason}")


def encode_png(levels: Tensor, *, compression: int = 6) -> bytes:
    """A PNG file of 8-bit pixels and nothing else.

    Args:
        levels: (1 or 3, H, W), uint8.
        compression: 0 (large and fast) to 9 (small and slow).

    Raises:
        ValueError: The tensor is not as described.
    """
    encoded: bytes = _as_vips(levels).write_to_buffer(".png", compression=compression, keep="none")
    return encoded


def encode_jpeg(levels: Tensor, *, quality: int, subsample: bool) -> bytes:
    """A JPEG file of 8-bit pixels and nothing else.

    Args:
        levels: (1 or 3, H, W), uint8.
        quality: 1 to 100.
        subsample: Hold colour at half the height and width, as most files of the web do.

    Raises:
        ValueError: The tensor is not as described, or ``quality`` is out of range.
    """
    if not 1 <= quality <= 100:
        raise ValueError(f"quality must be between 1 and 100, got {quality}")
    mode = "on" if subsample else "off"
    encoded: bytes = _as_vips(levels).write_to_buffer(".jpg", Q=quality, subsample_mode=mode, keep="none")
    return encoded


def _as_vips(levels: Tensor) -> pyvips.Image:
    """8-bit pixels (1 or 3, H, W) as a picture of libvips."""
    if levels.dtype != torch.uint8 or levels.ndim != 3 or len(levels) not in (1, 3) or 0 in levels.shape:
        raise ValueError(f"levels must be uint8 (1 or 3, H, W), got {levels.dtype} {tuple(levels.shape)}")
    num_channels, height, width = levels.shape
    array = levels.permute(1, 2, 0).contiguous().numpy()
    picture = pyvips.Image.new_from_memory(array, width, height, num_channels, "uchar")
    return picture.copy(interpretation=_INTERPRETATIONS[num_channels, 8])


def _encode(image: Image, target: _Format, quality: int | None, notes: list[str]) -> bytes:
    height, width = image.size
    if max(image.size) > target.max_side:
        raise ImageWriteError(
            f"{width} x {height} pixels pass the {target.max_side} a side that {target.name} holds; choose .png or .tif"
        )
    depth = min(image.depth, target.depth)
    if depth < image.depth:
        notes.append(f"{target.name} holds {depth} bits per channel: reduced from {image.depth}")
    levels = _to_levels(_planes_to_store(image, target, notes), depth)
    attached = _attachments(image, target, notes)
    if target is _BMP:
        return bmp.encode(levels)
    picture = pyvips.Image.new_from_memory(levels, width, height, levels.shape[2], "uchar" if depth == 8 else "ushort")
    picture = picture.copy(
        interpretation=_INTERPRETATIONS[len(image.pixels), depth],
        xres=float(image.metadata.get("xres", _SCREEN_RESOLUTION)),
        yres=float(image.metadata.get("yres", _SCREEN_RESOLUTION)),
    )
    texts = attached.pop("png-text", b"")
    if target is _PNG and "xmp-data" in attached:
        texts += xmp_chunk(attached.pop("xmp-data"))
    for name, value in attached.items():
        picture.set_type(pyvips.GValue.blob_type, name, value)
    options = dict(target.options)
    if target.quality is not None:
        options["Q"] = quality or target.quality
    if target is _WEBP:
        options["lossless"] = options["Q"] == 100
    elif target is _TIFF:
        options["bigtiff"] = levels.nbytes > _MAX_CLASSIC_TIFF
    _forget_errors()
    encoded: bytes = picture.write_to_buffer(target.suffix, **options)
    return insert_texts(encoded, texts) if texts else encoded


def _planes_to_store(image: Image, target: _Format, notes: list[str]) -> list[Tensor]:
    """The colours, then alpha where the format holds it, each (H, W)."""
    pixels = image.pixels.detach().cpu()
    if image.alpha is None:
        return [*pixels]
    alpha = image.alpha.detach().cpu()
    if target.has_alpha:
        return [*pixels, *alpha]
    if (alpha >= 1).all():
        return [*pixels]
    notes.append(f"{target.name} holds no transparency: flattened on white")
    return [*torch.lerp(torch.ones_like(pixels), pixels.clamp(0, 1), alpha.clamp(0, 1).to(pixels.dtype))]


def _to_levels(planes: list[Tensor], depth: int) -> Array:
    """Values in [0, 1] -> (H, W, C) of 8 or 16 bits, rounded half up; one plane at a time, to spare memory."""
    peak, kind = (255, torch.uint8) if depth == 8 else (65535, torch.uint16)
    levels = []
    for plane in planes:
        if not torch.isfinite(plane).all():
            raise ImageWriteError("the picture has NaN or infinite values in it; nothing was written")
        levels.append((plane.float() * peak).add_(0.5).clamp_(0, peak).to(kind))  # the cast rounds down
    return torch.stack(levels, dim=-1).numpy()


def _attachments(image: Image, target: _Format, notes: list[str]) -> dict[str, bytes]:
    """Profile and metadata, by libvips' field names, as far as the format holds them."""
    attached: dict[str, bytes] = {}
    if image.profile is not None:
        mismatch = profile_mismatch(image.profile, len(image.pixels) if target.has_gray else 3)
        if not target.has_profile:
            notes.append(f"{target.name} holds no colour profile: dropped")
        elif mismatch:
            notes.append(f"the colour profile {mismatch}: dropped")
        else:
            attached["icc-profile-data"] = image.profile
    for name in filter(image.metadata.__contains__, _METADATA):
        value = image.metadata[name]
        if name not in target.metadata:
            notes.append(f"{target.name} holds no {_METADATA[name]}: dropped")
        elif len(value) > _MAX_SEGMENT and (target is _JPEG or name == "exif-data"):
            notes.append(f"{len(value)} bytes of {_METADATA[name]} do not fit into {target.name}: dropped")
        else:
            attached[name] = value
    return attached


def _refused_by_system(path: Path, error: OSError) -> str:
    if error.errno == errno.ENAMETOOLONG:
        return f"the name's {len(os.fsencode(path.name))} bytes are more than the system allows; choose a shorter one"
    if isinstance(error, FileNotFoundError):
        return f"the folder {printable_name(path.parent)} does not exist"
    return f"cannot be written ({error.strerror})"
