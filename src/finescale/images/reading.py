"""Reading of image files.

The first bytes of a file decide its format, never its name. Python opens the files and hands over their bytes, so that
libvips never parses a name (it would take ``[`` for the start of options). Size and sample format are checked in the
header, before anything is decoded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyvips
import torch
from torch import Tensor

from finescale.errors import ImageReadError, printable_name
from finescale.images import bmp
from finescale.images.bmp_header import read_header as read_bmp_header
from finescale.images.companions import companion_notes
from finescale.images.formats import MAX_PIXELS, SIGNATURE_LENGTH, identify_format
from finescale.images.gif import check_first_frame
from finescale.images.heic import HeicFile
from finescale.images.heif import Heif, inspect_heif
from finescale.images.icc import build_profile, is_srgb, profile_of_cicp
from finescale.images.image import Image, Levels, Notes
from finescale.images.jpeg import JpegEnd, check_kind, inspect_end, jpeg_quality
from finescale.images.metadata import profile_mismatch, upright_exif
from finescale.images.png import Png, inspect_png
from finescale.images.stored import AnyLevels, row_blocks, store_levels
from finescale.images.tiff import Buffer, Tiff, inspect_tiff, is_missing_codec
from finescale.images.vips import bracketed_message, check_process, forget_errors, messages, ran_out_of_memory
from finescale.images.xmp import has_extended_xmp, upright_xmp, xmp_orientation
from finescale.system.search import kind_of_entry

# Warnings of the JPEG decoder about files of phones and cameras whose pixels are intact.
_HARMLESS = re.compile(r"\d+ extraneous bytes before marker|Invalid SOS parameters for sequential JPEG")

_AS_STORED = ("b-w", "srgb", "rgb", "grey16", "rgb16", "scrgb", "multiband")  # interpretations that need no conversion
_TRANSPOSED = (5, 6, 7, 8)  # values of the EXIF orientation for which rows are stored as columns
_OVERSHOOT = 1 / 255  # of floating-point values, as filters leave it behind: clipped with a note, not refused
_UNKNOWN_RESOLUTION = 1.0  # libvips' pixels per millimetre where a file states none

_BLOCK_BYTES = 2**24  # of a file that is copied


class OpenFile:
    """Bytes of an open file, of which no more is in memory than a slice that is asked for."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.file = path, file

    def __len__(self) -> int:
        return os.fstat(self.file.fileno()).st_size

    def __getitem__(self, place: slice) -> bytes:
        start, stop, _ = place.indices(len(self))
        self.file.seek(start)
        return self.file.read(max(0, stop - start))


@dataclass(frozen=True, eq=False)
class Samples:
    """A decoded image in the numbers of its file, which becomes tensors as a whole or a few rows at a time."""

    levels: AnyLevels
    """(H, W, C), upright: gray or RGB and perhaps alpha; in memory or on disk."""
    convert: Callable[[Levels], Tensor]
    """Converts rows of ``levels`` to (C, rows, W), float32 in [0, 1], each value on its own."""
    profile: bytes | None = None
    metadata: dict[str, bytes] = field(default_factory=dict)
    jpeg_quality: int | None = None
    notes: Notes = ()
    """These four are as in `Image`."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.levels.shape[0], self.levels.shape[1]

    @property
    def has_alpha(self) -> bool:
        """Whether the last channel is transparency."""
        return self.levels.shape[2] in (2, 4)

    @property
    def num_channels(self) -> int:
        """Number of colours: 1 (gray) or 3 (RGB)."""
        return _num_colors(self.levels)

    @property
    def depth(self) -> int:
        """Bits per channel, 8 or 16."""
        return 8 if self.levels.dtype == np.uint8 else 16

    def rows(self, first: int, last: int) -> tuple[Tensor, Tensor | None]:
        """Return pixels (1 or 3, rows, W), and alpha (1, rows, W) if there is one, of rows first to last - 1."""
        return _split_alpha(self.convert(self.levels[first:last]))

    def image(self) -> Image:
        """Return the whole image."""
        pixels, alpha = self.rows(0, self.size[0])
        return Image(pixels, alpha, self.depth, self.profile, self.metadata, self.jpeg_quality, self.notes)


def read_image(path: Path | str, *, max_pixels: int = MAX_PIXELS) -> Image:
    """Read a PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF or HEIC file, whatever its name.

    Gray stays gray and 16 bits stay 16; palettes and single bits are expanded; CMYK and Lab are converted to sRGB;
    values of floating-point TIFFs are taken as they are, in [0, 1]. The orientation of EXIF is applied, and that of XMP
    where it is the only one. Colours that are stated by numbers (CICP) or chromaticities get an ICC profile. Only the
    first frame or full-size page is read. HEIC files need the extra ``heic``.

    Args:
        path: The file, under any name that the system allows.
        max_pixels: Limit on width times height; a larger image is not decoded.

    Returns:
        The image; its ``notes`` list what was dropped or converted.

    Raises:
        ImageReadError: The file does not exist, or is not an image, empty, truncated, damaged, or too large.
    """
    path = Path(path)
    with _name_in_errors(path):
        data = _read_bytes(path)
    return decode_image(data, name=str(path), max_pixels=max_pixels)


def read_samples(path: Path | str, *, folder: Path, max_pixels: int) -> Samples:
    """Decode a file as `read_image` does, onto the disk; of PNG and TIFF files only a few rows are in memory.

    Decoders of interlaced PNG and of all other formats hold the file, most of them also its pixels, for a while.

    Args:
        path: The file.
        folder: Where the decoded pixels are stored; the caller deletes it.
        max_pixels: Limit on width times height; a larger image is not decoded.

    Raises:
        ImageReadError: As `read_image` raises it; the disk of ``folder`` is full.
    """
    path = Path(path)
    with _name_in_errors(path), _open_file(path) as file:
        is_long = _format_of(file) in ("PNG", "TIFF")
        contents = OpenFile(path, file) if is_long else file.read()
        return _decode(contents, max_pixels, folder=folder)


def read_size(path: Path | str) -> tuple[int, int]:
    """Return height and width of an image, upright, from the start of its file; nothing is decoded.

    Raises:
        ImageReadError: The file does not exist, or its start is not that of an image.
    """
    path = Path(path)
    with _name_in_errors(path), _open_file(path) as file:
        format_name = identify_format(file.read(SIGNATURE_LENGTH))
        file.seek(0)
        if format_name == "BMP":
            return read_bmp_header(file.read()).size
        if format_name == "HEIC":
            return HeicFile(file.read()).size
        header = _open_header(file.fileno(), format_name)
        is_transposed = _field(header, "orientation", 1) in _TRANSPOSED
        return (header.width, header.height) if is_transposed else (header.height, header.width)


def _open_header(descriptor: int, format_name: str) -> pyvips.Image:
    """Open the header of an image in an open file, of which no more is read than the header takes."""
    source = pyvips.Source.new_from_descriptor(descriptor)
    if format_name != "TIFF":
        return _open(source, format_name)
    with mmap(descriptor, 0, access=ACCESS_READ) as mapped:
        tiff = inspect_tiff(mapped)
    return _open(source if tiff.declared_rgb is None else tiff.declared_rgb, format_name, tiff=tiff)


def decode_image(data: bytes, *, name: str, max_pixels: int = MAX_PIXELS) -> Image:
    """Read an image from the bytes of its file, as `read_image` does.

    Args:
        data: The whole file.
        name: Name of the image in errors.
        max_pixels: Limit on width times height; a larger image is not decoded.

    Raises:
        ImageReadError: The bytes are not an image, empty, truncated, damaged, or too large.
    """
    with _name_in_errors(name):
        return _decode(data, max_pixels).image()


@contextmanager
def _name_in_errors(name: Path | str) -> Iterator[None]:
    """Turn an error of reading into an `ImageReadError` that begins with the name of the file."""
    try:
        yield
        return
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
    except pyvips.Error as error:
        if ran_out_of_memory(error):
            raise MemoryError from None
        reason = f"truncated or damaged{bracketed_message(error)}"
    except ImageReadError as error:
        reason = str(error)
    raise ImageReadError(f"{printable_name(name)}: {reason}") from None


def _open_file(path: Path) -> BinaryIO:
    """Open a file; a pipe or a device, which may give bytes for ever or none, is refused."""
    kind = kind_of_entry(path)
    if kind is not None:
        raise ImageReadError(f"is {kind}, not a file")
    return path.open("rb")


def _read_bytes(path: Path) -> bytes:
    """Return the whole file, which is read only if its first bytes are those of an image."""
    with _open_file(path) as file:
        _format_of(file)
        return file.read()


def _format_of(file: BinaryIO) -> str:
    """Return the format of an open file, which is at its start afterwards."""
    start = file.read(SIGNATURE_LENGTH)
    if not start:
        raise ImageReadError("the file is empty")
    file.seek(0)
    return identify_format(start)


def _decode(data: bytes | OpenFile, max_pixels: int, *, folder: Path | None = None) -> Samples:
    """Decode an image.

    Args:
        data: The whole file, or one that is open.
        max_pixels: Limit on width times height.
        folder: Where the decoded pixels are stored; None keeps them in memory.
    """
    format_name = identify_format(data[:SIGNATURE_LENGTH])
    if isinstance(data, bytes) and format_name == "BMP":
        return _decode_bmp(data, max_pixels, folder)
    if isinstance(data, bytes) and format_name == "HEIC":
        return _decode_heic(data, max_pixels)
    source = data if isinstance(data, bytes) else data.path
    png = inspect_png(data) if format_name == "PNG" else None
    if png is not None:
        _check_size(png.size, max_pixels)
        if not png.is_whole:
            raise ImageReadError("truncated PNG: its end is missing")
        source = png.picture(data) if isinstance(data, bytes) else _without_texts(data, png, folder)
    tiff = None
    if format_name == "TIFF":
        with _mapped(data) as mapped:
            tiff = inspect_tiff(mapped)
        _check_size(tiff.size, max_pixels)
        source = tiff.declared_rgb or source
    heif = inspect_heif(data) if format_name == "AVIF" and isinstance(data, bytes) else None
    if heif is not None:
        _check_size(heif.size, max_pixels)
    companions: Notes = ()
    jpeg_end = quality = None
    if format_name == "JPEG" and isinstance(data, bytes):
        companions = companion_notes(data)
        check_kind(data)
        jpeg_end = inspect_end(data)
        source = jpeg_end.data if jpeg_end else data
        quality = jpeg_quality(source)
    header = _open(source, format_name, tiff=tiff)
    _check_size((header.height, header.width), max_pixels)
    _check_samples(header)
    if format_name == "GIF" and isinstance(data, bytes):
        check_first_frame(data)
    levels, level_notes = _read_levels(header, source, format_name, tiff=tiff, jpeg_end=jpeg_end, folder=folder)
    convert, value_notes = _conversion(levels, tiff)
    metadata, metadata_notes = _read_metadata(header, png)
    profile, profile_notes = _read_profile(header, _num_colors(levels), png=png, heif=heif, tiff=tiff)
    return Samples(
        levels,
        convert,
        profile=profile,
        metadata=metadata,
        jpeg_quality=quality,
        notes=(
            *_parts_left_out(header, png, heif, tiff),
            *companions,
            *level_notes,
            *value_notes,
            *metadata_notes,
            *profile_notes,
        ),
    )


@contextmanager
def _mapped(data: bytes | OpenFile) -> Iterator[Buffer]:
    if isinstance(data, bytes):
        yield data
    else:
        with mmap(data.file.fileno(), 0, access=ACCESS_READ) as mapped:
            yield mapped


def _without_texts(data: OpenFile, png: Png, folder: Path | None) -> Path:
    """Return a PNG file without its texts, stored in a folder; the file itself where it has none."""
    if len(png.kept) == 1:
        return data.path
    assert folder is not None
    path = folder / "without_texts.png"
    with path.open("wb") as copy:
        for start, end in png.kept:
            for at in range(start, end, _BLOCK_BYTES):
                copy.write(data[at : min(at + _BLOCK_BYTES, end)])
    return path


def _decode_bmp(data: bytes, max_pixels: int, folder: Path | None) -> Samples:
    header = read_bmp_header(data)
    _check_size(header.size, max_pixels)
    embedded = bmp.embedded_picture(data, header)
    if embedded is not None:
        if identify_format(embedded) != header.coding.name:
            raise ImageReadError(f"damaged BMP: it states {header.coding.value} file and holds another format")
        samples = _decode(embedded, max_pixels, folder=folder)
        if samples.size != header.size:
            sizes = (f"{width} x {height}" for height, width in (header.size, samples.size))
            raise ImageReadError("damaged BMP: its header states {} pixels, its picture has {}".format(*sizes))
        if samples.profile is None and header.profile is not None:
            profile, profile_notes = _checked_profile(header.profile, _num_colors(samples.levels))
            samples = replace(samples, profile=profile, notes=(*samples.notes, *profile_notes))
        return replace(samples, notes=(*header.notes, *samples.notes))
    levels, notes = bmp.decode(data, header)
    convert, _ = _conversion(levels)
    profile, profile_notes = _checked_profile(header.profile, _num_colors(levels))
    return Samples(levels, convert, profile=profile, notes=(*notes, *profile_notes))


def _decode_heic(data: bytes, max_pixels: int) -> Samples:
    file = HeicFile(data)
    _check_size(file.size, max_pixels)
    levels = file.decode()
    convert, _ = _conversion(levels)
    metadata, notes = _upright(file.metadata)
    num_colors = _num_colors(levels)
    profile, profile_notes = _checked_profile(file.profile, num_colors)
    if profile is None and file.cicp is not None:
        profile = profile_of_cicp(*file.cicp, is_full_range=True, is_gray=num_colors == 1)  # libheif made it full
    return Samples(levels, convert, profile, metadata, notes=(*file.notes, *notes, *profile_notes))


def _open(
    source: bytes | Path | pyvips.Source, format_name: str, *, tiff: Tiff | None = None, fail_on: str = "warning"
) -> pyvips.Image:
    """Open the header of an image, whose pixels libvips decodes on demand, once and from top to bottom.

    Its field ``orientation`` is the one to apply: of the file, or of its XMP data where the file itself states none.
    """
    check_process()
    loader = f"{'heif' if format_name == 'AVIF' else format_name.lower()}load_source"
    if not pyvips.type_find("VipsOperation", loader):
        raise ImageReadError(f"this libvips was built without {format_name}; convert the file to PNG first")
    forget_errors()
    if isinstance(source, bytes):
        source = pyvips.Source.new_from_memory(source)
    elif isinstance(source, Path):
        source = pyvips.Source.new_from_file(os.fsencode(source))
    place = {} if tiff is None else {"page": tiff.page, "subifd": tiff.subifd}
    if tiff is not None and tiff.is_sample_undeclared:
        fail_on = "error"  # the warning would be the missing tag
    image: pyvips.Image = pyvips.Operation.call(loader, source, access="sequential", fail_on=fail_on, **place)
    # An AVIF file without a rotation is upright: its format leaves the orientation of metadata without effect.
    is_stated = tiff.states_orientation if tiff is not None else "orientation" in image.get_fields()
    xmp = _field(image, "xmp-data", None)
    if xmp is not None and not is_stated and format_name != "AVIF":
        image = image.copy()
        image.set_type(pyvips.GValue.gint_type, "orientation", _orientation_of_xmp(xmp))
    return image


def _orientation_of_xmp(xmp: bytes) -> int:
    try:
        return xmp_orientation(xmp)
    except ValueError:
        return 1  # damaged, as the notes on metadata report


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    height, width = size
    if height * width > max_pixels:
        raise ImageReadError(
            f"{width} x {height} pixels ({height * width / 1e6:.1f} megapixels) exceed the limit of "
            f"{max_pixels / 1e6:g} megapixels; raise it with --max-pixels if you trust the file"
        )


def _check_samples(header: pyvips.Image) -> None:
    is_lab = header.interpretation == "labs"  # 16 bits, of which libvips takes L for a signed number as well
    if header.format not in ("uchar", "ushort", "float", "double") and not is_lab:
        raise ImageReadError(f"{header.format} samples are not supported; save it with 8 or 16 bits per channel")
    if header.bands > (5 if header.interpretation == "cmyk" else 4):
        raise ImageReadError(
            f"{header.bands} channels per pixel are not supported; save it as gray, RGB or CMYK, with or without alpha"
        )


def _parts_left_out(header: pyvips.Image, png: Png | None, heif: Heif | None, tiff: Tiff | None) -> Notes:
    """Return notes about the parts of a file that are not read."""
    notes = ["compressed texts are dropped unread"] if png and png.has_compressed_texts else []
    num_further = (png.num_frames if png else _field(header, "n-pages", 1)) - 1
    if tiff is not None:
        num_further = tiff.num_further
        if tiff.num_masks:
            notes.append("a transparency mask is dropped")
        if tiff.has_unknown_sample:
            notes.append("a sample per pixel that is not marked as transparency is dropped")
    if num_further > 0:
        notes.append(f"{num_further} further frame{'s are' if num_further > 1 else ' is'} not upscaled")
    if heif is not None:
        notes += [f"the {part} is dropped" for part in heif.parts]
    return tuple(notes)


def _read_levels(
    header: pyvips.Image,
    source: bytes | Path,
    format_name: str,
    *,
    tiff: Tiff | None,
    jpeg_end: JpegEnd | None,
    folder: Path | None,
) -> tuple[AnyLevels, Notes]:
    """Decode to (H, W, C), gray or RGB and perhaps alpha, in the numbers of the file, despite harmless defects.

    A JPEG file may be decoded twice, since libvips does not report on its last rows otherwise. Behind an end marker of
    ours, no defect is harmless: coded data that are missing show as one.
    """
    is_end_ours = jpeg_end is not None and jpeg_end.was_missing
    notes = ["its end marker is missing; its pixels are all there"] if is_end_ours else []
    if not _is_as_stored(header, tiff):
        space = {"cmyk": "CMYK", "labs": "lab", "srgb": "lab"}.get(header.interpretation, header.interpretation)
        notes.append(f"converted from {space} to sRGB")
    try:
        if jpeg_end:
            _open(jpeg_end.probe, format_name).crop(0, 0, header.width, jpeg_end.probe_rows).avg()
        levels = _render(header, tiff, folder)
    except pyvips.Error as error:
        if tiff is not None and any(map(is_missing_codec, messages(error))):
            raise ImageReadError(
                f"TIFF with {tiff.compression} compression is not supported; save it with LZW or deflate"
            ) from None
        if is_end_ours or not messages(error) or not all(_HARMLESS.search(message) for message in messages(error)):
            raise
        notes.append(f"the decoder reports a defect{bracketed_message(error)}; check the result")
        levels = _render(_open(source, format_name, tiff=tiff, fail_on="error"), tiff, folder)
    return levels, tuple(notes)


def _is_as_stored(header: pyvips.Image, tiff: Tiff | None) -> bool:
    """Return whether the samples are gray or RGB in the file."""
    return header.interpretation in _AS_STORED and (tiff is None or tiff.lab_bits is None)


def _render(image: pyvips.Image, tiff: Tiff | None, folder: Path | None) -> AnyLevels:
    """Convert to gray or RGB where necessary, rotate upright, and decode into memory or into a folder."""
    if tiff is not None and tiff.lab_bits is not None:
        image = _from_lab(image, tiff.lab_bits)
    elif image.interpretation == "cmyk":
        depth = 16 if image.format == "ushort" else 8
        image = image.icc_transform(
            "srgb", embedded=True, input_profile="cmyk", black_point_compensation=True, depth=depth
        )
    elif image.interpretation not in _AS_STORED:
        image = image.colourspace("rgb16" if image.interpretation == "labs" else "srgb")
    if tiff is not None and tiff.has_unknown_sample:
        image = image.extract_band(0, n=image.bands - 1)
    orientation = _field(image, "orientation", 1)
    if folder is not None:
        return store_levels(image, folder, orientation=orientation)
    if orientation != 1:
        image = image.copy_memory().autorot()  # rotation needs random access to the rows
    return np.atleast_3d(image.numpy())


def _from_lab(image: pyvips.Image, bits: int) -> pyvips.Image:
    """Convert unsigned CIELAB, of 8 bits as they are stored or of 16 as libvips opens them, to sRGB.

    As Photoshop and ICC profiles have it, white is D50. libvips' own L*a*b*, whose white is D65, it writes as floats or
    as signed numbers.
    """
    if bits == 8:
        signed = image.extract_band(1, n=2).copy(format="char")  # the same bits
        image = (image.extract_band(0) * (100 / 255)).bandjoin(signed.cast("float")).copy(interpretation="lab")
    else:
        image = image.LabS2Lab()
    return image.icc_export(output_profile="srgb", depth=bits, intent="relative")


def _conversion(levels: AnyLevels, tiff: Tiff | None = None) -> tuple[Callable[[Levels], Tensor], Notes]:
    """Return the conversion of rows (rows, W, C) in the numbers of the file to (C, rows, W) in [0, 1], and notes.

    It depends on the values of all rows where they are floating-point, or may not fill their range.
    """
    if levels.dtype.kind == "u":
        return (_shares, ()) if tiff is None or tiff.peak is None else _filling_range(levels, tiff)
    low, high = np.inf, -np.inf
    for block in row_blocks(levels):
        values = block.astype(np.float32)
        if not np.isfinite(values).all():
            raise ImageReadError("some of its values are NaN or infinite")
        low, high = min(low, float(values.min())), max(high, float(values.max()))
    if low < -_OVERSHOOT or high > 1 + _OVERSHOOT:
        raise ImageReadError(f"its values go from {low:.6g} to {high:.6g}, outside 0 to 1; scale them to 0 to 1 first")
    return _clipped, ("values outside [0, 1] are clipped",) if low < 0 or high > 1 else ()


def _planes(levels: Levels) -> Tensor:
    return torch.from_numpy(levels).permute(2, 0, 1).to(torch.float32, memory_format=torch.contiguous_format)


def _shares(levels: Levels) -> Tensor:
    return _planes(levels).div_(np.iinfo(levels.dtype).max)


def _clipped(levels: Levels) -> Tensor:
    return _planes(levels).clamp_(0, 1)


def _filling_range(levels: AnyLevels, tiff: Tiff) -> tuple[Callable[[Levels], Tensor], Notes]:
    """Scale values of 16 bits, as a share of 65535, by the largest value that the file states."""
    assert tiff.peak is not None
    filled = partial(_filled, factor=65535 / tiff.peak, white_is_zero=tiff.white_is_zero)
    for block in row_blocks(levels):
        if filled(block, is_checked=True).max() > 1 + 1e-4:
            return _shares, ()  # not the range after all
    return filled, (f"values are scaled from 0 to {tiff.peak}",)


def _filled(levels: Levels, *, factor: float, white_is_zero: bool, is_checked: bool = False) -> Tensor:
    planes = _shares(levels)
    scaled = (1 - planes if white_is_zero else planes) * factor
    if is_checked:
        return scaled
    scaled = scaled.clamp_(0, 1)
    return 1 - scaled if white_is_zero else scaled


def _num_colors(levels: AnyLevels) -> int:
    return 1 if levels.shape[2] <= 2 else 3


def _split_alpha(planes: Tensor) -> tuple[Tensor, Tensor | None]:
    """Split (C, H, W) into pixels (1 or 3, H, W) and alpha (1, H, W), the last of two or four channels."""
    return (planes[:-1], planes[-1:]) if len(planes) in (2, 4) else (planes, None)


def _read_metadata(header: pyvips.Image, png: Png | None) -> tuple[dict[str, bytes], Notes]:
    """Return `Image.metadata`, upright as the pixels are."""
    names = ("exif-data", "xmp-data", "iptc-data")
    metadata, notes = _upright({name: header.get(name) for name in names if name in header.get_fields()})
    for name in ("xres", "yres"):
        if header.get(name) != _UNKNOWN_RESOLUTION:
            metadata[name] = repr(header.get(name)).encode()
    if png and png.texts:
        metadata["png-text"] = png.texts
    return metadata, notes


def _upright(metadata: dict[str, bytes]) -> tuple[dict[str, bytes], Notes]:
    """Return EXIF and XMP data of a file for pixels that are upright, without what is damaged."""
    metadata = dict(metadata)
    notes: Notes = ()
    if "exif-data" in metadata:
        exif = upright_exif(metadata.pop("exif-data"))
        if exif is None:
            notes = ("the EXIF data are damaged: dropped",)
        else:
            metadata["exif-data"] = exif
    if "xmp-data" in metadata:
        xmp = metadata.pop("xmp-data")
        if has_extended_xmp(xmp):
            notes = (*notes, "the extended XMP data are dropped")
        try:
            metadata["xmp-data"] = upright_xmp(xmp)
        except ValueError:
            notes = (*notes, "the XMP data are damaged: dropped")
    return metadata, notes


def _read_profile(
    header: pyvips.Image, num_channels: int, *, png: Png | None, heif: Heif | None, tiff: Tiff | None
) -> tuple[bytes | None, Notes]:
    """Return the ICC profile, if the pixels are still in its colour space and it fits them, or one of stated colours.

    Args:
        header: The image as it was opened.
        num_channels: 1 (gray) or 3 (RGB).
        png: A PNG file has a profile even if libvips does not show one (libpng hides damaged ones), and other chunks.
        heif: States colours by numbers where there is no profile.
        tiff: Says whether the pixels were CIELAB.
    """
    if not _is_as_stored(header, tiff):
        return None, ()  # the pixels have been converted to sRGB
    is_gray = num_channels == 1
    if png is not None and png.cicp is not None and png.cicp[2] == 0:  # goes before a profile; others are invalid
        primaries, transfer, _, is_full_range = png.cicp
        return profile_of_cicp(primaries, transfer, is_full_range=is_full_range == 1, is_gray=is_gray), ()
    profile: bytes | None = _field(header, "icc-profile-data", None)
    if profile is None and not (png and png.has_profile):
        if heif is not None and heif.cicp is not None:
            return profile_of_cicp(*heif.cicp, is_gray=is_gray), ()
        return _profile_of_chromaticities(png) if png is not None and not is_gray else (None, ())
    return _checked_profile(profile or b"", num_channels)


def _checked_profile(profile: bytes | None, num_channels: int) -> tuple[bytes | None, Notes]:
    """Return an ICC profile, if there is one and it is intact and fits gray (1) or RGB (3) pixels."""
    mismatch = None if profile is None else profile_mismatch(profile, num_channels)
    return (None, (f"the colour profile {mismatch}: dropped",)) if mismatch else (profile, ())


def _profile_of_chromaticities(png: Png) -> tuple[bytes | None, Notes]:
    """Return a profile of the primaries of a PNG file; a gamma alone, or beside those of sRGB, is left without effect.

    Nearly all viewers leave it so: files with a wrong gamma are common.
    """
    if png.chromaticities is None or png.is_srgb:
        return None, ()
    white_x, white_y, *others = (value / 100_000 for value in png.chromaticities)
    red_x, red_y, green_x, green_y, blue_x, blue_y = others
    primaries = (white_x, white_y, red_x, red_y, green_x, green_y, blue_x, blue_y)
    if is_srgb(primaries):
        return None, ()
    gamma = 100_000 / png.gamma if png.gamma else None
    try:
        return build_profile(primaries, gamma, name="PNG chromaticities", is_gray=False), ()
    except ValueError:
        return None, ("the stated primaries are impossible: dropped",)


def _field(image: pyvips.Image, name: str, default: Any) -> Any:
    return image.get(name) if name in image.get_fields() else default
