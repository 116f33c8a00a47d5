"""Inputs of public reports in BMP, GIF, JPEG, HEIC and unread formats: reports/README.md says what is right."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageCms

from finescale.errors import ImageReadError
from finescale.images import Image, read_image
from images.samples import as_levels, planes_of

SRGB = ImageCms.createProfile("sRGB")

READ = {
    "v5_icc.bmp": (),
    "rle8.bmp": (),
    "rgb555.bmp": (),
    "rgb565.bmp": (),
    "masks_rgba.bmp": (),
    "bitmap_png.bmp": (),
    "no_eoi.jpg": ("its end marker is missing; its pixels are all there",),
    "progressive_noeoi.jpg": ("its end marker is missing; its pixels are all there",),
    "phone.heic": (),
}

REFUSED = {
    "pictures/jpeg12bit.jpg": "a JPEG file with 12 bits per channel is not supported; convert it to PNG or TIFF first",
    "pictures/cgbi.png": "is a PNG file for iPhone apps (CgBI), which finescale does not read; convert it",
    "pictures/x.jxl": "is a JPEG XL file, which finescale does not read; convert it to TIFF or PNG first",
    "pictures/x.exr": "is an OpenEXR file, which finescale does not read; convert it to TIFF or PNG first",
    "pictures/x.psd": "is a Photoshop file, which finescale does not read; convert it to TIFF or PNG first",
    "faults/gif_short_data.gif": "truncated GIF: 1259 of the 1496 pixels of its first frame are missing",
    "faults/bmp_offset_zero.bmp": "damaged BMP: its pixels begin at byte 0, inside its header of 54 bytes",
}


@pytest.fixture(scope="session")
def reports(data_root: Path) -> Path:
    return data_root / "reports"


def shown(image: Image) -> np.ndarray:
    """As sRGB of 8 bits, through the image's own profile, with alpha: (H, W, 4)."""
    levels = as_levels(image.pixels.expand(3, -1, -1), 8)
    if image.profile:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.profile))
        levels = np.asarray(ImageCms.profileToProfile(Pillow.fromarray(levels), profile, SRGB))
    alpha = 255 * np.ones(levels.shape[:2]) if image.alpha is None else as_levels(image.alpha, 8)[..., 0]
    return np.dstack([levels, alpha])


def assert_close(image: Image, expected: Pillow.Image, within: float = 2.5) -> None:
    """The README's "close"; nothing is averaged here, since nothing was upscaled."""
    reference = np.asarray(expected.convert("RGBA"), float)
    assert image.size == reference.shape[:2]
    assert np.abs(shown(image) - reference).mean() <= within


@pytest.mark.parametrize("name", READ)
def test_what_is_read_looks_as_it_should(name: str, reports: Path) -> None:
    if name.endswith(".heic"):
        pytest.importorskip("pillow_heif")
    image = read_image(reports / "pictures" / name)
    with Pillow.open(reports / "seen" / f"{name}.png") as seen:
        assert_close(image, seen)
    assert image.notes == READ[name]


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_refused_truly(name: str, reports: Path) -> None:
    with pytest.raises(ImageReadError, match=re.escape(f"{Path(name).name}: {REFUSED[name]}")) as error:
        read_image(reports / name)
    assert "\n" not in str(error.value)


# ------------------------------------------------------------------------------------------------------------ bmpsuite

# The suite shows one picture, reduced to what each file can hold. Pillow reads most of them; those that it does not
# read or reads otherwise are compared with a file of the same picture, at a distance that their few bits explain.
LIKE = {
    "g/rgb32bf": ("g/rgb24", 0),
    "q/pal8os2v2-16": ("g/pal8", 0),
    "q/pal8oversizepal": ("g/pal8", 0),
    "q/rgb16-3103": ("g/rgb24", 10),
    "q/rgb16-231": ("g/rgb24", 45),
    "q/rgb24jpeg": ("g/rgb24", 4),
    "q/rgb24png": ("g/rgb24", 0),
    "q/rgb32-111110": ("g/rgb24", 0.5),
    "q/rgb32-7187": ("g/rgb24", 0.5),
    "q/rgba16-4444": ("q/rgba32", 6),
    "q/rgba16-1924": ("q/rgba32", 45),
    "q/rgba32-1010102": ("q/rgba32", 0.5),
    "q/rgba32-61754": ("q/rgba32", 2.5),
    "q/rgba32-81284": ("q/rgba32", 0.5),
    "q/rgba32abf": ("q/rgba32", 0),
    "b/badheadersize": ("g/pal1", 0),
}
WITH_ALPHA = ("q/pal4rletrns", "q/pal8rletrns", "q/rgba16-5551")  # read by Pillow, which drops their alpha
NOT_BY_PILLOW = ("q/pal2", "q/pal2color", "q/pal4rlecut", "q/pal8rlecut")  # and no other file is like them: see below
SUITE = {
    "b": "badbitcount badbitssize baddens1 baddens2 badfilesize badheadersize badpalettesize badplanes badrle badrle4 "
    "badrle4bis badrle4ter badrlebis badrleter badwidth pal8badindex reallybig rgb16-880 rletopdown shortfile",
    "g": "pal1 pal1bg pal1wb pal4 pal4gs pal4rle pal8-0 pal8 pal8gs pal8nonsquare pal8os2 pal8rle pal8topdown pal8v4 "
    "pal8v5 pal8w124 pal8w125 pal8w126 rgb16-565 rgb16-565pal rgb16 rgb16bfdef rgb24 rgb24pal rgb32 rgb32bf rgb32bfdef",
    "q": "pal1huff pal1p1 pal2 pal2color pal4rlecut pal4rletrns pal8offs pal8os2-hs pal8os2-sz pal8os2sp pal8os2v2-16 "
    "pal8os2v2-40sz pal8os2v2-sz pal8os2v2 pal8oversizepal pal8rlecut pal8rletrns rgb16-231 rgb16-3103 rgb16faketrns "
    "rgb24jpeg rgb24largepal rgb24lprof rgb24png rgb24prof rgb24prof2 rgb32-111110 rgb32-7187 rgb32-xbgr "
    "rgb32fakealpha rgb32h52 rgba16-1924 rgba16-4444 rgba16-5551 rgba32-1010102 rgba32-61754 rgba32-81284 rgba32 "
    "rgba32abf rgba32h56",
}
REFUSED_BMPS = {
    "q/pal1huff": "a BMP file with Huffman 1D coding is not supported",
    "b/badbitcount": "a BMP file with 30000 bits and compression 0 is not supported",
    "b/badpalettesize": "damaged BMP: its palette of 305402420 colours reaches into its pixels",
    "b/badrle": "damaged BMP: a run leaves its 127 x 64 pixels",
    "b/badrle4": "damaged BMP: a run leaves its 127 x 64 pixels",
    "b/badrle4bis": "damaged BMP: a run leaves its 127 x 64 pixels",
    "b/badrle4ter": "damaged BMP: a run leaves its 127 x 64 pixels",
    "b/badrlebis": "damaged BMP: a run leaves its 127 x 64 pixels",
    "b/badrleter": "damaged BMP: a run leaves its 127 x 64 pixels",
    "b/badwidth": "damaged BMP: its header states -127 x 64 pixels",
    "b/pal8badindex": "damaged BMP: a pixel refers to colour 252 of a palette of 101",
    "b/reallybig": "3000000 x 2000000 pixels (6000000.0 megapixels) exceed the limit of 250 megapixels",
    "b/rgb16-880": "damaged BMP: its masks 0xff00, 0xff, 0x0 are not separate runs of bits",
    "b/shortfile": "truncated BMP: pixels are missing at the end",
}
FILES = [f"{folder}/{name}" for folder, names in SUITE.items() for name in names.split()]


def test_every_file_of_the_suite_is_tested(reports: Path) -> None:
    found = (path.relative_to(reports / "bmpsuite") for path in (reports / "bmpsuite").rglob("*.bmp"))
    assert sorted(path.with_suffix("").as_posix() for path in found) == sorted(FILES)
    assert not [name for name in REFUSED_BMPS if name.startswith("g/")]


@pytest.mark.parametrize("name", [name for name in FILES if name not in (*REFUSED_BMPS, *NOT_BY_PILLOW)])
def test_a_file_of_the_suite_is_read(name: str, reports: Path) -> None:
    image = read_image(reports / "bmpsuite" / f"{name}.bmp")
    stored = as_levels(planes_of(image) if name not in WITH_ALPHA else image.pixels, 8)
    other, within = LIKE.get(name, (name, 0.5))
    with Pillow.open(reports / "bmpsuite" / f"{other}.bmp") as picture:
        mode = "RGBA" if stored.shape[2] in (2, 4) else "RGB"
        reference = np.asarray(picture.convert(mode), float)
    assert image.size == reference.shape[:2]
    assert np.abs(np.broadcast_to(stored, reference.shape) - reference).mean() <= within


@pytest.mark.parametrize("name", REFUSED_BMPS)
def test_a_file_of_the_suite_is_refused(name: str, reports: Path) -> None:
    with pytest.raises(ImageReadError, match=re.escape(REFUSED_BMPS[name])):
        read_image(reports / "bmpsuite" / f"{name}.bmp")


@pytest.mark.parametrize("name", ["rgb24prof", "rgb24prof2"])
def test_the_profiles_of_the_suite_are_kept(name: str, reports: Path) -> None:
    path = reports / "bmpsuite" / "q" / f"{name}.bmp"
    image = read_image(path)
    assert image.profile is not None
    assert image.profile in path.read_bytes()


def test_a_profile_that_swaps_channels_shows_the_same_picture(reports: Path) -> None:
    with Pillow.open(reports / "bmpsuite" / "g" / "rgb24.bmp") as picture:
        assert_close(read_image(reports / "bmpsuite" / "q" / "rgb24prof2.bmp"), picture)


@pytest.mark.parametrize("name", ["pal2", "pal2color"])
def test_two_bits_are_read(name: str, reports: Path) -> None:
    data = (reports / "bmpsuite" / "q" / f"{name}.bmp").read_bytes()
    palette = np.frombuffer(data, np.uint8, 16, 54).reshape(4, 4)[:, 2::-1]
    bits = np.unpackbits(np.frombuffer(data, np.uint8, 32 * 64, 70)).reshape(64, 128, 2)
    expected = palette[2 * bits[::-1, :127, 0] + bits[::-1, :127, 1]]
    levels = as_levels(read_image(reports / "bmpsuite" / "q" / f"{name}.bmp").pixels, 8)
    np.testing.assert_array_equal(np.broadcast_to(levels, expected.shape), expected)


@pytest.mark.parametrize("bits", [4, 8])
def test_pixels_that_a_file_of_the_suite_leaves_out_are_transparent(bits: int, reports: Path) -> None:
    """Those that it states are the ones of the whole picture."""
    with Pillow.open(reports / "bmpsuite" / "g" / f"pal{bits}.bmp") as picture:
        whole = np.asarray(picture.convert("RGB"))
    for name, least in ((f"pal{bits}rletrns", 0.9), (f"pal{bits}rlecut", 0.7)):
        image = read_image(reports / "bmpsuite" / "q" / f"{name}.bmp")
        assert image.alpha is not None
        stated = image.alpha[0].numpy() == 1
        assert least < stated.mean() < 1
        np.testing.assert_array_equal(as_levels(image.pixels, 8)[stated], whole[stated])
        assert image.notes == (f"the file leaves out {(~stated).sum()} pixels: they are transparent",)
