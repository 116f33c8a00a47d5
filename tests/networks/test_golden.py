"""Every network answers as the published one does, at every golden case."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from finescale.networks import FAMILIES, Frame, from_options
from helpers import GOLDEN, STATISTICS, TOLERANCE, Case, exactness, in_float64, load_case, network_of, noise

pytestmark = pytest.mark.filterwarnings("ignore:.*no network reads")  # option blocks as published carry such keys

FILES = [path for family in FAMILIES for path in sorted((GOLDEN / family).glob("*.npz"))]
CASES = [pytest.param(path, id=f"{path.parent.name}/{path.stem}") for path in FILES]


EXPLOSIVE = [case for case, path in zip(CASES, FILES, strict=True) if in_float64(load_case(path))]
ILL_CONDITIONED = [case for case, path in zip(CASES, FILES, strict=True) if 3 * noise(load_case(path)) > TOLERANCE]


@torch.inference_mode()
def assert_close(network: Frame, case: Case, *, tolerance: float, record: Callable[[str, object], None]) -> None:
    answer = network(case.input.to(network.mean.dtype))
    assert answer.shape == case.output.shape
    difference = (answer - case.output).abs()
    largest, index = largest_and_index(difference)
    record("golden difference", (largest, tolerance))
    assert largest <= tolerance, (
        f"largest difference {largest:.2e} at {index}, allowed {tolerance:.1e}; "
        f"mean {difference.mean():.2e}, output's deviation {case.output.std():.2e}; the case: {case.note}"
    )


def largest_and_index(difference: Tensor) -> tuple[float, tuple[int, ...]]:
    place = torch.unravel_index(difference.argmax(), difference.shape)
    return float(difference.max()), tuple(int(axis) for axis in place)


def test_every_family_has_golden_cases() -> None:
    assert {path.parent.name for path in FILES} == set(FAMILIES)


@pytest.mark.parametrize("path", CASES)
def test_the_state_dict_has_the_published_keys_and_shapes(path: Path) -> None:
    case = load_case(path)
    with torch.device("meta"):
        network = from_options(case.options)
    saved = {key: shape for key, shape in case.buffers.items() if not computed(path, key)}
    assert {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()} == {**case.shapes, **saved}


@pytest.mark.parametrize("path", CASES)
def test_a_published_buffer_is_computed_by_the_family_or_a_statistic_of_training(path: Path) -> None:
    for key in load_case(path).buffers:
        assert computed(path, key) or key.endswith(STATISTICS)


def computed(path: Path, key: str) -> bool:
    """Whether a buffer of a case is one that its family computes itself."""
    return key.endswith(tuple(FAMILIES[path.parent.name].files.derivable))


@pytest.mark.parametrize("path", CASES)
def test_the_output_is_the_published_one(path: Path, record_property: Callable[[str, object], None]) -> None:
    case = load_case(path)
    dtype, tolerance = exactness(case)
    assert_close(network_of(case).to(dtype), case, tolerance=tolerance, record=record_property)


@pytest.mark.parametrize("path", EXPLOSIVE)
def test_in_float32_a_case_that_amplifies_rounding_is_met_roughly(path: Path) -> None:
    case = load_case(path)
    with torch.inference_mode():
        difference = network_of(case)(case.input) - case.output
    assert difference.pow(2).mean().sqrt() < 0.02 * case.output.std()


@pytest.mark.parametrize("path", ILL_CONDITIONED)
def test_in_float64_only_the_published_rounding_is_left(
    path: Path, record_property: Callable[[str, object], None]
) -> None:
    case = load_case(path)
    tolerance = 1.02 * noise(case)  # it is noted with two digits
    assert_close(network_of(case).double(), case, tolerance=tolerance, record=record_property)
