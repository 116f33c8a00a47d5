"""Choice of a method by measurement: the best start of a refinement, and a comparison of whole methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from finescale.networks import Frame, WrappedNetwork
from finescale.quantize.crops import calibration_images
from finescale.quantize.losses import has_groups
from finescale.quantize.modules import bounds_of, quantizers, switch
from finescale.quantize.settings import Method, QuantSettings
from finescale.quantize.trials import OnProgress, Trials

STARTS: tuple[Method, ...] = ("dual", "minmax", "percentile", "density", "search")
"""Methods whose ranges `choose` measures."""

ENDS = ("first", "last")
"""The layers that take and give images, which cost little at 8 bits."""

TRIED, TRIED_EPOCHS = 2, 2
"""How many of the best starts are refined to choose among them, and for how long."""


def choose(
    network: Frame | WrappedNetwork, trials: Trials, settings: QuantSettings
) -> tuple[QuantSettings, dict[str, float]]:
    """Quantize a network with the ranges that a refinement should start from.

    With fewer than 8 bits the first and last layer get 8 bits where that brings dual clipping closer to the float
    network, unless ``settings`` keep other layers.

    Then all of `STARTS` find ranges. Of the `TRIED` that come closest to the float network, the one that is closest
    after `TRIED_EPOCHS` epochs of refinement is taken; without a refinement it is the closest.

    Args:
        network: A float network; it gets quantizers with the unrefined ranges.
        trials: Of this network.
        settings: All but the method.

    Returns:
        The settings with the method and ``keep``, and the fidelity of each method's ranges.
    """
    settings = _with_ends(trials, settings)
    trials.insert(network, settings)
    ranges, fidelity = {}, dict[str, float]()
    for method in STARTS:
        fidelity[method] = trials.calibrate(network, settings.model_copy(update={"method": method}))
        ranges[method] = bounds_of(network)

    def begin(method: Method) -> QuantSettings:
        for path, one in quantizers(network).items():
            one.set_bounds(*ranges[method][path])
        switch(network, on=True)
        return settings.model_copy(update={"method": method})

    best = sorted(STARTS, key=lambda method: -fidelity[method])[: TRIED if settings.epochs else 1]
    if len(best) > 1:
        epochs = {"epochs": min(TRIED_EPOCHS, settings.epochs)}
        reached = {
            method: trials.refine(network, begin(method).model_copy(update=epochs), stage=f"trial of {method}")
            for method in best
        }
        best.sort(key=lambda method: -reached[method])
    chosen = begin(best[0])
    network.quantization = chosen
    return chosen, fidelity


def _with_ends(trials: Trials, settings: QuantSettings) -> QuantSettings:
    """Return the settings, with 8 bits for the first and last layer where that is closer to the float network."""
    if settings.bits >= 8 or settings.keep or settings.placement == "blocks":
        return settings
    kept = settings.model_copy(update={"keep": ENDS})
    plain, ends = (
        trials.calibrate(trials.quantized(how), how.model_copy(update={"method": "dual"})) for how in (settings, kept)
    )
    return kept if ends > plain else settings


WHOLE_METHODS: Mapping[str, Mapping[str, Any]] = {
    "minmax": {"method": "minmax", "epochs": 0},
    "percentile": {"method": "percentile", "epochs": 0},
    "ptq4sr": {
        "method": "density", "scheme": "anchored", "keep": ENDS, "loss": "l1", "lr": 5e-3,
        "weights_lr": 1e-3, "lr_end": 0.4,
    },
    "dual": {"method": "dual"},
    "2dquant": {
        "method": "search", "scheme": "anchored", "granularity": "tensor", "split_qkv": True, "loss": "distill",
    },
}  # fmt: skip
"""What `compare` changes in the settings for each method: as in its paper, except that places and epochs are those of
the settings, and bounds move by shares of their ranges."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Compared:
    """One method's result."""

    name: str
    """Of `WHOLE_METHODS`, with ", refined" after a refinement."""
    network: Frame | WrappedNetwork
    """The quantized network; a refinement goes on to change it."""
    fidelity: float
    """PSNR to the float network's answers, in dB, on images that nothing was learned from."""
    seconds: float
    """Time from the float network on."""


def compare(
    network: Frame | WrappedNetwork,
    calibration: Path,
    settings: QuantSettings,
    *,
    crops: int | None = None,
    crop_size: int | None = None,
    seed: int = 0,
    on_progress: OnProgress = lambda _stage, _done, _total: None,
) -> Iterator[Compared]:
    """Quantize copies of a network by each of `WHOLE_METHODS`; arguments and errors as in `quantize_network`.

    Yields:
        Each method's result with its ranges as found and, where it refines them, once more afterwards.
    """
    network.eval()
    material = calibration_images(network, calibration, crops=crops, crop_size=crop_size, seed=seed)
    trials = Trials(network, material, settings, on_progress=on_progress)
    for name, changes in WHOLE_METHODS.items():
        how = _by(settings, changes, groups=has_groups(network))
        start = perf_counter()
        quantized = trials.quantized(how)
        fidelity = trials.calibrate(quantized, how)
        yield Compared(name=name, network=quantized, fidelity=fidelity, seconds=perf_counter() - start)
        if how.epochs:
            fidelity = trials.refine(quantized, how, stage=f"refinement of {name}")
            seconds = perf_counter() - start
            yield Compared(name=f"{name}, refined", network=quantized, fidelity=fidelity, seconds=seconds)


def _by(settings: QuantSettings, changes: Mapping[str, Any], *, groups: bool) -> QuantSettings:
    """Settings of a whole method: no layer keeps more bits than all have, no features where there are none."""
    changed = {**settings.model_dump(), **changes}
    if settings.bits >= 8:
        changed["keep"] = ()
    if not groups and changed["loss"] == "distill":
        changed["loss"] = "l1"
    return QuantSettings.model_validate(changed)
