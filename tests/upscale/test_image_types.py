"""Image types that `Upscaler` accepts: each returns in kind, and what is no image is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from finescale.images import Image
from finescale.upscale import Upscaler
from upscale.stand_ins import Nearest, natural

UPSCALER = Upscaler(Nearest())


def repeated(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array.repeat(2, axis=0).repeat(2, axis=1)


@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64, ">u2"])
def test_an_array_returns_as_an_array_of_its_dtype_and_layout(dtype: Any, channels: int | None) -> None:
    shape = (7, 5) if channels is None else (7, 5, channels)
    array = np.random.default_rng(0).uniform(0.1, 1, shape)  # no alpha of 0, which would hide colours
    if np.dtype(dtype).kind == "u":
        array = array * np.iinfo(dtype).max
    array = array.astype(dtype)
    result = UPSCALER(array)
    assert result.dtype == array.dtype
    np.testing.assert_allclose(
        result.astype(float), repeated(array).astype(float), atol=0 if result.dtype.kind == "u" else 1e-7
    )


def test_sixteen_bits_are_all_kept() -> None:
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(UPSCALER(every), repeated(every))


def test_an_array_with_negative_strides_is_accepted() -> None:
    array = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)[::-1, :, ::-1]
    np.testing.assert_array_equal(UPSCALER(array), repeated(array))


@pytest.mark.parametrize("shape", [(1, 5, 4), (3, 5, 4), (2, 5, 4), (2, 3, 5, 4), (3, 1, 5, 4), (2, 4, 5, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_tensor_returns_as_a_tensor_of_its_dtype_and_layout(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    tensor = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    result = UPSCALER(tensor)
    assert result.dtype == dtype
    expected = tensor.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-7)


def test_the_given_tensor_is_not_changed_and_the_result_is_an_ordinary_tensor() -> None:
    tensor = natural(6, 6).requires_grad_()
    before = tensor.detach().clone()
    result = UPSCALER(tensor)
    assert torch.equal(tensor, before)
    assert not result.is_inference()
    assert not result.requires_grad


def test_an_image_keeps_its_depth_profile_and_metadata() -> None:
    image = Image(natural(6, 8), depth=16, profile=b"profile", metadata={"exif-data": b"exif"}, notes=("one",))
    result = UPSCALER(image)
    assert (result.depth, result.profile, result.notes) == (16, b"profile", ("one",))
    assert dict(result.metadata) == {"exif-data": b"exif"}
    assert result.size == (12, 16)
    assert result.pixels.dtype == torch.float32


@pytest.mark.parametrize(
    ("mode", "returned"),
    [("1", "L"), ("L", "L"), ("LA", "LA"), ("P", "RGB"), ("RGB", "RGB"), ("RGBA", "RGBA"), ("I;16", "I;16")],
)
def test_a_pil_image_returns_as_a_pil_image(mode: str, returned: str) -> None:
    ramp = np.arange(0, 240, 4, dtype=np.uint8).reshape(10, 6)
    if mode == "I;16":
        image = PIL.Image.fromarray(ramp.astype(np.uint16) * 257)
    else:
        image = PIL.Image.fromarray(ramp).convert("RGB").convert(mode)
    image.info["icc_profile"] = b"profile"
    result = UPSCALER(image)
    assert result.mode == returned
    assert result.size == (12, 20)
    assert result.info["icc_profile"] == b"profile"
    expected = np.asarray(image.convert(returned) if mode != "I;16" else image)
    np.testing.assert_array_equal(np.asarray(result), repeated(expected))


def test_a_transparent_colour_of_a_palette_becomes_alpha() -> None:
    image = PIL.Image.new("P", (4, 3), 1)
    image.putpalette([255, 0, 255, 0, 200, 0])
    image.putpixel((0, 0), 0)
    image.info["transparency"] = 0
    result = UPSCALER(image)
    assert result.mode == "RGBA"
    assert "transparency" not in result.info
    assert result.getpixel((0, 0)) == (0, 200, 0, 0)
    assert result.getpixel((2, 2)) == (0, 200, 0, 255)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.rand(5, 8, 8), "with 1 to 4 channels, got \\(5, 8, 8\\)"),
        (torch.rand(8, 8), "\\(C, H, W\\) or \\(N, C, H, W\\)"),
        (torch.rand(3, 0, 8), "got \\(3, 0, 8\\)"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), "floating point in \\[0, 1\\], got torch.uint8; divide"),
        (torch.full((3, 8, 8), 1.5), "in \\[0, 1\\], got values from 1.5 to 1.5"),
        (torch.full((3, 8, 8), 1.000001), "got values from 1.000001 to 1.000001"),
        (torch.eye(4).expand(3, 4, 4) * (1 + 2**-23), "got values from 0 to 1.0000001"),
        (np.full((8, 8), 1.000001), "got values from 1.000001 to 1.000001"),
        (torch.full((3, 8, 8), -1e-7), "got values from -1e-07 to -1e-07"),
        (torch.full((3, 8, 8), float("inf")), "got values from inf to inf"),
        (torch.eye(4).expand(3, 4, 4).to_sparse(), "must be dense, got layout torch.sparse_coo"),
        (Image(torch.eye(4).expand(3, 4, 4).to_sparse()), "must be dense, got layout torch.sparse_coo"),
        (torch.rand(3, 4, 4, device="meta"), "must hold values, got one on device 'meta'"),
        (torch.full((3, 8, 8), -0.25), "got values from -0.25 to -0.25"),
        (torch.full((3, 8, 8), float("nan")), "got values from nan to nan"),
        (np.zeros((3, 8, 8), np.uint8), "\\(H, W, C\\) with 1 to 4 channels, got \\(3, 8, 8\\)"),
        (np.zeros((0, 8), np.uint8), "got \\(0, 8\\)"),
        (np.zeros((8, 8, 3), np.int64), "uint8, uint16 or floating point in \\[0, 1\\], got int64"),
        (np.full((8, 8), 255.0), "got values from 255 to 255"),
        (PIL.Image.new("CMYK", (4, 4)), "must have mode 1, L, LA, P, RGB, RGBA or I;16, got 'CMYK'"),
        (Image(torch.full((3, 4, 4), 2.0)), "got values from 2 to 2"),
    ],
)
def test_what_is_no_image_is_refused_with_its_value(image: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UPSCALER(image)


def test_an_unsupported_type_is_refused() -> None:
    with pytest.raises(TypeError, match="must be a finescale Image, a tensor, a numpy array or a PIL image, got str"):
        UPSCALER("photo.jpg")
