"""A tiny network's weight file and small pictures for the command line's tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from finescale import images, weights
from finescale.networks import FAMILIES


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A HiT-SIR of a few thousand parameters at x2, random but fixed."""
    torch.manual_seed(0)
    family = FAMILIES["hit-sr"]
    path = tmp_path_factory.mktemp("weights") / "tiny_x2.safetensors"
    weights.save(family.network(settings=family.tiny["hit-sir"], scale=2), path, source="a test")
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with two pictures, one of them in a folder below, and a file that is none."""
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    picture = torch.linspace(0, 1, 3 * 9 * 12).reshape(3, 9, 12)
    images.write_image(folder / "one.png", picture)
    images.write_image(folder / "below" / "two.jpg", picture)
    (folder / "notes.txt").write_text("not a picture")
    return folder
