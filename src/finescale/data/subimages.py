"""Large pictures cut into overlapping parts, which decode faster than the whole when only a patch is needed."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, model_validator
from torch import Tensor
from typing_extensions import Self

from finescale.data.folders import claim_folder
from finescale.data.hr_images import HRImage, as_text, read_hr_image, write_levels
from finescale.data.pairs import mismatch
from finescale.errors import DataError, printable_name
from finescale.settings import Settings
from finescale.system.jobs import FileReport, find_namesakes, map_files, refuse_folders_of_inputs, refuse_namesake


class CropSettings(Settings):
    """How pictures are cut, and where their parts go."""

    folder: Path
    """Folder for the parts, ``{name}_s001.png`` and so on."""
    size: int = Field(480, ge=1)
    """Height and width of a part, in pixels of the HR image."""
    step: int = Field(240, ge=1)
    """From the start of one part to the start of the next, in pixels of the HR image."""
    threshold: int = Field(0, ge=0)
    """Remainder beyond the last part of a row or column, in pixels, above which it gets a part of its own."""
    keep_small: bool = False
    """Keep a side that is shorter than a part as it is; otherwise such pictures are left out."""
    scale: int | None = Field(None, ge=1)
    """Scale of the low-resolution pictures that are cut in the same way; None cuts HR images alone."""
    lr_folder: Path | None = None
    """Folder for the parts of the low-resolution pictures, under the same names."""
    overwrite: bool = False
    """Redo existing parts."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.scale is None) != (self.lr_folder is None):
            raise ValueError("scale and lr_folder must be given together")
        if self.lr_folder and self.lr_folder.resolve() == self.folder.resolve():
            raise ValueError(
                f"{self.folder} cannot hold both halves of the pairs; name another folder for the smaller ones"
            )
        if self.scale and (self.size % self.scale or self.step % self.scale):
            raise ValueError(f"size {self.size} and step {self.step} must be multiples of scale {self.scale}")
        return self


@dataclass(frozen=True)
class Part:
    """A rectangle of an HR image, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, levels: Tensor, *, scale: int = 1) -> Tensor:
        """Cut this part out of an HR image (C, H, W), or of a picture that is ``scale`` times smaller."""
        top, left, height, width = (side // scale for side in (self.top, self.left, self.height, self.width))
        return levels[:, top : top + height, left : left + width]


def plan_parts(size: tuple[int, int], settings: CropSettings) -> list[Part]:
    """Plan the parts of a picture, row by row.

    They begin at 0, step, 2 step and so on, as long as they lie inside; a last one lies at the far border if the
    remainder there is wider than the threshold.

    Args:
        size: (height, width) of the picture.
        settings: Size, step and threshold.

    Returns:
        The parts; none where the picture is smaller than a part and small ones are not kept.
    """
    if min(size) < settings.size and not settings.keep_small:
        return []
    height, width = (min(side, settings.size) for side in size)
    rows, columns = (_starts(side, settings) for side in size)
    return [Part(top, left, height, width) for top in rows for left in columns]


def _starts(side: int, settings: CropSettings) -> list[int]:
    last = max(side - settings.size, 0)
    starts = list(range(0, last + 1, settings.step))
    if last - starts[-1] > settings.threshold:
        starts.append(last)
    return starts


def crop_files(
    paths: Sequence[Path], settings: CropSettings, *, lr: Mapping[Path, Path] | None = None, workers: int = 1
) -> Generator[FileReport, None, None]:
    """Cut pictures into parts, HR images alone or with their low-resolution pictures.

    Parts are numbered from 1, row by row. Each file gets its name once it is complete; existing files are kept.

    Args:
        paths: The HR images.
        settings: How to cut, and where the parts go.
        lr: The low-resolution pictures of the HR images, where the settings have a scale.
        workers: How many pictures are cut at once.

    Returns:
        One report per HR image, in order; a damaged one fails and the others go on.

    Raises:
        ValueError: A folder of parts holds the pictures, only one of ``lr`` and the settings' scale is given, or
            ``workers`` is not positive.
        DataError: A folder was filled with other settings, or cannot be written to.
    """
    if (lr is None) != (settings.scale is None):
        raise ValueError("low-resolution pictures and their scale must be given together")
    folders = [(1, settings.folder)]
    if settings.scale and settings.lr_folder:
        folders.append((settings.scale, settings.lr_folder))
    refuse_folders_of_inputs([folder for _, folder in folders], [*paths, *(lr or {}).values()])
    for scale, folder in folders:
        facts = {"size": settings.size, "step": settings.step, "threshold": settings.threshold}
        claim_folder(folder, {**facts, "small pictures kept": settings.keep_small, "scale": scale})
    namesakes = find_namesakes(paths)

    def work(path: Path) -> FileReport:
        refuse_namesake(path, namesakes)
        return _crop_one(path, lr, settings)

    return map_files(work, paths, workers=workers)


def _crop_one(path: Path, lr: Mapping[Path, Path] | None, settings: CropSettings) -> FileReport:
    hr = read_hr_image(path)
    size, notes = hr.size, list(hr.notes)
    sources = [(hr.levels, 1, settings.folder)]
    if lr is not None and settings.scale and settings.lr_folder:
        small = _read_lr(hr, lr.get(path), scale=settings.scale)
        size = settings.scale * small.size[0], settings.scale * small.size[1]
        notes += [f"low-resolution picture {note}" for note in small.notes]
        sources.append((small.levels, settings.scale, settings.lr_folder))
    parts = plan_parts(size, settings)
    if not parts:
        reason = f"{as_text(size)} pixels are fewer than a part of {settings.size} x {settings.size}"
        return FileReport(path, "left out", reason=f"{printable_name(path)}: {reason}")
    outputs = []
    num_made = 0
    for levels, scale, folder in sources:
        for number, part in enumerate(parts, start=1):
            output = folder / f"{path.stem}_s{number:03d}.png"
            outputs.append(output)
            if settings.overwrite or not output.exists():
                write_levels(output, part.of(levels, scale=scale))
                num_made += 1
    if not num_made:
        return FileReport(path, "kept", tuple(outputs), "all parts exist already; --overwrite redoes them")
    if num_made < len(outputs):
        notes.append(f"{len(outputs) - num_made} of {len(outputs)} parts exist already and are kept")
    return FileReport(path, "done", tuple(outputs), notes=tuple(notes))


def _read_lr(hr: HRImage, path: Path | None, *, scale: int) -> HRImage:
    """Read the low-resolution picture of an HR image, and check its size."""
    if path is None:
        raise DataError(f"{printable_name(hr.path)}: its low-resolution picture is missing")
    lr = read_hr_image(path)
    wrong = mismatch(lr.size, hr.size, scale=scale)
    if wrong:
        raise DataError(f"{printable_name(path)}: {wrong}")
    return lr
