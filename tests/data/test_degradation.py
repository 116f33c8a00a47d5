"""Degraded low-resolution pictures: each stage does what it says, and all follows from settings, seed and index."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from finescale.data import DegradationSettings, Source, batches, degrade, make_batch, open_source
from finescale.errors import SettingsError
from finescale.resize import downsample
from finescale.settings import parse_settings
from pictures import draw
from samples import sample, source_of
from upscale.stand_ins import natural

PLAIN = {"clean": 0, "blur": 0, "twice": 0, "noise": 0, "jpeg": 0, "kernels": ("bicubic",)}
"""Nothing happens, but that a picture is made smaller."""


def settings(**fields: Any) -> DegradationSettings:
    return DegradationSettings.model_validate({**PLAIN, **fields})


@pytest.fixture(scope="module")
def photo() -> Tensor:
    return (natural(128, 160) * 255).round().to(torch.uint8)


def made(photo: Tensor, *, index: int = 0, scale: int = 4, **fields: Any) -> Tensor:
    return degrade(photo, settings(**fields), scale=scale, seed=1, index=index)


def gray(level: int, side: int = 256) -> Tensor:
    return torch.full((3, side, side), level, dtype=torch.uint8)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_of_every_degradation_comes_a_picture_of_the_low_resolution_size(photo: Tensor, scale: int) -> None:
    for index in range(40):
        lr = degrade(photo[:, :127], DegradationSettings(), scale=scale, seed=1, index=index)
        assert (lr.dtype, lr.shape) == (torch.uint8, (3, 127 // scale, 160 // scale))


def test_a_gray_picture_stays_one_channel(photo: Tensor) -> None:
    shapes = {tuple(made(photo[:1], index=n, blur=1, twice=1, noise=1, jpeg=1).shape) for n in range(20)}
    assert shapes == {(1, 32, 40)}


def test_clean_samples_are_the_exact_bicubic_in_the_share_asked_for(photo: Tensor) -> None:
    part = photo[:, :48, :48]
    plain = downsample(part, scale=4)
    given = DegradationSettings(clean=0.25, jpeg=1)
    clean = sum(torch.equal(degrade(part, given, scale=4, seed=1, index=n), plain) for n in range(400))
    assert 70 <= clean <= 130


def test_where_nothing_happens_the_bicubic_is_left(photo: Tensor) -> None:
    assert (made(photo).int() - downsample(photo, scale=4)).abs().max() <= 1  # one rounds between its passes


@pytest.mark.parametrize("kernel", ["bicubic", "bilinear", "area"])
def test_every_kernel_stays_in_register(kernel: str) -> None:
    ramp = torch.arange(128).expand(3, 128, -1).to(torch.uint8)
    lr = made(ramp, kernels=[kernel], twice=0).float()
    means = ramp.float().unfold(1, 4, 4).unfold(2, 4, 4).mean((-2, -1))
    assert (lr - means)[:, :, 4:-4].abs().max() <= 1


def test_a_picture_resized_on_the_way_stays_in_register() -> None:
    ramp = torch.arange(128).expand(3, 128, -1).to(torch.uint8)
    means = downsample(ramp, scale=4).float()
    for index in range(20):
        lr = made(ramp, index=index, twice=1, kernels=["bicubic", "bilinear"]).float()
        assert (lr - means)[:, :, 4:-4].abs().max() <= 1.5


def roughness(image: Tensor) -> float:
    return float((image[:, :, 1:].float() - image[:, :, :-1].float()).abs().mean())


def test_a_wider_blur_leaves_less_detail(photo: Tensor) -> None:
    sharp, soft, softer = (
        roughness(made(photo, blur=share, blur_sigma=(sigma, sigma), anisotropic=0))
        for share, sigma in ((0, 1), (1, 2), (1, 5))
    )
    assert sharp > 1.02 * soft > 1.1 * softer


def test_an_anisotropic_blur_differs_with_its_angle() -> None:
    dot = torch.zeros(3, 64, 64, dtype=torch.uint8)
    dot[:, 28:36, 28:36] = 255
    asked = {"scale": 2, "blur": 1, "blur_sigma": (0.5, 5)}
    round_ones = [made(dot, index=n, anisotropic=0, **asked) for n in range(20)]
    others = [made(dot, index=n, anisotropic=1, **asked) for n in range(20)]
    assert all(lopsidedness(image) < 0.02 for image in round_ones)
    assert sum(lopsidedness(image) > 0.1 for image in others) >= 5


def lopsidedness(image: Tensor) -> float:
    """How far a picture is from what it is when turned by a quarter, as a share of its light."""
    return float((image.float() - image.rot90(1, (1, 2))).abs().sum() / image.float().sum())


def test_sharpening_makes_halos_of_the_amount_asked_for() -> None:
    edge = torch.full((3, 64, 64), 60, dtype=torch.uint8)
    edge[:, :, 32:] = 190
    plain, weak, strong = (
        made(edge, scale=2, sharpen=amount > 0, sharpen_amount=(amount, amount)) for amount in (0, 0.5, 1)
    )
    contrasts = [int(lr.max()) - int(lr.min()) for lr in (plain, weak, strong)]
    assert contrasts[0] < contrasts[1] < contrasts[2] - 10
    assert torch.equal(strong[:, :, :8], plain[:, :, :8])  # far from the edge


@pytest.mark.parametrize("gray_noise", [0, 1])
def test_gaussian_noise_has_the_deviation_asked_for_in_every_channel(gray_noise: int) -> None:
    lr = made(gray(128, 512), noise=1, noise_sigma=(6, 6), poisson=0, gray_noise=gray_noise).float() - 128
    assert lr.std().item() == pytest.approx(6, rel=0.03)
    assert abs(lr.mean().item()) < 0.2
    assert torch.equal(lr[0], lr[1]) == bool(gray_noise)


@pytest.mark.parametrize("gray_noise", [0, 1])
def test_poisson_noise_grows_with_the_root_of_the_light(gray_noise: int) -> None:
    asked = {"noise": 1, "noise_sigma": (8, 8), "poisson": 1, "gray_noise": gray_noise}
    for level in (50, 200):
        lr = made(gray(level, 512), **asked).float() - level
        assert lr.std().item() == pytest.approx(8 * math.sqrt(level / 255), rel=0.04)
        assert torch.equal(lr[0], lr[1]) == bool(gray_noise)
    assert made(gray(0), **asked).max() == 0


def loss(photo: Tensor, **fields: Any) -> float:
    return float((made(photo, jpeg=1, **fields).float() - made(photo).float()).abs().mean())


def test_a_lower_quality_of_jpeg_loses_more_and_a_second_one_more_again(photo: Tensor) -> None:
    fine, coarse = (loss(photo, jpeg_quality=(quality, quality), subsampled=0) for quality in (95, 20))
    assert 0 < fine < coarse / 2
    twice = loss(photo, jpeg_quality=(20, 20), subsampled=0, twice=1, between=(1.5, 1.5))
    assert twice > coarse
    assert loss(photo, jpeg_quality=(95, 95), subsampled=1) > fine


def test_the_same_seed_and_index_give_the_same_picture_whatever_the_threads(photo: Tensor) -> None:
    given = DegradationSettings(clean=0)
    alone = [degrade(photo, given, scale=4, seed=9, index=index) for index in range(24)]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda index: degrade(photo, given, scale=4, seed=9, index=index), range(24)))
    assert all(torch.equal(*both) for both in zip(alone, together, strict=True))
    assert len({image.numpy().tobytes() for image in alone}) == 24
    assert not torch.equal(alone[0], degrade(photo, given, scale=4, seed=10, index=0))


# ---- as samples


def test_a_sample_of_clean_degradation_is_the_one_without() -> None:
    images = [(natural(96 + n, 120) * 255).to(torch.uint8) for n in range(2)]
    for index in range(30):
        drawing = {"seed": 3, "index": index, "scale": 4, "patch": 7}
        degraded = sample(images, degradation=settings(clean=1), **drawing)
        assert all(torch.equal(*both) for both in zip(degraded, sample(images, **drawing), strict=True))


def test_the_original_s_patch_stays_the_same_and_the_degraded_one_is_near_it() -> None:
    images = [(natural(200, 240) * 255).to(torch.uint8)]
    for index in range(30):
        drawing = {"seed": 3, "index": index, "scale": 4, "patch": 16}
        lr, hr = sample(images, degradation=DegradationSettings(), **drawing)
        plain, same = sample(images, **drawing)
        assert torch.equal(hr, same)
        assert lr.shape == plain.shape
        assert (lr.float() - plain.float()).abs().mean() < 12


def test_the_blocks_of_jpeg_lie_as_in_the_whole_picture() -> None:
    image = (natural(512, 512) * 255).to(torch.uint8)
    given = settings(jpeg=1, jpeg_quality=(10, 10), subsampled=0)
    whole = degrade(image, given, scale=4, seed=0, index=0)
    places = torch.stack([torch.arange(512).expand(512, 512) // 4] * 3).to(torch.uint8)
    places[0] = places[1].T
    found = []
    for index in range(40):
        drawing = {"seed": 0, "index": index, "scale": 4, "patch": 24, "augmentation": "none"}
        lr, _ = sample([image], degradation=given, **drawing)
        top, left = (int(place) for place in sample([places], **drawing)[1][:2, 0, 0])
        part = whole[:, top : top + 24, left : left + 24]
        found.append(int((part.int() - lr).abs().max()))
    # Where the picture ends, blocks are filled up otherwise; within it they are the whole picture's but for rounding.
    assert sum(difference <= 1 for difference in found) >= 35


@pytest.fixture
def source() -> Source:
    images = tuple((natural(80 + n, 96) * 255).to(torch.uint8) for n in range(3))
    return source_of(images, scale=4, patch=8, seed=1, degradation=DegradationSettings())


@pytest.mark.parametrize("world", [1, 2, 4])
def test_degraded_samples_are_the_same_for_any_number_of_devices_and_after_a_resume(source: Source, world: int) -> None:
    shares = []
    for rank in range(world):
        running = batches(source, first_step=5, batch=8, rank=rank, world=world, workers=2)
        shares.append(list(islice(running, 2)))
        running.close()
    for number, step in enumerate((5, 6)):
        lr, hr = (torch.cat(patches) for patches in zip(*(share[number] for share in shares), strict=True))
        expected = make_batch(source, range(8 * step, 8 * step + 8))
        assert torch.equal(lr, expected[0])
        assert torch.equal(hr, expected[1])


def test_low_resolution_pictures_that_are_given_are_not_degraded(tmp_path: Path) -> None:
    draw(tmp_path / "hr" / "a.png", width=32, height=32)
    draw(tmp_path / "lr" / "ax4.png", width=8, height=8)
    given = DegradationSettings()
    drawing = {"scale": 4, "patch": 4, "seed": 0, "augmentation": "none", "degradation": given}
    with pytest.raises(ValueError, match="lr must be empty with degradation"):
        open_source([tmp_path / "hr"], [tmp_path / "lr"], **drawing)
    with pytest.raises(ValueError, match="degradation must be None for low-resolution pictures that are given"):
        sample([gray(0, 32)], [gray(0, 8)], seed=0, index=0, scale=4, patch=4, degradation=given)
    assert open_source([tmp_path / "hr"], **drawing).degradation == given


# ---- settings


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"blur": 1.5}, "'blur': input should be less than or equal to 1, got 1.5"),
        ({"blur_sigma": [2, 1]}, "'blur_sigma': must be two numbers from 0.1 to 5, the smaller one first, got [2, 1]"),
        ({"jpeg_quality": [0, 90]}, "'jpeg_quality': must be two numbers from 1 to 100, the smaller one first"),
        ({"kernels": ["nearest"]}, "'kernels.0': input should be 'bicubic', 'bilinear' or 'area', got 'nearest'"),
        ({"kernels": []}, "'kernels': "),
        ({"nois": 1}, "unknown key 'nois' (did you mean 'noise'?)"),
    ],
)
def test_wrong_settings_are_refused_with_value_and_remedy(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_settings(DegradationSettings, wrong, source="photo.yml")
    assert message in str(caught.value)
