"""What a CUDA device computes is what the CPU does; `make gpu` runs these and measures more."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from finescale.train import train
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


def test_free_memory_heeds_the_limit_of_the_process() -> None:
    total = torch.cuda.get_device_properties(CUDA).total_memory
    torch.cuda.set_per_process_memory_fraction(0.1, CUDA)
    try:
        free = free_memory(CUDA)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, CUDA)
    assert free is not None
    assert free <= 0.1 * total
