"""The first weights of a training: from the seed, or from the file of another network."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from finescale import weights
from finescale.errors import WeightsError, WeightsMismatchError
from finescale.networks import FAMILIES, Frame
from finescale.settings import parse_settings
from finescale.train import TrainSettings
from finescale.train.initial_weights import initial_network, start_from_file


def network(family: str, variant: str, scale: int, seed: int = 0) -> Frame:
    torch.manual_seed(seed)
    facts = FAMILIES[family]
    return facts.network(settings=facts.tiny[variant], scale=scale)


def saved(made: Frame, path: Path) -> Path:
    weights.save(made, path, source="a test")
    return path


def test_another_scale_gives_all_but_its_head_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    x2, x4 = network("hit-sr", "hit-srf", 2, seed=1), network("hit-sr", "hit-srf", 4, seed=2)
    before = {key: tensor.clone() for key, tensor in x4.state_dict().items()}
    with caplog.at_level(logging.INFO, logger="finescale"):
        kept = start_from_file(x4, saved(x2, tmp_path / "x2.safetensors"))
    assert kept == ["upsample.0.weight", "upsample.0.bias"]
    assert "tensors copied; all but upsample.0" in caplog.text
    for key, tensor in x4.state_dict().items():
        assert torch.equal(tensor, before[key] if key in kept else x2.state_dict()[key])


def test_cit_begins_with_dat_light_and_computes_what_it_does(tmp_path: Path) -> None:
    dat = network("dat", "dat-light", 2, seed=3)
    fields = dat.settings.model_dump()
    torch.manual_seed(4)
    facts = FAMILIES["cit"]
    cit = facts.network(settings=type(facts.tiny["cit"])(**{**fields, "pos_dim": 4}), scale=2)
    kept = start_from_file(cit, saved(dat, tmp_path / "dat.safetensors"))
    assert 0 < len(kept) < len(cit.state_dict())
    x = torch.rand(1, 3, 9, 8)
    with torch.no_grad():
        torch.testing.assert_close(cit.eval()(x), dat.eval()(x), atol=1e-5, rtol=0)


def test_a_network_of_which_nothing_fits_is_refused(tmp_path: Path) -> None:
    path = saved(network("dat", "dat-light", 2), tmp_path / "dat.safetensors")
    grey = FAMILIES["hit-sr"].tiny["hit-srf"].model_copy(update={"in_channels": 1})
    other = FAMILIES["hit-sr"].network(settings=grey, scale=2)
    with pytest.raises(WeightsMismatchError, match="none of the tensors of its dat network fits"):
        start_from_file(other, path)


def test_a_missing_file_is_told_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(
        WeightsError,
        match="this file of warm_start does not exist; train that network first",
    ):
        start_from_file(network("hit-sr", "hit-srf", 2), tmp_path / "x2.safetensors")


def test_the_seed_decides_the_first_weights_and_no_other_random_number(tmp_path: Path) -> None:
    values = {
        "name": "a", "variant": "craft", "scale": 2, "network": {"depths": [1], "num_heads": [6]},
        "data": {"hr": [tmp_path]}, "train": {"iterations": 1, "seed": 7},
    }  # fmt: skip
    settings = parse_settings(TrainSettings, values, source="a test")
    other = parse_settings(TrainSettings, {**values, "train": {"iterations": 1, "seed": 8}}, source="a test")
    state = torch.random.get_rng_state()
    one, same, another = (initial_network(given).state_dict() for given in (settings, settings, other))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["conv_first.weight"], another["conv_first.weight"])
