from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from finescale.layers.parameter_cache import ParameterCache


class Layer(nn.Module):
    """Twice its weights, remembered; counts how often that was computed."""

    def __init__(self) -> None:
        super().__init__()
        self.doubled = ParameterCache(
            source := nn.Linear(3, 2)
        )  # before its source, so that no order is taken for granted
        self.source = source
        self.computed = 0

    def forward(self) -> Tensor:
        answer: Tensor = self.doubled(self.compute)
        return answer

    def compute(self) -> Tensor:
        self.computed += 1
        return torch.cat([parameter.flatten() for parameter in self.source.parameters()]) * 2

    def is_right(self) -> bool:
        with torch.no_grad():
            remembered, right = self(), self.compute()
        return remembered.dtype == right.dtype and torch.equal(remembered, right)


@pytest.fixture
def layer() -> Layer:
    """A layer that has remembered its tensor."""
    layer = Layer().eval()
    assert layer.is_right()
    layer.computed = 0
    return layer


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_is_computed_once_where_no_gradients_are_recorded(mode: Callable[[], torch.no_grad]) -> None:
    layer = Layer().eval()
    with mode():
        first = layer()
        assert all(layer() is first for _ in range(3))
    assert layer.computed == 1


def test_it_is_computed_each_time_where_gradients_are_recorded(layer: Layer) -> None:
    for _ in range(2):
        layer().sum().backward()
    assert layer.computed == 2
    assert layer.source.weight.grad is not None
    assert (layer.source.weight.grad == 4).all()


OPTIMIZERS = {
    "Adam": lambda parameters: torch.optim.Adam(parameters, foreach=False),
    "Adam, foreach": lambda parameters: torch.optim.Adam(parameters, foreach=True),
    "Adam, fused": lambda parameters: torch.optim.Adam(parameters, fused=True),
    "SGD, foreach": lambda parameters: torch.optim.SGD(parameters, foreach=True),
    "SGD, fused": lambda parameters: torch.optim.SGD(parameters, fused=True),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_it_follows_the_steps_of_an_optimizer(layer: Layer, name: str, mode: str) -> None:
    optimizer = OPTIMIZERS[name](layer.train(mode == "train").parameters())
    for _ in range(2):
        before = layer.source.weight.detach().clone()
        layer().sum().backward()
        optimizer.step()
        assert not torch.equal(layer.source.weight, before)
        assert layer.is_right()


def in_place(layer: Layer) -> None:
    with torch.no_grad():
        layer.source.weight.mul_(3)


def through_foreach(layer: Layer) -> None:
    torch._foreach_mul_([parameter.detach() for parameter in layer.source.parameters()], 3)


def by_data(layer: Layer) -> None:
    layer.source.weight.data = layer.source.weight.data * 3


def by_data_often(layer: Layer) -> None:
    for _ in range(8):  # the memory of the first is free for a later one
        layer.source.weight.data = layer.source.weight.data + 1


def by_loading(layer: Layer) -> None:
    layer.source.load_state_dict(nn.Linear(3, 2).state_dict())


def by_assigning(layer: Layer) -> None:
    layer.source.load_state_dict(nn.Linear(3, 2).state_dict(), assign=True)


def by_replacing(layer: Layer) -> None:
    layer.source.bias = nn.Parameter(torch.ones(2))


def by_converting(layer: Layer) -> None:
    layer.double()


def there_and_back(layer: Layer) -> None:
    layer.bfloat16().float()


def unseen_then_eval(layer: Layer) -> None:
    layer.source.weight.data.mul_(3)
    layer.eval()


CHANGES = [
    in_place, through_foreach, by_data, by_data_often, by_loading, by_assigning, by_replacing, by_converting,
    there_and_back, unseen_then_eval,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_it_follows_every_change_of_a_parameter(layer: Layer, change: Callable[[Layer], None]) -> None:
    change(layer)
    assert layer.is_right()
    assert layer.computed == 2


def test_it_enters_no_state_dict_and_has_no_parameters(layer: Layer) -> None:
    assert set(layer.state_dict()) == {"source.weight", "source.bias"}
    assert not list(layer.doubled.parameters())
    assert not list(layer.doubled.children())


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_a_copy_starts_empty_and_follows_its_own_parameters(layer: Layer, duplicate: Callable[[Layer], Layer]) -> None:
    twin = duplicate(layer)
    assert twin.is_right()
    assert twin.computed == 2
    in_place(twin)
    assert twin.is_right()
    assert layer.is_right()
    assert layer.computed == 1
    in_place(layer)
    assert layer.is_right()
    assert twin.is_right()


def test_forgetting_frees_the_tensor(layer: Layer) -> None:
    layer.doubled.forget()
    assert layer.is_right()
    assert layer.computed == 2


def test_parameters_made_in_inference_mode_are_not_watched_but_followed() -> None:
    with torch.inference_mode():
        layer = Layer().eval()
        assert layer.is_right()
        layer.source.weight.mul_(3)
        assert layer.is_right()


def test_a_network_on_the_meta_device_works() -> None:
    with torch.device("meta"):
        layer = Layer().eval()
    with torch.no_grad():
        assert layer().shape == (8,)


def test_many_threads_read_it_at_once(layer: Layer) -> None:
    wrong: list[int] = []

    def read(number: int) -> None:
        with torch.no_grad():
            wrong.extend(number for _ in range(200) if not torch.equal(layer(), expected))

    with torch.no_grad():
        expected = layer.compute()
    layer.doubled.forget()
    threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_compiled_layer_remembers_nothing(layer: Layer) -> None:
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    with torch.no_grad():
        assert torch.equal(compiled(), layer.compute())
        in_place(layer)
        assert torch.equal(compiled(), layer.compute())
