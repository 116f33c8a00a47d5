"""The hostile images of the data folder: each is read, or refused, as the table below states (hostile/README.md)."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from finescale.errors import ImageReadError, printable_name
from finescale.images import Image, read_image, write_image

Check = Callable[[Image, Path], None]


@pytest.fixture(scope="session")
def images(data_root: Path) -> Path:
    return data_root / "hostile" / "images"


def eight_bits(planes: torch.Tensor) -> np.ndarray:
    return (planes * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def picture_p(folder: Path) -> np.ndarray:
    with Pillow.open(folder / "no_extension") as image:
        return np.asarray(image)


def sixteen_bit_png(data: bytes) -> np.ndarray:
    """(H, W, C) of a PNG of 16 bits that is not interlaced, by its specification and without an image library."""
    start, packed = 8, b""
    while start < len(data):
        length, kind = struct.unpack_from(">I4s", data, start)
        if kind == b"IHDR":
            width, height, bits, colour = struct.unpack_from(">IIBB", data, start + 8)
            assert bits == 16
            pixel = 2 * {0: 1, 2: 3, 4: 2, 6: 4}[colour]  # bytes
        elif kind == b"IDAT":
            packed += data[start + 8 : start + 8 + length]
        start += length + 12
    filtered = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, -1)
    rows = np.zeros((height + 1, pixel + width * pixel), np.int64)  # with a row of zeros above and a pixel to the left
    for y, (kind, *row) in enumerate(filtered, start=1):
        for x, value in enumerate(row, start=pixel):
            left, up, corner = rows[y, x - pixel], rows[y - 1, x], rows[y - 1, x - pixel]
            paeth = min((left, up, corner), key=lambda neighbour: abs(left + up - corner - neighbour))
            rows[y, x] = (value + (0, left, up, (left + up) // 2, paeth)[kind]) % 256
    return np.ascontiguousarray(rows[1:, pixel:].astype(np.uint8)).view(">u2").reshape(height, width, -1)


def oracle(path: Path, mode: str) -> np.ndarray:
    with Pillow.open(path) as image:
        return np.asarray(image.convert(mode)).reshape(image.height, image.width, -1)


# ------------------------------------------------------------------------------------- what "works" means, file by file


def is_p(image: Image, path: Path) -> None:
    np.testing.assert_array_equal(eight_bits(image.pixels), picture_p(path.parent))
    assert image.depth == 8


def plain(image: Image, path: Path) -> None:
    """As Pillow reads it; a JPEG decoder may round otherwise."""
    mode = "L" if len(image.pixels) == 1 else "RGB"
    difference = np.abs(eight_bits(image.pixels).astype(int) - oracle(path, mode))
    assert difference.max() <= (3 if b"JFIF" in path.read_bytes()[:20] else 0)
    assert image.alpha is None
    assert image.notes == ()


def p(image: Image, path: Path) -> None:
    is_p(image, path)
    assert image.alpha is None
    assert image.notes == ()


def gray(image: Image, path: Path) -> None:
    plain(image, path)
    assert len(image.pixels) == 1


def with_alpha(image: Image, path: Path) -> None:
    mode = "LA" if len(image.pixels) == 1 else "RGBA"
    assert image.alpha is not None
    np.testing.assert_array_equal(eight_bits(torch.cat([image.pixels, image.alpha])), oracle(path, mode))
    assert image.notes == ()


def sixteen_bits(image: Image, path: Path) -> None:
    """Against a decoder of our own, since Pillow hands out 8 bits; the TIFF holds the same picture as the PNG."""
    stored = sixteen_bit_png(path.with_suffix(".png").read_bytes())
    planes = image.pixels if image.alpha is None else torch.cat([image.pixels, image.alpha])
    np.testing.assert_array_equal((planes.double() * 65535).round().permute(1, 2, 0).numpy(), stored)
    assert np.any(stored % 257)  # the low byte is in use
    assert image.depth == 16


def p_opaque(image: Image, path: Path) -> None:
    is_p(image, path)
    assert image.alpha is not None
    assert image.alpha.min() == 1


def colour_key(image: Image, path: Path) -> None:
    is_p(image, path)
    with_alpha(image, path)


def first_of_four(image: Image, path: Path) -> None:
    assert "3 further frames are not upscaled" in image.notes
    np.testing.assert_array_equal(eight_bits(image.pixels), oracle(path, "RGB"))


def p_first_of_four(image: Image, path: Path) -> None:
    first_of_four(image, path)
    is_p(image, path)


def wide_gamut(image: Image, path: Path) -> None:
    with Pillow.open(path) as stored:
        assert image.profile == stored.info["icc_profile"]
    plain(image, path)


def broken_profile(image: Image, path: Path) -> None:
    is_p(image, path)
    assert image.profile is None
    assert image.notes == ("the colour profile is damaged: dropped",)


def natural_cmyk(image: Image, path: Path) -> None:
    """The blocks in the corners are red, green and blue as ink can show them, and not their negatives."""
    corners = {"red": image.pixels[:, 2, 2], "green": image.pixels[:, 2, -3], "blue": image.pixels[:, -3, 2]}
    for channel, colour in enumerate(corners.values()):
        assert colour.argmax() == channel
        assert colour[channel] > 0.45
    assert np.abs(eight_bits(image.pixels).astype(int) - picture_p(path.parent)).mean() < 25  # inverted: 112
    assert image.notes == ("converted from CMYK to sRGB",)


def turned_once(quarter_turns: int) -> Check:
    def check(image: Image, path: Path) -> None:
        """Turned clockwise; the red block is the one that leaves the top left corner."""
        stored = oracle(path, "RGB").astype(int)
        expected = np.rot90(stored, -quarter_turns)
        assert image.size == expected.shape[:2]
        assert np.abs(eight_bits(image.pixels) - expected).max() <= 3
        corner = {1: image.pixels[:, 2, -3], 2: image.pixels[:, -3, -3]}[quarter_turns]
        assert corner.argmax() == 0
        with Pillow.open(path) as original:
            description = original.getexif()[270]
        exif = Pillow.Exif()
        exif.load(image.metadata["exif-data"])
        assert exif[274] == 1
        assert exif[270] == description

    return check


def p_as_float(image: Image, path: Path) -> None:
    expected = torch.from_numpy(picture_p(path.parent).copy()).permute(2, 0, 1) / 255
    torch.testing.assert_close(image.pixels, expected, rtol=0, atol=1e-7)
    assert image.depth == 16


def p_without_text(image: Image, path: Path) -> None:
    is_p(image, path)
    assert image.notes == ("compressed texts are dropped unread",)


def sized(height: int, width: int) -> Check:
    def check(image: Image, path: Path) -> None:
        assert image.size == (height, width)
        plain(image, path)

    return check


# A check of the picture that comes out, or the words with which the file is refused.
TABLE: dict[str, Check | str] = {
    "truncated.png": "truncated",
    "truncated.webp": "truncated",
    "truncated.jpg": "truncated",
    "truncated_tail.jpg": "truncated",
    "zero_bytes.png": "the file is empty",
    "signature_only.png": "truncated",
    "text.png": "not an image",
    "jpeg_named.png": plain,
    "png_named.jpg": p,
    "bad_crc.png": "damaged",
    "trailing_garbage.png": p,
    "no_extension": p,
    "upper_case.PNG": p,
    "one_pixel.png": sized(1, 1),
    "strip_64x1.png": sized(1, 64),
    "strip_1x64.png": sized(64, 1),
    "tiny_7x5.png": sized(5, 7),
    "extreme_aspect_4001x6.png": sized(6, 4001),
    "palette.png": plain,
    "palette_transparency.png": with_alpha,
    "one_bit.png": gray,
    "gray.png": gray,
    "gray.jpg": gray,
    "gray_alpha.png": with_alpha,
    "gray16.png": sixteen_bits,
    "rgb16.png": sixteen_bits,
    "rgba16.png": sixteen_bits,
    "rgb16.tif": sixteen_bits,
    "rgba_partial_alpha.png": with_alpha,
    "alpha.webp": with_alpha,
    "rgba_opaque.png": p_opaque,
    "rgb_colour_key.png": colour_key,
    "interlaced.png": p,
    "gamma_chunk.png": p,
    "cmyk.jpg": natural_cmyk,
    "progressive.jpg": sized(128, 192),
    "odd_size_420.jpg": sized(31, 47),
    "exif_orientation_6.jpg": turned_once(1),
    "exif_orientation_3.jpg": turned_once(2),
    "icc_wide_gamut.png": wide_gamut,
    "icc_wide_gamut.jpg": wide_gamut,
    "icc_broken.png": broken_profile,
    "animated.gif": first_of_four,
    "animated.webp": p_first_of_four,
    "animated.png": p_first_of_four,
    "multi_page.tif": p_first_of_four,
    "lossless.webp": p,
    "plain.bmp": p,
    "float32.tif": p_as_float,
    "float32_nan.tif": "NaN or infinite",
    "bomb_30000x30000.png": "30000 x 30000 pixels (900.0 megapixels) exceed the limit of 250 megapixels; raise it with "
    "--max-pixels",
    "bomb_lying_header.png": "2147483647 x 2147483647 pixels",
    "bomb_text_chunk.png": p_without_text,
}


def test_every_hostile_image_is_in_the_table(images: Path) -> None:
    assert sorted(TABLE) == sorted(path.name for path in images.iterdir())


@pytest.mark.parametrize("name", TABLE)
def test_a_hostile_image_gets_what_the_table_says(name: str, images: Path) -> None:
    path, outcome = images / name, TABLE[name]
    before = path.read_bytes()
    if isinstance(outcome, str):
        with pytest.raises(ImageReadError, match=re.escape(outcome)) as error:
            read_image(path)
        assert str(error.value).startswith(f"{path}: ")
        assert "\n" not in str(error.value)
    else:
        outcome(read_image(path), path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp", ".avif"])
@pytest.mark.parametrize("name", [name for name, outcome in TABLE.items() if callable(outcome)])
def test_what_can_be_read_can_be_written_in_every_format(name: str, suffix: str, images: Path, tmp_path: Path) -> None:
    image = read_image(images / name)
    write_image(tmp_path / f"out{suffix}", image)
    back = read_image(tmp_path / f"out{suffix}")
    assert back.size == image.size
    assert [path.name for path in tmp_path.iterdir()] == [f"out{suffix}"]
    with Pillow.open(tmp_path / f"out{suffix}") as seen_by_others:
        assert seen_by_others.size == image.size[::-1]
        assert seen_by_others.getexif().get(274, 1) == 1


def test_the_bomb_is_read_when_the_limit_is_lifted_only(images: Path) -> None:
    small = images / "one_pixel.png"
    assert read_image(small, max_pixels=1).size == (1, 1)
    with pytest.raises(ImageReadError, match=r"7 x 5 pixels \(0.0 megapixels\) exceed the limit of 3.4e-05 megapixels"):
        read_image(images / "tiny_7x5.png", max_pixels=34)


MEASURE = """
import resource, sys
import finescale.images
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in sys.argv[1:]:
    try:
        finescale.images.read_image(name)
    except finescale.errors.ImageReadError:
        continue
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is counted in KiB on Linux only")
def test_no_hostile_image_takes_memory_or_makes_libvips_print(images: Path) -> None:
    names = [str(path) for path in sorted(images.iterdir())]
    run = subprocess.run([sys.executable, "-c", MEASURE, *names], capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stderr) == (0, "")
    assert int(run.stdout) < 100, f"{run.stdout.strip()} MiB more than before the first picture"


# ------------------------------------------------------------------------------------------------------------- names


def test_every_odd_name_is_read_and_written(data_root: Path, images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "names"
    shutil.copytree(data_root / "hostile" / "names", folder, copy_function=shutil.copyfile)
    folder.chmod(0o755)
    with zipfile.ZipFile(data_root / "hostile" / "odd_names.zip") as archive:
        for entry in archive.infolist():
            (folder / entry.filename).write_bytes(archive.read(entry))
    pictures = [path for path in folder.iterdir() if path.is_file() and path.suffix == ".png"]
    assert len(pictures) >= 15
    for path in pictures:
        image = read_image(path)
        np.testing.assert_array_equal(eight_bits(image.pixels), picture_p(images))
        write_image(path.with_name(path.stem[:240] + "_x4.png"), image)
        assert read_image(path.with_name(path.stem[:240] + "_x4.png")).size == image.size
        assert "\n" not in printable_name(path)


def test_a_folder_with_the_name_of_an_image_is_refused(data_root: Path) -> None:
    with pytest.raises(ImageReadError, match=r"directory\.png: is a folder, not a file"):
        read_image(data_root / "hostile" / "names" / "directory.png")
