"""Cost of a plan by the number of pictures, and of decoding and encoding one: what is not the network.

The plan is what each shard makes of the whole folder: listing, names of results, sizes from headers, dealing out. The
pictures are 500 x 500 pixels as JPEG and results 2000 x 2000, of one core.

    python benchmarks/planning.py 20000 --folder /tmp/planning
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from finescale.images import read_image, write_image
from finescale.system.shards import deal
from finescale.upscale.batch import size_of
from finescale.upscale.inputs import find_inputs
from finescale.upscale.outputs import Job, OutputSettings, plan_jobs

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from upscale.stand_ins import natural

_REPEATS = 5


def main() -> None:
    """Measure each part and print a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, help="number of pictures")
    parser.add_argument("--folder", type=Path, required=True, help="where they are made, and deleted")
    parser.add_argument("--ray", action="store_true", help="how fast Ray hands out pictures, in place of all else")
    arguments = parser.parse_args()
    if arguments.ray:
        print(json.dumps(handing_out(arguments.count)))
        return
    torch.set_num_threads(1)
    arguments.folder.mkdir()
    try:
        print(json.dumps(coding(arguments.folder) | planning(arguments.folder, arguments.count)))
    finally:
        shutil.rmtree(arguments.folder)


def coding(folder: Path) -> dict[str, float]:
    """Measure the seconds of decoding an input and of encoding its result, and the size of their files."""
    path, result = folder / "input.jpg", natural(2000, 2000)
    write_image(path, natural(500, 500))
    facts = {"decode_s": seconds(lambda: read_image(path)), "input_kb": path.stat().st_size / 1e3}
    for suffix in ("jpg", "png"):
        target = folder / f"result.{suffix}"
        facts[f"encode_{suffix}_s"] = seconds(lambda target=target: write_image(target, result))  # type: ignore[misc]
        facts[f"result_{suffix}_mb"] = target.stat().st_size / 1e6
    return {name: round(value, 3) for name, value in facts.items()}


def seconds(call: Callable[[], object]) -> float:
    """Return the seconds of this process's cores that a call takes."""
    started = time.process_time()
    for _ in range(_REPEATS):
        call()
    return (time.process_time() - started) / _REPEATS


def planning(folder: Path, count: int) -> dict[str, float]:
    """Measure milliseconds of each step of a plan, and its bytes of memory, per picture."""
    for number in range(count):
        path = folder / "in" / f"{number // 1000:04d}" / f"{number % 1000:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(folder / "input.jpg", path)
    before = peak_bytes()
    moments = [time.perf_counter()]
    images = find_inputs([str(folder / "in")]).images
    moments.append(time.perf_counter())
    jobs, _ = plan_jobs(images, OutputSettings(folder=str(folder / "out")), scale=4, network="default")
    moments.append(time.perf_counter())
    pixels: dict[Job, int] = {job: math.prod(size_of(job)) for job in jobs}
    moments.append(time.perf_counter())
    deal(jobs, 100, size=pixels.__getitem__)
    moments.append(time.perf_counter())
    steps = zip(("list_ms", "names_ms", "headers_ms", "deal_ms"), moments, moments[1:], strict=False)
    facts = {name: round(1000 * (end - start) / count, 4) for name, start, end in steps}
    return facts | {"bytes_each": round((peak_bytes() - before) / count)}


class Idle:
    """An actor that does nothing."""

    def __call__(self, row: dict[str, object]) -> dict[str, object]:
        return row


def handing_out(count: int) -> dict[str, float]:
    """Measure milliseconds of preparing a row of Ray's, and of handing it to an actor and back."""
    import ray.data

    ray.init(num_cpus=2, object_store_memory=200_000_000, include_dashboard=False, log_to_driver=False)
    started = time.perf_counter()
    rows = [{"index": number, "job": bytes(200)} for number in range(count)]
    dataset = ray.data.from_items(rows, override_num_blocks=count)
    prepared = time.perf_counter()
    done = dataset.map(Idle, compute=ray.data.ActorPoolStrategy(size=1), num_cpus=1)
    assert sum(1 for _ in done.iter_rows()) == count
    ended = time.perf_counter()
    ray.shutdown()
    return {"prepare_ms": 1000 * (prepared - started) / count, "hand_out_ms": 1000 * (ended - prepared) / count}


def peak_bytes() -> int:
    """Return the most bytes that were ever resident of this process."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
