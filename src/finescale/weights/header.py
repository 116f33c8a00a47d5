"""The header of our own weight files: what `finescale.save` states besides the tensors, written and read back."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from typing import Any, TypeVar

from finescale.errors import SettingsError, WeightsError, WeightsMismatchError
from finescale.networks import Frame, family_of
from finescale.settings import Settings, parse_settings
from finescale.weightfiles.messages import first_words, quoted
from finescale.weights.third_party import THIRD_PARTY, ThirdPartyNetwork

S = TypeVar("S", bound=Settings)

FORMAT_VERSION = "1"
"""Version of the header."""

_VERSION_KEY = "finescale_format"


def identity_of(network: Frame | ThirdPartyNetwork) -> tuple[str, str | None]:
    """The family of a network, `THIRD_PARTY` for a third-party one, and the variant with exactly its settings."""
    if isinstance(network, ThirdPartyNetwork):
        return THIRD_PARTY, None
    family = family_of(network)
    variant, differs_in = family.nearest(network.settings)
    return family.name, None if differs_in else variant


def header_of(
    network: Frame | ThirdPartyNetwork, *, source: str, licence: str | None, training: Mapping[str, Any] | None
) -> dict[str, str]:
    """The header of a network's file; see `finescale.save` for the arguments."""
    family, variant = identity_of(network)
    header = {
        "format": "pt",  # asked for by other readers of safetensors
        _VERSION_KEY: FORMAT_VERSION,
        "family": family,
        "scale": str(network.scale),
        "settings": network.settings.model_dump_json(),
        "source": source,
    }
    if variant is not None:
        header["variant"] = variant
    if licence is not None:
        header["licence"] = licence
    if training is not None:
        header["training"] = json.dumps(training)
    return header


def stated_licence(header: Mapping[str, str]) -> str | None:
    """Licence of the weights, where a header of ours or of other tools states one."""
    return next((header[key] for key in ("licence", "license", "modelspec.license") if key in header), None)


def stated_training(header: Mapping[str, str]) -> dict[str, Any] | None:
    """The settings of the training in a header of ours; None where it states none.

    Raises:
        WeightsError: The header is damaged.
    """
    if not states_settings(header) or "training" not in header:
        return None
    try:
        return {**json.loads(header["training"])}
    except (TypeError, ValueError, RecursionError) as error:
        raise WeightsError(f"damaged header ({type(error).__name__}: {first_words(error)})") from None


def states_settings(header: Mapping[str, str]) -> bool:
    """Whether a header is one of ours, which states all settings of the network."""
    return _VERSION_KEY in header


def states_third_party(header: Mapping[str, str]) -> bool:
    """Whether a header is one of ours that states a third-party network."""
    return states_settings(header) and header.get("family") == THIRD_PARTY


def stated_settings(header: Mapping[str, str], family: str, kind: type[S]) -> tuple[S, int]:
    """Settings and scale from a header of ours.

    Args:
        header: One that `states_settings`.
        family: Name of the family that the file's keys are of.
        kind: Class of the settings that its shapes show.

    Raises:
        WeightsError: The header is of another version, or damaged.
        WeightsMismatchError: It states another family.
    """
    if header[_VERSION_KEY] != FORMAT_VERSION:
        raise WeightsError(
            f"its header has format {quoted(header[_VERSION_KEY])}, this version reads {FORMAT_VERSION!r}; "
            "update finescale"
        )
    if header.get("family") != family:
        raise WeightsMismatchError(
            f"its header states family {quoted(str(header.get('family')))}, but its keys are {family}'s"
        )
    try:
        settings = parse_settings(kind, {**json.loads(header["settings"])}, source="settings in its header")
        return settings, int(header["scale"])
    except SettingsError as error:
        raise WeightsError(textwrap.shorten(str(error), 1000, placeholder=" ...")) from None
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise WeightsError(f"damaged header ({type(error).__name__}: {first_words(error)})") from None
