from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import pytest
import torch
from torch import Tensor

from finescale.data import Batches, Source, batches, make_batch
from samples import sample, source_of


@pytest.fixture
def source() -> Source:
    generator = torch.Generator().manual_seed(0)
    pixels = tuple(torch.randint(0, 256, (3, 20 + n, 24), dtype=torch.uint8, generator=generator) for n in range(3))
    return source_of(pixels, scale=2, patch=6, seed=3)


@pytest.fixture
def begun() -> Iterator[list[Batches]]:
    """Batches to be closed when the test is over."""
    begun: list[Batches] = []
    yield begun
    for one in begun:
        one.close()


def take(some: Batches, num: int) -> list[tuple[Tensor, Tensor]]:
    taken = list(islice(some, num))
    some.close()
    return taken


def assert_equal(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> None:
    assert all(torch.equal(*both) for both in zip(one, other, strict=True))


def test_a_step_holds_the_samples_at_its_place_in_the_sequence(source: Source) -> None:
    lr, hr = take(batches(source, first_step=5, batch=4), 1)[0]
    assert (lr.dtype, tuple(lr.shape), tuple(hr.shape)) == (torch.float32, (4, 3, 6, 6), (4, 3, 12, 12))
    for place in range(4):
        lr_patch, hr_patch = sample(source.hr, seed=3, index=20 + place, scale=2, patch=6)
        assert torch.equal(lr[place], lr_patch / 255)
        assert torch.equal(hr[place], hr_patch / 255)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_a_resumed_training_sees_the_same_batches(source: Source, workers: int) -> None:
    resumed = take(batches(source, first_step=2, batch=4, workers=workers), 4)
    for step, batch in enumerate(resumed, start=2):
        assert_equal(batch, make_batch(source, range(4 * step, 4 * step + 4)))


@pytest.mark.parametrize("world", [1, 2, 3, 12])
def test_a_step_holds_the_same_samples_however_many_devices_share_it(source: Source, world: int) -> None:
    ranks = [
        take(batches(source, first_step=7, batch=12, rank=rank, world=world, workers=1), 2) for rank in range(world)
    ]
    for number, step in enumerate((7, 8)):
        lr, hr = (torch.cat(patches) for patches in zip(*(rank[number] for rank in ranks), strict=True))
        assert_equal((lr, hr), make_batch(source, range(12 * step, 12 * step + 12)))


def test_the_augmentation_is_the_one_asked_for(source: Source) -> None:
    unvaried = replace(source, augmentation="none")
    plain = take(batches(unvaried, first_step=0, batch=8), 1)[0]
    assert_equal(plain, make_batch(unvaried, range(8)))
    assert not torch.equal(plain[1], make_batch(source, range(8))[1])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"world": 2}, "batch must be a multiple of the 2 devices, got 3"),
        ({"world": 3, "rank": 3}, "rank must be from 0 to 2, got 3"),
    ],
)
def test_what_cannot_be_dealt_out_is_refused(source: Source, wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        batches(source, first_step=0, batch=3, **wrong)


def test_a_failure_in_the_background_is_raised_where_the_batch_is_asked_for(begun: list[Batches]) -> None:
    small = source_of((torch.zeros(3, 20, 20, dtype=torch.uint8),), scale=2, patch=30)
    begun.append(batches(small, first_step=0, batch=1))
    with pytest.raises(ValueError, match="has no patch of 30 x 30 at scale 2"):
        next(begun[0])


def test_time_is_counted_only_while_a_batch_is_waited_for(source: Source, begun: list[Batches]) -> None:
    gate = threading.Event()

    class Slow(tuple[Tensor, ...]):
        """Originals that are there once the gate is open."""

        def __getitem__(self, index: int) -> Tensor:  # type: ignore[override]
            assert gate.wait(60)
            return super().__getitem__(index)

    begun.append(batches(replace(source, hr=Slow(source.hr)), first_step=0, batch=1))
    assert begun[0].waited_s == 0
    threading.Timer(0.2, gate.set).start()
    next(begun[0])
    assert begun[0].waited_s >= 0.15


def test_closing_leaves_no_thread_behind_and_ends_the_batches(source: Source) -> None:
    some = batches(source, first_step=0, batch=4)
    next(some)
    some.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]
    assert list(some) == []
