"""The rooms stand as docs/design.md draws them: a room imports from lower lines only."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
from collections.abc import Collection, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

import finescale
from finescale.networks import FAMILIES

SOURCE = Path(finescale.__file__).parent

LADDER = (
    {"errors"},
    {"system", "settings", "resize"},
    {"layers", "metrics", "figures", "images", "weightfiles"},
    {"networks", "data"},
    {"zoo", "quantize"},
    {"weights"},
    {"engines"},
    {"upscale"},
    {"evaluate", "analyze"},
    {"train", "export"},
    {"basicsr", "serve"},
    {"cli", "integrations", "testing"},
)
"""Rooms, the lowest line first."""

LOOSE = {"__init__", "__main__", "errors", "settings", "resize"}
"""The only modules that stand outside of a room."""

ROOMS = {room: line for line, rooms in enumerate(LADDER) for room in rooms}
MODULES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path for room in ("benchmarks", "examples", "experiments") for path in (ROOT / room).glob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts)


def room_of(path: Path) -> str:
    room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    return "cli" if room == "__main__" else room


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Full names of what a module imports, anywhere in it, with the line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno}: imports are written in full"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


modules = pytest.mark.parametrize("path", MODULES, ids=name_of)


@modules
def test_a_module_imports_from_its_own_room_and_lower_lines_only(path: Path) -> None:
    room = room_of(path)
    upward = []
    for name, line in imports(path):
        top, _, rest = name.partition(".")
        other = rest.partition(".")[0]
        if top == "finescale" and other != room and ROOMS[other] >= ROOMS[room]:
            upward.append(f"line {line}: {name}")
    assert not upward


@modules
def test_nothing_is_imported_by_star(path: Path) -> None:
    assert not [name for name, _ in imports(path) if name.endswith(".*")]


def test_every_room_has_its_line() -> None:
    assert {room_of(path) for path in MODULES} <= set(ROOMS)


def test_every_module_stands_in_a_room() -> None:
    assert {path.stem for path in SOURCE.glob("*.py")} == LOOSE


def test_networks_and_layers_know_no_files() -> None:
    files = {"io", "os", "pathlib", "pickle", "safetensors", "shutil", "tempfile", "yaml"}
    for path in MODULES:
        if room_of(path) in ("networks", "layers"):
            assert not files & {name.partition(".")[0] for name, _ in imports(path)}, path


def test_a_network_file_imports_no_other_network_file() -> None:
    families = {family.network.__module__.rpartition(".")[2] for family in FAMILIES.values()}
    siblings = {"cit": {"dat"}, "ngram": {"swinir"}}  # networks that are another one with an addition
    for family in families:
        found = {
            name.split(".")[2]
            for name, _ in imports(SOURCE / "networks" / f"{family}.py")
            if name.startswith("finescale.networks.")
        }
        assert found & families <= siblings.get(family, set())


def test_no_room_is_called_utils() -> None:
    vague = {"utils", "util", "helpers", "common", "misc"}
    assert not vague & {part for path in MODULES for part in path.relative_to(SOURCE).with_suffix("").parts}


# ---- public names


def test_every_public_name_leads_somewhere_and_is_listed() -> None:
    assert finescale.__version__ == version("finescale")
    for name in finescale.__all__:
        assert getattr(finescale, name) is not None
        assert name in dir(finescale)
    assert sorted(finescale.__all__, key=str.lower) == sorted(set(finescale.__all__), key=str.lower)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_imports_names_that_exist(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("finescale"):
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name) or importlib.util.find_spec(f"{node.module}.{alias.name}")


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'finescale' has no attribute 'upscale_everything'"):
        finescale.upscale_everything  # noqa: B018


# ---- what is loaded when

HEAVY = ("torch", "numpy", "pyvips", "safetensors", "huggingface_hub", "yaml", "rich")
NOT_FOR_PICTURES = (
    *("torch._dynamo", "torch._inductor", "torch.onnx", "sympy"),  # a compiler takes longer to load than to do without
    *("finescale.train", "finescale.evaluate", "finescale.analyze", "finescale.metrics"),
    *("huggingface_hub", "spandrel", "openvino", "onnx", "onnxruntime", "nncf", "tensorboard", "PIL", "rich.progress"),
)


def loaded_by(statement: str, among: Collection[str] = HEAVY) -> set[str]:
    """Which of these modules a fresh interpreter has loaded after a statement."""
    program = f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    return set(among) & set(json.loads(run.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    "statement",
    [
        "import finescale",
        "import finescale.errors",
        "import finescale.cli.main",
        "from finescale.cli.main import run; assert run(['--help']) == 0",
        "from finescale.cli.main import run; assert run(['upscale', '--help']) == 0",
        "from finescale.cli.main import run; assert run(['models', '--help']) == 0",
        "from finescale.cli.main import run; assert run(['convert', '--help']) == 0",
        "from finescale.cli.main import run; assert run(['evaluate', '--help']) == 0",
        "from finescale.cli.main import run; assert run(['train', '--help']) == 0",
        "from finescale.cli.main import run; assert run(['quantize', '--help']) == 0",
        "from finescale.cli.main import run; assert run(['prepare', 'downsample', '--help']) == 0",
        "from finescale.cli.main import run; assert run(['serve', '--help']) == 0",
        "from finescale.cli.main import run; assert run(['analyze', '--help']) == 0",
        "from finescale.cli.main import run; assert run(['analyze', 'cost', '--help']) == 0",
    ],
)
def test_neither_importing_nor_help_loads_anything_heavy(statement: str) -> None:
    assert not loaded_by(statement)


def test_upscaling_a_picture_loads_nothing_that_it_does_not_use(tmp_path: Path) -> None:
    picture = Path(__file__).parents[1] / "examples" / "still_life.png"  # large enough for memory to be measured
    arguments = ["upscale", str(picture), "-o", str(tmp_path)]
    statement = f"from finescale.cli.main import run; assert run({arguments}) == 0"
    assert not loaded_by(statement, NOT_FOR_PICTURES)


def test_importing_has_no_effect_on_random_numbers_or_threads() -> None:
    program = (
        "import torch\n"
        "before = torch.random.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype()\n"
        "import finescale\n"
        "[getattr(finescale, name) for name in finescale.__all__]\n"
        "assert torch.equal(before[0], torch.random.get_rng_state())\n"
        "assert before[1:] == (torch.get_num_threads(), torch.get_default_dtype())\n"
    )
    subprocess.run([sys.executable, "-c", program], timeout=120, check=True)
