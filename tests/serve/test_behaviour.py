"""A server under load, killed, stopped and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from finescale.cli.main import run
from pictures import draw
from serving import Running

httpx = pytest.importorskip("httpx")

LIMITS = ("--max-queued", "4", "--stop-seconds", "0.5")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A picture of many tiles, which keeps the worker busy."""
    path = tmp_path_factory.mktemp("large") / "large.png"
    draw(path, width=1500, height=1500)
    return path.read_bytes()


def submit(server: Running, data: bytes) -> Any:
    return httpx.post(f"{server.address}/v1/jobs", files={"image": ("cat.png", data)}, timeout=60)


def job(server: Running, id: str) -> dict[str, Any]:
    return httpx.get(f"{server.address}/v1/jobs/{id}", timeout=60).json()  # type: ignore[no-any-return]


def wait(server: Running, id: str, *statuses: str, tiles: int = 0) -> dict[str, Any]:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        found = job(server, id)
        if found["status"] in statuses and found["tiles_done"] >= tiles:
            return found
        time.sleep(0.02)
    raise AssertionError(found)


def worker_of(server: Running) -> int:
    found = subprocess.run(["pgrep", "-P", str(server.process.pid)], capture_output=True, text=True, check=True)
    return int(found.stdout.split()[0])


def memory_of(server: Running) -> int:
    """Bytes that the server process has in memory, without its workers."""
    return int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.timeout(900)  # three workers are started, which load PyTorch
def test_jobs_outlive_what_is_killed(starting: Any, tmp_path: Path, tiny_weights: Path, large: bytes) -> None:
    """One story, since starting a server takes seconds: worker killed, cancelled, full, server killed, stopped."""
    draw(tmp_path / "cat.png")
    small = (tmp_path / "cat.png").read_bytes()
    assert run(["upscale", str(tmp_path / "cat.png"), "-n", str(tiny_weights)]) == 0
    expected = (tmp_path / "cat_x2.png").read_bytes()
    server = starting(*LIMITS)

    # A worker that dies ends its job alone.
    first = submit(server, large).json()["id"]
    wait(server, first, "running", tiles=1)
    os.kill(worker_of(server), signal.SIGKILL)
    failed = wait(server, first, "failed")
    assert failed["error"]["code"] == "worker_died"
    after = submit(server, small).json()["id"]
    wait(server, after, "done")
    assert httpx.get(f"{server.address}/v1/jobs/{after}/result").content == expected
    assert httpx.get(f"{server.address}/v1/jobs/{first}/result").json()["error"]["code"] == "not_done"

    # A failed job is repeated on request, and cancelled within a tile.
    assert httpx.post(f"{server.address}/v1/jobs/{first}/retry").status_code == 202
    wait(server, first, "running", tiles=1)
    worker = worker_of(server)
    httpx.delete(f"{server.address}/v1/jobs/{first}")
    wait(server, first, "cancelled")
    assert worker_of(server) == worker, "it stopped by itself between two tiles"

    # The queue is bounded, and a place in it is given back.
    busy = submit(server, large).json()["id"]
    wait(server, busy, "running")
    waiting = [submit(server, small).json()["id"] for _ in range(4)]
    refused = submit(server, small)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
    assert int(refused.headers["retry-after"]) >= 1
    httpx.delete(f"{server.address}/v1/jobs/{waiting.pop()}")
    waiting.append(submit(server, small).json()["id"])

    # A killed server takes its worker along; a new one has all finished jobs, and fails the others.
    worker = worker_of(server)
    server.process.kill()
    server.process.wait()
    again = starting(*LIMITS)
    assert not Path(f"/proc/{worker}").exists()
    assert httpx.get(f"{again.address}/v1/jobs/{after}/result").content == expected
    for id in (busy, *waiting):
        assert job(again, id)["error"]["code"] == "stopped"

    # A client that goes away ends its job.
    with pytest.raises(httpx.TimeoutException):
        httpx.post(
            f"{again.address}/v1/upscale", files={"image": ("c.png", large)}, data={"ensemble": "true"}, timeout=2
        )
    last = submit(again, large).json()["id"]
    wait(again, last, "running", "done")

    # SIGTERM is answered within the stated time; another server could not use the folder meanwhile.
    started = time.monotonic()
    assert again.stop() == 0
    assert time.monotonic() - started < 20
    assert again.errors.read_text().splitlines()[-1] == "stopped"


@pytest.mark.timeout(900)
def test_fifty_clients_get_right_answers_for_a_while(starting: Any, tmp_path: Path, tiny_weights: Path) -> None:
    sent = []
    for seed in range(5):
        draw(tmp_path / f"{seed}.png", width=16 + seed, seed=seed)
        assert run(["upscale", str(tmp_path / f"{seed}.png"), "-n", str(tiny_weights)]) == 0
        sent.append(((tmp_path / f"{seed}.png").read_bytes(), (tmp_path / f"{seed}_x2.png").read_bytes()))
    server = starting("--max-queued", "8", "--devices", "cpu,cpu")
    statuses: list[int] = []
    end = time.monotonic() + float(os.environ.get("FINESCALE_LOAD_SECONDS", "4"))
    before = memory_of(server)

    def client(number: int) -> None:
        data, expected = sent[number % 5]
        has_one = False
        while time.monotonic() < end or not has_one:
            answer = httpx.post(f"{server.address}/v1/upscale", files={"image": ("c.png", data)}, timeout=120)
            statuses.append(answer.status_code)
            if answer.status_code == 200:
                assert answer.content == expected
                has_one = True
                continue
            assert answer.status_code == 429, answer.text
            assert int(answer.headers["retry-after"]) >= 1
            time.sleep(0.1)

    with ThreadPoolExecutor(50) as pool:
        list(pool.map(client, range(50)))
    assert statuses.count(200) >= 50
    assert memory_of(server) < before + 100 * 2**20
    assert httpx.get(f"{server.address}/v1/jobs").json() == {"jobs": []}, "nothing is kept of direct requests"
    assert not list((server.folder / "jobs" / "jobs").iterdir())


@pytest.mark.parametrize(("age", "stored", "kept"), [(3600, 10**9, 3), (5, 10**9, 1), (3600, 250, 2)])
def test_finished_jobs_expire(tmp_path: Path, age: float, stored: int, kept: int) -> None:
    pytest.importorskip("fastapi")
    from finescale.serve.jobs import Job, JobStore

    store = JobStore(tmp_path, max_age=age, max_stored=stored)
    for seconds in (0, 10, 20):
        id, folder = store.new_folder()
        (folder / "input").write_bytes(b"x")
        settings = {"format": "png"}
        job = Job(id, "a.png", "default", 2, settings, False, 100, 0.0, status="done", finished=time.time() - seconds)
        store.add(job)
    store.expire()
    assert len(list(store)) == kept
    assert len(list(tmp_path.iterdir())) == kept
    assert len(list(JobStore(tmp_path, max_age=age, max_stored=stored))) == kept, "found again by the next server"
