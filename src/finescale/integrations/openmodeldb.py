"""Entry of a weight file for OpenModelDB, from what the file states."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finescale.networks import FrameSettings
from finescale.weights import inspect
from finescale.weights.header import stated_licence
from finescale.zoo import openmodeldb_entry


def entry_of(
    path: Path | str, *, author: str, date: str, urls: Sequence[str], name: str | None = None
) -> dict[str, Any]:
    """The entry of a weight file, to be written as JSON into OpenModelDB's folder ``data/models``.

    Args:
        path: A ``.safetensors`` or ``.pth`` file of one of our families.
        author: Id of its author in the database.
        date: Of its publication, as yyyy-mm-dd.
        urls: Where the file is offered.
        name: Of the model in the database; by default the name of the file without its ending.

    Raises:
        WeightsError: As for `finescale.weights.inspect`.
        ValueError: As for `finescale.zoo.openmodeldb_entry`, or the network is a third-party one.
    """
    path = Path(path)
    found = inspect(path)
    if not isinstance(found.settings, FrameSettings):
        raise ValueError(f"{path}: {found.nearest}, a third-party network; entries are for finescale's own")
    content = path.read_bytes()
    return openmodeldb_entry(
        family=found.family,
        variant=found.variant,
        scale=found.scale,
        source=found.header.get("source", path.name),
        licence=stated_licence(found.header),
        settings=found.settings,
        name=name or path.stem,
        author=author,
        date=date,
        file_type="safetensors" if found.format == "safetensors" else "pth",
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        urls=urls,
    )
