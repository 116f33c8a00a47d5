"""How the table of public reports (reports/README.md of the data folder) is checked: by the command itself."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import ImageCms

SCALE = 2
LARGEST_MEAN = 2.5
"""Mean difference, in levels of 8 bits, up to which a result is close."""

Levels = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Run:
    """One run of `finescale upscale` with the bundled network."""

    code: int
    said: str
    """Standard error."""
    reports: dict[str, dict[str, Any]]
    """Those of the files, by the names of the inputs."""

    def refusal(self, name: str) -> str:
        """Return why an input was refused, and check that this was a failure in one sentence."""
        report = self.reports[name]
        assert report["status"] == "failed", report
        assert report["output"] is None
        assert self.code == 2
        assert "\n" not in report["reason"]
        assert report["reason"] in self.said
        return str(report["reason"])

    def result(self, name: str) -> Path:
        """Return the result of an input."""
        report = self.reports[name]
        assert report["status"] == "done", report
        return Path(report["output"])

    def notes(self, name: str) -> list[str]:
        """Return the notes of an input, and check that each was also printed."""
        notes: list[str] = self.reports[name]["notes"]
        for note in notes:
            assert note in self.said
        return notes


def upscale(inputs: Iterable[Path], folder: Path, *options: str) -> Run:
    """Upscale inputs into a folder by one run of the command."""
    command = [sys.executable, "-m", "finescale", "upscale", *map(str, inputs), "-o", str(folder)]
    command += ["-s", str(SCALE), "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.stdout, done.stderr
    assert "Traceback" not in done.stderr
    reports = {Path(report["input"]).name: report for report in json.loads(done.stdout)["files"]}
    return Run(done.returncode, done.stderr, reports)


def shown(path: Path) -> Levels:
    """Return a picture as a viewer shows it: through its own profile as sRGB, on white; (H, W, 3) in 8 bits."""
    with Pillow.open(path) as stored:
        profile = stored.info.get("icc_profile")
        if stored.mode.startswith("I;16"):
            stored = Pillow.fromarray((np.asarray(stored) / 257).round().astype(np.uint8))
        is_clear = stored.has_transparency_data
        alpha = stored.convert("RGBA").getchannel("A") if is_clear else None
        is_gray = stored.mode in ("1", "L", "LA")
        colors = stored.convert("L") if is_gray else stored.convert("RGBA").convert("RGB")
    if profile:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        colors = ImageCms.profileToProfile(colors, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
    levels = np.asarray(colors.convert("RGB")).astype(float)
    if alpha is None:
        return levels
    opacity = np.asarray(alpha)[..., None] / 255
    return levels * opacity + 255 * (1 - opacity)


def averaged(levels: Levels, scale: int) -> Levels:
    """Return the means of scale x scale pixels."""
    height, width, channels = levels.shape
    return levels.reshape(height // scale, scale, width // scale, scale, channels).mean((1, 3))


def distance(result: Path, expected: Path) -> float:
    """Return the mean difference between a result, averaged, and a picture of the input's size."""
    reduced, wanted = averaged(shown(result), SCALE), shown(expected)
    assert reduced.shape == wanted.shape
    return float(np.abs(reduced - wanted).mean())
