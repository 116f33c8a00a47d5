"""Registry of all families: those of the package, those of installed packages, and those that a script registers.

An installed package offers a family by an entry point of the group `GROUP` that names its `Family`. Entry points are
loaded when a family is first asked for, so that the module of such a package may itself import `finescale.networks`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Literal

from finescale.networks.family import Family

GROUP = "finescale.families"
"""Group of the entry points."""

logger = logging.getLogger("finescale")


class Families(Mapping[str, Family]):
    """All families by name: those of the package first, then others in the order of their registration.

    Args:
        own: The families of the package.

    Attributes:
        families: Those that are known so far, which entry points may add to.
    """

    def __init__(self, own: Iterable[Family]) -> None:
        self.families = {family.name: family for family in own}
        self._lock = threading.RLock()
        self._stage: Literal["new", "loading", "complete"] = "new"

    def __getitem__(self, name: str) -> Family:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._all()))

    def __len__(self) -> int:
        return len(self._all())

    def register(self, family: Family) -> None:
        """Add a family; see `finescale.register`."""
        with self._lock:
            known = self._all()
            if known.get(family.name) is not family:
                _check(family, known.values())
                known[family.name] = family

    def _all(self) -> dict[str, Family]:
        """The families, with those of entry points; a family that is registered meanwhile sees what there is so far."""
        if self._stage != "complete":
            with self._lock:
                if self._stage == "new":
                    self._stage = "loading"
                    for entry in entry_points(group=GROUP):
                        self._load(entry)
                    self._stage = "complete"
        return self.families

    def _load(self, entry: EntryPoint) -> None:
        """Register the family of an entry point; one that cannot be used is logged, so that others stay usable."""
        try:
            family = entry.load()
            if not isinstance(family, Family):
                raise TypeError(f"{entry.value} is {type(family).__name__}, not a finescale.networks.Family")
            self.register(family)
        except Exception as error:  # whatever code of other packages raises
            package = entry.dist.name if entry.dist else "unknown"
            logger.warning(
                "the family %r of the package %r is left out (%s: %s); repair or uninstall the package",
                *(entry.name, package, type(error).__name__, error),
            )


def _check(family: Family, known: Iterable[Family]) -> None:
    """Refuse a family that is incomplete, or that cannot be told from another.

    Raises:
        ValueError: As for `finescale.register`.
    """
    if not family.variants:
        raise ValueError(f"family {family.name!r} must have at least one variant, got none")
    if not family.files.marks:
        raise ValueError(f"family {family.name!r} must have files.marks, keys that no other family has; got none")
    for other in known:
        if other.name == family.name:
            raise ValueError(f"another family is called {family.name!r}; give this one a name of its own")
        classes = set(family.options.classes if family.options else ())
        shared = {
            "variants": set(family.variants) & set(other.variants),
            "classes of settings": {kind.__name__ for kind in set(family.settings_kinds) & set(other.settings_kinds)},
            "names of published classes": classes & set(other.options.classes if other.options else ()),
        }
        for what, names in shared.items():
            if names:
                raise ValueError(
                    f"family {family.name!r} has {what} of {other.name!r} ({', '.join(sorted(names))}); give it its own"
                )
