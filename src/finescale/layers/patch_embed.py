"""Norm before the first group of SwinIR's descendants, which the published networks call patch embedding."""

from __future__ import annotations

from torch import Tensor, nn


class PatchEmbed(nn.Module):
    """Layer norm over the channels, in a module of its own because of its published key."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        return self.norm(x)  # type: ignore[no-any-return]
