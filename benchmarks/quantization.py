"""What quantization of a network costs in quality, and what it gains in size, time and memory.

Usage: python benchmarks/quantization.py DATA [--network default] [--scales 4] [--themes quality,engines] [--rounds 5]
       [--keep FOLDER] [--bits 8 6 4 3 2] [--methods "ADC + BR" auto MinMax]

DATA holds benchmark/Set5, benchmark/Set14 and train/t91. For each scale `finescale quantize` runs at 8, 6, 4, 3 and 2
bits: with adaptive dual clipping, with the method chosen by measurement, and with the ranges that MinMax sees and no
refinement; PSNR is that of the papers. The engines compute
an image of 128x128 at x4, each in a process of its own; translations are made before.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from record import write_results

from finescale import Tiling, Upscaler, read_image, weights
from finescale.cli.main import run
from finescale.data import benchmark_pairs
from finescale.metrics import psnr

HERE = Path(__file__).parent
SIZE = 128
METHODS = {
    "ADC + BR": ["--method", "dual"],
    "auto": ["--method", "auto"],
    "MinMax": ["--method", "minmax", "--epochs", "0"],
}
BITS = (8, 6, 4, 3, 2)
ENGINES = (
    ("float32", "float", "torch", "float32"),
    ("bf16", "float", "torch", "bf16"),
    ("8 bits in float32", "8", "torch", "float32"),
    ("float32, OpenVINO", "float", "openvino", "float32"),
    ("bf16, OpenVINO", "float", "openvino", "bf16"),
    ("8 bits, OpenVINO, else float32", "8", "openvino", "float32"),
    ("8 bits, OpenVINO, else bf16", "8", "openvino", "bf16"),
    ("6 bits, OpenVINO, else bf16", "6", "openvino", "bf16"),
    ("4 bits, OpenVINO, else bf16", "4", "openvino", "bf16"),
    ("float32, ONNX Runtime", "float.onnx", "onnxruntime", "float32"),
    ("8 bits, ONNX Runtime", "8.onnx", "onnxruntime", "float32"),
)
"""Name, which file, which engine, which precision beside the integers."""

JUDGED = ("float32", "bf16", "8 bits in float32", "8 bits, OpenVINO, else bf16")
"""Those whose quality is measured; OpenVINO makes a translation for each picture."""


def succeed(command: list[str]) -> None:
    """Run finescale, and end where it fails, which it has told."""
    if code := run(command):
        sys.exit(code)


def quantized(data: Path, folder: Path, network: str, *, scale: int, bits: int, method: str) -> tuple[Path, float]:
    """A quantized file, and the seconds that it took if it is new."""
    output = folder / f"{bits}_{method}_x{scale}.safetensors"
    if output.exists():  # made by the other theme, or before
        return output, 0.0
    start = time.perf_counter()
    command = ["quantize", "-n", network, "-s", str(scale), "--bits", str(bits), "-o", str(output)]
    succeed([*command, "--calibration", str(data / "train" / "t91"), *METHODS[method]])
    return output, time.perf_counter() - start


def quality(
    name: str | Path, root: Path, *, scale: int, sets: Sequence[str] = ("Set5", "Set14"), **how: Any
) -> dict[str, float]:
    """PSNR on luma of each set, in dB."""
    upscaler = Upscaler.from_pretrained(name, scale=scale, tiling=Tiling(tile=0), **how)
    found = {}
    for test_set in sets:
        values = []
        for pair in benchmark_pairs(root, test_set, scale=scale):
            assert pair.lr is not None
            hr, lr = (read_image(path).pixels.expand(3, -1, -1) for path in (pair.hr, pair.lr))
            sr = upscaler(lr)
            values.append(psnr(sr, hr[:, : sr.shape[1], : sr.shape[2]], border=scale))
        found[test_set] = round(mean(values), 3)
    return found


def quality_rows(
    data: Path, folder: Path, network: str, scales: list[int], *, bits: Sequence[int], methods: Sequence[str]
) -> Iterator[dict[str, Any]]:
    root = data / "benchmark"
    for scale in scales:
        size = weights.find(network, scale=scale).stat().st_size
        yield {"scale": scale, "bits": None, "bytes": size, **quality(network, root, scale=scale)}
        for width in bits:
            for method in methods:
                file, seconds = quantized(data, folder, network, scale=scale, bits=width, method=method)
                facts = {"bytes": file.stat().st_size, "seconds": round(seconds)}
                values = quality(file, root, scale=scale)
                yield {"scale": scale, "bits": width, "method": method, **facts, **values}


def engine_rows(data: Path, folder: Path, network: str, *, rounds: int, threads: int) -> Iterator[dict[str, Any]]:
    files = {
        str(bits): quantized(data, folder, network, scale=4, bits=bits, method="ADC + BR")[0] for bits in (8, 6, 4)
    }
    files["float"] = weights.find(network, scale=4)
    for name in ("float", "8"):
        files[f"{name}.onnx"] = folder / f"{name}.onnx"
        succeed(["export", "-n", str(files[name]), "-o", str(files[f"{name}.onnx"]), "--size", f"{SIZE}x{SIZE}"])
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    for subject, file, engine, precision in ENGINES:
        command = [sys.executable, str(HERE / "one_engine.py"), str(files[file]), engine, precision, str(SIZE)]
        for repeats in ("1", str(rounds)):  # the first translates, where there is anything to translate
            done = subprocess.run([*command, repeats], env=environment, capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"{subject}: {done.stderr}")
        told = json.loads(done.stdout)
        row = {"subject": subject, "bytes": files[file].stat().st_size, **told, "peak": round(told["peak"] / 1e9, 2)}
        if subject in JUDGED:
            row |= quality(files[file], data / "benchmark", scale=4, engine=engine, precision=precision, sets=("Set5",))
        yield row


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--network", default="default", help="a known network, or the path of a weight file")
    parser.add_argument("--scales", type=int, nargs="+", default=[4])
    parser.add_argument("--themes", default="quality,engines")
    parser.add_argument("--keep", type=Path, help="folder for the quantized files; those that are there are taken")
    parser.add_argument("--bits", type=int, nargs="+", default=BITS, choices=BITS, help="of the theme quality")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS, help="of the theme quality")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.keep or Path(name)
        os.environ["FINESCALE_CACHE"] = str(folder / "cache")
        for theme in arguments.themes.split(","):
            if theme == "quality":
                rows = quality_rows(
                    arguments.data,
                    folder,
                    arguments.network,
                    arguments.scales,
                    bits=arguments.bits,
                    methods=arguments.methods,
                )
                columns = ["scale", "bits", "method", "Set5", "Set14", "bytes", "seconds"]
            else:
                rows = engine_rows(
                    arguments.data, folder, arguments.network, rounds=arguments.rounds, threads=arguments.threads
                )
                columns = ["subject", "Set5", "bytes", "yards", "median_yards", "spread", "seconds", "peak"]
            print(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
            done = []
            for row in rows:
                done.append(row)
                print(f"| {' | '.join(str(row.get(column, '')) for column in columns)} |", flush=True)
            subject = "" if arguments.network == "default" else f"-{Path(arguments.network).stem}"
            write_results(f"quantization-{theme}{subject}", {"rows": done}, threads=arguments.threads)


if __name__ == "__main__":
    main()
