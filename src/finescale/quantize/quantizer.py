"""The quantizer: rounds numbers to 2^bits evenly spaced values between two bounds that can be learned.

Q = 2^bits - 1, codes q from 0 to Q, step s, zero point z (a code): y = (q - z) s. Computed in float32, integers or not:
the answers are those that integer arithmetic gives.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

EPSILON = 2.0**-23
"""The smallest step."""


def step_and_zero(low: Tensor, high: Tensor, *, bits: int) -> tuple[Tensor, Tensor]:
    """Return step s and zero point z for bounds, of the same shape.

    A range without zero keeps its width, but is moved to start or end there.
    """
    top = 2**bits - 1
    step = ((high - low) / top).clamp_min(EPSILON)
    return step, (-(low / step).round()).clamp(0, top)


def codes(x: Tensor, step: Tensor, zero: Tensor, *, bits: int) -> Tensor:
    """Return the integers 0 to Q of numbers, as float32; step and zero point broadcast to ``x``."""
    return (x / step + zero).round_().clamp_(0, 2**bits - 1)


def fake_quantize(x: Tensor, low: Tensor, high: Tensor, *, bits: int) -> Tensor:
    """Round numbers to the nearest values of a quantizer with these bounds; differentiable.

    Rounding passes gradients unchanged, clamping only where it has no effect.

    Args:
        x: What to quantize, of any shape.
        low: Lower bound, of no dimensions, or one for each place along the first axis of ``x``.
        high: Upper bound, likewise.
        bits: Width of the integers.
    """
    answer: Tensor = _FakeQuantize.apply(x, low, high, bits)  # type: ignore[no-untyped-call]
    return answer


def zero_included(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return the bounds, extended to include zero."""
    return low.clamp_max(0), high.clamp_min(0)


def along_rows(bound: Tensor, x: Tensor) -> Tensor:
    """Return bounds in a shape that broadcasts over all but the first axis of ``x``."""
    return bound.reshape(-1, *(1,) * (x.ndim - 1)) if bound.ndim else bound


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, low: Tensor, high: Tensor, bits: int) -> Tensor:
        step, zero = (along_rows(term, x) for term in step_and_zero(low, high, bits=bits))
        ctx.save_for_backward(x, low, high)
        ctx.bits = bits
        return codes(x, step, zero, bits=bits).sub_(zero).mul_(step)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, low, high = ctx.saved_tensors
        top = 2**ctx.bits - 1
        step, zero = step_and_zero(low, high, bits=ctx.bits)
        moves = (-(low / step).round()).clamp(0, top) == -(low / step).round()  # the zero point, with the lower bound
        wide = (high - low) / top >= EPSILON
        step_of_x, zero_of_x = along_rows(step, x), along_rows(zero, x)
        place = x / step_of_x
        code = (place + zero_of_x).round_()
        inside = (code >= 0) & (code <= top)
        # Inside the range a change of the step moves the answer by its rounding error, outside by its code.
        by_step = torch.where(inside, code - zero_of_x - place, code.clamp(0, top) - zero_of_x)
        by_step = _summed(gradient * by_step, low)
        clipped = _summed(gradient * ~inside, low) * moves
        grad_high = (by_step - clipped * low / step) * wide / top
        return (gradient * inside if ctx.needs_input_grad[0] else None), clipped - grad_high, grad_high, None


def _summed(gradient: Tensor, bound: Tensor) -> Tensor:
    """Sum over the numbers that share a bound."""
    return gradient.flatten(1).sum(1) if bound.ndim else gradient.sum()


class Quantizer(nn.Module):
    """Quantization of one tensor; passes it unchanged until its bounds are set and it is switched on.

    Args:
        bits: Width of the integers.
        rows: Number of pairs of bounds, for the rows of weights; None for one pair, for a whole activation.
        include_zero: Whether `set_bounds` extends ranges to include zero.

    Attributes:
        low: Lower bounds, (rows,) or ().
        high: Upper bounds, likewise.
        is_on: Whether it quantizes.
    """

    low: Tensor
    high: Tensor

    def __init__(self, *, bits: int, rows: int | None = None, include_zero: bool = True) -> None:
        super().__init__()
        self.bits = bits
        self.include_zero = include_zero
        self.is_on = False
        shape = () if rows is None else (rows,)
        # Not part of the state dict, which keeps its published keys.
        self.register_buffer("low", torch.zeros(shape), persistent=False)
        self.register_buffer("high", torch.zeros(shape), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Round a tensor to the values of the integers, in float32 where it has half precision."""
        if not self.is_on:
            return x
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        return fake_quantize(x, self.low, self.high, bits=self.bits)

    def set_bounds(self, low: Tensor, high: Tensor) -> None:
        """Set the bounds, of the quantizer's shape, at least `EPSILON` steps apart."""
        with torch.no_grad():
            self.low.copy_(low)
            self.high.copy_(high)
        self.tidy()

    def tidy(self) -> None:
        """Restore the order of the bounds after a training step has moved them."""
        with torch.no_grad():
            if self.include_zero:
                self.low.clamp_(max=0)
                self.high.clamp_(min=0)
            torch.maximum(self.high, self.low + (2**self.bits - 1) * EPSILON, out=self.high)

    def step_and_zero(self) -> tuple[Tensor, Tensor]:
        """Return step and zero point of the bounds, see the function `step_and_zero`."""
        return step_and_zero(self.low, self.high, bits=self.bits)
