"""Third-party networks upscale as ours do, and files that nobody can use are refused in one sentence."""

from __future__ import annotations

import importlib.util
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from finescale import Upscaler
from finescale.engines import build_engine, choose_precision
from finescale.errors import (
    DeviceError,
    MissingExtraError,
    UnknownNetworkError,
    UnsafeWeightsError,
    WeightsError,
    WeightsMismatchError,
)
from finescale.networks import FAMILIES
from finescale.weights import load_by_spandrel, load_named
from finescale.weights.header import stated_licence
from finescale.weights.third_party import ThirdPartyNetwork
from helpers import seeded_input
from publishing import write

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid")  # by third-party code, once in each process

SMALL: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ESRGAN x4": ("ESRGAN", "ESRGAN", {"num_filters": 8, "num_blocks": 2, "scale": 4}),
    "RealESRGAN Compact x2": (
        "Compact",
        "Compact",
        {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_conv": 2, "upscale": 2},
    ),
    "SPAN x2": ("SPAN", "SPAN", {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 8, "upscale": 2}),
    "Swin2SR x2": (
        "Swin2SR",
        "Swin2SR",
        {
            "window_size": 8,
            "depths": [2],
            "embed_dim": 12,
            "num_heads": [2],
            "upscale": 2,
            "upsampler": "pixelshuffledirect",
        },
    ),
}
"""Architecture and scale as spandrel reports them; module and class in it, and the arguments of a small network."""


@pytest.fixture
def small(spandrel: ModuleType) -> Callable[[str], nn.Module]:
    """A seeded small network, by its name in the table above."""

    def build(name: str) -> nn.Module:
        module, kind, arguments = SMALL[name]
        torch.manual_seed(0)
        network: nn.Module = getattr(getattr(spandrel.architectures, module), kind)(**arguments)
        return network

    return build


@pytest.fixture
def esrgan(small: Callable[[str], nn.Module]) -> dict[str, Tensor]:
    return small("ESRGAN x4").state_dict()


# ---- networks that are read


@pytest.mark.parametrize("name", SMALL)
def test_a_third_party_file_upscales_pictures_of_any_size(
    name: str, small: Callable[[str], nn.Module], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network = small(name).eval()
    path = write({"params_ema": network.state_dict()}, tmp_path / "theirs.pth")
    with caplog.at_level(logging.INFO, logger="finescale"):
        upscaler = Upscaler.from_pretrained(path)
    told = f"{path}: read by spandrel as {name} (not one of finescale's networks)"
    assert upscaler.notes[0] == caplog.messages[0] == told
    image = seeded_input((1, 3, 24, 32))
    with torch.inference_mode():
        expected = network(image).clamp(0, 1)
    torch.testing.assert_close(upscaler(image), expected, rtol=0, atol=1e-6)
    for height, width in ((1, 1), (1, 7), (9, 21)):
        sr = upscaler(torch.rand(3, height, width))
        assert sr.shape == (3, upscaler.scale * height, upscaler.scale * width)


def test_a_size_that_the_network_needs_is_made_and_cropped(spandrel: ModuleType) -> None:
    sizes = spandrel.SizeRequirements(16, 8, square=True)
    network = ThirdPartyNetwork(descriptor_of(spandrel, Repeating(), size_requirements=sizes)).eval()
    assert network.period == 8
    images = torch.rand(2, 3, 9, 21)
    answer = network(images)
    assert network.model.sizes == [(24, 24), (24, 24)]
    assert torch.equal(answer, images.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))


def test_a_restoration_leaves_the_size(spandrel: ModuleType, tmp_path: Path, registered: Any) -> None:
    registered(Repeating(1), scale=1, purpose="Restoration")
    image = torch.rand(3, 5, 8)
    assert torch.equal(Upscaler.from_pretrained(write(MADE_UP, tmp_path / "net.pth"))(image), image)


@pytest.mark.parametrize("scale", [None, 4])
def test_the_scale_is_that_of_the_file(scale: int | None, esrgan: dict[str, Tensor], tmp_path: Path) -> None:
    assert Upscaler.from_pretrained(write(esrgan, tmp_path / "net.pth"), scale=scale).scale == 4


def test_another_scale_is_refused(esrgan: dict[str, Tensor], tmp_path: Path) -> None:
    path = write(esrgan, tmp_path / "net.pth")
    with pytest.raises(ValueError, match=f"^scale must be 4 for {re.escape(str(path))}, got 2$"):
        Upscaler.from_pretrained(path, scale=2)


def test_wrapper_prefix_and_licence_are_told(esrgan: dict[str, Tensor], tmp_path: Path) -> None:
    prefixed = {f"module.{key}": tensor.half() for key, tensor in esrgan.items()}
    loaded = load_by_spandrel(write({"params": prefixed}, tmp_path / "net.pth"))
    assert (loaded.format, loaded.wrapper, loaded.prefix, loaded.dtype) == ("torch", "params", "module.", "float16")
    assert stated_licence(loaded.header) is None
    assert next(loaded.network.parameters()).dtype is torch.float32
    safetensors.torch.save_file(esrgan, tmp_path / "net.safetensors", metadata={"modelspec.license": "CC0-1.0"})
    assert stated_licence(load_by_spandrel(tmp_path / "net.safetensors").header) == "CC0-1.0"


def test_reading_draws_no_random_numbers(esrgan: dict[str, Tensor], tmp_path: Path) -> None:
    path = write(esrgan, tmp_path / "net.pth")
    before = torch.random.get_rng_state()
    load_by_spandrel(path)
    assert torch.equal(before, torch.random.get_rng_state())


def test_an_unknown_device_is_refused(esrgan: dict[str, Tensor], tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="device 'nowhere' cannot be used"):
        load_by_spandrel(write(esrgan, tmp_path / "net.pth"), device="nowhere")


def test_ours_is_ours_whatever_spandrel_says(tmp_path: Path) -> None:
    family = FAMILIES["craft"]
    network = family.network(settings=family.tiny["craft"], scale=2)
    loaded = load_named(write(network.state_dict(), tmp_path / "net.pth"))
    assert isinstance(loaded.network, family.network)
    assert loaded.doubts == ()


# ---- precision


def test_a_precision_that_a_network_does_not_compute_in_is_refused(
    small: Callable[[str], nn.Module], tmp_path: Path
) -> None:
    path = write(small("Swin2SR x2").state_dict(), tmp_path / "net.pth")
    with pytest.raises(ValueError, match="precision must be 'auto', 'float32', 'bf16' for this network, got 'fp16'"):
        Upscaler.from_pretrained(path, precision="fp16")
    assert Upscaler.from_pretrained(path, precision="bf16").precision == "bf16"


def test_auto_is_float32_where_bfloat16_is_not_supported(
    spandrel: ModuleType, registered: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    path = write(MADE_UP, tmp_path / "net.pth")
    for supported, chosen in ((False, "float32"), (True, "bf16")):
        registered(Repeating(), supports_bfloat16=supported)
        network, device = load_by_spandrel(path).network, torch.device("cuda")
        offered = build_engine("torch", network, device=device).precisions
        assert choose_precision("auto", network, device=device, engine="torch", offered=offered) == chosen


# ---- files that cannot be used


def test_without_spandrel_the_remedy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    path = write({"some.weight": torch.zeros(2)}, tmp_path / "net.pth")
    known = f"known: {', '.join(FAMILIES)}; pip install 'finescale[spandrel]' may read it"
    with pytest.raises(UnknownNetworkError, match=f"^{re.escape(str(path))}: no known family .*{re.escape(known)}$"):
        Upscaler.from_pretrained(path)
    with pytest.raises(MissingExtraError):
        load_by_spandrel(path)


def test_a_spandrel_that_cannot_be_imported_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    monkeypatch.setitem(sys.modules, "spandrel", None)
    path = write({"some.weight": torch.zeros(2)}, tmp_path / "net.pth")
    with pytest.raises(UnknownNetworkError, match=r"spandrel, which may read it, cannot be imported \(import of span"):
        Upscaler.from_pretrained(path)


def test_a_file_that_nobody_knows_is_refused_by_both(spandrel: ModuleType, tmp_path: Path) -> None:
    path = write({"some.weight": torch.zeros(2)}, tmp_path / "net.pth")
    with pytest.raises(UnknownNetworkError, match=r"no known family .*; spandrel does not know it either$") as raised:
        Upscaler.from_pretrained(path)
    assert str(raised.value).count(str(path)) == 1


@pytest.mark.parametrize("path", ["model.0.weight", "model.1.sub.1.RDB2.conv3.0.weight", "model.10.bias"])
def test_tensors_that_do_not_fit_are_refused_in_one_sentence(
    path: str, esrgan: dict[str, Tensor], tmp_path: Path
) -> None:
    for tensor in (torch.zeros(7), torch.zeros(3, 3), torch.zeros(1, 2, 3, 4, 5)):
        with pytest.raises(WeightsMismatchError, match="spandrel takes it for ESRGAN, but cannot build") as raised:
            Upscaler.from_pretrained(write({**esrgan, path: tensor}, tmp_path / "net.pth"))
        assert "\n" not in str(raised.value)


def test_a_width_that_the_file_does_not_hold_is_refused_before_it_is_made(
    small: Callable[[str], nn.Module], tmp_path: Path
) -> None:
    state = small("SPAN x2").state_dict()
    state["conv_1.sk.weight"] = torch.zeros(20_000, 3, 1, 1)
    with pytest.raises(WeightsMismatchError, match="MemoryError: it would be many times as large as the file"):
        load_by_spandrel(write(state, tmp_path / "net.pth"))


def test_absurd_numbers_nan_and_code_are_refused_as_ever(esrgan: dict[str, Tensor], tmp_path: Path) -> None:
    with pytest.raises(WeightsMismatchError, match="counts more layers"):
        load_by_spandrel(write({**esrgan, "model.999999.weight": torch.zeros(2)}, tmp_path / "absurd.pth"))
    with pytest.raises(WeightsError, match=r"'model\.0\.bias' contains NaN"):
        load_by_spandrel(write({**esrgan, "model.0.bias": torch.full((8,), torch.nan)}, tmp_path / "nan.pth"))
    with pytest.raises(UnsafeWeightsError):
        load_by_spandrel(write({"params": esrgan, "hook": print}, tmp_path / "code.pth"))


def test_every_hostile_file_is_refused(spandrel: ModuleType, data_root: Path) -> None:
    for path in sorted((data_root / "hostile" / "weights").iterdir()):
        with pytest.raises(WeightsError, match=f"^{re.escape(str(path))}: [^\n]*$"):
            load_by_spandrel(path)


def test_networks_that_upscale_no_whole_pictures_are_refused(
    spandrel: ModuleType, registered: Any, tmp_path: Path
) -> None:
    path = write(MADE_UP, tmp_path / "net.pth")
    registered(Repeating(), purpose="FaceSR")
    with pytest.raises(WeightsError, match="read by spandrel as Made-up, which is made for faces alone"):
        load_by_spandrel(path)
    registered(Repeating(), output_channels=1)
    with pytest.raises(WeightsError, match="which takes 3 channels to 1; finescale needs as many out as in"):
        load_by_spandrel(path)
    registered(Repeating(), kind=spandrel.MaskedImageModelDescriptor)
    with pytest.raises(WeightsError, match="which fills in what a mask covers"):
        load_by_spandrel(path)


# ---- a network that spandrel is made to know


class Repeating(nn.Module):
    """Repeats pixels, and remembers the sizes that it was asked for."""

    def __init__(self, scale: int = 2) -> None:
        super().__init__()
        self.scale = scale
        self.made_up = nn.Parameter(torch.zeros(1))
        self.sizes: list[tuple[int, int]] = []

    def forward(self, image: Tensor) -> Tensor:
        self.sizes.append((image.shape[2], image.shape[3]))
        return image.repeat_interleave(self.scale, dim=2).repeat_interleave(self.scale, dim=3)


MADE_UP = {"made_up": torch.zeros(1)}


def descriptor_of(spandrel: ModuleType, network: nn.Module, *, kind: Any = None, **facts: Any) -> Any:
    class MadeUp(spandrel.Architecture):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__(id="Made-up", detect=lambda state: "made_up" in state)

        def load(self, state: Any) -> Any:
            return make(self, state)

    def make(architecture: Any, state: Any) -> Any:
        general = {"supports_half": True, "supports_bfloat16": True, "input_channels": 3, "output_channels": 3}
        special = {} if kind else {"scale": 2}
        purpose = "Inpainting" if kind else "SR"
        descriptor = kind or spandrel.ImageModelDescriptor
        return descriptor(
            network, state, architecture, **{"purpose": purpose, "tags": [], **general, **special, **facts}
        )

    return make(MadeUp(), MADE_UP)


@pytest.fixture
def registered(spandrel: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes spandrel know one network, and no other."""

    def register(network: nn.Module, **facts: Any) -> None:
        registry = spandrel.ArchRegistry()
        registry.add(spandrel.ArchSupport.from_architecture(descriptor_of(spandrel, network, **facts).architecture))
        monkeypatch.setattr(spandrel, "MAIN_REGISTRY", registry)

    return register
