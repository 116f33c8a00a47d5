"""Every network at every scale, and what its authors publish of it.

All facts stand in the family files; here they are listed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from finescale.networks import FAMILIES, Cost, Family, Published
from finescale.settings import alternatives, suggest

Weights = Literal["bundled", "hub", "link", "none"]
"""Where weights are: in the package, on the Hugging Face hub, behind a link on the authors' page, nowhere."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One network at one scale."""

    name: str
    """What users call it: "hit-srf", "hit-srf-df2k"."""
    scale: int
    """How many times it enlarges."""
    family: str
    """Name of its family."""
    variant: str | None
    """Name of its variant; None for a size of its own."""
    cost: Cost
    """What it takes."""
    published: Published | None
    """What its authors publish of it."""
    weights: Weights
    """Where its weights are."""
    licence: str | None
    """Of the weights; None where there are none, or no licence is stated."""


def models(
    *,
    name: str | None = None,
    family: str | None = None,
    scale: int | None = None,
    min_parameters: int | None = None,
    max_parameters: int | None = None,
    also: Iterable[Entry] = (),
) -> list[Entry]:
    """List every network at every scale that passes all filters, family by family.

    Args:
        name: What users call it: "hit-srf", "hit-srf-df2k".
        family: Name of its family: "hit-sr".
        scale: One at which there is a network.
        min_parameters: The least number of learned values.
        max_parameters: The largest number of learned values.
        also: Networks that are not the families' own, such as bundled ones; they come first.

    Raises:
        ValueError: There is no such name or family, or no network at this scale.
    """
    entries = [*also, *(entry for known in FAMILIES.values() for entry in entries_of(known))]
    names = dict.fromkeys(entry.name for entry in entries)
    if name is not None and name not in names:
        raise ValueError(f"no network is called {name!r}{suggest(name, names)}; known: {', '.join(names)}")
    if family is not None:
        family_called(family)
    scales = {entry.scale for entry in entries}
    if scale is not None and scale not in scales:
        raise ValueError(f"scale must be {alternatives(sorted(scales))}, got {scale}")
    return [
        entry
        for entry in entries
        if name in (None, entry.name)
        and family in (None, entry.family)
        and scale in (None, entry.scale)
        and (min_parameters is None or entry.cost.num_parameters >= min_parameters)
        and (max_parameters is None or entry.cost.num_parameters <= max_parameters)
    ]


def entry(name: str, *, scale: int | None = None) -> Entry:
    """One network at one scale, the largest by default.

    Raises:
        ValueError: There is no such name or scale.
    """
    found = {known.scale: known for known in models(name=name)}
    return found[choose_scale(scale, found, of=name)]


def choose_scale(scale: int | None, offered: Collection[int], *, of: object) -> int:
    """The scale that was asked for, or the largest, of those that a model has.

    Args:
        scale: What was asked for; None takes the largest.
        offered: The scales that there are, at least one.
        of: The model's name or file, named in the error.

    Raises:
        ValueError: The scale is not offered.
    """
    if scale is None:
        return max(offered)
    if scale not in offered:
        raise ValueError(f"scale must be {alternatives(sorted(offered))} for {of}, got {scale}")
    return scale


def family_called(name: str) -> Family:
    """The family of a name.

    Raises:
        ValueError: There is none.
    """
    if name not in FAMILIES:
        raise ValueError(f"no family is called {name!r}{suggest(name, FAMILIES)}; known: {', '.join(FAMILIES)}")
    return FAMILIES[name]


def entries_of(family: Family) -> Iterator[Entry]:
    """The networks of a family: every variant at every scale, then its other trainings."""
    published = {(facts.name, facts.scale): facts for facts in family.publication.networks}
    variants = {key: key[0] for key in family.publication.costs} | {
        key: facts.variant for key, facts in published.items()
    }
    for (name, scale), variant in variants.items():
        facts = published.get((name, scale))
        yield Entry(
            name=name,
            scale=scale,
            family=family.name,
            variant=variant,
            cost=family.publication.costs[variant, scale],
            published=facts,
            weights=_where(facts),
            licence=facts.licence if facts else None,
        )


def _where(published: Published | None) -> Weights:
    if published is None or published.file is None:
        return "none"
    return "hub" if published.hub else "link"
