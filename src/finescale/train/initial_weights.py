"""Initial weights of a training: random ones from the seed, or those of another network."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from finescale import networks, weights
from finescale.errors import WeightsError, WeightsMismatchError, printable_name
from finescale.networks import Frame, variants
from finescale.train.settings import TrainSettings

log = logging.getLogger("finescale.train")


def initial_network(settings: TrainSettings, *, is_resumed: bool = False) -> Frame:
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


def described_network(settings: TrainSettings) -> Frame:
    """Build the network without memory for its weights; refuse a file of ``warm_start`` that exists and does not fit.

    Raises:
        WeightsError: The file cannot be read, or none of its tensors fits.
    """
    with torch.device("meta"):
        network = _new_network(settings)
    if settings.warm_start and settings.warm_start.is_file():
        start_from_file(network, settings.warm_start)
    return network


def _new_network(settings: TrainSettings) -> Frame:
    return variants()[settings.variant].network(settings=settings.network_settings(), scale=settings.scale)


def start_from_file(network: Frame, path: Path) -> list[str]:
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
    kept = networks.transfer_weights(network, start.network.state_dict())
    total = len(network.state_dict())
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
