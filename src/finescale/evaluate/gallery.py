"""Comparison pictures of a report: choice of picture and detail for each test set, and the files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from finescale.errors import DataError, printable_name
from finescale.evaluate.cases import Case
from finescale.evaluate.folder import ResultsFolder
from finescale.evaluate.picture import Crop, Panel, comparison_picture, salient_crop, salient_image
from finescale.evaluate.report import Report
from finescale.evaluate.run import Score, upscaled
from finescale.images import write_image


def write_comparisons(
    report: Report,
    cases: Sequence[Case],
    results: ResultsFolder,
    *,
    baseline: str,
    image: str | None = None,
    crop: tuple[int, int, int, int] | None = None,
) -> Iterator[Path]:
    """Write a comparison picture for each test set, or for one picture.

    Args:
        report: The evaluation.
        cases: The pictures that were measured.
        results: Folder of the upscaled pictures, and for the comparisons.
        baseline: Name of the model that the others are compared with.
        image: Name of the picture to show; by default that of each set on which the models gain most.
        crop: Column, row, width and height of the detail in pixels of the original; by default where they differ most.

    Yields:
        The path of each file.

    Raises:
        ValueError: There is no such picture, or the detail extends beyond it.
        DataError: The folder cannot be written to.
    """
    if image is not None and not any(score.image == image and score.psnr is not None for score in report.scores):
        raise ValueError(f"no picture {image!r} was measured; name one of those in the report")
    for name in report.sets:
        chosen = image or salient_image(report.scores, name, baseline=baseline)
        case = next((case for case in cases if (case.set, case.name) == (name, chosen)), None)
        if case is None:
            continue
        scores = {score.model: score for score in report.scores if (score.set, score.image) == (name, case.name)}
        yield _write(report, case, scores, results, baseline=baseline, crop=crop)


def _write(
    report: Report,
    case: Case,
    scores: dict[str, Score],
    results: ResultsFolder,
    *,
    baseline: str,
    crop: tuple[int, int, int, int] | None,
) -> Path:
    original = case.read(scale=report.scale)[1]
    assert original is not None  # it was measured
    pictures = {
        model.name: upscaled(model, case, scale=report.scale, results=results)
        for model in report.models
        if model.name in scores
    }
    others = [picture for name, picture in pictures.items() if name != baseline]
    detail = Crop(*crop) if crop else salient_crop(pictures[baseline], others or [original])
    if not detail.fits(original):
        height, width = original.shape[-2:]
        raise ValueError(
            f"a detail of {detail.width} x {detail.height} pixels at {detail.x},{detail.y} does not lie inside "
            f"{case.name}, which has {width} x {height}"
        )
    panels = [Panel("original\nPSNR / SSIM", original)]
    for name, picture in pictures.items():
        psnr, ssim = scores[name].psnr, scores[name].ssim
        panels.append(Panel(f"{printable_name(name)}\n{psnr:.2f} dB / {ssim:.4f}", picture))
    title = f"{printable_name(case.set)}: {printable_name(case.name)} (x{report.scale})"
    path = results.comparison(f"{case.set}_{case.name}_{results.suffix}.png")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{printable_name(path.parent)}: cannot be created ({error.strerror})") from None
    write_image(path, comparison_picture(original, title, panels, detail))
    return path
