"""Quantizations of one network by several settings, learned from and measured on the same images."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import count

import torch

from finescale.networks import Frame, WrappedNetwork, family_of
from finescale.quantize.calibrate import calibrate, count_numbers
from finescale.quantize.crops import CalibrationImages
from finescale.quantize.losses import WITH_FEATURES, features_of
from finescale.quantize.measures import Aims
from finescale.quantize.modules import insert_quantizers, switched_off
from finescale.quantize.refine import Refinement, refine
from finescale.quantize.settings import QuantSettings
from finescale.quantize.tracing import insert_products, trace

OnProgress = Callable[[str, int, int], None]
"""Called with the name of a stage, how many of its parts are done, and of how many."""


class Trials:
    """The float network's answers, and both stages of a quantization.

    Args:
        network: A float network; a copy is kept.
        material: The images.
        settings: By whose batches the answers are computed.
        on_progress: Called whenever a part of a stage is done.
    """

    def __init__(
        self,
        network: Frame | WrappedNetwork,
        material: CalibrationImages,
        settings: QuantSettings,
        *,
        on_progress: OnProgress,
    ) -> None:
        if isinstance(network, WrappedNetwork):
            network.allow_batches()
        self.aims = Aims.of(
            network,
            material,
            batch=settings.refined_batch,
            on_batch=lambda done, total: on_progress("float answers", done, total),
        )
        if isinstance(network, Frame):
            self.traced, self.placement = None, family_of(network).quantization.placement(network.settings)
        else:
            self.traced = trace(network, self.aims.images[:1])
            self.placement = self.traced.placement
        self._network = copy.deepcopy(network)
        self._on_progress = on_progress

    def insert(self, network: Frame | WrappedNetwork, settings: QuantSettings) -> None:
        """Insert quantizers into a float network like that of the trials, all switched off."""
        insert_quantizers(network, self.placement, settings)
        if isinstance(network, WrappedNetwork) and self.traced is not None:
            insert_products(network, self.traced, settings)

    def quantized(self, settings: QuantSettings) -> Frame | WrappedNetwork:
        """Return a copy of the float network with quantizers, all switched off."""
        copied = copy.deepcopy(self._network)
        self.insert(copied, settings)
        return copied

    def calibrate(self, network: Frame | WrappedNetwork, settings: QuantSettings) -> float:
        """Find the ranges of a network with quantizers, and return the fidelity that they reach, in dB."""
        # An observer looks at the first call of each batch.
        together = 1 if isinstance(network, WrappedNetwork) and network.one_by_one else settings.observed_batch
        batches = torch.split(self.aims.images, together)
        parts = count(1)
        calibrate(
            network,
            batches,
            self.placement,
            settings,
            on_batch=lambda: self._on_progress(f"ranges by {settings.method}", next(parts), len(batches)),
        )
        return self.aims.fidelity(network)

    def refine(
        self,
        network: Frame | WrappedNetwork,
        settings: QuantSettings,
        *,
        stage: str = "refinement",
        progress: Refinement | None = None,
        on_epoch: Callable[[Refinement], None] | None = None,
    ) -> float:
        """Refine the ranges of a calibrated network, and return the fidelity that they reach, in dB."""
        batches = torch.split(self.aims.images, settings.refined_batch)
        features = []
        if settings.loss in WITH_FEATURES:
            with switched_off(network), torch.no_grad():
                for batch in batches:
                    with features_of(network) as seen:
                        network(batch)
                    features.append(seen)
        if settings.bound_gradients == "ptq4sr":
            count_numbers(network, self.aims.images[: settings.observed_batch])
        steps = count(len(progress.losses if progress else []) * len(batches) + 1)
        refine(
            network,
            batches,
            torch.split(self.aims.answers, settings.refined_batch),
            settings,
            features=features,
            progress=progress,
            on_step=lambda _: self._on_progress(stage, next(steps), settings.epochs * len(batches)),
            on_epoch=on_epoch,
        )
        return self.aims.fidelity(network)
