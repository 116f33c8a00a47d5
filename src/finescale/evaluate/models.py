"""What is measured: networks, and the bicubic that they have to beat."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from finescale import resize
from finescale.layers.windows import pad_reflect
from finescale.networks import Family, Frame, Published, family_of, published
from finescale.quantize.modules import is_quantized, settings_of
from finescale.system.files import sha256
from finescale.upscale import Tiling, Upscaler

BICUBIC = "bicubic"
"""Name of the baseline."""

OnTile = Callable[[int, int], None]


@dataclass(frozen=True, eq=False, kw_only=True)
class Model:
    """One row of a table."""

    name: str
    """What reports and folders call it."""
    upscale: Callable[[Tensor, OnTile | None], Tensor]
    """From an image (3, h, w) in [0, 1], and what to call after each tile, to (3, scale * h, scale * w) in [0, 1]."""
    conditions: Mapping[str, Any] = field(default_factory=dict)
    """All that its answers depend on: ``weights_sha256``, ``tiles``, ``ensemble``, ``precision``, ``engine``,
    ``device``, ``padding``, ``settings`` (those that the caller stated)."""
    published: Mapping[str, tuple[float, float | None]] = field(default_factory=dict)
    """What its authors print: set to PSNR and SSIM, by the papers' protocol."""


def bicubic(*, scale: int) -> Model:
    """The baseline of the tables: `finescale.resize.upsample`, in float64, rounded once."""

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
    published_as: str | None = None,
    settings: Mapping[str, Any] | None = None,
    follow_published_padding: bool = True,
) -> Model:
    """A network as a row of a table.

    Args:
        upscaler: Upscales, by the tiles, ensemble and precision that it was made with.
        name: What reports and folders call it.
        weights: The network's file, by whose contents a result is known again.
        published_as: The published network with whose values to compare, such as "hit-srf"; by default the one whose
            authors gave their file the name of ``weights``, if there is one. A quantized network is compared with the
            authors' own of the same bits.
        settings: What the caller has stated of the network, see `finescale.weights.load`.
        follow_published_padding: Whether images are extended as the authors' test code does.
    """
    network = upscaler.network
    family = family_of(network) if isinstance(network, Frame) else None
    padding = 0
    if follow_published_padding and isinstance(network, Frame) and family and family.publication.test_padding:
        padding = family.publication.test_padding(network.settings)

    def upscale(lr: Tensor, on_tile: OnTile | None) -> Tensor:
        height, width = (side * upscaler.scale for side in lr.shape[-2:])
        return upscaler(extended(lr, padding), on_tile=on_tile)[:, :height, :width]

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
            "padding": f"mirror, to the next multiple of {padding}" if padding else "network",
            "settings": dict(settings) if settings else None,
        },
        published=_published_scores(network, published_as, weights, family, upscaler.scale),
    )


def describe_tiles(tiling: Tiling) -> str:
    """How images are cut, in a few words: "whole", "chop", "auto", "blend 128, overlap 32"."""
    if tiling.rule == "blend" and tiling.tile in (0, "auto") and tiling.max_memory is None:
        return "whole" if tiling.tile == 0 else "auto"
    words = [tiling.rule if tiling.tile == "auto" else f"{tiling.rule} {tiling.tile}"]
    if isinstance(tiling.tile, int):
        words.append(f"overlap {tiling.overlap_of(tiling.tile)}")
    if tiling.max_memory is not None:
        words.append(f"at most {tiling.max_memory} bytes")
    return ", ".join(words)


def labels_of(names: Iterable[str]) -> list[str]:
    """What reports call models: known names as they are, files without folder and ending.

    Files of equal names get that of their folder put before it.

    Raises:
        ValueError: Two have the same name even so.
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
            raise ValueError(f"a second model would be called {label!r} in the report: rename or leave out {name}")
    return labels


def extended(images: Tensor, multiple: int) -> Tensor:
    """Images (..., C, H, W) as authors' test code extends them: at the bottom and on the right, by their mirror.

    Each side grows to the next multiple, at least by one pixel; a multiple of 0 changes nothing.
    """
    if not multiple:
        return images
    height, width = ((side // multiple + 1) * multiple for side in images.shape[-2:])
    maps = images.reshape(-1, *images.shape[-3:]).permute(0, 2, 3, 1)
    grown = pad_reflect(maps, (height, width), repeat_edge=True).permute(0, 3, 1, 2)
    return grown.reshape(*images.shape[:-2], height, width)


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
        same_file = (one for one in family.publication.networks if (one.file, one.scale) == (weights.name, scale))
        facts = next(same_file, None)
    return {} if facts is None else facts.scores
