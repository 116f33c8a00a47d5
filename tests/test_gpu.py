"""What a CUDA device computes is what the CPU does; `make gpu` runs these and measures more."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from finescale.networks import FAMILIES
from finescale.train import train
from finescale.train.distributed import Team
from finescale.train.learner import Learner
from finescale.train.settings import StepSettings
from finescale.upscale import Tiling, Upscaler
from finescale.upscale.memory import free_memory
from finescale.weights import load
from heads import one_block
from helpers import seeded_input
from training_run import tiny_settings, write_textures

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]

CUDA = torch.device("cuda")


@pytest.mark.parametrize("tile", [0, 32])
def test_a_picture_is_that_of_the_cpu(tile: int) -> None:
    network, image = one_block("pixelshuffledirect", 2), seeded_input((1, 3, 70, 53))[0]
    expected = Upscaler(network, tiling=Tiling(tile=tile), precision="float32")(image)
    found = Upscaler(network, tiling=Tiling(tile=tile), precision="float32", device=CUDA)(image)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)  # convolutions may take TF32


def test_a_training_is_that_of_the_cpu(tmp_path: Path) -> None:
    (tmp_path / "hr").mkdir()
    pictures = write_textures(tmp_path / "hr")
    weights = [
        load(train(tiny_settings(pictures, tmp_path, device), device=device)).network.state_dict()
        for device in ("cpu", "cuda")
    ]
    torch.testing.assert_close(weights[1], weights[0], rtol=0, atol=1e-2)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_recorded_pass_is_the_pass_itself(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    generator = torch.Generator().manual_seed(1)
    batches = [(torch.rand(4, 3, 8, 8, generator=generator), torch.rand(4, 3, 16, 16, generator=generator))] * 2
    tiny = next(iter(FAMILIES[family].tiny.values()))
    found = []
    for can_be_recorded in (False, True):
        torch.manual_seed(0)
        network = FAMILIES[family].network(settings=tiny, scale=2)
        with monkeypatch.context() as patch:
            if not can_be_recorded:
                patch.setattr(Learner, "_can_be_recorded", lambda _: False)
            learner = Learner(network, StepSettings(iterations=9, lr=1e-3), Team(0, 1, CUDA), patch=8)
        losses = [
            learner.step(lr, hr, number=number, rate=1e-3, draw="0").loss
            for number, (lr, hr) in enumerate(batches, start=1)
        ]
        gradients = {name: weight.grad for name, weight in network.named_parameters() if weight.grad is not None}
        found.append((losses, {name: gradient.clone() for name, gradient in gradients.items()}))
    (losses, gradients), (recorded_losses, recorded) = found
    assert recorded_losses == pytest.approx(losses, rel=1e-4)
    assert recorded.keys() == gradients.keys()
    for name, gradient in gradients.items():
        # The first step of Adam turns rounding into whole steps where a gradient is about 0.
        torch.testing.assert_close(recorded[name], gradient, rtol=0.05, atol=0.02 * float(gradient.abs().max()) + 1e-6)


def test_free_memory_heeds_the_limit_of_the_process() -> None:
    total = torch.cuda.get_device_properties(CUDA).total_memory
    torch.cuda.set_per_process_memory_fraction(0.1, CUDA)
    try:
        free = free_memory(CUDA)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, CUDA)
    assert free is not None
    assert free <= 0.1 * total
