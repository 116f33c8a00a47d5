"""The HTTP API of a real server process: answers, errors, and bytes equal to the command line's."""

from __future__ import annotations

import io
import json
import os
import random
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from finescale.cli.main import run
from pictures import draw
from serving import Running

PNG = "image/png"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    draw(tmp_path / "cat.png", width=20, height=16)
    return tmp_path / "cat.png"


@pytest.fixture(scope="module", autouse=True)
def silence(server: Running) -> Iterator[Future[float]]:
    """Seconds until the server closes a connection that sends half a header and no more; measured beside the tests."""
    host, port = server.address.removeprefix("http://").split(":")

    def seconds_to_the_end() -> float:
        with socket.create_connection((host, int(port)), timeout=60) as idle:
            idle.sendall(b"GET / HTTP/1.1\r\n")
            started = time.monotonic()
            assert idle.recv(100) == b""
            return time.monotonic() - started

    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(seconds_to_the_end)


def post(client: Any, path: str, picture: Path | bytes, name: str = "cat.png", **settings: Any) -> Any:
    data = picture if isinstance(picture, bytes) else picture.read_bytes()
    return client.post(path, files={"image": (name, data)}, data={key: str(value) for key, value in settings.items()})


def finished(client: Any, answer: Any) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    end = time.monotonic() + 120
    while time.monotonic() < end:
        job: dict[str, Any] = client.get(f"/v1/jobs/{answer.json()['id']}").json()
        if job["status"] in ("done", "failed", "cancelled"):
            return job
        time.sleep(0.05)
    raise AssertionError(job)


@pytest.mark.parametrize(
    ("settings", "flags"),
    [
        ({}, []),
        ({"format": "jpg", "quality": 80}, ["--format", "jpg", "--quality", "80"]),
        ({"long_side": 33, "ensemble": "true"}, ["--long-side", "33", "--ensemble"]),
        ({"format": "tif"}, ["--format", "tif"]),
    ],
    ids=["png", "jpg", "resized", "tif"],
)
def test_the_bytes_of_a_result_are_those_of_the_command_line(
    client: Any, picture: Path, tiny_weights: Path, settings: dict[str, Any], flags: list[str]
) -> None:
    suffix = settings.get("format", "png")
    expected = picture.with_name(f"cat_x2.{suffix}")
    assert run(["upscale", str(picture), "-n", str(tiny_weights), *flags]) == 0
    answer = post(client, "/v1/upscale", picture, **settings)
    assert answer.status_code == 200, answer.text
    assert answer.content == expected.read_bytes()
    assert answer.headers["content-disposition"] == f'attachment; filename="{expected.name}"'
    assert answer.headers["content-type"] == f"image/{ {'jpg': 'jpeg', 'tif': 'tiff'}.get(suffix, suffix) }"
    job = finished(client, post(client, "/v1/jobs", picture, **settings))
    assert client.get(f"/v1/jobs/{job['id']}/result").content == expected.read_bytes()


def test_a_job_is_followed_listed_and_deleted(client: Any, picture: Path) -> None:
    answer = post(client, "/v1/jobs", picture, "../../etc/pass\\wd.png")
    id = answer.json()["id"]
    assert answer.headers["location"] == f"/v1/jobs/{id}"
    with client.stream("GET", f"/v1/jobs/{id}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        events = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: ")]
    assert events[-1]["status"] == "done"
    assert (events[-1]["tiles_done"], events[-1]["tiles_total"]) == (1, 1)
    assert (events[-1]["input_size"], events[-1]["output_size"]) == ([16, 20], [32, 40])
    assert events[-1]["name"] == "wd.png"
    assert events[-1]["result_name"] == "wd_x2.png"
    assert id in [job["id"] for job in client.get("/v1/jobs").json()["jobs"]]
    assert (events[-1]["depth"], events[-1]["profile"], events[-1]["viewable"]) == (8, None, True)
    assert client.get(f"/v1/jobs/{id}/view/input").content == picture.read_bytes()
    assert client.get(f"/v1/jobs/{id}/view/thumbnail").content == client.get(f"/v1/jobs/{id}/result").content
    assert client.delete(f"/v1/jobs/{id}").status_code == 200
    assert client.get(f"/v1/jobs/{id}").json()["error"]["code"] == "unknown_job"


def test_what_was_lost_is_said(client: Any, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    image.new("RGBA", (12, 10), (10, 200, 30, 90)).save(tmp_path / "clear.png")
    answer = post(client, "/v1/upscale", tmp_path / "clear.png", format="jpg")
    (note,) = json.loads(unquote(answer.headers["finescale-notes"]))
    assert "transparency" in note


def test_each_picture_gets_the_network_for_it(client: Any, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for quality, network in ((40, "default-photo"), (95, "default")):
        image.new("RGB", (12, 10), (10, 200, 30)).save(tmp_path / "photo.jpg", quality=quality)
        job = finished(client, post(client, "/v1/jobs", tmp_path / "photo.jpg", network="auto", scale=4))
        assert (job["network"], job["computed_by"]) == ("auto", network)
        told = ["looks compressed (JPEG quality about 40): default-photo was taken"] * (quality == 40)
        assert job["notes"] == told


def test_pictures_that_browsers_cannot_show_are_shown_as_copies(client: Any, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (600, 300), (10, 200, 30)).save(tmp_path / "scan.tif")
    job = finished(client, post(client, "/v1/jobs", tmp_path / "scan.tif", format="tif"))
    sizes = {"input": (600, 300), "result": (1200, 600), "thumbnail": (256, 128)}
    for which, size in sizes.items():
        answer = client.get(f"/v1/jobs/{job['id']}/view/{which}")
        assert answer.headers["content-type"] == "image/png"
        assert image.open(io.BytesIO(answer.content)).size == size


def test_the_hostile_files_are_answered_as_documented(client: Any, server: Running) -> None:
    data = os.environ.get("FINESCALE_DATA")
    if data is None:
        pytest.skip("FINESCALE_DATA names no folder with hostile files")
    statuses = {}
    for path in sorted((Path(data) / "hostile" / "images").iterdir()):
        answer = post(client, "/v1/upscale", path, path.name)
        statuses[path.name] = answer.status_code
        if answer.status_code != 200:
            assert set(answer.json()["error"]) == {"code", "message", "hint"}
            assert str(server.folder) not in answer.text
    assert set(statuses.values()) <= {200, 400, 413, 415, 422}
    expected = {
        "text.png": 415,
        "zero_bytes.png": 400,
        "truncated.jpg": 422,
        "bomb_30000x30000.png": 413,
        "rgb16.png": 200,
    }
    assert {name: statuses[name] for name in expected} == expected


def test_the_profile_and_the_depth_are_reported(client: Any) -> None:
    data = os.environ.get("FINESCALE_DATA")
    if data is None:
        pytest.skip("FINESCALE_DATA names no folder with hostile files")
    images = Path(data) / "hostile" / "images"
    assert finished(client, post(client, "/v1/jobs", images / "rgb16.png"))["depth"] == 16
    assert finished(client, post(client, "/v1/jobs", images / "icc_wide_gamut.png"))["profile"] is not None


def test_results_are_packed_into_one_file(client: Any, picture: Path) -> None:
    jobs = [finished(client, post(client, "/v1/jobs", picture, "a.png")) for _ in range(2)]
    answer = client.get("/v1/results.zip", params={"ids": ",".join(job["id"] for job in jobs)})
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["a_x2.png", "a_x2 (2).png"]
        assert archive.testzip() is None
        assert archive.read("a_x2.png") == client.get(f"/v1/jobs/{jobs[0]['id']}/result").content


@pytest.mark.parametrize(
    ("settings", "code", "said"),
    [
        ({"network": "defautl"}, "unknown_network", "no network is called 'defautl' (did you mean 'default'?)"),
        ({"network": "../../secret.pth"}, "unknown_network", "no network is called '../../secret.pth'"),
        ({"scale": 5}, "unknown_scale", "scale must be 2 for tiny, got 5"),
        ({"formt": "png"}, "wrong_settings", "unknown key 'formt' (did you mean 'format'?)"),
        ({"format": "exe"}, "wrong_settings", "format must be one of png, jpg"),
        ({"width": 5, "outscale": 2}, "wrong_settings", "mutually exclusive"),
        ({"scale": "big"}, "wrong_settings", "'scale'"),
    ],
)
def test_wrong_settings_are_refused(client: Any, picture: Path, settings: Any, code: str, said: str) -> None:
    answer = post(client, "/v1/jobs", picture, **settings)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "hint"}
    assert error["code"] == code
    assert said in error["message"]


def test_each_kind_of_bad_picture_has_its_status(client: Any, tmp_path: Path, server: Running) -> None:
    data = draw(tmp_path / "p.png", width=40, height=40) is not None and (tmp_path / "p.png").read_bytes()
    assert isinstance(data, bytes)
    draw(tmp_path / "large.png", width=1001, height=1000, gray=True)
    large = tmp_path / "large.png"
    cases = [
        (b"no picture", 415, "not_a_picture"),
        (data[:-40], 422, "cannot_upscale"),
        (b"x" * 1_200_000, 413, "too_large"),
        (b"", 400, "no_picture"),
    ]
    for sent, status, code in cases:
        answer = post(client, "/v1/upscale", sent)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
        assert str(server.folder) not in answer.text
    if large.stat().st_size < 1_000_000:
        assert post(client, "/v1/upscale", large).json()["error"]["code"] == "too_many_pixels"
    assert client.post("/v1/upscale", json={}).status_code == 415
    assert client.get("/v1/nothing").json()["error"]["code"] == "not_found"
    assert client.put("/v1/jobs").json()["error"]["code"] == "wrong_method"


def test_too_many_pixels_are_refused_by_the_header(client: Any, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    image.new("L", (1001, 1000)).save(tmp_path / "large.png")
    answer = post(client, "/v1/upscale", tmp_path / "large.png")
    assert answer.status_code == 413
    assert answer.json()["error"]["message"] == "cat.png: 1001 x 1000 pixels exceed the limit of 1 megapixels"


def test_mutated_files_do_no_harm(client: Any, picture: Path, server: Running) -> None:
    """Two hundred damaged files: each is answered by a result or by one of the documented errors."""
    data, chance = picture.read_bytes(), random.Random(0)
    sent = []
    for _ in range(200):
        damaged = bytearray(data)
        for _ in range(chance.randint(1, 6)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        sent.append(bytes(damaged[: chance.choice([None, None, 40, len(data) // 2])]))
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda picture: post(client, "/v1/upscale", picture), sent))
    assert {415, 422} <= {answer.status_code for answer in answers} <= {200, 413, 415, 422}
    for answer in answers:
        assert answer.status_code == 200 or str(server.folder) not in answer.text
    assert client.get("/healthz").json() == {"status": "ok"}


# ---- who may ask


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:80"}, 403),
        ({"Host": "localhost:1"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({}, 200),
    ],
)
def test_other_pages_are_refused(client: Any, headers: dict[str, str], status: int) -> None:
    assert client.get("/v1/models", headers=headers).status_code == status


def test_answers_have_safe_headers(client: Any) -> None:
    answer = client.get("/")
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in answer.headers
    assert "server" not in answer.headers


def test_other_machines_need_a_token(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    assert run(["serve", "--host", "0.0.0.0", "--folder", str(tmp_path)]) == 1
    assert "other machines can reach 0.0.0.0: give --token" in capsys.readouterr().err
    assert run(["serve", "--token", "short", "--folder", str(tmp_path)]) == 1
    assert "'token'" in capsys.readouterr().err


# ---- what is described


def test_every_setting_is_described(client: Any) -> None:
    from finescale.serve.settings import JobSettings

    described = client.get("/v1/openapi.json").json()
    form = described["paths"]["/v1/upscale"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(form["properties"]) == {*JobSettings.model_fields, "image"}
    assert all(form["properties"][name]["description"] for name in form["properties"])


def test_networks_are_listed_without_paths(client: Any, server: Running, tiny_weights: Path) -> None:
    answer = client.get("/v1/models")
    models = {model["id"]: model for model in answer.json()["models"]}
    assert answer.json()["default"] == "tiny"
    assert [one["scale"] for one in models["auto"]["scales"]] == [2, 3, 4]
    assert [one["scale"] for one in models["default"]["scales"]] == [2, 3, 4]
    assert models["tiny"]["scales"][0]["bytes"] == tiny_weights.stat().st_size
    assert str(tiny_weights.parent) not in answer.text


def test_metrics_are_prometheus_text(client: Any, picture: Path) -> None:
    post(client, "/v1/upscale", picture)
    lines = client.get("/metrics").text.splitlines()
    numbers = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert float(numbers['finescale_jobs_total{status="done"}']) >= 1
    assert numbers["finescale_worker_ready"] == "1"


def test_the_examples_of_the_manual_run(
    client: Any, server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_weights: Path
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "serve.md").read_text(encoding="utf-8")
    page = page.replace("http://127.0.0.1:8188", server.address)
    draw(tmp_path / "still_life.png")
    monkeypatch.chdir(tmp_path)
    assert run(["upscale", "still_life.png", "-n", str(tiny_weights), "-o", "expected.png"]) == 0
    expected = Path("expected.png").read_bytes()
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(example, {})
    assert Path("still_life_x2.png").read_bytes() == expected
    (command,) = re.findall(r"^curl .*", page, re.MULTILINE)
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    subprocess.run(shlex.split(command), check=True, timeout=120)
    assert Path("larger.png").read_bytes() == expected


def test_the_container_and_the_unit_start_it_with_flags_that_it_has(capsys: pytest.CaptureFixture[str]) -> None:
    root = Path(__file__).parents[2]
    dockerfile = (root / "examples" / "Dockerfile").read_text(encoding="utf-8")
    unit = (root / "examples" / "finescale.service").read_text(encoding="utf-8")
    (entry,) = re.findall(r"^ENTRYPOINT (.*)", dockerfile, re.MULTILINE)
    (start,) = re.findall(r"^ExecStart=(.*)", unit, re.MULTILINE)
    assert json.loads(entry)[:2] == ["finescale", "serve"]
    assert shlex.split(start)[:2] == ["/opt/finescale/bin/finescale", "serve"]
    assert run(["serve", "--help"]) == 0
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    for command in (json.loads(entry), shlex.split(start)):
        assert {word for word in command if word.startswith("--")} <= known
    for line in re.findall(r"^COPY (.*)", dockerfile, re.MULTILINE):
        assert all((root / source).exists() for source in line.split()[:-1])
    (user,) = re.findall(r"^USER (.*)", dockerfile, re.MULTILINE)
    assert user != "root"
    assert dockerfile.index("USER") < dockerfile.index("ENTRYPOINT")
    assert "HEALTHCHECK" in dockerfile


def test_what_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in [name for name in sys.modules if name.startswith("finescale.serve")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert run(["serve"]) == 1
    assert capsys.readouterr().err == "finescale: serve needs uvicorn: pip install 'finescale[serve]'\n"


# ---- last, since it waits for what began with the first test


def test_silent_connections_are_closed(silence: Future[float]) -> None:
    assert 9 < silence.result(60) < 30
