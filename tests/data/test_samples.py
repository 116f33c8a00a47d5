from __future__ import annotations

from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from finescale.data import Augmentation, DegradationSettings, crop_pair
from finescale.data.samples import as_gray
from finescale.resize import downsample
from samples import sample


def noise(seed: int, height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@given(st.data(), st.sampled_from((2, 3, 4)), st.integers(1, 6))
@settings(max_examples=300, deadline=None)
def test_a_crop_is_that_part_of_the_whole_low_resolution_image(data: st.DataObject, scale: int, patch: int) -> None:
    sides = st.integers(scale * patch, scale * (patch + 12) + scale - 1)
    hr = noise(data.draw(st.integers(0, 99)), data.draw(sides), data.draw(sides))
    whole = downsample(hr, scale=scale)
    top = data.draw(st.integers(0, whole.shape[1] - patch))
    left = data.draw(st.integers(0, whole.shape[2] - patch))
    lr, part = crop_pair(hr, top=top, left=left, scale=scale, patch=patch)
    assert torch.equal(lr, whole[:, top : top + patch, left : left + patch])
    rows, columns = (slice(scale * start, scale * (start + patch)) for start in (top, left))
    assert torch.equal(part, hr[:, rows, columns])


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
@settings(max_examples=50, deadline=None)
def test_a_sample_is_a_function_of_seed_and_index(seed: int, index: int) -> None:
    images = [noise(image, 30 + image, 40) for image in range(3)]
    first = sample(images, seed=seed, index=index, scale=3, patch=5)
    again = sample(images, seed=seed, index=index, scale=3, patch=5)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert (first[0].shape, first[1].shape) == ((3, 5, 5), (3, 15, 15))


def test_samples_stay_the_same_in_every_release() -> None:
    pixel = torch.arange(40 * 50).reshape(40, 50)
    image = torch.stack([pixel // 256, pixel % 256, torch.zeros_like(pixel)]).to(torch.uint8)
    drawn = [sample([image], seed=7, index=index, scale=2, patch=4)[1].long() for index in range(4)]
    corners = [[divmod(int(256 * hr[0, y, x] + hr[1, y, x]), 50) for y, x in ((0, 0), (0, 7), (7, 0))] for hr in drawn]
    assert corners == [  # (row, column) in the picture of each patch's top left, top right and bottom left pixel
        [(16, 11), (16, 4), (23, 11)],
        [(18, 2), (25, 2), (18, 9)],
        [(26, 23), (33, 23), (26, 16)],
        [(17, 32), (10, 32), (17, 39)],
    ]


def test_every_picture_place_and_turn_is_drawn_and_neighbouring_indices_differ() -> None:
    images = [torch.arange(16, dtype=torch.uint8).reshape(1, 4, 4).expand(3, -1, -1) + 16 * image for image in range(3)]
    seen = {
        tuple(sample(images, seed=0, index=index, scale=2, patch=1)[1][0].flatten().tolist()) for index in range(999)
    }
    assert len(seen) == 3 * 4 * 8


def test_both_patches_are_turned_alike() -> None:
    ramp = torch.stack([torch.arange(64).repeat(64, 1), torch.arange(64)[:, None].repeat(1, 64), torch.zeros(64, 64)])
    for index in range(50):
        lr, hr = sample([ramp.to(torch.uint8)], seed=1, index=index, scale=4, patch=8)
        inner = lr[:, 2:-2, 2:-2].float()  # on a ramp, away from mirrored borders, the filter is the mean
        means = hr.float().unfold(1, 4, 4).unfold(2, 4, 4).mean((-2, -1))[:, 2:-2, 2:-2]
        assert (inner - means).abs().max() <= 1.0


def variants_of(images: list[Tensor], augmentation: Augmentation) -> set[tuple[int, ...]]:
    """The ways in which the only sample of a picture appears."""
    drawn = (sample(images, seed=0, index=n, scale=2, patch=1, augmentation=augmentation)[1] for n in range(200))
    return {tuple(hr[0].flatten().tolist()) for hr in drawn}


def test_each_augmentation_turns_and_mirrors_as_it_says() -> None:
    square = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8).expand(3, -1, -1)
    mirrored = [square, square.flip(-1)]
    turned = [image.rot90(quarters, (-2, -1)) for image in mirrored for quarters in range(4)]
    expected = {"none": [square], "flip-and-turn": [*mirrored, *(image.rot90(1, (-2, -1)) for image in mirrored)]}
    expected["flips-and-transpose"] = turned
    expected["flip"] = mirrored
    upright = [square, square.flip(-2)]
    expected["upside-down-and-transpose"] = [*upright, *(image.transpose(-2, -1) for image in upright)]
    for augmentation, images in expected.items():
        assert variants_of([square], augmentation) == {tuple(image[0].flatten().tolist()) for image in images}


@given(st.integers(0, 2**64 - 1), st.sampled_from((2, 3, 4)), st.sampled_from(get_args(Augmentation)))
@settings(max_examples=50, deadline=None)
def test_low_resolution_pictures_that_are_given_are_cut_as_those_that_are_made(
    index: int, scale: int, augmentation: Augmentation
) -> None:
    images = [noise(image, 41 + image, 50) for image in range(2)]
    smaller = [downsample(image, scale=scale) for image in images]
    drawing = {"seed": 3, "index": index, "scale": scale, "patch": 5, "augmentation": augmentation}
    for made, given_ in zip(sample(images, **drawing), sample(images, smaller, **drawing), strict=True):
        assert torch.equal(made, given_)


def test_a_picture_smaller_than_the_patch_is_refused() -> None:
    with pytest.raises(ValueError, match="a picture of 15 x 40 pixels has no patch of 4 x 4 at scale 4"):
        sample([noise(0, 15, 40)], seed=0, index=0, scale=4, patch=4)


# ---- gray


def test_gray_is_the_full_range_luma_that_gray_files_are_made_with() -> None:
    colours = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [12, 200, 77]])
    gray = as_gray(colours.T.reshape(3, 1, 6).to(torch.uint8))
    assert gray.dtype == torch.uint8
    assert gray.tolist() == [[[76, 150, 29, 255, 0, 130]]]  # as Pillow's convert("L")


def test_equal_channels_are_left_as_they_are() -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
    assert torch.equal(as_gray(levels.expand(3, -1, -1)), levels)


@pytest.mark.parametrize("degradation", [None, DegradationSettings(clean=0.0)], ids=["plain", "degraded"])
def test_gray_samples_of_rgb_pictures_are_those_of_gray_pictures(degradation: DegradationSettings | None) -> None:
    images = [noise(seed, 40, 44) for seed in range(2)]
    gray = [as_gray(image).expand(3, -1, -1) for image in images]
    for index in range(20):
        facts = {"index": index, "scale": 2, "patch": 6, "degradation": degradation, "channels": 1}
        lr, hr = sample(images, **facts)
        assert (lr.shape, hr.shape) == ((1, 6, 6), (1, 12, 12))
        assert all(torch.equal(one, other) for one, other in zip((lr, hr), sample(gray, **facts), strict=True))
        assert torch.equal(hr, as_gray(sample(images, **{**facts, "channels": 3})[1]))


def test_gray_samples_of_given_pairs_are_the_gray_of_both() -> None:
    high, low = [noise(1, 40, 44)], [noise(2, 20, 22)]
    for index in range(5):
        rgb, gray = (sample(high, low, index=index, scale=2, patch=6, channels=channels) for channels in (3, 1))
        assert all(torch.equal(as_gray(one), other) for one, other in zip(rgb, gray, strict=True))
