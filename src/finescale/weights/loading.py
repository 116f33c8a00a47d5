"""Loading of a weight file, given by its path or by a name, as a network with all that is known about it.

Each step calls the next lower one only: name -> file -> stored tensors -> match -> network. The path of the file is put
before messages here, in one place.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import nn

from finescale.errors import DeviceError, SettingsError
from finescale.networks import Frame, Published
from finescale.weightfiles.messages import first_words, naming
from finescale.weights.header import states_settings
from finescale.weights.names import locate
from finescale.weights.quantized import Content, read
from finescale.weights.recognition import Match, build, recognise, recognise_by_spandrel
from finescale.weights.third_party import THIRD_PARTY, ThirdPartyNetwork
from finescale.zoo import choose_scale

logger = logging.getLogger("finescale")


@dataclass(frozen=True, eq=False, kw_only=True)
class Inspection(Match):
    """The network in a weight file, as recognised without building it."""

    path: Path
    """The file."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Loaded(Inspection):
    """A network, and all that is known about its file."""

    network: Frame | ThirdPartyNetwork
    """float32, in evaluation mode; quantized where its file is."""


def load(
    path: Path | str, *, scale: int | None = None, device: str = "cpu", settings: Mapping[str, Any] | None = None
) -> Loaded:
    """Read a weight file and build the network that it holds.

    Args:
        path: A ``.safetensors`` or ``.pth`` file, ours, a published one or a community one, under any name; a
            third-party one is read by spandrel.
        scale: The scale that the file must have; None takes any.
        device: Where the network goes, such as "cpu" or "cuda".
        settings: Fields that a file without our header does not show, where they are not the published ones:
            ``image_range``, ``mean``, and what the family's file names besides.

    Raises:
        WeightsError: The file is missing, empty, damaged or not a weight file, or has values that no network can use.
        UnsafeWeightsError: It contains code; none of it was run.
        UnknownNetworkError: Its keys are those of no known family, and spandrel is missing or does not know it either.
        WeightsMismatchError: Its tensors do not fit the network that its keys announce.
        ValueError: The scale is not that of the file, or ``settings`` were given for a file that states its own, or for
            a third-party network.
        SettingsError: ``settings`` has unknown or wrong values.
        DeviceError: There is no such device.
    """
    return _load(Path(path), None, scale=scale, device=device, settings=settings)


def load_named(
    name: str | Path,
    *,
    scale: int | None = None,
    device: str = "cpu",
    offline: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> Loaded:
    """Read the weight file that a name stands for, with all that is known by the name.

    Args:
        name: One of the names that `finescale.weights.find` takes.
        scale: The scale that the network must have; None takes that of a file, and the largest of a model's.
        device: Where the network goes, such as "cpu" or "cuda".
        offline: Touch no network: what was fetched before is found, nothing is fetched.
        settings: Fields that the file does not show, as for `load`; they go before what is known by the name.

    Raises:
        ValueError: As for `finescale.weights.find` and `load`.
        SettingsError: As for `load`.
        DownloadError: As for `finescale.weights.find`.
        MissingExtraError: As for `finescale.weights.find`.
        WeightsError: As for `finescale.weights.find` and `load`; `WeightsMismatchError` also where the file is not the
            published network.
        DeviceError: There is no such device.
    """
    path, announced = locate(name, scale=scale, offline=offline)
    return _load(path, announced, scale=scale, device=device, settings=settings)


def inspect(path: Path | str, *, settings: Mapping[str, Any] | None = None) -> Inspection:
    """Recognise the network in a weight file, with every check of `load`, without building it.

    Args:
        path: A ``.safetensors`` or ``.pth`` file, as for `load`.
        settings: Fields that the file does not show, as for `load`.

    Raises:
        WeightsError: As for `load`.
        ValueError: As for `load`.
        SettingsError: As for `load`.
    """
    path = Path(path)
    _, match = _recognised(path, None, settings or {})
    return Inspection(**_facts(path, match))


def move(network: nn.Module, device: str) -> None:
    """Put a network on a device.

    Raises:
        DeviceError: There is no such device.
    """
    try:
        network.to(device)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(f"device {device!r} cannot be used ({first_words(error)}); use 'cpu'") from None


def _load(
    path: Path, announced: Published | None, *, scale: int | None, device: str, settings: Mapping[str, Any] | None
) -> Loaded:
    content, match = _recognised(path, announced, settings or {})
    choose_scale(scale, [match.scale], of=path)
    network = build(content, match)
    move(network, device)
    loaded = Loaded(**_facts(path, match), network=network)
    if loaded.family == THIRD_PARTY:
        for doubt in loaded.doubts:
            logger.info(doubt)
    return loaded


def load_by_spandrel(path: Path, *, device: str = "cpu") -> Loaded:
    """Read a weight file by spandrel even where one of our families knows its network.

    Args:
        path: A ``.safetensors`` or ``.pth`` file, under any name.
        device: Where the network goes, such as "cpu" or "cuda".

    Raises:
        MissingExtraError: spandrel is not installed, or cannot be imported.
        WeightsError: The file is missing or cannot be used, or its network does not upscale or restore pictures;
            `UnknownNetworkError` where spandrel knows no network with these keys.
        DeviceError: There is no such device.
    """
    with naming(path):
        match = recognise_by_spandrel(read(path))
    move(match.network, device)
    return Loaded(**_facts(path, match), network=match.network)


def _recognised(path: Path, announced: Published | None, given: Mapping[str, Any]) -> tuple[Content, Match]:
    """Read a file and recognise its network; errors name the file."""
    try:
        with naming(path):
            content = read(path)
            if given and states_settings(content.stored.header):
                raise ValueError(f"settings must be left out for {path}, whose header states them, got {dict(given)}")
            match = recognise(content, given=given, announced=announced)
    except SettingsError as error:
        raise SettingsError(f"settings for {path}: {error}") from None
    if given and match.family == THIRD_PARTY:
        raise ValueError(f"settings must be left out for {path}, a third-party network, got {dict(given)}")
    return content, match


def _facts(path: Path, match: Match) -> dict[str, Any]:
    """The fields of an `Inspection`."""
    known = {field.name: getattr(match, field.name) for field in fields(Match)}
    return {**known, "path": path, "doubts": tuple(f"{path}: {doubt}" for doubt in match.doubts)}
