"""The quantizer and its gradients are the published ones."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from finescale.quantize.quantizer import Quantizer, along_rows, codes, fake_quantize, step_and_zero
from golden_ptq import Case, names

cases = pytest.mark.parametrize("name", names("quantizer"))


@cases
def test_codes_and_answers_are_the_published_ones(name: str) -> None:
    case = Case(name)
    x, low, high = case["x"], case["min_val"], case["max_val"]
    for bits in case.meta["bits"]:
        step, zero = step_and_zero(low, high, bits=bits)
        torch.testing.assert_close(step, case[f"b{bits}.scale"], rtol=0, atol=1e-6)
        torch.testing.assert_close(zero, case[f"b{bits}.zero_point"], rtol=0, atol=0)
        found = codes(x, along_rows(step, x), along_rows(zero, x), bits=bits)
        assert torch.equal(found.short(), case[f"b{bits}.codes"])
        torch.testing.assert_close(fake_quantize(x, low, high, bits=bits), case[f"b{bits}.output"], rtol=0, atol=1e-6)


@cases
def test_gradients_are_the_published_ones(name: str) -> None:
    case = Case(name)
    for bits in case.meta["bits"]:
        x, low, high = (case[key].clone().requires_grad_() for key in ("x", "min_val", "max_val"))
        fake_quantize(x, low, high, bits=bits).backward(case["grad_out"])
        of_x = case[f"b{bits}.grad_x"]
        torch.testing.assert_close(x.grad, of_x, rtol=0, atol=1e-4 * float(of_x.abs().max()))
        wanted = [case[f"b{bits}.grad_min"], case[f"b{bits}.grad_max"]]
        # Sums over a tensor in which terms cancel: both ends are as exact as the larger of them.
        allowed = 1e-4 * max(float(end.abs().max()) for end in wanted) + 1e-6
        for bound, end in zip((low, high), wanted, strict=True):
            torch.testing.assert_close(bound.grad, end, rtol=0, atol=allowed)


@given(st.floats(-4, 4), st.floats(0.01, 4), st.sampled_from((4, 6, 8)), st.integers(0, 2**31))
def test_numbers_within_a_range_that_holds_zero_move_by_half_a_step_at_most(
    low: float, width: float, bits: int, seed: int
) -> None:
    quantizer = Quantizer(bits=bits)
    quantizer.set_bounds(torch.tensor(low), torch.tensor(low + width))
    quantizer.is_on = True
    step, _ = quantizer.step_and_zero()
    x = torch.rand(50, generator=torch.Generator().manual_seed(seed)) * width + low
    # Rounding of the zero point moves the whole grid by half a step, so that one end may be clipped by as much.
    assert (quantizer(x) - x).abs().max() <= 1.001 * step


def test_a_quantizer_that_is_off_gives_the_tensor_itself() -> None:
    x = torch.rand(3)
    assert Quantizer(bits=4)(x) is x


def test_bounds_never_cross_and_hold_zero_where_asked() -> None:
    quantizer = Quantizer(bits=4)
    quantizer.set_bounds(torch.tensor(0.5), torch.tensor(0.25))
    assert quantizer.low == 0
    assert quantizer.high == 0.25
    without = Quantizer(bits=4, include_zero=False)
    without.set_bounds(torch.tensor(0.5), torch.tensor(0.25))
    assert without.high > without.low


def test_bounds_enter_no_state_dict() -> None:
    assert not Quantizer(bits=4, rows=3).state_dict()


def test_half_precision_becomes_float32() -> None:
    quantizer = Quantizer(bits=8)
    quantizer.set_bounds(torch.tensor(-1.0), torch.tensor(1.0))
    quantizer.is_on = True
    assert quantizer(torch.rand(3).half()).dtype == torch.float32
