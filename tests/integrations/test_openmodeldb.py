"""An entry of OpenModelDB states what the file and its model card state."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from finescale.integrations.openmodeldb import entry_of
from publishing import our_file, tiny_network

URL = "https://example.org/mine.safetensors"


def entry(path: Path, **changes: Any) -> dict[str, Any]:
    return entry_of(path, **{"author": "my-name", "date": "2026-01-31", "urls": [URL], **changes})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    our_file(tiny_network("hit-sr", "hit-srf", scale=4), tmp_path / "mine.safetensors")
    return tmp_path / "mine.safetensors"


def test_an_entry_has_the_facts_of_the_file(path: Path) -> None:
    found = entry(path)
    description = found.pop("description")
    assert description.startswith("HiT-SR: a size of its own, x4. The windows of a group's blocks grow")
    assert "Weights: a test." in description
    assert found == {
        "name": "mine",
        "author": "my-name",
        "license": "MIT",
        "tags": ["general-upscaler"],
        "date": "2026-01-31",
        "architecture": "hit-sr",
        "size": None,
        "scale": 4,
        "inputChannels": 3,
        "outputChannels": 3,
        "resources": [
            {
                "platform": "pytorch",
                "type": "safetensors",
                "size": path.stat().st_size,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "urls": [URL],
            }
        ],
        "images": [],
    }


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"author": "my name"}, "author must be letters, digits and single dashes, got 'my name'"),
        ({"date": "31.1.2026"}, "date must be yyyy-mm-dd, got '31.1.2026'"),
        ({"urls": []}, "urls must name at least one address of the file, got none"),
    ],
)
def test_what_the_database_does_not_take_is_refused(path: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        entry(path, **changes)
