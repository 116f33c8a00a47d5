"""The training loop: on one device or many, everything reproducible from settings and step."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from finescale import weights
from finescale.data.loader import Batches, batches
from finescale.data.sources import open_source
from finescale.errors import CheckpointError, NumericalError
from finescale.networks import Frame
from finescale.settings import save_settings
from finescale.system.interrupt import deferred_interrupt
from finescale.train.checkpoint import Checkpoint, Checkpoints, Standing
from finescale.train.distributed import Team, joined
from finescale.train.initial_weights import first_network
from finescale.train.learner import Learner, Outcome
from finescale.train.log import Log, plot_curve
from finescale.train.progress import OnStep, Progress
from finescale.train.recompute import statistics
from finescale.train.schedule import learning_rate
from finescale.train.settings import TrainSettings
from finescale.train.validation import Validation

logger = logging.getLogger("finescale.train")


def train(
    settings: TrainSettings,
    *,
    resume: bool | None = None,
    device: str | None = None,
    on_step: OnStep | None = None,
) -> Path:
    """Train a network, from the start or from its last checkpoint.

    Writes into ``<output>/<name>/``: the settings, ``metrics.csv``, ``curve.png``, ``checkpoints/``, the averaged
    weights that validated best as ``best.safetensors``, and at the end the averaged weights as ``weights.safetensors``.
    A run that was ended at any moment and is resumed gives the weights of one that never stopped, bit for bit on CPU.
    At Ctrl+C or SIGTERM the step is finished and a checkpoint saved, unless the step was bad.

    Started by torchrun, one process for each device, all train together; the samples of a step are the same whatever
    their number, so another number of devices may go on with a training, up to rounding.

    Args:
        settings: What to train, on what, for how long.
        resume: True goes on from the folder's newest checkpoint, False begins; None goes on where there is one.
        device: "cpu", "cuda", "cuda:1", "mps"; None is CUDA where there is one.
        on_step: Called after each step, in the first process.

    Returns:
        The weight file.

    Raises:
        ValueError: The samples of a step cannot be divided among the devices, or no device can have this name.
        DataError: A folder has no usable images.
        DeviceError: There is no such device here.
        WeightsError: The file of ``warm_start`` does not fit.
        NumericalError: Too many steps in a row exploded, twice from the same checkpoint, which stays.
        CheckpointError: There is nothing to resume from, or something that would be overwritten, or it is of a training
            with other settings.
        KeyboardInterrupt: Ctrl+C or SIGTERM, once the checkpoint is saved.
    """
    with joined(device) as team:
        cuda = [team.device] if team.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda), deferred_interrupt(termination=True) as is_interrupted:
            return _Training(settings, team, resume).run(is_interrupted, on_step)


class _Training:
    """One call of `train`, in one process; the first process alone validates, writes and speaks."""

    def __init__(self, settings: TrainSettings, team: Team, resume: bool | None) -> None:
        self.settings = settings
        self.team = team
        self.folder = settings.output / settings.name
        self.checkpoints = Checkpoints(self.folder / "checkpoints", last=settings.keep.last)
        found = team.tell(self._find(resume) if team.is_first else None)
        self.source = open_source(
            settings.data.hr, settings.data.lr, scale=settings.scale, patch=settings.data.patch,
            degradation=settings.data.degradation, processes=team.local_world,
        )  # fmt: skip
        validates = settings.validation.hr is not None and team.is_first
        self.validation = (
            Validation(settings.validation, scale=settings.scale, folder=self.folder) if validates else None
        )
        network = first_network(settings, is_resumed=found is not None)
        _check_shares(settings, team, network)
        self.judged = copy.deepcopy(network).to(team.device).eval().requires_grad_(False)
        self.learner = Learner(network, settings.train, team, patch=settings.data.patch)
        self.standing = Standing()
        self.psnr_y: float | None = None
        if found:
            self._restore(found)
        if team.is_first:
            self._tell_plan()
            self.folder.mkdir(parents=True, exist_ok=True)
            save_settings(settings, self.folder / "settings.yml")

    def run(self, is_interrupted: Callable[[], bool], on_step: OnStep | None) -> Path:
        """Take all steps, going back to a checkpoint where that is needed, and save the weights."""
        while self.standing.step < self.settings.train.iterations:
            with closing(self._batches()) as samples, self._log() as log:
                self._take_steps(samples, log, is_interrupted, on_step)
        result = self.folder / "weights.safetensors"
        self._average_to_judged()
        if self.team.is_first:
            self._save_weights(result)
            plot_curve(self.folder)
        self.team.wait()
        return result

    def _take_steps(
        self,
        samples: Batches,
        log: Log | None,
        is_interrupted: Callable[[], bool],
        on_step: OnStep | None,
    ) -> None:
        """Take steps until all are done, or until so many were bad that the training has gone back to a checkpoint."""
        settings, standing = self.settings, self.standing
        clock = _Clock(standing.step, settings.train.iterations)
        for lr, hr in samples:
            rate = learning_rate(standing.step, settings.train)
            draw = f"{settings.train.seed} {standing.step + standing.passed_over}"
            outcome = self.learner.step(
                lr, hr, number=standing.step + 1, rate=rate, draw=draw, usual=standing.usual, stop=is_interrupted()
            )
            standing.step += 1
            is_last = standing.step == settings.train.iterations
            standing.count(outcome.terms, is_bad=bool(outcome.bad))
            if outcome.bad:
                self._tell("step %d: exploded and left out: %s", standing.step, ", ".join(outcome.bad))
                if standing.bad_in_a_row > settings.train.bad_steps:
                    self._go_back(outcome)
                    return
            if log and (standing.step % settings.keep.log_every == 0 or is_last):
                terms = outcome.terms if len(outcome.terms) > 1 else {}
                log.add(step=standing.step, loss=outcome.loss, learning_rate=rate, **terms)
            if standing.step % settings.keep.log_every == 0 or is_last or clock.knows_first(standing.step):
                self._tell_step(outcome, rate, clock, samples)
            if settings.validation.hr and (standing.step % settings.validation.every == 0 or is_last):
                self._validate(log)
            # None amid bad steps: the training goes back to what was before them, also when it was stopped meanwhile.
            is_due = standing.step % settings.keep.every == 0 or outcome.stop
            if is_last or (is_due and not outcome.bad):
                self._save_checkpoint()
            if on_step and self.team.is_first:
                on_step(Progress(standing.step, settings.train.iterations, outcome.loss, self.psnr_y))
            if outcome.stop:
                self.team.wait()  # where one process ends, torchrun ends the others
                raise KeyboardInterrupt
            if is_last:
                return

    # ---- data

    def _batches(self) -> Batches:
        """This process's share of the samples of each step to come."""
        return batches(
            self.source,
            seed=self.settings.train.seed,
            first_step=self.standing.step + self.standing.passed_over,
            batch=self.settings.train.batch,
            rank=self.team.rank,
            world=self.team.world,
            augmentation=self.settings.data.augmentation,
        )

    # ---- checkpoints

    def _find(self, resume: bool | None) -> Checkpoint | None:
        """The checkpoint to go on from; None to begin."""
        path = self.checkpoints.latest()
        if path and resume is False:
            raise CheckpointError(f"{self.folder} holds a training already; resume it, or choose another name")
        if not path and resume:
            raise CheckpointError(f"{self.folder}: there is no checkpoint to resume from; start without resuming")
        return Checkpoint.load(path, self.settings) if path else None

    def _restore(self, found: Checkpoint) -> None:
        """Put everything back to where the checkpoint was made."""
        then = (found.devices, found.settings["train"]["accumulate"])
        now = (self.team.world, self.settings.train.accumulate)
        if then != now and self.learner.draws():
            raise CheckpointError(
                f"{self.folder}: the training was started with {then[0]} devices and accumulate={then[1]}, go on with "
                f"the same, not with {now[0]} and {now[1]}: stochastic depth would draw other numbers"
            )
        self.learner.restore(found.learner)
        self.standing = found.standing

    def _save_checkpoint(self) -> None:
        state = self.learner.state()
        if self.team.is_first:
            plain = self.settings.model_dump(mode="json")
            self.checkpoints.save(Checkpoint(plain, self.team.world, self.standing, state))

    def _go_back(self, outcome: Outcome) -> None:
        """Return to the last checkpoint, and go on from there with the samples that follow the bad ones.

        Raises:
            NumericalError: There is none, or the training has been there before.
        """
        standing, remedy = self.standing, "train anew with a smaller train.lr, or with train.clip"
        bad = f"step {standing.step}: exploded: {', '.join(outcome.bad)}, {standing.bad_in_a_row} times in a row"
        path = self.checkpoints.latest() if self.team.is_first else None
        found = self.team.tell(Checkpoint.load(path, self.settings) if path else None)
        if not found:
            raise NumericalError(f"{bad}, and there is no checkpoint yet to go back to; {remedy}")
        if found.standing.step == standing.went_back_to:
            raise NumericalError(f"{bad}, and again after going back to step {found.standing.step}; {remedy}")
        self._tell("%s: back to the checkpoint of step %d, and past these samples", bad, found.standing.step)
        drawn = standing.step + standing.passed_over
        self._restore(found)
        step = found.standing.step
        self.standing = replace(found.standing, passed_over=drawn - step, bad=standing.bad, went_back_to=step)

    # ---- the averaged weights

    def _average_to_judged(self) -> None:
        """Give the network that is validated and saved the averaged weights; it is the first process's alone."""
        state = self.learner.average.state()
        if self.team.is_first:
            self.judged.load_state_dict(state)

    def _validate(self, log: Log | None) -> None:
        self._average_to_judged()
        if self.validation is None or log is None:
            return
        scores = self.validation.run(self.judged, step=self.standing.step)
        self.psnr_y = psnr_y = scores["psnr_y"]
        log.add(step=self.standing.step, **scores)
        self._tell("step %d, validation PSNR %.3f dB, SSIM %.4f", self.standing.step, psnr_y, scores["ssim_y"])
        if self.standing.best is None or psnr_y > self.standing.best:
            self.standing.best = psnr_y
            self._save_weights(self.folder / "best.safetensors")
        plot_curve(self.folder)

    def _save_weights(self, path: Path) -> None:
        settings = self.settings
        training = settings.shareable()
        weights.save(self.judged, path, source="finescale train", licence=settings.licence, training=training)

    # ---- words

    @contextmanager
    def _log(self) -> Iterator[Log | None]:
        """The record of the training, for the first process."""
        if not self.team.is_first:
            yield None
            return
        with closing(Log(self.folder, self.settings, done_step=self.standing.step)) as log:
            yield log

    def _tell(self, message: str, *values: object) -> None:
        if self.team.is_first:
            logger.info(message, *values)

    def _tell_plan(self) -> None:
        """What is about to happen, before the first step."""
        settings, source, learner = self.settings, self.source, self.learner
        if source.too_small:
            left_out = len(source.too_small), ", ".join(source.too_small)
            logger.warning("%d pictures are smaller than a patch and left out: %s", *left_out)
        rehearsal = learner.rehearsal
        if rehearsal.unreached:
            self._tell("no gradient reaches, and the training leaves as they are: %s", ", ".join(rehearsal.unreached))
        batch, iterations = settings.train.batch, settings.train.iterations
        part = batch // (self.team.world * settings.train.accumulate)
        parameters = sum(parameter.numel() for parameter in self.judged.parameters())
        self._tell("%s x%d, %s parameters", settings.variant, settings.scale, f"{parameters:,}")
        self._tell(
            "%d samples a step, in passes of %d on each of %d devices (%s); lr patches of %d x %d pixels",
            batch, part, self.team.world, self.team.device.type, settings.data.patch, settings.data.patch,
        )  # fmt: skip
        self._tell(
            "%d steps, in which each of %d pictures is drawn about %.0f times",
            iterations, len(source), iterations * batch / len(source),
        )  # fmt: skip
        left = (iterations - self.standing.step) * batch / self.team.world
        self._tell(
            "by a rehearsal: about %s to go, and %.0f MiB for the activations of a pass on each device",
            _hours(left * rehearsal.seconds), part * rehearsal.kept_bytes / 2**20,
        )  # fmt: skip
        if self.standing.step:
            self._tell("resumed after step %d", self.standing.step)

    def _tell_step(self, outcome: Outcome, rate: float, clock: _Clock, samples: Batches) -> None:
        memory = ""
        if self.team.device.type == "cuda":
            memory = f", {torch.cuda.max_memory_allocated(self.team.device) / 2**30:.1f} GiB"
        self._tell(
            "step %d of %d, loss %.5f, learning rate %.2e, %s%s, %d steps left out",
            self.standing.step, self.settings.train.iterations, outcome.loss, rate,
            clock.describe(self.standing.step, samples.waited_s), memory, self.standing.bad,
        )  # fmt: skip


def _check_shares(settings: TrainSettings, team: Team, network: Frame) -> None:
    """Refuse a batch that cannot be divided into equal passes, each large enough for the network."""
    batch, passes = settings.train.batch, team.world * settings.train.accumulate
    if batch % passes:
        raise ValueError(f"train.batch must be a multiple of {passes}, devices times train.accumulate, got {batch}")
    if batch // passes < 2 and statistics(network):
        raise ValueError(
            f"train.batch must be at least {2 * passes} for {settings.variant}, whose BatchNorm takes two samples in "
            f"each pass on each device, got {batch}"
        )


class _Clock:
    """How long steps take, and how long the rest will."""

    FIRST = 10
    """Steps after which the time left is first known well enough to be told."""

    def __init__(self, step: int, iterations: int) -> None:
        self._started = time.monotonic()
        self._first = step
        self._iterations = iterations

    def knows_first(self, step: int) -> bool:
        return step - self._first == self.FIRST

    def seconds_left(self, step: int) -> float:
        return (time.monotonic() - self._started) / (step - self._first) * (self._iterations - step)

    def describe(self, step: int, waited_s: float) -> str:
        passed = time.monotonic() - self._started
        return (
            f"{passed / (step - self._first):.2f} s a step, {waited_s / passed:.0%} of it waiting for samples, "
            f"{_hours(self.seconds_left(step))} left"
        )


def _hours(seconds: float) -> str:
    """ "1:02:03"."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
