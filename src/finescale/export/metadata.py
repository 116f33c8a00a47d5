"""What an exported file says of itself."""

from __future__ import annotations

from importlib.metadata import version

from finescale.networks import Frame
from finescale.quantize import is_quantized, settings_of
from finescale.upscale.tiling import DEFAULT_OVERLAP
from finescale.weights.header import identity_of
from finescale.weights.third_party import ThirdPartyNetwork

LEAST_SIZE = 1
"""Least height and width of an image: every network extends smaller ones by itself."""

TILE = 4 * DEFAULT_OVERLAP
"""Advised side of a tile in lr pixels: neighbours share a quarter of it, and it fits into 1 to 2 GB of memory."""


def metadata_of(
    network: Frame | ThirdPartyNetwork, *, source: str | None = None, licence: str | None = None
) -> dict[str, str]:
    """Describe a network to a program that has nothing but the file.

    Args:
        network: Float or quantized.
        source: Where the weights come from; None where it is not known.
        licence: Of the weights, as an SPDX identifier where there is one; None where none is stated.

    Returns:
        Texts by name, as docs/export.md explains them; numbers are decimal.
    """
    family, variant = identity_of(network)
    facts = {
        "producer": f"finescale {version('finescale')}",
        "family": family,
        "variant": variant,
        "settings": network.settings.model_dump_json(),
        "scale": str(network.scale),
        "channels": str(network.in_channels),
        "range": "0 1",
        "bits": str(settings_of(network).bits) if is_quantized(network) else None,
        "source": source,
        "licence": licence,
        "least_size": str(LEAST_SIZE),
        "period": str(network.period),
        "tile": str(TILE),
        "overlap": str(DEFAULT_OVERLAP),
    }
    return {name: fact for name, fact in facts.items() if fact is not None}
