from __future__ import annotations

from collections.abc import Collection

import pytest
import torch
from torch import nn

from finescale.engines import DTYPES, choose_precision, precision
from finescale.networks import FAMILIES

CPU = torch.device("cpu")


@pytest.fixture
def bf16_in_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)


def tiny(family: str) -> nn.Module:
    settings = next(iter(FAMILIES[family].tiny.values()))
    return FAMILIES[family].network(settings=settings, scale=2)


def auto(network: nn.Module, *, device: str = "cpu", engine: str = "torch", offered: Collection[str] = DTYPES) -> str:
    return choose_precision("auto", network, device=torch.device(device), engine=engine, offered=offered)


@pytest.mark.usefixtures("bf16_in_hardware")
@pytest.mark.parametrize("family", FAMILIES)
def test_auto_on_a_cpu_with_bf16_takes_it_for_the_families_that_gain_by_it(family: str) -> None:
    expected = "bf16" if FAMILIES[family].gains_by_bf16_on_cpu else "float32"
    assert auto(tiny(family)) == expected
    assert auto(tiny(family), engine="openvino", offered=("float32", "bf16")) == "bf16"


@pytest.mark.usefixtures("bf16_in_hardware")
def test_auto_on_a_cpu_is_float32_for_a_network_that_was_not_measured() -> None:
    assert auto(nn.Identity()) == "float32"


@pytest.mark.usefixtures("bf16_in_hardware")
def test_auto_is_float32_where_bf16_is_not_offered() -> None:
    assert auto(tiny("hit-sr"), offered=("float32",)) == "float32"


@pytest.mark.parametrize("capabilities", [{}, {"avx512_bf16": False, "avx512_f": True}])
def test_auto_on_a_cpu_without_bf16_is_float32(capabilities: dict[str, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert auto(tiny("hit-sr")) == "float32"


def test_a_pytorch_that_cannot_tell_is_taken_for_one_without_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not precision.cpu_has_bf16()


@pytest.mark.parametrize(("capability", "chosen"), [((7, 5), "float32"), ((8, 0), "bf16")])
def test_auto_on_cuda_is_bf16_where_the_device_has_it(
    capability: tuple[int, int], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert auto(nn.Identity(), device="cuda") == chosen


def test_what_is_asked_for_is_taken_or_refused() -> None:
    for asked in ("float32", "bf16", "fp16"):
        assert choose_precision(asked, nn.Identity(), device=CPU, engine="torch", offered=tuple(DTYPES)) == asked
    with pytest.raises(ValueError, match="precision must be 'auto', 'float32', 'bf16' for this network, got 'fp16'"):
        choose_precision("fp16", nn.Identity(), device=CPU, engine="openvino", offered=("float32", "bf16"))
