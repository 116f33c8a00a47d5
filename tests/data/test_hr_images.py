from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from finescale.data.hr_images import find_hr_images, read_hr_image, write_levels
from finescale.errors import DataError, ImageWriteError
from pictures import draw, stored


def test_folders_are_listed_one_after_the_other_and_each_once(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/10.png", "a/1.png"):
        draw(tmp_path / name)
    found = find_hr_images([tmp_path / "b", tmp_path / "a", tmp_path / "b"])
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["b/2.png", "b/10.png", "a/1.png"]
    with pytest.raises(DataError, match="nowhere is not a folder"):
        find_hr_images([tmp_path / "nowhere"])


@pytest.mark.parametrize("gray", [False, True])
def test_what_is_written_is_read_back_exactly_and_by_others(tmp_path: Path, gray: bool) -> None:
    levels = draw(tmp_path / "a.png", width=16, height=17, gray=gray)
    original = read_hr_image(tmp_path / "a.png")
    assert original.size == (17, 16)
    assert torch.equal(original.levels, levels)
    write_levels(tmp_path / "new" / "b.png", original.levels)
    assert torch.equal(stored(tmp_path / "new" / "b.png"), levels)


def test_all_256_levels_survive(tmp_path: Path) -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
    write_levels(tmp_path / "a.png", levels)
    assert torch.equal(read_hr_image(tmp_path / "a.png").levels, levels)


def test_what_8_bits_do_not_hold_is_given_up_and_said(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (1, 2, 3, 4)).save(tmp_path / "clear.png")
    Image.fromarray(np.full((4, 4), 257 * 9 + 129, dtype=np.uint16)).save(tmp_path / "deep.png")
    clear, deep = read_hr_image(tmp_path / "clear.png"), read_hr_image(tmp_path / "deep.png")
    assert (clear.levels[:, 0, 0].tolist(), clear.notes) == ([1, 2, 3], ("transparency is dropped",))
    assert (deep.levels.unique().tolist(), deep.notes) == ([10], ("rounded from 16 to 8 bits",))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ImageWriteError, match=r"file: cannot be created \(File exists\)"):
        write_levels(tmp_path / "file" / "a.png", torch.zeros(3, 2, 2, dtype=torch.uint8))
