"""PSNR and SSIM of bundled or given weights on the benchmark sets, beside the bicubic; prints a table.

Usage: python benchmarks/quality.py DATA [MODEL...]      DATA holds Set5/HR, Set5/LR_bicubic/X4, ...
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import mean

from torch import Tensor

from finescale import Tiling, Upscaler, read_image
from finescale.data import benchmark_pairs
from finescale.metrics import psnr, ssim
from finescale.resize import round_half_up, upsample

SETS = ("Set5", "Set14")
SCALES = (2, 3, 4)


def bicubic(lr: Tensor, scale: int) -> Tensor:
    """The baseline: RGB (3, H, W) in [0, 1] to 8-bit values in [0, 1]."""
    return round_half_up(upsample((lr * 255).round(), scale=scale)).float() / 255


def score(root: Path, name: str, *, scale: int, upscale: Callable[[Tensor], Tensor]) -> tuple[float, float]:
    """Mean PSNR (dB) and SSIM on luma over a set, by the papers' protocol."""
    values = []
    for pair in benchmark_pairs(root, name, scale=scale):
        hr, lr = (read_image(path).pixels.expand(3, -1, -1) for path in (pair.hr, pair.lr) if path)
        sr = upscale(lr)
        hr = hr[:, : sr.shape[1], : sr.shape[2]]
        values.append((psnr(sr, hr, border=scale), ssim(sr, hr, border=scale)))
    return mean(value[0] for value in values), mean(value[1] for value in values)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("models", nargs="*", default=["default"])
    arguments = parser.parse_args()
    print("| model | scale | " + " | ".join(f"{name} PSNR / SSIM" for name in SETS) + " |")
    print("|---|---|" + "---|" * len(SETS))
    for scale in SCALES:
        for model in ("bicubic", *arguments.models):
            if model == "bicubic":

                def upscale(lr: Tensor, scale: int = scale) -> Tensor:
                    return bicubic(lr, scale)
            else:
                upscale = Upscaler.from_pretrained(model, scale=scale, tiling=Tiling(tile=0))
            scores = [score(arguments.data, name, scale=scale, upscale=upscale) for name in SETS]
            print(f"| {model} | x{scale} | " + " | ".join(f"{p:.2f} / {s:.4f}" for p, s in scores) + " |")


if __name__ == "__main__":
    main()
