"""The networks, one family per file; a family is added by its file and its name in ``_ALL``, or by `register`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from finescale.networks import cit, craft, dat, drct, hat, hit_sr, ngram, span, srformer, swinir
from finescale.networks.family import SETS, Cost, Count, Family, Paper, Published, Recipe
from finescale.networks.frame import SCALES, Frame, FrameSettings, check_scale
from finescale.networks.hierarchy import hierarchical, is_convertible
from finescale.networks.registry import Families
from finescale.networks.transfer import transfer_weights
from finescale.networks.wrapped import WrappedNetwork, as_network
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
    "WrappedNetwork",
    "as_network",
    "build",
    "check_scale",
    "family_of",
    "from_options",
    "hierarchical",
    "is_convertible",
    "published",
    "recipes",
    "register",
    "transfer_weights",
    "variants",
]

_ALL = (hit_sr, craft, drct, span, dat, cit, swinir, srformer, hat, ngram)

FAMILIES = Families(module.FAMILY for module in _ALL)
"""All families by name: those of the package, of installed packages, and registered ones."""


def register(family: Family) -> None:
    """Make a family known to everything that finds networks by names, weight files or option files.

    An installed package need not call it: an entry point of the group ``finescale.families`` that names the `Family`
    does the same in every process. Registering a family twice has no effect.

    Args:
        family: With names, and classes of settings, of its own.

    Raises:
        ValueError: It has no variant or no marks, or a name or a class that another family has.
    """
    FAMILIES.register(family)


def variants() -> dict[str, Family]:
    """Return the name of every variant, with the family it belongs to."""
    return {variant: family for family in FAMILIES.values() for variant in family.variants}


def published() -> dict[tuple[str, int], Published]:
    """Return every network that authors trained and published, by name, such as "hit-srf-df2k", and scale."""
    return {
        (network.name, network.scale): network
        for family in FAMILIES.values()
        for network in family.publication.networks
    }


def recipes() -> dict[tuple[str, int], Sequence[Recipe]]:
    """Return the stages of every training, by the name of the recipe, such as "hit-srf-df2k", and the scale."""
    return {key: stages for family in FAMILIES.values() for key, stages in family.recipes.items()}


def family_of(network: Frame) -> Family:
    """Return the family of a network.

    Raises:
        ValueError: The network is of no known family.
    """
    for family in FAMILIES.values():
        if family.includes(network):
            return family
    raise ValueError(f"{type(network).__name__} is not the network of any family; known: {', '.join(FAMILIES)}")


def build(variant: str, *, scale: int) -> Frame:
    """Build a network of a published size, with random weights.

    Args:
        variant: Name of the size, such as "hit-srf".
        scale: 1 to 16, as far as the upsampler of the size exists there.

    Raises:
        ValueError: The variant or the scale does not exist.
    """
    families = variants()
    if variant not in families:
        raise ValueError(f"no variant is called {variant!r}{suggest(variant, families)}; known: {', '.join(families)}")
    family = families[variant]
    return family.network(settings=family.variants[variant], scale=scale)


def from_options(options: Mapping[str, Any]) -> Frame:
    """Build a network from the ``network_g`` block of a published option file, with random weights.

    Args:
        options: ``type``, the published class name ("HiT_SRF"), and arguments of its constructor.

    Raises:
        ValueError: The class or an argument is unknown, or has a value that is not offered.
    """
    classes = {name: family for family in FAMILIES.values() if family.options for name in family.options.classes}
    kind = options.get("type")
    if not isinstance(kind, str) or kind not in classes:
        raise ValueError(f"network type {kind!r} is unknown{suggest(str(kind), classes)}; known: {', '.join(classes)}")
    family = classes[kind]
    assert family.options is not None
    try:
        settings, scale = family.options.read(options)
    except ValidationError as error:
        settings_kind = next(kind for kind in family.settings_kinds if kind.__name__ == error.title)
        raise ValueError(f"{kind}: {mistakes_of(settings_kind, error)}") from None
    return family.network(settings=settings, scale=scale)
