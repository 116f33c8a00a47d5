"""Writing of image files, in the format that the suffix of the name states."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pyvips
import torch
from torch import Tensor

from finescale.errors import ImageWriteError, printable_name
from finescale.images import bmp
from finescale.images.color import to_srgb
from finescale.images.formats import (
    BMP,
    JPEG,
    MAX_SEGMENT,
    METADATA_NAMES,
    OUTPUT_FORMATS,
    PNG,
    TIFF,
    WEBP,
    OutputFormat,
)
from finescale.images.image import Image, Notes
from finescale.images.levels import to_levels
from finescale.images.metadata import profile_mismatch, resized_exif
from finescale.images.png import insert_texts, xmp_chunk
from finescale.images.vips import bracketed_message, forget_errors
from finescale.images.xmp import resized_xmp
from finescale.system.files import whole_file

_INTERPRETATIONS = {(1, 8): "b-w", (3, 8): "srgb", (1, 16): "grey16", (3, 16): "rgb16"}  # by channels and depth
_RESIZED = {"exif-data": resized_exif, "xmp-data": resized_xmp}
_SCREEN_RESOLUTION = 72 / 25.4  # pixels per millimetre, where nothing is known
_MAX_CLASSIC_TIFF = 2**32 - 2**26  # bytes before compression; larger files need 64-bit offsets


def write_image(path: Path | str, image: Image | Tensor, *, quality: int | None = None) -> tuple[str, ...]:
    """Write an image in the format of the name's suffix: .png .jpg .jpeg .webp .tif .tiff .bmp .avif.

    Values are clamped to [0, 1] and rounded half up. The file appears under its name when it is complete, or not at
    all.

    Args:
        path: File to write; an existing one is replaced.
        image: An image, or only its pixels (1 or 3, H, W) in [0, 1], which are then written with 8 bits.
        quality: 1 to 100 for JPEG (default 95), WebP (95; 100 is lossless) and AVIF (90); the others are lossless.

    Returns:
        What was dropped or reduced because the format cannot hold it, one sentence each.

    Raises:
        ValueError: ``quality`` is out of range, or the tensor is not an image (`Image` states its shape and dtype).
        ImageWriteError: The suffix is unknown, the image is too large for the format or contains NaN, or the file
            cannot be written there.
    """
    path = Path(path)
    if quality is not None and not 1 <= quality <= 100:
        raise ValueError(f"quality must be between 1 and 100, got {quality}")
    if isinstance(image, Tensor):
        image = Image(image)
    try:
        target = OUTPUT_FORMATS.get(path.suffix.lower())
        if target is None:
            raise ImageWriteError(f"no format has the suffix {path.suffix!r}; known: {' '.join(OUTPUT_FORMATS)}")
        encoded, notes = _encode(image, target, quality)
        with whole_file(path) as file:
            file.write(encoded)
    except OSError as error:
        reason = _reason_of_system(path, error)
    except pyvips.Error as error:
        reason = f"cannot be encoded{bracketed_message(error)}"
    except ImageWriteError as error:
        reason = str(error)
    else:
        return notes
    raise ImageWriteError(f"{printable_name(path)}: {reason}")


def encode_png(levels: Tensor, *, compression: int = 6) -> bytes:
    """Return a PNG file of 8-bit pixels, without metadata.

    Args:
        levels: (1 or 3, H, W), uint8.
        compression: 0 (large and fast) to 9 (small and slow).

    Raises:
        ValueError: The tensor is not as described.
    """
    encoded: bytes = _as_vips(levels).write_to_buffer(".png", compression=compression, keep="none")
    return encoded


def encode_jpeg(levels: Tensor, *, quality: int, subsample: bool) -> bytes:
    """Return a JPEG file of 8-bit pixels, without metadata.

    Args:
        levels: (1 or 3, H, W), uint8.
        quality: 1 to 100.
        subsample: Store colour at half the height and width, as most files on the web do.

    Raises:
        ValueError: The tensor is not as described, or ``quality`` is out of range.
    """
    if not 1 <= quality <= 100:
        raise ValueError(f"quality must be between 1 and 100, got {quality}")
    mode = "on" if subsample else "off"
    encoded: bytes = _as_vips(levels).write_to_buffer(".jpg", Q=quality, subsample_mode=mode, keep="none")
    return encoded


def _as_vips(levels: Tensor) -> pyvips.Image:
    """Return 8-bit pixels (1 or 3, H, W) as an image of libvips."""
    if levels.dtype != torch.uint8 or levels.ndim != 3 or len(levels) not in (1, 3) or 0 in levels.shape:
        raise ValueError(f"levels must be uint8 (1 or 3, H, W), got {levels.dtype} {tuple(levels.shape)}")
    num_channels, height, width = levels.shape
    array = levels.permute(1, 2, 0).contiguous().numpy()
    picture = pyvips.Image.new_from_memory(array, width, height, num_channels, "uchar")
    return picture.copy(interpretation=_INTERPRETATIONS[num_channels, 8])


def _encode(image: Image, target: OutputFormat, quality: int | None) -> tuple[bytes, Notes]:
    """Return the file, and notes about what it does not hold."""
    height, width = image.size
    if max(image.size) > target.max_side:
        raise ImageWriteError(
            f"{width} x {height} pixels exceed the {target.max_side} per side that {target.name} holds; "
            "choose .png or .tif"
        )
    depth = min(image.depth, target.depth)
    reduced = f"{target.name} holds {depth} bits per channel: reduced from {image.depth}"
    depth_notes = (reduced,) if depth < image.depth else ()
    image, color_notes = _in_storable_colors(image, target)
    planes, alpha_notes = _planes_to_store(image, target)
    levels = to_levels(planes, depth)
    attached, metadata_notes = _attachments(image, target)
    notes = (*depth_notes, *alpha_notes, *color_notes, *metadata_notes)
    if target is BMP:
        return bmp.encode(levels), notes
    picture = pyvips.Image.new_from_memory(levels, width, height, levels.shape[2], "uchar" if depth == 8 else "ushort")
    picture = picture.copy(
        interpretation=_INTERPRETATIONS[len(image.pixels), depth],
        xres=float(image.metadata.get("xres", _SCREEN_RESOLUTION)),
        yres=float(image.metadata.get("yres", _SCREEN_RESOLUTION)),
    )
    texts = attached.pop("png-text", b"")
    if target is PNG and "xmp-data" in attached:
        texts += xmp_chunk(attached.pop("xmp-data"))
    for name, value in attached.items():
        picture.set_type(pyvips.GValue.blob_type, name, value)
    options = dict(target.options)
    if target.quality is not None:
        options["Q"] = quality or target.quality
    if target is WEBP:
        options["lossless"] = options["Q"] == 100
    elif target is TIFF:
        options["bigtiff"] = levels.nbytes > _MAX_CLASSIC_TIFF
    forget_errors()
    encoded: bytes = picture.write_to_buffer(target.encoder, **options)
    return insert_texts(encoded, texts) if texts else encoded, notes


def _in_storable_colors(image: Image, target: OutputFormat) -> tuple[Image, Notes]:
    """Return the image with colours that the format can state: in sRGB, where it does not hold the profile."""
    num_channels = len(image.pixels)
    if image.profile is None:
        return image, ()
    reason = profile_mismatch(image.profile, num_channels)
    if reason is None and not target.has_profile:
        missing = f"{target.name} holds no colour profile"
    elif reason is None and num_channels == 1 and not target.has_gray:
        missing = f"{target.name} holds no gray colour profile"
    elif reason is None:
        return image, ()
    else:
        return replace(image, profile=None), (f"the colour profile {reason}: dropped",)
    try:
        pixels = to_srgb(image.pixels.detach().cpu(), image.profile)
    except ValueError:
        return replace(image, profile=None), ("the colour profile is damaged: dropped",)
    return replace(image, pixels=pixels, profile=None), (f"{missing}: converted to sRGB",)


def _planes_to_store(image: Image, target: OutputFormat) -> tuple[list[Tensor], Notes]:
    """Return the colours, then alpha where the format holds it, each (H, W)."""
    pixels = image.pixels.detach().cpu()
    if image.alpha is None:
        return [*pixels], ()
    alpha = image.alpha.detach().cpu()
    if target.has_alpha:
        return [*pixels, *alpha], ()
    if (alpha >= 1).all():
        return [*pixels], ()
    on_white = torch.lerp(torch.ones_like(pixels), pixels.clamp(0, 1), alpha.clamp(0, 1).to(pixels.dtype))
    return [*on_white], (f"{target.name} holds no transparency: flattened on white",)


def _attachments(image: Image, target: OutputFormat) -> tuple[dict[str, bytes], Notes]:
    """Return profile and metadata, by libvips' field names, as far as the format holds them."""
    attached: dict[str, bytes] = {}
    notes: list[str] = []
    if image.profile is not None:
        attached["icc-profile-data"] = image.profile
    for name in filter(image.metadata.__contains__, METADATA_NAMES):
        value = image.metadata[name]
        if name in _RESIZED:
            value = _resized(name, value, image.size)
        if name not in target.metadata:
            notes.append(f"{target.name} holds no {METADATA_NAMES[name]}: dropped")
        elif len(value) > MAX_SEGMENT and (target is JPEG or name == "exif-data"):
            notes.append(f"{len(value)} bytes of {METADATA_NAMES[name]} do not fit into {target.name}: dropped")
        else:
            attached[name] = value
    return attached, tuple(notes)


def _resized(name: str, value: bytes, size: tuple[int, int]) -> bytes:
    """Return metadata that state the size of the image that is written."""
    try:
        return _RESIZED[name](value, size)
    except ValueError:
        return value  # the caller's own: what is read from files has been checked


def _reason_of_system(path: Path, error: OSError) -> str:
    if error.errno == errno.ENAMETOOLONG:
        num_bytes = len(os.fsencode(path.name))
        return f"the file name has {num_bytes} bytes, more than the system allows; choose a shorter one"
    if isinstance(error, FileNotFoundError):
        return f"the folder {printable_name(path.parent)} does not exist"
    return f"cannot be written ({error.strerror})"
