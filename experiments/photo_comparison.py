"""`default` and `default-photo` on Kodak's pictures that were stored as JPEG: the tables of docs/models.md.

    python experiments/photo_comparison.py KODAK24 [--scale 4] [--side 256] [--quality 30 50 70 90]

Each original is cut to a square in its middle, downsampled by the MATLAB-exact bicubic, and stored as JPEG
with colour at half the size, as most pictures of the web are. PSNR and SSIM on luma by the papers' protocol.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import fmean

from torch import Tensor

from finescale import Upscaler
from finescale.data import DegradationSettings, degrade, find_images
from finescale.data.hr_images import read_hr_image
from finescale.images import decode_image, encode_jpeg
from finescale.metrics import psnr, ssim
from finescale.resize import downsample, round_half_up, upsample
from finescale.upscale import Tiling


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kodak", type=Path, help="Folder of Kodak's 24 originals.")
    parser.add_argument("--photo", default="default-photo", help="The other network; also a weight file.")
    parser.add_argument("--scale", type=int, default=4, help="Of the networks.")
    parser.add_argument("--side", type=int, default=256, help="Of the squares, in pixels of the original.")
    parser.add_argument("--quality", type=int, nargs="+", default=[30, 50, 70, 90])
    arguments = parser.parse_args()
    scale, tiling = arguments.scale, Tiling(tile=0)
    side = arguments.side // scale * scale
    originals = [middle(read_hr_image(path).levels, side) for path in find_images(arguments.kodak)]
    models: dict[str, Callable[[Tensor], Tensor]] = {
        "bicubic": partial(bicubic, scale=scale),
        "default": Upscaler.from_pretrained("default", scale=scale, tiling=tiling),
        "default-photo": Upscaler.from_pretrained(arguments.photo, scale=scale, tiling=tiling),
    }
    print(f"| input | {' | '.join(models)} | default-photo is better on |")
    print("|---|" + "---|" * (len(models) + 1))
    inputs: dict[str, Callable[[Tensor, int], Tensor]] = {"clean": lambda hr, _: downsample(hr, scale=scale)}
    inputs |= {
        f"JPEG, quality {quality}": partial(stored, scale=scale, quality=quality) for quality in arguments.quality
    }
    inputs["degraded at random"] = partial(degraded, scale=scale)
    for name, make in inputs.items():
        pairs = [(make(hr, index) / 255, hr / 255) for index, hr in enumerate(originals)]
        scores = {model: [score(upscale(lr), hr, scale=scale) for lr, hr in pairs] for model, upscale in models.items()}
        both = zip(scores["default-photo"], scores["default"], strict=True)
        better = sum(photo > plain for (photo, _), (plain, _) in both)
        cells = (mean_of(values) for values in scores.values())
        print(f"| {name} | {' | '.join(cells)} | {better} of {len(pairs)} |", flush=True)


def mean_of(scores: list[tuple[float, float]]) -> str:
    decibels, similarities = zip(*scores, strict=True)
    return f"{fmean(decibels):.2f} / {fmean(similarities):.4f}"


def middle(hr: Tensor, side: int) -> Tensor:
    """The square in the middle of an original."""
    top, left = ((length - side) // 2 for length in hr.shape[-2:])
    return hr[:, top : top + side, left : left + side]


def stored(hr: Tensor, _: int, *, scale: int, quality: int) -> Tensor:
    """The low-resolution picture as it comes back from a JPEG file."""
    encoded = encode_jpeg(downsample(hr, scale=scale), quality=quality, subsample=True)
    return round_half_up(decode_image(encoded, name="a JPEG").pixels * 255)


def degraded(hr: Tensor, index: int, *, scale: int) -> Tensor:
    """The low-resolution picture as trainings see it, by the defaults."""
    return degrade(hr, DegradationSettings(clean=0), scale=scale, seed=0, index=index)


def bicubic(lr: Tensor, *, scale: int) -> Tensor:
    return round_half_up(upsample((lr * 255).round(), scale=scale)).float() / 255


def score(sr: Tensor, hr: Tensor, *, scale: int) -> tuple[float, float]:
    return psnr(sr, hr, border=scale), ssim(sr, hr, border=scale)


if __name__ == "__main__":
    main()
