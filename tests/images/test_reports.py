"""The table of public reports, reports/README.md of the data folder: every row by the command with its bundled network.

Rows of BMP, GIF, HEIC and other formats are in test_reports_more.py.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from finescale.errors import ImageReadError
from finescale.images import read_image, write_image
from finescale.upscale import Upscaler
from images.report_rows import LARGEST_MEAN, SCALE, Run, averaged, distance, shown, upscale

CLOSE = {
    "photoshop_selection.tif": ["a sample per pixel that is not marked as transparency is dropped"],
    "extra_unspecified.tif": ["a sample per pixel that is not marked as transparency is dropped"],
    "p3_nclx.avif": [],
    "png_cicp_p3.png": [],
    "adobergb.png": [],
    "gray_linear.png": [],
    "ultrahdr.jpg": ["the gain map is dropped: the result is not HDR"],
    "motion.jpg": ["the motion video is dropped"],
    "pano360.jpg": [],
    "lab8_tifffile.tif": ["converted from lab to sRGB"],
    "lab16_vips.tif": ["converted from lab to sRGB"],
    "exif6_thumb.jpg": [],
    "xmp_orient_attr.jpg": [],
    "mono12_in16.tif": ["values are scaled from 0 to 4095"],
}
"""Inputs whose result is close to what is seen, and what is said of them."""

RAW = "is a camera raw file, which finescale does not read; convert it to TIFF or PNG first"
REFUSED = {
    "camera.dng": RAW,
    "linearraw.tif": RAW,
    "float_255.tif": "its values go from 25.5 to 229.5, outside 0 to 1",
    "tiled_zstd.tif": "ZSTD compression is not supported",
    "lzma.tif": "LZMA compression is not supported",
    "jp2k_in.tif": "JPEG 2000 compression is not supported",
    "gray12.tif": "12-bit integer samples are not supported",
    "double_01.tif": "64-bit floating-point samples are not supported",
    "int16_signed.tif": "16-bit signed integer samples are not supported",
    "five_samples.tif": "5 channels per pixel are not supported",
    "cgbi.png": "(CgBI), which finescale does not read; convert it",
}
"""Inputs that are refused, and by which words."""

OTHERS = ["preview_first.tif", "exif6_thumb_plain.jpg", "xmp_orient_only.png"]


@pytest.fixture(scope="module")
def reports(data_root: Path) -> Path:
    return data_root / "reports"


@pytest.fixture(scope="module")
def run(reports: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All rows of this file in one run."""
    inputs = [reports / "pictures" / name for name in (*CLOSE, *REFUSED, *OTHERS)]
    return upscale(inputs, tmp_path_factory.mktemp("reports"))


def xmp_of(path: Path) -> bytes:
    return read_image(path).metadata["xmp-data"]


@pytest.mark.parametrize("name", CLOSE)
def test_a_picture_is_close_to_what_is_seen_and_what_is_dropped_is_said(name: str, run: Run, reports: Path) -> None:
    assert distance(run.result(name), reports / "seen" / f"{name}.png") <= LARGEST_MEAN
    assert run.notes(name) == CLOSE[name]


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_not_read_is_refused_by_its_true_name(name: str, run: Run) -> None:
    reason = run.refusal(name)
    assert REFUSED[name] in reason
    assert "damaged" not in reason


@pytest.mark.parametrize("name", ["photoshop_selection.tif", "extra_unspecified.tif"])
def test_an_unspecified_sample_leaves_colours_close_everywhere(name: str, run: Run, reports: Path) -> None:
    result = run.result(name)
    with Pillow.open(result) as written:
        assert written.mode == "RGB"
    difference = np.abs(averaged(shown(result), SCALE) - shown(reports / "seen" / f"{name}.png"))
    assert difference[1:-1, 1:-1].mean(-1).max() < 16  # colours that were taken for hidden ones are off by 100


def test_the_full_picture_is_taken_and_not_its_preview(run: Run, reports: Path, tmp_path: Path) -> None:
    with Pillow.open(reports / "pictures" / "preview_first.tif") as stored:
        stored.seek(1)
        assert stored.size == (128, 96)
        stored.save(tmp_path / "full.png")
    assert distance(run.result("preview_first.tif"), tmp_path / "full.png") <= LARGEST_MEAN
    assert run.notes("preview_first.tif") == []


def test_xmp_of_results_names_nothing_that_is_gone(run: Run) -> None:
    for name in ("ultrahdr.jpg", "motion.jpg"):
        xmp = xmp_of(run.result(name))
        for gone in (b"GainMap", b"hdr-gain-map", b"Directory", b"MotionPhoto", b"MicroVideo"):
            assert gone not in xmp
    panorama = xmp_of(run.result("pano360.jpg"))
    for stated in (
        b'FullPanoWidthPixels="88"',
        b'FullPanoHeightPixels="64"',
        b'CroppedAreaImageWidthPixels="88"',
        b'CroppedAreaImageHeightPixels="64"',
    ):
        assert stated in panorama


@pytest.mark.parametrize("name", ["exif6_thumb.jpg", "exif6_thumb_plain.jpg"])
def test_a_turned_photograph_is_upright_without_its_thumbnail(name: str, run: Run, reports: Path) -> None:
    result = run.result(name)
    assert distance(result, reports / "seen" / "exif6_thumb.jpg.png") <= LARGEST_MEAN
    with Pillow.open(result) as written:
        exif = written.getexif()
        assert exif[274] == 1
        assert exif.get_ifd(1) == {}
        assert b"\xff\xd8\xff" not in written.info["exif"]


@pytest.mark.parametrize("name", ["xmp_orient_attr.jpg", "xmp_orient_only.png"])
def test_an_orientation_in_xmp_is_applied_once(name: str, run: Run, reports: Path) -> None:
    result = run.result(name)
    assert distance(result, reports / "seen" / "xmp_orient_attr.jpg.png") <= LARGEST_MEAN
    xmp = xmp_of(result)
    for stated in (b'tiff:Orientation="1"', b'tiff:ImageWidth="88"', b'exif:PixelYDimension="64"'):
        assert stated in xmp


@pytest.mark.parametrize("kind", ["webp", "avif", "bmp"])
def test_a_profile_that_the_output_cannot_hold_is_converted_to_srgb(kind: str, reports: Path, tmp_path: Path) -> None:
    names = ["gray_linear.png", "adobergb.png"]
    run = upscale([reports / "pictures" / name for name in names], tmp_path, "--format", kind)
    for name in names:
        assert distance(run.result(name), reports / "seen" / f"{name}.png") <= LARGEST_MEAN
    assert any("converted to sRGB" in note for note in run.notes("gray_linear.png"))
    assert any("converted to sRGB" in note for note in run.notes("adobergb.png")) == (kind == "bmp")


# ---- PngSuite: what is in question is reading alone


def test_every_picture_of_pngsuite_is_close_but_those_that_are_damaged(reports: Path, tmp_path: Path) -> None:
    refused = []
    paths = sorted(reports.glob("pngsuite/*.png"))
    assert len(paths) == 176
    for path in paths:
        try:
            image = read_image(path)
        except ImageReadError:
            refused.append(path.name)
            continue
        write_image(tmp_path / path.name, image)
        assert np.abs(shown(tmp_path / path.name) - shown(path)).mean() <= LARGEST_MEAN, path.name
    assert refused == [path.name for path in paths if path.name.startswith("x")]
    assert len(refused) == 14


def test_pictures_of_pngsuite_of_1_to_7_pixels_are_close(reports: Path, tmp_path: Path) -> None:
    upscaler = Upscaler.from_pretrained("default", scale=SCALE)
    paths = sorted(reports.glob("pngsuite/s0[1-7]*.png"))
    assert len(paths) == 14
    for path in paths:
        write_image(tmp_path / path.name, upscaler(read_image(path)))
        assert distance(tmp_path / path.name, path) <= 0.5, path.name
