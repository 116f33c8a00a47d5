"""Names of models, and the weight files that they stand for: paths, bundled and published models, hub repositories."""

from __future__ import annotations

import re
from pathlib import Path

from finescale.errors import WeightsError
from finescale.networks import Published, published, variants
from finescale.settings import suggest
from finescale.weights import download
from finescale.zoo import choose_scale

BUNDLED = Path(__file__).parents[1] / "bundled"
"""Weight files that come with the package, ``{name}_x{scale}.safetensors``."""

AUTO, CLEAN, PHOTO = "auto", "default", "default-photo"
"""What stands for a choice by each picture's looks, and the bundled models for clean pictures and for those from the
web, at the same scales."""


def bundled() -> list[tuple[str, int]]:
    """Name and scale of every model whose weights come with the package."""
    names = (re.fullmatch(r"(.+)_x(\d+)", path.stem) for path in BUNDLED.glob("*.safetensors"))
    return sorted((name[1], int(name[2])) for name in names if name)


def for_photos(name: str | Path) -> str | None:
    """Return the bundled model that is better than another on compressed pictures; None if the other is not bundled.

    Args:
        name: A model's name, one of those that `find` takes.
    """
    return PHOTO if str(name) == CLEAN and not Path(name).is_file() else None


def fetch(name: str, *, scale: int | None = None, offline: bool = False) -> Path:
    """The weight file of a published network: from the hub, from the cache, or where the user has put it.

    Args:
        name: Its name, such as "hit-srf" or "hit-srf-df2k".
        scale: One that is published; the largest by default.
        offline: Touch no network.

    Raises:
        ValueError: No published network has this name, or not at this scale.
        DownloadError: The file can neither be found nor fetched, or has changed since it was fetched.
        MissingExtraError: It must be fetched from the hub, and the hub's client is not installed.
    """
    facts = _published(name, scale)
    if facts is None:
        known = sorted({model for model, _ in published()})
        raise ValueError(f"no published network is called {name!r}{suggest(name, known)}; known: {', '.join(known)}")
    return download.fetch(facts, offline=offline)


def find(name: str | Path, *, scale: int | None = None, offline: bool = False) -> Path:
    """The weight file that a model's name stands for.

    Args:
        name: One of these, the first that there is: a path to a weight file; the name of a bundled model; the name of a
            published network, whose weights are fetched where their authors offer them on the hub; "owner/name" of a
            repository on the hub.
        scale: Which of a bundled or published model's files, the largest by default; `finescale.weights.load` checks it
            for files of any origin.
        offline: Touch no network: what was fetched before is found, nothing is fetched.

    Raises:
        WeightsError: No file of that name exists, or the variant is known but nobody publishes its weights.
        DownloadError: Published weights can neither be found nor fetched, or have changed since they were fetched.
        MissingExtraError: They must be fetched from the hub, and the hub's client is not installed.
        ValueError: Nothing of that name is known, or a bundled or published model lacks the scale.
    """
    return locate(name, scale=scale, offline=offline)[0]


def locate(name: str | Path, *, scale: int | None, offline: bool) -> tuple[Path, Published | None]:
    """The weight file that a name stands for, as `find` finds it, and what is published of its network.

    Returns:
        The file; and the facts where the name is that of a published network, else None.
    """
    path = Path(name)
    if path.is_file():
        return path, None
    name = str(name)
    if name == AUTO:
        raise ValueError(f"'auto' chooses for each picture, in upscale and serve alone; name one, such as {CLEAN!r}")
    scales = [offered for model, offered in bundled() if model == name]
    if scales:
        return BUNDLED / f"{name}_x{choose_scale(scale, scales, of=name)}.safetensors", None
    facts = _published(name, scale)
    if facts is not None:
        return download.fetch(facts, offline=offline), facts
    if name in variants():
        raise WeightsError(f"{name}: no weights of it are bundled or published; give the path of a weight file")
    if path.suffix in (".pth", ".pt", ".safetensors"):
        raise WeightsError(f"{name}: there is no such file")
    if download.is_repository(name):
        return download.fetch_repository(name, offline=offline), None
    if path.name != name:
        raise WeightsError(f"{name}: there is no such file")
    models = sorted({model for model, _ in [*bundled(), *published()]})
    known = f"known: {', '.join(models)}, or" if models else "give"
    raise ValueError(f"no model is called {name!r}{suggest(name, models)}; {known} the path of a weight file")


def _published(name: str, scale: int | None) -> Published | None:
    """What is published under a name, at a scale or the largest; None where the name is not a published network's."""
    scales = [offered for model, offered in published() if model == name]
    return published()[name, choose_scale(scale, scales, of=name)] if scales else None
