"""How far a tiled result may be from that of the whole image, for each network.

Convolutions agree to rounding once the overlap covers their reach (see test_upscaler.py). Windows agree where a tile
starts at a multiple of their period; at its end they lack what is behind it. The bounds hold for tiny networks with
random weights, which change an image by as much as its contrast; trained ones, which add fine detail, are nearer.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from finescale.images import read_image
from finescale.networks import FAMILIES, Frame
from finescale.upscale import Tiling, Upscaler
from finescale.upscale.memory import LiveBytes
from helpers import ALIKE, usual_scale
from upscale.stand_ins import natural

BOUNDS = {  # PSNR in dB, at least, and difference, at most, of tiles of 96 pixels that share 32
    "hit-sir": (85.0, 0.003),
    "hit-sng": (58.0, 0.03),  # its windows are told about their neighbours, which a tile's end lacks
    "hit-srf": (85.0, 0.003),
    "craft": (36.0, 0.15),  # channel attention, and norms over all positions of what it is given: a tile
    "swinir-ng": (130.0, 1e-4),
    "ngswin": (92.0, 1e-3),
    "drct": (140.0, 1e-4),
    "drct-l": (140.0, 1e-4),
    "span": (130.0, 1e-4),
    "dat-s": (120.0, 1e-3),  # DAT and CIT attend over all positions of a tile in every other block
    "dat": (95.0, 1e-3),
    "dat-2": (66.0, 0.005),
    "dat-light": (90.0, 1e-3),
    "cit": (95.0, 1e-3),
    "hat-s": (80.0, 1e-3),  # HAT's channel attention averages over a tile
    "hat": (95.0, 1e-3),
    "hat-l": (95.0, 1e-3),
    "swinir": (140.0, 1e-4),
    "swinir-real-l": (140.0, 1e-4),
    "swinir-gray-dn": (140.0, 1e-4),
    "swinir-color-car": (140.0, 1e-4),
    "srformer": (95.0, 1e-3),  # its feed-forward layers look beyond windows
    "srformer-w24": (140.0, 1e-4),
}
UNALIGNED = (28.0, 0.5)  # the same where tiles start anywhere
TINY = {variant: family for family in FAMILIES.values() for variant in family.tiny if variant not in ALIKE}


IMAGE = natural(109, 173)  # two rows of three tiles


def tiny(variant: str, seed: int) -> Frame:
    torch.manual_seed(seed)
    settings = TINY[variant].tiny[variant]
    return TINY[variant].network(settings=settings, scale=usual_scale(settings))


@cache
def whole(variant: str, seed: int) -> Tensor:
    return Upscaler(tiny(variant, seed), tiling=Tiling(tile=0))(IMAGE)


def difference(variant: str, seed: int, *, period: int | None = None) -> tuple[float, float]:
    """PSNR in dB and largest difference between an image upscaled in tiles and as a whole."""
    upscaler = Upscaler(tiny(variant, seed), tiling=Tiling(tile=96, overlap=32))
    if period is not None:
        upscaler.period = period
    error = upscaler(IMAGE) - whole(variant, seed)
    return -10 * math.log10(error.square().mean()), float(error.abs().max())


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("variant", TINY)
def test_tiles_that_keep_the_windows_agree_with_the_whole_image(variant: str, seed: int) -> None:
    psnr_db, largest = difference(variant, seed)
    assert psnr_db >= BOUNDS[variant][0]
    assert largest <= BOUNDS[variant][1]


@pytest.mark.parametrize("variant", TINY)
def test_tiles_cut_anywhere_still_show_the_same_image(variant: str) -> None:
    psnr_db, largest = difference(variant, 0, period=1)
    assert psnr_db >= UNALIGNED[0]
    assert largest <= UNALIGNED[1]


@cache
def still_life(tiling: Tiling) -> Tensor:
    """The example, upscaled by the bundled network."""
    image = read_image(Path(__file__).parents[2] / "examples" / "still_life.png").pixels
    return Upscaler.from_pretrained("default", scale=4, tiling=tiling)(image)


@pytest.mark.parametrize(
    ("overlap", "least_db", "largest"),
    [pytest.param(64, 82, 0.006, id="the usual overlap"), pytest.param(32, 74, 0.014, id="that of small tiles")],
)
def test_the_bundled_network_shows_no_tiles(overlap: int, least_db: float, largest: float) -> None:
    error = still_life(Tiling(tile=128, overlap=overlap)) - still_life(Tiling(tile=0))
    assert -10 * math.log10(error.square().mean()) >= least_db
    assert error.abs().max() <= largest


@pytest.mark.parametrize("variant", TINY)
def test_the_memory_estimate_holds_for_every_network(variant: str) -> None:
    upscaler = Upscaler(tiny(variant, 0))
    with torch.inference_mode(), LiveBytes() as live:
        upscaler.network(natural(150, 170)[None, : upscaler.in_channels])
    assert live.peak <= upscaler.bytes_per_pixel * 150 * 170
