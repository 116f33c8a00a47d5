"""A file that is decoded onto the disk gives what it gives in memory: the same image, or the same refusal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import pyvips
import torch

from finescale.errors import FinescaleError
from finescale.images import levels_header, read_image, read_samples
from finescale.images.image import Image


def outcome(read: Image | FinescaleError) -> tuple[object, ...]:
    if isinstance(read, FinescaleError):
        return type(read), str(read)
    return read.depth, read.profile, dict(read.metadata), read.jpeg_quality, read.notes


def test_every_hostile_image_has_the_same_outcome(data_root: Path, tmp_path: Path) -> None:
    for path in sorted((data_root / "hostile" / "images").iterdir()):
        both: list[Image | FinescaleError] = []
        for on_disk in (False, True):
            try:
                both.append(
                    read_samples(path, folder=tmp_path, max_pixels=10**8).image()
                    if on_disk
                    else read_image(path, max_pixels=10**8)
                )
            except FinescaleError as error:
                both.append(error)
        in_memory, stored = both
        assert outcome(in_memory) == outcome(stored), path
        if isinstance(in_memory, Image) and isinstance(stored, Image):
            assert torch.equal(in_memory.pixels, stored.pixels), path
            assert (in_memory.alpha is None) == (stored.alpha is None)
            assert in_memory.alpha is None or stored.alpha is None or torch.equal(in_memory.alpha, stored.alpha), path


@pytest.mark.parametrize("height", [1, 16, 50])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_levels_behind_their_header_are_a_tiff(
    channels: int, dtype: type[np.unsignedinteger], height: int, tmp_path: Path
) -> None:
    generator = np.random.default_rng(channels)
    levels = generator.integers(0, np.iinfo(dtype).max, (height, 23, channels), dtype=dtype, endpoint=True)
    header = levels_header((height, 23), channels, 8 * levels.dtype.itemsize)
    (tmp_path / "levels").write_bytes(header + levels.tobytes())
    read = pyvips.Image.new_from_file(str(tmp_path / "levels"), access="sequential", fail_on="warning").numpy()
    assert np.array_equal(np.atleast_3d(read), levels)
    assert read_samples(tmp_path / "levels", folder=tmp_path, max_pixels=10**4).size == (height, 23)
