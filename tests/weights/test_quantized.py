"""Files of quantized networks that their authors pickled load with weights, bounds and bits, and become ours."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import finescale
from finescale.networks import FAMILIES
from finescale.quantize import switched_off
from finescale.quantize.modules import bounds_of
from golden_ptq import Case, published_file
from helpers import seeded_state


@pytest.mark.parametrize("stage", ["adc", "br"])
def test_a_published_quantized_network_loads_with_its_weights_bounds_and_bits(stage: str, tmp_path: Path) -> None:
    case = Case("published_4bit")
    loaded = finescale.load(published_file(tmp_path, stage), settings={"window_size": 4})
    assert (loaded.family, loaded.scale) == ("craft", 2)
    assert loaded.quantization is not None
    assert (loaded.quantization.bits, loaded.quantization.edge_bits) == (4, 8)
    state = loaded.network.state_dict()
    grid = case.meta["weight_grid"]
    for key, value in seeded_state(case.meta["shapes"]).items():
        torch.testing.assert_close(state[key], (value * grid).round() / grid, rtol=0, atol=0)
    files = FAMILIES["craft"].quantization.files
    assert files is not None
    wanted = case.bounds(stage)
    for path, bounds in bounds_of(loaded.network).items():
        for bound, aim in zip(bounds, wanted[files.name_of(path)], strict=True):
            torch.testing.assert_close(bound, aim, rtol=1e-6, atol=1e-6)


def test_a_published_quantized_network_answers_as_it_did_and_becomes_a_file_of_ours(tmp_path: Path) -> None:
    case = Case("published_4bit")
    published = published_file(tmp_path, "br")
    network = finescale.load(published, settings={"window_size": 4}).network
    ours = tmp_path / "ours.safetensors"
    finescale.save(network, ours, source="the authors")
    with torch.no_grad():
        torch.testing.assert_close(network(case["input"]), case["output"], rtol=0, atol=1e-3)
        assert torch.equal(finescale.load(ours).network(case["input"]), network(case["input"]))
        with switched_off(network):
            torch.testing.assert_close(network(case["input"]), case["float_output"], rtol=0, atol=1e-4)
    assert ours.stat().st_size < published.stat().st_size / 4
