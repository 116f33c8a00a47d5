"""Trainings in processes of their own: several that train together, and such as are killed.

As a script: `python training_run.py RUN.json`, or the same by torchrun. The file holds `settings`, and may
hold `fault`:

- {"terminate_at": step, "rank": rank}: SIGTERM comes to this process before this step;
- {"kill_at": step}: SIGKILL comes before this step;
- {"kill_in_write": write, "after": bytes}: SIGKILL comes within the nth checkpoint's writing, after so many bytes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from finescale.images import write_image
from finescale.train import TrainSettings, checkpoint, loop, train

TINY = {"embed_dim": 16, "depths": [2, 1], "num_heads": [2, 1], "base_window": [4, 4], "window_ratios": [0.5, 2]}


def write_textures(folder: Path) -> Path:
    """Three small smooth pictures."""
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(52.0), indexing="ij")
    for number in range(3):
        angles = [(0.2 + 0.1 * number) * x + 0.15 * channel * y for channel in range(1, 4)]
        write_image(folder / f"{number}.png", 0.5 + 0.4 * torch.stack(angles).sin())
    return folder


def tiny_settings(pictures: Path, output: Path, name: str) -> TrainSettings:
    """A training of a few seconds."""
    return TrainSettings.model_validate(
        {
            "name": name,
            "output": output,
            "variant": "hit-sir",
            "network": TINY,
            "scale": 2,
            "data": {"hr": [pictures], "patch": 8},
            "train": {"batch": 4, "iterations": 12, "lr": 2e-3, "milestones": [8]},
            "validation": {"hr": pictures, "every": 4, "pictures": 0},
            "keep": {"every": 5, "log_every": 2},
        }
    )


def changed(settings: TrainSettings, **fields: Any) -> TrainSettings:
    """The settings with some fields changed; those of a group by ``group={...}``."""
    values = settings.model_dump()
    for name, value in fields.items():
        is_group = name in ("data", "train", "validation", "keep")
        values[name] = {**values[name], **value} if is_group else value
    return TrainSettings.model_validate(values)


def run(settings: TrainSettings, *, processes: int = 1, fault: dict[str, Any] | None = None) -> int:
    """Train in one process of its own, or in several by torchrun; answers the exit status."""
    settings.output.mkdir(parents=True, exist_ok=True)
    order = settings.output / f"{settings.name}.json"
    order.write_text(json.dumps({"settings": settings.model_dump(mode="json"), "fault": fault}))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), __file__, str(order)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    sys.stderr.write(done.stderr)  # shown when a test fails
    return done.returncode


def _main() -> None:
    order = json.loads(Path(sys.argv[1]).read_text())
    settings = TrainSettings.model_validate(order["settings"])
    match order["fault"]:
        case {"terminate_at": step, "rank": rank}:
            if os.environ.get("RANK", "0") == str(rank):
                _signal_before(step, signal.SIGTERM)
        case {"kill_at": step}:
            _signal_before(step, signal.SIGKILL)
        case {"kill_in_write": write, "after": size}:
            _kill_in_write(write, size)
    train(settings, device="cpu")


def _signal_before(step: int, number: signal.Signals) -> None:
    original = loop.learning_rate

    def rate(done: int, *args: Any) -> float:
        if done == step - 1:
            os.kill(os.getpid(), number)
        return original(done, *args)

    loop.learning_rate = rate


def _kill_in_write(write: int, size: int) -> None:
    original = checkpoint.whole_file
    writes = iter(range(1, 1000))

    class Killing:
        def __init__(self, file: BinaryIO) -> None:
            self.file = file
            self.left = size

        def write(self, data: bytes) -> int:
            count = len(memoryview(data).cast("B"))
            if count >= self.left:
                self.file.write(bytes(data)[: self.left])
                self.file.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            self.left -= count
            return self.file.write(data)

        def flush(self) -> None:
            self.file.flush()

    @contextmanager
    def whole_file(path: Path) -> Iterator[Any]:
        with original(path) as file:
            yield Killing(file) if next(writes) == write else file

    checkpoint.whole_file = whole_file


if __name__ == "__main__":
    _main()
