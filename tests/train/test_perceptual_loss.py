"""The perceptual loss, beside VGG19 written out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from finescale.errors import WeightsError, WeightsMismatchError
from finescale.train import train
from finescale.train.perceptual import PerceptualLoss
from training_run import changed, tiny_settings, write_textures


def vgg19_features() -> nn.Sequential:
    """The layers of the paper's configuration E, numbered as in torchvision's file."""
    layers: list[nn.Module] = []
    in_channels = 3
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512, 512, 512, 512):
        layers += [nn.Conv2d(in_channels, width, 3, padding=1), nn.ReLU()] if width else [nn.MaxPool2d(2)]
        in_channels = width or in_channels
    return nn.Sequential(*layers)


def pictures(side: int = 32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(2, 3, side, side, generator=generator), torch.rand(2, 3, side, side, generator=generator)


@torch.no_grad()
def test_features_are_compared_before_the_last_activation_of_each_stage(vgg19: Path) -> None:
    features = vgg19_features()
    state = torch.load(vgg19, weights_only=True)
    features.load_state_dict({key.removeprefix("features."): state[key] for key in state if key.startswith("feat")})
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    ends = {2: 0.1, 7: 0.1, 16: 1.0, 25: 1.0, 34: 1.0}
    expected = 0.0
    planes = [(picture - mean.view(3, 1, 1)) / std.view(3, 1, 1) for picture in pictures()]
    for index, layer in enumerate(features):
        planes = [layer(plane) for plane in planes]
        expected += ends.get(index, 0.0) * F.l1_loss(*planes).item()
    assert PerceptualLoss(vgg19)(*pictures()).item() == pytest.approx(expected, rel=1e-5)


def test_it_teaches_the_network_and_not_itself(vgg19: Path) -> None:
    loss = PerceptualLoss(vgg19)
    sr, hr = pictures(16)
    sr.requires_grad_()
    loss(sr, hr).backward()
    assert sr.grad is not None
    assert sr.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in loss.parameters())
    assert loss(hr, hr).item() == 0.0


def test_another_networks_file_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "resnet.pth"
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, other)
    expected = r"resnet.pth: not the weights of VGG19, whose features.0.weight is of shape \(64, 3, 3, 3\); set"
    with pytest.raises(WeightsMismatchError, match=expected):
        PerceptualLoss(other)
    with pytest.raises(WeightsError, match="cannot be read"):
        PerceptualLoss(tmp_path / "none.pth")


def test_the_loss_and_its_weights_go_together(tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path, tmp_path, "tiny")
    with pytest.raises(ValueError, match="go together: set both or neither, got loss perceptual and perceptual None"):
        changed(settings, train={"loss": {"perceptual": 1.0}})
    with pytest.raises(ValueError, match="go together: set both or neither, got loss l1 and perceptual"):
        changed(settings, train={"perceptual": tmp_path / "vgg19.pth"})
    with pytest.raises(ValueError, match="needs samples of 16 hr pixels or more, got 14"):
        changed(settings, data={"patch": 7}, train={"loss": {"perceptual": 1.0}, "perceptual": tmp_path / "vgg19.pth"})


def test_a_training_takes_steps_with_it(tmp_path: Path, vgg19: Path) -> None:
    (tmp_path / "hr").mkdir()
    settings = changed(
        tiny_settings(write_textures(tmp_path / "hr"), tmp_path / "out", "perceptual"),
        train={"loss": {"l1": 1.0, "perceptual": 0.1}, "perceptual": vgg19, "iterations": 2, "batch": 2},
        validation={"hr": None}, keep={"log_every": 1},
    )  # fmt: skip
    assert settings.shareable()["train"]["perceptual"] == vgg19.name
    train(settings, device="cpu")
    header, *rows = (tmp_path / "out" / "perceptual" / "metrics.csv").read_text().splitlines()
    assert "perceptual" in header.split(",")
    assert len(rows) == 2
