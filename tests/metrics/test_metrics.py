"""PSNR and SSIM against the golden cases, the target numbers of the bicubic baseline, and scikit-image."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from finescale.metrics import Channel, psnr, ssim
from finescale.metrics.luma import rgb_to_y
from finescale.resize import round_half_up, upsample

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics"

# Bicubic upscaling of the benchmark's images: PSNR and SSIM of luma, then of RGB.
BASELINE = {
    ("Set5", 2): (33.6780, 0.9304, 31.7953, 0.9090),
    ("Set5", 3): (30.4043, 0.8690, 28.6252, 0.8384),
    ("Set5", 4): (28.4305, 0.8113, 26.6947, 0.7734),
    ("Set14", 2): (30.3274, 0.8700, 28.5224, 0.8427),
    ("Set14", 3): (27.6324, 0.7759, 25.9457, 0.7403),
    ("Set14", 4): (26.0899, 0.7049, 24.4636, 0.6639),
}


def unit(array: np.ndarray) -> Tensor:
    """(H, W) or (H, W, 3), uint8, to (C, H, W) in [0, 1]."""
    return torch.tensor(np.atleast_3d(array)).permute(2, 0, 1).float() / 255


def noisy_pair(height: int = 24, width: int = 31) -> tuple[Tensor, Tensor]:
    """An image and a noisy copy, 8-bit values in [0, 1]."""
    generator = torch.Generator().manual_seed(height * width)
    image = torch.rand(3, height, width, generator=generator)
    noisy = image + 0.1 * torch.randn(image.shape, generator=generator)
    return round_half_up(noisy * 255) / 255, round_half_up(image * 255) / 255


@pytest.mark.parametrize("channel", ["y", "rgb"])
@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.npz")), ids=lambda path: path.stem)
def test_golden_cases_agree(path: Path, channel: Channel) -> None:
    with np.load(path, allow_pickle=False) as case:
        sr, hr, border = unit(case["image"]), unit(case["reference"]), json.loads(str(case["meta"]))["border"]
        assert psnr(sr, hr, border=border, channel=channel) == pytest.approx(float(case[f"psnr_{channel}"]), abs=1e-6)
        assert ssim(sr, hr, border=border, channel=channel) == pytest.approx(float(case[f"ssim_{channel}"]), abs=1e-7)


@pytest.mark.parametrize(("name", "scale"), BASELINE)
def test_the_bicubic_baseline_has_the_target_numbers(data_root: Path, name: str, scale: int) -> None:
    folder = data_root / "benchmark" / name
    rows = []
    for path in sorted((folder / "HR").glob("*.png")):
        lr = unit(np.asarray(Image.open(folder / "LR_bicubic" / f"X{scale}" / f"{path.stem}x{scale}.png")))
        sr = round_half_up(upsample(lr * 255, scale=scale)) / 255
        hr = unit(np.asarray(Image.open(path)))[:, : sr.shape[1], : sr.shape[2]]
        rows.append([f(sr, hr, border=scale, channel=c) for c in ("y", "rgb") for f in (psnr, ssim)])  # type: ignore[operator]
    assert np.mean(rows, axis=0) == pytest.approx(BASELINE[name, scale], abs=1e-4)


@given(st.integers(11, 40), st.integers(11, 40))
@settings(max_examples=20, deadline=None)
def test_ssim_agrees_with_scikit_image(height: int, width: int) -> None:
    sr, hr = noisy_pair(height, width)
    values = []
    for plane in zip((sr.double() * 255).round(), (hr.double() * 255).round(), strict=True):
        _, places = structural_similarity(
            *(side.numpy() for side in plane),
            data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True,
        )  # fmt: skip
        values.append(places[5 : height - 5, 5 : width - 5].mean())
    assert ssim(sr, hr, border=0, channel="rgb") == pytest.approx(np.mean(values), abs=1e-10)


@given(st.integers(11, 40), st.integers(11, 40), st.integers(0, 2))
@settings(max_examples=20, deadline=None)
def test_luma_inside_a_border_agrees_with_scikit_image(height: int, width: int, border: int) -> None:
    sr, hr = noisy_pair(height + 2 * border, width + 2 * border)
    inner = slice(border, border + height), slice(border, border + width)
    ours, original = (rgb_to_y((image.double() * 255).round())[0][inner].numpy() for image in (sr, hr))
    wanted = peak_signal_noise_ratio(original, ours, data_range=255)
    assert psnr(sr, hr, border=border) == pytest.approx(wanted, abs=1e-9)
    _, places = structural_similarity(
        ours, original, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    wanted = places[5 : height - 5, 5 : width - 5].mean()
    assert ssim(sr, hr, border=border) == pytest.approx(wanted, abs=1e-10)


def test_psnr_agrees_with_torchmetrics() -> None:
    functional = pytest.importorskip("torchmetrics.functional.image")
    sr, hr = ((image.double() * 255).round() for image in noisy_pair())
    wanted = functional.peak_signal_noise_ratio(sr[None], hr[None], data_range=255.0)
    assert psnr(*noisy_pair(), border=0, channel="rgb") == pytest.approx(float(wanted), abs=1e-5)


def test_psnr_agrees_with_pyiqa() -> None:
    pyiqa = pytest.importorskip("pyiqa")
    sr, hr = noisy_pair()
    wanted = pyiqa.create_metric("psnr", device="cpu")(sr[None], hr[None])
    assert psnr(sr, hr, border=0, channel="rgb") == pytest.approx(float(wanted), abs=1e-3)


def test_psnr_is_the_formula() -> None:
    sr, hr = noisy_pair()
    luma = [rgb_to_y((image.double() * 255).round())[:, 2:-2, 2:-2] for image in (sr, hr)]
    error = (luma[0] - luma[1]).square().mean()
    assert psnr(sr, hr, border=2) == pytest.approx(10 * math.log10(255**2 / error), abs=1e-9)


def test_equal_images_are_infinitely_near() -> None:
    sr, _ = noisy_pair()
    assert psnr(sr, sr, border=1) == math.inf
    assert ssim(sr, sr, border=1) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("metric", [psnr, ssim])
class TestProtocol:
    def test_the_result_is_clipped_and_rounded_to_8_bits(self, metric) -> None:
        sr, hr = noisy_pair()
        nearly = sr + torch.where(sr > 0.5, 0.4, -0.4) / 255
        outside = torch.where(sr == 1, 1.5, torch.where(sr == 0, -2.0, nearly))
        assert metric(outside, hr, border=3) == metric(sr, hr, border=3)

    def test_rounding_can_be_left_out(self, metric) -> None:
        sr, hr = noisy_pair()
        nearly = (sr + 0.4 / 255).clamp(0, 1)
        assert metric(nearly, hr, border=3, rounded=False) != metric(sr, hr, border=3)
        assert metric(sr, hr, border=3, rounded=False) == pytest.approx(metric(sr, hr, border=3), abs=1e-6)

    def test_the_border_is_left_out(self, metric) -> None:
        sr, hr = noisy_pair()
        disturbed = sr.clone()
        disturbed[:, :4], disturbed[:, -4:], disturbed[:, :, :4], disturbed[:, :, -4:] = 0, 1, 0.5, 1
        assert metric(disturbed, hr, border=4) == metric(sr, hr, border=4)
        assert metric(disturbed, hr, border=3) != metric(sr, hr, border=3)

    def test_grey_counts_as_three_equal_channels_on_either_side(self, metric) -> None:
        sr, hr = noisy_pair()
        grey = hr[:1]
        assert metric(sr, grey, border=0) == metric(sr, grey.expand(3, -1, -1), border=0)
        assert metric(sr[:1], grey, border=0) == metric(sr[:1].expand(3, -1, -1), grey, border=0)

    def test_what_is_not_a_number_shows(self, metric) -> None:
        sr, hr = noisy_pair()
        sr[0, 12, 12] = math.nan
        assert math.isnan(metric(sr, hr, border=0))

    def test_wrong_arguments_are_named(self, metric) -> None:
        sr, hr = noisy_pair()
        with pytest.raises(ValueError, match="sr is 24 x 31 pixels and hr 24 x 30; cut hr"):
            metric(sr, hr[..., :-1], border=0)
        with pytest.raises(ValueError, match=r"sr must be one image of shape .*, got \(1, 3, 24, 31\)"):
            metric(sr[None], hr, border=0)
        with pytest.raises(ValueError, match=r"hr must hold .*, got torch.uint8"):
            metric(sr, (hr * 255).to(torch.uint8), border=0)
        with pytest.raises(ValueError, match="channel must be 'y' or 'rgb', got 'v'"):
            metric(sr, hr, border=0, channel="v")
        for border in (-1, 12):
            with pytest.raises(ValueError, match=f"leave a pixel of 24 x 31, got {border}"):
                metric(sr, hr, border=border)


def test_ssim_needs_room_for_its_window() -> None:
    sr, hr = noisy_pair()
    with pytest.raises(ValueError, match="at least 11 x 11 pixels inside the border, got 10 x 17"):
        ssim(sr, hr, border=7)
    assert psnr(sr, hr, border=11) > 0
