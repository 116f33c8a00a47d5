"""Which engine "auto" is, from the network, the device and the sizes of a run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from finescale.engines import choice, choose_engine
from finescale.networks import FAMILIES
from finescale.upscale import Tiling, Upscaler
from finescale.upscale.memory import OPENVINO_MEMORY
from heads import one_block
from upscale.stand_ins import natural

CPU = torch.device("cpu")


class Sized(nn.Module):
    """Claims a number of parameters without memory."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, device="meta"))


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda _package: object())


@pytest.fixture
def faster(installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO is twice as fast, whatever the network."""
    monkeypatch.setattr(choice, "openvino_speed", lambda _network: 2.0)


def engine_of(sizes: list[tuple[int, int]], **changes: Any) -> str:
    return choose_engine(Sized(1_000_000), device=CPU, sizes=sizes, **{"whole": 448, **changes}).engine


@pytest.mark.usefixtures("faster")
def test_a_run_repays_a_translation_and_each_size() -> None:
    """A million parameters take a second for 40,000 pixels, of which OpenVINO saves a half: 90 s, and 3 s a size."""
    assert engine_of([(200, 200)] * 186) == "torch"
    assert engine_of([(200, 200)] * 187) == "openvino"
    assert engine_of([(200, 200)] * 95 + [(100, 400)] * 97) == "torch"
    assert engine_of([(200, 200)] * 96 + [(100, 400)] * 97) == "openvino"


@pytest.mark.usefixtures("faster")
def test_tiles_have_up_to_four_sizes_and_an_ensemble_turns_them() -> None:
    assert engine_of([(1000, 1000)] * 8, whole=2000) == "openvino"  # 200 s
    assert engine_of([(1000, 1000)] * 8) == "torch"
    assert engine_of([(200, 200)] * 24, passes=8) == "torch"  # 192 s
    assert engine_of([(200, 200)] * 25, passes=8) == "openvino"


def test_a_device_that_is_no_cpu_keeps_pytorch() -> None:
    chosen = choose_engine(Sized(1), device=torch.device("cuda"), sizes=[(10**6, 10**6)], whole=448)
    assert chosen == ("torch", "OpenVINO computes on CPUs only")


def test_a_missing_openvino_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda package: None if package == "openvino" else object())
    assert choose_engine(one_block("pixelshuffledirect", 2), device=CPU, sizes=[], whole=448) == (
        "torch", "OpenVINO is not installed"
    )  # fmt: skip


@pytest.mark.usefixtures("installed")
def test_networks_that_openvino_does_not_speed_up_keep_pytorch() -> None:
    span = FAMILIES["span"]
    network = span.network(settings=span.tiny["span"], scale=2)
    for one in (network, nn.Identity()):
        chosen = choose_engine(one, device=CPU, sizes=[(10**6, 10**6)], whole=448)
        assert chosen == ("torch", "OpenVINO is not known to be faster for this network")


def test_an_upscaler_resolves_auto_by_its_images(monkeypatch: pytest.MonkeyPatch) -> None:
    network, image = one_block("pixelshuffledirect", 2), natural(20, 24)
    upscaler = Upscaler(network.eval(), engine="auto", tiling=Tiling(tile=0))
    assert upscaler.resolved([image.shape[-2:]]).engine == "torch"
    assert torch.equal(upscaler(image), Upscaler(network)(image))
    assert upscaler.resolved([]) is upscaler.resolved([])


def test_openvino_is_planned_with_the_memory_that_it_takes() -> None:
    pytest.importorskip("openvino")
    upscaler = Upscaler(one_block("pixelshuffledirect", 2), engine="auto")
    planned = upscaler.by("openvino").bytes_per_pixel
    assert planned == OPENVINO_MEMORY * upscaler.bytes_per_pixel
