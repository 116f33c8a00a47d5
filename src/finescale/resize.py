"""Bicubic resampling as the benchmarks define it: MATLAB's ``imresize``, bit for bit.

All functions share one filter: Keys' cubic with a = -1/2, stretched when the image shrinks (antialiasing), pixel
centres aligned at the borders of the image, which is mirrored beyond them. They differ in their arithmetic:

- `downsample` makes low-resolution images from 8-bit originals, in integers;
- `upsample` is the bicubic baseline of the tables, in float64;
- `resize` takes any size, up or down, in the precision of the image.

Source: docs/prepare.md describes the three variants, and measurements on files that MATLAB wrote.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal, get_args

import torch
from torch import Tensor

Variant = Literal["A", "uint8", "B", "double", "C", "uint8-replicate"]
"""Source whose low-resolution images to reproduce; each variant has a letter and a descriptive name.

=======================  ======================  ==================  =========================================
variant                  between the two passes  beyond the border   seen in
=======================  ======================  ==================  =========================================
``A`` `uint8`            rounded to 8 bits       mirrored            test folders of EDSR, SwinIR, HiT-SR, DAT
``B`` `double`           kept exact              mirrored            BasicSR's MATLAB script, ESRGAN
``C`` `uint8-replicate`  rounded to 8 bits       last pixel again    SelfExSR, by an older MATLAB
=======================  ======================  ==================  =========================================
"""

MAX_SCALE = 16
"""Largest factor: up to here all sums, even the unrounded ones of variant B, are integers below 2**53."""


def downsample(hr: Tensor, *, scale: int, variant: Variant = "A") -> Tensor:
    """Return the low-resolution image of an original, byte for byte as MATLAB makes it.

    The original is first cropped at the bottom and right to a multiple of the scale. It may be smaller than the filter.

    Args:
        hr: Originals (..., H, W), uint8; channels do not mix.
        scale: Factor by which the result is smaller, from 1 to 16.
        variant: Source whose files to reproduce; `Variant` lists them.

    Returns:
        (..., H // scale, W // scale), uint8.

    Raises:
        ValueError: ``hr`` is not uint8 or is smaller than the scale, or ``scale`` or ``variant`` is not supported.
    """
    if hr.dtype != torch.uint8 or hr.ndim < 2:
        raise ValueError(f"downsample needs uint8 images (..., H, W), got {hr.dtype} of shape {tuple(hr.shape)}")
    if variant not in get_args(Variant):
        raise ValueError(f"variant must be one of {', '.join(get_args(Variant))}, got {variant!r}")
    if not 1 <= scale <= MAX_SCALE:
        raise ValueError(f"scale must be an integer from 1 to {MAX_SCALE}, got {scale}")
    height, width = hr.shape[-2] // scale * scale, hr.shape[-1] // scale * scale
    if not height or not width:
        raise ValueError(f"an image of {hr.shape[-2]} x {hr.shape[-1]} pixels is too small for scale {scale}")

    taps = integer_taps(scale)
    divisor = float(sum(taps))
    replicate = variant in ("C", "uint8-replicate")
    image = hr[..., :height, :width]
    image = _tap_sums(image, taps, scale, dim=-2, replicate=replicate)
    if variant in ("B", "double"):
        divisor *= divisor  # of both passes together
    else:
        image = _divide(image, divisor)
    image = _tap_sums(image, taps, scale, dim=-1, replicate=replicate)
    return _divide(image, divisor).to(torch.uint8)


def upsample(lr: Tensor, *, scale: int) -> Tensor:
    """Return the bicubic enlargement, the baseline that a network has to beat.

    Args:
        lr: Images (..., h, w), values 0..255 of any dtype.
        scale: Factor by which the result is larger.

    Returns:
        (..., h * scale, w * scale), float64, neither rounded nor clipped; `round_half_up` does both.

    Raises:
        ValueError: ``lr`` has no pixel, or ``scale`` is not positive.
    """
    return resize(lr.double(), size=(lr.shape[-2] * scale, lr.shape[-1] * scale))


def resize(image: Tensor, *, size: tuple[int, int]) -> Tensor:
    """Return an image at another size; each side is resized on its own, up or down.

    Args:
        image: Images (..., H, W), floating point, any range.
        size: Height and width of the result.

    Returns:
        (..., *size) in the dtype of ``image``; not clipped, so that sharp edges may exceed the range by a few percent.

    Raises:
        ValueError: The values are not floating point, or a side is not positive.
    """
    if image.ndim < 2 or not torch.is_floating_point(image):
        raise ValueError(f"resize needs floating point images (..., H, W), got {image.dtype} of {tuple(image.shape)}")
    if min(*size, *image.shape[-2:]) < 1:
        raise ValueError(f"both sides must be positive, got {tuple(image.shape[-2:])} to be resized to {size}")
    # As in MATLAB, the side that shrinks most comes first, which is also the fastest; the height if both are equal.
    for dim in sorted((-2, -1), key=lambda dim: size[dim] / image.shape[dim]):
        image = _resample(image, size[dim], dim)
    return image


def round_half_up(values: Tensor) -> Tensor:
    """Return the nearest 8-bit values; halves are rounded up, as in MATLAB, where ``torch.round`` takes the even value.

    Args:
        values: Floating point values in the range 0..255, any shape.

    Returns:
        The same shape, clipped to 0..255, uint8.
    """
    return _divide(values, 1.0).to(torch.uint8)


def tap_margin(scale: int) -> int:
    """Return how many original pixels `downsample` uses beyond a result's own ``scale`` x ``scale``, on every side."""
    return 3 * scale // 2


def _divide(sums: Tensor, divisor: float) -> Tensor:
    """Return quotients rounded half up and clipped to 0..255; exact for integers."""
    return (sums + divisor / 2).div_(divisor).floor_().clamp_(0, 255)


@lru_cache
def integer_taps(scale: int) -> tuple[int, ...]:
    """Return the filter weights of `downsample` as integers in lowest terms, to be divided by their sum.

    Output sample i lies at ``scale * i + (scale - 1) / 2``. Its distance to any input sample is a multiple of
    ``1 / (2 * scale)`` output pixels, so that the kernel, a cubic with halves, is a multiple of
    ``1 / (2 * (2 * scale)**3)``.
    """
    unit = 2 * scale
    margin = tap_margin(scale)
    taps = []
    for position in range(-margin, scale + margin):
        x = abs(2 * position + 1 - scale)
        if x <= unit:
            taps.append(3 * x**3 - 5 * x**2 * unit + 2 * unit**3)
        else:
            taps.append(-(x**3) + 5 * x**2 * unit - 8 * x * unit**2 + 4 * unit**3)
    divisor = math.gcd(*taps)
    return tuple(tap // divisor for tap in taps)


def _tap_sums(image: Tensor, taps: tuple[int, ...], scale: int, *, dim: int, replicate: bool) -> Tensor:
    """Return one pass of `downsample` before its division: for each output sample the sum of taps times inputs."""
    length = image.shape[dim]
    margin = tap_margin(scale)
    positions = torch.arange(-margin, length + margin)
    source = positions.clamp(0, length - 1) if replicate else _mirror(positions, length)
    windows = (
        image.index_select(dim, source.to(image.device)).double().unfold(dim, len(taps), scale)
    )  # (..., m, ..., taps), a view
    sums = windows.new_zeros(windows.shape[:-1])
    for tap, samples in zip(taps, windows.unbind(-1), strict=True):
        sums.add_(samples, alpha=tap)
    return sums


def _mirror(positions: Tensor, length: int) -> Tensor:
    """Map positions, also those beyond the border, to indices: ``... 1 0 | 0 1 ... n-1 | n-1 n-2 ...``."""
    positions = positions % (2 * length)
    return torch.minimum(positions, 2 * length - 1 - positions)


def _resample(image: Tensor, length: int, dim: int) -> Tensor:
    """Resample along ``dim`` to the given length, at any ratio."""
    source, weights = _positions_and_weights(image.shape[dim], length)
    weights = weights.to(image)
    if dim == -2:
        weights = weights[..., None]
    shape = list(image.shape)
    shape[dim] = length
    result = image.new_zeros(shape)
    for index, weight in zip(source.to(image.device), weights, strict=True):
        result.addcmul_(image.index_select(dim, index), weight)
    return result


def _positions_and_weights(before: int, after: int) -> tuple[Tensor, Tensor]:
    """Return the input samples of each output sample, and their weights, both of shape (taps, after)."""
    ratio = after / before
    stretch = min(ratio, 1.0)
    support = 4 / stretch
    centres = (torch.arange(after, dtype=torch.float64) + 0.5) / ratio - 0.5
    candidates = torch.arange(math.ceil(support) + 2)[:, None]
    positions = (centres - support / 2).floor().long() + candidates
    weights = _keys(stretch * (centres - positions))
    weights /= weights.sum(dim=0)
    used = weights.any(dim=1)
    return _mirror(positions[used], before), weights[used]


def _keys(x: Tensor) -> Tensor:
    """Keys' cubic convolution kernel with a = -1/2."""
    x = x.abs()
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x <= 1, near, torch.where(x <= 2, far, 0.0))
