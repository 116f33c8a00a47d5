"""Time and memory of every variant, in yards (see README.md); prints tables and writes a result file per theme.

Usage: python benchmarks/speed.py [VARIANT...] [--themes forward,backward,memory,start,picture,spandrel] [--rounds 5]
       [--threads 2] [--compare RESULT.json]

The theme "spandrel" needs that package, and measures the networks that it has, beside ours in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from record import write_row
from tables import compared, table
from yardstick import Times, in_turns, measure, yardstick

import finescale
from finescale import weights
from finescale.networks import variants
from finescale.weights import load_by_spandrel

# The published code at x4, 1x3x128x128, two threads: yards, and the peak of its process in GB.
PUBLISHED_YARDS = {"hit-srf": 37, "span": 21, "dat-light": 17, "craft": 9, "drct": 61}
PUBLISHED_GB = {"hit-srf": 1.6, "span": 0.75, "dat-light": 0.6, "craft": 0.45, "drct": 1.4}

HERE = Path(__file__).parent
SIZE = 128
BATCH, PATCH = 4, 64
PICTURE = (750, 1000)  # 12 megapixels at x4
SMALL_PICTURE = (180, 240)

ONE_IMAGE = {"scale": 4, "input": [1, 3, SIZE, SIZE], "dtype": "float32"}
CONDITIONS = {
    "forward": ONE_IMAGE,
    "backward": {"scale": 4, "input": [BATCH, 3, PATCH, PATCH], "dtype": "float32"},
    "memory": ONE_IMAGE,
    "start": {},
    "picture": {"scale": 4, "input": [1, 3, *PICTURE], "small": [1, 3, *SMALL_PICTURE]},
    "spandrel": ONE_IMAGE,
}
USUAL = [theme for theme in CONDITIONS if theme != "spandrel"]  # what needs no other package
IN_SPANDREL = ("swinir", "swinir-light", "hat-s", "hat", "craft", "dat-light", "dat-2", "drct")
ALLOWED_DIFFERENCE = 1e-4  # of the answers of two implementations, by the largest value


def forward_row(variant: str, *, rounds: int) -> dict[str, Any]:
    """A fresh network's answer to one image."""
    network = finescale.build(variant, scale=4).eval()
    image = torch.rand(ONE_IMAGE["input"], generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        row = measure(lambda: network(image), rounds=rounds).as_row()
    published = PUBLISHED_YARDS.get(variant)
    times_fewer = None if published is None else round(published / row["yards"], 1)
    return {"subject": variant, **row, "published_yards": published, "times_fewer": times_fewer}


def spandrel_row(variant: str, *, rounds: int, threads: int) -> dict[str, Any]:
    """Our network and spandrel's implementation of it, with the same weights, in turns; both answers are compared."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    ours = finescale.build(variant, scale=4).eval()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{variant}.safetensors"
        weights.save(ours, file, source="a benchmark", published_buffers=True)
        theirs = load_by_spandrel(file).network.eval()
    image = torch.rand(ONE_IMAGE["input"], generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        answer, expected = ours(image), theirs(image)
        difference = float((answer - expected).abs().max() / expected.abs().max())
        if not difference <= ALLOWED_DIFFERENCE:
            sys.exit(f"{variant}: the answers differ by {difference:.1e} of the largest value")
        seconds, their_seconds, yard = in_turns(lambda: ours(image), lambda: theirs(image), yardstick(), rounds=rounds)
    return {
        "subject": variant,
        **Times(seconds, yard).as_row(),
        "spandrel_yards": Times(their_seconds, yard).as_row()["yards"],
        "spandrel_seconds": round(min(their_seconds), 4),
        "times_as_fast": round(min(their_seconds) / min(seconds), 2),
        "difference": f"{difference:.0e}",
    }


def backward_row(variant: str, *, rounds: int) -> dict[str, Any]:
    """A training's forward and backward, without its data and its optimizer."""
    network = finescale.build(variant, scale=4).train()
    batch = torch.rand(CONDITIONS["backward"]["input"], generator=torch.Generator().manual_seed(1))

    def step() -> None:
        network.zero_grad()
        network(batch).square().mean().backward()

    return {"subject": variant, **measure(step, rounds=rounds).as_row()}


def memory_row(variant: str, *, threads: int) -> dict[str, Any]:
    """The high-water mark of a fresh process with one forward, and what the imports have of it."""
    told = json.loads(_run([str(HERE / "peak_memory.py"), variant, str(SIZE)], threads=threads))
    peak, published = told["peak"] / 1e9, PUBLISHED_GB.get(variant)
    return {
        "subject": variant,
        "peak_gb": round(peak, 2),
        "imports_gb": round(told["imports"] / 1e9, 2),
        "published_gb": published,
        "share": None if published is None else round(peak / published, 2),
    }


def start_rows(*, rounds: int, threads: int) -> Iterator[dict[str, Any]]:
    """What is waited for before anything is done, in fresh processes."""
    for subject, arguments in {
        "python, nothing else": ["-c", "pass"],
        "import finescale": ["-c", "import finescale"],
        "import torch": ["-c", "import torch"],
        "finescale --help": ["-m", "finescale", "--help"],
    }.items():
        times = measure(lambda arguments=arguments: _run(arguments, threads=threads), rounds=rounds)
        yield {"subject": subject, **times.as_row()}


def picture_row(network: str, *, size: tuple[int, int], rounds: int, threads: int) -> dict[str, Any]:
    """``finescale upscale`` of one picture as a whole, from the start of Python to its end."""
    outside: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = network
        if network != "default":
            torch.manual_seed(0)
            weights = str(folder / f"{network}.safetensors")
            finescale.save(finescale.build(network, scale=4), weights, source="a benchmark")
        noise = torch.rand(1, 3, *(side // 8 for side in size), generator=torch.Generator().manual_seed(1))
        smooth = torch.nn.functional.interpolate(noise, size=size, mode="bicubic").clamp(0, 1)
        finescale.write_image(folder / "small.png", smooth[0])
        command = [str(HERE / "one_picture.py"), str(folder / "small.png"), str(folder / "large.png"), weights]

        def upscale() -> None:
            start = time.perf_counter()
            told = json.loads(_run(command, threads=threads))
            outside.append(time.perf_counter() - start - told["network_seconds"])

        row = measure(upscale, rounds=rounds).as_row()
    outside = outside[1:]  # the first was to warm up
    return {
        "subject": network if size == PICTURE else f"{network}, {size[1]} x {size[0]}",
        **row,
        "outside_seconds": round(min(outside), 2),
        "outside_median_seconds": round(statistics.median(outside), 2),
    }


def _run(arguments: Sequence[str], *, threads: int) -> str:
    """What a fresh Python prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout


def measure_theme(theme: str, networks: Sequence[str], *, rounds: int, threads: int) -> Iterator[dict[str, Any]]:
    """The rows of a theme, one after the other."""
    if theme == "start":
        yield from start_rows(rounds=rounds, threads=threads)
    elif theme == "picture":
        yield picture_row("default", size=SMALL_PICTURE, rounds=rounds, threads=threads)
        for network in ("default", *networks):
            yield picture_row(network, size=PICTURE, rounds=rounds, threads=threads)
    else:
        known = IN_SPANDREL if theme == "spandrel" else variants()
        for network in networks or known:
            if theme == "forward":
                yield forward_row(network, rounds=rounds)
            elif theme == "backward":
                yield backward_row(network, rounds=rounds)
            elif theme == "spandrel":
                # After a larger network in the same process spandrel's may take a third less.
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
                    yield fresh.submit(spandrel_row, network, rounds=rounds, threads=threads).result()
            else:
                yield memory_row(network, threads=threads)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("variants", nargs="*", help="default: all; for the theme picture, the bundled network alone")
    parser.add_argument("--themes", help=f"what is measured, with commas; default: {','.join(CONDITIONS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compare", type=Path, metavar="RESULT.json", help="an earlier result; its theme is measured")
    arguments = parser.parse_args()
    earlier = json.loads(arguments.compare.read_text()) if arguments.compare else None
    if earlier and "theme" not in earlier:
        parser.error(
            f"{arguments.compare} is no result of speed.py; known: {', '.join(f'{theme}_*' for theme in CONDITIONS)}"
        )
    themes = arguments.themes.split(",") if arguments.themes else [earlier["theme"]] if earlier else USUAL
    if unknown := [theme for theme in themes if theme not in CONDITIONS]:
        parser.error(f"no theme is called {unknown[0]!r}; known: {', '.join(CONDITIONS)}")
    if unknown := [variant for variant in arguments.variants if variant not in variants()]:
        parser.error(f"no variant is called {unknown[0]!r}; known: {', '.join(variants())}")
    results: dict[str, dict[str, Any]] = {
        theme: {"theme": theme, "threads": arguments.threads, "conditions": CONDITIONS[theme], "rows": []}
        for theme in themes
    }
    if earlier:
        try:
            for result in results.values():
                compared(result, earlier)  # before anything is measured
        except ValueError as error:
            parser.error(str(error))
    torch.set_num_threads(arguments.threads)
    for theme, result in results.items():
        for row in measure_theme(theme, arguments.variants, rounds=arguments.rounds, threads=arguments.threads):
            result["rows"].append(row)
            path = write_row(theme, row, conditions=CONDITIONS[theme], threads=arguments.threads)
        print(f"\n{theme}\n\n{table(theme, compared(result, earlier) if earlier else result['rows'])}")
        print(f"\nwritten to {path}")


if __name__ == "__main__":
    main()
