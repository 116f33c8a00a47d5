"""The models that are measured: networks, and the bicubic baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from finescale import resize
from finescale.layers.mirror_padding import pad_to_next_multiple
from finescale.networks import Family, Frame, Published, family_of, published
from finescale.quantize.modules import is_quantized, settings_of
from finescale.system.files import sha256
from finescale.upscale import OnTile, Tiling, Upscaler

BICUBIC = "bicubic"
"""Name of the baseline."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Model:
    """One row of a table."""

    name: str
    """Its name in reports and folders."""
    upscale: Callable[[Tensor, OnTile | None], Tensor]
    """Map an image (3, h, w) in [0, 1] to (3, scale * h, scale * w) in [0, 1], with a callback after each tile."""
    conditions: Mapping[str, Any] = field(default_factory=dict)
    """Everything that its answers depend on: ``weights_sha256``, ``tiles``, ``ensemble``, ``precision``, ``engine``,
    ``device``, ``padding``, ``settings`` (those stated by the caller)."""
    published: Mapping[str, tuple[float, float | None]] = field(default_factory=dict)
    """Published values by test set: PSNR and SSIM, by the papers' protocol."""
    weights_file: str | None = None
    """Path of the weight file, of a network that was named by it; its contents, not its place, identify results."""


def bicubic(*, scale: int) -> Model:
    """Return the baseline of the tables: `finescale.resize.upsample`, in float64, rounded once."""

    def upscale(lr: Tensor, _on_tile: OnTile | None) -> Tensor:
        levels = resize.round_half_up(resize.upsample((lr * 255).round(), scale=scale))
        return levels.float() / 255

    nothing = dict.fromkeys(
        ("weights_sha256", "tiles", "ensemble", "precision", "engine", "device", "padding", "settings")
    )
    return Model(name=BICUBIC, upscale=upscale, conditions=nothing)


def network_model(
    upscaler: Upscaler,
    name: str,
    *,
    weights: Path | None = None,
    weights_file: str | None = None,
    published_as: str | None = None,
    settings: Mapping[str, Any] | None = None,
    follow_published_padding: bool = True,
) -> Model:
    """Return a network as a row of a table.

    Args:
        upscaler: The network, with its tiles, ensemble and precision.
        name: Its name in reports and folders.
        weights: The network's file, whose contents identify results.
        weights_file: Path of that file in reports, where the caller named the network by it.
        published_as: The published network to compare with, such as "hit-srf"; by default the one whose published file
            has the name of ``weights``, if there is one. A quantized network is compared with the published one of the
            same bits.
        settings: Settings stated by the caller, see `finescale.weights.load`.
        follow_published_padding: Whether images are padded as in the authors' test code.
    """
    network = upscaler.network
    family = family_of(network) if isinstance(network, Frame) else None
    padding = 0
    if follow_published_padding and isinstance(network, Frame) and family is not None:
        padding = family.publication.test_padding(network.settings)

    def upscale(lr: Tensor, on_tile: OnTile | None) -> Tensor:
        height, width = (side * upscaler.scale for side in lr.shape[-2:])
        padded = pad_to_next_multiple(lr, padding)
        return upscaler(padded, on_tile=on_tile, mirror=follow_published_padding)[:, :height, :width]

    return Model(
        name=name,
        upscale=upscale,
        conditions={
            "weights_sha256": None if weights is None else sha256(weights),
            "tiles": describe_tiles(upscaler.tiling),
            "ensemble": upscaler.ensemble,
            "precision": upscaler.precision,
            "engine": upscaler.engine,
            "device": upscaler.device.type,
            "padding": _describe_padding(upscaler, padding) if follow_published_padding else "network",
            "settings": dict(settings) if settings else None,
        },
        published=_published_scores(network, published_as, weights, family, upscaler.scale),
        weights_file=weights_file,
    )


def _describe_padding(upscaler: Upscaler, multiple: int) -> str:
    if multiple:
        return f"mirror, to the next multiple of {multiple}"
    return "network" if upscaler.network.mirrored_size((1, 1)) == (1, 1) else "mirror, to whole windows"


def describe_tiles(tiling: Tiling) -> str:
    """Describe a tiling in a few words: "whole", "chop", "auto", "blend 128, overlap 32"."""
    if tiling.rule == "blend" and tiling.tile in (0, "auto") and tiling.max_memory is None:
        return "whole" if tiling.tile == 0 else "auto"
    words = [tiling.rule if tiling.tile == "auto" else f"{tiling.rule} {tiling.tile}"]
    if isinstance(tiling.tile, int):
        words.append(f"overlap {tiling.overlap_of(tiling.tile)}")
    if tiling.max_memory is not None:
        words.append(f"at most {tiling.max_memory} bytes")
    return ", ".join(words)


def labels_of(names: Iterable[str]) -> list[str]:
    """Return the labels of models in reports: known names unchanged, files without folder and suffix.

    Files of equal names are preceded by the name of their folder.

    Raises:
        ValueError: Two labels are equal even so.
    """
    names = list(names)
    paths = [Path(name) for name in names]
    short = [path.stem if path.suffix else path.name for path in paths]
    labels = [
        f"{path.absolute().parent.name}_{one}" if short.count(one) > 1 else one
        for path, one in zip(paths, short, strict=True)
    ]
    for label, name in zip(labels, names, strict=True):
        if labels.count(label) > 1 or label == BICUBIC:
            raise ValueError(f"a second model would be called {label!r} in the report; rename or omit {name}")
    return labels


def _published_scores(
    network: Any, name: str | None, weights: Path | None, family: Family | None, scale: int
) -> Mapping[str, tuple[float, float | None]]:
    facts: Published | None = None
    if family is not None and is_quantized(network):
        variant, differs_in = family.nearest(network.settings)
        if not differs_in:
            facts = published().get((f"{variant}-{settings_of(network).bits}bit", scale))
    elif name is not None:
        facts = published().get((name, scale))
    elif family is not None and weights is not None:
        networks = family.publication.networks
        facts = next((one for one in networks if one.scale == scale and one.is_file(weights.name)), None)
    return {} if facts is None else facts.scores
