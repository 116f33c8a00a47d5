"""The manual keeps up with the program: every verb, flag and field has its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main

from finescale.cli.main import app
from finescale.networks import recipes
from finescale.settings import load_settings
from finescale.train import TrainSettings
from finescale.train.describe import tables
from finescale.train.losses import LOSS_NAMES

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
    assert tables() in page, "`python -m finescale.train.describe` prints what docs/train.md should have"


def test_the_settings_file_of_the_manual_is_valid(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "train.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "settings.yml").write_text(example, encoding="utf-8")
    assert load_settings(TrainSettings, tmp_path / "settings.yml").name == "small_x4"


def test_every_recipe_is_named_on_the_page_of_its_verb() -> None:
    page = (ROOT / "docs" / "train.md").read_text(encoding="utf-8")
    assert [name for name, _ in recipes() if f"`{name}`" not in page] == []
    assert [name for name in LOSS_NAMES if f"`{name}`" not in page] == []


@pytest.mark.parametrize(
    "page", sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")]), ids=lambda page: page.name
)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
