from __future__ import annotations

from pathlib import Path

import pytest

from finescale.system import memory


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"memory.max": "max\n", "memory.current": "5\n"}, None),
        ({"memory.max": "1000\n", "memory.current": "700\n", "memory.stat": "anon 650\ninactive_file 50\n"}, 350),
        ({"memory.max": "1000\n", "memory.current": "1200\n", "memory.stat": "inactive_file 0\n"}, 0),
        (
            {
                "memory/memory.limit_in_bytes": "900\n",
                "memory/memory.usage_in_bytes": "400\n",
                "memory/memory.stat": "inactive_file 1\ntotal_inactive_file 30\n",
            },
            530,
        ),
    ],
    ids=["none", "no limit", "version 2", "exceeded", "version 1"],
)
def test_the_limit_of_a_container_counts(tmp_path: Path, files: dict[str, str], expected: int | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory._free_in_group(tmp_path) == expected
