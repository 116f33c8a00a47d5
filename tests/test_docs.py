"""The manual keeps up with the program: every verb, flag and field has its line."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest
import torch
import typer.main

from finescale import weights
from finescale.cli.main import app
from finescale.images import write_image
from finescale.networks import FAMILIES, recipes
from finescale.settings import load_settings
from finescale.train import TrainSettings
from finescale.train.describe import tables
from finescale.train.losses import LOSS_NAMES
from small_sets import picture, write_set

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
    "page", sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]), ids=lambda page: str(page.relative_to(ROOT))
)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


# ---- examples in Python


@pytest.fixture
def example_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with the files that the examples name: weights, pictures, originals and a test set."""
    family = FAMILIES["hit-sr"]
    torch.manual_seed(0)
    network = family.network(settings=family.tiny["hit-srf"], scale=4)
    weights.save(network, tmp_path / "hit-srf_x4.safetensors", source="a test")
    for folder in ("pictures", "hr"):
        (tmp_path / folder).mkdir()
        for name in ("a", "b"):
            write_image(tmp_path / folder / f"{name}.png", picture(80, 90).float() / 255)
    write_set(tmp_path / "benchmark", scale=4, sizes={"one": (64, 60)})
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("page", ["convert", "evaluate", "export", "prepare", "python", "quantize"])
def test_the_examples_in_python_run(page: str, example_files: None) -> None:
    if page == "export":
        for package in ("onnx", "onnxruntime", "onnxscript"):
            pytest.importorskip(package)
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8"), re.DOTALL)
    assert examples
    exec("\n".join(examples), {})  # later examples of a page build on earlier ones


def test_the_examples_for_other_tools_run(example_files: None, spandrel: ModuleType) -> None:
    published = FAMILIES["hit-sr"].variants["hit-srf"]
    small = published.model_copy(update={"depths": (2,), "num_heads": (6,), "window_ratios": (0.5, 1)})
    weights.save(FAMILIES["hit-sr"].network(settings=small, scale=4), "hit-srf_x4.safetensors", source="a test")
    registry = spandrel.MAIN_REGISTRY
    before = registry._architectures, registry._ordered, registry._by_id
    read_file = spandrel.ModelLoader.load_state_dict_from_file
    page = (ROOT / "docs" / "other-tools.md").read_text(encoding="utf-8")
    try:
        names: dict[str, object] = {}
        exec("\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)), names)
    finally:
        registry._architectures, registry._ordered, registry._by_id = before
        spandrel.ModelLoader.load_state_dict_from_file = read_file
