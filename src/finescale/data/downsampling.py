"""Low-resolution pictures made of folders of HR images."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Generator, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator
from torch import Tensor
from typing_extensions import Self

from finescale.data.degradation import DegradationSettings, degrade
from finescale.data.folders import claim_folder
from finescale.data.hr_images import HRImage, as_text, read_hr_image, write_levels
from finescale.data.pairs import hr_name
from finescale.errors import DataError, printable_name
from finescale.resize import MAX_SCALE, Variant, downsample
from finescale.settings import Settings
from finescale.system.jobs import FileReport, find_namesakes, map_files, refuse_folders_of_inputs, refuse_namesake


@dataclass(frozen=True)
class Product:
    """A file made of an HR image."""

    path: Path
    """Its place."""
    scale: int | None
    """How many times smaller it is; None is the cut HR image itself."""
    _: KW_ONLY
    cut_for: int
    """The HR image is cut to a multiple of this number before."""


class DownsampleSettings(Settings):
    """Which low-resolution pictures are made of HR images, and where they go."""

    folder: Path
    """Folder for the low-resolution pictures, with one subfolder for each scale."""
    scales: tuple[int, ...] = Field((2, 3, 4), min_length=1)
    """How many times smaller, 1 to 16 each; 1 is for pictures that are only degraded."""
    variant: Variant = "A"
    """Which implementation of the bicubic to reproduce; `finescale.resize.Variant` lists them."""
    layout: Literal["edsr", "basicsr", "rcan"] = "edsr"
    """File names: ``X4/birdx4.png``, ``LRbicx4/bird.png`` or ``x4/bird_LRBI_x4.png``."""
    cut_folder: Path | None = None
    """Folder for cut HR images, of which the low-resolution pictures are made: ``bird.png``, cut to a multiple of all
    scales; in the layout "rcan" ``x4/bird_HR_x4.png``, cut for each scale. None cuts for each scale and keeps none."""
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
        return None if self.cut_folder is None or self.layout == "rcan" else math.lcm(*self.scales)

    @property
    def folders(self) -> tuple[Path, ...]:
        """Every folder of results."""
        return tuple(product.path.parent for product in self.products(Path("any.png")))

    def products(self, path: Path) -> list[Product]:
        """List the files made of an HR image."""
        folder, ending = {
            "edsr": ("X{}", "x{}"),
            "basicsr": ("LRbicx{}", ""),
            "rcan": ("x{}", "_LRBI_x{}"),
        }[self.layout]
        multiple = self.multiple
        names = {scale: hr_name(path, scale=scale) for scale in self.scales}
        made = [
            Product(
                self.folder / folder.format(scale) / f"{name}{ending.format(scale)}.png",
                scale,
                cut_for=multiple or scale,
            )
            for scale, name in names.items()
        ]
        if self.cut_folder is None:
            return made
        if multiple is not None:
            return [*made, Product(self.cut_folder / f"{path.stem}.png", None, cut_for=multiple)]
        cut = [
            Product(self.cut_folder / f"x{scale}" / f"{name}_HR_x{scale}.png", None, cut_for=scale)
            for scale, name in names.items()
        ]
        return made + cut


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
    folders = settings.folders
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
    products = settings.products(path)
    results = tuple(product.path for product in products)
    missing = [product for product in products if settings.overwrite or not product.path.exists()]
    if not missing:
        return FileReport(path, "kept", results, "all results exist already; --overwrite redoes them")
    image = read_hr_image(path)
    notes = list(image.notes)
    if len(missing) < len(products):
        notes.append(f"{len(products) - len(missing)} of {len(products)} results exist already and are kept")
    cuts: dict[tuple[int, int], dict[str, None]] = {}
    for product in missing:
        levels = _cut(image, product.cut_for)
        write_levels(product.path, _smaller(levels, path, settings, product.scale))
        use = "HR" if product.scale is None else f"x{product.scale}"
        cuts.setdefault((levels.shape[1], levels.shape[2]), {})[use] = None
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
