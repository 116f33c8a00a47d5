"""How often `-n auto` takes the better of two networks and what it loses: tables of docs/models.md.

    python experiments/choice_by_picture.py FOLDER... [--scale 4] [--side 512] [--quality 30 50 70 85 90 95]

Each picture of the folders is cut to a square in its middle and downsampled by the MATLAB-exact bicubic. It
is upscaled as it is, from JPEG files with colour at half the size, from the same pixels in a lossless file, and with
noise. PSNR on luma by the papers' protocol; the loss is that to the better of the two networks for each picture.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import fmean

import torch
from photo_comparison import middle
from torch import Tensor

from finescale.data import find_images
from finescale.data.hr_images import read_hr_image
from finescale.images import Image, decode_image, encode_jpeg
from finescale.metrics import psnr
from finescale.resize import downsample
from finescale.upscale import Tiling
from finescale.upscale.by_picture import load_upscaler
from finescale.upscale.compression import Compression
from finescale.upscale.flaws import flaw_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="Folders of originals.")
    parser.add_argument("--scale", type=int, default=4, help="Of the networks.")
    parser.add_argument("--side", type=int, default=512, help="Of the squares, in pixels of the original.")
    parser.add_argument("--quality", type=int, nargs="+", default=[30, 40, 50, 60, 70, 80, 85, 90, 95])
    parser.add_argument(
        "--noise", type=float, nargs="+", default=[2, 4, 8], help="Standard deviation, in 8-bit levels."
    )
    given = parser.parse_args()
    scale = given.scale
    originals = [square(path, given.side, scale=scale) for folder in given.folders for path in find_images(folder)]
    upscaler = load_upscaler("auto", scale=scale, tiling=Tiling(tile=0))
    networks = {False: upscaler, True: upscaler.chosen_for(Compression(None))}
    inputs: dict[str, Callable[[Tensor, int], Image]] = {"clean": lambda lr, _: Image(lr / 255)}
    for quality in given.quality:
        inputs[f"JPEG, quality {quality}"] = partial(stored, quality=quality)
        inputs[f"the same, in a lossless file, {quality}"] = partial(stored, quality=quality, is_lossless=True)
    inputs |= {f"noise of {sigma:g} levels": partial(noisy, sigma=sigma) for sigma in given.noise}
    print("| input | `default` | `default-photo` | taken `default-photo` | right | lost on average (dB) | at most |")
    print("|---|---|---|---|---|---|---|")
    for name, make in inputs.items():
        rows = []
        for index, hr in enumerate(originals):
            image = make(downsample(hr, scale=scale), index)
            scores = [psnr(networks[photo](image).pixels, hr / 255, border=scale) for photo in (False, True)]
            rows.append((*scores, flaw_of(image, scale=scale) is not None))
        lost = [max(clean, photo) - (photo if taken else clean) for clean, photo, taken in rows]
        cells = [f"{fmean(row[which] for row in rows):.2f}" for which in (0, 1)]
        cells += [f"{sum(row[2] for row in rows)} of {len(rows)}", str(sum(loss == 0 for loss in lost))]
        print(f"| {name} | {' | '.join(cells)} | {fmean(lost):.3f} | {max(lost):.2f} |", flush=True)


def square(path: Path, side: int, *, scale: int) -> Tensor:
    """The square in the middle of an original, smaller where the original is."""
    hr = read_hr_image(path).levels
    return middle(hr, min(side, *hr.shape[-2:]) // scale * scale)


def stored(lr: Tensor, _: int, *, quality: int, is_lossless: bool = False) -> Image:
    """The picture as it comes back from a JPEG file, or from a lossless file that was made from one."""
    image = decode_image(encode_jpeg(lr, quality=quality, subsample=True), name="a JPEG")
    return Image(image.pixels) if is_lossless else image


def noisy(lr: Tensor, index: int, *, sigma: float) -> Image:
    """The picture with Gaussian noise, in 8 bits."""
    noise = sigma * torch.randn(lr.shape, generator=torch.Generator().manual_seed(index))
    return Image((lr + noise).round().clamp(0, 255) / 255)


if __name__ == "__main__":
    main()
