"""The manual keeps up with the program: every verb, flag and field has its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main

from finescale.cli.main import app
from finescale.train import TrainSettings

ROOT = Path(__file__).parents[1]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_verb_has_a_page_that_names_its_flags(verb: str) -> None:
    page = (ROOT / "docs" / f"{verb}.md").read_text(encoding="utf-8")
    parts = getattr(COMMANDS[verb], "commands", {verb: COMMANDS[verb]}).values()
    flags = {flag for part in parts for option in part.params for flag in option.opts if flag.startswith("--")}
    assert {flag for flag in flags - {"--help"} if f"{flag}`" not in page and f"[{flag}" not in page} == set()


def test_every_field_of_a_training_is_explained() -> None:
    page = (ROOT / "docs" / "train.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE) == list(TrainSettings.model_fields)
    assert all(field.description for field in TrainSettings.model_fields.values())


@pytest.mark.parametrize(
    "page", sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")]), ids=lambda page: page.name
)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
