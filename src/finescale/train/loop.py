"""The training loop: one device, L1 loss, Adam, everything reproducible from settings and step."""

from __future__ import annotations

import csv
import logging
import time
from contextlib import closing
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from finescale import weights
from finescale.data.loader import TrainingImages, batches
from finescale.errors import CheckpointError, NumericalError, WeightsMismatchError
from finescale.interrupt import deferred_interrupt
from finescale.metrics import psnr
from finescale.networks import Frame, variants
from finescale.resize import downsample
from finescale.settings import save_settings
from finescale.train.average import WeightAverage
from finescale.train.checkpoint import Checkpoint
from finescale.train.schedule import multi_step
from finescale.train.settings import TrainSettings

log = logging.getLogger("finescale.train")


def train(settings: TrainSettings, *, resume: bool = False) -> Path:
    """Train a network, from the start or from its last checkpoint.

    Writes into ``<output>/<name>/``: the settings, ``metrics.csv``, ``checkpoint.pt``, and at the end the averaged
    weights as ``weights.safetensors``. A run that is resumed gives the weights of one that was never stopped, bit for
    bit on CPU. At Ctrl+C the step is finished and a checkpoint saved.

    Args:
        settings: What to train, on what, for how long.
        resume: Go on from the folder's checkpoint.

    Returns:
        The weight file.

    Raises:
        DataError: A folder has no usable images.
        WeightsError: The file of ``warm_start`` does not fit.
        NumericalError: The loss is not finite; the checkpoint before it stays.
        CheckpointError: There is nothing to resume from, or something that would be overwritten.
    """
    folder = settings.output / settings.name
    saved = folder / "checkpoint.pt"
    if saved.exists() and not resume:
        raise CheckpointError(f"{folder} holds a training already; resume it, or choose another name")
    images = TrainingImages.from_folders(settings.hr, min_size=settings.scale * settings.lr_patch)
    validation = TrainingImages.from_folders([settings.validation]) if settings.validation else None

    log.info("pictures to train on: %d", len(images))
    if images.too_small:
        log.warning(
            "%d pictures are smaller than a patch and left out: %s", len(images.too_small), ", ".join(images.too_small)
        )

    network = _first_network(settings)
    average = WeightAverage(network, decay=settings.ema_decay)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, betas=settings.betas)
    step = 0
    if resume:
        step = _restore(Checkpoint.load(saved, settings), network, average, optimizer)
    folder.mkdir(parents=True, exist_ok=True)
    save_settings(settings, folder / "settings.yml")
    metrics = _Metrics(folder / "metrics.csv", done=step)

    def save_checkpoint() -> None:
        plain = settings.model_dump(mode="json")
        Checkpoint(plain, step, network.state_dict(), average.weights, optimizer.state_dict()).save(saved)

    network.train()
    clock = _Clock(step)
    samples = batches(
        images, seed=settings.seed, first_step=step, batch=settings.batch, scale=settings.scale, patch=settings.lr_patch
    )
    with closing(samples), deferred_interrupt() as is_interrupted:
        while step < settings.iterations:
            if is_interrupted():
                save_checkpoint()
                raise KeyboardInterrupt
            lr, hr = next(samples)
            rate = multi_step(
                step, learning_rate=settings.learning_rate, milestones=settings.milestones, gamma=settings.gamma
            )
            loss = _step(network, optimizer, lr, hr, rate)
            if not loss.isfinite():
                raise NumericalError(
                    f"step {step + 1}: the loss is {loss:.3g}; train anew with a smaller learning_rate"
                )
            step += 1
            average.update(network, step=step)
            last = step == settings.iterations
            if step % settings.log_every == 0 or last:
                log.info(
                    "step %d of %d, loss %.5f, learning rate %.2e, %s", step, settings.iterations, loss, rate,
                    clock.describe(step, settings.iterations),
                )  # fmt: skip
                metrics.add(step=step, loss=float(loss), learning_rate=rate)
            if validation and (step % settings.validate_every == 0 or last):
                with average.applied_to(network):
                    score = validate(network, validation)
                log.info("step %d, validation PSNR %.3f dB", step, score)
                metrics.add(step=step, psnr_y=score)
            if step % settings.checkpoint_every == 0 or last:
                save_checkpoint()
    result = folder / "weights.safetensors"
    with average.applied_to(network):
        weights.save(network, result, source="finescale train", licence=settings.licence, training=settings.shareable())
    return result


def validate(network: Frame, images: TrainingImages) -> float:
    """Mean PSNR on luma over whole images, in decibels; their lr images are made by the MATLAB-exact bicubic."""
    return sum(_validate_one(network, hr) for hr in images.pixels) / len(images)


@torch.no_grad()
def _validate_one(network: Frame, hr: Tensor) -> float:
    scale = network.scale
    lr = downsample(hr, scale=scale).float() / 255
    sr = network(lr[None])[0]
    hr = hr[:, : sr.shape[1], : sr.shape[2]].float() / 255
    return psnr(sr, hr, border=scale)


def _first_network(settings: TrainSettings) -> Frame:
    """The network before its first step; its weights follow from the seed, or from the file to start from."""
    family = variants()[settings.variant]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = family.network(settings=settings.network_settings(), scale=settings.scale)
    if settings.warm_start:
        _warm_start(network, settings.warm_start)
    return network


def _warm_start(network: Frame, path: Path) -> None:
    """Take over every weight but the reconstruction head's from a network with the same settings, at any scale."""
    start = weights.load(path)
    if start.settings != network.settings:
        raise WeightsMismatchError(f"{path}: its network has other settings than the one to be trained")
    head = tuple(f"{name}." for name in network.head)
    body = {key: tensor for key, tensor in start.network.state_dict().items() if not key.startswith(head)}
    network.load_state_dict({**network.state_dict(), **body})


def _step(network: Frame, optimizer: torch.optim.Optimizer, lr: Tensor, hr: Tensor, rate: float) -> Tensor:
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    loss = F.l1_loss(network(lr), hr)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.detach()


def _restore(checkpoint: Checkpoint, network: Frame, average: WeightAverage, optimizer: torch.optim.Optimizer) -> int:
    """Put everything back to where the checkpoint was made; answers the steps done."""
    network.load_state_dict(checkpoint.weights)
    average.weights = checkpoint.average
    optimizer.load_state_dict(checkpoint.optimizer)
    return checkpoint.step


class _Clock:
    """How long steps take, and how long the rest will."""

    def __init__(self, step: int) -> None:
        self._started = time.monotonic()
        self._first = step

    def describe(self, step: int, iterations: int) -> str:
        seconds = (time.monotonic() - self._started) / (step - self._first)
        left = round(seconds * (iterations - step))
        return f"{seconds:.2f} s a step, {left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left"


class _Metrics:
    """Rows of ``metrics.csv``; those of steps that a resumed training does again are dropped."""

    FIELDS = ("step", "loss", "learning_rate", "psnr_y")

    def __init__(self, path: Path, *, done: int) -> None:
        self._path = path
        rows: list[dict[str, str]] = []
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.DictReader(file) if int(row["step"]) <= done]
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.FIELDS)
            writer.writeheader()
            writer.writerows(rows)

    def add(self, **row: float) -> None:
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.FIELDS).writerow(row)
