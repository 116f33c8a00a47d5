"""Give finescale damaged files of every format that it reads, and check how it ends.

    python tests/fuzz/mutated_files.py                       # 600 files of each format
    python tests/fuzz/mutated_files.py png bmp --count 5000 --first 600

A damaged picture is upscaled or refused in one sentence; a damaged weight or settings file is read or refused. Never a
traceback, a crash, a hang, a partial or temporary file, a changed input, or an exit code that does not fit the report.
Each file is made from its number, so that a finding can be made again; what it was is kept in the folder --keep.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import pyvips

from finescale import save

sys.path.insert(0, str(Path(__file__).parents[1]))
from fuzz.mutations import mutated
from fuzz.seeds import PICTURES, SETTINGS, tiny_network, weight_files

BATCH = 60
"""Files of one run of the command."""

MOST_MEMORY = 1500
"""MiB that reading weight and settings files may take beyond what the imports take."""

_READ_EACH = """
import contextlib, faulthandler, io, json, resource, sys
from pathlib import Path
import torch
from finescale.cli.main import run
from finescale import weights
faulthandler.enable()
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + int(sys.argv[1]) * 2**20,) * 2)
for path in sys.argv[3:]:
    faulthandler.dump_traceback_later(20, exit=True)
    print(path, file=sys.stderr, flush=True)
    printed, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
        from finescale.cli import console
        console.errors.cache_clear()
        code = run(json.loads(sys.argv[2].replace("FILE", path)))
    faulthandler.cancel_dump_traceback_later()
    print(json.dumps({"path": path, "code": code, "printed": printed.getvalue(), "said": said.getvalue()}), flush=True)
"""
"""Runs one command for each file in one process, in which memory is limited."""


class FindingError(Exception):
    """Something that must not happen, with the number of the file or files."""


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_pictures(
    suffix: str, make_seeds: Callable[[], Sequence[bytes]], numbers: Iterable[int], folder: Path
) -> tuple[int, int]:
    """Upscale damaged pictures of one format by one command.

    Returns:
        How many were upscaled, and how many refused.

    Raises:
        FindingError: The command did not end as it must.
    """
    inputs, results, weights = folder / "inputs", folder / "results", folder / "tiny.safetensors"
    inputs.mkdir()
    seeds = make_seeds()
    save(tiny_network(), weights, source="a test")
    for number in numbers:
        (inputs / f"{number}.{suffix}").write_bytes(mutated(seeds, number))
    before = {path: _digest(path) for path in inputs.iterdir()}
    arguments = ["upscale", str(inputs), "-o", str(results), "-n", str(weights), "--max-pixels", "100000", "--json"]
    command = [sys.executable, "-m", "finescale", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=_environment(), check=False)
    except subprocess.TimeoutExpired:
        raise FindingError(f"{suffix}: no end within 300 s") from None
    if done.returncode not in (0, 2) or "Traceback" in done.stderr:
        raise FindingError(f"{suffix}: exit code {done.returncode}:\n{done.stderr[-2000:]}")
    reports = json.loads(done.stdout)["files"]
    if {report["input"] for report in reports} != {str(path) for path in before}:
        raise FindingError(f"{suffix}: the report has {len(reports)} of {len(before)} files")
    failed = [report for report in reports if report["status"] == "failed"]
    if done.returncode != (2 if failed else 0):
        raise FindingError(f"{suffix}: exit code {done.returncode} with {len(failed)} failures")
    made = {report["output"] for report in reports if report["status"] == "done"}
    if {str(path) for path in results.glob("**/*") if path.is_file()} != made:
        raise FindingError(f"{suffix}: files in the folder of results are not those of the report")
    for report in reports:
        if report["status"] == "done":
            result = pyvips.Image.new_from_file(report["output"], fail_on="warning")
            result.avg()  # decodes it
            if [result.height, result.width] != report["output_size"]:
                raise FindingError(f"{report['input']}: the result has another size than the report")
        elif not report["reason"] or "\n" in report["reason"] or len(report["reason"]) > 1000:
            raise FindingError(f"{report['input']}: not a sentence: {report['reason']!r}")
    if {path: _digest(path) for path in inputs.iterdir()} != before:
        raise FindingError(f"{suffix}: an input was changed")
    return len(made), len(failed)


def check_reading(
    name: str, seeds: Sequence[bytes], numbers: Iterable[int], folder: Path, *, arguments: Sequence[str]
) -> tuple[int, int]:
    """Read damaged files by one command for each.

    Args:
        name: Ending of the files' names.
        seeds: Whole files.
        numbers: Of the damaged ones.
        folder: Where they are written.
        arguments: Of the command, with FILE in place of the file.

    Returns:
        How many were read, and how many refused.

    Raises:
        FindingError: A command did not end as it must.
    """
    paths = []
    for number in numbers:
        paths.append(folder / f"{number}.{name}")
        paths[-1].write_bytes(mutated(seeds, number))
    command = [sys.executable, "-c", _READ_EACH, str(MOST_MEMORY), json.dumps(list(arguments)), *map(str, paths)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=1200, env=_environment(), check=False, cwd=folder
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode != 0 or len(answers) != len(paths):
        raise FindingError(f"{name}: the process ended with {done.returncode}:\n{done.stderr[-2000:]}")
    for answer in answers:
        sentence = answer["said"].strip()
        if answer["code"] not in (0, 1, 2) or "Traceback" in sentence:
            raise FindingError(f"{answer['path']}: exit code {answer['code']}: {sentence[-2000:]}")
        if answer["code"] and (len(sentence) > 3000 or not sentence.startswith("finescale: ")):
            raise FindingError(f"{answer['path']}: not a sentence: {sentence[:3000]}")
    if left := [path for path in folder.rglob("*") if path.is_file() and path not in paths]:
        raise FindingError(f"{name}: left behind: {left}")
    refused = sum(answer["code"] != 0 for answer in answers)
    return len(answers) - refused, refused


Check = Callable[[Iterable[int], Path], tuple[int, int]]


def checks(folder: Path) -> Mapping[str, Check]:
    """Every format and how damaged files of it are checked; weight files to be damaged are written to a folder."""
    found: dict[str, Check] = {suffix: partial(check_pictures, suffix, seeds) for suffix, seeds in PICTURES.items()}
    for name, seeds in weight_files(folder).items():
        found[name] = partial(check_reading, name, seeds, arguments=["inspect", "FILE", "--json"])
    found["yml"] = partial(check_reading, "yml", [SETTINGS], arguments=["train", "FILE", "--plan"])
    return found


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("formats", nargs="*", help="such as png or safetensors; default: all")
    parser.add_argument("--count", type=int, default=600, help="damaged files of each format")
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--keep", type=Path, help="folder for the files of a finding")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        known = checks(Path(folder))
        num_findings = 0
        for name in asked.formats or known:
            read = refused = 0
            for first in range(asked.first, asked.first + asked.count, BATCH):
                numbers = range(first, min(first + BATCH, asked.first + asked.count))
                with tempfile.TemporaryDirectory() as place:
                    try:
                        counts = known[name](numbers, Path(place))
                    except FindingError as finding:
                        num_findings += 1
                        sys.stdout.write(f"FOUND, files {numbers[0]} to {numbers[-1]}: {finding}\n")
                        if asked.keep:
                            Path(place).rename(asked.keep / f"{name}_{first}")
                            Path(place).mkdir()
                        continue
                    read, refused = read + counts[0], refused + counts[1]
            sys.stdout.write(f"{name}: {read} read, {refused} refused\n")
            sys.stdout.flush()
    return 1 if num_findings else 0


if __name__ == "__main__":
    sys.exit(_main())
