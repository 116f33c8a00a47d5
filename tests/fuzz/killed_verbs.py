"""Kill each verb of the command line at random moments, run it again, and compare its files with an undisturbed run.

    python tests/fuzz/killed_verbs.py                     # every verb, 20 moments each
    python tests/fuzz/killed_verbs.py upscale --moments 100 --first 20

The second run must end well, with the files of an uninterrupted one and no temporary ones.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyvips

from finescale import save

sys.path.insert(0, str(Path(__file__).parents[1]))
from fuzz.seeds import SETTINGS, tiny_network


@dataclass(frozen=True)
class Verb:
    """A command that makes files below the folder OUT."""

    arguments: Sequence[str]
    """In the folder that `prepare_inputs` fills."""
    not_compared: str = r"$^"
    """Pattern of names of files whose bytes differ from run to run, such as those with times in them."""


VERBS: Mapping[str, Verb] = {
    "upscale": Verb(["upscale", "pictures", "-o", "OUT", "-n", "tiny.safetensors"]),
    "evaluate": Verb(
        ["evaluate", "-n", "tiny.safetensors", "--data", "sets", "-o", "OUT"], not_compared=r".*\.(json|jsonl)$"
    ),
    "downsample": Verb(["prepare", "downsample", "pictures", "-o", "OUT", "--scale", "2"]),
    "crops": Verb(["prepare", "crops", "pictures", "-o", "OUT", "--size", "32", "--step", "16"]),
    "cache": Verb(["prepare", "cache", "pictures", "-o", "OUT/cache", "--overwrite"]),
    "quantize": Verb(
        ["quantize", "-n", "tiny.safetensors", "-o", "OUT/small.safetensors", "--bits", "8", "--epochs", "3",
         "--calibration", "pictures", "--crops", "16", "--crop-size", "16", "--overwrite"]
    ),
    "train": Verb(["train", "training.yml", "--set", "output=OUT"], not_compared=r".*\.(pt|png)$|.*tensorboard.*"),
}  # fmt: skip
"""Verbs that make files."""


def prepare_inputs(folder: Path) -> None:
    """Fill a folder with what the commands read."""
    for place, count in (("pictures", 12), ("sets/Set5/HR", 4)):
        (folder / place).mkdir(parents=True)
        for number in range(count):
            levels = np.random.default_rng(number).integers(0, 256, (64, 72, 3), np.uint8)
            pyvips.Image.new_from_array(levels).write_to_file(str(folder / place / f"{number}.png"))
    save(tiny_network(), folder / "tiny.safetensors", source="a test")
    (folder / "training.yml").write_bytes(SETTINGS)


TEXT_LOG = re.compile(r"(train|test)_\d{8}_\d{6}\.log")
"""Logs with the time in their names, of which every run writes one."""


def files_of(folder: Path, verb: Verb) -> dict[str, str]:
    """Every file below a folder but text logs, hidden ones too, with the hash of its content where it is compared."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not TEXT_LOG.fullmatch(path.name):
            name = path.relative_to(folder).as_posix()
            is_compared = not re.fullmatch(verb.not_compared, name)
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if is_compared else ""
    return found


def start(verb: Verb, folder: Path) -> subprocess.Popen[str]:
    """Begin the command, with its results in ``folder/out``."""
    (folder / "out").mkdir(exist_ok=True)
    arguments = [argument.replace("OUT", "out") for argument in verb.arguments]
    return subprocess.Popen(
        [sys.executable, "-m", "finescale", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def undisturbed(verb: Verb, folder: Path) -> tuple[dict[str, str], float]:
    """Run the command to its end.

    Returns:
        The files that it makes, and the seconds that it takes.
    """
    begun = time.monotonic()
    process = start(verb, folder)
    _, said = process.communicate(timeout=300)
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode} without any disturbance: {said[-1000:]}")
    seconds = time.monotonic() - begun
    found = files_of(folder / "out", verb)
    shutil.rmtree(folder / "out")
    return found, seconds


def killed(verb: Verb, folder: Path, *, after: float, expected: Mapping[str, str]) -> str | None:
    """Kill the command after so many seconds, and run it again.

    Returns:
        What is wrong with what it leaves; None where all is well.
    """
    shutil.rmtree(folder / "out", ignore_errors=True)
    process = start(verb, folder)
    try:
        process.communicate(timeout=after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = start(verb, folder)
    _, said = process.communicate(timeout=300)
    if process.returncode or "Traceback" in said:
        return f"the second run ended with {process.returncode}: {said[-1000:]}"
    found = files_of(folder / "out", verb)
    if found == expected:
        return None
    differing = [name for name in found.keys() & expected.keys() if found[name] != expected[name]]
    facts = {"extra": [*found.keys() - expected.keys()], "missing": [*expected.keys() - found.keys()]}
    return json.dumps({**facts, "differing": differing})


def campaign(name: str, folder: Path, *, moments: int, first: int = 0) -> list[str]:
    """Kill one verb at several random moments.

    Args:
        name: Of `VERBS`.
        folder: Filled by `prepare_inputs`.
        moments: How many.
        first: Number of the first moment; a number always stands for the same share of the undisturbed time.

    Returns:
        What was found wrong, a sentence for each moment.
    """
    verb = VERBS[name]
    expected, seconds = undisturbed(verb, folder)
    findings = []
    for number in range(first, first + moments):
        share = random.Random(number).random()
        wrong = killed(verb, folder, after=share * seconds, expected=expected)
        if wrong:
            findings.append(f"{name}, killed at {share:.2f} of {seconds:.1f} s: {wrong}")
    return findings


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verbs", nargs="*", help=f"of {', '.join(VERBS)}; default: all")
    parser.add_argument("--moments", type=int, default=20, help="how often each is killed")
    parser.add_argument("--first", type=int, default=0, help="number of the first moment")
    asked = parser.parse_args()
    found = 0
    for name in asked.verbs or VERBS:
        with tempfile.TemporaryDirectory() as folder:
            prepare_inputs(Path(folder))
            findings = campaign(name, Path(folder), moments=asked.moments, first=asked.first)
        found += len(findings)
        sys.stdout.write("".join(f"FOUND {finding}\n" for finding in findings))
        sys.stdout.write(f"{name}: {asked.moments} moments, {len(findings)} findings\n")
        sys.stdout.flush()
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(_main())
