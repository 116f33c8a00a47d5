"""An image on disk is upscaled to the same pixels as in memory, in memory that does not grow with its height."""

from __future__ import annotations

import re
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
import torch
from PIL import Image as Pillow
from PIL import ImageCms
from torch import Tensor

from finescale.errors import ImageReadError, ImageWriteError
from finescale.images import Image, read_image, stored, write_image
from finescale.images.icc import SRGB_PRIMARIES, build_profile
from finescale.networks import FAMILIES
from finescale.upscale import Tiling, Upscaler, alpha, streaming
from finescale.upscale.memory import LiveBytes
from finescale.upscale.streaming import pixel_limit, upscale_on_disk
from images.tiff_files import Page, tiff_file
from traced import traced_peak
from upscale.stand_ins import Convolutional, Limited, Nearest, natural

SIZE = 75, 90
TILES = Tiling(tile=32, overlap=8)


def natural_image(channels: int = 3, *, depth: int = 8, alpha: Tensor | None = None, **facts: Any) -> Image:
    return Image(natural(*SIZE, channels=channels), alpha, depth, **facts)


def half_hidden() -> Tensor:
    """Alpha with a hole, of which colours must be filled, and a soft edge."""
    alpha = torch.ones(1, *SIZE)
    alpha[:, 20:60, 10:70] = 0
    alpha[:, 18:20, 10:70] = 0.4
    return alpha


def assert_same(upscaler: Upscaler, path: Path, suffix: str = ".png") -> None:
    """Both ways lead to the same pixels, profile, metadata and notes; to the same bytes except of TIFF."""
    whole = upscaler(read_image(path))
    expected, streamed = path.with_name(f"whole{suffix}"), path.with_name(f"streamed{suffix}")
    lost = write_image(expected, whole)
    report = upscale_on_disk(upscaler, path, streamed)
    assert report.notes == (*whole.notes, *lost)
    assert (report.input_size, report.output_size) == (read_image(path).size, whole.size)
    one, other = read_image(expected), read_image(streamed)
    assert torch.equal(one.pixels, other.pixels)
    assert (one.alpha is None) == (other.alpha is None)
    assert one.alpha is None or other.alpha is None or torch.equal(one.alpha, other.alpha)
    assert (one.depth, one.profile, one.metadata) == (other.depth, other.profile, other.metadata)
    if suffix != ".tif":
        assert expected.read_bytes() == streamed.read_bytes()
    assert not [entry.name for entry in path.parent.iterdir() if entry.name.startswith(".")]


@pytest.fixture(scope="module")
def upscaler() -> Upscaler:
    return Upscaler(Convolutional(), tiling=TILES)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize(
    "image",
    [
        natural_image(),
        natural_image(1),
        natural_image(depth=16),
        natural_image(1, depth=16, alpha=half_hidden()),
        natural_image(alpha=half_hidden()),
        natural_image(alpha=torch.full((1, *SIZE), 0.5)),
        natural_image(alpha=torch.zeros(1, *SIZE)),
    ],
    ids=["rgb", "gray", "rgb16", "gray16-alpha", "alpha", "uniform-alpha", "all-hidden"],
)
def test_the_result_is_that_of_the_whole_image(upscaler: Upscaler, image: Image, suffix: str, tmp_path: Path) -> None:
    write_image(tmp_path / "input.png", image)
    assert_same(upscaler, tmp_path / "input.png", suffix)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_applied(upscaler: Upscaler, orientation: int, tmp_path: Path) -> None:
    exif = Pillow.Exif()
    exif[270], exif[274] = "a description", orientation
    levels = (natural(*SIZE) * 255).round().byte().permute(1, 2, 0).numpy()
    Pillow.fromarray(levels).save(tmp_path / "input.png", exif=exif)
    assert_same(upscaler, tmp_path / "input.png")


def test_everything_that_goes_with_the_pixels_is_kept(upscaler: Upscaler, tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Pillow.Exif()
    exif[270], exif[256], exif[257] = "a description", SIZE[1], SIZE[0]
    metadata = {
        "exif-data": exif.tobytes(),
        "xmp-data": b'<x:xmpmeta xmlns:x="adobe:ns:meta/"></x:xmpmeta>',
        "png-text": insertable_text(),
        "xres": b"5.0",
        "yres": b"5.0",
    }
    write_image(tmp_path / "input.png", natural_image(profile=profile, metadata=metadata))
    assert read_image(tmp_path / "input.png").metadata.keys() == metadata.keys()
    for suffix in (".png", ".tif", ".jpg"):
        assert_same(upscaler, tmp_path / "input.png", suffix)


def insertable_text() -> bytes:
    content = b"tEXtAuthor\0a name"
    return struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))


def test_a_gray_profile_that_the_format_does_not_hold_is_applied(upscaler: Upscaler, tmp_path: Path) -> None:
    profile = build_profile(SRGB_PRIMARIES, 1.8, name="gray", is_gray=True)
    write_image(tmp_path / "input.png", natural_image(1, profile=profile))
    assert_same(upscaler, tmp_path / "input.png", ".webp")


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tif", ".bmp"])
def test_every_kind_of_input_is_read(upscaler: Upscaler, suffix: str, tmp_path: Path) -> None:
    write_image(tmp_path / f"input{suffix}", natural_image())
    assert_same(upscaler, tmp_path / f"input{suffix}")


@pytest.mark.parametrize("overshoot", [0.0, 0.002])
def test_floating_point_samples_are_taken_as_they_are(upscaler: Upscaler, overshoot: float, tmp_path: Path) -> None:
    samples = natural(*SIZE).permute(1, 2, 0).numpy()
    samples = samples * (1 + overshoot)
    pyvips.Image.new_from_array(samples, interpretation="scrgb").tiffsave(str(tmp_path / "input.tif"))
    assert_same(upscaler, tmp_path / "input.tif")


@pytest.mark.parametrize("is_white_zero", [False, True])
def test_samples_of_twelve_bits_fill_their_range(upscaler: Upscaler, is_white_zero: bool, tmp_path: Path) -> None:
    samples = (natural(*SIZE, channels=1)[0] * 4095).round().numpy().astype(np.uint16)
    tags = {262: 0 if is_white_zero else 1, 281: 4095}
    (tmp_path / "input.tif").write_bytes(tiff_file(Page(samples, tags)))
    assert "values are scaled from 0 to 4095" in read_image(tmp_path / "input.tif").notes
    assert_same(upscaler, tmp_path / "input.tif")


@pytest.mark.parametrize(
    "tiling",
    [
        Tiling(tile=0),
        Tiling(tile=32, overlap=16),
        Tiling(rule="chop"),
        Tiling(rule="pad", tile=32, overlap=8),
        Tiling(rule="average", tile=32, overlap=20),
        Tiling(rule="average", tile=40, overlap=5),
    ],
    ids=lambda tiling: f"{tiling.rule}-{tiling.tile}-{tiling.overlap}",
)
@pytest.mark.parametrize("size", [(75, 90), (64, 32), (33, 101), (24, 200)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_every_rule_cuts_and_merges_as_in_memory(tiling: Tiling, size: tuple[int, int], tmp_path: Path) -> None:
    write_image(tmp_path / "input.png", natural(*size))
    assert_same(Upscaler(Convolutional(), tiling=tiling), tmp_path / "input.png")


@pytest.mark.parametrize(("in_channels", "channels"), [(1, 3), (1, 1), (3, 1)])
def test_networks_for_gray_take_colours_one_by_one(in_channels: int, channels: int, tmp_path: Path) -> None:
    write_image(tmp_path / "input.png", natural_image(channels, alpha=half_hidden()))
    assert_same(Upscaler(Convolutional(in_channels=in_channels), tiling=TILES), tmp_path / "input.png")


def test_tiles_that_do_not_fit_are_halved_for_the_whole_image(tmp_path: Path) -> None:
    write_image(tmp_path / "input.png", natural(*SIZE))
    upscaler = Upscaler(Limited(pixels=32 * 32), tiling=Tiling(tile=64))
    assert_same(upscaler, tmp_path / "input.png")


def test_tiles_are_counted_as_in_memory(upscaler: Upscaler, tmp_path: Path) -> None:
    write_image(tmp_path / "input.png", natural_image(alpha=half_hidden()))
    counts: dict[str, list[tuple[int, int]]] = {"whole": [], "on disk": []}
    upscaler(read_image(tmp_path / "input.png"), on_tile=lambda *count: counts["whole"].append(count))
    upscaler.upscale_file(
        tmp_path / "input.png", tmp_path / "out.png", on_tile=lambda *count: counts["on disk"].append(count)
    )
    assert counts["on disk"] == counts["whole"]
    assert len(counts["whole"]) == 2 * 3 * 4


# ---- formats for viewers


def test_a_deep_zoom_image_is_tiles_in_several_sizes(upscaler: Upscaler, tmp_path: Path) -> None:
    write_image(tmp_path / "input.png", natural(300, 180))
    upscaler.upscale_file(tmp_path / "input.png", tmp_path / "out.dzi", quality=90)
    assert 'Height="600"' in (tmp_path / "out.dzi").read_text()
    levels = {path.name for path in (tmp_path / "out_files").iterdir()}
    assert levels == {str(level) for level in range(11)}  # from 1 pixel to 1024
    largest = read_image(tmp_path / "out_files" / "10" / "0_0.jpg")
    whole = upscaler(read_image(tmp_path / "input.png"))
    height, width = largest.size
    assert (largest.pixels - whole.pixels[:, :height, :width]).abs().mean() < 0.01
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["input.png", "out.dzi", "out_files"]


def test_a_pyramid_holds_reduced_copies_in_tiles(upscaler: Upscaler, tmp_path: Path) -> None:
    write_image(tmp_path / "input.png", natural(300, 180))
    upscaler.upscale_file(tmp_path / "input.png", tmp_path / "out.tif", pyramid=True)
    pages = pyvips.Image.new_from_file(str(tmp_path / "out.tif"))
    assert (pages.height, pages.get("n-pages")) == (600, 3)
    assert pyvips.Image.new_from_file(str(tmp_path / "out.tif"), page=2).height == 150
    assert read_image(tmp_path / "out.tif").size == (600, 360)
    with Pillow.open(tmp_path / "out.tif") as opened:
        assert opened.tag_v2[322] == 256  # the width of its tiles


# ---- memory


def test_the_memory_does_not_grow_with_the_height(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's memory and numpy's, and tensors by their storages; libvips' buffers are not counted."""
    monkeypatch.setattr(alpha, "MAX_IN_MEMORY", 1000)
    monkeypatch.setattr(stored, "BLOCK_BYTES", 10_000)
    peaks = {}
    upscaler = Upscaler(Nearest(), tiling=TILES)
    for height in (160, 480):
        write_image(tmp_path / "input.png", natural_image_of(height, 32))
        with LiveBytes() as live:
            upscaler.upscale_file(tmp_path / "input.png", tmp_path / "out.png")
        arrays = traced_peak(lambda: upscaler.upscale_file(tmp_path / "input.png", tmp_path / "out.png"))
        peaks[height] = arrays + live.peak
    assert peaks[480] < 1.1 * peaks[160]


def natural_image_of(height: int, width: int) -> Image:
    alpha = torch.ones(1, height, width)
    alpha[:, height // 3 : height // 2, width // 4 : width // 2] = 0
    return Image(natural(height, width), alpha)


@pytest.mark.parametrize("block", [2, 10, 64])
@pytest.mark.parametrize("size", [(75, 90), (64, 64), (41, 33)])
def test_colours_are_extended_on_disk_as_in_memory(
    size: tuple[int, int], block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alpha, "MAX_IN_MEMORY", 30)
    pixels = natural(*size)
    opacity = (torch.rand(1, *size, generator=torch.Generator().manual_seed(1)) > 0.97).float()
    opacity[:, : size[0] // 2] = 0
    extension = alpha.ColorExtension(
        lambda first, last: (pixels[:, first:last], opacity[:, first:last]), size, tmp_path, block=block
    )
    assert len(list(tmp_path.glob("colors-*.color"))) >= 3
    expected = alpha.extend_color(pixels, opacity)
    assert torch.equal(
        torch.cat([extension.rows(row, min(row + 7, size[0])) for row in range(0, size[0], 7)], 1), expected
    )


# ---- runs that are stopped


def stop_after(tiles: int) -> Callable[[int, int], None]:
    def on_tile(done: int, total: int) -> None:
        if done == tiles:
            raise KeyboardInterrupt

    return on_tile


@pytest.mark.parametrize("tiling", [TILES, Tiling(rule="average", tile=32, overlap=20)], ids=["blend", "average"])
def test_a_stopped_run_goes_on_behind_its_last_band(tiling: Tiling, tmp_path: Path) -> None:
    write_image(tmp_path / "input.png", natural_image(alpha=half_hidden()))
    upscaler = Upscaler(Convolutional(), tiling=tiling)
    rows, columns = len(upscaler.plan(SIZE, 32)), len({tile.columns for tile in upscaler.plan(SIZE, 32)})
    expected, output = tmp_path / "expected.png", tmp_path / "out.png"
    upscaler.upscale_file(tmp_path / "input.png", expected)
    before = 2 * 2 * columns  # two bands of colours and alpha
    with pytest.raises(KeyboardInterrupt):
        upscaler.upscale_file(tmp_path / "input.png", output, on_tile=stop_after(before + 1))
    (kept,) = [entry for entry in tmp_path.iterdir() if entry.name.startswith(".")]
    assert {entry.name for entry in kept.iterdir()} == {"progress.json", "rest-2.npy", "result.levels"}
    counts: list[tuple[int, int]] = []
    report = upscaler.upscale_file(tmp_path / "input.png", output, on_tile=lambda *count: counts.append(count))
    assert counts[0] == (before + 1, 2 * rows)
    assert any(re.fullmatch(r"\d+ of its 150 rows were computed by an earlier run", note) for note in report.notes)
    assert output.read_bytes() == expected.read_bytes()
    assert not kept.exists()


@pytest.mark.parametrize("change", ["input", "weights", "tiling", "depth"])
def test_bands_of_other_results_are_not_used(change: str, tmp_path: Path) -> None:
    write_image(tmp_path / "input.png", natural(*SIZE))
    network = Convolutional()
    with pytest.raises(KeyboardInterrupt):
        Upscaler(network, tiling=TILES).upscale_file(
            tmp_path / "input.png", tmp_path / "out.png", on_tile=stop_after(9)
        )
    assert any(entry.name.startswith(".") for entry in tmp_path.iterdir())
    tiling = Tiling(tile=32, overlap=4) if change == "tiling" else TILES
    if change == "input":
        write_image(tmp_path / "input.png", 1 - natural(*SIZE))
    elif change == "depth":
        write_image(tmp_path / "input.png", natural_image(depth=16))
    elif change == "weights":
        with torch.no_grad():
            network.last.weight.mul_(2)
    upscaler = Upscaler(network, tiling=tiling)
    report = upscaler.upscale_file(tmp_path / "input.png", tmp_path / "out.png")
    write_image(tmp_path / "expected.png", upscaler(read_image(tmp_path / "input.png")))
    assert (tmp_path / "out.png").read_bytes() == (tmp_path / "expected.png").read_bytes()
    assert report.notes == ()
    assert not any(entry.name.startswith(".") for entry in tmp_path.iterdir())


def test_damaged_progress_is_not_used(tmp_path: Path, upscaler: Upscaler) -> None:
    write_image(tmp_path / "input.png", natural(*SIZE))
    with pytest.raises(KeyboardInterrupt):
        upscaler.upscale_file(tmp_path / "input.png", tmp_path / "out.png", on_tile=stop_after(9))
    (kept,) = [entry for entry in tmp_path.iterdir() if entry.name.startswith(".")]
    (kept / "progress.json").write_text("{}")
    assert upscaler.upscale_file(tmp_path / "input.png", tmp_path / "out.png").notes == ()
    assert not kept.exists()


def test_a_picture_that_looks_compressed_gets_the_network_for_it(tmp_path: Path) -> None:
    upscaler = Upscaler(Convolutional(), tiling=TILES)
    other = Upscaler(Nearest(), tiling=TILES)
    upscaler.build_for_flawed = lambda: other
    for quality, chosen in ((40, other), (95, upscaler)):
        path = tmp_path / f"{quality}.jpg"
        write_image(path, natural_image(), quality=quality)
        report = upscale_on_disk(upscaler, path, tmp_path / f"{quality}.png")
        assert (report.flaw is None) == (quality == 95)
        upscale_on_disk(chosen, path, tmp_path / "expected.png")
        assert (tmp_path / f"{quality}.png").read_bytes() == (tmp_path / "expected.png").read_bytes()


def test_a_result_that_another_process_makes_is_refused(tmp_path: Path, upscaler: Upscaler) -> None:
    write_image(tmp_path / "input.png", natural(*SIZE))
    refusals: list[str] = []

    def on_tile(done: int, total: int) -> None:
        with pytest.raises(ImageWriteError) as refused:
            upscaler.upscale_file(tmp_path / "input.png", tmp_path / "out.png")
        refusals.append(str(refused.value))

    upscaler.upscale_file(tmp_path / "input.png", tmp_path / "out.png", on_tile=on_tile)
    assert set(refusals) == {f"{tmp_path / 'out.png'}: another process is making this result"}
    assert read_image(tmp_path / "out.png").size == (150, 180)


# ---- what is refused


def test_a_failed_run_leaves_nothing_behind(tmp_path: Path, upscaler: Upscaler) -> None:
    write_image(tmp_path / "input.png", natural(*SIZE))
    data = (tmp_path / "input.png").read_bytes()
    (tmp_path / "input.png").write_bytes(data[: len(data) // 2] + bytes(100) + data[len(data) // 2 + 100 :])
    with pytest.raises(ImageReadError, match="truncated or damaged"):
        upscaler.upscale_file(tmp_path / "input.png", tmp_path / "out.png")
    assert [entry.name for entry in tmp_path.iterdir()] == ["input.png"]


def test_a_full_disk_is_noticed_before_the_first_tile(
    tmp_path: Path, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / "input.png", natural(*SIZE))
    levels = 3 * 150 * 180
    usage = shutil.disk_usage(tmp_path)
    for suffix, needed in {".png": 2 * levels, ".jpg": levels + levels // 4}.items():
        for free in (needed - 1, needed):
            monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage._replace(free=free))
            if free == needed:
                upscaler.upscale_file(tmp_path / "input.png", tmp_path / f"out{suffix}")
            else:
                with pytest.raises(ImageWriteError, match="of disk while it is made"):
                    upscaler.upscale_file(tmp_path / "input.png", tmp_path / f"out{suffix}")


def test_a_result_too_large_for_its_format_names_those_that_hold_it(tmp_path: Path, upscaler: Upscaler) -> None:
    write_image(tmp_path / "input.png", torch.zeros(3, 8, 8200))
    with pytest.raises(ImageWriteError, match=r"exceed the 16383 per side that WebP holds; choose .png or .tif"):
        upscaler.upscale_file(tmp_path / "input.png", tmp_path / "out.webp")


def test_what_is_made_in_memory_alone_is_refused(tmp_path: Path, upscaler: Upscaler) -> None:
    write_image(tmp_path / "tiny.png", torch.zeros(3, 7, 30))
    with pytest.raises(ImageReadError, match=r"tiny\.png: 30 x 7 pixels are too few, or no whole windows"):
        upscaler.upscale_file(tmp_path / "tiny.png", tmp_path / "out.png")
    with pytest.raises(ImageWriteError, match=r"no format that is written on disk has the suffix '\.bmp'"):
        upscaler.upscale_file(tmp_path / "tiny.png", tmp_path / "out.bmp")
    with pytest.raises(ValueError, match="quality must be between 1 and 100, got 101"):
        upscaler.upscale_file(tmp_path / "tiny.png", tmp_path / "out.jpg", quality=101)
    assert [entry.name for entry in tmp_path.iterdir()] == ["tiny.png"]


def test_a_small_file_may_not_claim_much(tmp_path: Path) -> None:
    """Beyond 250 megapixels, a file must have a byte for every 32 pixels; a stated limit holds for all files."""
    path = tmp_path / "input.png"
    path.write_bytes(b"x" * 1000)
    assert pixel_limit(path, None) == 250_000_000
    with path.open("r+b") as file:
        file.truncate(10_000_000)
    assert pixel_limit(path, None) == 320_000_000
    assert pixel_limit(path, 1000) == 1000


def test_the_size_decides_where_a_result_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "free_host_memory", lambda: 40_000)
    assert not streaming.should_stream((25, 10), 2)  # 20 bytes for each of 1000 pixels: half of what is free
    assert streaming.should_stream((26, 10), 2)
    monkeypatch.setattr(streaming, "free_host_memory", lambda: None)
    assert not streaming.should_stream((12_500, 10_000), 2)
    assert streaming.should_stream((12_501, 10_000), 2)


# ---- arrays


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4])
def test_memory_maps_go_in_and_out_by_rows(
    upscaler: Upscaler, dtype: str, channels: int | None, tmp_path: Path
) -> None:
    values = natural(*SIZE, channels=channels or 1).permute(1, 2, 0)
    if channels in (2, 4):
        values[20:40, 10:50, -1] = 0
    peak = {"u1": 255, "u2": 65535, "f4": 1}[dtype]
    array = (values * peak).numpy().round(0 if peak > 1 else 7).astype(dtype)
    array = array[..., 0] if channels is None else array
    source = np.memmap(tmp_path / "source", dtype, "w+", shape=array.shape)
    source[:] = array
    target = np.memmap(tmp_path / "target", dtype, "w+", shape=(150, 180, *array.shape[2:]))
    upscaler.upscale_rows(source, target)
    assert np.array_equal(target, upscaler(array))


def test_only_rows_are_asked_of_an_array(upscaler: Upscaler) -> None:
    class Rows:
        """The least that an array must do."""

        def __init__(self, array: np.ndarray) -> None:
            self.array, self.shape, self.dtype, self.most = array, array.shape, array.dtype, 0

        def __getitem__(self, rows: slice) -> list[Any]:
            self.most = max(self.most, len(self.array[rows]))
            return self.array[rows].tolist()

        def __setitem__(self, rows: slice, values: np.ndarray) -> None:
            self.most = max(self.most, len(values))
            self.array[rows] = values

    source, target = Rows(natural(*SIZE).permute(1, 2, 0).numpy().astype("f8")), Rows(np.zeros((150, 180, 3)))
    upscaler.upscale_rows(source, target)
    assert source.most <= 32 < target.most <= 64
    assert np.array_equal(target.array, upscaler(source.array))


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (np.zeros((20, 20, 3)), np.zeros((40, 41, 3)), r"shape \(40, 40, 3\) and dtype float64, got \(40, 41, 3\)"),
        (np.zeros((20, 20, 3)), np.zeros((40, 40, 3), "f4"), r"dtype float64, got \(40, 40, 3\) and float32"),
        (np.zeros((4, 20, 3)), np.zeros((8, 40, 3)), "at least 8 x 8 pixels, got 4 x 20"),
        (np.zeros((20, 20, 5)), np.zeros((40, 40, 5)), "1 to 4 channels"),
        (np.full((20, 20, 3), 2.0), np.zeros((40, 40, 3)), "values from 2 to 2"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    upscaler: Upscaler, source: np.ndarray, target: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        upscaler.upscale_rows(source, target)


def test_a_network_for_which_images_are_extended_is_refused_unless_they_are_whole_windows(tmp_path: Path) -> None:
    settings = FAMILIES["ngram"].tiny["ngswin"]
    upscaler = Upscaler(FAMILIES["ngram"].network(settings=settings, scale=2), tiling=Tiling(tile=16, overlap=8))
    assert upscaler.network.mirrored_size((33, 32)) != (33, 32)
    write_image(tmp_path / "odd.png", torch.zeros(3, 33, 32))
    with pytest.raises(ImageReadError, match=r"odd\.png: 32 x 33 pixels are too few, or no whole windows"):
        upscaler.upscale_file(tmp_path / "odd.png", tmp_path / "out.png")
    array = np.zeros((33, 32, 3), np.uint8)
    with pytest.raises(ValueError, match="must be whole windows of this network to be upscaled by rows, got 33 x 32"):
        upscaler.upscale_rows(array, np.zeros((66, 64, 3), np.uint8))
    whole = upscaler.network.mirrored_size((32, 32))
    write_image(tmp_path / "even.png", torch.rand(3, *whole))
    assert_same(upscaler, tmp_path / "even.png")
