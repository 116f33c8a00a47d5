"""The method is chosen by measurement, and whole methods are compared on the same images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from finescale.networks import FAMILIES, Frame
from finescale.quantize import (
    QuantizationResult,
    QuantSettings,
    calibration_images,
    compare,
    insert_quantizers,
    quantize_network,
)
from finescale.quantize.calibrate import calibrate
from finescale.quantize.choice import STARTS, choose
from finescale.quantize.modules import bounds_of
from finescale.quantize.trials import Trials

SETTINGS = QuantSettings(bits=3, epochs=0)


def tiny(family: str = "swinir") -> Frame:
    torch.manual_seed(0)
    known = FAMILIES[family]
    return known.network(settings=next(iter(known.tiny.values())), scale=2).eval()


def quantize(network: Frame, folder: Path, settings: QuantSettings, **how: Any) -> QuantizationResult:
    return quantize_network(network, folder, settings, crops=2, crop_size=8, **how)


def test_without_refinement_the_ranges_closest_to_float_are_taken(folder: Path) -> None:
    network, again = tiny(), tiny()
    result = quantize(network, folder, SETTINGS, auto=True)
    assert list(result.fidelity) == list(STARTS)
    assert result.reached == max(result.fidelity.values()) > min(result.fidelity.values())
    assert result.better_method is None
    stated = quantize(again, folder, result.settings)
    assert stated.reached == pytest.approx(result.reached)
    for path, (low, high) in bounds_of(network).items():
        assert torch.equal(low, bounds_of(again)[path][0])
        assert torch.equal(high, bounds_of(again)[path][1])


def test_of_the_two_best_starts_the_better_after_a_short_refinement_is_taken(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = tiny()
    settings = SETTINGS.model_copy(update={"epochs": 5})
    trials = Trials(
        network, calibration_images(network, folder, crops=2, crop_size=16), settings,
        on_progress=lambda _stage, _done, _total: None,
    )  # fmt: skip
    ranks = {"dual": 20.0, "minmax": 25.0, "percentile": 24.0, "density": 10.0, "search": 23.0}
    tried: list[tuple[str, int]] = []

    def refine(_network: Frame, how: QuantSettings, *, stage: str) -> float:
        assert stage == f"trial of {how.method}"
        tried.append((how.method, how.epochs))
        return {"minmax": 26.0, "percentile": 27.0}[how.method]

    monkeypatch.setattr(trials, "calibrate", lambda _network, how: ranks[how.method] + (100 if how.keep else 0))
    monkeypatch.setattr(trials, "refine", refine)
    chosen, fidelity = choose(network, trials, settings)
    assert tried == [("minmax", 2), ("percentile", 2)]
    assert (chosen.method, chosen.epochs, chosen.keep) == ("percentile", 5, ("first", "last"))
    assert network.quantization == chosen
    assert fidelity == {method: rank + 100 for method, rank in ranks.items()}


@pytest.mark.parametrize(
    ("changes", "gain", "kept"),
    [
        ({}, 1.0, ("first", "last")),
        ({}, -1.0, ()),
        ({"keep": ("last",)}, 1.0, ("last",)),
        ({"bits": 8}, 1.0, ()),
        ({"placement": "blocks"}, 1.0, ()),
    ],
)
def test_the_ends_have_8_bits_where_that_is_closer_and_nothing_else_is_stated(
    changes: dict[str, Any], gain: float, kept: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, settings = tiny(), SETTINGS.model_copy(update=changes)
    images = calibration_images(network, folder, crops=2, crop_size=8)
    trials = Trials(network, images, settings, on_progress=lambda _stage, _done, _total: None)
    monkeypatch.setattr(trials, "calibrate", lambda _network, how: gain if "first" in how.keep else 0.0)
    chosen, _ = choose(network, trials, settings)
    assert chosen.keep == kept


def test_a_refinement_that_makes_it_worse_is_undone(folder: Path) -> None:
    network, unrefined = tiny(), tiny()
    wild = SETTINGS.model_copy(update={"epochs": 1, "lr": 10.0, "schedule": "constant"})
    result = quantize(network, folder, wild, auto=True)
    assert result.settings.epochs == 0
    assert "refined" not in result.fidelity
    quantize(unrefined, folder, result.settings)
    for path, (low, _) in bounds_of(network).items():
        assert torch.equal(low, bounds_of(unrefined)[path][0])


@pytest.mark.parametrize("family", ["swinir", "ngram"])
def test_whole_methods_are_compared_and_the_network_stays_as_it_is(family: str, folder: Path) -> None:
    network = tiny(family)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    settings = SETTINGS.model_copy(update={"epochs": 1, "bits": 8})
    rows = {}
    for row in compare(network, folder, settings, crops=2, crop_size=8):
        how = row.network.quantization
        assert isinstance(how, QuantSettings)
        assert how.epochs == (0 if row.name in ("minmax", "percentile") else 1)
        rows[row.name] = (how.method, how.scheme, how.split_qkv, row.fidelity)
    assert rows["dual"][:3] == ("dual", "zero-point", False)
    assert rows["ptq4sr"][:3] == ("density", "anchored", False)
    assert rows["2dquant, refined"][:3] == ("search", "anchored", True)
    assert min(fidelity for *_, fidelity in rows.values()) > 15  # of 8 bits
    assert getattr(network, "quantization", None) is None
    assert all(torch.equal(network.state_dict()[key], tensor) for key, tensor in before.items())


def calibrated(**changes: Any) -> Frame:
    """A tiny network with searched ranges, and no measurement."""
    network, settings = tiny(), SETTINGS.model_copy(update={"method": "search", **changes})
    placement = FAMILIES["swinir"].quantization.placement(network.settings)
    insert_quantizers(network, placement, settings)
    calibrate(network, [torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))], placement, settings)
    return network


def test_blocks_leave_out_the_ends_and_larger_convolutions() -> None:
    paths = bounds_of(calibrated(placement="blocks"))
    assert all(path.startswith("layers.") for path in paths)
    assert not any(".conv." in path for path in paths)
    assert any(path.endswith("mlp.fc1.weight_quantizer") for path in paths)
    assert any(path.endswith("probabilities") for path in paths)


def test_the_upper_end_alone_moves_for_what_has_one_side() -> None:
    both, paper = (bounds_of(calibrated(scheme="anchored", sides=sides)) for sides in ("both", "paper"))
    moved = {path for path, (low, _) in paper.items() if not torch.equal(low, both[path][0])}
    assert moved
    assert all(path.endswith((".probabilities", ".fc2.input_quantizer")) for path in moved)
