"""The filter of the benchmarks: golden cases, files written by MATLAB, and promises for images of any size."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from finescale.resize import Variant, downsample, integer_taps, resize, round_half_up, tap_margin, upsample

GOLDEN = Path(__file__).parent / "golden" / "bicubic"
SCALES = (2, 3, 4)
VARIANTS = {"A": "", "B": "_double", "C": "_replicate"}  # and the ending of its key in a golden case

scales = st.sampled_from((2, 3, 4, 5, 8))
variants = st.sampled_from(get_args(Variant))


def planes(array: np.ndarray) -> Tensor:
    """(H, W) or (H, W, 3) to (C, H, W)."""
    return torch.tensor(np.atleast_3d(array)).permute(2, 0, 1)


def noise(seed: int, *shape: int) -> Tensor:
    """Much of it black or white, so that the filter overshoots and is clipped."""
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 511 - 128).clamp(0, 255).to(torch.uint8)


@st.composite
def images(draw: st.DrawFn, *, scale: int = 1) -> Tensor:
    height, width = draw(st.integers(scale, 40)), draw(st.integers(scale, 40))
    return noise(draw(st.integers(0, 2**32 - 1)), 3, height, width)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.npz")), ids=lambda path: path.stem)
class TestGolden:
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_downsampling_is_exact(self, path: Path, scale: int, variant: Variant) -> None:
        with np.load(path, allow_pickle=False) as case:
            expected = planes(case[f"x{scale}{VARIANTS[variant]}"])
            assert torch.equal(downsample(planes(case["hr"]), scale=scale, variant=variant), expected)

    def test_upsampling_is_exact(self, path: Path, scale: int) -> None:
        with np.load(path, allow_pickle=False) as case:
            upsampled = upsample(planes(case[f"x{scale}"]), scale=scale)
            torch.testing.assert_close(upsampled, planes(case[f"up{scale}_float"]), rtol=0, atol=1e-9)
            assert torch.equal(round_half_up(upsampled), planes(case[f"up{scale}"]))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", ["Set5", "Set14"])
def test_benchmark_images_are_made_byte_for_byte(data_root: Path, name: str, scale: int) -> None:
    folder = data_root / "benchmark" / name
    originals = sorted((folder / "HR").glob("*.png"))
    assert len(originals) == {"Set5": 5, "Set14": 14}[name]
    for path in originals:
        stored = planes(np.asarray(Image.open(folder / "LR_bicubic" / f"X{scale}" / f"{path.stem}x{scale}.png")))
        assert torch.equal(downsample(planes(np.asarray(Image.open(path))), scale=scale), stored), path.stem


class TestDownsample:
    def test_the_weights_are_the_published_integers(self) -> None:
        assert integer_taps(2) == (-3, -9, 29, 111, 111, 29, -9, -3)
        assert integer_taps(3) == (-1, -2, 0, 9, 21, 27, 21, 9, 0, -2, -1)
        assert integer_taps(4)[:8] == (-7, -45, -75, -49, 93, 399, 745, 987)
        assert integer_taps(4) == integer_taps(4)[::-1]
        assert [sum(integer_taps(scale)) for scale in SCALES] == [256, 81, 4096]

    def test_a_letter_and_its_name_mean_the_same(self) -> None:
        hr = noise(0, 3, 24, 24)
        for letter, name in (("A", "uint8"), ("B", "double"), ("C", "uint8-replicate")):
            assert torch.equal(downsample(hr, scale=4, variant=letter), downsample(hr, scale=4, variant=name))  # type: ignore[arg-type]

    @given(images(scale=8), scales)
    @settings(max_examples=50, deadline=None)
    def test_variant_b_is_the_general_filter_rounded_once(self, hr: Tensor, scale: int) -> None:
        height, width = hr.shape[-2] // scale, hr.shape[-1] // scale
        general = resize(hr[:, : height * scale, : width * scale].double(), size=(height, width))
        apart = downsample(hr, scale=scale, variant="B") - general.clamp(0, 255)
        assert apart.abs().max() <= 0.5 + 1e-9

    @given(st.integers(0, 255), st.integers(8, 40), st.integers(8, 40), scales, variants)
    @settings(max_examples=50, deadline=None)
    def test_a_constant_image_stays_constant(
        self, value: int, height: int, width: int, scale: int, variant: Variant
    ) -> None:
        hr = torch.full((1, height, width), value, dtype=torch.uint8)
        assert downsample(hr, scale=scale, variant=variant).unique().tolist() == [value]

    @given(st.data(), scales, variants, st.sampled_from([(-1,), (-2,), (-2, -1)]))
    @settings(max_examples=50, deadline=None)
    def test_it_commutes_with_flips(
        self, data: st.DataObject, scale: int, variant: Variant, dims: tuple[int, ...]
    ) -> None:
        hr = data.draw(images(scale=scale))
        hr = hr[:, : hr.shape[1] // scale * scale, : hr.shape[2] // scale * scale]
        flipped = downsample(hr.flip(dims), scale=scale, variant=variant)
        assert torch.equal(flipped, downsample(hr, scale=scale, variant=variant).flip(dims))

    @given(images(scale=8), scales)
    @settings(max_examples=50, deadline=None)
    def test_variant_b_commutes_with_transposition(self, hr: Tensor, scale: int) -> None:
        transposed = downsample(hr.transpose(-2, -1), scale=scale, variant="B")
        assert torch.equal(transposed, downsample(hr, scale=scale, variant="B").transpose(-2, -1))

    @given(images(scale=8), scales, variants)
    @settings(max_examples=50, deadline=None)
    def test_channels_do_not_mix_and_batches_change_nothing(self, hr: Tensor, scale: int, variant: Variant) -> None:
        together = downsample(torch.stack([hr, hr.flip(0)]), scale=scale, variant=variant)
        alone = [downsample(channel, scale=scale, variant=variant) for channel in hr]
        assert torch.equal(together, torch.stack([torch.stack(alone), torch.stack(alone[::-1])]))

    @given(st.data(), scales, variants)
    @settings(max_examples=50, deadline=None)
    def test_what_is_not_a_multiple_of_the_scale_is_cut_at_the_bottom_and_right(
        self, data: st.DataObject, scale: int, variant: Variant
    ) -> None:
        hr = data.draw(images(scale=scale))
        cut = hr[:, : hr.shape[1] // scale * scale, : hr.shape[2] // scale * scale]
        assert torch.equal(downsample(hr, scale=scale, variant=variant), downsample(cut, scale=scale, variant=variant))

    @given(st.integers(0, 2**32 - 1), scales, variants)
    @settings(max_examples=20, deadline=None)
    def test_a_pixel_depends_on_no_more_than_its_margin(self, seed: int, scale: int, variant: Variant) -> None:
        hr, other = noise(seed, 2, 9 * scale, 9 * scale)
        reach = slice(4 * scale - tap_margin(scale), 5 * scale + tap_margin(scale))
        other[reach, reach] = hr[reach, reach]
        pixels = [downsample(image, scale=scale, variant=variant)[4, 4] for image in (hr, other)]
        assert pixels[0] == pixels[1]

    def test_wrong_arguments_are_named(self) -> None:
        hr = noise(0, 3, 9, 3)
        with pytest.raises(ValueError, match=r"needs uint8 images \(\.\.\., H, W\), got torch.float32"):
            downsample(hr.float(), scale=2)
        with pytest.raises(ValueError, match="scale must be an integer from 1 to 16, got 0"):
            downsample(hr, scale=0)
        with pytest.raises(ValueError, match=r"variant must be one of A, uint8, B, .*, got 'D'"):
            downsample(hr, scale=2, variant="D")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="an image of 9 x 3 pixels is too small for scale 4"):
            downsample(hr, scale=4)


class TestResize:
    @given(images(), st.integers(1, 60), st.integers(1, 60))
    @settings(max_examples=50, deadline=None)
    def test_it_agrees_with_torch_away_from_the_border(self, image: Tensor, height: int, width: int) -> None:
        size = (height, width)
        before = torch.tensor(image.shape[-2:], dtype=torch.float64)
        # torch drops what lies beyond the border, so both see the image with its mirrored neighbours on all sides.
        tiled = torch.cat([image.flip(-2), image, image.flip(-2)], -2).double()
        tiled = torch.cat([tiled.flip(-1), tiled, tiled.flip(-1)], -1)
        if 2 / min(1.0, float((torch.tensor(size) / before).min())) > before.min():
            return  # the filter reaches beyond these neighbours, where only the index rule decides
        expected = torch.nn.functional.interpolate(
            tiled[None], (3 * height, 3 * width), mode="bicubic", antialias=True, align_corners=False
        )[0, :, height : 2 * height, width : 2 * width]
        torch.testing.assert_close(resize(image.double(), size=size), expected, rtol=0, atol=1e-9)

    @given(images(), st.integers(1, 90), st.integers(1, 90))
    @settings(max_examples=50, deadline=None)
    def test_a_flat_image_stays_flat_at_any_size(self, image: Tensor, height: int, width: int) -> None:
        flat = torch.full_like(image, 0.7, dtype=torch.float64)
        resized = resize(flat, size=(height, width))
        torch.testing.assert_close(resized, torch.full_like(resized, 0.7), rtol=0, atol=1e-12)

    @given(images())
    @settings(max_examples=20, deadline=None)
    def test_the_same_size_is_the_same_image(self, image: Tensor) -> None:
        torch.testing.assert_close(resize(image.double(), size=tuple(image.shape[-2:])), image.double())  # type: ignore[arg-type]

    @given(images(), st.integers(1, 60), st.integers(1, 60))
    @settings(max_examples=50, deadline=None)
    def test_it_commutes_with_transposition(self, image: Tensor, height: int, width: int) -> None:
        transposed = resize(image.double().transpose(-2, -1), size=(width, height))
        expected = resize(image.double(), size=(height, width)).transpose(-2, -1)
        torch.testing.assert_close(transposed, expected, rtol=0, atol=1e-9)

    def test_float32_is_near_float64(self) -> None:
        image = noise(1, 3, 31, 47) / 255
        single, double = resize(image, size=(52, 20)), resize(image.double(), size=(52, 20))
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), double, rtol=0, atol=1e-6)

    def test_a_single_pixel_fills_any_size(self) -> None:
        torch.testing.assert_close(upsample(torch.tensor([[[37]]]), scale=4), torch.full((1, 4, 4), 37.0).double())

    def test_wrong_arguments_are_named(self) -> None:
        with pytest.raises(ValueError, match=r"needs floating point images \(\.\.\., H, W\), got torch.uint8"):
            resize(noise(0, 3, 4, 4), size=(2, 2))
        with pytest.raises(ValueError, match=r"both sides must be positive, got \(4, 4\) to be resized to \(0, 2\)"):
            resize(torch.zeros(3, 4, 4), size=(0, 2))


def test_halves_are_rounded_up_and_the_range_is_clipped() -> None:
    values = torch.tensor([-3.0, -0.5, 0.49, 0.5, 1.5, 2.5, 254.5, 255.5, 300.0])
    assert round_half_up(values).tolist() == [0, 0, 0, 1, 2, 3, 255, 255, 255]
    assert values[0] == -3.0  # the argument is left as it was
