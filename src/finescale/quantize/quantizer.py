"""The quantizer: rounds numbers to 2^bits evenly spaced values between two bounds that can be learned.

Q = 2^bits - 1, codes q from 0 to Q, step s. With a zero point z, which is a code, y = (q - z) s; anchored at the lower
bound l, y = q s + l. Computed in float32, integers or not: the answers are those that integer arithmetic gives.
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


def codes_between(x: Tensor, low: Tensor, high: Tensor, *, bits: int, anchored: bool) -> Tensor:
    """Return the integers 0 to Q of numbers, as float32, for bounds that broadcast over ``x``."""
    if anchored:
        numbers: Tensor = ((x.clamp(low, high) - low) / ((high - low) / (2**bits - 1))).round_()
        return numbers
    return codes(x, *step_and_zero(low, high, bits=bits), bits=bits)


def values_of(numbers: Tensor, low: Tensor, high: Tensor, *, bits: int, anchored: bool) -> Tensor:
    """Return what integers stand for, undoing `codes_between`."""
    if anchored:
        values: Tensor = numbers * ((high - low) / (2**bits - 1)) + low
    else:
        step, zero = step_and_zero(low, high, bits=bits)
        values = (numbers - zero) * step
    return values


def fake_quantize(x: Tensor, low: Tensor, high: Tensor, *, bits: int, anchored: bool = False, seen: int = 0) -> Tensor:
    """Round numbers to the nearest values of a quantizer with these bounds; differentiable.

    Rounding passes gradients unchanged, clamping only where it has no effect.

    Args:
        x: What to quantize, of any shape.
        low: Lower bound, of no dimensions, or one for each place along the first axis of ``x``.
        high: Upper bound, likewise.
        bits: Width of the integers.
        anchored: Whether values are counted from the lower bound, and not from zero.
        seen: For PTQ4SR's gradients of anchored bounds, how many numbers calibration saw at first; 0 for plain ones.
    """
    function = (_Anchored, seen) if anchored else (_FakeQuantize,)
    answer: Tensor = function[0].apply(x, low, high, bits, *function[1:])  # type: ignore[no-untyped-call]
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


class _Anchored(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, low: Tensor, high: Tensor, bits: int, seen: int) -> Tensor:
        ctx.save_for_backward(x, low, high)
        ctx.bits, ctx.seen = bits, seen
        low, high = along_rows(low, x), along_rows(high, x)
        numbers = codes_between(x, low, high, bits=bits, anchored=True)
        return values_of(numbers, low, high, bits=bits, anchored=True)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None]:
        x, low, high = ctx.saved_tensors
        top = 2**ctx.bits - 1
        lows, highs = along_rows(low, x), along_rows(high, x)
        place = (x.clamp(lows, highs) - lows) / ((highs - lows) / top)
        by_error = _summed(gradient * (place.round() - place), low) / top
        # A number on a bound moves with it, and in 2DQuant also counts as inside.
        below, above = (x < lows, x > highs) if ctx.seen else (x <= lows, x >= highs)
        scale = (ctx.seen * (2 ** (ctx.bits - 1) - 1)) ** -0.5 if ctx.seen else 1.0
        grad_low = scale * (_summed(gradient * below, low) - by_error)
        grad_high = scale * (_summed(gradient * above, high) + by_error)
        inside = (x >= lows) & (x <= highs)
        return (gradient * inside if ctx.needs_input_grad[0] else None), grad_low, grad_high, None, None


def _summed(gradient: Tensor, bound: Tensor) -> Tensor:
    """Sum over the numbers that share a bound."""
    return gradient.flatten(1).sum(1) if bound.ndim else gradient.sum()


class Quantizer(nn.Module):
    """Quantization of one tensor; passes it unchanged until its bounds are set and it is switched on.

    Args:
        bits: Width of the integers.
        rows: Number of pairs of bounds for weights, for as many equal parts along their first axis; None for one pair,
            for a whole activation.
        include_zero: Whether `set_bounds` extends ranges to include zero.
        anchored: Whether values are counted from the lower bound, which nothing extends then.

    Attributes:
        low: Lower bounds, (rows,) or ().
        high: Upper bounds, likewise.
        is_on: Whether it quantizes.
        seen: See `fake_quantize`.
    """

    low: Tensor
    high: Tensor

    def __init__(
        self, *, bits: int, rows: int | None = None, include_zero: bool = True, anchored: bool = False
    ) -> None:
        super().__init__()
        self.bits = bits
        self.include_zero = include_zero and not anchored
        self.anchored = anchored
        self.is_on = False
        self.seen = 0
        shape = () if rows is None else (rows,)
        # Not part of the state dict, which keeps its published keys.
        self.register_buffer("low", torch.zeros(shape), persistent=False)
        self.register_buffer("high", torch.zeros(shape), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Round a tensor to the values of the integers, in float32 where it has half precision."""
        if not self.is_on:
            return x
        rows = self.parts(x.to(torch.promote_types(x.dtype, torch.float32)))
        rounded = fake_quantize(rows, self.low, self.high, bits=self.bits, anchored=self.anchored, seen=self.seen)
        return rounded.reshape(x.shape)

    def parts(self, x: Tensor) -> Tensor:
        """Return a tensor as it is, or weights as (rows, numbers) where several of their rows share a range."""
        return x.reshape(len(self.low), -1) if self.low.ndim and len(self.low) != len(x) else x

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
            least: Tensor | float = (2**self.bits - 1) * EPSILON
            if self.anchored:  # far from zero float32 is coarser
                least = least * self.low.abs().clamp_min(1)
            torch.maximum(self.high, self.low + least, out=self.high)

    def step_and_zero(self) -> tuple[Tensor, Tensor]:
        """Return step and zero point of the bounds, see the function `step_and_zero`."""
        return step_and_zero(self.low, self.high, bits=self.bits)
