"""Validation of a network in training, by the papers' protocol on one or several sets of pictures."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean

from torch import Tensor

from finescale.data import Pair, find_images, match_pairs
from finescale.data.pairs import mismatch
from finescale.errors import CheckpointError, DataError, ImageReadError, printable_name
from finescale.evaluate import PAPERS, Case, cases_of, network_model
from finescale.images import read_size, write_image
from finescale.metrics.ssim import SSIM_WINDOW
from finescale.networks import Frame
from finescale.system.files import whole_file
from finescale.train.folder import writing
from finescale.train.settings import ValidationSet, ValidationSettings
from finescale.upscale import Upscaler
from finescale.weights.third_party import ThirdPartyNetwork

log = logging.getLogger("finescale.train")

_CHOICE = "validation/measured.json"
_PICTURES = "visualization"


class Validation:
    """Measurement of a network in training, as `finescale evaluate` measures a finished one.

    Pictures are upscaled whole, or in tiles where they are too large for the device. They are read each time and not
    kept in memory.

    Args:
        settings: Pictures to measure on, and the time limit.
        scale: Factor by which the network enlarges.
        folder: The training's folder. Upscaled pictures go to ``visualization/<picture>/<picture>_500.png`` in it, as
            with BasicSR; pictures of several sets that have the same name are preceded by that of the set. The number
            of pictures within the time limit is stored there, so that a resumed training uses the same ones.

    Raises:
        ValueError: The settings name no folder of HR images.
        DataError: A folder holds no picture; or pictures are unreadable or too small, or pairs are incomplete or of
            sizes that do not belong together, all of which the message lists.
    """

    def __init__(self, settings: ValidationSettings, *, scale: int, folder: Path | None = None) -> None:
        sets = settings.all_sets()
        if not sets:
            raise ValueError("validation.hr must name a folder of HR images to validate on, got null")
        self._protocol = PAPERS.model_copy(update={"border": settings.border, "channel": settings.channel})
        self._cases = _cases(sets, scale, border=self._protocol.border_at(scale))
        self._settings = settings
        self._scale = scale
        self._folder = folder
        self._num_measured = self._recall()

    def run(self, network: Frame | ThirdPartyNetwork, *, step: int | None = None) -> dict[str, float]:
        """Measure a network on its device; its training mode stays as it is.

        Args:
            network: Network with the weights to measure.
            step: Number of steps done, for the names of kept pictures; None keeps none.

        Returns:
            ``psnr_y`` in dB and ``ssim_y``, the means over the pictures, and ``images``, their number; of several sets
            the means of their means, and further ``psnr_y_Set5``, ``ssim_y_Set5`` for each set. "y" is the channel.

        Raises:
            ImageReadError: A picture is missing or damaged.
            NumericalError: The network's output is not finite.
            DeviceError: The device has too little memory.
            DataError: The training's folder cannot be written to.
            ImageWriteError: A picture cannot be kept.
        """
        began = time.monotonic()
        scores: dict[str, list[tuple[float, float]]] = {}
        num_done = 0
        with _evaluating(network) as upscaler:
            model = network_model(upscaler, "network")
            for number, case in enumerate(self._cases[: self._num_measured]):
                lr, hr = case.read(scale=self._scale)
                assert hr is not None
                sr = model.upscale(lr, None)
                scores.setdefault(case.set, []).append(self._protocol.scores(sr, hr, scale=self._scale))
                num_done += 1
                if self._settings.pictures is None or number < self._settings.pictures:
                    self._keep(case, sr, step)
                seconds = time.monotonic() - began
                if (
                    self._num_measured is None
                    and self._settings.seconds is not None
                    and seconds > self._settings.seconds
                ):
                    break
        if self._num_measured is None:
            self._remember(num_done)
        return {**self._means(scores), "images": num_done}

    def _means(self, scores: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, float]:
        of_sets = {name: [fmean(values) for values in zip(*pairs, strict=True)] for name, pairs in scores.items()}
        of_all = [fmean(values) for values in zip(*of_sets.values(), strict=True)]
        columns = [f"{metric}_{self._settings.channel}" for metric in ("psnr", "ssim")]
        means = dict(zip(columns, of_all, strict=True))
        if len(self._settings.all_sets()) > 1:
            for name, values in of_sets.items():
                means.update(zip((f"{column}_{name}" for column in columns), values, strict=True))
        return means

    def _keep(self, case: Case, sr: Tensor, step: int | None) -> None:
        if self._folder is None or step is None:
            return
        is_only = sum(other.name == case.name for other in self._cases) == 1
        name = case.name if is_only else f"{case.set}_{case.name}"
        path = self._folder / _PICTURES / name / f"{name}_{step}.png"
        with writing(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, sr)

    def _remember(self, num_measured: int) -> None:
        """Limit further validations to the first ``num_measured`` pictures, also after a resume."""
        self._num_measured = num_measured
        if self._settings.seconds is None:
            return
        if num_measured < len(self._cases):
            log.warning(
                "%d of %d validation pictures fit into %g s; the others are left out of all further validations",
                num_measured, len(self._cases), self._settings.seconds,
            )  # fmt: skip
        if self._folder is not None:
            path = self._folder / _CHOICE
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                with whole_file(path) as file:
                    file.write(json.dumps({"seconds": self._settings.seconds, "pictures": num_measured}).encode())

    def _recall(self) -> int | None:
        """Return the number of pictures that the same time limit allowed before; None where that is unknown."""
        if self._settings.seconds is None:
            return len(self._cases)
        if self._folder is None or not (self._folder / _CHOICE).exists():
            return None
        path = self._folder / _CHOICE
        try:
            choice = json.loads(path.read_bytes())
            seconds, num_measured = float(choice["seconds"]), int(choice["pictures"])
        except (ValueError, KeyError, TypeError):
            raise CheckpointError(f"{printable_name(path)}: damaged; delete it to choose the pictures again") from None
        return num_measured if seconds == self._settings.seconds else None


@contextmanager
def _evaluating(network: Frame | ThirdPartyNetwork) -> Iterator[Upscaler]:
    """Wrap a network in an upscaler, and restore its training mode afterwards."""
    was_training = network.training
    try:
        yield Upscaler(network, device=next(network.parameters()).device)
    finally:
        network.train(was_training)


def _cases(sets: Mapping[str, ValidationSet], scale: int, *, border: int) -> list[Case]:
    """List the pictures to measure on, set by set, and check that all are usable."""
    cases: list[Case] = []
    mistakes: list[str] = []
    for name, places in sets.items():
        hr_images = find_images(places.hr)
        if places.lr is None:
            pairs = [Pair(path.stem, hr=path) for path in hr_images]
        else:
            matching = match_pairs(hr_images, find_images(places.lr), scale=scale)
            pairs = [Pair(path.stem, hr=path, lr=low) for path, low in matching.pairs.items()]
            missing = "its low-resolution picture is missing"
            mistakes += [f"{printable_name(path)}: {missing}" for path in matching.without_lr]
        mistakes += [mistake for pair in pairs if (mistake := _mistake(pair, scale, border=border))]
        cases += cases_of(pairs, set=name)
    if mistakes:
        raise DataError(f"{len(mistakes)} pictures cannot be used for validation: {'; '.join(mistakes)}")
    return cases


def _mistake(pair: Pair, scale: int, *, border: int) -> str | None:
    """Return what the headers of a pair's files show to be wrong, or None."""
    try:
        size = read_size(pair.hr)
        wrong = pair.lr and mismatch(read_size(pair.lr), size, scale=scale)
    except ImageReadError as error:
        return str(error)
    if wrong:
        return f"{printable_name(str(pair.lr))}: {wrong}"
    needed = SSIM_WINDOW + 2 * border
    if min(side // scale * scale for side in size) < needed:
        return f"{printable_name(pair.hr)}: smaller than the {needed} pixels per side that SSIM needs"
    return None
