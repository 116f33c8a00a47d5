"""What a batch will take: pixels and disk before it starts, time as it goes."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from finescale.system.places import Place, RemotePath
from finescale.system.search import is_folder
from finescale.upscale.batch import size_of
from finescale.upscale.outputs import Job, OutputSettings

_BYTES_PER_PIXEL = {".png": 2.0, ".tif": 3.0, ".tiff": 3.0, ".jpg": 0.8, ".jpeg": 0.8, ".webp": 0.6, ".dzi": 1.0}
"""About what upscaled photographs of 8 bits take at the default quality; other formats count as PNG."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What the pictures of a batch that are still to be made will take."""

    pixels: dict[Place, int]
    """Pixels of each input whose size is known."""
    output_pixels: int
    """Pixels of all results."""
    disks: tuple[tuple[int, int], ...]
    """About the bytes that results take on each disk of this machine, and those that are free there."""
    num_unknown: int = 0
    """Remote inputs, whose sizes are not known before they are fetched; nothing else here counts them."""
    num_unasked: int = 0
    """Results that may exist at remote places, which are not asked before each one's turn."""

    @property
    def input_pixels(self) -> int:
        """Pixels of all inputs."""
        return sum(self.pixels.values())

    @property
    def fits(self) -> bool:
        """Whether every disk has room for its results."""
        return all(needed <= free for needed, free in self.disks)

    def seconds_left(self, done: float, elapsed: float) -> float | None:
        """Return the time that is left at the pace so far, in seconds; None before anything is done, or where
        inputs are of unknown size.

        Args:
            done: Input pixels done.
            elapsed: Seconds that they took.
        """
        if self.num_unknown or done <= 0:
            return None
        return elapsed * max(0.0, self.input_pixels - done) / done


def forecast(
    jobs: Iterable[Job],
    settings: OutputSettings,
    *,
    scale: int,
    size_of: Callable[[Job], tuple[int, int]] = size_of,
) -> Forecast:
    """Say what jobs will take; only the headers of pictures are read, and nothing is asked of remote places.

    Results that exist on this machine and are kept, and inputs that cannot be read, take nothing.

    Args:
        jobs: The inputs and their outputs.
        settings: How results are written.
        scale: Factor by which the network enlarges.
        size_of: Reads height and width of a job's input, 0 where it cannot be read.
    """
    pixels: dict[Place, int] = {}
    output_pixels = num_unknown = num_unasked = 0
    needed: dict[int, float] = {}
    places: dict[int, Path] = {}
    for job in jobs:
        output = job.output
        if output is None or (isinstance(output, Path) and os.path.lexists(output) and not settings.overwrite):
            continue
        height, width = size_of(job)
        is_unknown = isinstance(job.input, RemotePath)
        num_unknown += is_unknown
        if isinstance(output, RemotePath) and not settings.overwrite and (is_unknown or height):
            num_unasked += 1
        if is_unknown or not height:
            continue
        pixels[job.input] = height * width
        made = math.prod(settings.final_size((height, width), (scale * height, scale * width)))
        output_pixels += made
        if isinstance(output, RemotePath):
            continue
        place = next(folder for folder in output.absolute().parents if is_folder(folder))
        disk = place.stat().st_dev
        places[disk] = place
        needed[disk] = needed.get(disk, 0.0) + made * _BYTES_PER_PIXEL.get(output.suffix.lower(), 2.0)
    disks = tuple((int(number), shutil.disk_usage(places[disk]).free) for disk, number in needed.items())
    return Forecast(
        pixels=pixels, output_pixels=output_pixels, disks=disks, num_unknown=num_unknown, num_unasked=num_unasked
    )
