"""Forward time of every variant, in yards (see README.md); prints a table and writes a result file.

Usage: python benchmarks/speed.py [VARIANT...] [--size 128] [--rounds 5] [--threads 2]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from record import write_results
from torch import Tensor

import finescale
from finescale.networks import variants

# The published code on this yardstick at x4, 1x3x128x128, two threads.
PUBLISHED_YARDS = {"hit-srf": 37}

WIDTH, SIDE, WINDOW, HEADS = 60, 128, 8, 6


def yardstick() -> Callable[[], Tensor]:
    """Four window-attention blocks and a convolution with fixed random weights."""
    generator = torch.Generator().manual_seed(0)

    def weight(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * 0.05

    features = weight(1, WIDTH, SIDE, SIDE)
    qkv, proj, up, down = weight(3 * WIDTH, WIDTH), weight(WIDTH, WIDTH), weight(120, WIDTH), weight(WIDTH, 120)
    kernel = weight(WIDTH, WIDTH, 3, 3)
    per_axis = SIDE // WINDOW

    def block(x: Tensor) -> Tensor:
        y = F.layer_norm(x, (WIDTH,)).view(per_axis, WINDOW, per_axis, WINDOW, WIDTH).transpose(1, 2)
        y = F.linear(y.reshape(-1, WINDOW**2, WIDTH), qkv).view(-1, WINDOW**2, 3, HEADS, WIDTH // HEADS)
        query, key, value = y.permute(2, 0, 3, 1, 4)
        y = ((query * (WIDTH // HEADS) ** -0.5) @ key.transpose(-2, -1)).softmax(-1) @ value
        y = F.linear(y.transpose(1, 2).reshape(-1, WINDOW**2, WIDTH), proj)
        y = y.view(per_axis, per_axis, WINDOW, WINDOW, WIDTH).transpose(1, 2).reshape(1, -1, WIDTH)
        x = x + y
        return x + F.linear(F.gelu(F.linear(F.layer_norm(x, (WIDTH,)), up)), down)

    def run() -> Tensor:
        x = features.flatten(2).transpose(1, 2)
        for _ in range(4):
            x = block(x)
        return F.conv2d(x.transpose(1, 2).reshape(features.shape), kernel, padding=1) + features

    return run


def seconds(run: Callable[[], object]) -> float:
    """One timed call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measure(variant: str, *, size: int, rounds: int) -> dict[str, object]:
    """Time a fresh network at x4 beside the yardstick."""
    network = finescale.build(variant, scale=4).eval()
    image = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    yard = yardstick()
    for run in (yard, lambda: network(image)):
        run()
    pairs = [(seconds(yard), seconds(lambda: network(image))) for _ in range(rounds)]
    yards, networks = zip(*pairs, strict=True)
    return {
        "variant": variant,
        "yards": round(min(networks) / min(yards), 2),
        "published_yards": PUBLISHED_YARDS.get(variant),
        "seconds": round(min(networks), 4),
        "yard_seconds": round(min(yards), 4),
        "spread": round(statistics.median(networks) / min(networks), 2),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("variants", nargs="*", default=list(variants()))
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with torch.inference_mode(False), torch.no_grad():
        rows = [measure(variant, size=arguments.size, rounds=arguments.rounds) for variant in arguments.variants]

    print("| network | yards | published | times fewer | seconds | spread |\n|---|---|---|---|---|---|")
    for row in rows:
        published = row["published_yards"]
        times = f"{published / row['yards']:.1f}" if published else ""
        print(
            f"| {row['variant']} | {row['yards']} | {published or ''} | {times} | {row['seconds']} | {row['spread']} |"
        )

    write_results("speed", {"size": arguments.size, "rows": rows}, threads=arguments.threads)


if __name__ == "__main__":
    main()
