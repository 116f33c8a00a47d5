"""Published option files for testing, read unchanged: BasicSR's YAML becomes an evaluation.

Everything that an option file requests is done or refused; known keys without an effect here are reported.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finescale import networks, weights
from finescale.basicsr.blocks import (
    DatasetOptions,
    Ignored,
    OptionFile,
    PathOptions,
    ValidationOptions,
    ignored_keys,
)
from finescale.data import Pair, find_images
from finescale.errors import SettingsError, printable_name
from finescale.evaluate.cases import Case, cases_of
from finescale.evaluate.protocol import PAPERS, Protocol
from finescale.settings import Settings, load_settings, parse_settings
from finescale.upscale import Tiling


class TestPathOptions(PathOptions):
    """The block ``path``."""

    pretrain_network_g: Path
    """Weight file."""
    param_key_g: str | None = None
    """Key of the weights in their file; null: the file holds nothing else."""
    results_root: Ignored = None
    """No effect, as ``root``."""
    log: Ignored = None
    """No effect, as ``root``."""
    visualization: Ignored = None
    """No effect, as ``root``."""


class TestValidationOptions(ValidationOptions):
    """The block ``val``."""

    save_img: bool = True
    """Whether to keep upscaled pictures."""
    suffix: str | None = None
    """Suffix of the pictures' names, after an underscore; null uses "x4"."""
    use_chop: bool = False
    """Tile by the rule of HiT-SR and DAT."""
    tile: dict[str, Any] | None = None
    """Tile by the rule of DRCT: `TileOptions`."""
    metrics: dict[str, dict[str, Any]] | None = None
    """Names to `MetricOptions`."""


class TileOptions(Settings):
    """The block ``val.tile``."""

    tile_size: int
    """Side of a tile, in lr pixels."""
    tile_pad: int
    """Pixels that a tile sees beyond its sides."""


class MetricOptions(Settings):
    """A block of ``val.metrics``."""

    type: str
    """"calculate_psnr" or "calculate_ssim"."""
    crop_border: int
    """Pixels left out on every side."""
    test_y_channel: bool = False
    """Luma instead of RGB."""
    better: Ignored = None
    """No effect."""


class TestSetOptions(DatasetOptions):
    """A block of ``datasets``; "SingleImageDataset" has pictures without HR images."""

    name: str
    """Name of the set."""
    dataroot_lq: Path
    """Folder of low-resolution pictures."""


class TestOptionFile(OptionFile):
    """The whole file."""

    path: TestPathOptions
    """The weights."""
    val: TestValidationOptions = TestValidationOptions()
    """How to test."""
    logger: Ignored = None
    """No effect."""


@dataclass(frozen=True, eq=False, kw_only=True)
class OptionPlan:
    """Evaluation that an option file requests."""

    name: str
    """Name of the folder of results."""
    scale: int
    """How many times the network enlarges."""
    network: networks.Frame
    """Network with its weights."""
    weights: Path
    """File of the weights."""
    cases: list[Case]
    """Pictures to upscale and measure."""
    protocol: Protocol
    """Rules of the measurement."""
    tiling: Tiling
    """Rule and size of tiles."""
    keep_pictures: bool
    """Whether to keep upscaled pictures."""
    suffix: str
    """Suffix of their names."""
    ignored: tuple[str, ...]
    """Keys of the file without an effect here, and warnings about the network."""


def load_option_file(path: Path) -> OptionPlan:
    """Read an option file and everything that it names, except the pictures.

    Raises:
        SettingsError: The file cannot be read, has unknown or wrong values, or requests something unsupported.
        WeightsError: The weight file cannot be used.
        DataError: A folder of pictures does not exist or is empty.
        ValueError: The network is unknown.
    """
    options = load_settings(TestOptionFile, path)
    source = printable_name(path)
    datasets = {
        key: parse_settings(TestSetOptions, block, source=f"{source}: datasets.{key}")
        for key, block in options.datasets.items()
    }
    metrics = {
        key: parse_settings(MetricOptions, block, source=f"{source}: val.metrics.{key}")
        for key, block in (options.val.metrics or {}).items()
    }
    tiling = _tiling(options.val, source)
    protocol = _protocol(metrics, scale=options.scale, source=source)
    cases = [case for block in datasets.values() for case in _cases(block, source)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        network = _network(options, source)
    return OptionPlan(
        name=options.name,
        scale=options.scale,
        network=network,
        weights=options.path.pretrain_network_g,
        cases=cases,
        protocol=protocol,
        tiling=tiling,
        keep_pictures=options.val.save_img,
        suffix=options.val.suffix or f"x{options.scale}",
        ignored=ignored_keys({"": options, "path.": options.path, "val.": options.val})
        + ignored_keys({f"datasets.{key}.": block for key, block in datasets.items()})
        + ignored_keys({f"val.metrics.{key}.": block for key, block in metrics.items()})
        + tuple(str(warning.message) for warning in caught),
    )


def _network(options: TestOptionFile, source: str) -> networks.Frame:
    """Load the weights, and check that their network is the one that the file describes."""
    described = options.described_network(source)
    path = options.path.pretrain_network_g
    loaded = weights.load(path, scale=options.scale)
    wanted = options.path.param_key_g
    if wanted is not None and loaded.wrapper != wanted and not (wanted == "params_ema" and loaded.wrapper == "params"):
        raise SettingsError(
            f"{source}: path.param_key_g is {wanted!r}, but the weights of {path} are {loaded.wrapper!r}"
        )
    family = networks.family_of(described)
    if loaded.family != family.name:
        raise SettingsError(f"{source}: network_g is a {family.name} network, but {path} holds one of {loaded.family}")
    differing = [
        name
        for name in type(loaded.settings).model_fields
        if getattr(loaded.settings, name) != getattr(described.settings, name)
    ]
    shown = [name for name in differing if name not in family.files.unseen_help]
    if shown:
        described_fields = ", ".join(f"{name} {getattr(described.settings, name)}" for name in shown)
        raise SettingsError(f"{source}: network_g has {described_fields}, which does not match the weights of {path}")
    if not differing:
        return loaded.network
    unseen = {name: getattr(described.settings, name) for name in differing}
    return weights.load(path, scale=options.scale, settings=unseen).network


def _cases(block: TestSetOptions, source: str) -> list[Case]:
    if block.io_backend.get("type") != "disk":
        raise SettingsError(f"{source}: io_backend must be of type disk, got {block.io_backend}; extract the pictures")
    if block.type not in ("PairedImageDataset", "SingleImageDataset"):
        raise SettingsError(f"{source}: type must be PairedImageDataset or SingleImageDataset, got {block.type!r}")
    if block.type == "SingleImageDataset":
        return [Case(block.name, path.stem, hr=None, lr=path) for path in find_images(block.dataroot_lq)]
    if block.dataroot_gt is None:
        raise SettingsError(f"{source}: {block.name} is a PairedImageDataset and needs dataroot_gt")
    smaller = {path.stem: path for path in reversed(find_images(block.dataroot_lq))}
    pairs = []
    for path in find_images(block.dataroot_gt):
        name = block.filename_tmpl.format(path.stem)
        missing = block.dataroot_lq / f"{name}{path.suffix}"
        pairs.append(Pair(path.stem, hr=path, lr=smaller.get(name, missing)))
    return cases_of(pairs, set=block.name)


def _protocol(metrics: Mapping[str, MetricOptions], *, scale: int, source: str) -> Protocol:
    for name, metric in metrics.items():
        if metric.type not in ("calculate_psnr", "calculate_ssim"):
            raise SettingsError(
                f"{source}: val.metrics.{name} has type {metric.type!r}; supported are calculate_psnr and "
                "calculate_ssim, and other metrics by --metrics"
            )
    rules = {(metric.crop_border, metric.test_y_channel) for metric in metrics.values()}
    if not rules:
        return PAPERS
    if len(rules) > 1:
        raise SettingsError(f"{source}: val.metrics differ in crop_border or test_y_channel; measure them one by one")
    border, on_luma = rules.pop()
    asked = Protocol(border=border, channel="y" if on_luma else "rgb")
    return PAPERS if (border, on_luma) == (scale, True) else asked


def _tiling(options: TestValidationOptions, source: str) -> Tiling:
    if options.use_chop and options.tile:
        raise SettingsError(f"{source}: val.use_chop and val.tile are mutually exclusive")
    if options.use_chop:
        return Tiling(rule="chop")
    if options.tile is None:
        return Tiling(tile=0)
    tile = parse_settings(TileOptions, options.tile, source=f"{source}: val.tile")
    values = {"rule": "pad", "tile": tile.tile_size, "overlap": tile.tile_pad}
    return parse_settings(Tiling, values, source=f"{source}: val.tile")
