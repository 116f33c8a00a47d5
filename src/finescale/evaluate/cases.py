"""What is upscaled and measured: pictures of test sets, and the tensors that they become."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from finescale.data import Pair, benchmark_names, benchmark_pairs, find_images, set_name
from finescale.data.pairs import mismatch
from finescale.errors import DataError, printable_name
from finescale.images import read_image
from finescale.resize import downsample, round_half_up


@dataclass(frozen=True)
class Case:
    """One picture of a test set; one of ``hr`` and ``lr`` may be missing."""

    set: str
    """Name of the set."""
    name: str
    """Name of the picture."""
    hr: Path | None
    """The original; None where there is none, so that nothing can be measured against it."""
    lr: Path | None
    """The low-resolution picture; None where it is made of the original."""

    def fingerprint(self) -> list[tuple[int, int] | None]:
        """Size and time of change of both files, by which a result of today is known to hold tomorrow."""
        return [
            (path.stat().st_size, path.stat().st_mtime_ns) if path is not None and path.is_file() else None
            for path in (self.hr, self.lr)
        ]

    def read(self, *, scale: int) -> tuple[Tensor, Tensor | None]:
        """The low-resolution picture, and the original cut to what belongs to it.

        Args:
            scale: How many times smaller the low-resolution picture is.

        Returns:
            lr (3, h, w) and hr (3, scale * h, scale * w), float32 in [0, 1]; grey ones with three equal channels.

        Raises:
            ImageReadError: A file is missing, or is no picture.
            DataError: Their sizes do not belong together.
        """
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
    """Pairs as the cases of a test set."""
    return [Case(set, pair.name, hr=pair.hr, lr=pair.lr) for pair in pairs]


def benchmark_cases(root: Path, names: Iterable[str] = (), *, scale: int) -> list[Case]:
    """The pictures of test sets, see `finescale.data.benchmark_pairs`.

    Args:
        root: The folder of all sets.
        names: The sets; none takes all that there are.
        scale: How many times smaller the low-resolution pictures are.

    Raises:
        DataError: The folder holds no test set, or not one of those named.
    """
    wanted = list(dict.fromkeys(map(set_name, names))) or benchmark_names(root, scale=scale)
    return [case for name in wanted for case in cases_of(benchmark_pairs(root, name, scale=scale), set=name)]


def cases_without_originals(folder: Path) -> list[Case]:
    """A folder of pictures that are only upscaled.

    Raises:
        DataError: It does not exist or holds no picture.
    """
    return [Case(folder.resolve().name, path.stem, hr=None, lr=path) for path in find_images(folder)]


def _rgb(path: Path) -> Tensor:
    return read_image(path).pixels.expand(3, -1, -1).to(torch.float32)


def _by(image: Tensor) -> str:
    return f"{image.shape[-1]} x {image.shape[-2]}"
