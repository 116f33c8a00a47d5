"""A small network, its state dict, and a package folder of bundled files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from finescale.networks import FAMILIES, Frame
from finescale.weights import names


@pytest.fixture
def network() -> Frame:
    """A HiT-SRF of 16 channels and three blocks."""
    family = FAMILIES["hit-sr"]
    size = {"embed_dim": 16, "depths": (2, 1), "num_heads": (2, 1), "base_window": (4, 4), "window_ratios": (0.5, 2.0)}
    return family.network(settings=family.variants["hit-srf"].model_copy(update=size), scale=2).eval()


@pytest.fixture
def state(network: Frame) -> dict[str, torch.Tensor]:
    return dict(network.state_dict())


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder with two bundled files."""
    shelf = tmp_path / "bundled"
    shelf.mkdir()
    for name in ("default_x2", "default_x4"):
        (shelf / f"{name}.safetensors").touch()
    monkeypatch.setattr(names, "BUNDLED", shelf)
    return shelf
