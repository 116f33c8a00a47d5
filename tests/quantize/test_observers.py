"""Ranges are found as published, and by two simpler ways for comparison."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from finescale.quantize import QuantSettings
from finescale.quantize.objectives import AbsoluteError
from finescale.quantize.observers import Observer, clipped
from finescale.quantize.quantizer import fake_quantize, step_and_zero
from golden_ptq import Case, names

PUBLISHED = QuantSettings(bits=4, include_zero=False, averaging="running")


@pytest.mark.parametrize("name", names("observer"))
def test_ranges_are_the_published_ones_after_every_update(name: str) -> None:
    case = Case(name)
    for bits in case.meta["bits"]:
        seen = Observer(
            PUBLISHED,
            bits=bits,
            frequency=case.meta["criterion"] == "FGO",
            per_row=case.meta["granularity"] != "tensor",
        )
        for update, x in enumerate(case.each("x")):
            seen.update(x)
            if not case.meta["ties"]:
                for bound, key in zip(seen.bounds, ("min", "max"), strict=True):
                    torch.testing.assert_close(bound, case[f"b{bits}.{key}{update}"], rtol=1e-6, atol=1e-6)
        step, zero = step_and_zero(*seen.bounds, bits=bits)
        torch.testing.assert_close(step, case[f"b{bits}.scale"], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(zero, case[f"b{bits}.zero_point"], rtol=0, atol=0)
        answer = fake_quantize(x, *seen.bounds, bits=bits)
        torch.testing.assert_close(answer, case[f"b{bits}.output"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("averaging", ["running", "mean"])
def test_a_constant_seen_several_times_needs_one_search(averaging: str) -> None:
    settings = QuantSettings(bits=4, averaging=averaging)  # type: ignore[arg-type]
    x = torch.randn(5, 40, generator=torch.Generator().manual_seed(0))
    one, many = (Observer(settings, bits=4, per_row=True) for _ in range(2))
    one.update(x, times=3)
    for _ in range(3):
        many.update(x)
    for bound, other in zip(one.bounds, many.bounds, strict=True):
        torch.testing.assert_close(bound, other)


def test_sums_of_sorted_numbers_score_as_the_quantizer_does() -> None:
    rows = torch.randn(3, 500, generator=torch.Generator().manual_seed(1))
    low, high = torch.tensor([-1.0, 0.5, -3.0]), torch.tensor([1.5, 2.0, -0.2])
    score = AbsoluteError(rows, settings=PUBLISHED, bits=4)(torch.arange(3), low, high)
    plain = (fake_quantize(rows, low, high, bits=4).double() - rows).abs().mean(1)
    torch.testing.assert_close(score, plain, rtol=1e-6, atol=0)


def test_ties_are_cut_from_the_right_and_worse_cuts_are_undone() -> None:
    def score(rows: Tensor, low: Tensor, high: Tensor) -> Tensor:
        return torch.where(high - low < 1.4, 2.0, 1.0).double()

    low, high = clipped((torch.tensor([-1.0]), torch.tensor([1.0])), score, bits=4, include_zero=False)
    assert low == -1
    assert high == 0.5


def test_a_range_with_zero_never_loses_it() -> None:
    positive = torch.rand(1, 300, generator=torch.Generator().manual_seed(2)) + 2
    seen = Observer(QuantSettings(bits=4), bits=4)
    seen.update(positive)
    assert seen.bounds[0] == 0


def test_extremes_are_those_of_all_batches() -> None:
    seen = Observer(QuantSettings(bits=4, method="minmax"), bits=4)
    for x in (torch.tensor([-1.0, 0.5]), torch.tensor([-0.5, 3.0])):
        seen.update(x)
    assert [float(bound) for bound in seen.bounds] == [-1, 3]


def test_percentiles_leave_out_a_share_at_either_end() -> None:
    seen = Observer(QuantSettings(bits=4, method="percentile", tail=0.1), bits=4)
    seen.update(torch.arange(-50.0, 51.0))
    torch.testing.assert_close(torch.stack(seen.bounds), torch.tensor([-40.0, 40.0]))
