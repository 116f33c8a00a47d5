"""A weight file becomes a network in float32, on the device and at the scale that were asked for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from finescale import weights
from finescale.errors import DeviceError, SettingsError
from finescale.networks import Frame
from publishing import write


def test_the_content_decides_and_not_the_name(network: Frame, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    pickled = write(state, tmp_path / "pickled.safetensors")
    weights.save(network, tmp_path / "safe.safetensors", source="test")
    safe = (tmp_path / "safe.safetensors").rename(tmp_path / "safe.pth")
    legacy = write(state, tmp_path / "legacy.bin", _use_new_zipfile_serialization=False)
    formats = [weights.load(path).format for path in (pickled, safe, legacy)]
    assert formats == ["torch", "safetensors", "torch (legacy)"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_weights_become_float32_and_that_is_told(
    dtype: torch.dtype, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = write({key: tensor.to(dtype) for key, tensor in state.items()}, tmp_path / "file.pth")
    loaded = weights.load(path)
    name = str(dtype).removeprefix("torch.")
    assert loaded.dtype == name
    assert f"{name} is converted to float32" in loaded.notes
    assert {parameter.dtype for parameter in loaded.network.parameters()} == {torch.float32}


def test_loading_leaves_random_numbers_alone_and_the_network_ready(
    state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = write(state, tmp_path / "file.pth")
    before = torch.get_rng_state()
    assert not weights.load(path).network.training
    assert torch.equal(torch.get_rng_state(), before)


def test_another_scale_than_the_files_is_refused(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = write(state, tmp_path / "file.pth")
    assert weights.load(path, scale=2).scale == 2
    with pytest.raises(ValueError, match=re.escape(f"scale must be 2 for {path}, got 4")):
        weights.load(path, scale=4)


def test_wrong_settings_are_told_with_the_right_name(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = write(state, tmp_path / "file.pth")
    message = f"settings for {path}: unknown key 'img_range' (did you mean 'image_range'?)"
    with pytest.raises(SettingsError, match=f"^{re.escape(message)}"):
        weights.load(path, settings={"img_range": 4})


def test_an_unknown_device_is_told(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="device 'abacus' cannot be used"):
        weights.load(write(state, tmp_path / "file.pth"), device="abacus")
