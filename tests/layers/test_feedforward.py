from __future__ import annotations

import torch
import torch.nn.functional as F

from finescale.layers.convolution import convolve, residual_conv
from finescale.layers.feedforward import MLP, ConvFFN


def test_an_mlp_is_two_linear_layers_with_an_exact_gelu_between() -> None:
    mlp = MLP(channels=4, hidden=6)
    x = torch.randn(2, 3, 5, 4)
    hidden = x @ mlp.fc1.weight.T + mlp.fc1.bias
    exact = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
    torch.testing.assert_close(mlp(x), exact @ mlp.fc2.weight.T + mlp.fc2.bias)


def test_a_convolutional_mlp_adds_what_the_neighbours_say() -> None:
    ffn = ConvFFN(channels=4, hidden=6, kernel_size=5)
    x = torch.randn(2, 7, 6, 4)
    hidden = F.gelu(F.linear(x, ffn.fc1.weight, ffn.fc1.bias))
    conv = ffn.dwconv.depthwise_conv[0]
    image = F.pad(hidden.permute(0, 3, 1, 2), (2, 2, 2, 2))
    near = F.gelu(F.conv2d(image, conv.weight, conv.bias, groups=6)).permute(0, 2, 3, 1)
    torch.testing.assert_close(ffn(x), F.linear(hidden + near, ffn.fc2.weight, ffn.fc2.bias))


def test_a_map_is_convolved_as_the_image_that_it_is() -> None:
    conv = torch.nn.Conv2d(4, 6, 3, padding=1)
    x = torch.randn(2, 7, 5, 4)
    torch.testing.assert_close(convolve(conv, x), conv(x.permute(0, 3, 1, 2).contiguous()).permute(0, 2, 3, 1))


def test_the_closing_of_a_group_is_one_convolution_or_three_through_a_quarter() -> None:
    assert [tuple(weight.shape) for weight in residual_conv("1conv", 8).parameters()] == [(8, 8, 3, 3), (8,)]
    three = residual_conv("3conv", 8)
    assert {key: tuple(weight.shape) for key, weight in three.named_parameters() if "weight" in key} == {
        "0.weight": (2, 8, 3, 3),
        "2.weight": (2, 2, 1, 1),
        "4.weight": (8, 2, 3, 3),
    }
    assert three(torch.randn(1, 8, 5, 4)).shape == (1, 8, 5, 4)
