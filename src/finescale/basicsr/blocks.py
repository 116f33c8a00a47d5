"""The blocks that published option files for testing and for training share, with what they mean in both.

A key that changes nothing here is accepted and reported, so that published files run as they are. Every key of a base
class is of type `Ignored` unless it means the same in both kinds of file; a subclass redefines what it acts on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch

from finescale import networks
from finescale.errors import SettingsError
from finescale.settings import Settings


class _NoEffect:
    """Marks keys that published option files carry and that change nothing here."""


Ignored = Annotated[Any, _NoEffect()]
"""Type of a key that changes nothing here and is reported."""


class PathOptions(Settings):
    """The block ``path``."""

    pretrain_network_g: Path | None = None
    """Weight file."""
    param_key_g: Ignored = None
    """No effect."""
    strict_load_g: Ignored = None
    """No effect: testing always reads weights strictly; training takes over what fits and logs what is left."""
    resume_state: Ignored = None
    """No effect."""
    ignore_resume_networks: Ignored = None
    """No effect."""
    root: Ignored = None
    """No effect: the command decides where results go."""


class ValidationOptions(Settings):
    """The block ``val``."""

    save_img: bool = False
    """Whether to keep upscaled pictures."""
    val_freq: Ignored = None
    """No effect."""
    suffix: Ignored = None
    """No effect."""
    pbar: Ignored = None
    """No effect."""
    use_chop: Ignored = None
    """No effect: large pictures are tiled automatically."""
    metrics: Ignored = None
    """No effect: PSNR and SSIM on Y, by the papers' protocol."""


class DatasetOptions(Settings):
    """A block of ``datasets``."""

    type: str = "PairedImageDataset"
    """How pictures are found."""
    dataroot_gt: Path | None = None
    """Folder of HR images."""
    dataroot_lq: Path | None = None
    """Folder of low-resolution pictures."""
    filename_tmpl: str = "{}"
    """Name of a low-resolution picture, without suffix, from that of its HR image."""
    io_backend: dict[str, Any] = {"type": "disk"}  # noqa: RUF012 - pydantic copies it
    """How pictures are stored: "disk", or "lmdb" where training reads them."""
    name: Ignored = None
    """No effect."""
    task: Ignored = None
    """No effect."""
    phase: Ignored = None
    """No effect."""


class OptionFile(Settings):
    """The whole file."""

    name: str
    """Name of the folder of results."""
    scale: int
    """How many times the network enlarges."""
    datasets: dict[str, dict[str, Any]]
    """Names to `DatasetOptions`."""
    network_g: dict[str, Any]
    """The published constructor and its arguments."""
    model_type: Ignored = None
    """No effect."""
    num_gpu: Ignored = None
    """No effect."""
    manual_seed: Ignored = None
    """No effect."""
    is_train: Ignored = None
    """No effect."""
    dist: Ignored = None
    """No effect."""
    dist_params: Ignored = None
    """No effect: torchrun provides them."""

    def described_network(self, source: str) -> networks.Frame:
        """Build the network that the file describes, without memory for its weights.

        Args:
            source: Name of the file, for messages.

        Raises:
            SettingsError: The network has another scale than the file.
            ValueError: The network is unknown.
        """
        with torch.device("meta"):
            network = networks.from_options(self.network_g)
        if network.scale != self.scale:
            raise SettingsError(f"{source}: scale is {self.scale}, but network_g has upscale {network.scale}")
        return network


def ignored_keys(blocks: Mapping[str, Settings]) -> tuple[str, ...]:
    """Return the keys of an option file that change nothing here: fields of type `Ignored` that the file sets.

    Args:
        blocks: What precedes a block's keys, such as "path.", and the block.
    """
    return tuple(
        prefix + name
        for prefix, block in blocks.items()
        for name, field in type(block).model_fields.items()
        if name in block.model_fields_set and any(isinstance(mark, _NoEffect) for mark in field.metadata)
    )
