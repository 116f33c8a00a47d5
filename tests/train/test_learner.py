"""One step: what it does to the weights, how it is divided, what happens when it explodes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from finescale.networks import FAMILIES, Frame
from finescale.train.distributed import Team
from finescale.train.learner import Learner
from finescale.train.recompute import statistics
from finescale.train.settings import StepSettings

ALONE = Team(0, 1, torch.device("cpu"))


def learner(family: str, **settings: Any) -> Learner:
    torch.manual_seed(0)
    tiny = next(iter(FAMILIES[family].tiny.values()))
    network: Frame = FAMILIES[family].network(settings=tiny, scale=2)
    return Learner(network, StepSettings.model_validate({"iterations": 10, "lr": 1e-3, **settings}), ALONE, patch=8)


def samples(number: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(number, 3, 8, 8, generator=generator), torch.rand(number, 3, 16, 16, generator=generator)


def take(learner: Learner, *batch: Tensor, steps: int = 1) -> Any:
    lr, hr = batch or samples()
    for number in range(1, steps + 1):
        result = learner.step(lr, hr, number=number, rate=1e-3, draw=f"0 {number}")
    return result


def state(learner: Learner) -> dict[str, Tensor]:
    return {key: tensor.clone() for key, tensor in learner.network.state_dict().items()}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [key for key in one if not torch.equal(one[key], other[key])] == []


families = pytest.mark.parametrize("family", FAMILIES)


@families
def test_each_family_learns(family: str) -> None:
    training = learner(family, lr=2e-3)
    first, last = take(training), take(training, steps=5)
    assert last.loss < first.loss
    assert last.bad == ()


@families
def test_a_step_in_two_passes_has_the_gradients_of_one_pass(family: str) -> None:
    one, two = learner(family), learner(family, accumulate=2)
    if one.draws() or statistics(one.network):
        pytest.skip("its answers depend on what else is in the batch")
    assert take(one).loss == pytest.approx(take(two).loss, rel=1e-6)
    for (name, parameter), other in zip(one.network.named_parameters(), two.network.parameters(), strict=True):
        if parameter.grad is not None:
            torch.testing.assert_close(other.grad, parameter.grad, rtol=1e-3, atol=1e-6, msg=name)


@families
def test_recomputed_activations_change_nothing(family: str) -> None:
    kept, recomputed = learner(family), learner(family, checkpointing=True)
    take(kept, steps=2)
    take(recomputed, steps=2)
    assert_same(state(kept), state(recomputed))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@families
def test_half_precision_comes_close(family: str, precision: str) -> None:
    loss = take(learner(family, precision=precision)).loss
    assert loss == pytest.approx(take(learner(family)).loss, rel=0.02)


def test_random_numbers_follow_from_the_name_of_the_step_alone() -> None:
    one, other = learner("drct"), learner("drct")
    one.network.get_submodule("layers").apply(lambda module: setattr(module, "rate", 0.5))
    other.network.get_submodule("layers").apply(lambda module: setattr(module, "rate", 0.5))
    assert one.draws()
    take(one)
    torch.rand(7)
    take(other)
    assert_same(state(one), state(other))


def test_what_no_gradient_reaches_is_named_and_left_alone() -> None:
    small = FAMILIES["dat"].variants["dat-light"].model_copy(update={"depths": (1,), "num_heads": (6,)})
    network = FAMILIES["dat"].network(settings=small, scale=2)
    training = Learner(network, StepSettings(iterations=1, weight_decay=0.1), ALONE, patch=8)
    assert any(".pos." in name for name in training.rehearsal.unreached)
    before = state(training)
    take(training)
    after = state(training)
    assert all(torch.equal(before[name], after[name]) for name in training.rehearsal.unreached)
    assert set(training.state()["average"]) == {name for name, _ in training.network.named_parameters()}


@pytest.mark.parametrize("family", ["hit-sr", "dat"])
def test_a_step_that_is_not_finite_changes_nothing_and_names_the_term(family: str) -> None:
    training = learner(family, loss={"l1": 1.0, "mse": 0.5})
    take(training)
    before = training.state()
    lr, hr = samples()
    lr[1, 0, 2, 3] = float("nan")
    assert take(training, lr, hr).bad == ("l1 nan", "mse nan", "gradients nan")
    after = training.state()
    for part in ("weights", "average"):
        assert_same(before[part], after[part])
    torch.testing.assert_close(after["optimizer"], before["optimizer"], rtol=0, atol=0)


@pytest.mark.parametrize("precision", ["float32", "fp16"])
def test_gradients_are_clipped_together_and_by_their_own_size_where_the_loss_is_scaled(precision: str) -> None:
    free, clipped = (
        learner("hit-sr", optimizer="SGD", betas=None, precision=precision),
        learner("hit-sr", optimizer="SGD", betas=None, precision=precision, clip=1e-3),
    )
    before = state(free)
    take(free)
    take(clipped)
    moved = [
        torch.cat([(after[key] - before[key]).flatten() for key in before]).norm()
        for after in (state(free), state(clipped))
    ]
    assert moved[1] == pytest.approx(1e-3 * 1e-3, rel=1e-2)
    assert moved[0] > moved[1]


@families
def test_a_learner_goes_on_from_the_state_of_another(family: str) -> None:
    first, second = learner(family), learner(family, seed=2)
    take(first, steps=2)
    second.restore(first.state())
    take(first)
    take(second)
    for part in ("weights", "average"):
        assert_same(first.state()[part], second.state()[part])


def test_a_state_does_not_follow_the_learner() -> None:
    training = learner("hit-sr")
    kept = training.state()["weights"]
    before = {key: tensor.clone() for key, tensor in kept.items()}
    take(training)
    assert_same(kept, before)
