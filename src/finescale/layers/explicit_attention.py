"""Products of attention step by step, each operand passing a `Tap`, so that quantizers can observe and change it.

Each computes what its namesake in `finescale.layers.attention` does, more slowly and in more memory, and comes from
``explicit()`` of that. Letters as there.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Tap(nn.Module):
    """Named place that a tensor passes unchanged, and where a quantizer can stand instead."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the tensor itself."""
        return x


class ExplicitSoftmaxAttention(nn.Module):
    """Explicit `SoftmaxAttention`; its taps see the scaled query, key, value and the probabilities."""

    def __init__(self, *, scale: float | None) -> None:
        super().__init__()
        self.scale = scale
        self.query, self.key, self.value, self.probabilities = Tap(), Tap(), Tap(), Tap()

    def forward(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
        """Shapes as in `SoftmaxAttention`."""
        scale = query.shape[-1] ** -0.5 if self.scale is None else self.scale
        scores = self.query(query * scale) @ self.key(key).mT
        if bias is not None:
            scores = scores + bias
        return self.probabilities(scores.softmax(-1)) @ self.value(value)  # type: ignore[no-any-return]


class ExplicitShiftedAttention(ExplicitSoftmaxAttention):
    """Explicit `ShiftedAttention`, for all windows at once."""

    def forward(  # type: ignore[override]
        self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, grid: tuple[int, int]
    ) -> Tensor:
        """Shapes as in `ShiftedAttention`."""
        kinds = kinds_of_windows(grid, windows=query.shape[0], device=bias.device)
        return super().forward(query, key, value, bias[kinds])


def kinds_of_windows(grid: tuple[int, int], *, windows: int, device: torch.device) -> Tensor:
    """Return the kind of each window of rolled maps, as `ShiftedAttention` numbers them.

    Args:
        grid: (rows, columns) of windows in a map.
        windows: K, of all maps.
        device: Device of the result.

    Returns:
        (K,) int64: 0 for whole windows, 1 and 3 for the last of a row, 2 and 3 for those of the last row.
    """
    rows, columns = grid
    last_row = torch.arange(rows, device=device) == rows - 1
    last_column = torch.arange(columns, device=device) == columns - 1
    kinds = 2 * last_row[:, None].long() + last_column.long()
    return kinds.flatten().repeat(windows // (rows * columns))


class ExplicitExponentialSums(nn.Module):
    """Explicit `ExponentialSums`; the exponentials, at most 1, pass the tap of probabilities before they are summed."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.probabilities = Tap(), Tap(), Tap(), Tap()

    def forward(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Shapes as in `ExponentialSums`."""
        scores = self.query(query) @ self.key(key).mT + bias
        exponentials = self.probabilities((scores - scores.amax(-1, keepdim=True)).exp())
        return self.value(value).mT @ exponentials.mT, exponentials.sum(-1).unsqueeze(-2)


class ExplicitSpatialCorrelation(nn.Module):
    """Explicit `SpatialCorrelation`; the map that multiplies the values passes the tap of scores."""

    def __init__(self, *, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query, self.value, self.scores = Tap(), Tap(), Tap()

    def forward(self, query: Tensor, value: Tensor, position: Tensor) -> Tensor:
        """Shapes as in `SpatialCorrelation`."""
        shape = query.shape
        query, value = (  # (K, n, L or M, d)
            x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in (self.query(query), self.value(value))
        )
        scores = self.scores(query @ value.mT / value.shape[-1] + position)
        return (scores @ value).transpose(1, 2).reshape(shape)  # type: ignore[no-any-return]


class ExplicitChannelCorrelation(nn.Module):
    """Explicit `ChannelCorrelation`; the C x C matrix passes the tap of mixtures."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.value, self.mixture = Tap(), Tap(), Tap()

    def forward(self, query: Tensor, value: Tensor) -> Tensor:
        """Shapes as in `ChannelCorrelation`."""
        value = self.value(value)
        mixture = self.mixture(value.mT @ (self.query(query) / query.shape[1]))
        return value @ mixture  # type: ignore[no-any-return]


class ExplicitChannelAttention(nn.Module):
    """softmax(Q̂ᵀ K̂ · temperature) Vᵀ over the channels of each head, Q̂ and K̂ of unit length along the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.probabilities = Tap(), Tap(), Tap(), Tap()

    def forward(self, query: Tensor, key: Tensor, value: Tensor, temperature: Tensor) -> Tensor:
        """Query, key and value (N, tokens, n, d) and temperature (n, 1, 1) to (N, tokens, n, d)."""
        query, key, value = (x.permute(0, 2, 3, 1) for x in (query, key, value))  # (N, n, d, tokens)
        cosines = self.query(F.normalize(query, dim=-1)) @ self.key(F.normalize(key, dim=-1)).mT
        mixture = self.probabilities((cosines * temperature).softmax(-1))
        return (mixture @ self.value(value)).permute(0, 3, 1, 2)  # type: ignore[no-any-return]
