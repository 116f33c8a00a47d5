"""HEIC files -> arrays of levels, by the optional package pillow-heif, since our libvips decodes no HEVC."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from finescale.errors import ImageReadError
from finescale.images.image import Levels, Notes

_MISSING = (
    "HEIC files are read by an optional package: run pip install 'finescale[heic]', or convert the file to PNG first"
)
_EXIF_START = b"Exif\0\0"


class HeicFile:
    """The primary picture of a HEIC file, decoded on demand; libheif turns it upright.

    Raises:
        ImageReadError: The file is damaged, or the package is missing.
    """

    def __init__(self, data: bytes) -> None:
        try:
            import pillow_heif
        except ImportError:
            raise ImageReadError(_MISSING) from None
        with _errors_named():
            file = pillow_heif.open_heif(data, convert_hdr_to_8bit=False, hdr_to_16bit=False)
            if not len(file):
                raise ImageReadError("the HEIC file holds no picture")
            self._picture: Any = file[file.primary_index]
            self._num_pictures = len(file)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), upright."""
        width, height = self._picture.size
        return height, width

    @property
    def profile(self) -> bytes | None:
        """ICC profile, not yet checked."""
        profile: bytes | None = self._picture.info.get("icc_profile")
        return profile

    @property
    def cicp(self) -> tuple[int, int] | None:
        """Numbers of the primaries and of the transfer function (ITU-T H.273), where the file has no ICC profile."""
        nclx = self._picture.info.get("nclx_profile")
        return (nclx["color_primaries"], nclx["transfer_characteristics"]) if nclx else None

    @property
    def notes(self) -> Notes:
        """What is in the file besides the picture."""
        info = self._picture.info
        others = self._num_pictures - 1
        parts = [f"{others} further picture{'s are' if others > 1 else ' is'} not upscaled"] if others else []
        parts += ["the depth map is dropped"] if info["depth_images"] else []
        for name in info.get("aux", ()):  # a URN such as urn:com:apple:photo:2020:aux:hdrgainmap
            kind = name.rpartition(":")[2]
            parts.append(f"the {'gain map' if 'gainmap' in kind else f'auxiliary picture {kind!r}'} is dropped")
        return tuple(parts)

    def decode(self) -> Levels:
        """Return (H, W, C): gray or RGB and perhaps alpha, of 8 bits, or 10 or 12 spread over 16.

        Raises:
            ImageReadError: The picture is truncated or damaged.
        """
        with _errors_named():
            levels: Levels = np.atleast_3d(np.array(self._picture))
        mode, _, bits = self._picture.mode.partition(";")
        if bits:
            table = np.arange(2 ** int(bits)) * 65535 / (2 ** int(bits) - 1) + 0.5
            levels = table.astype(np.uint16)[levels]
        return _separate(levels) if mode.endswith("a") else levels

    @property
    def metadata(self) -> dict[str, bytes]:
        """EXIF and XMP data, whose orientation is that of the camera: the pixels are upright already."""
        info = self._picture.info
        metadata: dict[str, bytes] = {}
        if info.get("exif"):
            metadata["exif-data"] = _EXIF_START + info["exif"].removeprefix(_EXIF_START)
        if info.get("xmp"):
            metadata["xmp-data"] = info["xmp"].rstrip(b"\0")
        return metadata


@contextmanager
def _errors_named() -> Iterator[None]:
    """Turn what pillow-heif raises about a file into `ImageReadError`."""
    try:
        yield
    except (ValueError, EOFError, SyntaxError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ImageReadError(f"truncated or damaged ({reason})") from None


def _separate(levels: Levels) -> Levels:
    """Return colours that do not contain alpha, from such that were multiplied by it."""
    colours, alpha = levels[:, :, :-1].astype(np.float64), levels[:, :, -1:]
    peak = np.iinfo(levels.dtype).max
    separate = np.minimum(colours * peak / np.maximum(alpha, 1) + 0.5, peak)
    return np.dstack([separate.astype(levels.dtype), alpha])
