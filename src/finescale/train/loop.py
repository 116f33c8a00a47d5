"""Training loop for one device or several, in which everything is reproducible from settings and step."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from finescale import weights
from finescale.data.loader import Batches, batches, indices_of
from finescale.data.resident import ResidentBatches, ResidentSamples, resident_bytes
from finescale.data.sources import open_source
from finescale.errors import CheckpointError, NumericalError
from finescale.settings import settings_text
from finescale.system.files import whole_file
from finescale.system.interrupt import deferred_interrupt
from finescale.system.text_log import TextLog
from finescale.train.checkpoint import Checkpoint, Checkpoints, TrainingState
from finescale.train.distributed import Team, joined, num_processes
from finescale.train.folder import check_space, owned, writing
from finescale.train.initial_weights import described_network, initial_network
from finescale.train.learner import Learner, StepResult
from finescale.train.log import Log, check_places, plot_curve
from finescale.train.progress import OnStep, TrainingProgress
from finescale.train.published_log import step_message, validation_messages
from finescale.train.recompute import statistics
from finescale.train.schedule import learning_rate
from finescale.train.settings import TrainSettings
from finescale.train.validation import Validation
from finescale.upscale.memory import free_memory

logger = logging.getLogger("finescale.train")

RESIDENT_SHARE = 0.25
"""Share of a GPU's free memory that the pictures of a training may take there; activations need the rest."""


def train(
    settings: TrainSettings,
    *,
    resume: bool | None = None,
    device: str | None = None,
    on_step: OnStep | None = None,
) -> Path:
    """Train a network, from the start or from its last checkpoint.

    Writes into ``<output>/<name>/``: the settings, ``metrics.csv``, a text log, ``curve.png``, ``checkpoints/``, the
    averaged weights that validated best as ``best.safetensors``, and at the end the averaged weights as
    ``weights.safetensors``.
    A run that is killed at any moment and resumed gives the weights of an uninterrupted one, bit for bit on a CPU.
    On Ctrl+C or SIGTERM the step is finished and a checkpoint saved, unless the step was bad.

    Processes that torchrun starts, one for each device, train together. The samples of a step do not depend on their
    number, so a training may resume on another number of devices, with the same result up to rounding.

    Args:
        settings: Settings of the training.
        resume: True resumes from the folder's newest checkpoint, False starts; None resumes where there is one.
        device: "cpu", "cuda", "cuda:1", "mps"; None is CUDA where available.
        on_step: Called after each step, in the first process.

    Returns:
        The weight file.

    Raises:
        ValueError: The samples of a step cannot be divided among the devices, or the device's name is invalid.
        DataError: A folder has no usable images, or the training's folder cannot be written to.
        DeviceError: The device does not exist on this machine.
        WeightsError: The file of ``warm_start`` does not fit.
        NumericalError: Too many steps in a row exploded, twice from the same checkpoint, which is kept.
        CheckpointError: There is nothing to resume from, the folder holds a training that would be overwritten, another
            process is training in it, or the checkpoint is damaged, beyond the last step, or of a training with other
            settings.
        KeyboardInterrupt: Ctrl+C or SIGTERM, once the checkpoint is saved.
    """
    with joined(device) as team:
        cuda = [team.device] if team.device.type == "cuda" else []
        folder = settings.output / settings.name
        with (
            owned(folder) if team.is_first else nullcontext(),
            torch.random.fork_rng(devices=cuda),
            deferred_interrupt(termination=True) as is_interrupted,
        ):
            return _Training(settings, team, resume, folder).run(is_interrupted, on_step)


class _Training:
    """One call of `train` in one process; only the first process validates, writes files and logs."""

    def __init__(self, settings: TrainSettings, team: Team, resume: bool | None, folder: Path) -> None:
        self.settings = settings
        self.team = team
        self.folder = folder
        self.text = TextLog(folder, "train")
        self.checkpoints = Checkpoints(folder / "checkpoints", last=settings.keep.last)
        found = team.broadcast(self._find(resume) if team.is_first else None)
        self.source = open_source(
            settings.data.hr, settings.data.lr, scale=settings.scale, patch=settings.data.patch,
            seed=settings.train.seed, augmentation=settings.data.augmentation,
            degradation=settings.data.degradation, channels=settings.network_settings().in_channels,
            processes=team.local_world,
        )  # fmt: skip
        self.resident = self._resident()
        validates = bool(settings.validation.all_sets()) and team.is_first
        self.validation = (
            Validation(settings.validation, scale=settings.scale, folder=self.folder) if validates else None
        )
        network = initial_network(settings, is_resumed=found is not None)
        _check_shares(settings, team.world, network)
        self.averaged = copy.deepcopy(network).to(team.device).eval().requires_grad_(False)
        self.learner = Learner(network, settings.train, team, patch=settings.data.patch)
        self.state = TrainingState()
        self.psnr_y: float | None = None
        if found:
            self._restore(found)
        if team.is_first:
            self._check_space()
            self._report_plan()
            path = folder / "settings.yml"
            with writing(path), whole_file(path) as file:
                file.write(settings_text(settings).encode())

    def run(self, is_interrupted: Callable[[], bool], on_step: OnStep | None) -> Path:
        """Take all steps, return to a checkpoint where necessary, and save the weights."""
        while self.state.step < self.settings.train.iterations:
            with closing(self._batches()) as samples, self._log() as log:
                self._take_steps(samples, log, is_interrupted, on_step)
        result = self.folder / "weights.safetensors"
        self._load_average()
        if self.team.is_first:
            self._save_weights(result)
            plot_curve(self.folder)
        self.team.wait()
        return result

    def _take_steps(
        self,
        samples: Batches | ResidentBatches,
        log: Log | None,
        is_interrupted: Callable[[], bool],
        on_step: OnStep | None,
    ) -> None:
        """Take steps until all are done, or until the training has returned to a checkpoint after too many bad ones."""
        settings, state = self.settings, self.state
        clock = _Clock(state.step, settings.train.iterations)
        for lr, hr in samples:
            rate = learning_rate(state.step, settings.train)
            draw = f"{settings.train.seed} {state.step + state.passed_over}"
            result = self.learner.step(
                lr, hr, number=state.step + 1, rate=rate, draw=draw, usual=state.usual, stop=is_interrupted()
            )
            state.step += 1
            is_last = state.step == settings.train.iterations
            state.count(result.terms, is_bad=bool(result.bad))
            if result.bad:
                self._report("step %d: exploded and skipped: %s", state.step, ", ".join(result.bad))
                if state.bad_in_a_row > settings.train.bad_steps:
                    self._go_back(result)
                    return
            if log and (state.step % settings.keep.log_every == 0 or is_last):
                terms = result.terms if len(result.terms) > 1 else {}
                log.add(step=state.step, loss=result.loss, learning_rate=rate, **terms)
            if state.step % settings.keep.log_every == 0 or is_last or clock.knows_first(state.step):
                self._report_step(result, rate, clock, samples)
            if settings.validation.all_sets() and (state.step % settings.validation.every == 0 or is_last):
                self._validate(log)
            # No checkpoint after a bad step: a training that is stopped there resumes before the bad steps.
            is_due = state.step % settings.keep.every == 0 or result.stop
            if is_last or (is_due and not result.bad):
                self._save_checkpoint()
            if on_step and self.team.is_first:
                on_step(TrainingProgress(state.step, settings.train.iterations, result.loss, self.psnr_y))
            if result.stop:
                self.team.wait()  # where one process ends, torchrun ends the others
                raise KeyboardInterrupt
            if is_last:
                return

    # ---- data

    def _batches(self) -> Batches | ResidentBatches:
        """Return this process's share of the samples of all further steps."""
        first_step, batch = self.state.step + self.state.passed_over, self.settings.train.batch
        rank, world = self.team.rank, self.team.world
        if self.resident:
            return ResidentBatches(self.resident, indices_of(first_step, batch=batch, rank=rank, world=world))
        return batches(self.source, first_step=first_step, batch=batch, rank=rank, world=world)

    def _resident(self) -> ResidentSamples | None:
        """Return the samples in the memory of a GPU, where they fit and need no CPU."""
        device = self.team.device
        if device.type != "cuda" or self.source.degradation is not None:
            return None
        free = free_memory(device)
        fits = free is not None and resident_bytes(self.source) <= free * RESIDENT_SHARE
        return ResidentSamples(self.source, device) if fits else None

    # ---- checkpoints

    def _find(self, resume: bool | None) -> Checkpoint | None:
        """Return the checkpoint to resume from; None to start."""
        path = self.checkpoints.latest()
        if path and resume is False:
            raise CheckpointError(f"{self.folder} holds a training already; resume it, or choose another name")
        if not path and resume:
            raise CheckpointError(f"{self.folder}: there is no checkpoint to resume from; start without resuming")
        found = Checkpoint.load(path, self.settings) if path else None
        iterations = self.settings.train.iterations
        if found and found.state.step > iterations:
            raise CheckpointError(
                f"{self.folder}: {found.state.step} steps are done already, more than train.iterations={iterations}; "
                f"set it to {found.state.step} or more, or choose another name"
            )
        return found

    def _check_space(self) -> None:
        """Refuse a disk that cannot hold what the training surely writes, rather than fail there after many steps."""
        weights = sum(tensor.nbytes for tensor in self.averaged.state_dict().values())
        in_checkpoint = 2 if self.state.step < self.settings.train.iterations else 0  # weights, and their average
        check_space(self.folder, (1 + in_checkpoint) * weights)

    def _restore(self, found: Checkpoint) -> None:
        """Restore everything to the state of a checkpoint."""
        then = (found.devices, found.settings["train"]["accumulate"])
        now = (self.team.world, self.settings.train.accumulate)
        if then != now and self.learner.draws():
            raise CheckpointError(
                f"{self.folder}: the training was started with {then[0]} devices and accumulate={then[1]}; resume with "
                f"the same, not with {now[0]} and {now[1]}: stochastic depth would draw other numbers"
            )
        self.learner.restore(found.learner)
        self.state = found.state

    def _save_checkpoint(self) -> None:
        learned = self.learner.state()
        if self.team.is_first:
            plain = self.settings.model_dump(mode="json")
            self.checkpoints.save(Checkpoint(plain, self.team.world, self.state, learned))

    def _go_back(self, result: StepResult) -> None:
        """Return to the last checkpoint, and continue with the samples that follow the bad ones.

        Raises:
            NumericalError: There is no checkpoint, or the training has returned to it before.
        """
        state, remedy = self.state, "restart with a smaller train.lr, or with train.clip"
        bad = f"step {state.step}: exploded: {', '.join(result.bad)}, {state.bad_in_a_row} times in a row"
        path = self.checkpoints.latest() if self.team.is_first else None
        found = self.team.broadcast(Checkpoint.load(path, self.settings) if path else None)
        if not found:
            raise NumericalError(f"{bad}, and there is no checkpoint yet to return to; {remedy}")
        if found.state.step == state.went_back_to:
            raise NumericalError(f"{bad}, and again after returning to step {found.state.step}; {remedy}")
        self._report("%s; returning to the checkpoint of step %d and skipping these samples", bad, found.state.step)
        drawn = state.step + state.passed_over
        self._restore(found)
        step = found.state.step
        self.state = replace(found.state, passed_over=drawn - step, bad=state.bad, went_back_to=step)

    # ---- the averaged weights

    def _load_average(self) -> None:
        """Load the averaged weights into the network that is validated and saved, in the first process."""
        state = self.learner.average.state()
        if self.team.is_first:
            self.averaged.load_state_dict(state)

    def _validate(self, log: Log | None) -> None:
        self._load_average()
        if self.validation is None or log is None:
            return
        scores = self.validation.run(self.averaged, step=self.state.step)
        channel = self.settings.validation.channel
        self.psnr_y = psnr = scores[f"psnr_{channel}"]
        log.add(step=self.state.step, **scores)
        where = "" if channel == "y" else " in RGB"
        values = psnr, scores[f"ssim_{channel}"], where
        logger.info("step %d, validation PSNR %.3f dB, SSIM %.4f%s", self.state.step, *values)
        for message in validation_messages(self.settings.validation.all_sets(), scores, log.best):
            self.text.add(message)
        if self.state.best is None or psnr > self.state.best:
            self.state.best = psnr
            self._save_weights(self.folder / "best.safetensors")
        plot_curve(self.folder)

    def _save_weights(self, path: Path) -> None:
        settings = self.settings
        training = settings.shareable()
        weights.save(self.averaged, path, source="finescale train", licence=settings.licence, training=training)

    # ---- log

    @contextmanager
    def _log(self) -> Iterator[Log | None]:
        """Open the log of the training, in the first process."""
        if not self.team.is_first:
            yield None
            return
        with closing(Log(self.folder, self.settings, done_step=self.state.step)) as log:
            yield log

    def _report(self, message: str, *values: object) -> None:
        """Log a message, also in the text log; in the first process."""
        if self.team.is_first:
            logger.info(message, *values)
            self.text.add(message % values)

    def _report_plan(self) -> None:
        """Log the plan of the training, before the first step."""
        settings, source, learner = self.settings, self.source, self.learner
        if source.too_small:
            left_out = len(source.too_small), ", ".join(source.too_small)
            message = "%d pictures are smaller than a patch and are left out: %s"
            logger.warning(message, *left_out)
            self.text.add(message % left_out)
        rehearsal = learner.rehearsal
        if rehearsal.unreached:
            total = sum(1 for _ in self.averaged.parameters())
            unreached = len(rehearsal.unreached), total, rehearsal.unreached[0]
            self._report("no gradient reaches %d of the %d weight tensors, such as %s; they stay unchanged", *unreached)
        batch, iterations = settings.train.batch, settings.train.iterations
        part = batch // (self.team.world * settings.train.accumulate)
        parameters = sum(parameter.numel() for parameter in self.averaged.parameters())
        self._report("%s x%d, %s parameters", settings.title, settings.scale, f"{parameters:,}")
        self._report(
            "%d samples per step, in passes of %d on each of %d devices (%s); lr patches of %d x %d pixels",
            batch, part, self.team.world, self.team.device.type, settings.data.patch, settings.data.patch,
        )  # fmt: skip
        self._report(
            "%d steps; each of %d pictures is drawn about %.0f times",
            iterations, len(source), iterations * batch / len(source),
        )  # fmt: skip
        left = (iterations - self.state.step) * batch / self.team.world
        self._report(
            "estimate: %s to go, and %.0f MiB for the activations of a pass on each device",
            _hours(left * rehearsal.seconds), part * rehearsal.kept_bytes / 2**20,
        )  # fmt: skip
        if self.state.step:
            self._report("resumed after step %d", self.state.step)

    def _report_step(self, result: StepResult, rate: float, clock: _Clock, samples: Batches | ResidentBatches) -> None:
        memory = ""
        if self.team.device.type == "cuda":
            memory = f", {torch.cuda.max_memory_allocated(self.team.device) / 2**30:.1f} GiB"
        if not self.team.is_first:
            return
        step, steps = self.state.step, self.settings.train
        logger.info(
            "step %d of %d, loss %.5f, learning rate %.2e, %s%s, %d steps skipped",
            step, steps.iterations, result.loss, rate, clock.describe(step, samples.waited_s), memory, self.state.bad,
        )  # fmt: skip
        seconds, waited = clock.per_step(step, samples.waited_s)
        losses = {name: steps.loss[name] * value for name, value in result.terms.items()}
        epoch = step * steps.batch // len(self.source)
        self.text.add(
            step_message(
                self.settings.name, step=step, epoch=epoch, rate=rate, seconds_left=clock.seconds_left(step),
                seconds=seconds, waited=waited, losses=losses,
            )
        )  # fmt: skip


def check(settings: TrainSettings) -> None:
    """Refuse what `train` refuses because of settings and weights; places of pictures may be missing still.

    Raises:
        WeightsError: The file of ``warm_start`` exists but cannot be read, or does not fit.
        MissingExtraError: TensorBoard or the tracking service is requested but not installed.
        ValueError: The batch cannot be divided as requested, or is too small for the network.
    """
    check_places(settings.keep)
    _check_shares(settings, num_processes(), described_network(settings))


def _check_shares(settings: TrainSettings, devices: int, network: nn.Module) -> None:
    """Refuse a batch that cannot be divided into equal passes, each large enough for the network."""
    batch, passes = settings.train.batch, devices * settings.train.accumulate
    if batch % passes:
        raise ValueError(f"train.batch must be a multiple of {passes}, devices times train.accumulate, got {batch}")
    if batch // passes < 2 and statistics(network):
        raise ValueError(
            f"train.batch must be at least {2 * passes} for {settings.title}, whose BatchNorm needs two samples in "
            f"each pass on each device, got {batch}"
        )


class _Clock:
    """Clock for the time that steps take, and the time left."""

    FIRST = 10
    """Steps after which the time left is first known well enough to be logged."""

    def __init__(self, step: int, iterations: int) -> None:
        self._started = time.monotonic()
        self._first = step
        self._iterations = iterations

    def knows_first(self, step: int) -> bool:
        return step - self._first == self.FIRST

    def seconds_left(self, step: int) -> float:
        return (time.monotonic() - self._started) / (step - self._first) * (self._iterations - step)

    def per_step(self, step: int, waited_s: float) -> tuple[float, float]:
        """Return the seconds that a step takes, and those of it spent waiting for samples."""
        steps = step - self._first
        return (time.monotonic() - self._started) / steps, waited_s / steps

    def describe(self, step: int, waited_s: float) -> str:
        seconds, waited = self.per_step(step, waited_s)
        return (
            f"{seconds:.2f} s per step, {waited / seconds:.0%} of it waiting for samples, "
            f"{_hours(self.seconds_left(step))} left"
        )


def _hours(seconds: float) -> str:
    """Format a duration as "1:02:03"."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
