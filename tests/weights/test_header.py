"""The header of our files is checked against the tensors before anything is built by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

from finescale import weights
from finescale.errors import WeightsError, WeightsMismatchError
from finescale.networks import Frame


def forge(network: Frame, path: Path, **changes: str) -> Path:
    """A file of ours with a changed header."""
    weights.save(network, path, source="a test")
    with safetensors.safe_open(path, framework="pt") as file:
        header = {**file.metadata(), **changes}
    safetensors.torch.save_file(safetensors.torch.load_file(path), path, metadata=header)
    return path


@pytest.mark.parametrize(
    ("changes", "error", "reason"),
    [
        ({"finescale_format": "2"}, WeightsError, "has format '2', this version reads '1'; update finescale"),
        ({"family": "swin"}, WeightsMismatchError, "states family 'swin', but its keys are hit-sr's"),
        ({"scale": "4"}, WeightsMismatchError, "states scale = 4, but its tensors show 2"),
        ({"scale": "two"}, WeightsError, "damaged header"),
        ({"settings": "{"}, WeightsError, "damaged header"),
        ({"settings": "[" * 100_000}, WeightsError, "damaged header"),
        ({"settings": "[]"}, WeightsError, "damaged header"),
        ({"settings": '{"depth": 3}'}, WeightsError, "settings in its header: unknown key 'depth'"),
        ({"settings": "{}"}, WeightsMismatchError, "states embed_dim = 60, but its tensors show 16"),
    ],
)
def test_a_header_that_is_wrong_is_refused(
    changes: dict[str, str], error: type[Exception], reason: str, network: Frame, tmp_path: Path
) -> None:
    with pytest.raises(error, match=reason):
        weights.load(forge(network, tmp_path / "net.safetensors", **changes))


def test_a_header_that_claims_a_billion_layers_is_refused_at_once(network: Frame, tmp_path: Path) -> None:
    settings = network.settings.model_dump(mode="json") | {"depths": [10**9, 1], "window_ratios": [1] * 10}
    with pytest.raises(WeightsError, match=r"window_ratios|depths"):
        weights.load(forge(network, tmp_path / "net.safetensors", settings=json.dumps(settings)))


@pytest.mark.parametrize("change", [{"window_ratios": [0.5, 1e15]}, {"mlp_ratio": 1e6}, {"mlp_ratio": 1e30}])
def test_a_header_that_claims_huge_layers_is_refused_at_once(
    change: dict[str, Any], network: Frame, tmp_path: Path
) -> None:
    settings = network.settings.model_dump(mode="json") | change
    with pytest.raises(WeightsMismatchError):
        weights.load(forge(network, tmp_path / "net.safetensors", settings=json.dumps(settings)))


def test_a_file_that_states_its_settings_takes_no_others(network: Frame, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    weights.save(network, path, source="a test")
    with pytest.raises(ValueError, match=r"settings must be left out for .*, whose header states them"):
        weights.load(path, settings={"image_range": 255})
