"""Throughput and latency of `finescale serve` at saturation, against reading, upscaling and writing in one process.

Usage: python benchmarks/serve.py [--side 128] [--clients 8] [--pictures 24] [--rounds 5]

Both alternate, so that a busy minute meets both. The direct loop does what a job needs: it reads a PNG file, calls
`Upscaler`, and writes a PNG file.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import torch
from record import write_results

from finescale import Upscaler
from finescale.images import read_image, write_image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--pictures", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.png"
        write_image(picture, torch.rand(3, given.side, given.side, generator=torch.Generator().manual_seed(0)))
        errors = Path(folder) / "errors.txt"
        command = [*(sys.executable, "-m", "finescale", "serve", "--port", "0", "--folder", folder)]
        with errors.open("w") as file:
            server = subprocess.Popen(
                [*command, "--threads", str(given.threads)],
                stderr=file,
                env={**os.environ, "OMP_NUM_THREADS": str(given.threads)},
            )
        try:
            measure(_address(server, errors), picture, given)
        finally:
            server.terminate()
            server.wait(60)


def _address(server: subprocess.Popen[bytes], errors: Path) -> str:
    while "serving http" not in errors.read_text():
        if server.poll() is not None:
            sys.exit(errors.read_text())
        time.sleep(0.1)
    address = errors.read_text().partition("serving ")[2].partition("/ on")[0]
    while httpx.get(f"{address}/readyz").status_code != 200:
        time.sleep(0.1)
    return address


def measure(address: str, picture: Path, given: argparse.Namespace) -> None:
    """Alternate the two and print what they reach."""
    upscaler = Upscaler.from_pretrained("default", scale=2, precision="auto")
    latencies: list[float] = []

    def direct() -> None:
        for _ in range(given.pictures):
            write_image(picture.with_name("direct.png"), upscaler(read_image(picture)))

    def request(client: httpx.Client) -> None:
        started = time.perf_counter()
        with picture.open("rb") as file:
            answer = client.post("/v1/upscale", files={"image": file}, data={"scale": "2"})
        answer.raise_for_status()
        latencies.append(time.perf_counter() - started)

    def served() -> None:
        with httpx.Client(base_url=address, timeout=None) as client, ThreadPoolExecutor(given.clients) as pool:
            list(pool.map(lambda _: request(client), range(given.pictures)))

    rates: dict[str, list[float]] = {"direct": [], "served": []}
    direct()
    served()
    latencies.clear()
    for _ in range(given.rounds):
        for name, run in (("direct", direct), ("served", served)):
            started = time.perf_counter()
            run()
            rates[name].append(given.pictures / (time.perf_counter() - started))
    best = {name: max(found) for name, found in rates.items()}
    median = {name: statistics.median(found) for name, found in rates.items()}
    row = {
        "direct_per_second": round(best["direct"], 2),
        "served_per_second": round(best["served"], 2),
        "lost": round(1 - best["served"] / best["direct"], 3),
        "lost_median": round(1 - median["served"] / median["direct"], 3),
        "latency_median_s": round(statistics.median(latencies), 3),
        "latency_99_s": round(statistics.quantiles(latencies, n=100)[98], 3),
    }
    for name, value in row.items():
        print(f"{name}: {value}")
    conditions = {"side": given.side, "clients": given.clients, "pictures": given.pictures, "rounds": given.rounds}
    write_results("serve", {"theme": "serve", "conditions": conditions, "rows": [row]}, threads=given.threads)


if __name__ == "__main__":
    main()
