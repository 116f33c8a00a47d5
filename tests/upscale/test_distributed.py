"""A Ray cluster of two actors does what one process does, whatever kills them."""

from __future__ import annotations

import gc
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from torch import Tensor

from finescale import weights
from finescale.cli.main import run
from finescale.errors import DeviceError, MissingExtraError
from finescale.images import write_image
from finescale.networks import FAMILIES
from finescale.system.interrupt import deferred_interrupt
from finescale.upscale import Upscaler
from finescale.upscale.batch import run_jobs
from finescale.upscale.distributed import upscale_distributed
from finescale.upscale.outputs import Job, OutputSettings
from finescale.upscale.report import UpscaleReport
from upscale.stand_ins import Nearest

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL"),
    pytest.mark.timeout(150),
    # Ray copies settings that it has deprecated, and leaves its log files open.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context"),
    pytest.mark.filterwarnings("ignore:unclosed file.*ray-data:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*ray-data:pytest.PytestUnraisableExceptionWarning"),
]
# The cluster of these tests asks for a token. Ray reads this when it is imported, and never again.
os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"] = "token", secrets.token_hex(32)

POISON, HELD = 113 / 255, 200 / 255


class Troubled(Nearest):
    """Kills its process at a poisonous picture, and waits to be killed at the first sight of another one.

    Args:
        notes: Folder for a file that each death leaves, named by what died.
        early: File that is written before the wait, as if the process were killed after it had written its result.
        pause: Seconds that each picture takes.
    """

    def __init__(self, notes: Path, *, early: Path | None = None, pause: float = 0.0) -> None:
        super().__init__()
        self.notes, self.early, self.pause = notes, early, pause

    def forward(self, lr: Tensor) -> Tensor:
        first = float(lr[0, 0, 0, 0])
        if abs(first - POISON) < 1e-4:
            (self.notes / f"poisoned.{os.getpid()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if abs(first - HELD) < 1e-4 and not list(self.notes.glob("held.*")):
            if self.early is not None:
                self.early.parent.mkdir(exist_ok=True)
                self.early.write_bytes(b"of a killed process")
            (self.notes / f"held.{os.getpid()}").touch()
            time.sleep(60)
        time.sleep(self.pause)
        return super().forward(lr)


def build(notes: Path, early: Path | None, pause: float, device: str) -> Upscaler:
    return Upscaler(Troubled(notes, early=early, pause=pause), device=device)


def refuse(device: str) -> Upscaler:
    raise DeviceError(f"there is no device {device!r}")


def jobs_of(folder: Path, count: int) -> list[Job]:
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [Job(folder / f"{number}.png", folder / "out" / f"{number}_x2.png") for number in range(count)]
    for number, job in enumerate(jobs):
        write_image(job.input, torch.full((3, 8, 8 + number), number / 255))
    return jobs


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of a Ray cluster of two cores on this machine, which asks for a token; it ends without a trace."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'finescale[distributed]'")
    folder = tempfile.mkdtemp(prefix="ray")  # the names of sockets must be short
    termination = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
        command += ["--node-ip-address=127.0.0.1", "--port=0", "--include-dashboard=false", f"--temp-dir={folder}"]
        process = subprocess.Popen(
            [*command, "--num-cpus=2", "--object-store-memory=100000000"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        try:
            printed = ""
            while not (found := re.search(r"--address='([\d.:]+)'", printed)):
                line = process.stdout.readline()
                assert line, printed
                printed += line
            yield found[1]
        finally:
            # By SIGTERM, Ray takes half a minute and leaves some of its processes to themselves.
            members = descendants(process.pid)
            process.kill()
            process.wait()
            for member in members:
                with suppress(ProcessLookupError):
                    os.kill(member, signal.SIGKILL)
            process.stdout.close()
            signal.signal(signal.SIGTERM, termination)
            gc.collect()  # Ray's log files, where the warning of them is expected
    deadline = time.monotonic() + 20
    while (left := members & {process for process, _ in running()}) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left
    shutil.rmtree(folder)


def running() -> list[tuple[int, int]]:
    """Return the ids of all processes, and of what has started each, without those that have ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            state, parent, *_ = path.read_text().rpartition(")")[2].split()
            if state != "Z":
                found.append((int(path.parent.name), int(parent)))
    return found


def descendants(process: int) -> set[int]:
    """Return the ids of all that a process has started, directly or not."""
    members, pairs = {process}, running()
    while more := {one for one, parent in pairs if parent in members} - members:
        members |= more
    return members - {process}


def kill_held(notes: Path) -> None:
    """Kill the process that waits for it."""
    deadline = time.monotonic() + 120
    while not (held := list(notes.glob("held.*"))) and time.monotonic() < deadline:
        time.sleep(0.02)
    for note in held:
        os.kill(int(note.suffix[1:]), signal.SIGKILL)


@pytest.fixture(scope="module")
def troubled(cluster: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Job], list[UpscaleReport], Path]:
    """Jobs of 40 pictures, of which one is broken, one kills its process and one is killed with it; reports; notes."""
    folder = tmp_path_factory.mktemp("troubled")
    jobs = jobs_of(folder, 40)
    jobs[3].input.write_bytes(b"no picture")
    write_image(jobs[5].input, torch.full((3, 8, 64), POISON))
    write_image(jobs[30].input, torch.full((3, 8, 64), HELD))
    notes = folder / "notes"
    notes.mkdir()
    killer = Thread(target=kill_held, args=(notes,))
    killer.start()
    building = partial(build, notes, jobs[30].output, 0.0)
    reports = list(upscale_distributed(jobs, building, OutputSettings(), address=cluster))
    killer.join()
    return jobs, reports, notes


def test_each_picture_has_one_report_although_processes_are_killed(
    troubled: tuple[list[Job], list[UpscaleReport], Path],
) -> None:
    jobs, reports, notes = troubled
    assert len(list(notes.glob("held.*"))) == 1
    assert len(reports) == 40
    assert {report.input for report in reports} == {job.input for job in jobs}
    assert {report.input for report in reports if report.status != "done"} == {jobs[3].input, jobs[5].input}


def test_every_result_is_that_of_one_process(troubled: tuple[list[Job], list[UpscaleReport], Path]) -> None:
    jobs, reports, notes = troubled
    sound = [job for number, job in enumerate(jobs) if number not in (3, 5)]
    plain = [Job(job.input, job.input.parent / "plain" / job.output.name) for job in sound if job.output]
    expected = {
        report.input: report
        for report in run_jobs(plain, build(notes, None, 0.0, "cpu"), OutputSettings())  # "held" has its note
    }
    for job in plain:
        assert job.output is not None
        assert (job.input.parent / "out" / job.output.name).read_bytes() == job.output.read_bytes()
    for report in reports:
        if report.status == "done":
            one = expected[report.input]
            assert (report.input_size, report.output_size, report.notes) == (one.input_size, one.output_size, one.notes)
    assert sorted(path.name for path in (jobs[0].input.parent / "out").iterdir()) == sorted(
        path.name for path in (jobs[0].input.parent / "plain").iterdir()
    )


def test_the_picture_that_kills_is_tried_twice_and_named(
    troubled: tuple[list[Job], list[UpscaleReport], Path],
) -> None:
    jobs, reports, notes = troubled
    assert len(list(notes.glob("poisoned.*"))) == 2
    reasons = {report.input: report.reason for report in reports if report.status == "failed"}
    assert reasons[jobs[5].input] == f"{jobs[5].input}: its process was killed twice, perhaps for want of memory"
    assert reasons[jobs[3].input] is not None
    assert reasons[jobs[3].input].startswith(f"{jobs[3].input}: ")


def test_a_batch_that_is_interrupted_reports_all_results_that_exist(cluster: str, tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, 30)
    reports: list[UpscaleReport] = []
    building = partial(build, tmp_path, None, 0.3)
    with deferred_interrupt() as is_interrupted:
        for report in upscale_distributed(
            jobs, building, OutputSettings(), address=cluster, actors=1, stop=is_interrupted
        ):
            reports.append(report)
            if len(reports) == 1:
                os.kill(os.getpid(), signal.SIGINT)
    assert 1 <= len(reports) < 30
    assert {report.output for report in reports} == set((tmp_path / "out").glob("*"))


def test_what_prevents_the_first_picture_is_raised(cluster: str, tmp_path: Path) -> None:
    """By a connection that exists, which is left open."""
    import ray

    jobs = jobs_of(tmp_path, 2)
    termination = signal.getsignal(signal.SIGTERM)
    ray.init(cluster, log_to_driver=False, logging_level="ERROR")
    signal.signal(signal.SIGTERM, termination)
    try:
        with pytest.raises(DeviceError, match="Ray's cluster has 0 GPUs, one actor on cuda takes 1; name the number"):
            list(upscale_distributed(jobs, refuse, OutputSettings(), device="cuda"))
        with pytest.raises(DeviceError, match="there is no device 'cpu'"):
            list(upscale_distributed(jobs, refuse, OutputSettings(), actors=1))
        assert ray.is_initialized()
    finally:
        ray.shutdown()


def test_the_command_reports_what_one_process_does(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One result exists, one picture is broken, and all paths are relative."""
    torch.manual_seed(0)
    family = FAMILIES["hit-sr"]
    weights.save(family.network(settings=family.tiny["hit-sir"], scale=2), tmp_path / "tiny.safetensors", source="test")
    jobs_of(tmp_path / "in", 4)
    (tmp_path / "in" / "2.png").write_bytes(b"no picture")
    monkeypatch.chdir(tmp_path)
    told: dict[str, list[dict[str, Any]]] = {}
    for flags in ([], ["--ray", cluster, "--workers", "1"]):
        Path("out").mkdir()
        write_image(Path("out/1_x2.png"), torch.zeros(3, 16, 18))
        assert run(["upscale", "in", "-n", "tiny.safetensors", "-o", "out", *flags, "--json"]) == 2
        printed = capsys.readouterr()
        assert ("computing on Ray by engine auto\n" in printed.err) is bool(flags)
        files = json.loads(printed.out)["files"]
        told["ray" if flags else "plain"] = sorted(files, key=lambda file: str(file["input"]))
        shutil.move("out", "ray" if flags else "plain")
    assert [file["status"] for file in told["plain"]] == ["done", "kept", "failed", "done"]
    assert [{**file, "seconds": 0} for file in told["ray"]] == [{**file, "seconds": 0} for file in told["plain"]]
    names = sorted(path.name for path in Path("plain").iterdir())
    assert [path.name for path in sorted(Path("ray").iterdir())] == names
    assert all(Path("plain", name).read_bytes() == Path("ray", name).read_bytes() for name in names)


# ---- without a cluster


def test_an_address_where_nothing_answers_is_refused_at_once(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with socket.socket() as bound:  # and not listening
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        message = (
            rf"no connection to a Ray cluster at {address} \(.*Connection refused\); check the address, and the token"
        )
        with pytest.raises(DeviceError, match=message):
            list(upscale_distributed(jobs_of(tmp_path, 1), refuse, OutputSettings(), address=address))


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"Ray is not installed; pip install 'finescale\[distributed\]'"):
        list(upscale_distributed(jobs_of(tmp_path, 1), refuse, OutputSettings()))


@pytest.mark.parametrize(("argument", "value"), [("actors", 0), ("gpus_per_actor", 0.0)])
def test_no_actor_or_no_share_is_refused(argument: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{argument} must be"):
        list(upscale_distributed([], refuse, OutputSettings(), **{argument: value}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--ray", "photos"), "--ray: an address is HOST:PORT, local or auto, got 'photos'; put --ray behind"),
        (("--ray", "ray://head:10001"), "--ray: run the command on a machine of the cluster"),
        (("--ray", "--shard", "1/2"), "--ray and --shard are mutually exclusive"),
        (("--ray=local", "--devices", "cpu"), "--ray and --devices are mutually exclusive"),
        (("--ray", "--device", "cuda:1"), "--device is cpu or cuda with --ray, which numbers the devices itself"),
        (("--ray", "--gpus-per-actor", "0"), "--gpus-per-actor must be positive, got 0"),
        (("--gpus-per-actor", "0.5"), "--gpus-per-actor needs --ray"),
    ],
)
def test_flags_that_do_not_go_with_ray_are_refused(
    flags: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["upscale", "in.png", *flags]) == 1
    assert message in " ".join(capsys.readouterr().err.split())
