"""Which compact network should be bundled: quality after equal training time, beside the time it takes to use.

Each candidate is trained at x4 for the same processor time on one thread, with the same samples a step, and judged by
its PSNR on luma on validation pictures. Then all are timed, in turn, on two threads.

Usage: python experiments/compact_networks.py DATA OUT [--minutes 10] [NAME...]

DATA holds train/ and valid/kodak24; OUT gets each candidate's training and `compact_networks.json`. A candidate whose
training is there already is not trained again.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from finescale.networks import Frame, variants
from finescale.train import TrainSettings, train

_HIT = {"embed_dim": 48, "depths": (4, 4, 4), "num_heads": (4, 4, 4), "window_ratios": (0.5, 1, 2, 4)}
_DAT = {"embed_dim": 48, "depths": (8,), "window_size": (8, 16), "drop_path_rate": 0}
_DRCT = {"embed_dim": 48, "depths": (2, 2), "num_heads": (4, 4), "window_size": 8, "growth": 16, "drop_path_rate": 0}

CANDIDATES: dict[str, tuple[str, dict[str, Any]]] = {
    "hit-sir-32": ("hit-sir", {**_HIT, "embed_dim": 32}),
    "hit-sir-48": ("hit-sir", _HIT),
    "hit-sir-60": ("hit-sir", {}),
    "hit-srf-48": ("hit-srf", _HIT),
    "craft-48": ("craft", {"depths": (2, 2), "num_heads": (6, 6)}),
    "drct-48": ("drct", _DRCT),
    "span-48": ("span", {"embed_dim": 48, "depths": (2, 2, 2), "num_heads": (6, 6, 6), "drop_path_rate": 0}),
    "dat-48": ("dat-light", _DAT),
    "cit-48": ("cit", _DAT),
}
"""Names with the width, and the published networks that they come from, with the fields in which they differ."""

SCALE, PATCH, BATCH, RATE = 4, 32, 8, 1e-3


def candidate(name: str) -> Frame:
    """The network, fresh."""
    torch.manual_seed(0)
    variant, fields = CANDIDATES[name]
    family = variants()[variant]
    settings = type(family.variants[variant]).model_validate({**family.variants[variant].model_dump(), **fields})
    return family.network(settings=settings, scale=SCALE)


def seconds_a_step(name: str) -> float:
    """Processor time of a step, the least of five."""
    network = candidate(name).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-5)
    lr, hr = torch.rand(BATCH, 3, PATCH, PATCH), torch.rand(BATCH, 3, SCALE * PATCH, SCALE * PATCH)
    times = []
    for _ in range(6):
        start = time.process_time()
        optimizer.zero_grad()
        F.l1_loss(network(lr), hr).backward()
        optimizer.step()
        times.append(time.process_time() - start)
    return min(times[1:])


def train_one(name: str, data: Path, out: Path, *, seconds: float) -> None:
    """Train for so much processor time, on this thread."""
    torch.set_num_threads(1)
    logging.basicConfig(format="%(asctime)s %(message)s")
    logging.getLogger("finescale").setLevel(logging.INFO)
    variant, fields = CANDIDATES[name]
    iterations = int(seconds / seconds_a_step(name))
    folders = [data / "train" / folder for folder in ("bsds500_train", "bsds500_test", "t91")]
    steps = {"iterations": iterations, "batch": BATCH, "lr": RATE, "schedule": "cosine", "warm_up": iterations // 50}
    values = {
        "name": name,
        "output": out,
        "variant": variant,
        "network": fields,
        "scale": SCALE,
        "data": {"hr": folders, "patch": PATCH},
        "train": steps,
        "validation": {"hr": data / "valid" / "kodak24", "every": iterations, "pictures": 0},
    }
    train(TrainSettings.model_validate(values), device="cpu")


def seconds_a_megapixel(names: list[str]) -> dict[str, float]:
    """Time of each network for a megapixel of its result on two threads; the least of seven, taken in turn."""
    torch.set_num_threads(2)
    networks = {name: candidate(name).eval() for name in names}
    image = torch.rand(1, 3, 128, 128)
    times: dict[str, list[float]] = {name: [] for name in names}
    with torch.no_grad():
        for _ in range(8):
            for name, network in networks.items():
                start = time.perf_counter()
                network(image)
                times[name].append(time.perf_counter() - start)
    megapixels = image.shape[-1] * image.shape[-2] * SCALE**2 / 1e6
    return {name: min(times[name][1:]) / megapixels for name in names}


def result(name: str, out: Path) -> dict[str, Any]:
    """What a training came to."""
    with (out / name / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    parameters = sum(parameter.numel() for parameter in candidate(name).parameters())
    return {"name": name, "parameters": parameters, "steps": int(rows[-1]["step"]), "psnr_y": float(rows[-1]["psnr_y"])}


def main() -> None:
    """Train what is not trained yet, two at a time, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", default=list(CANDIDATES))
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--one", help="train this one, in this process")
    arguments = parser.parse_args()
    if arguments.one:
        train_one(arguments.one, arguments.data, arguments.out, seconds=60 * arguments.minutes)
        return
    missing = [name for name in arguments.names if not (arguments.out / name / "weights.safetensors").exists()]
    for pair in zip(missing[::2], [*missing[1::2], None], strict=False):
        again = [sys.executable, *sys.argv, "--one"]
        running = [subprocess.Popen([*again, name]) for name in pair if name]
        for process in running:
            if process.wait():
                raise SystemExit(process.returncode)
    times = seconds_a_megapixel(arguments.names)
    rows = [{**result(name, arguments.out), "seconds_a_megapixel": round(times[name], 3)} for name in arguments.names]
    rows.sort(key=lambda row: -row["psnr_y"])
    print("| network | parameters | steps | PSNR, dB | s per megapixel |\n|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['name']} | {row['parameters']:,} | {row['steps']:,} | {row['psnr_y']:.2f} "
            f"| {row['seconds_a_megapixel']:.2f} |"
        )
    report = {"minutes": arguments.minutes, "rows": rows}
    (arguments.out / "compact_networks.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
