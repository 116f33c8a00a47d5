"""Recognition of the network that stored tensors belong to: family, settings and scale, checked before it is built.

Keys and shapes show which network they belong to, or the header that `finescale.save` writes. The check is a network on
PyTorch's "meta" device, so that no file makes us allocate more than it holds. Errors do not name the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from finescale.errors import MissingExtraError, SettingsError, UnknownNetworkError, WeightsMismatchError
from finescale.networks import FAMILIES, Family, Frame, FrameSettings, Published, variants
from finescale.networks.placement import Placement
from finescale.quantize.packing import Quantized
from finescale.quantize.settings import QuantSettings
from finescale.settings import mistakes_of
from finescale.weightfiles.messages import first_words, quoted
from finescale.weightfiles.tensors import (
    StoredTensors,
    as_float32,
    dtype_name,
    refuse_absurd_numbering,
    refuse_integers,
)
from finescale.weights.difference import difference
from finescale.weights.header import stated_settings, states_settings, states_third_party
from finescale.weights.lookalikes import looks_like
from finescale.weights.quantized import Content
from finescale.weights.third_party import THIRD_PARTY, ThirdPartyNetwork, ThirdPartySettings, read_third_party


@dataclass(frozen=True, eq=False, kw_only=True)
class Match:
    """The network that the tensors of a weight file belong to."""

    format: str
    """As in `finescale.weightfiles.tensors.StoredTensors`, like the next three."""
    wrapper: str | None
    prefix: str
    header: Mapping[str, str]
    family: str
    """Name of the family, such as "hit-sr"; "third-party" for a network that spandrel reads."""
    variant: str | None
    """Name of the variant with exactly these settings; None where there is none."""
    nearest: str
    """The variant whose settings differ least, or ``variant`` itself; of a third-party network the architecture."""
    differs_in: tuple[str, ...]
    """The fields in which the nearest variant has other values."""
    scale: int
    """How many times it enlarges."""
    settings: FrameSettings | ThirdPartySettings
    """From our header where the file has one, else from the shapes."""
    num_parameters: int
    """Number of learned values."""
    dtype: str
    """As stored: "float32", or several in alphabetical order."""
    quantization: QuantSettings | None
    """The settings of its quantization; None for a float network."""
    notes: tuple[str, ...]
    """What was converted, ignored or assumed, one sentence each."""
    doubts: tuple[str, ...]
    """What may be assumed wrongly: published networks that the tensors fit as well, one sentence each."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ThirdPartyMatch(Match):
    """A third-party network, which spandrel builds when it recognises it."""

    network: ThirdPartyNetwork
    """float32, in evaluation mode; quantized where its file is."""


def recognise(content: Content, *, given: Mapping[str, Any], announced: Published | None = None) -> Match:
    """Find the network that a file's tensors belong to, and check that they fit it.

    Args:
        content: Of the file.
        given: Fields that the caller states; none where our header states them all.
        announced: What is published under the name by which the file was asked for; it must be that network.

    Raises:
        UnknownNetworkError: The keys are those of no known family, and spandrel does not help.
        WeightsMismatchError: The tensors do not fit the network that the keys, or the name, announce.
        WeightsError: A tensor has values that no network can use, or our header is damaged.
        SettingsError: ``given`` has unknown or wrong values.
    """
    if announced is None:
        if states_third_party(content.stored.header):
            return recognise_by_spandrel(content)
        try:
            return _recognise(content, given=given, announced=None)
        except UnknownNetworkError as refusal:
            try:
                return recognise_by_spandrel(content)
            except (MissingExtraError, UnknownNetworkError) as reason:
                raise UnknownNetworkError(f"{refusal}; {reason}") from None
    should = f"should hold {announced.variant} x{announced.scale}"
    try:
        match = _recognise(content, given=given, announced=announced)
    except UnknownNetworkError as error:
        raise WeightsMismatchError(f"{should}, but {error}; replace it by the authors' file") from None
    if not _is_announced(match, announced, given):
        held = match.variant or f"a network nearest to {match.nearest}, which differs in {', '.join(match.differs_in)},"
        raise WeightsMismatchError(f"{should}, but holds {held} x{match.scale}; replace it by the authors' file")
    return match


def recognise_by_spandrel(content: Content) -> ThirdPartyMatch:
    """Let spandrel recognise and build the network of a file.

    Raises:
        MissingExtraError: spandrel is not installed, or cannot be imported.
        WeightsError: As for `read_third_party`, or our header is damaged or states what the tensors do not fit.
    """
    stored, quantized = content.stored, content.quantized
    stated = scale = None
    if states_third_party(stored.header):
        stated, scale = stated_settings(stored.header, THIRD_PARTY, ThirdPartySettings)
    network = read_third_party(stored, stated)
    if scale not in (None, network.scale):
        raise WeightsMismatchError(f"its header states scale = {scale}, but its tensors show {network.scale}")
    if quantized is not None:
        _attach(quantized, network, Placement() if quantized.traced is None else quantized.traced.placement)
    dtypes = sorted({dtype_name(tensor.dtype) for tensor in stored.tensors.values() if tensor.is_floating_point()})
    return ThirdPartyMatch(
        format=stored.format,
        wrapper=stored.wrapper,
        prefix=stored.prefix,
        header=stored.header,
        family=THIRD_PARTY,
        variant=None,
        nearest=network.architecture,
        differs_in=(),
        scale=network.scale,
        settings=network.settings,
        num_parameters=network.num_parameters,
        dtype=", ".join(dtypes) if quantized is None else f"{quantized.settings.bits}-bit integers",
        quantization=None if quantized is None else quantized.settings,
        notes=stored.notes,
        doubts=network.notes,
        network=network,
    )


def build(content: Content, match: Match) -> Frame | ThirdPartyNetwork:
    """Build the network of a file, in float32 and evaluation mode; it is quantized if the file is.

    Args:
        content: Of the file.
        match: What `recognise` found in it.
    """
    if isinstance(match, ThirdPartyMatch):
        return match.network
    family = FAMILIES[match.family]
    with torch.random.fork_rng(devices=[]):  # initial values are drawn and overwritten; callers' random numbers stay
        network = family.network(settings=match.settings, scale=match.scale)
    network.load_state_dict(_without_derivable(content.stored.tensors, family))
    if content.quantized is not None:
        _attach(content.quantized, network, family.quantization.placement(network.settings))
    return network.eval()


def _recognise(content: Content, *, given: Mapping[str, Any], announced: Published | None) -> Match:
    stored, quantized = content.stored, content.quantized
    family = _family_of(stored)
    given = {**content.known, **given}
    if announced is not None:
        given = {**_known_by_name(stored, family, announced), **given}
    tensors = _without_derivable(stored.tensors, family)
    refuse_absurd_numbering(tensors)
    settings, scale = _settings(stored, family, tensors, given)
    _check_constants(stored.tensors, family.files.constants(settings))
    nearest, differs_in = family.nearest(settings)
    network = _checked_network(tensors, family, settings, scale)
    if quantized is not None:
        _attach(quantized, network, family.quantization.placement(network.settings))
    counters = {key for key, tensor in network.state_dict().items() if not tensor.is_floating_point()}
    numbers = {key: tensor for key, tensor in tensors.items() if key not in counters}
    for key, tensor in numbers.items():
        as_float32(key, tensor)
    dtypes = sorted({dtype_name(tensor.dtype) for tensor in numbers.values()})
    ignored = len(stored.tensors) - len(tensors)
    unseen = [] if states_settings(stored.header) else _unseen(stored, family, settings, given)
    varying = [words for field, words in family.files.varying.items() if field in differs_in]
    return Match(
        format=stored.format,
        wrapper=stored.wrapper,
        prefix=stored.prefix,
        header=stored.header,
        family=family.name,
        variant=None if differs_in else nearest,
        nearest=nearest,
        differs_in=tuple(differs_in),
        scale=scale,
        settings=settings,
        num_parameters=sum(parameter.numel() for parameter in network.parameters()),
        dtype=", ".join(dtypes) if quantized is None else f"{quantized.settings.bits}-bit integers",
        quantization=None if quantized is None else quantized.settings,
        notes=(*stored.notes, *_notes(settings, ignored=ignored, dtypes=dtypes, unseen=unseen), *varying),
        doubts=tuple(_doubts(settings, family, unseen=unseen)),
    )


def _is_announced(match: Match, announced: Published, given: Mapping[str, Any]) -> bool:
    """Whether a file holds the published network, apart from the fields that the caller has set."""
    family = variants()[announced.variant]
    if (match.family, match.scale) != (family.name, announced.scale):
        return False
    assert isinstance(match.settings, FrameSettings)  # since a family of ours recognises it
    return set(family.differing(match.settings, announced.variant)) <= {*given, *family.files.varying}


# ---- which family


def _family_of(stored: StoredTensors) -> Family:
    """The family whose marks the keys carry; of several, the one that our header states, or else the last registered.

    The families of the package exclude each other, but a registered one may extend another.
    """
    tensors = stored.tensors
    found = {name: family for name, family in FAMILIES.items() if family.files.recognises(tensors)}
    if found:
        stated = stored.header.get("family") if states_settings(stored.header) else None
        return found.get(str(stated)) or [*found.values()][-1]
    for key, tensor in tensors.items():
        if key.endswith(".weight"):
            refuse_integers(key, tensor)
    first = quoted(next(iter(tensors)))
    likeness = looks_like(tensors)
    seems = f"looks like {likeness}; " if likeness else ""
    raise UnknownNetworkError(f"{seems}no known family has its keys (first: {first}); known: {', '.join(FAMILIES)}")


def _without_derivable(tensors: Mapping[str, Tensor], family: Family) -> dict[str, Tensor]:
    """A file's tensors without the buffers that the network computes itself."""
    return {key: tensor for key, tensor in tensors.items() if not key.endswith(tuple(family.files.derivable))}


# ---- which settings


def _settings(
    stored: StoredTensors, family: Family, tensors: Mapping[str, Tensor], given: Mapping[str, Any]
) -> tuple[FrameSettings, int]:
    """Settings and scale: as the shapes show them, completed by our header or by what is known otherwise."""
    try:
        shown, scale = family.files.from_state(stored.tensors)
    except (LookupError, ValueError) as error:
        raise WeightsMismatchError(_without_size(tensors, family, error)) from None
    if not states_settings(stored.header):
        try:
            return type(shown).model_validate({**shown.model_dump(), **given}), scale
        except ValidationError as error:
            raise SettingsError(mistakes_of(type(shown), error)) from None
    stated, stated_scale = stated_settings(stored.header, family.name, type(shown))
    facts = [("scale", stated_scale, scale)]
    facts += [(field, getattr(stated, field), getattr(shown, field)) for field in type(shown).model_fields]
    unseen = family.files.unseen(shown, stored.tensors)
    for name, claim, fact in facts:
        if claim != fact and name not in unseen and not _is_ratio(fact):
            raise WeightsMismatchError(f"its header states {name} = {claim}, but its tensors show {fact}")
    return stated, scale


def _is_ratio(value: Any) -> bool:
    """Whether a field holds ratios: shapes show them only rounded, so the comparison of shapes checks them."""
    return isinstance(value[0] if isinstance(value, tuple) else value, float)


def _known_by_name(stored: StoredTensors, family: Family, announced: Published) -> dict[str, Any]:
    """The published network's values of fields that its file does not show; none where it shows or states them."""
    settings = family.variants.get(announced.variant)
    if settings is None or states_settings(stored.header):
        return {}
    return {field: getattr(settings, field) for field in family.files.unseen(settings, stored.tensors)}


def _unseen(stored: StoredTensors, family: Family, settings: FrameSettings, given: Mapping[str, Any]) -> list[str]:
    """The fields whose values are assumed: neither the file nor the caller states them."""
    return [field for field in family.files.unseen(settings, stored.tensors) if field not in given]


def _without_size(tensors: Mapping[str, Tensor], family: Family, error: Exception) -> str:
    """Explain why a family's file shows no settings, and how it differs from the most similar variant."""
    if isinstance(error, KeyError):
        reason = f"its size cannot be determined without {quoted(str(error.args[0]))}"
    elif isinstance(error, ValidationError):
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
    else:
        reason = "its size cannot be determined from its shapes"
    candidates = [
        (difference(tensors, _meta_network(family, settings, scale)), f"{variant} x{scale}")
        for variant, settings in family.variants.items()
        for scale in family.scales(variant)
    ]
    found, nearest = min(candidates, key=lambda candidate: candidate[0].count)
    return f"a {family.name} network, but {reason}; against {nearest}, the nearest variant, {found}"


# ---- whether everything fits


def _checked_network(tensors: Mapping[str, Tensor], family: Family, settings: FrameSettings, scale: int) -> Frame:
    """A network without values, which the tensors fit."""
    try:
        network = _meta_network(family, settings, scale)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise WeightsMismatchError(f"no {family.name} network has its sizes ({first_words(error)})") from None
    found = difference(tensors, network)
    if found:
        nearest, differs_in = family.nearest(settings)
        also = f", which differs in {', '.join(differs_in)}" if differs_in else ""
        raise WeightsMismatchError(f"a {family.name} network (nearest variant: {nearest}{also}), but {found}")
    return network


def _meta_network(family: Family, settings: FrameSettings, scale: int) -> Frame:
    """A network without values."""
    with torch.device("meta"):
        return family.network(settings=settings, scale=scale)


def _check_constants(tensors: Mapping[str, Tensor], constants: Mapping[str, Tensor]) -> None:
    """Refuse a file whose constants a training has changed: it holds another network than the published one."""
    for end, constant in constants.items():
        for key, tensor in tensors.items():
            if key.endswith(end) and not torch.equal(tensor.float(), constant):
                raise WeightsMismatchError(
                    f"{quoted(key)} does not have the values that the network has there, which are constant; "
                    "a training has changed them, or the file is of another network"
                )


def _attach(quantized: Quantized, network: Frame | ThirdPartyNetwork, placement: Placement) -> None:
    """Put the quantizers of a file into its network."""
    try:
        quantized.attach(network, placement)
    except ValueError as error:
        raise WeightsMismatchError(f"its quantization does not fit its network: {first_words(error)}") from None


# ---- what a user should know


def _notes(settings: FrameSettings, *, ignored: int, dtypes: list[str], unseen: list[str]) -> list[str]:
    notes = []
    if others := [dtype for dtype in dtypes if dtype != "float32"]:
        notes.append(f"{' and '.join(others)} is converted to float32")
    if ignored:
        notes.append(f"{ignored} buffers that the network computes itself are ignored")
    if unseen:
        assumed = "; ".join(f"{field} = {getattr(settings, field)}" for field in unseen)
        notes.append(f"assumed, since shapes do not show it: {assumed}")
    return notes


def _doubts(settings: FrameSettings, family: Family, *, unseen: list[str]) -> list[str]:
    """The published networks that differ from these settings only in fields whose values are assumed."""
    doubts = []
    for variant, other in family.variants.items():
        differing = family.differing(settings, variant)
        if differing and set(differing) <= set(unseen):
            values = as_flags({field: getattr(other, field) for field in differing})
            doubts.append(f"its tensors also fit {variant}; if it is that network, pass {values}")
    return doubts


def as_flags(settings: Mapping[str, Any]) -> str:
    """Settings as the flags of the command line that state them."""
    return " ".join(
        f"--set '{name}={json.dumps(list(value) if isinstance(value, tuple) else value)}'"
        for name, value in settings.items()
    )
