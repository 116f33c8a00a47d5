from __future__ import annotations

import math

import pytest
import torch

from finescale.errors import DeviceError
from finescale.upscale import Tiling, Upscaler, memory
from finescale.upscale import upscaler as upscaler_module
from finescale.upscale.memory import LiveBytes, largest_tile, measure_bytes_per_pixel
from upscale.stand_ins import Convolutional, Limited, natural

CPU = torch.device("cpu")
MIB = 2**20


def test_live_bytes_counts_what_exists_at_once() -> None:
    given = torch.zeros(1000)
    with LiveBytes() as live:
        first = given + 1
        view = first[10:]
        assert live.live == 4000
        second = view.double()
        assert live.live == 4000 + 990 * 8
        del first, view
        assert live.live == 990 * 8
        second.add_(1)
        del second
    assert live.live == 0
    assert live.peak == 4000 + 990 * 8


def test_live_bytes_counts_in_inference_mode() -> None:
    network = Convolutional(width=32)
    with torch.inference_mode(), LiveBytes() as live:
        network(torch.zeros(1, 3, 40, 50))
    assert live.peak >= 2 * 32 * 40 * 50 * 4


def test_the_estimate_grows_with_the_width_of_the_network() -> None:
    narrow, wide = (Upscaler(Convolutional(width=width)).bytes_per_pixel for width in (16, 64))
    assert narrow >= 2 * 16 * 4
    assert 2.5 < wide / narrow < 4


def test_the_estimate_is_an_upper_bound_for_larger_tiles() -> None:
    upscaler = Upscaler(Convolutional())
    image = natural(250, 200)
    with torch.inference_mode(), LiveBytes() as live:
        upscaler.network(image[None])
    assert live.peak <= upscaler.bytes_per_pixel * 250 * 200 <= 2 * live.peak


def test_the_estimate_is_measured_on_a_smaller_probe_where_the_first_does_not_fit() -> None:
    network = Limited(pixels=64 * 64)
    assert measure_bytes_per_pixel(network, 3, CPU) == pytest.approx(1.5 * 3 * 4 * 6)
    assert max(network.asked) == (128, 128)


def test_a_device_for_which_every_probe_is_too_large_is_named() -> None:
    with pytest.raises(DeviceError, match="device 'cpu' has too little free memory for even a tile of 32 pixels"):
        measure_bytes_per_pixel(Limited(pixels=0), 3, CPU)


@pytest.mark.parametrize(
    ("size", "budget", "expected"),
    [
        ((448, 448), 448 * 448, 0),
        ((448, 448), 448 * 448 - 1, 256),
        ((449, 10), 10**9, 256),
        ((5000, 4000), 10**9, 256),
        ((5000, 4000), 200 * 200, 192),
        ((5000, 4000), 63 * 63, 32),
        ((100, 100), 1, 32),
    ],
)
def test_the_largest_tile_that_fits_a_budget(size: tuple[int, int], budget: int, expected: int) -> None:
    assert largest_tile(size, budget=budget, bytes_per_pixel=1) == expected


def test_the_estimate_is_half_as_much_again_as_what_is_counted() -> None:
    network = Convolutional()
    with torch.inference_mode(), LiveBytes() as live:
        network(torch.zeros(1, 3, 128, 128))
    counted = live.peak - 3 * 4 * 128 * 128  # the image was made before the estimate begins to count
    with torch.inference_mode():
        assert measure_bytes_per_pixel(network, 3, CPU) == pytest.approx(1.5 * counted / 128**2)


@pytest.mark.parametrize(("missing", "side"), [(0, 192), (1, 128)])
def test_a_tile_takes_half_of_the_free_memory(missing: int, side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Limited(pixels=10**9)
    upscaler = Upscaler(network)
    free = 2 * math.ceil(192**2 * upscaler.bytes_per_pixel) - 2 * missing
    monkeypatch.setattr(upscaler_module, "free_memory", lambda _device: free)
    network.asked.clear()
    upscaler(natural(449, 4))
    assert side - 64 < max(height for height, _ in network.asked) <= side


@pytest.mark.parametrize(
    ("fraction", "free"),
    [
        (1.0, 700),  # 600 free and 300 reserved, of which 200 are in use
        (0.5, 300),  # 500 allowed, 200 in use
        (0.1, 0),
    ],
)
def test_free_memory_of_a_cuda_device_heeds_reserved_blocks_and_the_limit_of_the_process(
    fraction: float, free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fraction_of(device: torch.device) -> float:
        assert device.index is not None, "PyTorch needs the device's number here"
        return fraction

    facts = {"mem_get_info": (600, 1000), "memory_reserved": 300, "memory_allocated": 200}
    for name, fact in facts.items():
        monkeypatch.setattr(torch.cuda, name, lambda _device, fact=fact: fact)
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", fraction_of)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    assert memory.free_memory(torch.device("cuda")) == free


def test_free_memory_is_known_here_and_plausible() -> None:
    free = memory.free_memory(CPU)
    assert free is None or 2**20 < free < 2**50


def test_what_tiles_take_does_not_depend_on_the_size_of_the_image() -> None:
    class Watched(Convolutional):
        """Notes the peak of each forward."""

        def forward(self, lr: torch.Tensor) -> torch.Tensor:
            with LiveBytes() as live:
                sr = super().forward(lr)
            peaks.append(live.peak)
            return sr

    upscaler = Upscaler(Watched(), tiling=Tiling(tile=64, overlap=16))
    found = []
    for side in (112, 208, 400):
        peaks: list[int] = []
        upscaler(natural(side, side))
        found.append(max(peaks))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("megabytes", [1, 4])
def test_tiles_planned_by_auto_stay_within_the_budget(megabytes: int) -> None:
    asked: list[int] = []

    class Watched(Convolutional):
        def forward(self, lr: torch.Tensor) -> torch.Tensor:
            with LiveBytes() as live:
                sr = super().forward(lr)
            asked.append(live.peak)
            return sr

    upscaler = Upscaler(Watched(), tiling=Tiling(max_memory=megabytes * MIB))
    assert upscaler.bytes_per_pixel > 0
    asked.clear()
    upscaler(natural(330, 290))
    assert megabytes * MIB / 8 < max(asked) <= megabytes * MIB
