"""docs/networks.md is what the families declare."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from finescale import zoo
from finescale.networks import FAMILIES, Family

PAGE = Path(__file__).parents[2] / "docs" / "networks.md"

families = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


def test_the_page_is_current() -> None:
    assert PAGE.read_bytes() == zoo.networks_page().encode(), "run `make docs`"


def test_recipes_that_are_the_same_at_several_scales_have_one_row() -> None:
    rows = [line for line in zoo.networks_page().splitlines() if line.startswith("| `hit-srf` | x") and "k |" in line]
    assert [row.split(" | ")[1:4] for row in rows] == [["x2", "DIV2K", "random"], ["x3, x4", "DIV2K", "`hit-srf` x2"]]
    (edge,) = (line for line in zoo.networks_page().splitlines() if line.startswith("| `craft-sequel` | x4"))
    assert "loss l1 + edge" in edge


def test_the_module_prints_the_page() -> None:
    done = subprocess.run([sys.executable, "-m", "finescale.zoo"], capture_output=True, check=True, timeout=120)
    assert done.stdout == PAGE.read_bytes()


@families
def test_a_section_begins_with_the_caution(family: Family) -> None:
    section = zoo.networks_page().partition(f"## {family.about.title}\n\n")[2]
    assert section.startswith(
        f"**{family.about.caution}**" if family.about.caution else family.publication.paper.authors or "[*"
    )


def test_all_rows_of_a_table_have_as_many_cells_as_its_head() -> None:
    for table in re.findall(r"(?:^\|.*\n)+", zoo.networks_page(), flags=re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1, table


def test_the_sliding_proxy_network_is_not_called_by_its_acronym_alone() -> None:
    headings = re.findall(r"^## (.*)$", zoo.networks_page(), flags=re.MULTILINE)
    assert "The sliding proxy network" in headings
    assert "SPAN" not in headings
