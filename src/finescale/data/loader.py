"""Training pictures kept decoded, and the batches drawn from them."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import torch
from torch import Tensor

from finescale.data.cache import open_cache
from finescale.data.crops import sample
from finescale.data.originals import read_original
from finescale.data.pairs import find_images
from finescale.errors import DataError, ImageReadError


@dataclass(frozen=True)
class TrainingImages:
    """Originals, decoded: decoding, not cropping, is what costs time."""

    names: tuple[str, ...]
    """File names, for messages."""
    pixels: Sequence[Tensor]
    """(3, H, W) each, uint8, in memory or mapped from a cache; grey pictures have three equal channels."""
    too_small: tuple[str, ...] = ()
    """File names of the pictures that were left out because no patch fits into them."""

    def __len__(self) -> int:
        return len(self.pixels)

    @classmethod
    def from_folders(cls, folders: Iterable[Path], *, min_size: int = 1) -> TrainingImages:
        """Read all pictures of some folders, folder by folder, each in natural order.

        Args:
            folders: Folders of originals; pictures in folders below them are not looked for.
            min_size: The least height and width, in pixels: the scale times the patch.

        Raises:
            DataError: A folder holds no picture, pictures are unreadable (all of them are named), or all are too small.
        """
        names: list[str] = []
        pixels: list[Tensor] = []
        too_small: list[str] = []
        mistakes: list[str] = []
        for path in (path for folder in folders for path in find_images(folder)):
            try:
                image = read_original(path)
            except ImageReadError as error:
                mistakes.append(str(error))
                continue
            if min(image.size) < min_size:
                too_small.append(path.name)
                continue
            names.append(path.name)
            pixels.append(image.levels.expand(3, -1, -1).contiguous())
        if mistakes:
            raise DataError(f"{len(mistakes)} pictures cannot be used for training: " + "; ".join(mistakes))
        if not pixels:
            raise DataError(
                f"all {len(too_small)} pictures have a side of fewer than {min_size} pixels; take a smaller patch"
            )
        return cls(tuple(names), tuple(pixels), tuple(too_small))

    @classmethod
    def from_cache(cls, folder: Path, *, min_size: int = 1) -> TrainingImages:
        """Take the pictures of a cache, of which only what is cropped is read.

        Args:
            folder: What `finescale.data.write_cache` made.
            min_size: The least height and width, in pixels: the scale times the patch.

        Raises:
            DataError: The folder is no whole cache, or all its pictures are too small.
        """
        cached = open_cache(folder, min_size=min_size)
        return cls(cached.names, cached, cached.too_small)


def make_batch(
    images: TrainingImages, *, seed: int, step: int, batch: int, scale: int, patch: int
) -> tuple[Tensor, Tensor]:
    """The batch of one training step, the same whenever and wherever it is made.

    Args:
        images: What to draw from.
        seed: Names a sequence of samples.
        step: Which step; its samples are those at ``step * batch`` and following.
        batch: How many samples.
        scale: How many times smaller the low-resolution patches are.
        patch: Height and width of the low-resolution patches.

    Returns:
        lr (batch, 3, patch, patch) and hr (batch, 3, scale * patch, scale * patch), float32 in [0, 1].

    Raises:
        ValueError: A drawn picture is smaller than the patch.
    """
    indices = range(step * batch, (step + 1) * batch)
    drawn = [sample(images.pixels, seed=seed, index=index, scale=scale, patch=patch) for index in indices]
    lr, hr = (torch.stack(patches).float().div_(255) for patches in zip(*drawn, strict=True))
    return lr, hr


def batches(
    images: TrainingImages, *, seed: int, first_step: int, batch: int, scale: int, patch: int, ahead: int = 2
) -> Generator[tuple[Tensor, Tensor], None, None]:
    """The batches of a training from some step on, without end; a thread makes the next ones meanwhile.

    Args:
        images: What to draw from.
        seed: Names a sequence of samples.
        first_step: 0, or the step at which a training resumes.
        batch: Samples per step.
        scale: How many times smaller the low-resolution patches are.
        patch: Height and width of the low-resolution patches.
        ahead: How many batches are made before they are asked for.

    Yields:
        What `make_batch` returns for each step; what it raises is raised here, at its step.
    """
    make = partial(make_batch, images, seed=seed, batch=batch, scale=scale, patch=patch)
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
    try:
        waiting = deque(thread.submit(make, step=first_step + step) for step in range(ahead))
        for step in count(first_step + ahead):
            waiting.append(thread.submit(make, step=step))
            yield waiting.popleft().result()
    finally:
        thread.shutdown(cancel_futures=True)
