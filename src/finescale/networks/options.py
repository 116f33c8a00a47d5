"""Arguments of published constructors, as option files state them, translated to fields of our settings."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from typing import Any

from finescale.settings import suggest

SHARED_ARGUMENTS: Mapping[str, str] = {
    "upscale": "scale",
    "in_chans": "in_channels",
    "embed_dim": "embed_dim",
    "num_heads": "num_heads",
    "img_range": "image_range",
    "resi_connection": "residual_conv",
}
"""Arguments of most published constructors, and our fields."""


def take_options(
    options: Mapping[str, Any],
    *,
    fields: Mapping[str, str],
    neutral: Mapping[str, Any],
    without_effect: Collection[str],
    in_vain: Collection[str],
    shared: Mapping[str, str] = SHARED_ARGUMENTS,
) -> dict[str, Any]:
    """Translate the arguments of a published constructor to fields of our settings.

    Args:
        options: The arguments, with the name of the published class as ``type``.
        fields: Argument to field, for what our network reads besides the shared arguments.
        neutral: Arguments that published networks read but that our network offers at one value only.
        without_effect: Arguments that change nothing in the published network either; dropped.
        in_vain: Keys that published option files contain though no network reads them; dropped with a warning.
        shared: Argument to field, for what the constructor shares with others.

    Returns:
        Field names to values.

    Raises:
        ValueError: An argument is unknown, or has a value that is not offered.
    """
    network = options["type"]
    fields = {**shared, **fields}
    taken = {}
    dropped = []
    for key, value in options.items():
        if key in fields:
            taken[fields[key]] = value
        elif key in neutral:
            if value != neutral[key]:
                raise ValueError(f"{network}: {key} is supported only as {neutral[key]!r}, got {value!r}")
        elif key in in_vain:
            dropped.append(key)
        elif key not in without_effect and key != "type":
            known = [*fields, *neutral, *without_effect]
            raise ValueError(f"{network} has no argument {key!r}{suggest(key, known)}")
    if dropped:
        warnings.warn(f"{network}: no network reads {', '.join(dropped)}; ignored", UserWarning, stacklevel=4)
    return taken
