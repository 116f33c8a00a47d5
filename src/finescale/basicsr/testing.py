"""Published option files for testing, read unchanged: BasicSR's YAML becomes an evaluation.

Everything that an option file requests is done or refused; known keys without an effect here are reported.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from finescale import networks, weights
from finescale.basicsr.blocks import (
    DatasetOptions,
    Ignored,
    MetricOptions,
    OptionFile,
    OptionPath,
    PathOptions,
    ValidationOptions,
    ignored_keys,
    present_weights,
    read_metrics,
    rules_of,
)
from finescale.data import Pair, find_images
from finescale.data.pairs import hr_name
from finescale.errors import SettingsError, printable_name
from finescale.evaluate.cases import Case, cases_of
from finescale.evaluate.protocol import PAPERS, Protocol
from finescale.settings import Settings, load_settings, parse_settings
from finescale.upscale import Tiling


class TestPathOptions(PathOptions):
    """The block ``path``."""

    pretrain_network_g: OptionPath
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
    """Suffix of the pictures' names, after an underscore; null, and the text "None", use the name of the results."""
    use_chop: bool = False
    """Tile by the rule of HiT-SR and DAT."""


class TileOptions(Settings):
    """The block ``tile``."""

    tile_size: int
    """Side of a tile, in lr pixels."""
    tile_pad: int
    """Pixels that a tile sees beyond its sides."""


class TestSetOptions(DatasetOptions):
    """A block of ``datasets``; "SingleImageDataset" has pictures without HR images."""

    name: str
    """Name of the set."""
    dataroot_lq: OptionPath
    """Folder of low-resolution pictures."""


class TestOptionFile(OptionFile):
    """The whole file."""

    path: TestPathOptions
    """The weights."""
    val: TestValidationOptions = TestValidationOptions()
    """How to test."""
    tile: TileOptions | None = None
    """Tile by the rule of DRCT."""
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
    metrics = read_metrics(options.val.metrics, source=source)
    tiling = _tiling(options, source)
    protocol = _protocol(metrics, scale=options.scale, source=source)
    cases = [case for block in datasets.values() for case in _cases(block, source, scale=options.scale)]
    path_of_weights = present_weights(options.path.pretrain_network_g)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        network = _network(options, path_of_weights, source)
    return OptionPlan(
        name=options.name,
        scale=options.scale,
        network=network,
        weights=path_of_weights,
        cases=cases,
        protocol=protocol,
        tiling=tiling,
        keep_pictures=options.val.save_img,
        suffix=options.name if options.val.suffix in (None, "", "None") else options.val.suffix,
        ignored=ignored_keys({"": options, "path.": options.path, "val.": options.val})
        + ignored_keys({f"datasets.{key}.": block for key, block in datasets.items()})
        + ignored_keys({f"val.metrics.{key}.": block for key, block in metrics.items()})
        + tuple(str(warning.message) for warning in caught),
    )


def _network(options: TestOptionFile, path: Path, source: str) -> networks.Frame:
    """Load the weights, and check that their network is the one that the file describes."""
    described = options.described_network(source)
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
    assert isinstance(loaded.network, networks.Frame)  # since its family is one of ours
    shown = [name for name in differing if name not in family.files.unseen_help]
    if shown:
        described_fields = ", ".join(f"{name} {getattr(described.settings, name)}" for name in shown)
        raise SettingsError(f"{source}: network_g has {described_fields}, which does not match the weights of {path}")
    if not differing:
        return loaded.network
    unseen = {name: getattr(described.settings, name) for name in differing}
    network = weights.load(path, scale=options.scale, settings=unseen).network
    assert isinstance(network, networks.Frame)
    return network


def _cases(block: TestSetOptions, source: str, *, scale: int) -> list[Case]:
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
        # RCAN's originals, which SPAN's users have, end in "_HR_x4", where the published code takes them without that.
        names = [block.filename_tmpl.replace("{}", name) for name in (path.stem, hr_name(path, scale=scale))]
        missing = block.dataroot_lq / f"{names[0]}{path.suffix}"
        pairs.append(Pair(path.stem, hr=path, lr=next((smaller[one] for one in names if one in smaller), missing)))
    return cases_of(pairs, set=block.name)


def _protocol(metrics: Mapping[str, MetricOptions], *, scale: int, source: str) -> Protocol:
    rules = rules_of(metrics, source=source)
    if rules in (None, (scale, "y")):
        return PAPERS
    border, channel = rules
    return Protocol(border=border, channel=channel)


def _tiling(options: TestOptionFile, source: str) -> Tiling:
    if options.val.use_chop and options.tile:
        raise SettingsError(f"{source}: val.use_chop and tile are mutually exclusive")
    if options.val.use_chop:
        return Tiling(rule="chop")
    if options.tile is None:
        return Tiling(tile=0)
    values = {"rule": "pad", "tile": options.tile.tile_size, "overlap": options.tile.tile_pad}
    return parse_settings(Tiling, values, source=f"{source}: tile")
