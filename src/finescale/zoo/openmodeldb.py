"""Entries of OpenModelDB, the open database of upscaling models: the facts of a model card as its JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from finescale.networks import FrameSettings
from finescale.zoo.entries import family_called
from finescale.zoo.wording import citation


def openmodeldb_entry(
    *,
    family: str,
    variant: str | None,
    scale: int,
    source: str,
    licence: str | None,
    settings: FrameSettings,
    name: str,
    author: str,
    date: str,
    file_type: str,
    size: int,
    sha256: str,
    urls: Sequence[str],
) -> dict[str, Any]:
    """The entry of a network's weights, as a file of OpenModelDB's folder ``data/models`` has it.

    The first six arguments are the record of `model_card`; the others are those of the file.

    Args:
        family: Name of the network's family.
        variant: Name of its variant; None for a size of its own.
        scale: How many times it enlarges.
        source: Where the weights come from, as for `finescale.weights.save`.
        licence: Of the weights, as an SPDX identifier where there is one; None where none is stated.
        settings: Of the network.
        name: Of the model in the database.
        author: Id of its author there: letters, digits and single dashes.
        date: Of its publication, as yyyy-mm-dd.
        file_type: "pth" or "safetensors".
        size: Of the file, in bytes.
        sha256: Of the file, in hexadecimal digits.
        urls: Where it is offered; at least one.

    Raises:
        ValueError: There is no such family, or a value is not one that the database takes.
    """
    facts = family_called(family)
    if not re.fullmatch(r"[a-zA-Z0-9]+(-[a-zA-Z0-9]+)*", author):
        raise ValueError(f"author must be letters, digits and single dashes, got {author!r}")
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", date):
        raise ValueError(f"date must be yyyy-mm-dd, got {date!r}")
    if not urls:
        raise ValueError("urls must name at least one address of the file, got none")
    kind = f"{facts.about.title}: {variant or 'a size of its own'}, x{scale}"
    description = [facts.about.caution, f"{kind}. {facts.about.idea}", f"Weights: {' '.join(source.split())}."]
    description.append(f"{citation(facts.publication.paper)}.")
    return {
        "name": name,
        "author": author,
        "license": licence,
        "tags": ["general-upscaler"] if scale > 1 else ["restoration"],
        "description": "\n\n".join(part for part in description if part),
        "date": date,
        "architecture": family,
        "size": [variant] if variant else None,
        "scale": scale,
        "inputChannels": settings.in_channels,
        "outputChannels": settings.in_channels,
        "resources": [{"platform": "pytorch", "type": file_type, "size": size, "sha256": sha256, "urls": list(urls)}],
        "images": [],
    }
