"""Programs of `torch.export` compute what the network does, at every size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from finescale.engines import parity
from finescale.engines.translation import to_program
from finescale.errors import NumericalError
from finescale.export import export_program
from finescale.networks import Frame, family_of
from finescale.quantize import integer_form
from heads import one_block
from helpers import seeded_input
from quantizing import quantize


@pytest.fixture
def network() -> Frame:
    return one_block("pixelshuffledirect", 3)


def test_one_program_serves_every_size_and_states_what_it_is(network: Frame, tmp_path: Path) -> None:
    told = export_program(network, tmp_path / "n.pt2", source="a test")
    assert told.largest < 1e-5
    stated = {"finescale.json": ""}
    program = torch.export.load(tmp_path / "n.pt2", extra_files=stated).module()
    facts = json.loads(stated["finescale.json"])
    assert (facts["family"], facts["scale"], facts["source"]) == ("hit-sr", "3", "a test")
    for shape in ((1, 3, 1, 1), (2, 3, 33, 5), (1, 3, 16, 24)):
        images = seeded_input(shape)
        with torch.no_grad():
            torch.testing.assert_close(program(images), network(images), rtol=0, atol=1e-5)


def test_a_program_that_differs_is_not_written(network: Frame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "TOLERANCE", -1.0)
    with pytest.raises(NumericalError, match=r"the program differs from the network by .*; nothing is written"):
        export_program(network, tmp_path / "n.pt2", size=(9, 12))
    assert not list(tmp_path.iterdir())


def test_a_network_is_translated_in_inference_mode_too(network: Frame, tmp_path: Path) -> None:
    with torch.inference_mode():
        told = export_program(network, tmp_path / "n.pt2", size=(9, 12))
    assert told.largest < 1e-5


@torch.no_grad()
def test_a_quantized_network_is_translated_for_every_size() -> None:
    network = one_block("pixelshuffledirect", 2)
    quantize(network, family_of(network), seeded_input((2, 3, 16, 24)), bits=8)
    program, integers = to_program(network).module(), integer_form(network)
    for shape in ((1, 3, 9, 12), (3, 3, 33, 5)):
        images = seeded_input(shape)
        torch.testing.assert_close(program(images), integers(images), rtol=0, atol=1e-5)
