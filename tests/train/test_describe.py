"""Every field of a settings file is explained, in groups."""

from __future__ import annotations

import runpy
import sys

import pytest

from finescale.data import DegradationSettings
from finescale.train import TrainSettings
from finescale.train.describe import groups, tables
from finescale.train.settings import DataSettings, StepSettings


def test_every_field_stands_in_its_group() -> None:
    found = {group.name: [field.name for field in group.fields] for group in groups()}
    assert list(found) == ["", "data", "data.degradation", "train", "validation", "keep"]
    assert found["data.degradation"] == [f"data.degradation.{name}" for name in DegradationSettings.model_fields]
    assert found["data"] == [f"data.{name}" for name in DataSettings.model_fields]
    assert found["train"] == [f"train.{name}" for name in StepSettings.model_fields]
    assert set(found[""]) | set(found) - {"", "data.degradation"} == set(TrainSettings.model_fields)


def test_every_field_has_a_meaning_and_a_default_as_in_a_file() -> None:
    fields = {field.name: field for group in groups() for field in group.fields}
    assert all(field.meaning.endswith(".") for field in fields.values())
    assert all(group.about for group in groups())
    told = {name: fields[name].default for name in ("name", "licence", "train.betas", "train.loss", "train.lr")}
    assert told == {
        "name": "required", "licence": "null", "train.betas": "[0.9, 0.99]", "train.loss": "{l1: 1.0}",
        "train.lr": "0.0005",
    }  # fmt: skip
    assert (fields["data.degradation"].default, fields["data.degradation.clean"].default) == ("null", "0.15")
    assert fields["train.compile"].default == "false"
    assert fields["train.schedule"].meaning.endswith("One of multi-step, cosine.")


def test_the_module_prints_the_tables(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "finescale.train.describe")  # as in a fresh interpreter, by ``python -m``
    runpy.run_module("finescale.train.describe", run_name="__main__")
    printed = capsys.readouterr().out
    assert printed == tables()
    assert "| `train.iterations` | `required` | Number of steps. |" in printed
