"""Writing of image files, in the format that the suffix of the name states."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyvips
import torch
from torch import Tensor

from finescale.errors import ImageWriteError, printable_name
from finescale.images import bmp
from finescale.images.color import to_srgb
from finescale.images.formats import (
    BMP,
    DZI,
    JPEG,
    LARGE_FORMATS,
    MAX_SEGMENT,
    METADATA_NAMES,
    OUTPUT_FORMATS,
    PNG,
    TIFF,
    WEBP,
    OutputFormat,
)
from finescale.images.image import Image, Levels, Notes
from finescale.images.levels import to_levels
from finescale.images.metadata import profile_mismatch, resized_exif
from finescale.images.png import insert_texts, insert_texts_into_file, xmp_chunk
from finescale.images.vips import bracketed_message, check_process, forget_errors, ran_out_of_memory
from finescale.images.xmp import resized_xmp
from finescale.system.files import whole_file, whole_folder
from finescale.system.places import Place

_INTERPRETATIONS = {(1, 8): "b-w", (3, 8): "srgb", (1, 16): "grey16", (3, 16): "rgb16"}  # by channels and depth
_RESIZED = {"exif-data": resized_exif, "xmp-data": resized_xmp}
_SCREEN_RESOLUTION = 72 / 25.4  # pixels per millimetre, where nothing is known
_FORMATS = LARGE_FORMATS | OUTPUT_FORMATS
_HEADER_FIELDS = frozenset(
    ("width", "height", "bands", "format", "coding", "interpretation", "xoffset", "yoffset", "xres", "yres", "filename")
)  # of libvips' images; all others are metadata
_TIFF_TILE = 256  # pixels a side
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
    with _refusals(path):
        target = OUTPUT_FORMATS.get(path.suffix.lower())
        if target is None:
            raise ImageWriteError(f"no format has the suffix {path.suffix!r}; known: {' '.join(OUTPUT_FORMATS)}")
        encoded, notes = _encode(image, target, quality)
        with whole_file(path) as file:
            file.write(encoded)
    return notes


def write_stored(
    path: Path, levels: Path, storage: Storage, *, quality: int | None = None, pyramid: bool = False
) -> None:
    """Write an image whose levels are in a file, of which a few rows are in memory; the encoder of WebP takes them all.

    PNG, JPEG and WebP files equal those of `write_image`. TIFF files are made of tiles, which programs that show a part
    of a large image prefer. A name that ends in .dzi also stands for the folder of its tiles, ``<stem>_files``.

    Args:
        path: File to write; an existing one is replaced.
        levels: `levels_header` and (H, W, C) as `Storage.levels` returns them.
        storage: How the image is stored.
        quality: 1 to 100 for JPEG, WebP and DZI.
        pyramid: Store a TIFF with reduced copies of the image, for viewers.

    Raises:
        ImageWriteError: The file cannot be written there.
    """
    check_process()
    options = storage.options(quality)
    if storage.target is TIFF:
        options |= {"tile": True, "tile_width": _TIFF_TILE, "tile_height": _TIFF_TILE, "pyramid": pyramid}
    forget_errors()
    with _refusals(path):
        source = pyvips.Source.new_from_file(os.fsencode(levels))
        picture = pyvips.Operation.call("tiffload_source", source, access="sequential", fail_on="error")
        picture = _without_metadata(picture)
        if storage.target is DZI:
            _write_dzi(path, storage.dressed(picture), options, scratch=levels.parent)
            return
        with whole_file(path) as file:
            saver = f"{storage.target.name.lower()}save"
            pyvips.Operation.call(saver, storage.dressed(picture), os.fsencode(file.name), **options)
            if storage.texts:
                insert_texts_into_file(Path(file.name), storage.texts)


def _without_metadata(picture: pyvips.Image) -> pyvips.Image:
    """Return an image without what its loader has noted, such as a unit of resolution, which encoders would write."""
    picture = picture.copy()
    for name in set(picture.get_fields()) - _HEADER_FIELDS:
        picture.remove(name)
    return picture


def _write_dzi(path: Path, picture: pyvips.Image, options: dict[str, Any], *, scratch: Path) -> None:
    """Write the tiles into their folder, then the file that describes them."""
    suffix = f".jpg[Q={options['Q']}]"
    pyvips.Operation.call("dzsave", picture, os.fsencode(scratch / "pyramid"), suffix=suffix)
    with whole_folder(path.with_name(f"{path.stem}_files")) as tiles:
        for level in filter(Path.is_dir, (scratch / "pyramid_files").iterdir()):  # not libvips' own list of properties
            level.rename(tiles / level.name)
    with whole_file(path) as file:
        file.write((scratch / "pyramid.dzi").read_bytes())


def check_size(path: Place, size: tuple[int, int]) -> None:
    """Refuse an image that is too large for the format that the suffix of its name states.

    Raises:
        ImageWriteError: A side of ``size`` is longer than the format holds.
    """
    with _refusals(path):
        _check_sides(size, _FORMATS[path.suffix.lower()])


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
    check_process()
    if levels.dtype != torch.uint8 or levels.ndim != 3 or len(levels) not in (1, 3) or 0 in levels.shape:
        raise ValueError(f"levels must be uint8 (1 or 3, H, W), got {levels.dtype} {tuple(levels.shape)}")
    num_channels, height, width = levels.shape
    array = levels.permute(1, 2, 0).contiguous().numpy()
    picture = pyvips.Image.new_from_memory(array, width, height, num_channels, "uchar")
    return picture.copy(interpretation=_INTERPRETATIONS[num_channels, 8])


def _check_sides(size: tuple[int, int], target: OutputFormat) -> None:
    height, width = size
    if max(size) > target.max_side:
        raise ImageWriteError(
            f"{width} x {height} pixels exceed the {target.max_side} per side that {target.name} holds; "
            "choose .png or .tif"
        )


def _encode(image: Image, target: OutputFormat, quality: int | None) -> tuple[bytes, Notes]:
    """Return the file, and notes about what it does not hold."""
    check_process()
    storage = Storage(
        target,
        image.size,
        num_colors=len(image.pixels),
        has_alpha=image.alpha is not None,
        depth=image.depth,
        profile=image.profile,
        metadata=image.metadata,
    )
    pixels = image.pixels.detach().cpu()
    alpha = None if image.alpha is None else image.alpha.detach().cpu()
    levels, is_opaque = storage.levels(pixels, alpha)
    notes = storage.notes(is_opaque=is_opaque)
    if target is BMP:
        return bmp.encode(levels), notes
    height, width, num_channels = levels.shape
    picture = pyvips.Image.new_from_memory(levels, width, height, num_channels, storage.sample_format)
    forget_errors()
    encoded: bytes = storage.dressed(picture).write_to_buffer(target.encoder, **storage.options(quality))
    return insert_texts(encoded, storage.texts) if storage.texts else encoded, notes


class Storage:
    """How the pixels and the metadata of an image are stored in a format, and what is given up for it.

    Args:
        target: The format.
        size: (height, width).
        num_colors: 1 (gray) or 3 (RGB).
        has_alpha: Whether there is transparency.
        depth: Bits per channel of the image, 8 or 16.
        profile: As `Image` has it.
        metadata: As `Image` has it.

    Attributes:
        target: The format.
        size: (height, width).
        depth: Bits per channel that are stored.
        num_channels: Colours and transparency that are stored.
        texts: Chunks to insert into a PNG file.

    Raises:
        ImageWriteError: The format does not hold an image of this size.
    """

    def __init__(
        self,
        target: OutputFormat,
        size: tuple[int, int],
        *,
        num_colors: int,
        has_alpha: bool,
        depth: int,
        profile: bytes | None,
        metadata: Mapping[str, bytes],
    ) -> None:
        _check_sides(size, target)
        self.target, self.size, self._num_colors = target, size, num_colors
        self.depth = min(depth, target.depth)
        self.num_channels = num_colors + (has_alpha and target.has_alpha)
        reduced = f"{target.name} holds {self.depth} bits per channel: reduced from {depth}"
        self._depth_notes = (reduced,) if self.depth < depth else ()
        kept_profile, self._left_profile, self._color_notes = _profile_to_store(profile, target, num_colors)
        self._attached, self._metadata_notes = _attachments(kept_profile, metadata, target, size)
        self._resolution = {name: float(metadata.get(name, _SCREEN_RESOLUTION)) for name in ("xres", "yres")}
        self.texts = self._attached.pop("png-text", b"")
        if target is PNG and "xmp-data" in self._attached:
            self.texts += xmp_chunk(self._attached.pop("xmp-data"))

    def levels(self, pixels: Tensor, alpha: Tensor | None) -> tuple[Levels, bool]:
        """Return rows as they are stored, (rows, W, channels), and whether all of their pixels are opaque.

        Args:
            pixels: (1 or 3, rows, W) on the host; each pixel is converted on its own.
            alpha: (1, rows, W) or None.

        Raises:
            ImageWriteError: A value is NaN or infinite.
        """
        if self._left_profile is not None:
            pixels = to_srgb(pixels, self._left_profile)
        if alpha is None:
            return to_levels([*pixels], self.depth), True
        is_opaque = bool((alpha >= 1).all())
        if self.target.has_alpha:
            return to_levels([*pixels, *alpha], self.depth), is_opaque
        if not is_opaque:
            pixels = torch.lerp(torch.ones_like(pixels), pixels.clamp(0, 1), alpha.clamp(0, 1).to(pixels.dtype))
        return to_levels([*pixels], self.depth), is_opaque

    def notes(self, *, is_opaque: bool) -> Notes:
        """Return what is given up, for an image of which all pixels are opaque, or not."""
        flattened = f"{self.target.name} holds no transparency: flattened on white"
        alpha_notes = () if is_opaque or self.target.has_alpha else (flattened,)
        return (*self._depth_notes, *alpha_notes, *self._color_notes, *self._metadata_notes)

    @property
    def sample_format(self) -> str:
        """libvips' name of the type of a sample."""
        return "uchar" if self.depth == 8 else "ushort"

    def dressed(self, picture: pyvips.Image) -> pyvips.Image:
        """Return an image of libvips with the meaning of its samples, its resolution, profile and metadata."""
        picture = picture.copy(interpretation=_INTERPRETATIONS[self._num_colors, self.depth], **self._resolution)
        for name, value in self._attached.items():
            picture.set_type(pyvips.GValue.blob_type, name, value)
        return picture

    def options(self, quality: int | None) -> dict[str, Any]:
        """Return the options of libvips' encoder."""
        target, options = self.target, dict(self.target.options)
        if target.quality is not None:
            options["Q"] = quality or target.quality
        if target is WEBP:
            options["lossless"] = options["Q"] == 100
        elif target is TIFF:
            num_bytes = math.prod(self.size) * self.num_channels * self.depth // 8
            options["bigtiff"] = num_bytes > _MAX_CLASSIC_TIFF
        return options


def _profile_to_store(
    profile: bytes | None, target: OutputFormat, num_colors: int
) -> tuple[bytes | None, bytes | None, Notes]:
    """Return the profile to store, the one whose colours are converted to sRGB instead, and notes."""
    if profile is None:
        return None, None, ()
    reason = profile_mismatch(profile, num_colors)
    if reason is not None:
        return None, None, (f"the colour profile {reason}: dropped",)
    if not target.has_profile:
        missing = f"{target.name} holds no colour profile"
    elif num_colors == 1 and not target.has_gray:
        missing = f"{target.name} holds no gray colour profile"
    else:
        return profile, None, ()
    try:
        to_srgb(torch.zeros(num_colors, 1, 1), profile)
    except ValueError:
        return None, None, ("the colour profile is damaged: dropped",)
    return None, profile, (f"{missing}: converted to sRGB",)


def _attachments(
    profile: bytes | None, metadata: Mapping[str, bytes], target: OutputFormat, size: tuple[int, int]
) -> tuple[dict[str, bytes], Notes]:
    """Return profile and metadata, by libvips' field names, as far as the format holds them."""
    attached: dict[str, bytes] = {}
    notes: list[str] = []
    if profile is not None:
        attached["icc-profile-data"] = profile
    for name in filter(metadata.__contains__, METADATA_NAMES):
        value = metadata[name]
        if name in _RESIZED:
            value = _resized(name, value, size)
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


@contextmanager
def _refusals(path: Place) -> Iterator[None]:
    """Turn errors of the encoder and of the system into refusals that name the file."""
    try:
        yield
    except OSError as error:
        reason = _reason_of_system(path, error)
    except pyvips.Error as error:
        if ran_out_of_memory(error):
            raise MemoryError from None
        reason = f"cannot be encoded{bracketed_message(error)}"
    except ImageWriteError as error:
        reason = str(error)
    else:
        return
    raise ImageWriteError(f"{printable_name(path)}: {reason}")


def _reason_of_system(path: Place, error: OSError) -> str:
    if error.errno == errno.ENAMETOOLONG:
        num_bytes = len(os.fsencode(path.name))
        return f"the file name has {num_bytes} bytes, more than the system allows; choose a shorter one"
    if isinstance(error, FileNotFoundError):
        return f"the folder {printable_name(path.parent)} does not exist"
    return f"cannot be written ({error.strerror})"
