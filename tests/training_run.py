"""Trainings in processes of their own: several that train together, and such as are killed.

As a script: `python training_run.py RUN.json`, or the same by torchrun. The file holds `settings`, and may
hold `fault`:

- {"terminate_at": step, "rank": rank}: SIGTERM comes to this process before this step;
- {"kill_at": step}: SIGKILL comes before this step;
- {"kill_in_write": write, "after": bytes}: SIGKILL comes within the nth checkpoint's writing, after so many bytes.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from finescale.images import write_image
from finescale.train import TrainSettings, checkpoint, loop, train

TINY = {"embed_dim": 16, "depths": [1], "num_heads": [1], "base_window": [4, 4], "window_ratios": [1]}


def write_textures(folder: Path) -> Path:
    """Three small smooth pictures."""
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(24.0), indexing="ij")
    for number in range(3):
        angles = [(0.2 + 0.1 * number) * x + 0.15 * channel * y for channel in range(1, 4)]
        write_image(folder / f"{number}.png", 0.5 + 0.4 * torch.stack(angles).sin())
    return folder


def tiny_settings(pictures: Path, output: Path, name: str) -> TrainSettings:
    """A training of less than a second."""
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
    """Train in one process of its own, or in several that know their places as torchrun would tell them.

    Returns:
        The exit status of the first process.
    """
    order = _write_order(settings, fault)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = [
        {
            "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes,
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1,
        }
        for rank in range(processes)
    ]  # fmt: skip
    # The server loads torch once, and its children start in no time.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["finescale.train.loop", "torch._dynamo", "numpy.random"])
    started = [context.Process(target=_train_in_place, args=(place, str(order)), daemon=True) for place in places]
    for process in started:
        process.start()
    for process in started:
        process.join(240)
        if process.is_alive():
            process.kill()
            raise TimeoutError("a training does not end")
    status = started[0].exitcode
    assert status is not None
    return status


def run_by_torchrun(settings: TrainSettings, *, processes: int, fault: dict[str, Any] | None = None) -> int:
    """Train in several processes that torchrun starts; answers its exit status."""
    order = _write_order(settings, fault)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, __file__, str(order)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    sys.stderr.write(done.stderr)  # shown when a test fails
    return done.returncode


def _write_order(settings: TrainSettings, fault: dict[str, Any] | None) -> Path:
    settings.output.mkdir(parents=True, exist_ok=True)
    order = settings.output / f"{settings.name}.json"
    order.write_text(json.dumps({"settings": settings.model_dump(mode="json"), "fault": fault}))
    return order


def _train_in_place(place: dict[str, Any], order: str) -> None:
    os.environ.update({name: str(value) for name, value in place.items()})
    _train(order)


def _train(path: str) -> None:
    order = json.loads(Path(path).read_text())
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
    _train(sys.argv[1])
