"""Time of one way to compute a network, and memory of the process; prints JSON. quantization.py runs it.

Usage: python benchmarks/one_engine.py WEIGHTS ENGINE PRECISION SIZE ROUNDS

ENGINE is "torch", "openvino" or "onnxruntime"; of the last one WEIGHTS is an .onnx file for images of that size.
"""

from __future__ import annotations

import json
import sys

import torch
from peak_memory import high_water
from yardstick import measure

import finescale
from finescale.engines import build_engine


def main() -> None:
    weights, engine, precision, size, rounds = sys.argv[1:]
    image = torch.rand(1, 3, int(size), int(size), generator=torch.Generator().manual_seed(1))
    if engine == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])

        def compute() -> object:
            return session.run(["output"], {"input": image.numpy()})
    else:
        computed = build_engine(engine, finescale.load(weights).network.eval(), device=torch.device("cpu"))  # type: ignore[arg-type]

        def compute() -> object:
            with torch.inference_mode():
                return computed(image, precision=precision)

    compute()
    peak = high_water()  # before the yardstick takes memory
    print(json.dumps({"peak": peak, **measure(compute, rounds=int(rounds)).as_row()}))


if __name__ == "__main__":
    main()
