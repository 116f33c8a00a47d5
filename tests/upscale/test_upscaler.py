from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from finescale import weights
from finescale.errors import DeviceError, ImageError, NumericalError
from finescale.images import Image
from finescale.networks import FAMILIES, Family, Frame, FrameSettings, from_options
from finescale.upscale import Tiling, Upscaler, upscaler
from heads import heads
from helpers import GOLDEN, load_case, seeded_state
from upscale.stand_ins import Convolutional, Limited, Nearest, StandIn, natural

CPU_ERROR = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried ..."
)


def whole(network: Convolutional, image: Tensor) -> Tensor:
    with torch.inference_mode():
        return network(image[None])[0].clamp(0, 1)


def test_by_default_a_small_image_goes_through_the_network_as_it_is() -> None:
    network = Convolutional()
    image = natural(40, 50)
    assert torch.equal(Upscaler(network)(image), whole(network, image))


@pytest.mark.parametrize("size", [(1, 2), (1, 200), (33, 97), (150, 190)])
@pytest.mark.parametrize("scale", [2, 3])
def test_tiles_join_to_the_whole_image_where_the_overlap_covers_the_reach(size: tuple[int, int], scale: int) -> None:
    network = Convolutional(scale=scale)
    image = natural(*size)
    is_tiny = min(size) < 8  # such an image is extended: tests/upscale/test_tiny.py
    expected = Upscaler(network, tiling=Tiling(tile=0))(image) if is_tiny else whole(network, image)
    tiled = Upscaler(network, tiling=Tiling(tile=48, overlap=4 * network.reach))(image)
    torch.testing.assert_close(tiled, expected, rtol=0, atol=1e-5)


def test_a_batch_is_upscaled_image_by_image() -> None:
    upscaler = Upscaler(Convolutional(), tiling=Tiling(tile=32))
    batch = torch.stack([natural(40, 50), natural(40, 50).flip(1)])
    assert torch.equal(upscaler(batch), torch.stack([upscaler(image) for image in batch]))


def test_gray_goes_through_a_colour_network_as_equal_channels_and_comes_back_as_their_mean() -> None:
    network = Convolutional()
    gray = natural(20, 30, channels=1)
    with torch.inference_mode():
        expected = network(gray.expand(3, -1, -1)[None])[0].mean(0, keepdim=True).clamp(0, 1)
    torch.testing.assert_close(Upscaler(network)(gray), expected, rtol=0, atol=1e-6)


def test_colour_goes_through_a_gray_network_channel_by_channel() -> None:
    upscaler = Upscaler(Convolutional(in_channels=1))
    color = natural(20, 30)
    assert torch.equal(upscaler(color), torch.cat([upscaler(channel[None]) for channel in color]))


@pytest.mark.parametrize("channels", [2, 4])
def test_a_network_for_other_images_than_pictures_is_refused(channels: int) -> None:
    with pytest.raises(ValueError, match=rf"takes images of {channels} channels, .*tensors \(N, {channels}, H, W\)$"):
        Upscaler(Convolutional(in_channels=channels))


@pytest.mark.parametrize(("family", "settings", "scale"), heads(["span"]))
def test_a_network_at_another_scale_works_in_tiles_and_on_a_few_pixels(
    family: Family, settings: FrameSettings, scale: int
) -> None:
    torch.manual_seed(0)
    network = family.network(settings=settings, scale=scale)
    image = natural(48, 40)
    whole, tiled = (Upscaler(network, tiling=Tiling(tile=tile))(image) for tile in (0, 32))
    assert whole.shape == tiled.shape == (3, 48 * scale, 40 * scale)
    assert (tiled - whole).pow(2).mean().sqrt() < 0.2 * whole.std()
    pixel = torch.tensor([0.2, 0.5, 0.9])[:, None, None]
    torch.testing.assert_close(Upscaler(network)(pixel), pixel.expand(3, scale, scale), rtol=0, atol=1e-6)


def chopped(network: Convolutional, lr: Tensor) -> Tensor:
    """The published rule, restated step by step for one image (C, H, W)."""
    height, width = lr.shape[1:]
    s = network.scale
    parts = [side // 200 + 1 for side in (height, width)]
    padded = [-(-side // n) * n for side, n in zip((height, width), parts, strict=True)]
    lr = torch.cat((lr, lr.flip(1)[:, : padded[0] - height]), 1)
    lr = torch.cat((lr, lr.flip(2)[:, :, : padded[1] - width]), 2)
    rows = []
    for i in range(parts[0]):
        row = []
        for j in range(parts[1]):
            ends, keep = [], []
            for index, n, length in ((i, parts[0], padded[0]), (j, parts[1], padded[1])):
                part, before = length // n, 16 if index > 0 else 0
                ends.append((index * part - before, length if index == n - 1 else (index + 1) * part + 16))
                keep.append((before * s, (before + part) * s))
            sr = network(lr[None, :, slice(*ends[0]), slice(*ends[1])])[0]
            row.append(sr[:, slice(*keep[0]), slice(*keep[1])])
        rows.append(torch.cat(row, 2))
    return torch.cat(rows, 1)[:, : height * s, : width * s].clamp(0, 1)


@pytest.mark.parametrize("size", [(30, 199), (401, 200), (210, 601)])
def test_chop_is_the_published_rule(size: tuple[int, int]) -> None:
    network = Convolutional()
    image = natural(*size)
    with torch.inference_mode():
        expected = chopped(network, image)
    assert torch.equal(Upscaler(network, tiling=Tiling(rule="chop"))(image), expected)


class Dimmed(StandIn):
    """A network's answer, brought into the range of images, where nothing is clamped."""

    def __init__(self, network: Frame, golden: Tensor) -> None:
        super().__init__()
        self.network, self.golden = network, golden
        self.scale, self.in_channels, self.period = network.scale, network.in_channels, network.period

    def forward(self, lr: Tensor) -> Tensor:
        return self.dim(self.network(lr))

    def dim(self, sr: Tensor) -> Tensor:
        return 0.5 + 0.4 * sr / self.golden.abs().max()

    def undo(self, image: Tensor) -> Tensor:
        return (image - 0.5) / 0.4 * self.golden.abs().max()


@pytest.mark.parametrize(
    ("name", "tiling"),
    [
        ("drct/tile/pad_tile_16_8", Tiling(rule="pad", tile=16, overlap=8)),
        ("drct/tile/pad_tile_24_16", Tiling(rule="pad", tile=24, overlap=16)),
        ("drct/tile/overlap_tile_16_8", Tiling(rule="average", tile=16, overlap=8)),
        ("hat/tile/pad_tile_16_8", Tiling(rule="pad", tile=16, overlap=8)),
    ],
)
def test_the_rules_of_hat_and_drct_are_the_published_ones(name: str, tiling: Tiling) -> None:
    case = load_case(GOLDEN / f"{name}.npz")
    network = from_options(case.options)
    network.load_state_dict(seeded_state(case.shapes))
    dimmed = Dimmed(network, case.output)
    result = Upscaler(dimmed, tiling=tiling)(case.input)
    torch.testing.assert_close(dimmed.undo(result), case.output, rtol=0, atol=1e-4)


class Windowed(Nearest):
    """Takes whole windows of 8 x 8 pixels only."""

    def __init__(self) -> None:
        super().__init__()
        self.period = 8

    def forward(self, lr: Tensor) -> Tensor:
        assert lr.shape[2] % self.period == lr.shape[3] % self.period == 0
        return super().forward(lr)


@pytest.mark.parametrize("size", [(1, 1), (3, 70), (16, 17), (45, 64)])
@pytest.mark.parametrize("rule", ["pad", "average"])
def test_the_rules_of_drct_give_the_network_whole_windows_and_keep_the_image(rule: str, size: tuple[int, int]) -> None:
    image = natural(*size)
    result = Upscaler(Windowed(), tiling=Tiling(rule=rule, tile=16, overlap=0))(image)
    torch.testing.assert_close(result, Nearest()(image[None])[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("tiling", "message"),
    [
        (Tiling(rule="pad", tile=20, overlap=8), "tile must be a multiple of 8, .* for rule 'pad', got 20; use"),
        (Tiling(rule="pad", tile=16, overlap=4), "overlap must be a multiple of 8, .* for rule 'pad', got 4; use"),
        (
            Tiling(rule="average", tile=20, overlap=4),
            "tile must be a multiple of 8, .* for rule 'average', got 20; use",
        ),
    ],
)
def test_tiles_of_a_published_rule_that_are_no_whole_windows_are_refused(tiling: Tiling, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Upscaler(Windowed(), tiling=tiling)


def test_an_image_too_small_for_the_average_is_an_error_of_the_image() -> None:
    upscaler = Upscaler(Windowed(), tiling=Tiling(rule="average", tile=64, overlap=32))
    assert upscaler(natural(70, 70)).shape == (3, 140, 140)
    with pytest.raises(ImageError, match=r"an image of 20 x 100 pixels makes tiles of 24 pixels .* overlap=32; use"):
        upscaler(natural(20, 100))


def test_progress_counts_every_tile() -> None:
    seen: list[tuple[int, int]] = []
    upscaler = Upscaler(Nearest(), tiling=Tiling(tile=64, overlap=8))
    upscaler(natural(100, 64), on_tile=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


@pytest.mark.parametrize("error", [None, CPU_ERROR], ids=["device", "host"])
@pytest.mark.parametrize("tile", ["auto", 448])
def test_tiles_that_do_not_fit_are_halved_and_the_image_is_done_again(
    error: Exception | None, tile: int | str, caplog: pytest.LogCaptureFixture
) -> None:
    network = Limited(pixels=70 * 70, error=error)
    image = natural(300, 260)
    with caplog.at_level(logging.WARNING, logger="finescale"):
        result = Upscaler(network, tiling=Tiling(tile=tile))(image)
    torch.testing.assert_close(result, F.interpolate(image[None], scale_factor=2)[0], rtol=0, atol=1e-6)
    assert "tiles of 300 pixels do not fit on cpu; trying 150" in caplog.text
    assert "tiles of 150 pixels do not fit" not in caplog.text or "trying 75" in caplog.text


class Failing(Nearest):
    """Answers garbage for large tiles, and fails at the third of them."""

    def __init__(self) -> None:
        super().__init__()
        self.large = 0

    def forward(self, lr: Tensor) -> Tensor:
        if lr.shape[3] < 50:
            return super().forward(lr)
        self.large += 1
        if self.large == 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return torch.full_like(super().forward(lr), 0.123)


def test_nothing_of_a_failed_attempt_is_left_in_the_result() -> None:
    image = natural(100, 100)
    network = Failing()
    result = Upscaler(network, tiling=Tiling(tile=64))(image)
    assert network.large == 3
    torch.testing.assert_close(result, F.interpolate(image[None], scale_factor=2)[0], rtol=0, atol=1e-6)


def test_a_device_too_small_for_the_smallest_tile_is_named() -> None:
    network = Limited(pixels=500)
    with pytest.raises(DeviceError, match="device 'cpu' has too little free memory for even a tile of 32 pixels"):
        Upscaler(network, tiling=Tiling(tile=100))(natural(100, 100))
    assert network.asked[-1] == (31, 31)


@pytest.mark.parametrize(
    ("tiling", "asked"),
    [
        (Tiling(tile=0), "tile=0 requires; use tile='auto'"),
        (Tiling(rule="chop"), "rule='chop' requires; use rule='blend'"),
        (Tiling(rule="pad", tile=64, overlap=0), "rule='pad' requires; use rule='blend'"),
    ],
)
def test_a_tiling_asked_for_by_name_is_never_replaced(tiling: Tiling, asked: str) -> None:
    with pytest.raises(DeviceError, match=f"tile of 60 x 50 pixels, which {asked}"):
        Upscaler(Limited(pixels=1000), tiling=tiling)(natural(60, 50))


def test_other_errors_of_a_network_pass() -> None:
    network = Limited(pixels=10, error=RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        Upscaler(network)(natural(20, 20))


def test_a_result_larger_than_the_host_is_refused_before_it_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upscaler, "free_memory", lambda device: 10_000)
    with pytest.raises(DeviceError, match=r"a result of 80 x 60 pixels takes 0\.0 GiB of host memory"):
        Upscaler(Nearest())(natural(40, 30))


class Overflowing(Nearest):
    def forward(self, lr: Tensor) -> Tensor:
        return super().forward(lr) * float("inf")


@pytest.mark.parametrize("precision", ["float32", "bf16", "fp16"])
def test_an_answer_that_is_not_finite_is_refused(precision: str) -> None:
    with pytest.raises(NumericalError, match="result in precision 'float32' is not finite"):
        Upscaler(Overflowing(), precision=precision)(natural(20, 20))


class Narrow(Nearest):
    """Its product leaves the range of float16 where a tile is bright."""

    def forward(self, lr: Tensor) -> Tensor:
        by = torch.full((lr.shape[3], lr.shape[3]), 2000.0)
        return super().forward(lr) + 1e-9 * (lr.mean(1, keepdim=True) @ by).float().repeat(1, 1, 2, 2)


@pytest.mark.parametrize("ensemble", [False, True])
def test_a_tile_that_overflows_in_half_precision_is_done_again_in_float32_and_told(
    ensemble: bool, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = natural(64, 128)
    pixels[:, :, :64] *= 0.1  # dark, and within range
    pixels[:, :, 64:] = 0.9 + 0.1 * pixels[:, :, 64:]
    tiling = Tiling(tile=64, overlap=0)
    exact = Upscaler(Narrow(), tiling=tiling, ensemble=ensemble)(pixels)
    with caplog.at_level(logging.WARNING, logger="finescale"):
        result = Upscaler(Narrow(), tiling=tiling, ensemble=ensemble, precision="fp16")(Image(pixels=pixels))
    note = "1 tile was recomputed in float32, since the result in fp16 was not finite"
    assert result.notes == (note,)
    assert caplog.messages == [note]
    assert torch.equal(result.pixels[:, :, 128:], exact[:, :, 128:])
    torch.testing.assert_close(result.pixels, exact, rtol=0, atol=1e-4)


def test_nothing_is_told_where_half_precision_suffices(caplog: pytest.LogCaptureFixture) -> None:
    pixels = 0.1 * natural(32, 32)
    with caplog.at_level(logging.WARNING, logger="finescale"):
        assert Upscaler(Narrow(), precision="fp16")(Image(pixels=pixels)).notes == ()
    assert not caplog.messages


def test_an_upscaler_serves_several_threads() -> None:
    upscaler = Upscaler(Convolutional(), tiling=Tiling(tile=48, overlap=16))
    images = [natural(60 + 7 * index, 90) for index in range(6)]
    with ThreadPoolExecutor(3) as threads:
        results = list(threads.map(upscaler, images))
    assert all(torch.equal(result, upscaler(image)) for result, image in zip(results, images, strict=True))


def test_tiles_start_where_the_windows_of_the_network_do() -> None:
    class Mean(Nearest):
        """Takes the mean of each 24 x 24 window."""

        period = 24

        def forward(self, lr: Tensor) -> Tensor:
            means = F.avg_pool2d(lr, self.period, ceil_mode=True)
            return F.interpolate(means, scale_factor=2 * self.period)[..., : 2 * lr.shape[2], : 2 * lr.shape[3]]

    image = natural(192, 145)
    expected = Upscaler(Mean(), tiling=Tiling(tile=0))(image)
    tiled = Upscaler(Mean(), tiling=Tiling(tile=100, overlap=50))(image)
    assert (tiled - expected).abs().mean() < 0.001


def test_pretrained_weights_are_found_by_path(tmp_path: Path) -> None:
    family = FAMILIES["hit-sr"]
    network = family.network(settings=family.tiny["hit-sir"], scale=3)
    path = tmp_path / "tiny.safetensors"
    weights.save(network, path, source="test")
    upscaler = Upscaler.from_pretrained(path, scale=3, tiling=Tiling(tile=64), ensemble=True, precision="bf16")
    assert (upscaler.scale, upscaler.tiling.tile, upscaler.ensemble, upscaler.precision) == (3, 64, True, "bf16")
    image = natural(20, 20)
    assert torch.equal(Upscaler.from_pretrained(path)(image), Upscaler(network)(image))
    with pytest.raises(ValueError, match=r"scale must be 3 for .*tiny\.safetensors, got 4"):
        Upscaler.from_pretrained(path, scale=4)


def test_the_network_is_set_to_evaluation() -> None:
    network = Convolutional().train()
    assert not Upscaler(network).network.training


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_near_and_answers_in_float32(precision: str) -> None:
    network = Convolutional()
    image = natural(40, 50)
    result = Upscaler(network, precision=precision)(image)
    assert result.dtype == torch.float32
    expected = whole(network, image)
    assert 0 < (result - expected).abs().max() < 0.01


def test_auto_precision_on_the_cpu_is_float32() -> None:
    assert Upscaler(Nearest(), precision="auto").precision == "float32"


def test_wrong_devices_and_precisions_are_refused() -> None:
    with pytest.raises(ValueError, match="device must be 'cpu', 'cuda' or 'cuda:0', got 'gpu'"):
        Upscaler(Nearest(), device="gpu")
    with pytest.raises(DeviceError, match="there is no device 'cuda:99'"):
        Upscaler(Nearest(), device="cuda:99")
    with pytest.raises(ValueError, match="precision must be 'auto', 'float32', 'bf16', 'fp16', got 'half'"):
        Upscaler(Nearest(), precision="half")
