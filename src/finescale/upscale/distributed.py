"""A batch on a Ray cluster: actors that read, upscale and write picture by picture, and survive their processes.

The plan is made once, by the caller; Ray Data hands the jobs out, one by one, the largest first. Ray restarts an actor
whose process is killed and repeats its job without end. A ledger on the cluster counts how often a job has begun, so
that a picture that kills its process is reported after its second time.
"""

from __future__ import annotations

import logging
import os
import pickle
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any, Literal

from finescale.errors import DeviceError, FinescaleError, MissingExtraError, printable_name
from finescale.system.allocation import reuse_memory
from finescale.system.cores import use_threads
from finescale.system.ledger import Ledger
from finescale.system.places import RemotePath
from finescale.system.remote import kind_of_place
from finescale.upscale.batch import likely_pixels, run_jobs, size_of
from finescale.upscale.outputs import Job, OutputSettings
from finescale.upscale.report import UpscaleReport
from finescale.upscale.workers import Build

_TRIES = 2
"""Times that a picture may kill its process before it is reported as failed."""

_POLL = 0.25  # seconds between two looks at whether to stop, here and in the actors
_PATIENCE = 60.0
"""Seconds that pictures at work may take to be given up or finished."""

_ANSWER = 10.0
"""Seconds that a cluster may take to answer."""


def upscale_distributed(
    jobs: Sequence[Job],
    build: Build,
    settings: OutputSettings,
    *,
    address: str | None = None,
    actors: int | None = None,
    device: Literal["cpu", "cuda"] | None = None,
    gpus_per_actor: float = 1.0,
    max_pixels: int | None = None,
    detect_flaws: bool = False,
    size_of: Callable[[Job], tuple[int, int]] = size_of,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[UpscaleReport]:
    """Run jobs on a Ray cluster, and yield a report for each once its result is written.

    All machines must have finescale installed and see the inputs, the results and the working folder at the same paths.
    Results are written whole or not at all, and existing ones are kept, as by `run_jobs`. A connection to Ray that
    exists already is used and left open.

    Args:
        jobs: The inputs and their outputs.
        build: Builds the upscaler of each actor, given its device. Engine "auto" is chosen there, by all jobs together.
        settings: How results are written.
        address: Ray's address, such as "10.0.0.1:6379", of a cluster that this machine belongs to; or "local" for a new
            instance on this machine. None is the cluster of the variable RAY_ADDRESS or one that runs here, else
            "local".
        actors: Number of actors, at least 1; by default as many as the cluster has room for.
        device: Device of each actor; by default "cuda" where the cluster has GPUs.
        gpus_per_actor: Share of a GPU that an actor on "cuda" takes; with 0.5, two actors share one, and one of them
            reads or writes while the other computes. Actors on "cpu" take one core each.
        max_pixels: As `run_jobs` takes it.
        detect_flaws: Look for visible compression and noise in each input.
        size_of: Reads height and width of a job's input, 0 where it cannot be read.
        stop: Called several times a second; once it returns true, the pictures at work are given up.

    Raises:
        ValueError: ``actors`` or ``gpus_per_actor`` is not positive.
        MissingExtraError: Ray is not installed.
        DeviceError: There is no cluster at the address, it has no room for one actor, an actor lacks the working
            folder, or the cluster fails.
        FinescaleError: An upscaler cannot be built.
    """
    if actors is not None and actors < 1:
        raise ValueError(f"actors must be at least 1, got {actors}")
    if gpus_per_actor <= 0:
        raise ValueError(f"gpus_per_actor must be positive, got {gpus_per_actor}")
    if not jobs:
        return
    ray = _ray()
    is_ours = not ray.is_initialized()
    if is_ours:
        _connect(ray, address)
    try:
        resources = ray.cluster_resources()
        device = device or ("cuda" if resources.get("GPU") else "cpu")
        taken = ("GPU", gpus_per_actor) if device == "cuda" else ("CPU", 1.0)
        room = int(resources.get(taken[0], 0) / taken[1])
        if actors is None and room == 0:
            raise DeviceError(
                f"Ray's cluster has {resources.get(taken[0], 0):g} {taken[0]}s, one actor on {device} takes "
                f"{taken[1]:g}; name the number of actors of a cluster that grows"
            )
        options = {"max_pixels": max_pixels, "detect_flaws": detect_flaws}
        ledger = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Ledger).remote()
        sizes = [size_of(job) for job in jobs]
        here = os.getcwd()  # noqa: PTH109 - for os.chdir
        dataset = _dataset(ray, jobs, sizes).map(
            PictureActor,
            compute=ray.data.ActorPoolStrategy(size=actors or room),
            fn_constructor_args=(build, device, sizes, settings, options, ledger, here),
            num_cpus=1,
            **({"num_gpus": gpus_per_actor} if device == "cuda" else {}),
        )
        dataset.context.enable_progress_bars = False
        yield from _reports(ray, dataset, ledger, stop)
    except ray.exceptions.RayError as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(f"Ray's cluster has failed ({reason}); run again, finished results are kept") from error
    finally:
        if is_ours:
            ray.shutdown()


def _ray() -> Any:
    """The package ray, or a `MissingExtraError`."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Ray warns that it will leave CUDA_VISIBLE_DEVICES alone for actors without a GPU; which these do not use.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray.data
    except ImportError:
        raise MissingExtraError("Ray is not installed; pip install 'finescale[distributed]'") from None
    return ray


def _connect(ray: Any, address: str | None) -> None:
    """Connect to a cluster.

    Raises:
        DeviceError: There is none, or it refuses.
    """
    named = address or os.environ.get("RAY_ADDRESS", "")
    where = f"at {printable_name(named)}" if named else "here"
    host, colon, port = named.rpartition(":")
    termination = signal.getsignal(signal.SIGTERM)
    try:
        if colon and port.isdecimal():  # Ray itself tries for minutes where nothing answers
            socket.create_connection((host, int(port)), timeout=_ANSWER).close()
        # Ray would print what actors print, and each process that is killed, on standard output.
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        ray.init(address, logging_level="ERROR", log_to_driver=False, include_dashboard=False)
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DeviceError(
            f"no connection to a Ray cluster {where} ({reason}); check the address, and the token if it asks for one "
            "(RAY_AUTH_MODE=token, RAY_AUTH_TOKEN)"
        ) from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, termination)  # Ray puts a handler of its own in its place


def _dataset(ray: Any, jobs: Sequence[Job], sizes: Sequence[tuple[int, int]]) -> Any:
    """Return the jobs as rows, the largest first, each a block of its own: a killed process repeats one picture."""
    ordered = sorted(range(len(jobs)), key=lambda index: -likely_pixels(jobs[index], sizes[index]))
    # Pickled, since a path need not be text that Arrow takes.
    rows = [
        {"index": index, "job": pickle.dumps((jobs[index], _exists(jobs[index]))), "report": b""} for index in ordered
    ]
    return ray.data.from_items(rows, override_num_blocks=len(rows))


def _exists(job: Job) -> bool:
    if isinstance(job.output, RemotePath):
        return kind_of_place(job.output) is not None
    return job.output is not None and os.path.lexists(job.output)


def _reports(ray: Any, dataset: Any, ledger: Any, stop: Callable[[], bool]) -> Iterator[UpscaleReport]:
    """Yield reports as rows arrive; once it is time to stop, those of the pictures that were finished all the same."""
    arrived: queue.SimpleQueue[dict[str, Any] | BaseException | None] = queue.SimpleQueue()
    is_over = threading.Event()
    collector = threading.Thread(target=_collect, args=(dataset, arrived, is_over), name="rows of Ray", daemon=True)
    collector.start()
    yielded: set[int] = set()
    try:
        while not stop():
            try:
                row = arrived.get(timeout=_POLL)
            except queue.Empty:
                continue
            if row is None:
                return
            if isinstance(row, BaseException):
                raise row
            outcome = pickle.loads(row["report"])
            if isinstance(outcome, BaseException):
                raise outcome
            yielded.add(row["index"])
            yield outcome
        ray.get(ledger.stop.remote())
        deadline = time.monotonic() + _PATIENCE
        while ray.get(ledger.num_at_work.remote()) and time.monotonic() < deadline:
            time.sleep(_POLL)
        for index, report in ray.get(ledger.reports.remote()).items():
            if index not in yielded:
                yield pickle.loads(report)
    finally:  # the caller has all reports, or wants no more
        ray.get(ledger.stop.remote())
        is_over.set()
        collector.join(_PATIENCE)


def _collect(dataset: Any, arrived: queue.SimpleQueue[Any], is_over: threading.Event) -> None:
    """Put each row of a dataset into a queue, then None, or the exception that ended it; end early once it is over."""
    try:
        with closing(iter(dataset.iter_rows())) as rows:
            for row in rows:
                arrived.put(row)
                if is_over.is_set():
                    break
    except BaseException as error:
        arrived.put(error)
    else:
        arrived.put(None)


class PictureActor:
    """Holds an upscaler, reads a picture and writes its result: one row in, one row out.

    Args:
        build: Builds the upscaler.
        device: The device, given to ``build``.
        sizes: Height and width of the inputs of all jobs, by which engine "auto" is chosen, the same for all actors.
        settings: How results are written.
        options: Further arguments of `run_jobs`.
        ledger: Handle of the `Ledger`.
        folder: Working folder of the command, so that relative paths and messages are the same here.
    """

    def __init__(
        self,
        build: Build,
        device: str,
        sizes: Sequence[tuple[int, int]],
        settings: OutputSettings,
        options: dict[str, Any],
        ledger: Any,
        folder: str,
    ) -> None:
        self._settings = settings
        self._options = options
        self._ledger = ledger
        # An actor whose constructor raises is started again without end. Its first row carries the error instead.
        self._error: FinescaleError | ValueError | None = None
        try:
            os.chdir(folder)
            reuse_memory()
            if device == "cpu":
                use_threads(1)
            self._upscaler = build(device).resolved(sizes)
        except OSError as error:
            self._error = DeviceError(
                f"{printable_name(folder)}: a machine of Ray's cluster lacks this working folder ({error.strerror}); "
                "share it, or start where all machines have it"
            )
        except (FinescaleError, ValueError) as error:
            self._error = error

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a row with the pickled report of its job, or with an exception that concerns all jobs."""
        if self._error is not None:
            return {**row, "report": pickle.dumps(self._error)}
        import ray

        index = int(row["index"])
        job, has_existed = pickle.loads(row["job"])
        times, report, has_stopped = ray.get(self._ledger.begin.remote(index))
        if report is None and not has_stopped:
            outcome = _killed(job) if times >= _TRIES else self._run(job, is_again=times > 0 and not has_existed)
            report = None if outcome is None else pickle.dumps(outcome)
            ray.get(self._ledger.end.remote(index, report))
        return {**row, "report": report or pickle.dumps(None)}

    def _run(self, job: Job, *, is_again: bool) -> UpscaleReport | None:
        """Return the report of a job; None where it was given up.

        Args:
            job: The job.
            is_again: Whether the job has begun before and had no result then. A result that exists now is that of a
                process that was killed before it could report it, and is redone.
        """
        settings = self._settings.model_copy(update={"overwrite": True}) if is_again else self._settings
        try:
            return next(run_jobs([job], self._upscaler, settings, on_tile=self._on_tile(), **self._options))
        except KeyboardInterrupt:
            return None
        except Exception as error:  # one picture does not end the work of a cluster
            reason = f"{printable_name(job.input)}: {type(error).__name__}: {error}"
            return UpscaleReport(job.input, "failed", reason=reason)

    def _on_tile(self) -> Callable[[Job, int, int], None]:
        """Return a function that raises where the job is to be given up; it asks now and then."""
        import ray

        asked = time.monotonic()

        def on_tile(_job: Job, _done: int, _total: int) -> None:
            nonlocal asked
            if time.monotonic() - asked > _POLL:
                asked = time.monotonic()
                if ray.get(self._ledger.has_stopped.remote()):
                    raise KeyboardInterrupt

        return on_tile


def _killed(job: Job) -> UpscaleReport:
    reason = f"{printable_name(job.input)}: its process was killed twice, perhaps for want of memory"
    return UpscaleReport(job.input, "failed", reason=reason)
