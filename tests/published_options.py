"""Published option files, and small stand-ins for the data sets that they name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from finescale.images import write_image
from finescale.resize import downsample
from finescale.settings import read_values

SIDE = 36
"""Height and width of every stand-in's original: a multiple of 2, 3 and 4."""

CUTS: dict[str, dict[str, Any]] = {
    "HiT": {"depths": [1], "num_heads": [1], "embed_dim": 16, "base_win_size": [4, 4], "hier_win_ratios": [1]},
    "CRAFT": {"depths": [1], "num_heads": [2], "embed_dim": 32},
    "DRCT": {"depths": [1], "num_heads": [3], "embed_dim": 12, "window_size": 4},
    "DAT": {"depth": [2], "num_heads": [2], "embed_dim": 32, "split_size": [2, 4]},
    "SPAN": {"depths": [1], "num_heads": [1], "embed_dim": 10},
}
"""Arguments of published constructors that make networks tiny, by the beginning of the class's name."""


def published(kind: str) -> list[Any]:
    """The files of one kind, "train" or "test", as parameters of a test; without FINESCALE_DATA one that is skipped."""
    root = os.environ.get("FINESCALE_DATA")
    if not root:
        reason = "FINESCALE_DATA is unset: the folder with options/, the published option files"
        return [pytest.param(Path(kind), marks=pytest.mark.skip(reason=reason))]
    folder = Path(root).resolve() / "options"
    paths = sorted(path for path in folder.rglob("*.yml") if is_training(path) == (kind == "train"))
    return [pytest.param(path, id="-".join((path.relative_to(folder).parts[0], path.stem))) for path in paths]


def is_training(path: Path) -> bool:
    return "\ntrain:" in path.read_text(encoding="utf-8")


def local(place: str) -> str:
    """Where a stand-in lies for what a file names, from the working folder: ``~`` is ``home``, ``/`` is ``root``."""
    if place.startswith("~"):
        return f"home{place[1:]}"
    return f"root{place}" if place.startswith("/") else place


def write_stand_ins(root: Path, paths: Sequence[Path]) -> None:
    """Write all data sets that option files name, one picture in each, named by their rules."""
    original = (torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 255).to(torch.uint8)
    smaller = {scale: downsample(original, scale=scale) for scale in (2, 3, 4)}
    for values in map(read_values, paths):
        for block in values["datasets"].values():
            for file, is_small in _pictures_of(block):
                path = root / local(file)
                if not path.exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write_image(path, (smaller[values["scale"]] if is_small else original).float() / 255)


def _pictures_of(block: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Paths of the pictures of one set, and whether each is a low-resolution one."""
    name = block.get("filename_tmpl", "{}").format("one")
    if "dataroot_gt" in block:
        yield f"{block['dataroot_gt']}/one.png", False
    if "dataroot_lq" in block:
        yield f"{block['dataroot_lq']}/{name}.png", True
