"""What tests of training share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def vgg19(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file like torchvision's of vgg19, with random weights that keep the size of features about the same."""
    generator = torch.Generator().manual_seed(3)
    state = {"classifier.0.weight": torch.zeros(1, 1)}
    in_channels, index = 3, 0
    for channels, count in ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)):
        for _ in range(count):
            deviation = (2 / (9 * in_channels)) ** 0.5
            state[f"features.{index}.weight"] = (
                torch.randn(channels, in_channels, 3, 3, generator=generator) * deviation
            )
            state[f"features.{index}.bias"] = torch.randn(channels, generator=generator) * 0.1
            in_channels, index = channels, index + 2
        index += 1
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save(state, path)
    return path
