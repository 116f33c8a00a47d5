"""Perceptual loss: the distance of two pictures in the features of VGG19, a network that classifies objects.

K. Simonyan, A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", arXiv:1409.1556. The
user provides its weights: torchvision's file, trained on ImageNet.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from finescale.errors import WeightsMismatchError
from finescale.weightfiles.messages import naming
from finescale.weightfiles.tensors import as_float32, read_tensors

SMALLEST_SIDE = 16
"""Smallest side of a picture in pixels, since it is halved four times."""

_STAGES = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
"""Channels and convolutions of each stage; pooling separates the stages."""

_WEIGHTS = (0.1, 0.1, 1.0, 1.0, 1.0)
"""Weight of the last features of each stage, as in Real-ESRGAN (arXiv:2107.10833)."""

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's pictures in [0, 1], by which inputs are normalized."""


class PerceptualLoss(nn.Module):
    """Weighted sum, over the five stages of VGG19, of the mean of |features(sr) - features(hr)|.

    The features are those of a stage's last convolution, before its activation.

    Args:
        path: Weights of VGG19 under torchvision's keys, ``features.0.weight`` and so on.

    Raises:
        WeightsError: The file is missing or cannot be read.
        WeightsMismatchError: The file belongs to another network.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, path: Path) -> None:
        super().__init__()
        with naming(path):
            self._stages = _stages(read_tensors(path).tensors)
        self.register_buffer("mean", Tensor(_MEAN).view(3, 1, 1))
        self.register_buffer("std", Tensor(_STD).view(3, 1, 1))
        self.requires_grad_(False)

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        """Compute the loss, a scalar.

        Args:
            sr: RGB in [0, 1] or slightly beyond (N, 3, H, W), at least `SMALLEST_SIDE` on each side; gray (N, 1, H, W)
                counts as RGB with three equal channels.
            hr: Same shape.
        """
        sr, hr = (sr - self.mean) / self.std, (hr - self.mean) / self.std
        loss = sr.new_zeros(())
        for stage, weight in zip(self._stages, _WEIGHTS, strict=True):
            sr, hr = stage(sr), stage(hr)
            loss = loss + weight * F.l1_loss(sr, hr)
        return loss


def _stages(tensors: Mapping[str, Tensor]) -> nn.ModuleList:
    """The stages of VGG19, with weights of torchvision's keys."""
    stages = nn.ModuleList()
    in_channels, index = 3, 0
    for channels, count in _STAGES:
        layers: list[nn.Module] = []
        for place in range(count):
            if place:
                layers.append(nn.ReLU())
            elif index:
                layers += [nn.ReLU(), nn.MaxPool2d(2)]
                index += 1  # torchvision counts every layer
            layers.append(convolution := nn.Conv2d(in_channels, channels, 3, padding=1))
            _fill(convolution, tensors, f"features.{index}")
            in_channels, index = channels, index + 2
        stages.append(nn.Sequential(*layers))
    return stages


def _fill(convolution: nn.Conv2d, tensors: Mapping[str, Tensor], name: str) -> None:
    """Give a convolution its weights, of this name in the file."""
    for field, parameter in convolution.named_parameters():
        key = f"{name}.{field}"
        tensor = tensors.get(key)
        if tensor is None or tensor.shape != parameter.shape:
            raise WeightsMismatchError(
                f"not the weights of VGG19, whose {key} is of shape {tuple(parameter.shape)}; "
                "set train.perceptual to torchvision's file of vgg19"
            )
        parameter.data.copy_(as_float32(key, tensor))
