"""Image types that `Upscaler` accepts and returns: `finescale.Image`, tensors, numpy arrays and PIL images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from finescale.images import Image

_INTEGER_PEAKS = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}


@dataclass(frozen=True)
class AdaptedImage:
    """Images of any supported type as tensors on the host, with the conversion back to that type.

    Attributes:
        color: (N, C, H, W) float32 in [0, 1], C = 1 (gray) or 3 (RGB).
        alpha: (N, 1, H, W) float32 in [0, 1], or None.
        restore: Converts an upscaled ``color`` and ``alpha`` to the type, dtype and layout of the original.
    """

    color: Tensor
    alpha: Tensor | None
    restore: Callable[[Tensor, Tensor | None], Any]


def adapt_image(image: Any) -> AdaptedImage:
    """Convert an image of any supported type to tensors.

    Args:
        image: One image, or a batch of them as a tensor; `Upscaler.__call__` lists types, shapes and ranges.

    Raises:
        ValueError: The shape, dtype, mode or range is not that of an image.
        TypeError: The type is not supported.
    """
    if isinstance(image, Image):
        adapted = _adapt_own(image)
    elif isinstance(image, Tensor):
        adapted = _adapt_tensor(image)
    elif isinstance(image, np.ndarray):
        adapted = _adapt_array(image)
    elif any(kind.__module__ == "PIL.Image" for kind in type(image).__mro__):
        adapted = _adapt_pil(image)
    else:
        raise TypeError(
            f"an image must be a finescale Image, a tensor, a numpy array or a PIL image, got {type(image).__name__}"
        )
    for part in (adapted.color, adapted.alpha):
        if part is not None:
            _check_range(part)
    return adapted


def _adapt_own(image: Image) -> AdaptedImage:
    def restore(color: Tensor, alpha: Tensor | None) -> Image:
        return replace(image, pixels=color[0], alpha=None if alpha is None else alpha[0])

    alpha = None if image.alpha is None else _on_host(image.alpha)[None]
    return AdaptedImage(_on_host(image.pixels)[None], alpha, restore)


def _adapt_tensor(image: Tensor) -> AdaptedImage:
    """Convert (C, H, W) or (N, C, H, W), floating point in [0, 1]."""
    if image.ndim not in (3, 4) or not 1 <= image.shape[-3] <= 4 or 0 in image.shape:
        raise ValueError(f"a tensor must be (C, H, W) or (N, C, H, W) with 1 to 4 channels, got {tuple(image.shape)}")
    if not image.is_floating_point():
        raise ValueError(f"a tensor must be floating point in [0, 1], got {image.dtype}; divide 8-bit values by 255")

    def restore(color: Tensor, alpha: Tensor | None) -> Tensor:
        return _join(color, alpha).reshape(*image.shape[:-2], *color.shape[-2:]).to(image.device, image.dtype)

    host = _on_host(image)
    return AdaptedImage(*_split(host if image.ndim == 4 else host[None]), restore)


def _adapt_array(image: np.ndarray[Any, Any]) -> AdaptedImage:
    """Convert (H, W) or (H, W, C): uint8 and uint16 over their full range, floating point in [0, 1]."""
    if image.ndim not in (2, 3) or (image.ndim == 3 and not 1 <= image.shape[2] <= 4) or 0 in image.shape:
        raise ValueError(f"an array must be (H, W) or (H, W, C) with 1 to 4 channels, got {image.shape}")
    peak = _INTEGER_PEAKS.get(image.dtype.newbyteorder("="))
    if peak is None and image.dtype.kind != "f":
        raise ValueError(f"an array must be uint8, uint16 or floating point in [0, 1], got {image.dtype}")

    def restore(color: Tensor, alpha: Tensor | None) -> np.ndarray[Any, Any]:
        joined = _join(color, alpha)[0].permute(1, 2, 0)
        if peak is not None:
            joined = joined.mul(peak).round_()
        array = joined.numpy().astype(image.dtype, order="C")
        return array if image.ndim == 3 else array[..., 0]

    values = torch.from_numpy(image.astype(np.float32)).div_(peak or 1)
    return AdaptedImage(*_split(values.reshape(*image.shape[:2], -1).permute(2, 0, 1)[None]), restore)


def _adapt_pil(image: Any) -> AdaptedImage:
    """Convert modes 1, L, LA, P, RGB, RGBA and I;16; single bits become L, palettes RGB, transparent colours RGBA."""
    if "transparency" in image.info:
        image = image.convert("RGBA")
    elif image.mode in ("1", "P"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    if image.mode not in ("L", "LA", "RGB", "RGBA", "I;16"):
        raise ValueError(f"a PIL image must have mode 1, L, LA, P, RGB, RGBA or I;16, got {image.mode!r}; convert it")
    from PIL.Image import fromarray  # the image is Pillow's, so Pillow is installed

    adapted = _adapt_array(np.asarray(image))

    def restore(color: Tensor, alpha: Tensor | None) -> Any:
        result = fromarray(adapted.restore(color, alpha))
        result.info.update(image.info)
        return result

    return AdaptedImage(adapted.color, adapted.alpha, restore)


def _on_host(image: Tensor) -> Tensor:
    if image.is_nested or image.layout != torch.strided:
        raise ValueError(f"a tensor must be dense, got layout {image.layout}; convert it with to_dense()")
    if image.is_meta:
        raise ValueError("a tensor must hold values, got one on device 'meta'")
    return image.detach().to("cpu", torch.float32)


def _split(image: Tensor) -> tuple[Tensor, Tensor | None]:
    """Split (N, C, H, W) into colour and alpha, the last of two or four channels."""
    if image.shape[1] in (2, 4):
        return image[:, :-1], image[:, -1:]
    return image, None


def _join(color: Tensor, alpha: Tensor | None) -> Tensor:
    return color if alpha is None else torch.cat((color, alpha), dim=1)


def _check_range(image: Tensor) -> None:
    lowest, highest = (value.item() for value in image.aminmax())
    if not (lowest >= 0 and highest <= 1):  # also true if there is a NaN
        shortest = [
            str(np.float32(value)).removesuffix(".0") for value in (lowest, highest)
        ]  # that tell it from 0 and 1
        raise ValueError(f"an image must be in [0, 1], got values from {shortest[0]} to {shortest[1]}")
