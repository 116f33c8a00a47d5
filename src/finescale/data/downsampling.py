"""Low-resolution pictures made of folders of HR images."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator
from torch import Tensor
from typing_extensions import Self

from finescale.data.degradation import DegradationSettings, degrade
from finescale.data.folders import claim_folder
from finescale.data.hr_images import HRImage, as_text, read_hr_image, write_levels
from finescale.errors import DataError, printable_name
from finescale.resize import MAX_SCALE, Variant, downsample
from finescale.settings import Settings
from finescale.system.jobs import FileReport, find_namesakes, map_files, refuse_folders_of_inputs, refuse_namesake


class DownsampleSettings(Settings):
    """Which low-resolution pictures are made of HR images, and where they go."""

    folder: Path
    """Folder for the low-resolution pictures, with one subfolder for each scale."""
    scales: tuple[int, ...] = Field((2, 3, 4), min_length=1)
    """How many times smaller, 1 to 16 each; 1 is for pictures that are only degraded."""
    variant: Variant = "A"
    """Which implementation of the bicubic to reproduce; `finescale.resize.Variant` lists them."""
    layout: Literal["edsr", "basicsr"] = "edsr"
    """File names: ``X4/birdx4.png`` or ``LRbicx4/bird.png``."""
    cut_folder: Path | None = None
    """Folder for HR images cut to a multiple of all scales, of which the low-resolution pictures are then made; None
    cuts for each scale alone and keeps no cut images."""
    degradation: DegradationSettings | None = None
    """What else happens to the low-resolution pictures; None is nothing."""
    seed: int = Field(0, ge=0)
    """Determines, with a picture's name and the scale, how it is degraded; for ``degradation``."""
    overwrite: bool = False
    """Redo existing pictures."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.degradation is None and 1 in self.scales:
            raise ValueError("scales with 1 need a degradation; without, pictures at scale 1 are the HR images")
        if self.degradation is not None and self.variant not in ("A", "uint8"):
            raise ValueError(f"variant must be 'uint8' where pictures are degraded, got {self.variant!r}")
        return self

    @field_validator("scales")
    @classmethod
    def _check_scales(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not all(1 <= scale <= MAX_SCALE for scale in value) or len(set(value)) < len(value):
            raise ValueError(f"scales must be different whole numbers from 1 to {MAX_SCALE}")
        return value

    @property
    def multiple(self) -> int | None:
        """Number that the sides of all HR images are cut to a multiple of; None cuts for each scale alone."""
        return None if self.cut_folder is None else math.lcm(*self.scales)

    @property
    def folders(self) -> dict[int | None, Path]:
        """Folder of the pictures of each scale; those of None are cut HR images."""
        name = "X{}" if self.layout == "edsr" else "LRbicx{}"
        folders: dict[int | None, Path] = {scale: self.folder / name.format(scale) for scale in self.scales}
        return folders if self.cut_folder is None else {**folders, None: self.cut_folder}

    def outputs(self, path: Path) -> dict[int | None, Path]:
        """Return the files made of an HR image, by scale; that of None is the cut HR image."""
        ending = "x{}.png" if self.layout == "edsr" else ".png"
        return {
            scale: folder / (path.stem + (".png" if scale is None else ending.format(scale)))
            for scale, folder in self.folders.items()
        }


def downsample_files(
    paths: Sequence[Path], settings: DownsampleSettings, *, workers: int = 1
) -> Generator[FileReport, None, None]:
    """Make the low-resolution pictures of HR images, bit for bit as MATLAB does, or also degraded.

    Each file gets its name once it is complete; existing files are kept.

    Args:
        paths: The HR images.
        settings: What to make, and where.
        workers: How many pictures are made at once.

    Returns:
        One report per HR image, in order; a damaged one fails and the others go on.

    Raises:
        ValueError: A folder of results holds the HR images, or ``workers`` is not positive.
        DataError: The folder was filled with another variant or cut, or cannot be written to.
    """
    folders = settings.folders.values()
    if len({os.path.realpath(folder) for folder in folders}) < len(folders):
        raise ValueError(f"{settings.cut_folder} is for low-resolution pictures; name another folder for cut HR images")
    refuse_folders_of_inputs(folders, paths)
    letter = {"uint8": "A", "double": "B", "uint8-replicate": "C"}.get(settings.variant, settings.variant)
    facts: dict[str, Any] = {"variant": letter, "originals cut to a multiple of": settings.multiple or "each scale"}
    if settings.degradation is not None:
        facts |= {"degradation": settings.degradation.model_dump(mode="json"), "seed": settings.seed}
    for folder in filter(None, (settings.folder, settings.cut_folder)):
        claim_folder(folder, facts)
    namesakes = find_namesakes(paths)

    def work(path: Path) -> FileReport:
        refuse_namesake(path, namesakes)
        return _downsample_one(path, settings)

    return map_files(work, paths, workers=workers)


def _downsample_one(path: Path, settings: DownsampleSettings) -> FileReport:
    outputs = settings.outputs(path)
    results = tuple(outputs.values())
    missing = {scale: output for scale, output in outputs.items() if settings.overwrite or not output.exists()}
    if not missing:
        return FileReport(path, "kept", results, "all results exist already; --overwrite redoes them")
    image = read_hr_image(path)
    notes = list(image.notes)
    if len(missing) < len(outputs):
        notes.append(f"{len(outputs) - len(missing)} of {len(outputs)} results exist already and are kept")
    cuts: dict[tuple[int, int], list[str]] = {}
    for scale, output in missing.items():
        levels = _cut(image, settings.multiple or scale or 1)
        write_levels(output, _smaller(levels, path, settings, scale))
        cuts.setdefault((levels.shape[1], levels.shape[2]), []).append("HR" if scale is None else f"x{scale}")
    for size, uses in cuts.items():
        if size != image.size:
            notes.append(f"cut from {as_text(image.size)} to {as_text(size)} for {', '.join(uses)}")
    return FileReport(path, "done", results, notes=tuple(notes))


def _smaller(levels: Tensor, path: Path, settings: DownsampleSettings, scale: int | None) -> Tensor:
    if scale is None:
        return levels
    if settings.degradation is None:
        return downsample(levels, scale=scale, variant=settings.variant)
    index = zlib.crc32(f"{path.stem} {scale}".encode("utf-8", "surrogateescape"))
    return degrade(levels, settings.degradation, scale=scale, seed=settings.seed, index=index)


def _cut(image: HRImage, multiple: int) -> Tensor:
    """Return the top left part whose sides are multiples of a number."""
    height, width = (side // multiple * multiple for side in image.size)
    if not height or not width:
        name = printable_name(image.path)
        raise DataError(f"{name}: {as_text(image.size)} pixels cannot be cut to a multiple of {multiple}")
    return image.levels[:, :height, :width]
