"""Remote files: fetched whole or not at all, after a bounded number of attempts, with one sentence on what failed."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from finescale.errors import MissingExtraError, RemoteError
from finescale.system import remote
from finescale.system.files import TEMPORARY_PREFIX
from finescale.system.places import RemotePath
from finescale.system.remote import (
    LocalCopies,
    check_output,
    expand_pattern,
    kind_of_place,
    list_folder,
    local_copy,
    local_result,
    scratch_folder,
)
from web_stand_in import WebStandIn, serving

fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed (the extra 'remote')")


@pytest.fixture(autouse=True)
def _quick_attempts_and_temporaries_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PAUSES", (0.0, 0.0, 0.0, 0.0))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


@pytest.fixture(scope="module")
def server() -> Iterator[WebStandIn]:
    pytest.importorskip("aiohttp", reason="aiohttp is not installed (the extra 'remote')")
    with serving() as web:
        yield web


@pytest.fixture
def web(server: WebStandIn) -> WebStandIn:
    server.files = {"/a.png": b"picture" * 50_000}
    server.requests.clear()
    server.faults, server.always = [], ""
    return server


@pytest.fixture
def memory() -> Any:
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]
    return filesystem


def fetch(place: RemotePath) -> bytes:
    with local_copy(place) as path:
        return path.read_bytes()


# ---- the web


def test_a_file_is_fetched_with_its_credentials_and_its_copy_is_deleted(web: WebStandIn) -> None:
    address = web.address.replace("//", "//me:secret@")
    with local_copy(RemotePath(f"{address}/a.png?token=hidden")) as path:
        assert path.read_bytes() == web.files["/a.png"]
        assert path.is_relative_to(scratch_folder())
    assert web.requests == [("/a.png?token=hidden", "Basic bWU6c2VjcmV0")]
    assert list(scratch_folder().iterdir()) == []


@pytest.mark.parametrize("fault", ["cut", 429, 500, 503])
def test_what_passes_is_tried_again(web: WebStandIn, fault: int | str) -> None:
    web.faults = [fault, fault]
    assert fetch(RemotePath(f"{web.address}/a.png")) == web.files["/a.png"]
    assert len(web.requests) == 3


@pytest.mark.parametrize(
    ("fault", "num_requests", "sentence"),
    [
        ("cut", 5, "connection lost or refused (ClientPayloadError), 5 attempts failed; check the network"),
        (429, 5, "the server throttles, 5 attempts failed; try again later, or with fewer processes"),
        (503, 5, "the server throttles, 5 attempts failed; try again later, or with fewer processes"),
        (403, 1, "access denied; check the credentials for http:// and what they permit"),
        (404, 1, "no such file or bucket; check its name"),
        (418, 1, "cannot be read (ClientResponseError, status 418)"),
    ],
)
def test_what_stays_is_one_sentence_without_credentials(
    web: WebStandIn, fault: int | str, num_requests: int, sentence: str
) -> None:
    web.always = fault
    place = RemotePath(f"{web.address.replace('//', '//me:secret@')}/a.png?token=secret")
    with pytest.raises(RemoteError) as failed:
        fetch(place)
    shown = f"{web.address.replace('//', '//***@')}/a.png?***"
    assert str(failed.value) == f"{shown}: {sentence}"
    assert failed.value.__cause__ is None
    assert len(web.requests) == num_requests
    assert list(scratch_folder().iterdir()) == []


def test_a_server_that_is_not_there(web: WebStandIn) -> None:
    with pytest.raises(RemoteError, match=r"connection lost or refused \(\w+\), 5 attempts failed; check the network"):
        fetch(RemotePath("http://127.0.0.1:9/a.png"))


def test_a_file_larger_than_half_the_disk_is_not_fetched(web: WebStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        free: int = 2**18

    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: Usage())
    with pytest.raises(RemoteError, match=r"takes more than 0\.0 GiB, half of what is free in .*; set TMPDIR"):
        fetch(RemotePath(f"{web.address}/a.png"))


def test_a_web_server_takes_no_results() -> None:
    place = RemotePath("https://me:secret@host/a.png")
    sentence = r"^https://\*\*\*@host/a\.png: a web server takes no results; name a folder, or s3:// or gs://$"
    with pytest.raises(ValueError, match=sentence):
        check_output(place)
    with pytest.raises(ValueError, match=sentence), local_result(place):
        pass


# ---- what is missing


def test_an_unknown_kind_of_place() -> None:
    with pytest.raises(RemoteError, match=r"^s4://b/a\.png: no kind of place is called 's4'; known are s3, gs, hf, "):
        kind_of_place(RemotePath("s4://b/a.png"))


def test_without_fsspec_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingExtraError, match=r"^memory://a: remote .* pip install 'finescale\[remote\]'$"):
        kind_of_place(RemotePath("memory://a"))


def test_without_the_package_of_a_kind_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(MissingExtraError, match=r"^gs://b/a: gs:// needs a package; .* pip install gcsfs$"):
        kind_of_place(RemotePath("gs://b/a"))


# ---- a filesystem in memory


def test_folders_and_patterns_are_listed_with_sizes(memory: Any) -> None:
    for name in ("in/a.png", "in/below/b.png", "in/below/deep/c.jpg", "in/.hidden.png", "other/d.png"):
        memory.pipe(f"/{name}", b"123")

    def relative(files: list[remote.ListedFile]) -> list[str]:
        assert {file.place.num_bytes for file in files} <= {3}
        return sorted(file.place.address for file in files)

    found = list_folder(RemotePath("memory://in"))
    assert sorted(file.relative for file in found) == [".hidden.png", "a.png", "below/b.png", "below/deep/c.jpg"]
    assert relative(list_folder(RemotePath("memory://in/"), recursive=False)) == [
        "memory://in/.hidden.png",
        "memory://in/a.png",
    ]
    assert relative(expand_pattern(RemotePath("memory://in/*.png"))) == ["memory://in/a.png"]
    assert relative(expand_pattern(RemotePath("memory://in/.*.png"))) == ["memory://in/.hidden.png"]
    assert relative(expand_pattern(RemotePath("memory://in/**/*.jpg"))) == ["memory://in/below/deep/c.jpg"]
    kinds = [kind_of_place(RemotePath(f"memory://in{below}")) for below in ("", "/a.png", "/none")]
    assert kinds == ["folder", "file", None]


def test_a_result_takes_its_name_when_it_is_whole(memory: Any) -> None:
    place = RemotePath("memory://out/new/a.txt")
    with local_result(place) as path:
        path.write_bytes(b"whole")
        assert path.suffix == ".txt"
        assert not memory.exists("/out")
    assert memory.cat("/out/new/a.txt") == b"whole"
    assert [entry["name"] for entry in memory.ls("/out/new")] == ["/out/new/a.txt"]
    assert list(scratch_folder().iterdir()) == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_whatever_fails_before_it_is_sent_nothing_is_there(memory: Any, error: type[BaseException]) -> None:
    memory.pipe("/out/a.txt", b"old")
    with pytest.raises(error), local_result(RemotePath("memory://out/a.txt")) as path:  # noqa: PT012
        path.write_bytes(b"half")
        raise error
    assert memory.cat("/out/a.txt") == b"old"
    assert list(scratch_folder().iterdir()) == []


@pytest.mark.parametrize("step", ["put_file", "mv"])
@pytest.mark.parametrize(("num_faults", "is_sent"), [(2, True), (9, False)])
def test_a_broken_upload_is_repeated_and_leaves_nothing_half(
    memory: Any, monkeypatch: pytest.MonkeyPatch, step: str, num_faults: int, is_sent: bool
) -> None:
    memory.pipe("/out/a.txt", b"old")
    calls = []
    do = getattr(type(memory), step)

    def breaks(self: Any, *arguments: Any, **options: Any) -> Any:
        calls.append(step)
        if len(calls) > num_faults:
            return do(self, *arguments, **options)
        self.pipe(arguments[1], b"ha")  # under the name that it was told
        raise ConnectionResetError("secret words of a library")

    monkeypatch.setattr(type(memory), step, breaks)
    if step == "mv":  # which no filesystem leaves half done
        monkeypatch.setattr(type(memory), "pipe", lambda *_: None)
    if is_sent:
        with local_result(RemotePath("memory://out/a.txt")) as path:
            path.write_bytes(b"new")
    else:
        with pytest.raises(RemoteError) as failed, local_result(RemotePath("memory://out/a.txt")) as path:
            path.write_bytes(b"new")
        lost = "connection lost or refused (ConnectionResetError), 5 attempts failed; check the network"
        assert str(failed.value) == f"memory://out/a.txt: {lost}"
    assert memory.cat("/out/a.txt") == (b"new" if is_sent else b"old")
    assert [entry["name"] for entry in memory.ls("/out")] == ["/out/a.txt"]
    assert len(calls) == min(num_faults + 1, 5)


def test_what_a_killed_process_left_half_sent_is_deleted(memory: Any) -> None:
    memory.pipe(f"/out/{TEMPORARY_PREFIX}00000000-1-0123456789ab", b"half")
    store = memory.store[f"/out/{TEMPORARY_PREFIX}00000000-1-0123456789ab"]
    with local_result(RemotePath("memory://out/a.txt")) as path:
        path.touch()
    assert len(memory.ls("/out")) == 2  # it may be at work on another machine
    store.modified = store.modified.replace(year=store.modified.year - 1)
    with local_result(RemotePath("memory://out/a.txt")) as path:
        path.touch()
    assert [entry["name"] for entry in memory.ls("/out")] == ["/out/a.txt"]


def test_copies_are_fetched_once_and_deleted_when_they_are_released(memory: Any) -> None:
    memory.pipe("/in/a.txt", b"content")
    copies, place = LocalCopies(), RemotePath("memory://in/a.txt")
    path = copies.path_of(place)
    memory.rm("/in/a.txt")
    assert copies.path_of(place) == path
    assert path.read_bytes() == b"content"
    copies.release(place)
    assert not path.exists()
    assert copies.path_of(Path("here")) == Path("here")
    with pytest.raises(RemoteError, match=r"^memory://in/a\.txt: no such file or bucket; check its name$"):
        copies.path_of(place)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="Windows has a folder of temporary files for each user")
def test_a_folder_of_temporaries_that_another_could_read_is_refused(tmp_path: Path) -> None:
    assert scratch_folder().stat().st_mode & 0o777 == 0o700
    scratch_folder().rmdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "temporary" / f"finescale-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RemoteError, match=r"belongs to another user; set TMPDIR to a folder of your own$"):
        scratch_folder()
