"""The settings files of the experiments are valid, and compare what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from finescale.networks import hierarchical
from finescale.settings import load_settings
from finescale.train import TrainSettings

FOLDER = Path(__file__).parents[2] / "experiments"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yml")), ids=lambda path: path.stem)
def test_a_file_is_valid_and_named_as_its_training(path: Path) -> None:
    assert load_settings(TrainSettings, path).name == path.stem


def test_the_hierarchical_network_is_the_conversion_of_the_other_and_trained_as_it_is() -> None:
    base, converted = (
        load_settings(TrainSettings, FOLDER / f"{name}.yml") for name in ("hierarchical_base_x4", "hierarchical_x4")
    )
    assert hierarchical(base.network_settings()) == converted.network_settings()
    other = {"name", "variant", "network"}
    assert base.model_dump(exclude=other) == converted.model_dump(exclude=other)
