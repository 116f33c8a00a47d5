"""Time and memory of upscaling one picture on disk, by its size.

The network is a stand-in that repeats pixels, so that reading, cutting, blending and writing are measured and billions
of pixels take minutes: the memory of a real network's tile comes on top, once. Each size runs in a process of its own.

    python benchmarks/large_pictures.py 1000x1000 30000x20000 --folder /tmp/large
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import pyvips
import torch
from peak_memory import high_water
from torch import Tensor, nn


class Repeated(nn.Module):
    """A network that repeats pixels."""

    def forward(self, lr: Tensor) -> Tensor:
        return lr.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def main() -> None:
    """Measure each size and print a line of JSON for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="+", metavar="WIDTHxHEIGHT")
    parser.add_argument("--folder", type=Path, required=True, help="where inputs and results are made, and deleted")
    parser.add_argument("--format", default="tif", help="extension of the result")
    parser.add_argument("--in-this-process", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.in_this_process:
        print(json.dumps(measure(arguments.folder, arguments.format)))
        return
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for size in arguments.sizes:
        width, height = map(int, size.split("x"))
        write_picture(arguments.folder / "input.tif", width, height)
        command = [sys.executable, __file__, size, "--folder", arguments.folder, "--format", arguments.format]
        ran = subprocess.run([*command, "--in-this-process"], check=True, capture_output=True, text=True)
        print(json.dumps({"width": width, "height": height} | json.loads(ran.stdout)), flush=True)
        for path in arguments.folder.iterdir():
            path.unlink()


def write_picture(path: Path, width: int, height: int) -> None:
    """Write a picture of smooth colours and noise, as an uncompressed TIFF of strips."""
    noise = pyvips.Image.gaussnoise(1024, 1024, mean=0, sigma=6, seed=1)
    noise = noise.replicate(-(-width // 1024), -(-height // 1024))
    place = pyvips.Image.xyz(width, height) / max(width, height) * 200
    colours = place[0].bandjoin([place[1], 128]) + noise.crop(0, 0, width, height) + 20
    colours.cast("uchar").copy(interpretation="srgb").tiffsave(str(path), bigtiff=True)


def measure(folder: Path, suffix: str) -> dict[str, float]:
    """Upscale the picture of a folder in this process."""
    from finescale.upscale import Upscaler

    upscaler = Upscaler(Repeated(), scale=2)
    started = time.monotonic()
    report = upscaler.upscale_file(folder / "input.tif", folder / f"result.{suffix}", max_pixels=10**10)
    assert report.output_size is not None
    height, width = report.output_size
    return {
        "output_megapixels": height * width / 1e6,
        "seconds": round(time.monotonic() - started, 1),
        "peak_mb": round(high_water() / 1e6),
        "threads": torch.get_num_threads(),
        "result_mb": round((folder / f"result.{suffix}").stat().st_size / 1e6),
    }


if __name__ == "__main__":
    main()
