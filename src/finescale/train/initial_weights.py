"""Initial weights of a training: random ones from the seed, or those of another network."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from finescale import networks, weights
from finescale.errors import WeightsError, WeightsMismatchError, printable_name
from finescale.networks import Frame, variants
from finescale.train.settings import TrainSettings
from finescale.weights.saving import stored_state
from finescale.weights.third_party import THIRD_PARTY, ThirdPartyNetwork, ThirdPartySettings, build_third_party

log = logging.getLogger("finescale.train")


def initial_network(settings: TrainSettings, *, is_resumed: bool = False) -> Frame | ThirdPartyNetwork:
    """Build the network as it is before its first step; weights not taken from ``warm_start`` follow from the seed.

    Args:
        settings: Settings of the training.
        is_resumed: A checkpoint will replace the weights, so the file of ``warm_start`` may be missing.

    Raises:
        WeightsError: The file of ``warm_start`` is missing, cannot be read, or none of its tensors fits.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.train.seed)
        network = _new_network(settings)
    if settings.warm_start and not is_resumed:
        start_from_file(network, settings.warm_start)
    return network


def described_network(settings: TrainSettings) -> Frame | ThirdPartyNetwork:
    """Build the network; refuse a file of ``warm_start`` that exists and does not fit.

    Networks of finescale's have no memory for weights then.

    Raises:
        WeightsError: The file cannot be read, or none of its tensors fits.
    """
    third_party = settings.variant == THIRD_PARTY  # whose code may need values
    with torch.random.fork_rng(devices=[]), torch.device("cpu" if third_party else "meta"):
        network = _new_network(settings)
    if settings.warm_start and settings.warm_start.is_file():
        start_from_file(network, settings.warm_start)
    return network


def _new_network(settings: TrainSettings) -> Frame | ThirdPartyNetwork:
    sizes = settings.network_settings()
    if isinstance(sizes, ThirdPartySettings):
        return build_third_party(sizes, scale=settings.scale)
    return variants()[settings.variant].network(settings=sizes, scale=settings.scale)


def third_party_values(start: Path) -> dict[str, Any]:
    """Return the fields of `TrainSettings` that state the network of a third-party weight file.

    Args:
        start: The file.

    Returns:
        ``variant``, ``network`` and ``scale``; nothing for a network of finescale's.

    Raises:
        WeightsError: The file cannot be used.
    """
    found = weights.inspect(start)
    if found.family != THIRD_PARTY:
        return {}
    return {"variant": THIRD_PARTY, "network": found.settings.model_dump(mode="json"), "scale": found.scale}


def start_from_file(network: Frame | ThirdPartyNetwork, path: Path) -> list[str]:
    """Copy every tensor whose name and shape agree from a weight file, and log the others.

    Returns:
        The keys of the network that keep their own values.

    Raises:
        WeightsError: The file is missing or cannot be read.
        WeightsMismatchError: None of its tensors fits.
    """
    source = printable_name(path)
    if not path.is_file():
        raise WeightsError(
            f"{source}: this file of warm_start does not exist; train that network first, or set warm_start to another "
            "file or null"
        )
    start = weights.load(path)
    module = network.model if isinstance(network, ThirdPartyNetwork) else network
    kept = networks.transfer_weights(module, stored_state(start.network))
    total = len(module.state_dict())
    if len(kept) == total:
        raise WeightsMismatchError(
            f"{source}: none of the tensors of its {start.family} network fits the network to train"
        )
    others = f"; all but {_shortened(kept)}" if kept else ""
    log.info("%s: %d of %d tensors copied%s", source, total - len(kept), total, others)
    return kept


def _shortened(keys: list[str]) -> str:
    """Abbreviate keys: one entry per module, and of many modules the first few."""
    modules = list(dict.fromkeys(key.rpartition(".")[0] or key for key in keys))
    more = f" and {len(modules) - 6} more" if len(modules) > 6 else ""
    return ", ".join(modules[:6]) + more
