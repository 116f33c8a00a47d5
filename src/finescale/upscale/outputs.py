"""Where each result of a batch goes, its name, format and final size."""

from __future__ import annotations

import os
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from finescale.errors import printable_name
from finescale.images import WRITABLE_SUFFIXES
from finescale.images.formats import UNWRITABLE_SUFFIXES
from finescale.settings import Settings, suggest
from finescale.system.jobs import collision_key
from finescale.upscale.inputs import InputImage


class OutputSettings(Settings):
    """Place, names, format and final size of the results."""

    folder: Path | None = None
    """Folder for all results, which mirrors the folders of the inputs; None puts each result beside its input."""
    file: Path | None = None
    """Path of the result where there is one input."""
    name: str = "{stem}_x{scale}"
    """Name without extension; ``{stem}`` is the input's, ``{scale}`` the network's, ``{network}`` its name."""
    format: str = "png"
    """Extension of the results, without dot."""
    quality: int | None = Field(None, ge=1, le=100)
    """For JPEG, WebP and AVIF, 1 to 100; None takes each format's default."""
    overwrite: bool = False
    """Redo results that exist already."""

    outscale: float | None = Field(None, gt=0)
    """Size of the result as a multiple of the input's, by bicubic resizing; None keeps the network's scale."""
    width: int | None = Field(None, ge=1)
    """Width of the result in pixels; keeps the aspect ratio unless the height is given too."""
    height: int | None = Field(None, ge=1)
    """Height of the result in pixels; keeps the aspect ratio unless the width is given too."""
    long_side: int | None = Field(None, ge=1)
    """Longer side of the result in pixels; keeps the aspect ratio."""

    @field_validator("folder")
    @classmethod
    def _check_folder(cls, value: Path | None) -> Path | None:
        if value is not None and value.name == "-":
            raise ValueError("results cannot be written to standard output; name a folder or a file")
        if value is not None and value.suffix.lower() in UNWRITABLE_SUFFIXES and not value.is_dir():
            known = " ".join(WRITABLE_SUFFIXES)
            raise ValueError(
                f"pictures are not written as {value.suffix}; name a folder, or a file that ends in {known}"
            )
        return value

    @field_validator("format")
    @classmethod
    def _check_format(cls, value: str) -> str:
        known = [suffix[1:] for suffix in WRITABLE_SUFFIXES]
        if value.lower().lstrip(".") not in known:
            raise ValueError(f"format must be one of {', '.join(known)}{suggest(value, known)}")
        return value.lower().lstrip(".")

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        known = ("stem", "scale", "network")
        try:
            fields = [field for _, field, _, _ in string.Formatter().parse(value) if field is not None]
        except ValueError as error:
            raise ValueError(f"not a template ({error})") from None
        for field in fields:
            if field not in known:
                raise ValueError(
                    f"unknown field {{{field}}}{suggest(field, known)}; known: {{stem}} {{scale}} {{network}}"
                )
        if "stem" not in fields:
            raise ValueError("a name without {stem} would be the same for every picture")
        if "/" in value or os.sep in value:
            raise ValueError("a name must not contain folders; choose the folder with -o")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        sizes = [self.outscale, self.long_side, self.width or self.height]
        if sum(size is not None for size in sizes) > 1:
            raise ValueError("outscale, long_side and width/height are mutually exclusive")
        return self

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


def _at_least_one(height: float, width: float) -> tuple[int, int]:
    return max(1, round(height)), max(1, round(width))


@dataclass(frozen=True)
class Job:
    """An input and where its result goes."""

    input: Path
    output: Path | None
    """None where no result can be made."""
    reason: str | None = None
    """Why no result can be made."""


def plan_jobs(
    inputs: Iterable[InputImage], settings: OutputSettings, *, scale: int, network: str
) -> tuple[list[Job], list[Path]]:
    """Decide where each result goes, so that no two results collide and none replaces an input.

    Where two inputs would have results of the same name (``cat.png`` and ``cat.jpg``), the name of the second one
    includes its input's extension (``cat.jpg_x4.png``).

    Args:
        inputs: The images to upscale.
        settings: Place and names of the results.
        scale: The network's, for the names.
        network: Name of the network, for the names.

    Returns:
        The jobs; and the images of a folder that are left out since their names are those of other images' results, as
        when a folder is upscaled a second time.

    Raises:
        ValueError: ``settings.file`` is given for several inputs.
    """
    inputs = list(inputs)
    check_one_result(inputs, settings)
    first_choice = {image.path: _output(image, settings, image.path.stem, scale, network) for image in inputs}
    makers = {_key(output): path for path, output in first_choice.items()}
    results = [
        image.path
        for image in inputs
        if image.within is not None and makers.get(_key(image.path), image.path) != image.path
    ]
    inputs = [image for image in inputs if image.path not in results]
    taken_by_inputs = {_key(image.path) for image in inputs}
    taken: set[str] = set()
    jobs = []
    for image in inputs:
        output = first_choice[image.path]
        if _key(output) in taken:
            output = _output(image, settings, image.path.name, scale, network)
        if _key(output) in taken_by_inputs:
            jobs.append(Job(image.path, None, f"{printable_name(output)}: the result would replace an input"))
            continue
        taken.add(_key(output))
        jobs.append(Job(image.path, output))
    return jobs, results


def check_one_result(inputs: Sequence[InputImage], settings: OutputSettings) -> None:
    """Refuse several inputs where the path of one result is given.

    Raises:
        ValueError: ``settings.file`` is given for several inputs.
    """
    if settings.file is not None and len(inputs) > 1:
        raise ValueError(
            f"{printable_name(settings.file)} can hold one result, got {len(inputs)} inputs; name a folder"
        )


def _output(image: InputImage, settings: OutputSettings, stem: str, scale: int, network: str) -> Path:
    if settings.file is not None:
        return settings.file
    folder = image.path.parent if settings.folder is None else settings.folder / (image.within or "")
    return folder / f"{settings.name.format(stem=stem, scale=scale, network=network)}.{settings.format}"


def _key(path: Path) -> str:
    return collision_key(os.path.abspath(path))  # noqa: PTH100 - links are not resolved
