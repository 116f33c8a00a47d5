"""The networks, one family per file; a family is added by its file and its name in ``_ALL``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from finescale.networks import cit, craft, dat, drct, hit_sr, span
from finescale.networks.family import SETS, Cost, Count, Family, Paper, Published, Recipe
from finescale.networks.frame import SCALES, Frame, FrameSettings
from finescale.networks.transfer import transfer_weights
from finescale.settings import mistakes_of, suggest

__all__ = [
    "FAMILIES",
    "SCALES",
    "SETS",
    "Cost",
    "Count",
    "Family",
    "Frame",
    "FrameSettings",
    "Paper",
    "Published",
    "Recipe",
    "build",
    "family_of",
    "from_options",
    "published",
    "recipes",
    "transfer_weights",
    "variants",
]

_ALL = (hit_sr, craft, drct, span, dat, cit)

FAMILIES: Mapping[str, Family] = {module.FAMILY.name: module.FAMILY for module in _ALL}
"""Every family by its name."""


def variants() -> dict[str, Family]:
    """Every variant's name, with the family it belongs to."""
    return {variant: family for family in FAMILIES.values() for variant in family.variants}


def published() -> dict[tuple[str, int], Published]:
    """Every network that authors trained and published, by its name, such as "hit-srf-df2k", and its scale."""
    return {(facts.name, facts.scale): facts for family in FAMILIES.values() for facts in family.published}


def recipes() -> dict[tuple[str, int], Sequence[Recipe]]:
    """How networks were trained, stage by stage, by the recipe's name, such as "hit-srf-df2k", and the scale."""
    return {key: stages for family in FAMILIES.values() for key, stages in family.recipes.items()}


def family_of(network: Frame) -> Family:
    """The family whose network this is.

    Raises:
        ValueError: It is none of ours.
    """
    for family in FAMILIES.values():
        if type(network) is family.network:
            return family
    raise ValueError(f"{type(network).__name__} is not the network of any family; known: {', '.join(FAMILIES)}")


def build(variant: str, *, scale: int) -> Frame:
    """A fresh network of a published size, with random weights.

    Args:
        variant: Its name, such as "hit-srf".
        scale: 2, 3 or 4.

    Raises:
        ValueError: There is no such variant or scale.
    """
    families = variants()
    if variant not in families:
        raise ValueError(f"no variant is called {variant!r}{suggest(variant, families)}; known: {', '.join(families)}")
    family = families[variant]
    return family.network(settings=family.variants[variant], scale=scale)


def from_options(options: Mapping[str, Any]) -> Frame:
    """A fresh network from the ``network_g`` block of a published option file.

    Args:
        options: ``type``, the published class name ("HiT_SRF"), and arguments of its constructor.

    Raises:
        ValueError: The class or an argument is unknown, or has a value that is not offered.
    """
    classes = {name: family for family in FAMILIES.values() for name in family.classes}
    kind = options.get("type")
    for family in FAMILIES.values():
        if kind in family.misnomers:
            raise ValueError(
                f"network type {kind!r} is unknown; some published option files of {family.name} state it by mistake: "
                f"if this is one of them, make it {next(iter(family.classes))!r}"
            )
    if not isinstance(kind, str) or kind not in classes:
        raise ValueError(f"network type {kind!r} is unknown{suggest(str(kind), classes)}; known: {', '.join(classes)}")
    family = classes[kind]
    try:
        settings, scale = family.from_options(options)
    except ValidationError as error:
        settings_kind = type(next(iter(family.variants.values())))
        raise ValueError(f"{kind}: {mistakes_of(settings_kind, error)}") from None
    return family.network(settings=settings, scale=scale)
