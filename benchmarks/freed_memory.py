"""Processor seconds of a forward pass with freed memory returned to the system, and used again as by the commands.

Usage: python benchmarks/freed_memory.py [NETWORK:SIDE...] [--passes 3]

Each case is a process of its own. Printed are the least seconds of some passes in one thread, the pages that the system
cleared in each, the most that was ever resident, and whether the outputs are equal to the bit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import time

CASES = ["default:128", "default:256", "dat-light:128", "hit-srf:256", "swinir:160"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=CASES, metavar="NETWORK:SIDE", help=f"default: {' '.join(CASES)}")
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--reuse", choices=["no", "yes"], help="measure one case in this process")
    given = parser.parse_args()
    if given.reuse is not None:
        print(json.dumps(measured(given.cases[0], given.passes, reuse=given.reuse == "yes")))
        return
    for case in given.cases:
        rows = {}
        for reuse in ("no", "yes"):
            command = [sys.executable, __file__, case, "--passes", str(given.passes), "--reuse", reuse]
            rows[reuse] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        is_equal = rows["no"].pop("output") == rows["yes"].pop("output")
        print(case, rows, "outputs equal" if is_equal else "outputs differ", flush=True)


def measured(case: str, passes: int, *, reuse: bool) -> dict[str, float | str]:
    """Return what the passes of one network take."""
    from finescale.system.allocation import reuse_memory

    if reuse:
        reuse_memory()
    import torch

    import finescale
    from finescale import weights

    torch.set_num_threads(1)
    torch.manual_seed(0)
    name, _, side = case.partition(":")
    network = weights.load_named(name, scale=4).network if name == "default" else finescale.build(name, scale=4).eval()
    image = torch.rand(1, 3, int(side), int(side))
    seconds = []
    with torch.inference_mode():
        output = network(image)
        before = resource.getrusage(resource.RUSAGE_SELF)
        for _ in range(passes):
            started = time.process_time()
            network(image)
            seconds.append(time.process_time() - started)
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": round(min(seconds), 3),
        "pages": (after.ru_minflt - before.ru_minflt) // passes,
        "mb": after.ru_maxrss // 1024,
        "output": hashlib.sha256(output.numpy().tobytes()).hexdigest(),
    }


if __name__ == "__main__":
    main()
