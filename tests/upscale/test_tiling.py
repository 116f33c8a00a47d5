from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from finescale.upscale.tiling import (
    EqualSpan,
    Span,
    Tile,
    Tiling,
    plan_average,
    plan_chop,
    plan_pad,
    plan_tiles,
    plan_whole,
)

CHOP_PLANS = json.loads((Path(__file__).parents[1] / "golden/hit-sr/chop_plans.json").read_text())


@st.composite
def cuts(draw: st.DrawFn) -> tuple[int, int, int]:
    """Length of an axis, tile, overlap."""
    tile = draw(st.integers(1, 80))
    return draw(st.integers(1, 400)), tile, draw(st.integers(0, tile - 1))


def spans_of(length: int, tile: int, overlap: int) -> list[Span]:
    return [tile.columns for tile in plan_tiles((1, length), tile, overlap)]


@settings(deadline=None)
@given(cuts())
def test_spans_cover_the_axis_from_end_to_end(cut: tuple[int, int, int]) -> None:
    length, _, _ = cut
    spans = spans_of(*cut)
    assert spans[0].start == 0
    assert spans[-1].stop == length
    assert {pixel for span in spans for pixel in range(span.start, span.stop)} == set(range(length))


@settings(deadline=None)
@given(cuts())
def test_spans_are_even_small_enough_and_as_few_as_possible(cut: tuple[int, int, int]) -> None:
    length, tile, overlap = cut
    spans = spans_of(*cut)
    assert len({span.stop - span.start for span in spans}) == 1
    assert spans[0].stop <= tile
    steps = [after.start - before.start for before, after in pairwise(spans)]
    assert not steps or max(steps) - min(steps) <= 1
    assert all(before.stop - after.start >= overlap for before, after in pairwise(spans))
    fewest = next(count for count in range(1, length + 1) if count * (tile - overlap) + overlap >= length)
    assert len(spans) == fewest


@settings(deadline=None)
@given(cuts(), st.integers(1, 4))
def test_weights_sum_to_one_at_every_pixel(cut: tuple[int, int, int], scale: int) -> None:
    total = torch.zeros(cut[0] * scale)
    for span in spans_of(*cut):
        weights = span.weights(scale)
        first, last = span.kept
        assert span.start <= first <= last <= span.stop
        assert weights.amin() >= 0
        total[first * scale : last * scale] += weights
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("overlap", [1, 2, 8, 13])
def test_the_blend_is_symmetric_about_the_middle_of_a_seam(overlap: int, scale: int) -> None:
    first, second = spans_of(60, 40, overlap)
    begin, end = second.rise
    assert first.fall == second.rise
    rising = second.weights(scale)[: (end - begin) * scale]
    falling = first.weights(scale)[begin * scale :]
    torch.testing.assert_close(rising + rising.flip(0), torch.ones_like(rising), rtol=0, atol=1e-6)
    torch.testing.assert_close(rising, falling.flip(0), rtol=0, atol=1e-6)


def test_the_blend_is_a_raised_cosine_at_the_centres_of_pixels() -> None:
    (_, second) = spans_of(72, 40, 8)
    expected = torch.tensor([0.0381, 0.3087, 0.6913, 0.9619, 1.0])
    torch.testing.assert_close(second.weights(1)[:5], expected, rtol=0, atol=1e-4)


@settings(deadline=None)
@given(cuts(), st.integers(2, 50))
def test_tiles_start_at_multiples_of_a_period(cut: tuple[int, int, int], period: int) -> None:
    length, tile, overlap = cut
    spans = [tile.columns for tile in plan_tiles((1, length), tile, overlap, period=period)]
    if period > tile - overlap:
        assert spans == spans_of(*cut)
        return
    assert all(span.start % period == 0 and span.stop - span.start <= tile for span in spans)
    assert all(before.stop - after.start >= overlap for before, after in pairwise(spans))
    assert all(before.fall == after.rise for before, after in pairwise(spans))
    assert all(
        (span.weights(2) >= 0).all() and span.start <= span.kept[0] <= span.kept[1] <= span.stop for span in spans
    )
    assert spans[0].start == 0
    assert spans[-1].stop == length


def test_a_cut_is_what_one_would_draw() -> None:
    assert spans_of(100, 40, 8) == [
        Span(0, 39, (0, 0), (32, 36)),
        Span(30, 69, (32, 36), (63, 67)),
        Span(61, 100, (63, 67), (100, 100)),
    ]


def test_a_cut_with_a_period_is_what_one_would_draw() -> None:
    spans = [tile.rows for tile in plan_tiles((540, 1), 448, 64, period=192)]
    assert spans == [Span(0, 348, (0, 0), (254, 286)), Span(192, 540, (254, 286), (540, 540))]


@settings(deadline=None)
@given(st.integers(257, 4000))
def test_tiles_have_at_most_two_sizes_along_an_axis(length: int) -> None:
    spans = [tile.columns for tile in plan_tiles((1, length), 256, 64, period=32)]
    assert len({span.stop - span.start for span in spans}) <= 2


def test_unequal_tiles_are_kept_where_equal_ones_cost_too_much() -> None:
    ends = [(tile.columns.start, tile.columns.stop) for tile in plan_tiles((1, 700), 256, 64, period=192)]
    assert ends == [(0, 256), (192, 448), (384, 640), (576, 700)]


def test_equal_tiles_overlap_a_little_more() -> None:
    ends = [(tile.columns.start, tile.columns.stop) for tile in plan_tiles((1, 700), 256, 64, period=32)]
    assert {stop - start for start, stop in ends} == {252}
    assert [start % 32 for start, _ in ends] == [0] * len(ends)
    assert ends[-1] == (448, 700)


def test_tiles_come_row_by_row() -> None:
    corners = [(tile.top, tile.left, tile.height, tile.width) for tile in plan_tiles((50, 100), 60, 10)]
    assert corners == [(0, 0, 50, 55), (0, 45, 50, 55)]
    assert [(tile.top, tile.left) for tile in plan_tiles((100, 100), 60, 10)] == [(0, 0), (0, 45), (45, 0), (45, 45)]


def test_the_whole_image_is_one_tile_of_weight_one() -> None:
    (tile,) = plan_whole((5, 7))
    assert tile == Tile(Span(0, 5, (0, 0), (5, 5)), Span(0, 7, (0, 0), (7, 7)))
    assert plan_tiles((5, 7), 7, 2) == [tile]
    assert tile.rows.weights(2).tolist() == [1.0] * 10


@pytest.mark.parametrize(("tile", "overlap"), [(32, 32), (32, 40), (32, -1), (0, 0)])
def test_an_overlap_that_is_not_smaller_than_the_tile_is_refused(tile: int, overlap: int) -> None:
    with pytest.raises(ValueError, match=f"overlap must be .* smaller than tile={tile}, got {overlap}"):
        plan_tiles((100, 100), tile, overlap)


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 x 1, got 0 x 4"):
        plan_tiles((0, 4), 32, 8)


@pytest.mark.parametrize("length", [int(length) for length in CHOP_PLANS])
def test_chop_is_the_published_plan(length: int) -> None:
    golden = CHOP_PLANS[str(length)]
    spans = [tile.rows for tile in plan_chop((length, 1))]
    found = [[s.start, s.stop, s.kept[0] - s.start, s.kept[1] - s.start] for s in spans]
    assert found == golden["tiles"]
    assert spans[-1].stop == golden["padded"]


@settings(deadline=None)
@given(st.integers(1, 1500), st.integers(1, 4))
def test_chop_takes_every_pixel_from_one_tile(length: int, scale: int) -> None:
    spans = [tile.rows for tile in plan_chop((length, 1))]
    assert all((span.weights(scale) == 1).all() for span in spans)
    edges = [edge for span in spans for edge in span.kept]
    assert edges[0] == 0
    assert edges[1:-1:2] == edges[2::2]
    assert length <= edges[-1] < length + math.ceil(length / 200) + 1


@st.composite
def windows(draw: st.DrawFn) -> tuple[int, int, int]:
    """Length of an axis, a tile of whole windows, side of a window."""
    period = draw(st.integers(1, 16))
    return draw(st.integers(1, 300)), period * draw(st.integers(1, 6)), period


@settings(deadline=None)
@given(windows(), st.integers(0, 3))
def test_pad_takes_every_pixel_from_one_tile_of_whole_windows(cut: tuple[int, int, int], margin: int) -> None:
    length, tile, period = cut
    tiles = plan_pad((length, length), tile, margin * period, period=period)
    spans = [one.columns for one in tiles[: math.isqrt(len(tiles))]]
    edges = [edge for span in spans for edge in span.kept]
    assert edges[0] == 0
    assert edges[1:-1:2] == edges[2::2]
    assert length <= edges[-1] < length + period
    assert all(last - first <= tile for first, last in (span.kept for span in spans))
    assert all((span.weights(2) == 1).all() and (span.stop - span.start) % period == 0 for span in spans)


def test_pad_is_what_one_would_draw() -> None:
    tiles = plan_pad((1, 37), 16, 8, period=8)
    assert [tile.columns for tile in tiles] == [
        Span(0, 24, (0, 0), (16, 16)),
        Span(8, 40, (16, 16), (32, 32)),
        Span(24, 40, (32, 32), (40, 40)),
    ]
    assert tiles[-1].cut(torch.arange(37.0).reshape(1, 1, 37))[0, 0].tolist() == [*range(24, 37), 35, 34, 33]


@settings(deadline=None)
@given(windows(), st.integers(0, 20), st.integers(1, 4))
def test_average_gives_every_tile_that_holds_a_pixel_the_same_share(
    cut: tuple[int, int, int], overlap: int, scale: int
) -> None:
    length, tile, period = cut
    tiles = plan_average((length, length), tile, min(overlap, period - 1), period=period)
    spans = [one.columns for one in tiles[: math.isqrt(len(tiles))]]
    whole = (length // period + 1) * period
    total, shares = torch.zeros(whole * scale), [set() for _ in range(whole)]
    for span in spans:
        assert span.stop - span.start == min(tile, whole)
        weights = span.weights(scale)
        total[span.start * scale : span.stop * scale] += weights
        for pixel, share in enumerate(weights[::scale].tolist(), start=span.start):
            shares[pixel].add(share)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-6)
    assert all(len(share) == 1 for share in shares)


def test_average_is_what_one_would_draw() -> None:
    tiles = plan_average((60, 32), 16, 8, period=8)
    assert [(tile.top, tile.left) for tile in tiles[:4]] == [(0, left) for left in (0, 8, 16, 24)]
    assert tiles[0].columns == EqualSpan(0, 16, (1,) * 8 + (2,) * 8)
    assert tiles[3].cut(torch.arange(32.0).expand(1, 60, 32))[0, 0].tolist() == [*range(24, 32), *range(31, 23, -1)]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rule": "pad"}, "rule 'pad' needs tile and overlap in pixels, got tile='auto' and overlap=None"),
        ({"rule": "average", "tile": 0, "overlap": 8}, "rule 'average' needs tile and overlap in pixels, got tile=0"),
        ({"rule": "average", "tile": 16, "overlap": 16}, "overlap must be smaller than tile=16 .* got 16"),
        ({"tile": -1}, "tile must be 'auto', 0"),
        ({"tile": 64, "overlap": 33}, "overlap must be at most half of tile=64, got 33"),
        ({"overlap": -1}, "greater than or equal to 0"),
        ({"rule": "chop", "tile": 128}, "rule 'chop' fixes tile and overlap"),
        ({"rule": "chop", "overlap": 8}, "rule 'chop' fixes tile and overlap"),
        ({"max_memory": 0}, "greater than 0"),
        ({"tiles": 3}, "Extra inputs are not permitted"),
    ],
)
def test_wrong_settings_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Tiling.model_validate(values)


@pytest.mark.parametrize(
    ("overlap", "tile", "expected"), [(None, 448, 64), (None, 64, 16), (48, 512, 48), (48, 64, 32)]
)
def test_the_overlap_shrinks_with_the_tile(overlap: int | None, tile: int, expected: int) -> None:
    assert Tiling(overlap=overlap).overlap_of(tile) == expected
