"""Throughput and latency of `finescale serve` at saturation, against reading, upscaling and writing in one process.

Usage: python benchmarks/serve.py [--sides 32 64 128] [--clients 8] [--seconds 6] [--rounds 3]

Both alternate, so that a busy minute meets both. The direct loop does what a job needs: it reads a PNG file, calls
`Upscaler`, and writes a PNG file. A third measurement passes pictures of equal size through the network together, which
shows what a server could gain by batches.
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
from finescale.system.allocation import reuse_memory

BATCH = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=6, help="of each of the two, in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    reuse_memory()  # as the server does
    upscaler = Upscaler.from_pretrained("default", scale=2, precision="auto")
    with tempfile.TemporaryDirectory() as folder:
        errors = Path(folder) / "errors.txt"
        command = [*(sys.executable, "-m", "finescale", "serve", "--port", "0", "--folder", folder)]
        with errors.open("w") as file:
            server = subprocess.Popen(
                [*command, "--threads", str(given.threads)],
                stderr=file,
                env={**os.environ, "OMP_NUM_THREADS": str(given.threads)},
            )
        try:
            address = _address(server, errors)
            rows = [measure(address, upscaler, Path(folder) / f"{side}.png", side, given) for side in given.sides]
        finally:
            server.terminate()
            server.wait(60)
    conditions = {"clients": given.clients, "seconds": given.seconds, "rounds": given.rounds, "batch": BATCH}
    write_results("serve", {"theme": "serve", "conditions": conditions, "rows": rows}, threads=given.threads)


def _address(server: subprocess.Popen[bytes], errors: Path) -> str:
    while "serving http" not in errors.read_text():
        if server.poll() is not None:
            sys.exit(errors.read_text())
        time.sleep(0.1)
    address = errors.read_text().partition("serving ")[2].partition("/ on")[0]
    while httpx.get(f"{address}/readyz").status_code != 200:
        time.sleep(0.1)
    return address


def measure(
    address: str, upscaler: Upscaler, picture: Path, side: int, given: argparse.Namespace
) -> dict[str, str | float | bool]:
    """Alternate the two for pictures of one size, and return and print what they reach."""
    write_image(picture, torch.rand(3, side, side, generator=torch.Generator().manual_seed(0)))
    data = picture.read_bytes()
    latencies: list[float] = []

    def direct(seconds: float) -> float:
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            write_image(picture.with_name("direct.png"), upscaler(read_image(picture)))
            count += 1
        return count / (time.perf_counter() - started)

    def client(end: float) -> int:
        count = 0
        with httpx.Client(base_url=address, timeout=None) as session:
            while time.perf_counter() < end:
                started = time.perf_counter()
                session.post("/v1/upscale", files={"image": data}, data={"scale": "2"}).raise_for_status()
                latencies.append(time.perf_counter() - started)
                count += 1
        return count

    def served(seconds: float) -> float:
        started = time.perf_counter()
        with ThreadPoolExecutor(given.clients) as pool:
            counts = list(pool.map(client, [started + seconds] * given.clients))
        return sum(counts) / (time.perf_counter() - started)

    direct(1)
    served(1)
    latencies.clear()
    pairs = [(direct(given.seconds), served(given.seconds)) for _ in range(given.rounds)]
    row: dict[str, str | float | bool] = {
        "subject": f"{side} x {side}",
        "direct_per_second": round(statistics.median(rate for rate, _ in pairs), 2),
        "served_per_second": round(statistics.median(rate for _, rate in pairs), 2),
        "lost": round(statistics.median(1 - served_rate / direct_rate for direct_rate, served_rate in pairs), 3),
        "latency_median_s": round(statistics.median(latencies), 3),
        "latency_99_s": round(statistics.quantiles(latencies, n=100)[98], 3),
        **measure_batch(upscaler, side),
    }
    print(*(f"{name}: {value}" for name, value in row.items()), sep="  ")
    return row


@torch.inference_mode()
def measure_batch(upscaler: Upscaler, side: int) -> dict[str, float | bool]:
    """Compare the network's time for pictures one by one and for the same pictures in one batch."""
    pictures = torch.rand(BATCH, 3, side, side, generator=torch.Generator().manual_seed(1))
    gains = []
    for _ in range(4):
        started = time.perf_counter()
        alone = torch.cat([upscaler.network(picture[None]) for picture in pictures])
        middle = time.perf_counter()
        together = upscaler.network(pictures)
        gains.append((middle - started) / (time.perf_counter() - middle))
    return {
        "batch_speedup": round(statistics.median(gains[1:]), 2),
        "batch_is_equal": torch.equal(alone, together),
    }


if __name__ == "__main__":
    main()
