"""The first weights of a training: random ones from the seed, or those of another network."""

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
    """The network before its first step; what is not taken over from ``warm_start`` follows from the seed.

    Args:
        settings: Of the training.
        is_resumed: The weights will be a checkpoint's: the file to start from need not be there any more.

    Raises:
        WeightsError: The file of ``warm_start`` is missing, cannot be read, or nothing of it fits.
    """
    family = variants()[settings.variant]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.train.seed)
        network = family.network(settings=settings.network_settings(), scale=settings.scale)
    if settings.warm_start and not is_resumed:
        start_from_file(network, settings.warm_start)
    return network


def start_from_file(network: Frame, path: Path) -> list[str]:
    """Take over from a weight file every tensor whose name and shape agree; what is left is logged.

    Returns:
        The keys of the network that keep their own values.

    Raises:
        WeightsError: The file is missing or cannot be read.
        WeightsMismatchError: Nothing of it fits.
    """
    source = printable_name(path)
    if not path.is_file():
        raise WeightsError(
            f"{source}: there is no such file to begin with; train that network first, or give another file, or null, "
            "as warm_start"
        )
    start = weights.load(path)
    kept = networks.warm_start(network, start.network.state_dict())
    total = len(network.state_dict())
    if len(kept) == total:
        raise WeightsMismatchError(f"{source}: nothing of its {start.family} network fits the one to be trained")
    told = f"; all but {_shortened(kept)}" if kept else ""
    log.info("%s: %d of %d tensors are taken over%s", source, total - len(kept), total, told)
    return kept


def _shortened(keys: list[str]) -> str:
    """Keys in words: those of one module as one, and of many the first few."""
    modules = list(dict.fromkeys(key.rpartition(".")[0] or key for key in keys))
    more = f" and {len(modules) - 6} more" if len(modules) > 6 else ""
    return ", ".join(modules[:6]) + more
