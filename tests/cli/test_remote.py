"""``finescale upscale`` and ``finescale report merge`` with URLs: a filesystem in memory, a web server, and S3."""

from __future__ import annotations

import json
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from finescale.cli.main import run
from finescale.system import remote
from finescale.system.remote import scratch_folder
from web_stand_in import serving

fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed (the extra 'remote')")


@pytest.fixture(autouse=True)
def _quick_attempts_and_temporaries_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(remote, "PAUSES", (0.0, 0.0, 0.0, 0.0))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    yield
    assert list(scratch_folder().iterdir()) == []


@pytest.fixture
def memory(pictures: Path) -> Any:
    """A filesystem in memory with the two pictures, a file that is none, and one in a hidden folder."""
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]
    for path in (path for path in pictures.rglob("*") if path.is_file()):
        filesystem.pipe(f"/in/{path.relative_to(pictures).as_posix()}", path.read_bytes())
    filesystem.pipe("/in/.hidden/three.png", b"")
    return filesystem


@pytest.fixture
def upscale(tiny_weights: Path) -> Callable[..., int]:
    return lambda *arguments: run(["upscale", *map(str, arguments), "-n", str(tiny_weights)])


def report(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return json.loads(capsys.readouterr().out)["files"]  # type: ignore[no-any-return]


def files_in(filesystem: Any, folder: str = "out") -> list[str]:
    return sorted(name.removeprefix(f"/{folder}/") for name in filesystem.find(f"/{folder}"))


# ---- a filesystem in memory


def test_a_remote_folder_becomes_a_remote_folder_of_the_same_shape(
    memory: Any, pictures: Path, tmp_path: Path, upscale: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert upscale("memory://in", "-o", "memory://out", "--report", "memory://reports/one.json", "--json") == 0
    told = capsys.readouterr()
    assert "2 remote pictures, whose pixels are counted once they are fetched" in told.err
    assert "remote results are looked for one by one; those that exist are counted as to be made" in told.err
    assert "memory://in: skipped 1 folder that is hidden or a link (memory://in/.hidden); name it" in told.err
    assert files_in(memory) == ["below/two_x2.png", "one_x2.png"]
    files = json.loads(told.out)["files"]
    assert [(file["input"], file["output"]) for file in files] == [
        ("memory://in/one.png", "memory://out/one_x2.png"),
        ("memory://in/below/two.jpg", "memory://out/below/two_x2.png"),
    ]
    assert json.loads(memory.cat("/reports/one.json"))["files"] == files
    assert upscale(pictures, "-o", tmp_path / "out") == 0
    for name in files_in(memory):
        assert memory.cat(f"/out/{name}") == (tmp_path / "out" / name).read_bytes()


def test_existing_results_are_kept_and_redone_with_overwrite(
    memory: Any, upscale: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    memory.pipe("/out/one_x2.png", b"made before")
    assert upscale("memory://in", "-o", "memory://out", "--json") == 0
    kept, done = report(capsys)
    assert (kept["status"], kept["reason"]) == ("kept", "the result exists already; --overwrite redoes it")
    assert done["status"] == "done"
    assert memory.cat("/out/one_x2.png") == b"made before"
    assert upscale("memory://in", "-o", "memory://out", "--json", "--overwrite") == 0
    told = capsys.readouterr()
    assert [file["status"] for file in json.loads(told.out)["files"]] == ["done", "done"]
    assert "looked for one by one" not in told.err
    assert memory.cat("/out/one_x2.png").startswith(b"\x89PNG")


def test_a_pattern_is_expanded_and_results_stand_beside_their_inputs(memory: Any, upscale: Callable[..., int]) -> None:
    assert upscale("memory://in/**/*.jpg", "memory://in/o?e.png") == 0
    assert files_in(memory, "in") == sorted(
        [".hidden/three.png", "below/two.jpg", "below/two_x2.png", "notes.txt", "one.png", "one_x2.png"]
    )


def test_a_local_picture_can_become_a_remote_one_and_the_other_way_round(
    memory: Any, pictures: Path, tmp_path: Path, upscale: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert upscale(pictures / "one.png", "-o", "memory://out/large.webp") == 0
    assert memory.cat("/out/large.webp")[8:12] == b"WEBP"
    assert upscale("memory://in/one.png", "-o", tmp_path / "large.webp") == 0
    assert (tmp_path / "large.webp").read_bytes() == memory.cat("/out/large.webp")
    capsys.readouterr()
    assert upscale(pictures, "-o", "memory://out") == 0
    assert "2 pictures to make, 0.0 megapixels in, 0.0 out\n" in capsys.readouterr().err  # no disk takes them


def test_pictures_on_disk_are_the_same(memory: Any, upscale: Callable[..., int]) -> None:
    assert upscale("memory://in", "-o", "memory://out") == 0
    assert upscale("memory://in", "-o", "memory://streamed", "--stream", "-t", 8, "--overlap", 2) == 0
    assert upscale("memory://in", "-o", "memory://whole", "--no-stream", "-t", 8, "--overlap", 2) == 0
    assert files_in(memory, "streamed") == files_in(memory)
    for name in files_in(memory):
        assert memory.cat(f"/streamed/{name}") == memory.cat(f"/whole/{name}")


def test_tiles_for_viewers_are_sent_with_the_file_that_describes_them(memory: Any, upscale: Callable[..., int]) -> None:
    assert upscale("memory://in/one.png", "-o", "memory://out", "--format", "dzi") == 0
    names = files_in(memory)
    assert "one_x2.dzi" in names
    assert {name.split("/")[0] for name in names} == {"one_x2.dzi", "one_x2_files"}
    memory.pipe("/out/one_x2_files/99/0_0.jpeg", b"of a larger picture before")
    assert upscale("memory://in/one.png", "-o", "memory://out", "--format", "dzi", "--overwrite") == 0
    assert files_in(memory) == names
    assert upscale("memory://out", "-o", "memory://again") == 2  # tiles are no pictures of their own
    assert not memory.exists("/again")


def test_what_fails_leaves_nothing_and_names_the_place(
    memory: Any, upscale: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    memory.pipe("/in/damaged.png", b"no picture")
    put_file = type(memory).put_file

    def put_all_but_one(self: Any, local: str, name: str, **options: Any) -> None:
        put_file(self, local, name, **options)
        if memory.cat(name).startswith(b"\x89PNG"):
            raise PermissionError("secret words of a library")

    monkeypatch.setattr(type(memory), "put_file", put_all_but_one)
    assert upscale("memory://in", "-o", "memory://out", "--report", "memory://reports/one.json") == 2
    told = capsys.readouterr().err
    assert "failed: memory://in/damaged.png: " in told
    denied = "access denied; check the credentials for memory:// and what they permit"
    assert f"failed: memory://out/one_x2.png: {denied}" in told
    assert "secret" not in told
    assert "temporary" not in told  # names of local copies
    assert files_in(memory) == []
    reasons = [file["reason"] for file in json.loads(memory.cat("/reports/one.json"))["files"]]
    assert [reason.partition(": ")[0] for reason in reasons] == [
        "memory://in/damaged.png",
        "memory://out/one_x2.png",
        "memory://out/below/two_x2.png",
    ]


def test_shards_write_remote_results_and_reports_which_are_joined_there(
    memory: Any, upscale: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    def merge(*arguments: str) -> int:
        return run(["report", "merge", *arguments])

    assert upscale("memory://in", "-o", "memory://out", "--shard", "2/2") == 0
    assert merge("memory://out") == 2
    assert "missing: the report of shard 1/2 (1 inputs)" in capsys.readouterr().err
    assert upscale("memory://in", "-o", "memory://out", "--shard", "1/2") == 0
    reports = [f"finescale-report.{number}-of-2.json" for number in (1, 2)]
    assert files_in(memory) == ["below/two_x2.png", *reports, "one_x2.png"]
    assert merge("memory://out", "-o", "memory://out/all.json") == 0
    assert len(json.loads(memory.cat("/out/all.json"))["files"]) == 2
    assert merge(*(f"memory://out/{name}" for name in reports), "-o", "memory://out/all.json") == 1
    assert "memory://out/all.json exists; name another file or give --overwrite" in capsys.readouterr().err
    assert merge("memory://out/none.json") == 1
    assert "memory://out/none.json: no such file or bucket; check its name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["memory://in/none.png", "-o", "memory://out"], 2, "memory://in/none.png: no such file or folder"),
        (["memory://in/*.gif", "-o", "memory://out"], 2, "memory://in/*.gif: no file matches this pattern"),
        (["memory://none/", "-o", "memory://out"], 2, "memory://none/: no such file or folder"),
        (["memory://in", "-o", "https://me:secret@host/out"], 1, "https://***@host/out: a web server takes no results"),
        (["https://me:secret@host/?a=secret"], 2, "https://***@host/?***: names no file of this server"),
        (["s3://b::memory://in"], 1, "s3://b::memory://in: chains of URLs (::) are not supported; name one place"),
        (["memory://in", "-o", "s4://b"], 1, "s4://b: no kind of place is called 's4'"),
    ],
)
def test_what_a_url_cannot_mean(
    words: list[str],
    code: int,
    sentence: str,
    memory: Any,
    upscale: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert upscale(*words) == code
    told = capsys.readouterr().err
    assert sentence in told
    assert "secret" not in told


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "--hr", "s3://me:secret@bucket/hr", "-n", "hit-sir"],
        ["prepare", "downsample", "s3://me:secret@bucket/hr", "-o", "lr"],
        ["prepare", "crops", "hr", "-o", "s3://me:secret@bucket/crops"],
        ["train", "s3://me:secret@bucket/settings.yml"],
        ["inspect", "s3://me:secret@bucket/net.safetensors"],
        ["quantize", "-n", "hit-sir", "--calibration", "s3://me:secret@bucket/hr"],
    ],
)
def test_other_verbs_refuse_urls_with_the_remedy(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 1
    told = capsys.readouterr().err
    assert "` takes paths, not URLs; copy the files here first (`finescale upscale` and" in told
    assert "s3://***@bucket/" in told
    assert "secret" not in told


# ---- the web


def test_pictures_of_the_web_are_fetched_and_their_credentials_stay_unseen(
    pictures: Path, tmp_path: Path, upscale: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("aiohttp", reason="aiohttp is not installed (the extra 'remote')")
    with serving() as web:
        web.files = {"/a%20b.png": (pictures / "one.png").read_bytes()}
        address = web.address.replace("//", "//me:secret@")
        names = [f"{address}/a%20b.png?token=secret", f"{address}/none.png?token=secret"]
        web.faults = ["cut"]
        out, report_file = tmp_path / "out", tmp_path / "report.json"
        assert upscale(*names, "-o", out, "--report", report_file, "--json") == 2
        told = capsys.readouterr()
        assert upscale(names[0]) == 2  # a result beside it
    assert [path.name for path in out.iterdir()] == ["a b_x2.png"]
    shown = web.address.replace("//", "//***@")
    assert f"failed: {shown}/none.png?***: no such file or bucket; check its name" in told.err
    assert "a web server takes no results" in capsys.readouterr().err
    assert "secret" not in told.err + told.out + report_file.read_text()


# ---- S3


class Faults:
    """An S3 server's application with faults before it."""

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application = application
        self.method = ""
        """The method of the requests that fail."""
        self.path = ""
        """How their paths end."""
        self.kind = ""
        """"throttle", or "break" for a connection that ends."""
        self.count = 0
        """How many requests are still to fail."""

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        is_meant = environ["REQUEST_METHOD"] == self.method and environ["PATH_INFO"].endswith(self.path)
        if not is_meant or self.count == 0:
            return self._application(environ, start_response)
        self.count -= 1
        if self.kind == "break":
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionResetError
        start_response("503 Slow Down", [("Content-Type", "application/xml")])
        return [b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"]


@contextmanager
def _serving_s3() -> Iterator[tuple[str, Faults]]:
    moto = pytest.importorskip("moto.moto_server.werkzeug_app", reason="moto is not installed (the extra 'dev')")
    from werkzeug.serving import make_server

    faults = Faults(moto.DomainDispatcherApplication(moto.create_backend_app))
    server = make_server("127.0.0.1", 0, faults, threaded=True, request_handler=moto.MotoRequestHandler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", faults
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def s3_server() -> Iterator[tuple[str, Faults]]:
    pytest.importorskip("s3fs", reason="s3fs is not installed (the extra 'remote')")
    with _serving_s3() as server:
        yield server


@pytest.fixture
def s3(s3_server: tuple[str, Faults], pictures: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A bucket "photos" with the two pictures below "in/", as a filesystem whose ``faults`` can be set."""
    address, faults = s3_server
    for name, value in {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "known",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    filesystem = s3fs.S3FileSystem()
    filesystem.faults = faults
    faults.count = 0
    if filesystem.exists("photos"):
        filesystem.rm("photos", recursive=True)
    filesystem.mkdir("photos")
    for path in (path for path in pictures.rglob("*") if path.is_file()):
        filesystem.pipe(f"photos/in/{path.relative_to(pictures).as_posix()}", path.read_bytes())
    return filesystem


def keys(s3: Any) -> list[str]:
    s3.invalidate_cache()
    return sorted(name.removeprefix("photos/out/") for name in s3.find("photos/out"))


def test_s3_is_listed_written_to_and_not_done_again(
    s3: Any, pictures: Path, tmp_path: Path, upscale: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("s3://photos/in/", "-o", "s3://photos/out", "--json")
    assert upscale(*command) == 0
    assert [file["status"] for file in report(capsys)] == ["done", "done"]
    assert keys(s3) == ["below/two_x2.png", "one_x2.png"]
    assert upscale(pictures, "-o", tmp_path / "out") == 0
    for name in keys(s3):
        assert s3.cat(f"photos/out/{name}") == (tmp_path / "out" / name).read_bytes()
    s3.rm("photos/out/one_x2.png")
    capsys.readouterr()
    assert upscale(*command, "--shard", "1/1") == 0
    assert [file["status"] for file in report(capsys)] == ["done", "kept"]


@pytest.mark.parametrize(
    ("method", "kind", "place", "reason"),
    [
        ("GET", "throttle", "in/one.png", "the server throttles, 5 attempts failed; try again later, or with fewer"),
        ("GET", "break", "in/one.png", "connection lost or refused ("),
        ("PUT", "throttle", "out/one_x2.png", "the server throttles, 5 attempts failed; try again later, or with"),
        ("PUT", "break", "out/one_x2.png", "connection lost or refused ("),
    ],
)
def test_faults_of_s3_pass_or_are_told_after_a_bounded_number_of_attempts(
    method: str,
    kind: str,
    place: str,
    reason: str,
    s3: Any,
    upscale: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ("s3://photos/in/one.png", "-o", "s3://photos/out")
    s3.faults.method, s3.faults.path, s3.faults.kind, s3.faults.count = method, place, kind, 1000
    assert upscale(*command) == 2
    assert 1000 - s3.faults.count <= 5 * 2 * 2  # s3fs tries twice each time, aiohttp again on a connection it kept
    told = capsys.readouterr().err
    assert f"failed: s3://photos/{place}: {reason}" in told
    assert "Slow" not in told
    s3.faults.count = 0
    assert keys(s3) == []
    s3.faults.count = 3
    assert upscale(*command) == 0
    assert s3.faults.count == 0
    assert keys(s3) == ["one_x2.png"]


def test_a_bucket_that_does_not_exist_is_refused_before_a_picture_is_read(
    s3: Any, upscale: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert upscale("s3://photos/in", "-o", "s3://fotos/out") == 1
    assert "s3://fotos: no such bucket; check its name" in capsys.readouterr().err
    assert upscale("s3://fotos/in/a.png", "-o", "s3://photos/out") == 2
    assert "failed: s3://fotos/in/a.png: no such file or folder" in capsys.readouterr().err


def test_wrong_credentials_are_named_but_not_shown(
    s3: Any, upscale: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from moto.core import responses

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "wrongkey")
    type(s3).clear_instance_cache()
    monkeypatch.setattr(responses.settings, "INITIAL_NO_AUTH_ACTION_COUNT", 0)
    monkeypatch.setattr(responses.ActionAuthenticatorMixin, "request_count", 0)
    assert upscale("s3://photos/in/one.png", "-o", "s3://photos/out") == 2
    told = capsys.readouterr().err
    assert "s3://photos/in/one.png: access denied; check the credentials for s3:// and what they permit" in told
    assert "wrongkey" not in told
    assert "secret" not in told


def test_no_credentials_at_all(
    s3: Any, upscale: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    type(s3).clear_instance_cache()
    assert upscale("s3://photos/in/one.png", "-o", "s3://photos/out") == 1
    assert "no usable credentials for s3:// (NoCredentialsError); log in, or set them" in capsys.readouterr().err
