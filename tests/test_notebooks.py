"""The notebooks of examples/ run, and are stored without outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def executed(name: str) -> Any:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(EXAMPLES)}}).execute()
    return notebook


def printed(notebook: Any) -> str:
    """All that the notebook's cells printed."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output["text"] for output in outputs if output["output_type"] == "stream")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs(path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell for cell in code if cell.outputs or cell.execution_count] == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Jupyter's own packages
def test_upscaling_and_comparing() -> None:
    notebook = executed("upscale_and_compare.ipynb")
    decibels = {line.split()[0]: float(line.split()[1]) for line in printed(notebook).splitlines() if " dB " in line}
    assert decibels["default"] > decibels["bicubic"] + 0.5
    assert any("image/png" in output.get("data", {}) for output in notebook.cells[-2].outputs)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_from_a_checkpoint_to_a_table() -> None:
    text = printed(executed("checkpoint_to_table.ipynb"))
    assert "297,318 parameters" in text
    rows = {line.split()[0]: float(line.split()[2]) for line in text.splitlines() if " dB " in line}
    assert rows["right_x4"] > rows["bicubic"] + 0.4
