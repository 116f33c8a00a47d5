"""Seconds of a forward pass by PyTorch and by OpenVINO, and of the translation and compilation before OpenVINO's first.

Usage: python benchmarks/engines.py NETWORK [SIDE] [--threads 2]

A process for each network: what ran before changes the state of the memory. Passes of the three take turns, the better
of two rounds of four counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import TypeVar

from finescale.system.allocation import reuse_memory

ROUNDS = 2
PASSES = 4

T = TypeVar("T")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network")
    parser.add_argument("side", nargs="?", type=int, default=128, help="of a square image, in pixels")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    reuse_memory()
    import openvino
    import torch

    import finescale
    from finescale import weights
    from finescale.engines.openvino import translate

    torch.set_num_threads(given.threads)
    is_bundled = (given.network, 4) in weights.bundled()
    network = (
        weights.load_named(given.network, scale=4).network if is_bundled else finescale.build(given.network, scale=4)
    )
    network.eval()
    image = torch.rand(1, 3, given.side, given.side)
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": given.threads, "NUM_STREAMS": 1}
    core = openvino.Core()

    translation, translated = _timed(lambda: translate(network, integers=False))
    every_size = core.compile_model(core.read_model(translated), "CPU", options)
    model = core.read_model(translated)
    model.reshape(list(image.shape))
    compilation, this_size = _timed(lambda: core.compile_model(model, "CPU", options))
    runs: dict[str, Callable[[], object]] = {
        "PyTorch": lambda: network(image),
        "OpenVINO, this size": lambda: this_size.create_infer_request().infer([image.numpy()]),
        "OpenVINO, every size": lambda: every_size.create_infer_request().infer([image.numpy()]),
    }
    with torch.inference_mode():
        taken = [(name, _timed(run)[0]) for _ in range(ROUNDS) for name, run in runs.items() for _ in range(PASSES)]
    seconds = {name: min(one for other, one in taken if other == name) for name in runs}
    print(f"{given.network}, {given.side}x{given.side}, {given.threads} threads")
    for name, one in seconds.items():
        print(f"{name:24}{one:8.3f} s{seconds['PyTorch'] / one:8.2f} times as fast")
    print(f"translation {translation:.0f} s, compilation {compilation:.1f} s")


def _timed(run: Callable[[], T]) -> tuple[float, T]:
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


if __name__ == "__main__":
    main()
