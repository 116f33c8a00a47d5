"""The cases of an evaluation: pictures of test sets, and their tensors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from finescale.data import Pair, benchmark_names, benchmark_pairs, find_images, set_name
from finescale.data.benchmarks import is_known_set, pairs_in
from finescale.data.pairs import hr_name, mismatch
from finescale.errors import DataError, printable_name
from finescale.images import read_image
from finescale.networks import SCALES
from finescale.resize import MAX_SCALE, downsample, round_half_up

POSSIBLE_SCALES = tuple(dict.fromkeys((*SCALES, *range(2, MAX_SCALE + 1), 1)))
"""The likeliest first; some layouts of test sets name the scale."""


@dataclass(frozen=True)
class Case:
    """One picture of a test set; one of ``hr`` and ``lr`` may be missing."""

    set: str
    """Name of the set."""
    name: str
    """Name of the picture."""
    hr: Path | None
    """The original; None where there is none, so that PSNR and SSIM cannot be measured."""
    lr: Path | None
    """The low-resolution picture; None where it is made from the original."""

    def fingerprint(self) -> list[tuple[int, int] | None]:
        """Return size and modification time of both files, by which a finished result is known to be still valid."""
        return [
            (path.stat().st_size, path.stat().st_mtime_ns) if path is not None and path.is_file() else None
            for path in (self.hr, self.lr)
        ]

    def check(self, *, scale: int) -> None:
        """Refuse a picture to restore (scale 1) that is not there: made of the original, it would be the original.

        Raises:
            DataError: There is none.
        """
        if scale == 1 and self.lr is None:
            raise DataError(
                f"{printable_name(str(self.hr))}: no picture to restore; at scale 1 none is made of the original: put "
                "those to restore into a folder of the set, such as LR_bicubic/X1"
            )

    def read(self, *, scale: int) -> tuple[Tensor, Tensor | None]:
        """Read the low-resolution picture, and the original cropped to the part that belongs to it.

        Args:
            scale: How many times smaller the low-resolution picture is.

        Returns:
            lr (3, h, w) and hr (3, scale * h, scale * w), float32 in [0, 1]; gray ones with three equal channels.

        Raises:
            ImageReadError: A file is missing, or is not a picture.
            DataError: The sizes of the two do not match, or there is no picture to restore.
        """
        self.check(scale=scale)
        hr = None if self.hr is None else _rgb(self.hr)
        if self.lr is None:
            if hr is None:
                raise ValueError(f"{self.set} {self.name} has neither an original nor a low-resolution picture")
            if min(hr.shape[-2:]) < scale:
                raise DataError(f"{self.hr}: {_by(hr)} pixels are too few for scale {scale}")
            lr = downsample(round_half_up(hr * 255), scale=scale).float() / 255
        else:
            lr = _rgb(self.lr)
        if hr is None:
            return lr, None
        (lr_height, lr_width), (height, width) = lr.shape[-2:], hr.shape[-2:]
        wrong = mismatch((lr_height, lr_width), (height, width), scale=scale)
        if wrong:
            raise DataError(f"{printable_name(str(self.lr))}: {wrong}")
        return lr, hr[:, : scale * lr_height, : scale * lr_width]


def cases_of(pairs: Iterable[Pair], *, set: str) -> list[Case]:
    """Return pairs of pictures as the cases of a test set."""
    return [Case(set, pair.name, hr=pair.hr, lr=pair.lr) for pair in pairs]


def benchmark_cases(root: Path, names: Iterable[str] = (), *, scale: int) -> list[Case]:
    """Return the pictures of test sets, see `finescale.data.benchmark_pairs`.

    Args:
        root: The folder of all sets.
        names: Names of the sets; none takes all.
        scale: How many times smaller the low-resolution pictures are.

    Raises:
        DataError: The folder contains no test set, or lacks one of those named, or at scale 1 the pictures to restore.
    """
    wanted = list(dict.fromkeys(map(set_name, names))) or benchmark_names(root, scale=scale)
    cases = [case for name in wanted for case in cases_of(benchmark_pairs(root, name, scale=scale), set=name)]
    for case in cases:
        case.check(scale=scale)
    return cases


def check_benchmarks(root: Path, names: Iterable[str] = ()) -> None:
    """Refuse test sets that do not exist at any scale, before a network is loaded that has one.

    Raises:
        DataError: As for `benchmark_cases`.
    """
    names, refusals = list(names), []
    for scale in POSSIBLE_SCALES:
        try:
            benchmark_cases(root, names, scale=scale)
        except DataError as error:
            refusals.append(error)
        else:
            return
    raise refusals[0]


def paired_cases(hr: Path, lr: Path | None = None, *, scale: int) -> list[Case]:
    """Return the pictures of two folders as the cases of one test set, paired by name.

    Args:
        hr: Folder of the originals; it, or the folder above it, names the set where it has the name of a known one.
        lr: Folder of their low-resolution pictures; None makes these from the originals.
        scale: How many times smaller they are.

    Raises:
        DataError: A folder does not exist or contains no picture.
    """
    name = _set_of(hr)
    originals = find_images(hr)
    if lr is None:
        return cases_of([Pair(hr_name(path, scale=scale), hr=path) for path in originals], set=name)
    return cases_of(pairs_in(originals, lr, scale=scale), set=name)


def _set_of(hr: Path) -> str:
    """Return the name of the test set that a folder of originals belongs to, such as "Set5" for ``Set5/HR``."""
    place = hr.resolve()
    known = (folder.name for folder in (place, *list(place.parents)[:2]) if is_known_set(folder.name))
    return set_name(next(known, place.name))


def cases_without_originals(folder: Path) -> list[Case]:
    """Return the pictures of a folder, which are only upscaled.

    Raises:
        DataError: The folder does not exist or contains no picture.
    """
    return [Case(folder.resolve().name, path.stem, hr=None, lr=path) for path in find_images(folder)]


def _rgb(path: Path) -> Tensor:
    return read_image(path).pixels.expand(3, -1, -1).to(torch.float32)


def _by(image: Tensor) -> str:
    return f"{image.shape[-1]} x {image.shape[-2]}"
