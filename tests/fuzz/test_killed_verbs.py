"""One moment of the campaign of `killed_verbs.py`, which can run for longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.killed_verbs import VERBS, campaign, prepare_inputs

pytestmark = pytest.mark.fuzz


@pytest.mark.parametrize("name", VERBS)
def test_a_killed_verb_runs_to_the_same_files_afterwards(name: str, tmp_path: Path) -> None:
    prepare_inputs(tmp_path)
    assert campaign(name, tmp_path, moments=1) == []
