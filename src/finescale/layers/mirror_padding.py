"""Padding of whole images as published test code does it, before a network sees them."""

from __future__ import annotations

from torch import Tensor

from finescale.layers.windows import Size, pad_reflect


def pad_to_next_multiple(images: Tensor, multiple: int) -> Tensor:
    """Extend images (..., C, H, W) at the bottom and on the right by their mirror, the edge repeated.

    Args:
        images: Of any size.
        multiple: Each side grows to the next multiple of it, by at least one pixel; 0 changes nothing.

    Returns:
        (..., C, H', W'); the caller crops the result again.
    """
    if not multiple:
        return images
    height, width = ((side // multiple + 1) * multiple for side in images.shape[-2:])
    return pad_to_size(images, (height, width))


def pad_to_size(images: Tensor, size: Size) -> Tensor:
    """Extend images (..., C, H, W) at the bottom and on the right by their mirror, the edge repeated.

    Args:
        images: Of any size.
        size: Height and width to reach, each at least that of the images.

    Returns:
        (..., C, *size); the images themselves where nothing is missing.
    """
    if tuple(images.shape[-2:]) == size:
        return images
    maps = images.reshape(-1, *images.shape[-3:]).permute(0, 2, 3, 1)
    grown = pad_reflect(maps, size, repeat_edge=True).permute(0, 3, 1, 2)
    return grown.reshape(*images.shape[:-2], *size)
