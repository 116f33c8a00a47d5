from __future__ import annotations

import builtins
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from finescale.engines import build_engine
from finescale.errors import MissingExtraError
from finescale.networks import FAMILIES
from finescale.upscale import Upscaler
from upscale.stand_ins import Convolutional, natural

CPU = torch.device("cpu")


def test_pytorch_calls_the_network_as_it_is() -> None:
    network, images = Convolutional(), natural(9, 7)[None]
    assert torch.equal(build_engine("torch", network, device=CPU)(images, precision="float32"), network(images))


def test_half_precision_answers_in_float32() -> None:
    network, images = Convolutional(), natural(9, 7)[None]
    answer = build_engine("torch", network, device=CPU)(images, precision="bf16")
    assert answer.dtype == torch.float32
    assert 0 < (answer - network(images)).abs().max() < 0.01


def test_the_compiler_gets_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    network, compiled = nn.Identity(), Convolutional()
    given: list[Any] = []

    def compile_network(what: nn.Module, *, dynamic: bool) -> nn.Module:
        assert dynamic
        given.append(what)
        return compiled

    monkeypatch.setattr(torch, "compile", compile_network)
    images = natural(9, 7)[None]
    answer = build_engine("compile", network, device=CPU)(images, precision="float32")
    assert given == [network]
    assert torch.equal(answer, compiled(images))


def test_the_compiler_compiles_once_for_all_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs: list[Any] = []

    def count(graph: Any, _inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=count))
    network = Convolutional()
    engine = build_engine("compile", network, device=CPU)
    for height, width in ((9, 7), (12, 20), (31, 8)):
        images = natural(height, width)[None]
        with torch.inference_mode():
            assert torch.equal(engine(images, precision="float32"), network(images))
    assert len(graphs) == 1


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(ValueError, match="engine must be 'auto', 'torch', 'compile', 'openvino', got 'onnx'"):
        Upscaler(Convolutional(), engine="onnx")  # type: ignore[arg-type]


def test_openvino_takes_neither_another_device_nor_others_networks() -> None:
    with pytest.raises(ValueError, match="computes on device 'cpu', got 'cuda:1'; use engine 'torch'"):
        build_engine("openvino", nn.Identity(), device=torch.device("cuda:1"))
    with pytest.raises(ValueError, match="supports networks of weight files, got another module; use engine 'torch'"):
        build_engine("openvino", nn.Identity(), device=CPU)


def test_without_openvino_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    known = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "openvino":
            raise ImportError(name)
        return known(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    family = FAMILIES["span"]
    network = family.network(settings=family.tiny["span"], scale=2)
    with pytest.raises(MissingExtraError, match=r"not installed; pip install 'finescale\[export\]'"):
        build_engine("openvino", network, device=CPU)
