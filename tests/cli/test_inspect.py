"""``finescale inspect`` reports what a weight file is."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
import typer
from typer.testing import CliRunner

from finescale import networks, weights
from finescale.cli.inspect import inspect
from finescale.errors import UnknownNetworkError, WeightsError

app = typer.Typer()
app.command()(inspect)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A HiT-SRF x4 as other tools save it."""
    path = tmp_path_factory.mktemp("weights") / "HiT-SRF-4x.pth"
    state = networks.build("hit-srf", scale=4).state_dict()
    torch.save({"params": {f"module.{key}": tensor.half() for key, tensor in state.items()}}, path)
    return path


def test_the_table_names_variant_scale_wrapper_and_prefix(published: Path) -> None:
    result = CliRunner().invoke(app, [str(published)])
    assert result.exit_code == 0, result.output
    rows = {line.split()[0]: line for line in result.stdout.splitlines() if not line.startswith(" ")}
    assert rows["family"].split() == ["family", "hit-sr"]
    assert rows["variant"].split() == ["variant", "hit-srf"]
    assert rows["scale"].split() == ["scale", "4"]
    assert rows["parameters"].split() == ["parameters", "866,420", "(float16)"]
    assert "under 'params', prefix 'module.'" in rows["format"]
    assert "float16 is converted to float32" in rows["notes"]


def test_what_the_file_does_not_show_can_be_said(published: Path) -> None:
    given = ["--set", "image_range=255", "--set", "base_window=[4, 4]", "--json"]
    result = CliRunner().invoke(app, [str(published), *given])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["settings"]["image_range"], report["settings"]["base_window"]) == (255, [4, 4])
    assert report["differs_in"] == ["image_range", "base_window"]


def test_json_is_one_object_with_everything(published: Path) -> None:
    result = CliRunner().invoke(app, [str(published), "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    settings = networks.FAMILIES["hit-sr"].variants["hit-srf"].model_dump(mode="json")
    notes = report.pop("notes")
    assert len(notes) == 2
    assert report.pop("doubts") == []
    assert report == {
        "file": str(published),
        "format": "torch",
        "wrapper": "params",
        "prefix": "module.",
        "family": "hit-sr",
        "variant": "hit-srf",
        "nearest_variant": "hit-srf",
        "differs_in": [],
        "scale": 4,
        "settings": settings,
        "parameters": 866_420,
        "dtype": "float16",
        "quantization": None,
        "header": {},
    }


def test_a_size_of_its_own_is_reported_with_the_nearest_variant(tmp_path: Path) -> None:
    family = networks.FAMILIES["hit-sr"]
    path = tmp_path / "own.safetensors"
    settings = family.variants["hit-sng"].model_copy(update={"depths": (1,), "num_heads": (6,)})
    weights.save(family.network(settings=settings, scale=2), path, source="a test", licence="CC0-1.0")
    result = CliRunner().invoke(app, [str(path)])
    assert "none; nearest is hit-sng, which differs in depths, num_heads" in " ".join(result.stdout.split())
    assert "licence = CC0-1.0" in result.stdout


def test_a_third_party_file_is_reported_where_spandrel_knows_it(spandrel: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "theirs.pth"
    network = spandrel.architectures.ESRGAN.ESRGAN(num_filters=8, num_blocks=2)
    torch.save({"params": network.state_dict()}, path)
    result = CliRunner().invoke(app, [str(path)])
    assert result.exit_code == 0, result.output
    rows = {line.split()[0]: line for line in result.stdout.splitlines() if not line.startswith(" ")}
    assert rows["network"].split(maxsplit=1)[1].strip() == "ESRGAN, by spandrel"
    assert rows["scale"].split() == ["scale", "4"]
    report = json.loads(CliRunner().invoke(app, [str(path), "--json"]).stdout)
    assert report.pop("parameters") == sum(parameter.numel() for parameter in network.parameters())
    settings = report.pop("settings")
    arguments = settings.pop("arguments")
    assert {name: arguments[name] for name in ("num_filters", "num_blocks", "scale")} == {
        "num_filters": 8, "num_blocks": 2, "scale": 4,
    }  # fmt: skip
    assert settings == {"architecture": "ESRGAN", "constructor": "ESRGAN", "in_channels": 3}
    assert report == {
        "file": str(path),
        "format": "torch",
        "wrapper": "params",
        "prefix": "",
        "family": None,
        "read_by": "spandrel",
        "architecture": "ESRGAN",
        "scale": 4,
        "channels": 3,
        "precisions": ["float32", "bf16", "fp16"],
        "quantization": None,
        "licence": None,
        "header": {},
        "notes": [f"{path}: read by spandrel as ESRGAN x4 (not one of finescale's networks)"],
    }


def test_a_file_that_nobody_knows_raises_the_reason(tmp_path: Path) -> None:
    torch.save({"some.weight": torch.zeros(2)}, tmp_path / "net.pth")
    result = CliRunner().invoke(app, [str(tmp_path / "net.pth")])
    assert isinstance(result.exception, UnknownNetworkError)
    assert result.stdout == ""


def test_what_the_author_of_a_file_wrote_cannot_move_the_cursor(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    weights.save(networks.build("hit-sir", scale=2), path, source="\x1b[2Jnothing here")
    result = CliRunner().invoke(app, [str(path)])
    assert "\x1b" not in result.stdout
    assert "nothing here" in result.stdout


def test_a_file_that_cannot_be_used_raises_the_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.pth").touch()
    result = CliRunner().invoke(app, [str(tmp_path / "empty.pth")])
    assert isinstance(result.exception, WeightsError)
    assert result.stdout == ""
