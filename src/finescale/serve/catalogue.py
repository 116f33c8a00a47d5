"""Networks that a server offers, each under an id: those at hand, so that no request leads to a download or a path."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finescale import weights
from finescale.networks import published
from finescale.serve.errors import ApiError
from finescale.settings import alternatives, suggest
from finescale.weights.download import at_hand
from finescale.zoo import NOT_STATED

_MADE_FOR = {
    weights.AUTO: "Chooses for each picture between the next two.",
    "default": "Renders, screenshots, photos of high quality.",
    "default-photo": "Photos that show traces of compression, or noise.",
}


@dataclass(frozen=True)
class Offer:
    """One network at one scale."""

    id: str
    scale: int
    name: str
    """What `finescale.weights.find` takes: a name or a path, which no answer contains."""
    path: Path
    family: str
    num_parameters: int
    licence: str
    made_for: str


class Catalogue:
    """The networks that a server offers: those named at its start, then the bundled and the downloaded ones.

    Args:
        named: Names and weight files from the command line.

    Raises:
        FinescaleError: A named one cannot be used.
        ValueError: There is none of this name.
    """

    def __init__(self, named: Sequence[str] = ()) -> None:
        self._offers: dict[str, dict[int, Offer]] = {}
        for name in named:
            self._add_named(name)
        for scale in [scale for name, scale in weights.bundled() if name == weights.CLEAN]:
            clean = weights.find(weights.CLEAN, scale=scale)
            self._add(weights.AUTO, scale, weights.AUTO, clean, _MADE_FOR[weights.AUTO])
        for name, scale in weights.bundled():
            self._add(name, scale, name, weights.find(name, scale=scale), _MADE_FOR.get(name, ""))
        for (name, scale), facts in published().items():
            path = at_hand(facts)
            if path is not None:
                self._add(name, scale, name, path, "", licence=facts.licence)
        self.default = next(iter(self._offers)) if named else weights.AUTO

    def _add_named(self, name: str) -> None:
        path = Path(name)
        if not path.is_file():
            known = [scale for one, scale in [*weights.bundled(), *published()] if one == name]
            for scale in known or (None,):
                found = weights.find(name, scale=scale)
                self._add(path.name, weights.inspect(found).scale, name, found, _MADE_FOR.get(name, ""))
            return
        network = weights.load(path).network
        stem = path.stem
        if network.scale in self._offers.get(stem, {}) or stem in {known for known, _ in weights.bundled()}:
            stem = next(f"{stem}-{n}" for n in range(2, 1000) if f"{stem}-{n}" not in self._offers)
        num_parameters = sum(parameter.numel() for parameter in network.parameters())
        offer = Offer(
            stem,
            network.scale,
            os.path.abspath(path),  # noqa: PTH100 - links are not resolved
            path,
            type(network).__name__,
            num_parameters,
            NOT_STATED,
            "",
        )
        self._offers.setdefault(stem, {})[network.scale] = offer

    def _add(self, id: str, scale: int, name: str, path: Path, made_for: str, *, licence: str | None = None) -> None:
        if scale in self._offers.get(id, {}):
            return
        facts = weights.inspect(path)
        licence = licence or facts.header.get("licence") or NOT_STATED
        offer = Offer(id, scale, name, path, facts.family, facts.num_parameters, licence, made_for)
        self._offers.setdefault(id, {})[scale] = offer

    def choose(self, id: str | None, scale: int | None) -> Offer:
        """Return the network of an id at a scale, by default the largest.

        Raises:
            ApiError: There is none.
        """
        id = id or self.default
        if id not in self._offers:
            raise ApiError(
                400,
                "unknown_network",
                f"no network is called {id[:100]!r}{suggest(id[:100], self._offers)}",
                f"GET /v1/models lists them: {', '.join(self._offers)}",
            )
        scales = self._offers[id]
        if scale is None:
            return scales[max(scales)]
        if scale not in scales:
            known = alternatives(sorted(scales))
            raise ApiError(400, "unknown_scale", f"scale must be {known} for {id}, got {scale}", f"Send scale={known}.")
        return scales[scale]

    def offers(self) -> list[Offer]:
        """Return every network at every scale."""
        return [offer for scales in self._offers.values() for offer in scales.values()]

    def paths(self) -> list[tuple[str, str]]:
        """Return each weight file's path with the id that stands for it in messages."""
        return [
            (text, offer.id)
            for offer in self.offers()
            for text in {str(offer.path), offer.name, str(offer.path.resolve())}
        ]

    def as_json(self, seconds_per_megapixel: dict[str, float]) -> dict[str, Any]:
        """Return all networks as plain values.

        Args:
            seconds_per_megapixel: Measured seconds per input megapixel, by ``id@scale``.
        """
        return {
            "default": self.default,
            "models": [
                {
                    "id": id,
                    "made_for": next(iter(scales.values())).made_for,
                    "licence": next(iter(scales.values())).licence,
                    "family": next(iter(scales.values())).family,
                    "scales": [
                        {
                            "scale": scale,
                            "parameters": offer.num_parameters,
                            "bytes": offer.path.stat().st_size,
                            "seconds_per_megapixel": seconds_per_megapixel.get(f"{id}@{scale}"),
                        }
                        for scale, offer in sorted(scales.items())
                    ],
                }
                for id, scales in self._offers.items()
            ],
        }
