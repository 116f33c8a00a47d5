"""Time of a step of a training on a CUDA device, its passes launched kernel by kernel or recorded once and repeated.

Usage: python benchmarks/recorded_steps.py FOLDER [--batches 16x32 16x64 32x64] [--steps 30] [--device cuda]

FOLDER holds HR images. The network is that of the bundled weights at x4; prints a table.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from unittest.mock import patch

import torch

from finescale import weights
from finescale.data.resident import ResidentSamples
from finescale.data.sources import open_source
from finescale.train.distributed import Team
from finescale.train.learner import Learner
from finescale.train.settings import StepSettings

WARM_UP = 5


def milliseconds(folder: Path, batch: int, side: int, *, steps: int, device: torch.device) -> float:
    """Median time of a step, with its samples."""
    settings = StepSettings.model_validate({"iterations": 1, "batch": batch, "options": {"fused": True}})
    source = open_source([folder], scale=4, patch=side, seed=1, augmentation="flips-and-transpose")
    samples = ResidentSamples(source, device)
    learner = Learner(weights.load_named("default", scale=4).network, settings, Team(0, 1, device), patch=side)
    times = []
    for number in range(WARM_UP + steps):
        start = time.perf_counter()
        learner.step(*samples.batch(range(number * batch, (number + 1) * batch)), number=1, rate=1e-5, draw="0")
        times.append(1000 * (time.perf_counter() - start))
    return sorted(times[WARM_UP:])[steps // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batches", nargs="+", default=["16x32", "16x64", "32x64"], help="Samples x patch.")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--device", default="cuda")
    given = parser.parse_args()
    device = torch.device(given.device)
    print("| samples, lr patch | ms per step, launched | recorded | launched / recorded |\n|---|---|---|---|")
    for name in given.batches:
        batch, side = map(int, name.split("x"))
        recorded = milliseconds(given.folder, batch, side, steps=given.steps, device=device)
        with patch.object(Learner, "_can_be_recorded", lambda _: False):
            launched = milliseconds(given.folder, batch, side, steps=given.steps, device=device)
        print(f"| {batch}, {side} x {side} | {launched:.1f} | {recorded:.1f} | {launched / recorded:.1f} |", flush=True)


if __name__ == "__main__":
    main()
