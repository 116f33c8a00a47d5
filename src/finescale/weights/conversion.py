"""Conversion of any readable weight file: to safetensors, to the `.pth` that published code loads, or for spandrel.

A file that we write as safetensors states all settings of its network. A `.pth` holds tensors alone, as published ones
do: what they do not show is not in it, and is refused unless its readers are told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from finescale.errors import WeightsError, WeightsMismatchError
from finescale.networks import FAMILIES, Frame
from finescale.networks.family import TRAINING_ALONE, Key
from finescale.weightfiles.messages import naming
from finescale.weightfiles.tensors import StoredTensors, as_float32, read_tensors, write_archive, write_tensors
from finescale.weights.header import header_of, stated_licence, stated_training
from finescale.weights.loading import Loaded, load
from finescale.weights.quantized import Content
from finescale.weights.recognition import recognise
from finescale.weights.saving import save, stored_state
from finescale.weights.third_party import THIRD_PARTY, check_answers

SUFFIXES = (".safetensors", ".pth")
"""Endings of the files that can be written."""

Reader = Literal["spandrel"]
"""Tools whose needs are met on request."""


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A converted file."""

    source: Path
    """The file that was read."""
    output: Path
    """The file that was written."""
    network: str
    """What it holds, in words: "hit-srf x4", "craft x4 at 4 bits", "ESRGAN x4, read by spandrel"."""
    key: Key | None
    """Under which a ``.pth`` has the state dict; None for safetensors."""
    num_derived: int
    """How many tensors were added that the published code keeps though they can be derived."""
    unstated: Mapping[str, Any] = field(default_factory=dict)
    """Settings that the file neither states nor shows; those besides `TRAINING_ALONE` must be told to its readers."""
    notes: tuple[str, ...] = ()
    """What was assumed or left out in reading, one sentence each."""


def convert(
    file: Path | str,
    output: Path | str,
    *,
    key: Key | None = None,
    reader: Reader | None = None,
    image_size: int | None = None,
    settings: Mapping[str, Any] | None = None,
    allow_unstated: bool = False,
) -> Conversion:
    """Write the network of any readable weight file in another form, in which it gives the same answers bit for bit.

    Args:
        file: Ours, a published, a community or a third-party one, quantized or not; the last are read by spandrel.
        output: Where to. ``.safetensors`` gets a header with all settings. ``.pth`` is as published code loads it
            strictly, with the tensors that it keeps though they can be derived. An existing file is replaced.
        key: Under which a ``.pth`` has the state dict, "none" for a bare one; None is where the published code of the
            family seeks it.
        reader: "spandrel" also adds those tensors to safetensors, by which spandrel and the tools built on it recognise
            a network, and checks the answers that spandrel gives.
        image_size: The ``img_size`` that published code is built with, by which its masks are cut; by default that of
            the published networks.
        settings: Fields that the file does not show, as for `finescale.weights.load`.
        allow_unstated: Write a ``.pth`` even where its tensors do not show all settings that answers depend on.

    Raises:
        WeightsError: The file cannot be used, as for `finescale.weights.load`; or the new one cannot be written.
        WeightsMismatchError: spandrel does not know the network, or gives other answers.
        MissingExtraError: spandrel is needed, and is not installed.
        ValueError: The name has another ending, an argument does not fit the form, the network is quantized and the
            form cannot hold it, or a setting would be lost.
        SettingsError: ``settings`` has unknown or wrong values.
    """
    file, output = Path(file), Path(output)
    if output.suffix not in SUFFIXES:
        raise ValueError(f"a converted file ends in {' or '.join(SUFFIXES)}, got the name {output.name!r}")
    is_archive = output.suffix == ".pth"
    if key is not None and not is_archive:
        raise ValueError(f"key must be left out for {output.suffix}, whose state dict is bare, got {key!r}")
    if image_size is not None and not is_archive and reader is None:
        raise ValueError(f"image_size is for files that hold masks, .pth or those for spandrel, got {image_size}")
    loaded = load(file, settings=settings)
    if loaded.quantization is not None and (is_archive or reader is not None):
        raise ValueError(
            f"{file}: a network of {loaded.quantization.bits}-bit integers, which neither published code nor spandrel "
            "can read; convert it to .safetensors"
        )
    if loaded.family == THIRD_PARTY:
        if image_size is not None:
            raise ValueError(f"image_size must be left out for {file}, a third-party network, got {image_size}")
        return _convert_third_party(loaded, output, key=key)
    return _convert(loaded, output, key=key, reader=reader, image_size=image_size, allow_unstated=allow_unstated)


def _convert(
    loaded: Loaded,
    output: Path,
    *,
    key: Key | None,
    reader: Reader | None,
    image_size: int | None,
    allow_unstated: bool,
) -> Conversion:
    """Convert a network of ours."""
    network, files = loaded.network, FAMILIES[loaded.family].files
    assert isinstance(network, Frame)  # since its family is one of ours
    is_archive = output.suffix == ".pth"
    derived = files.derived(network, image_size=image_size) if is_archive or reader is not None else {}
    tensors = {**stored_state(network), **derived}
    if reader is not None:
        check_answers(network, _stored(tensors), path=loaded.path)
    unstated: dict[str, Any] = {}
    if is_archive:
        key = key or files.key
        unstated = _unstated(loaded, tensors)
        lost = {name: value for name, value in unstated.items() if name not in TRAINING_ALONE}
        if lost and not allow_unstated:
            values = ", ".join(f"{name} = {value}" for name, value in lost.items())
            raise ValueError(
                f"{loaded.path}: a .pth cannot state {values}; convert it to .safetensors, or give --unstated where "
                "its readers are told otherwise"
            )
        with naming(output):
            write_archive(output, tensors, key=None if key == "none" else key)
    else:
        with naming(loaded.path):
            training = stated_training(loaded.header)
        save(
            network,
            output,
            source=loaded.header.get("source", loaded.path.name),
            licence=stated_licence(loaded.header),
            training=training,
            published_buffers=reader is not None,
            image_size=image_size,
        )
    bits = f" at {loaded.quantization.bits} bits" if loaded.quantization else ""
    return Conversion(
        source=loaded.path,
        output=output,
        network=f"{loaded.variant or loaded.family} x{loaded.scale}{bits}",
        key=key,
        num_derived=len(derived),
        unstated=unstated,
        notes=(*loaded.notes, *loaded.doubts),
    )


def _convert_third_party(loaded: Loaded, output: Path, *, key: Key | None) -> Conversion:
    """Convert a third-party network: its tensors, as they are called in its file; integers as they are saved."""
    source = loaded.header.get("source", loaded.path.name)
    licence = stated_licence(loaded.header)
    if loaded.quantization is not None:
        save(loaded.network, output, source=source, licence=licence)
    else:
        with naming(loaded.path):
            stored = read_tensors(loaded.path)
            tensors = {
                name: as_float32(name, tensor) if tensor.is_floating_point() else tensor
                for name, tensor in stored.tensors.items()
            }
        with naming(output):
            if output.suffix == ".pth":
                key = key or "params"
                write_archive(output, tensors, key=None if key == "none" else key)
            else:
                ours = header_of(loaded.network, source=source, licence=licence, training=None)
                write_tensors(output, tensors, {**stored.header, **ours})
    return Conversion(
        source=loaded.path,
        output=output,
        network=f"{loaded.nearest} x{loaded.scale}, read by spandrel",
        key=key,
        num_derived=0,
        notes=(*loaded.doubts, *loaded.notes),
    )


def _unstated(loaded: Loaded, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The settings of a network that are read differently from its tensors alone.

    Raises:
        WeightsError: From its tensors alone it is not read at all, or as another network.
    """
    try:
        match = recognise(Content(stored=_stored(tensors)), given={})
    except WeightsError as error:
        raise type(error)(f"{loaded.path}: a .pth of it could not be read ({error}); convert to .safetensors") from None
    if (match.family, match.scale) != (loaded.family, loaded.scale):
        raise WeightsMismatchError(
            f"{loaded.path}: a .pth of it would be read as {match.family} x{match.scale}; convert to .safetensors"
        )
    ours = loaded.settings
    differing = [name for name in type(ours).model_fields if getattr(ours, name) != getattr(match.settings, name)]
    return {name: getattr(ours, name) for name in differing}


def _stored(tensors: Mapping[str, Tensor]) -> StoredTensors:
    """Tensors as a file without a header holds them."""
    return StoredTensors(format="torch", wrapper=None, prefix="", header={}, tensors=tensors)
