"""A saved network comes back equal, whole or not at all, and its header states all that it is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from finescale import networks, weights
from finescale.errors import WeightsError
from finescale.networks import FAMILIES, Frame, FrameSettings
from heads import heads

TINY = [
    (family, variant, scale)
    for family in FAMILIES.values()
    for variant, settings in family.tiny.items()
    for scale in settings.scales
    if scale <= 4
]


@pytest.mark.parametrize(("family", "variant", "scale"), TINY, ids=lambda value: getattr(value, "name", value))
def test_a_saved_network_comes_back_equal(family: Any, variant: str, scale: int, tmp_path: Path) -> None:
    settings = family.tiny[variant].model_copy(update={"image_range": 2.0, "mean": (0.5, 0.5, 0.5)})
    network = family.network(settings=settings, scale=scale).eval()
    path = tmp_path / "net.safetensors"
    weights.save(network, path, source="a test")
    loaded = weights.load(path)
    assert (loaded.family, loaded.variant, loaded.scale, loaded.settings) == (family.name, None, scale, settings)
    assert loaded.notes == ()
    image = torch.rand(1, network.in_channels, 9, 7)
    with torch.inference_mode():
        assert torch.equal(loaded.network(image), network(image))


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize(("family", "settings", "scale"), heads())
def test_a_network_at_another_scale_comes_back_equal(
    family: Any, settings: FrameSettings, scale: int, channels: int, tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"in_channels": channels})
    network = family.network(settings=settings, scale=scale).eval()
    weights.save(network, tmp_path / "net.safetensors", source="a test")
    loaded = weights.load(tmp_path / "net.safetensors", scale=scale)
    assert (loaded.family, loaded.scale, loaded.settings) == (family.name, scale, settings)
    state, found = network.state_dict(), loaded.network.state_dict()
    assert list(found) == list(state)
    assert all(torch.equal(found[key], state[key]) for key in state)


def test_a_published_size_is_saved_under_its_name(tmp_path: Path) -> None:
    variant = "hit-sng"
    weights.save(networks.build(variant, scale=4), tmp_path / "net.safetensors", source="a test")
    facts = weights.inspect(tmp_path / "net.safetensors")
    assert (facts.variant, facts.nearest, facts.differs_in) == (variant, variant, ())
    assert facts.header["variant"] == variant


def test_the_header_states_everything_and_other_tools_read_the_tensors(network: Frame, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    weights.save(network, path, source="a test", licence="CC0-1.0", training={"lr": 5e-4, "crop": [64, 64]})
    with safetensors.safe_open(path, framework="pt") as file:
        header = file.metadata()
    settings = json.loads(header.pop("settings"))
    assert type(network.settings).model_validate(settings) == network.settings
    assert json.loads(header.pop("training")) == {"lr": 5e-4, "crop": [64, 64]}
    assert header == {
        "format": "pt",
        "finescale_format": "1",
        "family": "hit-sr",
        "scale": "2",
        "source": "a test",
        "licence": "CC0-1.0",
    }
    stored = safetensors.torch.load_file(path)
    assert stored.keys() == network.state_dict().keys()
    assert all(torch.equal(stored[key], tensor) for key, tensor in network.state_dict().items())


def test_the_same_network_gives_the_same_bytes(network: Frame, tmp_path: Path) -> None:
    for name in ("one", "two"):
        weights.save(network, tmp_path / f"{name}.safetensors", source="a test", training={"seed": 1})
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()


def test_memory_order_is_not_stored(network: Frame, tmp_path: Path) -> None:
    weights.save(network, tmp_path / "one.safetensors", source="a test")
    weights.save(network.to(memory_format=torch.channels_last), tmp_path / "two.safetensors", source="a test")
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()


def test_a_failed_save_leaves_the_old_file_and_nothing_else(
    network: Frame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"precious")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WeightsError, match=r"cannot be written .No space left"):
        weights.save(network, path, source="a test")
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_a_network_that_diverged_is_not_saved(network: Frame, tmp_path: Path) -> None:
    with torch.no_grad():
        network.conv_first.bias[3] = float("nan")
    with pytest.raises(WeightsError, match=r"'conv_first\.bias' contains NaN"):
        weights.save(network, tmp_path / "net.safetensors", source="a test")
    assert not list(tmp_path.iterdir())


def test_saving_under_another_ending_is_refused(network: Frame, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"saved as \.safetensors, got the name 'net\.pth'"):
        weights.save(network, tmp_path / "net.pth", source="a test")
