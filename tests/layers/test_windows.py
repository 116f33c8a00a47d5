from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from finescale.layers.windows import (
    masks_by_kind,
    merge,
    pad_reflect,
    partition,
    roll,
    shift_mask,
    sliding_windows,
    whole_windows,
)

sides = st.integers(1, 9)


def numbered(*shape: int) -> Tensor:
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float32).reshape(shape)


def mirrored(place: int, length: int) -> int:
    """Where to and fro along ``length`` samples a walk of ``place`` steps ends."""
    at, step = 0, 1
    for _ in range(place):
        if not 0 <= at + step < length:
            step = -step
        if 0 <= at + step < length:
            at += step
    return at


@given(
    n=st.integers(1, 3), rows=st.integers(1, 4), columns=st.integers(1, 4), h=sides, w=sides, channels=st.integers(1, 3)
)
def test_merging_undoes_partitioning(n: int, rows: int, columns: int, h: int, w: int, channels: int) -> None:
    x = numbered(n, rows * h, columns * w, channels)
    windows = partition(x, (h, w))
    assert windows.shape == (n * rows * columns, h * w, channels)
    assert torch.equal(merge(windows, (h, w), (rows * h, columns * w)), x)


def test_windows_and_their_tokens_are_in_row_major_order() -> None:
    x = numbered(2, 4, 6, 1)
    windows = partition(x, (2, 3))
    assert torch.equal(windows[1, :, 0], x[0, :2, 3:, 0].flatten())
    assert torch.equal(windows[2, :, 0], x[0, 2:, :3, 0].flatten())
    assert torch.equal(windows[4, :, 0], x[1, :2, :3, 0].flatten())


@given(height=st.integers(1, 200), width=st.integers(1, 200), h=st.integers(1, 64), w=st.integers(1, 64))
def test_whole_windows_hold_the_map_and_are_not_a_window_larger(height: int, width: int, h: int, w: int) -> None:
    size = whole_windows((height, width), (h, w))
    for side, least, window in zip(size, (height, width), (h, w), strict=True):
        assert side % window == 0
        assert least <= side < least + window


@given(height=st.integers(2, 12), width=st.integers(2, 12), data=st.data())
def test_padding_by_less_than_the_map_is_torchs_reflect_padding(height: int, width: int, data: st.DataObject) -> None:
    below, right = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    x = numbered(2, height, width, 3)
    expected = F.pad(x.permute(0, 3, 1, 2), (0, right, 0, below), mode="reflect").permute(0, 2, 3, 1)
    assert torch.equal(pad_reflect(x, (height + below, width + right)), expected)


@given(height=st.integers(1, 6), width=st.integers(1, 6), below=st.integers(0, 30), right=st.integers(0, 30))
def test_longer_padding_goes_on_mirroring_to_and_fro(height: int, width: int, below: int, right: int) -> None:
    x = numbered(1, height, width, 2)
    rows = [mirrored(place, height) for place in range(height + below)]
    columns = [mirrored(place, width) for place in range(width + right)]
    assert torch.equal(pad_reflect(x, (height + below, width + right)), x[:, rows][:, :, columns])


def test_a_map_that_lacks_nothing_is_not_copied() -> None:
    x = numbered(1, 4, 4, 1)
    assert pad_reflect(x, (4, 4)) is x


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (3, 4)])
def test_padding_sends_a_gradient_to_each_pixel_as_often_as_it_is_repeated(size: tuple[int, int]) -> None:
    x = numbered(1, *size, 1).requires_grad_()
    pad_reflect(x, (8, 11)).sum().backward()
    assert x.grad is not None
    assert x.grad.sum() == 8 * 11
    assert (x.grad > 0).all()


def test_partitioning_and_merging_pass_gradients_through() -> None:
    x = numbered(2, 4, 6, 3).requires_grad_()
    weight = torch.rand(2, 4, 6, 3)
    (merge(partition(x, (2, 3)), (2, 3), (4, 6)) * weight).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, weight)


@given(rows=st.integers(1, 3), columns=st.integers(1, 3), h=st.integers(1, 4), w=st.integers(1, 4), data=st.data())
def test_the_shift_mask_parts_pixels_that_rolling_brought_together(
    rows: int, columns: int, h: int, w: int, data: st.DataObject
) -> None:
    height, width = rows * h, columns * w
    shift = data.draw(st.integers(0, h - 1)), data.draw(st.integers(0, w - 1))
    places = numbered(1, height, width, 1).roll((-shift[0], -shift[1]), dims=(1, 2))
    windows = partition(places, (h, w)).squeeze(-1).int()  # where each token of a window was before
    y, x = windows // width, windows % width

    def near(place: Tensor, side: int) -> Tensor:
        return (place[:, :, None] - place[:, None, :]).abs() < side

    mask = shift_mask((height, width), (h, w), shift)
    assert mask.shape == (rows * columns, h * w, h * w)
    if rows > 1 and columns > 1:  # else the two ends of a window lie next to each other
        assert torch.equal(mask == 0, near(y, h) & near(x, w))
    assert set(mask.unique().tolist()) <= {0.0, -100.0}


def test_the_shift_mask_of_a_single_window_parts_its_four_corners() -> None:
    mask = shift_mask((4, 4), (4, 4), (1, 2))
    corner = torch.tensor([[0, 0, 1, 1]] * 3 + [[2, 2, 3, 3]]).flatten()
    assert torch.equal(mask[0] == 0, corner[:, None] == corner[None, :])


@given(rows=st.integers(1, 4), columns=st.integers(1, 4))
def test_a_map_of_two_by_two_windows_shows_every_kind_of_shift_mask(rows: int, columns: int) -> None:
    window, shift = (2, 4), (1, 2)
    kinds = masks_by_kind(window, shift, like=torch.empty(0)).squeeze(1)
    mask = shift_mask((2 * rows, 4 * columns), window, shift)
    for row in range(rows):
        for column in range(columns):
            kind = 2 * (row == rows - 1) + (column == columns - 1)
            assert torch.equal(mask[row * columns + column], kinds[kind])


def test_rolling_moves_a_map_down_and_to_the_right_and_by_nothing_copies_nothing() -> None:
    x = numbered(1, 3, 4, 1)
    assert torch.equal(roll(x, (1, 2))[0, :, :, 0], torch.tensor([[10, 11, 8, 9], [2, 3, 0, 1], [6, 7, 4, 5]]))
    assert torch.equal(roll(roll(x, (1, 2)), (-1, -2)), x)
    assert roll(x, (0, 0)) is x


@pytest.mark.parametrize(("window", "stride"), [(6, 4), (5, 5), (4, 1)])
def test_a_compiled_network_cuts_the_same_sliding_windows(
    window: int, stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.rand(2, 2 * stride + window, stride + window, 3)
    expected = sliding_windows(x, window, stride)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert torch.equal(sliding_windows(x, window, stride), expected)
