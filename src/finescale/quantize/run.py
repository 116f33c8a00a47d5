"""A whole quantization: float answers, ranges, refinement, and how close the result comes; resumable."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from finescale.networks import Frame, WrappedNetwork, as_network, family_of
from finescale.quantize.calibrate import calibrate
from finescale.quantize.crops import CalibrationImages, calibration_images
from finescale.quantize.modules import (
    bounds_of,
    insert_quantizers,
    is_quantized,
    quantized_layers,
    quantizers,
    settings_of,
    switch,
)
from finescale.quantize.refine import Refinement, refine
from finescale.quantize.resume import load_progress, save_progress
from finescale.quantize.settings import Method, QuantSettings
from finescale.quantize.tracing import Trace, insert_products, trace
from finescale.settings import parse_settings

REFINED = "refined"
"""Name of what the refinement reaches, beside the names of `Method` for what their ranges reach."""

FASTER_FROM_CHANNELS = 100
"""Channels from which integers are faster than bf16 on CPUs, roughly: not with 60, 1.3 times with 180."""

OnProgress = Callable[[str, int, int], None]
"""Called with the name of a stage, how many of its parts are done, and of how many."""


@dataclass(frozen=True, kw_only=True)
class QuantizationResult:
    """How close a quantized network comes to its float network."""

    settings: QuantSettings
    """How it was quantized."""
    fidelity: Mapping[str, float]
    """For the ranges of each `Method`, and for `REFINED`: PSNR in dB of the quantized network's answers against the
    float network's, on images that nothing was learned from."""
    losses: Sequence[float]
    """Mean squared difference in each epoch of the refinement."""
    sensitivity: Mapping[str, float] = field(default_factory=dict)
    """Error that each layer causes when it alone is quantized, the largest first; empty where it was not measured."""
    traced: Trace | None = None
    """What was found in a module that is no network of finescale's, and what of it stays in float; else None."""

    @property
    def reached(self) -> float:
        """Fidelity of the network as it is now."""
        return self.fidelity.get(REFINED, self.fidelity[self.settings.method])

    @property
    def better_method(self) -> str | None:
        """The method whose ranges, even unrefined, come closer to the float network than this one's; usually None."""
        others = self.fidelity.keys() - {self.settings.method, REFINED}
        best = max(others, key=lambda name: self.fidelity[name], default=None)
        return best if best is not None and self.fidelity[best] > self.reached else None


def quantize_network(
    network: nn.Module,
    calibration: Path,
    settings: QuantSettings,
    *,
    scale: int | None = None,
    channels: int | None = None,
    multiple: int | None = None,
    crops: int | None = None,
    crop_size: int | None = None,
    seed: int = 0,
    start: Frame | None = None,
    with_sensitivity: bool = False,
    state: Path | None = None,
    weights_sha256: str | None = None,
    on_progress: OnProgress = lambda _stage, _done, _total: None,
) -> QuantizationResult:
    """Quantize a network in place: find ranges, by all methods for comparison and last by the chosen one; refine them.

    Args:
        network: A float network, on the device that computes. In a module that is no network of finescale's, layers and
            products are found by `finescale.quantize.trace`.
        calibration: A folder of pictures like those that will be upscaled; no originals are needed.
        settings: Bits, method and refinement.
        scale: How many times a module enlarges that is no network of finescale's,
        channels: of how many channels its images are, by default 3, and
        multiple: what must divide their sides, by default 1.
        crops: How many parts of the pictures to learn from, and
        crop_size: the side of a part, in pixels; see `finescale.quantize.calibration_images` for the defaults.
        seed: Selects the parts.
        start: The same network, quantized: its ranges are refined, and none are looked for. See `settings_from`.
        with_sensitivity: Also measure `sensitivity`, at the end.
        state: File that stores the progress after the ranges and after each epoch, and is deleted at the end; a
            quantization that finds its file resumes there. None stores nothing.
        weights_sha256: Digest of the network's weight file, by which ``state`` recognises it; None takes one of its
            tensors.
        on_progress: Called whenever a part of a stage is done.

    Raises:
        DataError: The folder does not exist, or no picture is large enough.
        ImageReadError: A picture cannot be read.
        CheckpointError: ``state`` belongs to another quantization, or is damaged.
        NumericalError: The refinement fails.
        ValueError: The network is quantized already, ``start`` is not this network or was quantized by other settings,
            or see `as_network`, `trace`, `insert_quantizers` and `calibrate`.
    """
    network = as_network(network, scale=scale, channels=channels, multiple=multiple)
    if is_quantized(network):
        raise ValueError("the network is quantized already; quantize its float weights")
    if start is not None:
        _check_start(network, start, settings)
    network.eval()
    material = calibration_images(network, calibration, crops=crops, crop_size=crop_size, seed=seed)
    identity = {
        "settings": settings.model_dump(mode="json"),
        "weights": weights_sha256 or _digest(network),
        "crops": material.digest(),
        "seed": seed,
        **({} if start is None else {"start": _digest_of_bounds(start)}),
    }
    found = _find_bounds(
        network,
        material,
        settings,
        start=start,
        state=state,
        identity=json.dumps(identity, sort_keys=True),
        on_progress=on_progress,
    )
    if not with_sensitivity:
        return found
    costs = sensitivity(
        network, [material.held_out], on_layer=lambda done, total: on_progress("sensitivity", done, total)
    )
    return replace(found, sensitivity=costs)


def _find_bounds(
    network: Frame | WrappedNetwork,
    material: CalibrationImages,
    settings: QuantSettings,
    *,
    start: Frame | None,
    state: Path | None,
    identity: str,
    on_progress: OnProgress,
) -> QuantizationResult:
    """Put quantizers into a network and find their bounds, in both stages, or in the second from those of ``start``."""
    batches = [material.pad(batch) for batch in torch.split(material.images, settings.refined_batch)]
    unseen = [material.pad(batch) for batch in torch.split(material.held_out, settings.refined_batch)]
    float_parts = count(1)
    size = material.images.shape[-2], material.images.shape[-1]

    def answer(batch: Tensor) -> Tensor:
        answered = _answer(network, batch, size)
        on_progress("float answers", next(float_parts), len(batches) + len(unseen))
        return answered

    targets, wanted = [answer(batch) for batch in batches], [answer(batch) for batch in unseen]
    if isinstance(network, Frame):
        traced, placement = None, family_of(network).quantization.placement(network.settings)
        insert_quantizers(network, placement, settings)
    else:
        traced = trace(network, unseen[0])
        placement = traced.placement
        insert_quantizers(network, placement, settings)
        insert_products(network, traced, settings)
    if state is not None and state.exists():
        fidelity, progress = load_progress(state, network, identity=identity)
    elif start is not None:
        _take_bounds(network, start)
        fidelity, progress = {settings.method: _fidelity(network, unseen, wanted)}, Refinement()
    else:
        fidelity, progress = {}, Refinement()
        observed = [material.pad(batch) for batch in torch.split(material.images, settings.observed_batch)]
        for method in _methods(settings):
            parts = count(1)
            calibrate(
                network,
                observed,
                placement,
                settings.model_copy(update={"method": method}),
                on_batch=lambda: on_progress(f"ranges by {method}", next(parts), len(observed)),  # noqa: B023
            )
            fidelity[method] = _fidelity(network, unseen, wanted)

    def keep(progress: Refinement) -> None:
        if state is not None:
            save_progress(state, network, identity=identity, fidelity=fidelity, progress=progress)

    keep(progress)
    steps = count(len(progress.losses) * len(batches) + 1)
    refine(
        network,
        batches,
        targets,
        settings,
        progress=progress,
        on_step=lambda _: on_progress("refinement", next(steps), settings.epochs * len(batches)),
        on_epoch=keep,
    )
    if settings.epochs:
        fidelity[REFINED] = _fidelity(network, unseen, wanted)
    if state is not None:
        state.unlink(missing_ok=True)
    return QuantizationResult(settings=settings, fidelity=fidelity, losses=progress.losses, traced=traced)


def settings_from(start: nn.Module, changes: Mapping[str, Any]) -> QuantSettings:
    """Settings of a refinement that starts with the ranges of a quantized network.

    Args:
        start: The network, quantized, usually with ``epochs`` 0.
        changes: Fields and values; those that decide ranges must agree with the network's.

    Raises:
        ValueError: One does not.
        SettingsError: A field or value is unknown.
    """
    found = settings_of(start)
    settings = parse_settings(
        QuantSettings, {**found.model_dump(), "epochs": QuantSettings().epochs, **changes}, source="quantize"
    )
    if not settings.epochs:
        raise ValueError("epochs must be at least 1 to refine ranges that are found already, got 0")
    ranges = found.of_ranges()
    for name, value in settings.of_ranges().items():
        if value != ranges[name]:
            raise ValueError(f"{name} must be {ranges[name]!r}, by which the ranges were found, got {value!r}")
    return settings


def _check_start(network: Frame | WrappedNetwork, start: Frame, settings: QuantSettings) -> None:
    """Refuse a quantized network of another kind than the float one."""
    if not isinstance(network, Frame):
        raise ValueError("start must be None for a network that is not one of finescale's")
    if settings_of(start).of_ranges() != settings.of_ranges():
        raise ValueError("the network to start from was quantized by other settings; see settings_from")
    if type(network) is not type(start) or network.scale != start.scale or network.settings != start.settings:
        raise ValueError("the network to start from has another family, scale or settings than the float network")


def _take_bounds(network: nn.Module, start: Frame) -> None:
    """Give a network the bounds of one that was quantized from it.

    Raises:
        ValueError: It was quantized from other weights.
    """
    places = quantizers(start)
    for path, one in quantizers(network).items():
        one.set_bounds(places[path].low, places[path].high)
    switch(network, on=True)
    theirs = quantized_layers(start)
    for path, layer in quantized_layers(network).items():
        if not torch.equal(layer.quantized_weight(), theirs[path].quantized_weight().to(layer.weight.device)):
            raise ValueError(f"the network to start from was quantized from other weights (first: {path})")


def sensitivity(
    network: nn.Module,
    images: Sequence[Tensor],
    *,
    on_layer: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[str, float]:
    """Measure the error that each layer, or product of attention, causes when it alone is quantized.

    Args:
        network: Quantized; all its quantizers are on again at the end.
        images: Batches (N, C, H, W) to measure on.
        on_layer: Called after each layer with how many are done, and of how many.

    Returns:
        Path to the mean squared difference from the float network's answers, the largest first.
    """
    groups: dict[str, set[str]] = {}
    for path in quantizers(network):
        groups.setdefault(path.rpartition(".")[0] or path, set()).add(path)
    try:
        switch(network, on=False)
        wanted = [_answer(network, batch) for batch in images]
        costs = {}
        for done, (layer, paths) in enumerate(groups.items(), start=1):
            switch(network, on=True, only=paths)
            costs[layer] = _difference(network, images, wanted)
            on_layer(done, len(groups))
    finally:
        switch(network, on=True)
    return dict(sorted(costs.items(), key=lambda cost: -cost[1]))


def _digest(network: nn.Module) -> str:
    """SHA-256 of a network's tensors, in the order of its state dict."""
    digest = sha256()
    for tensor in network.state_dict().values():
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()


def _digest_of_bounds(network: nn.Module) -> str:
    """SHA-256 of all bounds of a quantized network."""
    digest = sha256()
    for ends in bounds_of(network).values():
        for end in ends:
            digest.update(end.cpu().numpy().tobytes())
    return digest.hexdigest()


def _methods(settings: QuantSettings) -> list[Method]:
    """All methods that exist at this width, the chosen one last."""
    others: list[Method] = [method for method in get_args(Method) if method != settings.method]
    if 16 in (settings.bits, settings.edge_bits):
        others.remove("dual")
    return [*others, settings.method]


def _answer(network: nn.Module, batch: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """The network's answer, cropped to what belongs to the first ``size`` pixels, by default to all."""
    with torch.no_grad():
        answer: Tensor = network(batch)
    height, width = batch.shape[-2:] if size is None else size
    scale = answer.shape[-1] // batch.shape[-1]
    return answer[..., : scale * height, : scale * width]


def _difference(network: nn.Module, batches: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """Mean squared difference of the network's answers from the wanted ones, which may be cropped."""
    total, numbers = 0.0, 0
    with torch.no_grad():
        for batch, aim in zip(batches, wanted, strict=True):
            answer = network(batch)[..., : aim.shape[-2], : aim.shape[-1]]
            total += F.mse_loss(answer, aim, reduction="sum").item()
            numbers += aim.numel()
    return total / numbers


def _fidelity(network: nn.Module, batches: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    difference = _difference(network, batches, wanted)
    return -10 * math.log10(difference) if difference else math.inf
