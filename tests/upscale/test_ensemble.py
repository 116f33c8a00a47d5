from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from finescale.upscale import Tiling, Upscaler, self_ensemble
from upscale.stand_ins import Convolutional, natural

TURNS: dict[str, Callable[[Tensor], Tensor]] = {
    "left to right": lambda image: image.flip(-1),
    "upside down": lambda image: image.flip(-2),
    "transposed": lambda image: image.mT,
    "a quarter round": lambda image: image.rot90(1, (-2, -1)),
}


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
def test_the_ensemble_of_a_turned_image_is_the_turned_ensemble(turn: Callable[[Tensor], Tensor]) -> None:
    image = natural(13, 18)[None]
    network = Convolutional()
    with torch.inference_mode():
        assert (network(turn(image)) - turn(network(image))).abs().max() > 1e-3
        turned, straight = self_ensemble(network, turn(image)), turn(self_ensemble(network, image))
    torch.testing.assert_close(turned, straight, rtol=0, atol=1e-6)


def test_the_ensemble_asks_for_eight_different_orientations() -> None:
    asked: list[bytes] = []

    def upscale(lr: Tensor) -> Tensor:
        asked.append(bytes([lr.shape[2]]) + lr.contiguous().numpy().tobytes())
        return lr

    image = natural(3, 5)[None]
    torch.testing.assert_close(self_ensemble(upscale, image), image)
    assert len(asked) == len(set(asked)) == 8


def test_an_upscaler_with_ensemble_averages_each_tile() -> None:
    image = natural(70, 90)
    network = Convolutional()
    whole = Upscaler(network, ensemble=True)(image)
    with torch.inference_mode():
        expected = self_ensemble(network, image[None])[0].clamp(0, 1)
    torch.testing.assert_close(whole, expected, rtol=0, atol=1e-6)
    tiled = Upscaler(network, ensemble=True, tiling=Tiling(tile=48, overlap=16))(image)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5)
