"""Networks that are not finescale's, each with products of attention written in another way."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Attention among all pixels, by plain operations of PyTorch."""

    def __init__(self, channels: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).mT  # (N, H * W, C)
        query, key, value = self.qkv(tokens).chunk(3, dim=-1)
        query = query * query.shape[-1] ** -0.5
        if self.kind == "operator":
            mixed = (query @ key.mT).softmax(-1) @ value
        elif self.kind == "method":
            mixed = query.matmul(key.mT).softmax(-1).bmm(value)
        elif self.kind == "einsum":
            scores = torch.einsum("nic,njc->nij", query, key)
            mixed = torch.einsum("nij,njc->nic", scores.softmax(-1), value)
        else:
            mixed = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        return x + self.proj(mixed).mT.unflatten(-1, x.shape[-2:])


class Small(nn.Module):
    """Two convolutions around an attention, x2."""

    def __init__(self, kind: str = "operator", channels: int = 8, images: int = 3) -> None:
        super().__init__()
        self.first = nn.Conv2d(images, channels, 3, padding=1)
        self.attention = Attention(channels, kind)
        self.last = nn.Conv2d(channels, 4 * images, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        sr = F.pixel_shuffle(self.last(self.attention(self.first(image))), 2)
        return sr + F.interpolate(image, scale_factor=2.0, mode="nearest")
