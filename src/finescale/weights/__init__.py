"""Weight file -> family, settings, network; and back.

What network a file holds, its keys and shapes say, or the header that `save` writes. Everything is checked before a
network is built, on PyTorch's "meta" device, so that no file makes us allocate more than it holds.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from finescale.errors import (
    DeviceError,
    SettingsError,
    UnknownNetworkError,
    WeightsError,
    WeightsMismatchError,
)
from finescale.networks import (
    FAMILIES,
    SCALES,
    Family,
    Frame,
    FrameSettings,
    Published,
    family_of,
    published,
    variants,
)
from finescale.quantize.modules import is_quantized
from finescale.quantize.packing import Quantized, to_file
from finescale.quantize.settings import QuantSettings
from finescale.settings import parse_settings, suggest
from finescale.weightfiles.tensors import (
    RawState,
    as_float32,
    first_words,
    name_of,
    quoted,
    refuse_absurd_numbering,
    refuse_integers,
    write_state,
)
from finescale.weights import download
from finescale.weights import quantized as quantized_files
from finescale.weights.lookalikes import looks_like

FORMAT_VERSION = "1"
"""Version of our header, under the key "finescale_format"."""

BUNDLED = Path(__file__).parents[1] / "bundled"
"""Weight files that come with the package, ``{name}_x{scale}.safetensors``."""

_FOR_PHOTOS = {"default": "default-photo"}
"""Beside a bundled model that was trained on clean pictures, the one for pictures from the web."""

_VERSION_KEY = "finescale_format"


@dataclass(frozen=True, eq=False, kw_only=True)
class Inspection:
    """What a weight file is."""

    path: Path
    """The file."""
    format: str
    """See `RawState`, as for the next three."""
    wrapper: str | None
    prefix: str
    header: Mapping[str, str]
    family: str
    """Name of the family, such as "hit-sr"."""
    variant: str | None
    """Name of the variant with exactly these settings; None where there is none."""
    nearest: str
    """The variant whose settings differ least, or ``variant`` itself."""
    differs_in: tuple[str, ...]
    """The fields in which the nearest variant has other values."""
    scale: int
    """2, 3 or 4."""
    settings: FrameSettings
    """From our header where the file has it, else from the shapes."""
    num_parameters: int
    """Values that were learned."""
    dtype: str
    """As stored: "float32", or several in alphabetical order."""
    quantization: QuantSettings | None
    """How it is quantized; None for a float network."""
    notes: tuple[str, ...]
    """What was converted, ignored or assumed, one sentence each."""
    doubts: tuple[str, ...]
    """What may be assumed wrongly: published networks that the tensors fit as well, one sentence each."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Loaded(Inspection):
    """A network and all that is known about its file."""

    network: Frame
    """float32, in evaluation mode; quantized where its file is."""


# ---- from file to network


def load(
    path: Path | str, *, scale: int | None = None, device: str = "cpu", settings: Mapping[str, Any] | None = None
) -> Loaded:
    """Read a weight file and build the network that it holds.

    Args:
        path: A ``.safetensors`` or ``.pth`` file, ours, a published one or a community one, under any name.
        scale: The scale that the file must have; None takes any.
        device: Where the network goes, such as "cpu" or "cuda".
        settings: Fields that a file of others does not show, where they are not the published ones: ``image_range``,
            ``mean``, and what the family's file names besides.

    Raises:
        WeightsError: The file is missing, empty, damaged or not a weight file, or has values that no network can use.
        UnsafeWeightsError: It contains code; none of it was run.
        UnknownNetworkError: Its keys are those of no known family.
        WeightsMismatchError: Its tensors do not fit the network that its keys announce.
        ValueError: The scale is not that of the file, or ``settings`` were given for a file that states its own.
        SettingsError: ``settings`` has unknown or wrong values.
        DeviceError: There is no such device.
    """
    path = Path(path)
    facts, state, quantized = _examine(path, settings or {})
    if scale not in (None, facts.scale):
        raise ValueError(f"scale must be {facts.scale} for {path}, got {scale}")
    return _build(facts, state, quantized, device)


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
        name: See `find`.
        scale: The scale that the network must have; see `find` for None.
        device: See `load`.
        offline: See `find`.
        settings: See `load`; they go before what is known by the name.

    Raises:
        ValueError: As for `find` and `load`.
        SettingsError: As for `load`.
        DownloadError: As for `find`.
        MissingExtraError: As for `find`.
        WeightsError: As for `find` and `load`; `WeightsMismatchError` also where the file is not the published network.
        DeviceError: There is no such device.
    """
    path, announced = _locate(name, scale=scale, offline=offline)
    if announced is None:
        return load(path, scale=scale, device=device, settings=settings)
    given = settings or {}
    should = f"{path}: should hold {announced.variant} x{announced.scale}"
    try:
        facts, state, quantized = _examine(path, given, announced)
    except UnknownNetworkError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise WeightsMismatchError(f"{should}, but {reason}; replace it by the authors' file") from None
    family = variants()[announced.variant]
    unlike = (
        set(family.differing(facts.settings, announced.variant)) - set(given) if facts.family == family.name else {}
    )
    if facts.family != family.name or facts.scale != announced.scale or unlike:
        held = facts.variant or f"a network nearest to {facts.nearest}, which differs in {', '.join(facts.differs_in)},"
        raise WeightsMismatchError(f"{should}, but holds {held} x{facts.scale}; replace it by the authors' file")
    return _build(facts, state, quantized, device)


def _is(facts: Inspection, announced: Published, given: Mapping[str, Any]) -> bool:
    """Whether a file holds the published network, but for the fields that the caller has set."""
    family = variants()[announced.variant]
    if (facts.family, facts.scale) != (family.name, announced.scale):
        return False
    return set(family.differing(facts.settings, announced.variant)) <= set(given)


def _build(facts: Inspection, state: Mapping[str, Tensor], quantized: Quantized | None, device: str) -> Loaded:
    """The network of a file that was examined."""
    with torch.random.fork_rng(devices=[]):  # initial values are drawn and overwritten; callers' random numbers stay
        network = FAMILIES[facts.family].network(settings=facts.settings, scale=facts.scale)
    network.load_state_dict(state)
    if quantized is not None:
        _attach(facts.path, FAMILIES[facts.family], network, quantized)
    move(network, device)
    return Loaded(**vars(facts), network=network.eval())


def _attach(path: Path, family: Family, network: Frame, quantized: Quantized) -> None:
    """Put the quantizers of a file into its network."""
    try:
        quantized.attach(network, family.quantization.placement(network.settings))
    except ValueError as error:
        raise WeightsMismatchError(f"{path}: its quantization does not fit its network: {first_words(error)}") from None


def move(network: nn.Module, device: str) -> None:
    """Put a network on a device.

    Raises:
        DeviceError: There is no such device.
    """
    try:
        network.to(device)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(f"device {device!r} cannot be used ({first_words(error)}); use 'cpu'") from None


def inspect(path: Path | str, *, settings: Mapping[str, Any] | None = None) -> Inspection:
    """Tell what a weight file is, with every check of `load` and nothing built.

    Args:
        path: See `load`.
        settings: See `load`.

    Raises:
        WeightsError: As for `load`.
        ValueError: As for `load`.
        SettingsError: As for `load`.
    """
    return _examine(Path(path), settings or {})[0]


def _examine(
    path: Path, overrides: Mapping[str, Any], announced: Published | None = None
) -> tuple[Inspection, dict[str, Tensor], Quantized | None]:
    """Everything about a file, its tensors as the strict network takes them, in float32, and its quantization."""
    content = quantized_files.read(path)
    raw, quantized = content.raw, content.quantized
    family = _recognise(path, raw)
    overrides = {**content.known, **overrides}
    if announced is not None:
        overrides = {**_known_by_name(raw, family, announced), **overrides}
    state = {key: tensor for key, tensor in raw.state.items() if not key.endswith(tuple(family.files.derivable))}
    settings, scale = _settings(path, raw, family, state, overrides)
    _check_constants(path, raw, family.files.constants(settings))
    nearest, differs_in = family.nearest(settings)
    try:
        network = _meta_network(family, settings, scale)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise WeightsMismatchError(f"{path}: no {family.name} network has its sizes ({first_words(error)})") from None
    difference = _difference(state, network)
    if difference:
        also = f", which differs in {', '.join(differs_in)}" if differs_in else ""
        raise WeightsMismatchError(
            f"{path}: a {family.name} network (nearest variant: {nearest}{also}), but {difference}"
        )
    if quantized is not None:
        _attach(path, family, network, quantized)
    counts = {key for key, tensor in network.state_dict().items() if not tensor.is_floating_point()}
    dtypes = sorted({name_of(tensor.dtype) for key, tensor in state.items() if key not in counts})
    facts = Inspection(
        path=path,
        format=raw.format,
        wrapper=raw.wrapper,
        prefix=raw.prefix,
        header=raw.header,
        family=family.name,
        variant=None if differs_in else nearest,
        nearest=nearest,
        differs_in=tuple(differs_in),
        scale=scale,
        settings=settings,
        num_parameters=sum(parameter.numel() for parameter in network.parameters()),
        dtype=", ".join(dtypes) if quantized is None else f"{quantized.settings.bits}-bit integers",
        quantization=None if quantized is None else quantized.settings,
        notes=tuple(_notes(raw, family, settings, ignored=len(raw.state) - len(state), dtypes=dtypes, given=overrides)),
        doubts=tuple(_doubts(path, raw, family, settings, given=overrides)),
    )
    return (
        facts,
        {key: tensor.long() if key in counts else as_float32(path, key, tensor) for key, tensor in state.items()},
        quantized,
    )


def _notes(
    raw: RawState,
    family: Family,
    settings: FrameSettings,
    *,
    ignored: int,
    dtypes: list[str],
    given: Mapping[str, Any],
) -> list[str]:
    notes = []
    if others := [dtype for dtype in dtypes if dtype != "float32"]:
        notes.append(f"{' and '.join(others)} is converted to float32")
    if ignored:
        notes.append(f"{ignored} buffers that the network computes itself are ignored")
    unseen = [field for field in family.files.unseen(settings, raw.state) if field not in given]
    assumed = [f"{field} = {getattr(settings, field)}" for field in unseen]
    if _VERSION_KEY not in raw.header and assumed:
        notes.append(f"assumed, since shapes do not show it: {'; '.join(assumed)}")
    return notes


def _doubts(
    path: Path, raw: RawState, family: Family, settings: FrameSettings, *, given: Mapping[str, Any]
) -> list[str]:
    """The published networks that a file may hold as well, for all that it shows, where nobody said which."""
    if _VERSION_KEY in raw.header:
        return []
    unseen = [field for field in family.files.unseen(settings, raw.state) if field not in given]
    doubts = []
    for variant, other in family.variants.items():
        differing = family.differing(settings, variant)
        if differing and set(differing) <= set(unseen):
            values = " ".join(f"--set '{field}={_plain(getattr(other, field))}'" for field in differing)
            doubts.append(f"{path}: its tensors fit {variant} as well; if it is that, say {values}")
    return doubts


def _plain(value: Any) -> str:
    """A value as a settings file has it."""
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def _known_by_name(raw: RawState, family: Family, announced: Published) -> dict[str, Any]:
    """The published network's values of fields that its file does not show; none where it shows or states them."""
    settings = family.variants.get(announced.variant)
    if settings is None or _VERSION_KEY in raw.header:
        return {}
    return {field: getattr(settings, field) for field in family.files.unseen(settings, raw.state)}


def _recognise(path: Path, raw: RawState) -> Family:
    """The family whose marks the keys carry."""
    found = [family for family in FAMILIES.values() if family.files.recognises(raw.state)]
    if found:
        return found[0]
    for key, tensor in raw.state.items():
        if key.endswith(".weight"):
            refuse_integers(path, key, tensor)
    first = quoted(next(iter(raw.state)))
    likeness = looks_like(raw.state)
    seems = f"looks like {likeness}; " if likeness else ""
    known = ", ".join(FAMILIES)
    raise UnknownNetworkError(f"{path}: {seems}no known family has its keys (first: {first}); known: {known}")


def _settings(
    path: Path, raw: RawState, family: Family, state: Mapping[str, Tensor], overrides: Mapping[str, Any]
) -> tuple[FrameSettings, int]:
    """Settings and scale: as the shapes show them, completed by our header or by the caller."""
    refuse_absurd_numbering(path, state)
    try:
        shown, scale = family.files.from_state(raw.state)
    except (LookupError, ValueError) as error:
        raise WeightsMismatchError(_sizeless(path, family, state, error)) from None
    if _VERSION_KEY not in raw.header:
        values = {**shown.model_dump(), **overrides}
        return parse_settings(type(shown), values, source=f"settings for {path}"), scale
    if overrides:
        raise ValueError(f"settings must be left out for {path}, whose header states them, got {dict(overrides)}")
    stated, stated_scale = _stated(path, raw.header, family)
    facts = [("scale", stated_scale, scale)]
    facts += [(field, getattr(stated, field), getattr(shown, field)) for field in type(shown).model_fields]
    unseen = family.files.unseen(shown, raw.state)
    for name, claim, fact in facts:
        if claim != fact and name not in unseen and not _is_factor(fact):
            raise WeightsMismatchError(f"{path}: its header states {name} = {claim}, but its tensors show {fact}")
    return stated, scale


def _check_constants(path: Path, raw: RawState, constants: Mapping[str, Tensor]) -> None:
    """A file whose constants a training has changed holds another network than the published one."""
    for end, constant in constants.items():
        for key, tensor in raw.state.items():
            if key.endswith(end) and not torch.equal(tensor.float(), constant):
                raise WeightsMismatchError(
                    f"{path}: {quoted(key)} does not have the values that the network has there, which are constant; "
                    "a training has changed them, or the file is of another network"
                )


def _is_factor(value: Any) -> bool:
    """Whether a field is a ratio or several: seen only after rounding, so left to the comparison of shapes."""
    return isinstance(value[0] if isinstance(value, tuple) else value, float)


def _stated(path: Path, header: Mapping[str, str], family: Family) -> tuple[FrameSettings, int]:
    """Settings and scale from a header that `save` wrote."""
    if header[_VERSION_KEY] != FORMAT_VERSION:
        raise WeightsError(
            f"{path}: its header has format {quoted(header[_VERSION_KEY])}, this version reads {FORMAT_VERSION!r}; "
            "update finescale"
        )
    if header.get("family") != family.name:
        raise WeightsMismatchError(
            f"{path}: its header states family {quoted(str(header.get('family')))}, but its keys are {family.name}'s"
        )
    kind = type(next(iter(family.variants.values())))
    try:
        settings = parse_settings(kind, {**json.loads(header["settings"])}, source=f"{path}: settings in its header")
        return settings, int(header["scale"])
    except SettingsError as error:
        raise WeightsError(textwrap.shorten(str(error), 1000, placeholder=" ...")) from None
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: damaged header ({type(error).__name__}: {first_words(error)})") from None


def _sizeless(path: Path, family: Family, state: Mapping[str, Tensor], error: Exception) -> str:
    """Why no settings can be told from a family's file, and how it differs from the variant that it resembles most."""
    if isinstance(error, KeyError):
        reason = f"its size cannot be told without {quoted(str(error.args[0]))}"
    elif isinstance(error, ValidationError):
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
    else:
        reason = "its size cannot be told from its shapes"
    candidates = [
        (_difference(state, _meta_network(family, settings, scale)), f"{variant} x{scale}")
        for variant, settings in family.variants.items()
        for scale in SCALES
    ]
    difference, nearest = min(candidates, key=lambda candidate: candidate[0].count)
    return f"{path}: a {family.name} network, but {reason}; against {nearest}, the nearest variant, {difference}"


def _meta_network(family: Family, settings: FrameSettings, scale: int) -> Frame:
    """A network of shapes alone."""
    with torch.device("meta"):
        return family.network(settings=settings, scale=scale)


@dataclass(frozen=True, kw_only=True)
class _Difference:
    """How a file's keys and shapes differ from a network's; true where they do."""

    missing: list[str]
    unexpected: list[str]
    misshaped: list[str]
    """ "'key' of shape (2, 3) instead of (3, 2)"."""

    @property
    def count(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.misshaped)

    def __bool__(self) -> bool:
        return self.count > 0

    def __str__(self) -> str:
        kinds = [
            (len(self.missing), "missing", [quoted(key) for key in self.missing[:1]]),
            (len(self.unexpected), "unexpected", [quoted(key) for key in self.unexpected[:1]]),
            (len(self.misshaped), "misshaped", self.misshaped[:1]),
        ]
        told = [
            f"{count} {'key is' if count == 1 else 'keys are'} {kind} (first: {first[0]})"
            for count, kind, first in kinds
            if count
        ]
        return ", ".join(told)


def _difference(state: Mapping[str, Tensor], network: nn.Module) -> _Difference:
    expected = network.state_dict()
    return _Difference(
        # Counters of batches may be missing, as many converted files have lost them: they change no answer.
        missing=[key for key, tensor in expected.items() if key not in state and tensor.is_floating_point()],
        unexpected=[key for key in state if key not in expected],
        misshaped=[
            f"{quoted(key)} of shape {tuple(state[key].shape)} instead of {tuple(tensor.shape)}"
            for key, tensor in expected.items()
            if key in state and state[key].shape != tensor.shape
        ],
    )


# ---- from network to file


def save(
    network: Frame,
    path: Path | str,
    *,
    source: str,
    licence: str | None = None,
    training: Mapping[str, Any] | None = None,
    published_buffers: bool = False,
) -> None:
    """Write a network as safetensors, with a header that says all that the tensors do not.

    The file appears under its name when it is whole, and the same network gives the same bytes. The weights of a
    quantized network are stored as integers of its bits, by which it gives the same answers.

    Args:
        network: Its parameters are stored as float32.
        path: Where to; must end in ``.safetensors``. An existing file is replaced.
        source: Where the weights come from: a training's name, or the paper or address they were taken from.
        licence: Of the weights, as an SPDX identifier where there is one: "Apache-2.0".
        training: The settings of the training, as plain values.
        published_buffers: Also write what the published code keeps in a state dict though it can be derived: that code
            and tools that know the network by it, such as spandrel, then read the file. It may be twice as large.

    Raises:
        ValueError: The name has another ending, the family has no such buffers, or they are asked for a quantized
            network; or a network's quantizers have no bounds yet.
        WeightsError: A tensor has NaN or infinity, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"weights are saved as .safetensors, got the name {path.name!r}")
    family = family_of(network)
    if published_buffers and family.files.buffers is None:
        offered = ", ".join(name for name, other in FAMILIES.items() if other.files.buffers)
        raise ValueError(f"published_buffers must be False for {family.name}; they are offered for {offered}")
    if published_buffers and is_quantized(network):
        raise ValueError(
            "published_buffers must be False for a quantized network; that code reads none of our integers"
        )
    variant, differs_in = family.nearest(network.settings)
    header = {
        "format": "pt",  # asked for by other readers of safetensors
        _VERSION_KEY: FORMAT_VERSION,
        "family": family.name,
        "scale": str(network.scale),
        "settings": network.settings.model_dump_json(),
        "source": source,
    }
    if not differs_in:
        header["variant"] = variant
    if licence is not None:
        header["licence"] = licence
    if training is not None:
        header["training"] = json.dumps(training)
    state = {
        key: as_float32(path, key, tensor.detach().cpu()) if tensor.is_floating_point() else tensor.cpu()
        for key, tensor in network.state_dict().items()
    }
    if published_buffers and family.files.buffers:
        state |= family.files.buffers(network)
    if is_quantized(network):
        state, header[quantized_files.HEADER_KEY] = to_file(network, state)
    write_state(path, state, header)


# ---- names of models


def bundled() -> list[tuple[str, int]]:
    """Name and scale of every model whose weights come with the package."""
    names = (re.fullmatch(r"(.+)_x([234])", path.stem) for path in BUNDLED.glob("*.safetensors"))
    return sorted((name[1], int(name[2])) for name in names if name)


def for_photos(name: str | Path, *, scale: int) -> str | None:
    """The bundled model for compressed pictures that may be taken in place of one that was trained on clean pictures.

    Args:
        name: A model's name, see `find`.
        scale: 2, 3 or 4.

    Returns:
        The other's name; None where there is none at this scale, or the name does not stand for a bundled model.
    """
    other = None if Path(name).is_file() else _FOR_PHOTOS.get(str(name))
    return other if other and (other, scale) in bundled() else None


def fetch(name: str, *, scale: int | None = None, offline: bool = False) -> Path:
    """The weight file of a published network: from the hub or the cache, or where a person has put it.

    Args:
        name: Its name, such as "hit-srf" or "hit-srf-df2k".
        scale: 2, 3 or 4; the largest published one by default.
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
        scale: Which of a bundled or published model's files, the largest by default; `load` checks it for files of
            any origin.
        offline: Touch no network: what was fetched before is found, nothing is fetched.

    Raises:
        WeightsError: No file of that name exists, or the variant is known but nobody publishes its weights.
        DownloadError: Published weights can neither be found nor fetched, or have changed since they were fetched.
        MissingExtraError: They must be fetched from the hub, and the hub's client is not installed.
        ValueError: Nothing of that name is known, or a bundled or published model lacks the scale.
    """
    return _locate(name, scale=scale, offline=offline)[0]


def _locate(name: str | Path, *, scale: int | None, offline: bool) -> tuple[Path, Published | None]:
    """The file, and what is published of its network where that is what the name stands for; see `find`."""
    path = Path(name)
    if path.is_file():
        return path, None
    name = str(name)
    scales = [offered for model, offered in bundled() if model == name]
    if scales:
        return BUNDLED / f"{name}_x{_one_of(scales, name, scale)}.safetensors", None
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
    return published()[name, _one_of(scales, name, scale)] if scales else None


def _one_of(scales: list[int], name: str, scale: int | None) -> int:
    """The scale that was asked for, or the largest, of those that a model has."""
    if scale is None:
        return max(scales)
    if scale not in scales:
        *most, last = map(str, sorted(scales))
        offered = f"{', '.join(most)} or {last}" if most else last
        raise ValueError(f"scale must be {offered} for {name}, got {scale}")
    return scale
