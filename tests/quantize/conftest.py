"""What the tests of quantization share."""

from __future__ import annotations

from pathlib import Path

import pytest

from finescale.images import write_image
from small_sets import picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two small pictures to calibrate with."""
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(2):
        write_image(folder / f"{seed}.png", picture(30, 34, seed=seed).float() / 255)
    return folder
