"""XMP data: the orientation, the sizes, and what names parts that no result holds."""

from __future__ import annotations

import time

import pytest

from finescale.images.xmp import has_extended_xmp, resized_xmp, upright_xmp, xmp_orientation

NAMESPACES = {
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "GPano": "http://ns.google.com/photos/1.0/panorama/",
    "GCamera": "http://ns.google.com/photos/1.0/camera/",
    "Container": "http://ns.google.com/photos/1.0/container/",
    "Item": "http://ns.google.com/photos/1.0/container/item/",
    "hdrgm": "http://ns.adobe.com/hdr-gain-map/1.0/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xmpNote": "http://ns.adobe.com/xmp/note/",
    "dc": "http://purl.org/dc/elements/1.1/",
}

PARTS = ("Container", "Item", "hdrgm")
"""Prefixes of namespaces that describe nothing else but lost parts."""


def xmp(attributes: str = "", elements: str = "", *, without: tuple[str, ...] = ()) -> bytes:
    declared = "".join(f' xmlns:{name}="{uri}"' for name, uri in NAMESPACES.items() if name not in without)
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        f"<rdf:Description{declared} dc:rights='é \"quoted\"'{attributes}>{elements}</rdf:Description>"
        '</x:xmpmeta>\n<?xpacket end="w"?>'
    ).encode()


@pytest.mark.parametrize("turned", range(2, 9))
def test_the_orientation_of_xmp_is_changed_as_attribute_and_as_element(turned: int) -> None:
    form = '<a tiff:Orientation="{0}" b="{1}"/><a tiff:Orientation = \'{0}\'/><tiff:Orientation> {0}</tiff:Orientation>'
    form = f"<all>{form}</all>"
    assert upright_xmp(form.format(turned, turned).encode()) == form.format(1, turned).encode()
    assert xmp_orientation(form.format(turned, turned).encode()) == turned


def test_the_orientation_is_known_by_its_namespace_not_by_its_prefix() -> None:
    other = b'<a xmlns:t="http://ns.adobe.com/tiff/1.0/" xmlns:tiff="something/else" %s:Orientation="6"/>'
    assert xmp_orientation(other % b"t") == 6
    assert upright_xmp(other % b"t") == other.replace(b"6", b"1") % b"t"
    assert xmp_orientation(other % b"tiff") == 1
    assert upright_xmp(other % b"tiff") == other % b"tiff"


@pytest.mark.parametrize("value", ["0", "9", "-6", "six", "", "6" * 4000])
def test_an_orientation_that_is_none_is_upright(value: str) -> None:
    assert xmp_orientation(xmp(f' tiff:Orientation="{value}"')) == 1


def test_what_names_a_lost_part_is_cut_out_and_nothing_else_is_changed() -> None:
    attributes = (
        ' hdrgm:Version="1.0" GCamera:MotionPhoto="1" GCamera:MicroVideoOffset=\'3012\' xmpNote:HasExtendedXMP="0A"'
    )
    elements = (
        '<Container:Directory><rdf:Seq><rdf:li><Container:Item Item:Semantic="GainMap"/></rdf:li></rdf:Seq>'
        "</Container:Directory><hdrgm:GainMapMax>1 &gt; 0</hdrgm:GainMapMax><xmp:Thumbnails>/9j/</xmp:Thumbnails>"
        "<GCamera:MotionPhotoVersion>1</GCamera:MotionPhotoVersion>"
    )
    kept = "<GCamera:Other>2</GCamera:Other><dc:title>a &lt;b&gt;</dc:title>"
    changed = upright_xmp(xmp(attributes, elements + kept))
    assert changed == xmp("", kept, without=PARTS)
    assert upright_xmp(changed) == changed


def test_sizes_are_those_of_the_result() -> None:
    form = (
        ' tiff:ImageWidth="{w}" tiff:ImageLength="{h}" exif:PixelXDimension="{w}" exif:PixelYDimension="{h}"'
        ' GPano:FullPanoWidthPixels="{fw}" GPano:FullPanoHeightPixels="{fh}" GPano:CroppedAreaLeftPixels="{left}"'
    )
    element = (
        "<GPano:CroppedAreaImageWidthPixels>{w}</GPano:CroppedAreaImageWidthPixels>"
        "<GPano:CroppedAreaImageHeightPixels> {h} </GPano:CroppedAreaImageHeightPixels>"
        "<GPano:CroppedAreaTopPixels>{top}</GPano:CroppedAreaTopPixels>"
    )
    before = {"w": 440, "h": 320, "fw": 800, "fh": 400, "left": 33, "top": 11}
    after = {name: 3 * value for name, value in before.items()}
    assert resized_xmp(xmp(form.format(**before), element.format(**before)), (960, 1320)) == xmp(
        form.format(**after), element.format(**after)
    )


def test_a_panorama_without_a_cropped_size_is_the_whole_one() -> None:
    form = ' GPano:FullPanoWidthPixels="{0}" GPano:FullPanoHeightPixels="{1}"'
    assert resized_xmp(xmp(form.format(44, 32)), (64, 88)) == xmp(form.format(88, 64))


def test_zero_sizes_are_no_reason_to_stop() -> None:
    data = xmp(' GPano:CroppedAreaImageWidthPixels="0" GPano:FullPanoWidthPixels="0"')
    assert resized_xmp(data, (10, 10)) == data


def test_padding_and_a_final_zero_stay() -> None:
    data = xmp(without=PARTS) + b" " * 2000
    assert upright_xmp(data + b"\0") == data + b"\0"
    assert has_extended_xmp(xmp(' xmpNote:HasExtendedXMP="0A"'))
    assert not has_extended_xmp(xmp())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x" * 100,
        b"<a><b></a>",
        b'<a b="1',
        b"<a/><b/>",
        b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        "<a/>".encode("utf-16"),
    ],
    ids=["empty", "text", "crossed", "cut", "two roots", "document type", "UTF-16"],
)
def test_what_is_not_xml_of_utf_8_is_reported(data: bytes) -> None:
    for read in (xmp_orientation, upright_xmp, lambda data: resized_xmp(data, (1, 1))):
        with pytest.raises(ValueError, match=r"not XML|no document type"):
            read(data)


def test_millions_of_attributes_and_levels_take_seconds_at_most() -> None:
    started = time.monotonic()
    wide = xmp("".join(f' a{number}="1"' for number in range(50_000)), "<dc:a/>" * 50_000, without=PARTS)
    assert upright_xmp(wide) == wide
    deep = b"<a>" * 50_000 + b"</a>" * 50_000
    assert upright_xmp(deep) == deep
    assert time.monotonic() - started < 10
