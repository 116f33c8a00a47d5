"""Any module as a network: checked, padded, and used by the verbs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from finescale import Upscaler
from finescale.analyze import measure_cost, subject_of
from finescale.data import benchmark_pairs
from finescale.evaluate import evaluate
from finescale.networks import FAMILIES, WrappedNetwork, as_network
from foreign import Small
from helpers import seeded_input
from small_sets import write_set


class Windowed(Small):
    """A network that takes multiples of 4 alone."""

    def forward(self, image: Tensor) -> Tensor:
        if image.shape[-1] % 4 or image.shape[-2] % 4:
            raise ValueError("windows of 4 pixels")
        return super().forward(image)


@pytest.fixture
def small() -> Small:
    torch.manual_seed(0)
    return Small()


def test_a_network_of_finescale_stays_as_it_is() -> None:
    family = FAMILIES["hit-sr"]
    network = family.network(settings=family.tiny["hit-sir"], scale=2)
    assert as_network(network) is as_network(network, scale=2, channels=3) is network
    with pytest.raises(ValueError, match="scale must be 2, the network's own, got 4"):
        as_network(network, scale=4)


def test_a_module_is_wrapped_and_not_copied(small: Small) -> None:
    network = as_network(small, scale=2)
    assert isinstance(network, WrappedNetwork)
    assert network.model is small
    assert not small.training
    assert (network.scale, network.in_channels, network.period) == (2, 3, 1)
    with pytest.raises(ValueError, match="channels must be 3, the network's own, got 1"):
        as_network(network, channels=1)


def test_images_are_mirrored_to_what_the_module_takes_and_cropped() -> None:
    network = as_network(Windowed(), scale=2, multiple=4)
    image = seeded_input((2, 3, 6, 7))
    mirrored = torch.cat([image, image[..., -1:]], dim=-1)
    mirrored = torch.cat([mirrored, mirrored[..., -2:, :].flip(-2)], dim=-2)
    with torch.no_grad():
        answer = network(image)
        assert answer.shape == (2, 3, 12, 14)
        torch.testing.assert_close(answer, network.model(mirrored)[..., :12, :14], rtol=0, atol=1e-6)
        assert network(image[..., :1, :1]).shape == (2, 3, 2, 2)


@pytest.mark.parametrize(
    ("module", "facts", "message"),
    [
        (Small(), {}, "scale must be given for Small, which is no network of finescale's"),
        (Small(), {"scale": 4}, "Small must map images (1, 3, 32, 32) to (1, 3, 128, 128) at x4, gave (1, 3, 64, 64)"),
        (Small(), {"scale": 2, "channels": 1}, "Small must take images (1, 1, 32, 32), but fails ("),
        (Windowed(), {"scale": 2, "multiple": 3}, "Windowed must take images (1, 3, 33, 33), but fails (windows of 4"),
        (Small(), {"scale": 2, "multiple": -1}, "multiple must be at least 1, got -1"),
        (Small(), {"scale": 99}, "scale must be a whole number from 1 to 16, got 99"),
        (nn.LSTM(32, 32), {"scale": 1}, "LSTM must take images (1, 3, 32, 32), but fails ("),
    ],
)
def test_a_module_that_does_not_do_what_is_stated_is_refused(
    module: nn.Module, facts: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        as_network(module, **facts)


def test_an_upscaler_computes_what_the_module_computes(small: Small) -> None:
    image = seeded_input((1, 3, 10, 12))[0]
    upscaler = Upscaler(small, scale=2, channels=3)
    with torch.no_grad():
        torch.testing.assert_close(upscaler(image), small(image[None])[0].clamp(0, 1), rtol=0, atol=1e-6)
    assert upscaler.precision == "float32"
    assert upscaler.bytes_per_pixel > 0
    with pytest.raises(ValueError, match="scale must be given for Small"):
        Upscaler(small)
    with pytest.raises(ValueError, match="engine 'openvino'"):
        Upscaler(small, scale=2, engine="openvino")


def test_a_gray_module_upscales_each_channel_by_itself() -> None:
    torch.manual_seed(0)
    module = Small(images=1)
    image = seeded_input((1, 3, 8, 8))[0]
    with torch.no_grad():
        expected = module(image[:, None])[:, 0].clamp(0, 1)
        torch.testing.assert_close(Upscaler(module, scale=2, channels=1)(image), expected, rtol=0, atol=1e-6)


def test_its_cost_is_counted(small: Small) -> None:
    subject = subject_of(small, scale=2)
    assert (subject.name, subject.scale, subject.cost) == ("Small", 2, None)
    row = measure_cost(subject, (8, 8), timed=True, runs=1)
    assert row.parameters == 3 * 8 * 9 + 8 + 8 * 24 + 24 + 8 * 8 + 8 + 8 * 12 * 9 + 12
    pixels = 64
    layers = pixels * (3 * 8 * 9 + 8 * 24 + 8 * 8 + 8 * 12 * 9)
    assert row.operations.multiply_adds == layers + 2 * pixels * pixels * 8
    assert row.memory_mib is not None
    assert row.memory_mib > 0


def test_it_is_evaluated(small: Small, tmp_path: Path) -> None:
    write_set(tmp_path, sizes={"one": (24, 30)})
    (score,) = evaluate(Upscaler(small, scale=2), benchmark_pairs(tmp_path, "Set5", scale=2))
    assert 5 < score.psnr < 60
