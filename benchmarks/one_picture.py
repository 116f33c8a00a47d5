"""``finescale upscale`` in this process; prints the seconds spent in the network as JSON. speed.py runs it.

Usage: python benchmarks/one_picture.py INPUT OUTPUT NETWORK
"""

from __future__ import annotations

import json
import sys
import time

from torch import Tensor

from finescale.cli.main import run
from finescale.upscale import Upscaler


def main() -> None:
    picture, output, network = sys.argv[1:]
    forward = Upscaler._run
    seconds = 0.0

    def timed(upscaler: Upscaler, lr: Tensor, *, precision: str | None = None) -> Tensor:
        nonlocal seconds
        start = time.perf_counter()
        sr = forward(upscaler, lr, precision=precision)
        seconds += time.perf_counter() - start
        return sr

    Upscaler._run = timed  # type: ignore[method-assign]
    code = run(["upscale", picture, "-o", output, "-n", network, "-s", "4", "--overwrite"])
    print(json.dumps({"network_seconds": seconds}))
    sys.exit(code)


if __name__ == "__main__":
    main()
