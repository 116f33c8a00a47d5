"""The N-gram context of windows, against the paper's formula written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from finescale.layers.ngram_context import NGramContext, NGramWindowPartition
from finescale.layers.window_attention import WindowAttention


def context_of(*, side: int, shared_filter: bool = False) -> NGramContext:
    torch.manual_seed(0)
    attention = WindowAttention(channels=4, num_heads=2, window_size=side, shifted=False)
    context = NGramContext(channels=8, window=(3, 2), attention=attention, shared_filter=shared_filter)
    torch.nn.init.normal_(attention.relative_position_bias_table)
    return context.double()


def unigrams_of(context: NGramContext, image: Tensor, *, shared_filter: bool) -> Tensor:
    """Each window's sum over each pair of channels (rows, columns, pairs)."""
    pairs = [
        torch.nn.functional.conv2d(
            image[:, 2 * pair : 2 * pair + 2],
            context.unigram_embed.weight[[0 if shared_filter else pair]],
            context.unigram_embed.get_parameter("bias")[[0 if shared_filter else pair]],
            stride=(3, 2),
        )[0, 0]
        for pair in range(image.shape[1] // 2)
    ]
    return torch.stack(pairs, dim=-1)


@pytest.mark.parametrize("shared_filter", [False, True])
@pytest.mark.parametrize("side", [1, 2, 3])
def test_each_window_attends_to_those_behind_and_before_it(side: int, shared_filter: bool) -> None:
    rows, columns = 3, 4
    context = context_of(side=side, shared_filter=shared_filter)
    image = torch.randn(1, 8, rows * 3, columns * 2, dtype=torch.float64)
    unigrams = unigrams_of(context, image, shared_filter=shared_filter)

    def place(number: int, count: int) -> int:
        """Rows beyond an end are those next to its last row, in their order, not mirrored."""
        if number < 0:
            return number + side
        return number if number < count else number - side

    def attend(top: int, left: int) -> Tensor:
        tokens = [
            unigrams[place(y, rows), place(x, columns)]
            for y in range(top, top + side)
            for x in range(left, left + side)
        ]
        answer: Tensor = context.ngram_attn(torch.stack(tokens)[None], (1, 1))[0].mean(0)
        return answer

    answer = context(image.permute(0, 2, 3, 1))
    assert answer.shape == (1, rows, columns, 8)
    for y, x in ((y, x) for y in range(rows) for x in range(columns)):
        both = torch.cat((attend(y, x), attend(y - side + 1, x - side + 1)))
        merged = context.merge.weight[:, :, 0, 0] @ both + context.merge.bias
        torch.testing.assert_close(answer[0, y, x], merged)


def test_the_context_is_added_to_every_pixel_of_its_window() -> None:
    context = context_of(side=2)
    x = torch.randn(2, 6, 4, 8, dtype=torch.float64)
    expected = x + context(x).repeat_interleave(3, dim=1).repeat_interleave(2, dim=2)
    torch.testing.assert_close(NGramWindowPartition(context)(x), expected)
