"""A slice of the campaign of `mutated_files.py`, which can run for longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.mutated_files import checks

pytestmark = pytest.mark.fuzz

NAMES = (
    "png", "jpg", "webp", "tif", "gif", "avif", "bmp", "heic",
    "safetensors", "quantized.safetensors", "pth", "legacy.pth", "yml",
)  # fmt: skip
COUNT = 40


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("seeds")


def test_every_format_has_its_check(seeds: Path) -> None:
    assert set(checks(seeds)) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files_are_used_or_refused_in_a_sentence(name: str, seeds: Path, tmp_path: Path) -> None:
    if name == "heic":
        pytest.importorskip("pillow_heif")
    read, refused = checks(seeds)[name](range(COUNT), tmp_path)
    assert read + refused == COUNT
    assert refused > 0
