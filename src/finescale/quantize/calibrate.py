"""Stage 1: every quantizer's range, from what the float network computes of a few images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import torch
from torch import Tensor, nn

from finescale.networks.placement import Placement, matches
from finescale.quantize.modules import quantized_layers, quantizers, switch
from finescale.quantize.observers import Observer
from finescale.quantize.settings import QuantSettings


def calibrate(
    network: nn.Module,
    batches: Iterable[Tensor],
    placement: Placement,
    settings: QuantSettings,
    *,
    on_batch: Callable[[], None] | None = None,
) -> None:
    """Find the bounds of all quantizers, and switch them on.

    No layer sees quantized inputs meanwhile: what is observed is the float network.

    Args:
        network: With quantizers, see `finescale.quantize.modules.insert_quantizers`.
        batches: Images (N, C, H, W) in [0, 1], one update of each range per batch.
        placement: By which the quantizers were put in.
        settings: As given there.
        on_batch: Called after each batch.

    Raises:
        ValueError: There is no batch, or a quantizer sees nothing of them.
    """
    layers = quantized_layers(network)
    of_weights = {f"{path}.weight_quantizer" for path in layers}
    passed = {path: one for path, one in quantizers(network).items() if path not in of_weights}
    observers = {
        path: Observer(settings, bits=one.bits, frequency=matches(path, placement.frequency))
        for path, one in passed.items()
    }
    updates = 0
    for batch in batches:
        switch(network, on=False)  # also forgets what was derived, so that it passes once for each batch
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
        raise ValueError("calibration needs one image at least, got none")
    for layer in layers.values():
        observer = Observer(settings, bits=layer.weight_quantizer.bits, per_row=True)
        observer.update(layer.weight, times=updates)
        layer.weight_quantizer.set_bounds(*observer.bounds)
    for path, one in passed.items():
        one.set_bounds(*observers[path].bounds)
    switch(network, on=True)


class _Watch:
    """Shows an observer what comes to a quantizer, once for each batch, though several layers may share it."""

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
            f"{len(missed)} quantizers see nothing of the images (first: {missed[0]}); the family's placement must "
            "leave out layers that have no effect"
        )
