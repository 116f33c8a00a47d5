"""Steps per second of `finescale.train` beside a naive loop over the same network and samples; writes a result file.

Usage: python benchmarks/training.py [VARIANT] [--patch 64] [--batch 4] [--steps 8] [--threads 2] [--device cpu]

The loops alternate step by step. The loop's own share is what of its step is spent outside the pass, forward and
backward, and the update of the weights; the naive loop has nothing else.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from record import write_results

import finescale
from finescale.data.loader import batches
from finescale.data.sources import open_source
from finescale.images import write_image
from finescale.train import TrainingProgress, TrainSettings, learner, loop, train

WARM_UP = 2


class Stopwatch:
    """Adds up the time of calls."""

    def __init__(self, device: str) -> None:
        self.seconds = 0.0
        self._device = device

    def now(self) -> float:
        if self._device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter()

    def timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            start = self.now()
            result = call(*args, **kwargs)
            self.seconds += self.now() - start
            return result

        return run


class NaiveLoop:
    """What one would write in ten lines."""

    def __init__(self, settings: TrainSettings, device: str) -> None:
        self.network = finescale.build(settings.variant, scale=settings.scale).to(device).train()
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=settings.train.lr)
        source = open_source(
            settings.data.hr, scale=settings.scale, patch=settings.data.patch,
            seed=0, augmentation=settings.data.augmentation,
        )  # fmt: skip
        self.samples = batches(source, first_step=0, batch=settings.train.batch)
        self.device = device

    def step(self) -> None:
        lr, hr = next(self.samples)
        self.optimizer.zero_grad()
        loss = F.l1_loss(self.network(lr.to(self.device)), hr.to(self.device))
        loss.backward()
        self.optimizer.step()


def measure(settings: TrainSettings, device: str) -> dict[str, float]:
    """Median seconds of a step of either loop, and the share of ours that is its own."""
    watch = Stopwatch(device)
    naive = NaiveLoop(settings, device)
    times: dict[str, list[float]] = {"naive": [], "ours": [], "computing": []}
    began = 0.0

    def on_step(progress: TrainingProgress) -> None:
        nonlocal began
        ended = watch.now()
        if progress.step > WARM_UP:
            times["ours"].append(ended - began)
            times["computing"].append(watch.seconds)
        start = watch.now()
        naive.step()
        if progress.step > WARM_UP:
            times["naive"].append(watch.now() - start)
        watch.seconds = 0.0
        began = watch.now()

    make_optimizer = learner.make_optimizer

    def timed_optimizer(*args: Any) -> torch.optim.Optimizer:
        optimizer = make_optimizer(*args)
        optimizer.step = watch.timed(optimizer.step)  # type: ignore[method-assign]
        return optimizer

    class TimedLearner(learner.Learner):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._pass = watch.timed(self._pass)

    loop.Learner = TimedLearner  # type: ignore[misc]
    learner.make_optimizer = timed_optimizer
    try:
        train(settings, device=device, on_step=on_step)
    finally:
        naive.samples.close()
    own = [1 - computing / whole for computing, whole in zip(times["computing"], times["ours"], strict=True)]
    return {
        "seconds_a_step": round(statistics.median(times["ours"]), 4),
        "naive_seconds_a_step": round(statistics.median(times["naive"]), 4),
        "ratio": round(statistics.median(a / b for a, b in zip(times["ours"], times["naive"], strict=True)), 3),
        "own_share": round(statistics.median(own), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("variant", nargs="?", default="hit-srf")
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(4):
            write_image(Path(folder) / f"{number}.png", torch.rand(3, 512, 512))
        settings = TrainSettings.model_validate(
            {
                "name": "timed",
                "output": folder,
                "variant": arguments.variant,
                "scale": 4,
                "data": {"hr": [folder], "patch": arguments.patch},
                "train": {"batch": arguments.batch, "iterations": WARM_UP + arguments.steps},
            }
        )
        measured = measure(settings, arguments.device)
    print(measured)
    conditions = {"variant": arguments.variant, "scale": 4, "patch": arguments.patch, "batch": arguments.batch}
    write_results("training", {**conditions, "steps": arguments.steps, **measured}, threads=arguments.threads)


if __name__ == "__main__":
    main()
