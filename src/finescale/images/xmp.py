"""XMP data: the orientation and the sizes that they state, and the parts of a file that they name.

Values are changed where they stand and what names a lost part is cut out; every other byte stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from xml.parsers import expat

_TIFF, _EXIF = "http://ns.adobe.com/tiff/1.0/", "http://ns.adobe.com/exif/1.0/"
_PANORAMA = "http://ns.google.com/photos/1.0/panorama/"
_CAMERA = "http://ns.google.com/photos/1.0/camera/"
_EXTENDED = ("http://ns.adobe.com/xmp/note/", "HasExtendedXMP")
_THUMBNAILS = ("http://ns.adobe.com/xap/1.0/", "Thumbnails")

_NAMESPACES_OF_PARTS = (
    "http://ns.adobe.com/hdr-gain-map/",
    "http://ns.apple.com/HDRGainMap/",
    "http://ns.google.com/photos/1.0/container/",
    "http://ns.google.com/photos/1.0/depthmap/",
    "http://ns.google.com/photos/1.0/image/",
    "http://ns.google.com/photos/1.0/audio/",
    "http://ns.google.com/photos/dd/",
)
"""Starts of the namespaces that describe second pictures and what else is stored behind the picture."""

_USUAL_PREFIXES = {"tiff": _TIFF, "exif": _EXIF, "GPano": _PANORAMA, "GCamera": _CAMERA}
_ATTRIBUTE = re.compile(rb"\s+([^\s=/>\"']+)\s*=\s*(\"[^\"]*\"|'[^']*')")


@dataclass(frozen=True)
class _Property:
    """An attribute or element, with the places of its value and of the whole in the data."""

    namespace: str
    name: str
    """Empty for the declaration of a prefix for the namespace."""
    start: int
    value_start: int
    value_end: int
    end: int

    @property
    def key(self) -> tuple[str, str]:
        return self.namespace, self.name

    @property
    def names_a_part(self) -> bool:
        """Whether it describes a part of the file that is not kept."""
        return (
            self.namespace.startswith(_NAMESPACES_OF_PARTS)
            or (self.namespace == _CAMERA and self.name.startswith(("MotionPhoto", "MicroVideo")))
            or self.key in (_EXTENDED, _THUMBNAILS)
        )


def xmp_orientation(xmp: bytes) -> int:
    """Return the orientation that XMP data state, 1 (upright) to 8; 1 where they state none.

    Raises:
        ValueError: The data are not XML.
    """
    values = [_number(xmp, found) for found in _properties(xmp) if found.key == (_TIFF, "Orientation")]
    return next((value for value in values if value is not None and 1 <= value <= 8), 1)


def has_extended_xmp(xmp: bytes) -> bool:
    """Return whether XMP data name further XMP data elsewhere in the file."""
    return b"HasExtendedXMP" in xmp


def upright_xmp(xmp: bytes) -> bytes:
    """Return XMP data with the orientation, if there is one, set to upright, and without what names other parts.

    These are gain maps, depth maps, further pictures, motion video and thumbnails: no result holds them.

    Raises:
        ValueError: The data are not XML.
    """
    return _changed(
        xmp,
        (
            (found, None if found.names_a_part else 1)
            for found in _properties(xmp)
            if found.names_a_part or found.key == (_TIFF, "Orientation")
        ),
    )


def resized_xmp(xmp: bytes, size: tuple[int, int]) -> bytes:
    """Return XMP data of an image of another size, with the sizes and places in pixels that they state.

    Args:
        xmp: XMP data.
        size: (height, width) of the image.

    Raises:
        ValueError: The data are not XML.
    """
    properties = list(_properties(xmp))
    height, width = size
    values: dict[tuple[str, str], int] = {
        (_TIFF, "ImageWidth"): width,
        (_TIFF, "ImageLength"): height,
        (_EXIF, "PixelXDimension"): width,
        (_EXIF, "PixelYDimension"): height,
    }
    stated = {found.key: _number(xmp, found) for found in properties}
    for side, axis, start in ((width, "Width", "Left"), (height, "Height", "Top")):
        cropped = f"CroppedAreaImage{axis}Pixels"
        before = stated.get((_PANORAMA, cropped)) or stated.get((_PANORAMA, f"FullPano{axis}Pixels"))
        for name in (
            cropped,
            f"FullPano{axis}Pixels",
            f"CroppedArea{start}Pixels",
            f"LargestValidInteriorRect{axis}",
            f"LargestValidInteriorRect{start}",
        ):
            value = stated.get((_PANORAMA, name))
            if before and value is not None:
                values[_PANORAMA, name] = round(value * Fraction(side, before))
    return _changed(xmp, ((found, values[found.key]) for found in properties if found.key in values))


def _properties(xmp: bytes) -> Iterator[_Property]:
    """Yield all attributes and elements, elements after what is in them.

    Raises:
        ValueError: The data are not XML, or have a document type, which XMP does not.
    """
    parser = expat.ParserCreate("utf-8")  # the encoding of XMP in every file format
    found: list[tuple[str, int, int, int, int]] = []  # the qualified name, and the places of a `_Property`
    opened: list[tuple[int, int]] = []  # start and end of the tag of each open element
    prefixes = dict(_USUAL_PREFIXES)

    def open_element(name: str, attributes: dict[str, str]) -> None:
        start = parser.CurrentByteIndex
        at = start + 1 + len(name.encode())
        while match := _ATTRIBUTE.match(xmp, at):
            found.append((match[1].decode(), match.start(), match.start(2) + 1, match.end(2) - 1, match.end()))
            at = match.end()
        opened.append((start, xmp.index(b">", at) + 1))
        prefixes.update({key[6:]: value for key, value in attributes.items() if key.startswith("xmlns:")})

    def close_element(name: str) -> None:
        start, content = opened.pop()
        if xmp[content - 2 : content] == b"/>":
            found.append((name, start, content, content, content))
        else:
            end = parser.CurrentByteIndex
            found.append((name, start, content, end, xmp.index(b">", end) + 1))

    def refuse(*_: object) -> None:
        raise ValueError("XMP data have no document type")

    parser.StartElementHandler, parser.EndElementHandler = open_element, close_element
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(xmp.rstrip(b"\0"), True)
    except (expat.ExpatError, IndexError) as error:
        raise ValueError(f"not XML ({error})") from None
    for qualified, *places in found:
        prefix, _, name = qualified.rpartition(":")
        declared = prefix == "xmlns"
        yield _Property(prefixes.get(name if declared else prefix, ""), "" if declared else name, *places)


def _number(xmp: bytes, found: _Property) -> int | None:
    value = xmp[found.value_start : found.value_end].strip()
    return int(value) if value.isdigit() and len(value) < 10 else None


def _changed(xmp: bytes, changes: Iterable[tuple[_Property, int | None]]) -> bytes:
    """Return the data with whole numbers as values of some properties, and without those whose value is None."""
    kept, at = [], 0
    for found, value in sorted(changes, key=lambda change: change[0].start):
        if found.start < at:  # in an element that is cut out
            continue
        if value is None:
            kept.append(xmp[at : found.start])
            at = found.end
        elif _number(xmp, found) is not None:
            content = xmp[found.value_start : found.value_end]
            kept += [xmp[at : found.value_start], content.replace(content.strip(), str(value).encode())]
            at = found.value_end
    return b"".join((*kept, xmp[at:]))
