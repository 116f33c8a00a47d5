"""The blocks that published option files for testing and for training share, with what they mean in both.

A key that changes nothing here is accepted and reported, so that published files run as they are. Every key of a base
class is of type `Ignored` unless it means the same in both kinds of file; a subclass redefines what it acts on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BeforeValidator, Field

from finescale import networks
from finescale.errors import SettingsError
from finescale.metrics import Channel
from finescale.settings import Settings, parse_settings


class _NoEffect:
    """Marks keys that published option files carry and that change nothing here."""


Ignored = Annotated[Any, _NoEffect()]
"""Type of a key that changes nothing here and is reported."""


def _expanded(value: Any) -> Any:
    """Replace ``~`` and ``$VARIABLES`` in a path, as a shell does."""
    return os.path.expandvars(os.path.expanduser(value)) if isinstance(value, str) else value  # noqa: PTH111 - of a text


OptionPath = Annotated[Path, BeforeValidator(_expanded)]
"""A path in which ``~`` and ``$VARIABLES`` may stand."""


class PathOptions(Settings):
    """The block ``path``."""

    pretrain_network_g: OptionPath | None = None
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
    metrics: dict[str, dict[str, Any]] | None = None
    """Names to `MetricOptions`."""


class MetricOptions(Settings):
    """A block of ``val.metrics``."""

    type: str
    """"calculate_psnr" or "calculate_ssim"."""
    crop_border: int = Field(ge=0)
    """Pixels left out on every side."""
    test_y_channel: bool = False
    """Luma instead of RGB."""
    better: Ignored = None
    """No effect."""


class DatasetOptions(Settings):
    """A block of ``datasets``."""

    type: str = "PairedImageDataset"
    """How pictures are found."""
    dataroot_gt: OptionPath | None = None
    """Folder of HR images."""
    dataroot_lq: OptionPath | None = None
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


def read_metrics(metrics: Mapping[str, Mapping[str, Any]] | None, *, source: str) -> dict[str, MetricOptions]:
    """Check the block ``val.metrics``; a file without it has no metrics.

    Args:
        metrics: The block.
        source: Name of the file, for messages.

    Raises:
        SettingsError: A metric has unknown or wrong values, or is not supported.
    """
    found = {}
    for name, block in (metrics or {}).items():
        metric = parse_settings(MetricOptions, block, source=f"{source}: val.metrics.{name}")
        if metric.type not in ("calculate_psnr", "calculate_ssim"):
            raise SettingsError(
                f"{source}: val.metrics.{name} has type {metric.type!r}; supported are calculate_psnr and "
                "calculate_ssim, and other metrics by --metrics"
            )
        found[name] = metric
    return found


def rules_of(metrics: Mapping[str, MetricOptions], *, source: str) -> tuple[int, Channel] | None:
    """Return the border and the channel that all metrics measure by; None without metrics.

    Raises:
        SettingsError: Two metrics differ in them.
    """
    rules = {(metric.crop_border, metric.test_y_channel) for metric in metrics.values()}
    if len(rules) > 1:
        raise SettingsError(f"{source}: val.metrics differ in crop_border or test_y_channel; measure them one by one")
    for border, on_luma in rules:
        return border, "y" if on_luma else "rgb"
    return None


def present_weights(path: Path) -> Path:
    """Return a weight file, or in its place that of our training which BasicSR would have written it in.

    It writes ``experiments/NAME/models/net_g_latest.pth``, where we write ``experiments/NAME/weights.safetensors``.
    """
    if path.parent.name != "models" or path.exists():
        return path
    ours = path.parent.parent / "weights.safetensors"
    return ours if ours.is_file() else path


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
