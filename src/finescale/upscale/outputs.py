"""Where each result of a batch goes, its name, format and final size."""

from __future__ import annotations

import os
import re
import string
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import BeforeValidator, Field, InstanceOf, field_validator, model_validator
from typing_extensions import Self

from finescale.errors import printable_name
from finescale.images import LARGE_FORMATS, WRITABLE_SUFFIXES
from finescale.images.formats import UNWRITABLE_SUFFIXES
from finescale.settings import Settings, suggest
from finescale.system.jobs import entry_keys
from finescale.system.places import Place, RemotePath, place_of
from finescale.system.remote import refuse_web
from finescale.system.search import is_folder
from finescale.upscale.inputs import InputImage

MAX_SIDE = 2**31 - 1
"""Longest side of a result in pixels, which PNG and TIFF hold."""

_LONGEST_NAME = 255  # bytes that file systems allow
_NUMBER = re.compile(r"\d+")


_Place = Annotated[Path | InstanceOf[RemotePath], BeforeValidator(place_of)]

OUTPUT_SUFFIXES = (*WRITABLE_SUFFIXES, ".dzi")
"""Suffixes under which a result can be written, in lower case."""


class OutputSettings(Settings):
    """Place, names, format and final size of the results."""

    folder: _Place | None = None
    """Folder for all results, which mirrors the folders of the inputs; None puts each result beside its input."""
    file: _Place | None = None
    """Path of the result where there is one input."""
    name: str = "{stem}_x{scale}"
    """Name without extension; ``{stem}`` is the input's, ``{scale}`` the network's, ``{network}`` its name."""
    format: str = "png"
    """Extension of the results, without dot."""
    quality: int | None = Field(None, ge=1, le=100)
    """For JPEG, WebP and AVIF, 1 to 100; None takes each format's default."""
    overwrite: bool = False
    """Redo results that exist already."""
    stream: bool | None = None
    """Upscale on disk, with little memory (True), or in memory (False); None decides by each image's size."""
    pyramid: bool = False
    """Store TIFF files with reduced copies of the image, for viewers; they are made on disk."""

    outscale: float | None = Field(None, gt=0, le=MAX_SIDE)
    """Size of the result as a multiple of the input's, by bicubic resizing; None keeps the network's scale."""
    width: int | None = Field(None, ge=1, le=MAX_SIDE)
    """Width of the result in pixels; keeps the aspect ratio unless the height is given too."""
    height: int | None = Field(None, ge=1, le=MAX_SIDE)
    """Height of the result in pixels; keeps the aspect ratio unless the width is given too."""
    long_side: int | None = Field(None, ge=1, le=MAX_SIDE)
    """Longer side of the result in pixels; keeps the aspect ratio."""

    @field_validator("folder")
    @classmethod
    def _check_folder(cls, value: Place | None) -> Place | None:
        if value is not None:
            check_folder_name(value)
        return value

    @field_validator("file")
    @classmethod
    def _check_file(cls, value: Place | None) -> Place | None:
        if value is not None:
            refuse_web(value)
        return value

    @field_validator("format")
    @classmethod
    def _check_format(cls, value: str) -> str:
        known = [suffix[1:] for suffix in OUTPUT_SUFFIXES]
        if value.lower().lstrip(".") not in known:
            raise ValueError(f"format must be one of {', '.join(known)}{suggest(value, known)}")
        return value.lower().lstrip(".")

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        known = ("stem", "scale", "network")
        try:
            parts = [(field, spec or "") for _, field, spec, _ in string.Formatter().parse(value) if field is not None]
        except ValueError as error:
            raise ValueError(f"not a template ({error})") from None
        fields = [field for field, _ in parts]
        for field, spec in parts:
            if field not in known:
                raise ValueError(
                    f"unknown field {{{field}}}{suggest(field, known)}; known: {{stem}} {{scale}} {{network}}"
                )
            if "{" in spec or any(
                len(number) > 3 or int(number) > _LONGEST_NAME for number in re.findall(r"\d+", spec)
            ):
                raise ValueError(f"the format of {{{field}}} may only hold numbers up to {_LONGEST_NAME}")
        try:
            value.format(stem="stem", scale=4, network="network")
        except ValueError as error:
            raise ValueError(f"not a template ({error})") from None
        if "stem" not in fields:
            raise ValueError("a name without {stem} would be the same for every picture")
        if "/" in value or os.sep in value or "\0" in value:
            raise ValueError("a name must not contain folders or null bytes; choose the folder with -o")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        sizes = [self.outscale, self.long_side, self.width or self.height]
        if sum(size is not None for size in sizes) > 1:
            raise ValueError("outscale, long_side and width/height are mutually exclusive")
        suffix = f".{self.format}" if self.file is None else self.file.suffix.lower()
        if self.pyramid and suffix not in (".tif", ".tiff"):
            raise ValueError(f"only TIFF files are pyramids, got {suffix[1:]}; choose the format tif, or dzi alone")
        if self.is_for_viewers or self.stream:
            what = "a pyramid" if self.pyramid else "dzi" if self.is_for_viewers else "stream"
            if self.stream is False or any(size is not None for size in sizes):
                raise ValueError(f"{what} is made on disk, which no-stream and a final size rule out")
            if suffix not in LARGE_FORMATS:
                raise ValueError(f"{suffix[1:]} is not written on disk row by row; choose {_names(LARGE_FORMATS)}")
        return self

    @property
    def is_for_viewers(self) -> bool:
        """Whether results hold an image in several sizes."""
        return self.pyramid or (self.format == "dzi" if self.file is None else self.file.suffix.lower() == ".dzi")

    def final_size(self, lr: tuple[int, int], sr: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of the result, for an input of size ``lr`` that the network upscales to ``sr``."""
        height, width = lr
        if self.outscale is not None:
            return _at_least_one(height * self.outscale, width * self.outscale)
        if self.long_side is not None:
            return _at_least_one(*(side * self.long_side / max(lr) for side in lr))
        if self.width and self.height:
            return self.height, self.width
        if self.width:
            return _at_least_one(height * self.width / width, self.width)
        if self.height:
            return _at_least_one(self.height, width * self.height / height)
        return sr


def _names(suffixes: Iterable[str]) -> str:
    *others, last = (suffix[1:] for suffix in suffixes)
    return f"{', '.join(others)} or {last}"


def check_folder_name(folder: Place) -> None:
    """Refuse a name that is meant for something else than a folder of results.

    Raises:
        ValueError: It is "-", or ends like a picture in a format that is not written, or is an address of the web.
    """
    refuse_web(folder)
    if folder.name == "-":
        raise ValueError("results cannot be written to standard output; name a folder or a file")
    if folder.suffix.lower() in UNWRITABLE_SUFFIXES and not is_folder_of_results(folder):
        known = " ".join(OUTPUT_SUFFIXES)
        raise ValueError(f"pictures are not written as {folder.suffix}; name a folder, or a file that ends in {known}")


def is_folder_of_results(place: Place) -> bool:
    """Return whether a name that ends like a picture is that of a folder."""
    return place.is_folder_name if isinstance(place, RemotePath) else is_folder(place)


def _at_least_one(height: float, width: float) -> tuple[int, int]:
    return max(1, round(height)), max(1, round(width))


@dataclass(frozen=True)
class Job:
    """An input and where its result goes."""

    input: Place
    output: Place | None
    """None where no result can be made."""
    reason: str | None = None
    """Why no result can be made."""


def plan_jobs(
    inputs: Iterable[InputImage], settings: OutputSettings, *, scale: int, network: str
) -> tuple[list[Job], list[Place]]:
    """Decide where each result goes, so that no two results collide and none replaces an input.

    The first of several inputs whose results would have the same name gets that name. The name of the second one
    includes its input's extension (``cat.jpg_x4.png`` beside ``cat_x4.png``), and those of further ones as many folders
    as are needed (``b_cat.jpg_x4.png``). The names depend on the inputs alone, not on which results exist already.

    Args:
        inputs: The images to upscale.
        settings: Place and names of the results.
        scale: The network's, for the names.
        network: Name of the network, for the names.

    Returns:
        The jobs; and the images found in a folder or by a pattern that are left out since their names are those of
        other images' results, as when a folder is upscaled a second time.

    Raises:
        ValueError: ``settings.file`` is given for several inputs.
    """
    inputs = list(inputs)
    check_one_result(inputs, settings)

    entry_key = entry_keys()

    def output(image: InputImage, stem: str) -> tuple[Place, str]:
        path = _output(image, settings, stem, scale, network)
        return path, entry_key(path)

    remaining = [_Planned(image, entry_key(image.path), *output(image, image.path.stem)) for image in inputs]
    results: set[Place] = set()
    while True:
        jobs, made = _assign(remaining, output)
        found = {one.image.path for one in remaining if not one.image.is_named and one.key in made}
        if not found:
            return jobs, [image.path for image in inputs if image.path in results]
        results |= found
        remaining = [one for one in remaining if one.image.path not in found]


class _Planned(NamedTuple):
    """An input, and the result that it has unless that is another's; their keys are those of `entry_keys`."""

    image: InputImage
    key: str
    choice: Place
    choice_key: str


def _assign(
    inputs: Sequence[_Planned], output: Callable[[InputImage, str], tuple[Place, str]]
) -> tuple[list[Job], set[str]]:
    """Give each input a result of its own, and return the keys of the results too.

    They may be keys of inputs that were found in a folder or by a pattern: those are results of an earlier run.
    """
    protected = {one.key for one in inputs if one.image.is_named or one.key == one.choice_key}
    first: dict[str, _Planned] = {}
    for one in inputs:
        first.setdefault(one.choice_key, one)
    taken = set(first)
    jobs = []
    for one in inputs:
        path = one.image.path
        if one.choice_key in protected:
            jobs.append(Job(path, None, f"{printable_name(one.choice)}: the result would replace an input"))
            continue
        if first[one.choice_key] is one:
            jobs.append(Job(path, one.choice))
            continue
        for stem in _longer_stems(path):
            choice, key = output(one.image, stem)
            if key not in taken and key not in protected:
                taken.add(key)
                jobs.append(Job(path, choice))
                break
        else:
            reason = "every name for its result is that of another picture or result; rename it"
            jobs.append(Job(path, None, f"{printable_name(path)}: {reason}"))
    return jobs, taken - protected


def _longer_stems(path: Place) -> Iterator[str]:
    """Names of an input that tell it from others of its stem: with its extension, then with ever more folders."""
    stem = path.name
    yield stem
    whole = path if isinstance(path, RemotePath) else Path(os.path.abspath(path))  # noqa: PTH100 - keeps links
    for folder in whole.parents:
        if folder.name:
            stem = f"{folder.name}_{stem}"
            yield stem


def check_one_result(inputs: Sequence[InputImage], settings: OutputSettings) -> None:
    """Refuse several inputs where the path of one result is given.

    Raises:
        ValueError: ``settings.file`` is given for several inputs.
    """
    if settings.file is not None and len(inputs) > 1:
        raise ValueError(
            f"{printable_name(settings.file)} can hold one result, got {len(inputs)} inputs; name a folder"
        )


def _output(image: InputImage, settings: OutputSettings, stem: str, scale: int, network: str) -> Place:
    if settings.file is not None:
        return settings.file
    folder = image.path.parent if settings.folder is None else settings.folder / (image.within or "")
    return folder / f"{settings.name.format(stem=stem, scale=scale, network=network)}.{settings.format}"
