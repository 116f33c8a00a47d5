"""Stage 1: the range of every quantizer, from what the float network computes on a few images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import torch
from torch import Tensor, nn

from finescale.networks.placement import Placement, matches
from finescale.quantize.modules import quantized_layers, quantizers, switch, switched_off
from finescale.quantize.observers import Observer
from finescale.quantize.quantizer import Quantizer
from finescale.quantize.settings import QuantSettings


def calibrate(
    network: nn.Module,
    batches: Iterable[Tensor],
    placement: Placement,
    settings: QuantSettings,
    *,
    on_batch: Callable[[], None] | None = None,
) -> None:
    """Find the bounds of all quantizers, and switch the quantizers on.

    They are off while the images pass, so that the float network is observed.

    Args:
        network: With quantizers, see `finescale.quantize.modules.insert_quantizers`.
        batches: Images (N, C, H, W) in [0, 1], one update of each range per batch.
        placement: The one given there.
        settings: The ones given there.
        on_batch: Called after each batch.

    Raises:
        ValueError: There is no batch, or nothing of the batches reaches a quantizer.
    """
    layers = quantized_layers(network)
    of_weights = {f"{path}.weight_quantizer" for path in layers}
    passed = {path: one for path, one in quantizers(network).items() if path not in of_weights}
    observers = {
        path: Observer(
            settings,
            bits=one.bits,
            frequency=matches(path, placement.frequency),
            upper_only=settings.sides == "paper" and matches(path, placement.one_sided),
        )
        for path, one in passed.items()
    }
    updates = 0
    for batch in batches:
        switch(network, on=False)  # also clears cached tensors, so that they pass once for each batch
        seen: set[str] = set()
        hooks = [one.register_forward_pre_hook(_Watch(path, observers[path], seen)) for path, one in passed.items()]
        try:
            with torch.no_grad():
                network(batch)
        finally:
            for hook in hooks:
                hook.remove()
        _check_all_seen(passed, seen)
        updates += 1
        if on_batch is not None:
            on_batch()
    if not updates:
        raise ValueError("calibration needs at least one image, got none")
    for layer in layers.values():
        observer = Observer(settings, bits=layer.weight_quantizer.bits, per_row=True)
        observer.update(layer.weight_quantizer.parts(layer.weight), times=updates)
        layer.weight_quantizer.set_bounds(*observer.bounds)
    for path, one in passed.items():
        one.set_bounds(*observers[path].bounds)
    switch(network, on=True)


def count_numbers(network: nn.Module, batch: Tensor) -> None:
    """Give every quantizer the number of values that it sees in a batch, for `QuantSettings.bound_gradients`."""
    layers = quantized_layers(network)
    of_weights = {layer.weight_quantizer for layer in layers.values()}

    def count(quantizer: Quantizer, inputs: tuple[Tensor, ...]) -> None:
        quantizer.seen = inputs[0].numel()

    hooks = [one.register_forward_pre_hook(count) for one in quantizers(network).values() if one not in of_weights]
    try:
        with switched_off(network), torch.no_grad():
            network(batch)
    finally:
        for hook in hooks:
            hook.remove()
    for layer in layers.values():
        layer.weight_quantizer.seen = layer.weight.numel()


class _Watch:
    """Forward hook that shows an observer the input of a quantizer, once per batch even where layers share it."""

    def __init__(self, path: str, observer: Observer, seen: set[str]) -> None:
        self._path = path
        self._observer = observer
        self._seen = seen

    def __call__(self, _quantizer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if self._path not in self._seen:
            self._seen.add(self._path)
            self._observer.update(inputs[0])


def _check_all_seen(paths: Iterable[str], seen: Collection[str]) -> None:
    missed = [path for path in paths if path not in seen]
    if missed:
        raise ValueError(
            f"{len(missed)} quantizers receive no input (first: {missed[0]}); the family's placement must leave out "
            "layers that have no effect"
        )
