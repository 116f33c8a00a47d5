from __future__ import annotations

import pickle
import threading
from itertools import islice
from pathlib import Path

import pytest
import torch
from PIL import Image

from finescale.data import TrainingImages, batches, make_batch, sample
from finescale.errors import DataError

DRAWING = {"seed": 3, "batch": 4, "scale": 2, "patch": 6}


@pytest.fixture
def images() -> TrainingImages:
    generator = torch.Generator().manual_seed(0)
    pixels = (torch.randint(0, 256, (3, 20 + n, 24), dtype=torch.uint8, generator=generator) for n in range(3))
    return TrainingImages(("a.png", "b.png", "c.png"), tuple(pixels))


def test_a_step_holds_the_samples_at_its_place_in_the_sequence(images: TrainingImages) -> None:
    lr, hr = make_batch(images, step=5, **DRAWING)
    assert (lr.dtype, tuple(lr.shape), tuple(hr.shape)) == (torch.float32, (4, 3, 6, 6), (4, 3, 12, 12))
    for place in range(4):
        lr_patch, hr_patch = sample(images.pixels, seed=3, index=20 + place, scale=2, patch=6)
        assert torch.equal(lr[place], lr_patch / 255)
        assert torch.equal(hr[place], hr_patch / 255)


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_a_resumed_training_sees_the_same_batches(images: TrainingImages, ahead: int) -> None:
    resumed = batches(images, first_step=2, ahead=ahead, **DRAWING)
    for step, (lr, hr) in enumerate(islice(resumed, 3), start=2):
        expected = make_batch(images, step=step, **DRAWING)
        assert torch.equal(lr, expected[0])
        assert torch.equal(hr, expected[1])


def test_pictures_survive_pickling(images: TrainingImages) -> None:
    copy = pickle.loads(pickle.dumps(images))
    assert torch.equal(make_batch(copy, step=0, **DRAWING)[0], make_batch(images, step=0, **DRAWING)[0])


def test_a_failure_in_the_background_is_raised_where_the_batch_is_asked_for(images: TrainingImages) -> None:
    with pytest.raises(ValueError, match="has no patch of 30 x 30 at scale 2"):
        next(batches(images, first_step=0, seed=0, batch=1, scale=2, patch=30))


def test_no_thread_is_left_behind(images: TrainingImages) -> None:
    iterator = batches(images, first_step=0, **DRAWING)
    next(iterator)
    iterator.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_folders_are_read_in_natural_order_as_three_channels_of_8_bits(tmp_path: Path) -> None:
    for name, mode in (("t10.png", "RGB"), ("t2.png", "L")):
        Image.new(mode, (9, 7), 200 if mode == "L" else (10, 20, 30)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a picture")
    images = TrainingImages.from_folders([tmp_path])
    assert images.names == ("t2.png", "t10.png")
    assert [tuple(pixels.shape) for pixels in images.pixels] == [(3, 7, 9)] * len(images)
    assert images.pixels[0].unique().tolist() == [200]
    assert images.pixels[1][:, 0, 0].tolist() == [10, 20, 30]


def test_all_unreadable_pictures_are_named_at_once(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "good.png")
    for name in ("broken.png", "also_broken.png"):
        (tmp_path / name).write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"2 pictures cannot be used.*also_broken\.png.*broken\.png"):
        TrainingImages.from_folders([tmp_path])


def test_pictures_smaller_than_a_patch_are_left_out_and_named(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "good.png")
    Image.new("RGB", (40, 10)).save(tmp_path / "small.png")
    images = TrainingImages.from_folders([tmp_path], min_size=24)
    assert images.names == ("good.png",)
    assert images.too_small == ("small.png",)
    with pytest.raises(DataError, match="all 2 pictures have a side of fewer than 99 pixels"):
        TrainingImages.from_folders([tmp_path], min_size=99)


def test_the_pictures_of_a_benchmark_are_decoded_exactly(data_root: Path) -> None:
    images = TrainingImages.from_folders([data_root / "benchmark" / "Set5" / "HR"])
    assert len(images) == 5
    for name, pixels in zip(images.names, images.pixels, strict=True):
        stored = torch.tensor(list(Image.open(data_root / "benchmark" / "Set5" / "HR" / name).tobytes()))
        assert torch.equal(pixels.permute(1, 2, 0).flatten().long(), stored)
