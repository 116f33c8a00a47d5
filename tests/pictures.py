"""Small pictures as files, written and read by another library than ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def draw(path: Path, *, width: int = 12, height: int = 10, seed: int = 0, gray: bool = False) -> Tensor:
    """Write a picture of noise and answer its pixels (C, H, W), uint8."""
    shape = (height, width) if gray else (height, width, 3)
    array = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return torch.from_numpy(np.atleast_3d(array)).permute(2, 0, 1).contiguous()


def stored(path: Path) -> Tensor:
    """The pixels of a file (C, H, W), uint8."""
    with Image.open(path) as image:
        return torch.tensor(np.atleast_3d(np.asarray(image))).permute(2, 0, 1).contiguous()


def files_below(folder: Path) -> set[str]:
    """All files of a folder and those below it, hidden ones left out."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in paths if not path.name.startswith(".")}
