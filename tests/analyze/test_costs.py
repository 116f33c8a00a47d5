from __future__ import annotations

import pytest
import torch

from finescale import weights
from finescale.analyze import costs
from finescale.errors import DeviceError, WeightsError
from finescale.networks import FAMILIES, build


def test_a_published_network_is_found_without_its_weights_and_takes_no_memory() -> None:
    found = costs.subject("hit-srf-df2k", scale=3)
    assert found.cost == FAMILIES["hit-sr"].publication.costs["hit-srf", 3]
    assert next(found.network.parameters()).is_meta


def test_a_network_that_shall_run_has_values_and_leaves_random_numbers_alone() -> None:
    before = torch.random.get_rng_state()
    found = costs.subject("span", scale=2, runs=True)
    assert not any(parameter.is_meta for parameter in found.network.parameters())
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_bundled_network_is_found_though_no_paper_has_its_size() -> None:
    found = costs.subject("default", scale=4)
    assert found.network.scale == 4
    assert found.cost is None
    assert list(costs.compare_with_published(found)) == []


def test_a_weight_file_of_a_published_size_is_compared_with_what_is_published(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("weights") / "mine.safetensors"
    weights.save(build("craft", scale=4), path, source="a test")
    found = costs.subject(str(path), scale=4)
    (comparison,) = costs.compare_with_published(found)
    assert (comparison.model, comparison.published.giga, comparison.by_authors) == (str(path), 51.9, False)
    assert comparison.counted is not None
    assert comparison.counted / 1e9 == pytest.approx(51.9, abs=0.05)


def test_names_and_scales_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="no model is called 'hit-xyz'"):
        costs.subject("hit-xyz", scale=4)
    with pytest.raises(ValueError, match="scale must be 2, 3 or 4 for hit-srf, got 5"):
        costs.subject("hit-srf", scale=5)
    with pytest.raises(WeightsError, match="there is no such file"):
        costs.subject("nowhere.pth", scale=4)


def test_the_input_of_a_result_drops_parts_of_pixels() -> None:
    assert costs.input_for((720, 1280), scale=3) == (240, 426)
    with pytest.raises(ValueError, match="an output of 2 x 720 pixels has no input at x3"):
        costs.input_for((720, 2), scale=3)


def test_a_row_counts_and_measures() -> None:
    found = costs.subject("default", scale=4)
    row = costs.measure_cost(found, (24, 32), timed=True, runs=2)
    told = row.as_json()
    assert told["output_size"] == [96, 128]
    assert told["parameters"] == sum(parameter.numel() for parameter in found.network.parameters())
    assert told["flops"] == 2 * told["multiply_adds"]
    assert told["time"]["runs"] == 2
    one_map = 24 * 32 * 60 * 4 / 2**20
    assert row.memory_mib is not None
    assert row.memory_mib > one_map


def test_without_being_asked_nothing_is_carried_out() -> None:
    row = costs.measure_cost(costs.subject("hit-sir", scale=4), (64, 64))
    assert (row.timing, row.memory_mib) == (None, None)


def test_a_device_without_enough_memory_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(costs, "time_forward", fail)
    with pytest.raises(DeviceError, match=r"default does not fit .* 24x32 pixels; time it at a smaller --input"):
        costs.measure_cost(costs.subject("default", scale=4), (24, 32), timed=True)


def test_the_machine_is_told() -> None:
    assert costs.machine("cpu")["threads"] == torch.get_num_threads()
    assert costs.machine("cpu")["name"]
