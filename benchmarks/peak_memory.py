"""How much memory this process takes with one network's forward; prints bytes as JSON. speed.py runs it.

Usage: python benchmarks/peak_memory.py VARIANT SIZE
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import torch

import finescale
from finescale.networks import FAMILIES as FAMILIES  # what `build` imports is a part of the imports


def high_water() -> int:
    """The most bytes that were ever resident of this process, by Linux' account."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found, "the system tells no high-water mark"
    return 1024 * int(found[1])


def main() -> None:
    variant, size = sys.argv[1], int(sys.argv[2])
    imports = high_water()
    network = finescale.build(variant, scale=4).eval()
    image = torch.rand(1, 3, size, size)
    with torch.no_grad():
        network(image)
    print(json.dumps({"imports": imports, "peak": high_water()}))


if __name__ == "__main__":
    main()
