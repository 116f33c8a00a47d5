"""The manual as its readers find it: the pages of the nav in mkdocs.yml, and the commands on them.

Every command of a block ``sh`` is run by a test. One that cannot be is marked on the line above its block, with the
reason: ``<!-- not run: needs two machines -->``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]

OUTSIDE = {
    "contributing.md": "CONTRIBUTING.md",
    "changes.md": "CHANGELOG.md",
    "measuring.md": "benchmarks/README.md",
    "examples.md": "examples/README.md",
    "bundled.md": "src/finescale/bundled/README.md",
}
"""Pages of the site whose files are not in docs/, as website/hooks.py adds them."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    text: str
    """Without the fence and its indentation."""
    not_run: str | None
    """Why no test runs it; None where one does."""

    @property
    def commands(self) -> list[str]:
        """The commands of a block ``sh``, one for each line or ``&&``, without comments."""
        lines = self.text.replace("\\\n", " ").splitlines()
        joined = [shlex.join(shlex.split(line, comments=True)) for line in lines if not line.startswith("#")]
        return [part.strip() for line in joined for part in re.split(r" '?&&'? ", line) if part]


def pages() -> list[Path]:
    """The files of all pages of the site, in the order of its nav."""
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    return [ROOT / OUTSIDE.get(name, f"docs/{name}") for name in _names(nav)]


def _names(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    else:
        for part in entry.values() if isinstance(entry, dict) else entry:
            yield from _names(part)


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in its order."""
    found = re.finditer(
        r"^(?P<indent> *)(?:<!-- not run: (?P<reason>[^\n]+) -->\n *)?"
        r"```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$",
        page.read_text(encoding="utf-8"),
        re.DOTALL | re.MULTILINE,
    )
    return [
        Block(
            language=block["language"],
            text="".join(line.removeprefix(block["indent"]) for line in block["text"].splitlines(keepends=True)),
            not_run=block["reason"],
        )
        for block in found
    ]


def commands(page: Path) -> list[str]:
    """The commands of a page that a test runs."""
    return [
        command
        for block in blocks(page)
        if block.language == "sh" and block.not_run is None
        for command in block.commands
    ]


def table_commands(page: Path) -> list[str]:
    """The commands in the right columns of a page's tables with the columns "there" and "here"."""
    text = page.read_text(encoding="utf-8")
    if "| there | here |" not in text:
        return []
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [command for row in rows for command in re.findall(r"`([^`]*\bfinescale [^`]*)`", row[-1])]
