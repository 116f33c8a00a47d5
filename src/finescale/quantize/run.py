"""A whole quantization: float answers, ranges, refinement, and how close the result comes; resumable."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

from torch import nn

from finescale.networks import Frame, WrappedNetwork, as_network
from finescale.quantize.choice import STARTS, choose
from finescale.quantize.crops import calibration_images
from finescale.quantize.measures import sensitivity
from finescale.quantize.modules import is_quantized
from finescale.quantize.refine import Refinement
from finescale.quantize.resume import load_progress, save_progress, stored_settings
from finescale.quantize.settings import Method, QuantSettings
from finescale.quantize.start import check_start, digest_of_bounds, take_bounds
from finescale.quantize.tracing import Trace
from finescale.quantize.trials import OnProgress, Trials

REFINED = "refined"
"""Name of what the refinement reaches, beside the names of `Method` for what their ranges reach."""

FASTER_FROM_CHANNELS = 100
"""Channels from which integers are faster than bf16 on CPUs, roughly: not with 60, 1.3 times with 180."""

COMPARED_METHODS: tuple[Method, ...] = ("dual", "minmax", "percentile")
"""Methods whose ranges are measured beside those of a stated one."""


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
    auto: bool = False,
    start: Frame | WrappedNetwork | None = None,
    with_sensitivity: bool = False,
    state: Path | None = None,
    weights_sha256: str | None = None,
    on_progress: OnProgress = lambda _stage, _done, _total: None,
) -> QuantizationResult:
    """Quantize a network in place: find ranges, by some methods for comparison and last by the chosen one; refine them.

    Args:
        network: A float network, on the device that computes. In a module that is no network of finescale's, layers and
            products are found by `finescale.quantize.trace`.
        calibration: A folder of pictures like those that will be upscaled; no originals are needed.
        settings: Bits, method and refinement.
        scale: How many times a module enlarges that is no network of finescale's,
        channels: of how many channels its images are, by default 3, and
        multiple: what must divide their sides, by default 1.
        auto: Choose the method, whatever ``settings`` states: see `finescale.quantize.choice`. A refinement that does
            not come closer to the float network is undone.
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
        check_start(network, start, settings)
    network.eval()
    material = calibration_images(network, calibration, crops=crops, crop_size=crop_size, seed=seed)
    identity = {
        "settings": settings.model_dump(mode="json"),
        "auto": auto,
        "weights": weights_sha256 or _digest(network),
        "crops": material.digest(),
        "seed": seed,
        **({} if start is None else {"start": digest_of_bounds(start)}),
    }
    found = _find_bounds(
        network,
        Trials(network, material, settings, on_progress=on_progress),
        settings,
        auto=auto,
        start=start,
        state=state,
        identity=json.dumps(identity, sort_keys=True),
    )
    if not with_sensitivity:
        return found
    costs = sensitivity(
        network, [material.held_out], on_layer=lambda done, total: on_progress("sensitivity", done, total)
    )
    return replace(found, sensitivity=costs)


def _find_bounds(
    network: Frame | WrappedNetwork,
    trials: Trials,
    settings: QuantSettings,
    *,
    auto: bool,
    start: Frame | WrappedNetwork | None,
    state: Path | None,
    identity: str,
) -> QuantizationResult:
    """Put quantizers into a network and find their bounds, in both stages, or in the second from those of ``start``."""
    progress, fidelity = Refinement(), dict[str, float]()
    if state is not None and state.exists():
        settings = stored_settings(state, identity=identity)
        trials.insert(network, settings)
        fidelity, progress = load_progress(state, network, identity=identity)
    elif start is not None:
        trials.insert(network, settings)
        take_bounds(network, start)
        fidelity[settings.method] = trials.aims.fidelity(network)
    elif auto:
        settings, fidelity = choose(network, trials, settings)
    else:
        trials.insert(network, settings)
        for method in _methods(settings):
            fidelity[method] = trials.calibrate(network, settings.model_copy(update={"method": method}))

    def keep(progress: Refinement) -> None:
        if state is not None:
            save_progress(state, network, identity=identity, fidelity=fidelity, progress=progress)

    keep(progress)
    if settings.epochs:
        fidelity[REFINED] = trials.refine(network, settings, progress=progress, on_epoch=keep)
        best = max(STARTS, key=lambda method: fidelity.get(method, -math.inf))
        if auto and fidelity[REFINED] < fidelity[best]:
            settings = settings.model_copy(update={"method": best, "epochs": 0})
            network.quantization = settings
            trials.calibrate(network, settings)
            del fidelity[REFINED]
    if state is not None:
        state.unlink(missing_ok=True)
    return QuantizationResult(settings=settings, fidelity=fidelity, losses=progress.losses, traced=trials.traced)


def _digest(network: nn.Module) -> str:
    """SHA-256 of a network's tensors, in the order of its state dict."""
    digest = sha256()
    for tensor in network.state_dict().values():
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()


def _methods(settings: QuantSettings) -> list[Method]:
    """The simpler methods and dual clipping, for comparison, where they exist at this width; the chosen one last."""
    others: list[Method] = [method for method in COMPARED_METHODS if method != settings.method]
    if 16 in (settings.bits, settings.edge_bits):
        others.remove("dual")
    return [*others, settings.method]
