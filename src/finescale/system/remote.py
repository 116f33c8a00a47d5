"""Remote files by fsspec, an optional package: inputs are fetched to this machine's disk, results are sent from it.

So that all guards of reading stay in one place, nothing is decoded from a connection. Errors are one sentence without
the words of a server or a library, which may hold credentials.
"""

from __future__ import annotations

import errno
import glob
import os
import random
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from finescale.errors import FinescaleError, MissingExtraError, RemoteError, printable_name
from finescale.system.files import is_abandoned, temporary_folder, temporary_name
from finescale.system.places import Place, RemotePath

T = TypeVar("T")

PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds before each further attempt, and up to half as much again; for lost connections and throttled requests."""

_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "hf"}
"""Where an upload appears whole or not at all, and folders are beginnings of names."""

_BUCKETS = {"s3", "s3a", "gs", "gcs"}
_PACKAGES = {
    **dict.fromkeys(("s3", "s3a", "http", "https"), "'finescale[remote]'"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("abfs", "abfss", "az"), "adlfs"),
    **dict.fromkeys(("sftp", "ssh"), "paramiko"),
    "hf": "'finescale[hub]'",
}
_SHARE = 0.5  # of the free disk, at most, for one copy
_PATIENCE = {"sock_connect": 30, "sock_read": 60}  # seconds in which a web server has to answer
_TILES_AT_ONCE = 256


# ---- what is there


def kind_of_place(place: RemotePath) -> Literal["file", "folder"] | None:
    """Return what is under a name; None for nothing.

    Raises:
        RemoteError: The place cannot be reached.
        MissingExtraError: A package is missing.
    """

    def ask(fs: Any, path: str) -> Literal["file", "folder"] | None:
        try:
            return "file" if fs.info(path)["type"] == "file" else "folder"
        except FileNotFoundError:
            return None

    return _attempt(place, ask)


@dataclass(frozen=True)
class ListedFile:
    """A file below a remote folder."""

    place: RemotePath
    relative: str
    """Its name relative to the folder, with slashes; any text, since the keys of object stores are no paths."""


def list_folder(folder: RemotePath, *, recursive: bool = True) -> list[ListedFile]:
    """Return the files of a remote folder, and of those below it.

    Raises:
        RemoteError: The place cannot be reached.
        MissingExtraError: A package is missing.
    """
    depth = None if recursive else 1

    def ask(fs: Any, path: str) -> list[ListedFile]:
        if folder.scheme in _STORES:
            found = fs.find(path, maxdepth=depth, detail=True)
        else:  # whose own search leaves out what cannot be read
            walked = fs.walk(path, maxdepth=depth, detail=True, on_error="raise")
            found = {entry["name"]: entry for _, _, files in walked for entry in files.values()}
        return _listed(found, folder, path)

    return _attempt(folder, ask)


def expand_pattern(pattern: RemotePath) -> list[ListedFile]:
    """Return the files that a pattern of ``*``, ``?``, ``[]`` and ``**`` matches; ``*`` matches no hidden name.

    Raises:
        RemoteError: The place cannot be reached.
        MissingExtraError: A package is missing.
    """
    top = next((folder for folder in pattern.parents if not glob.has_magic(folder.address)), pattern.root)

    def ask(fs: Any, path: str) -> list[ListedFile]:
        start = fs._strip_protocol(top.address)
        found = _listed(fs.glob(path, detail=True), top, start)
        if "/." in path.removeprefix(start):
            return found
        return [file for file in found if "/." not in f"/{file.relative}"]

    return _attempt(pattern, ask)


def is_pattern(place: RemotePath) -> bool:
    """Return whether a name has the special characters of patterns."""
    return not place.is_web and glob.has_magic(place.address)


def _listed(found: dict[str, dict[str, Any]], top: RemotePath, start: str) -> list[ListedFile]:
    prefix = f"{start.rstrip('/')}/"
    files = []
    for name, facts in found.items():
        if facts["type"] != "file" or name.endswith("/") or not name.startswith(prefix):
            continue
        relative = name.removeprefix(prefix)
        files.append(ListedFile(RemotePath((top / relative).address, facts.get("size")), relative))
    return files


# ---- fetching


class LocalCopies:
    """Local copies of remote files: each is fetched once, and kept until it is released."""

    def __init__(self) -> None:
        self._held: dict[RemotePath, tuple[Path, ExitStack]] = {}

    def path_of(self, place: Place) -> Path:
        """Return the path of a file: its own, or that of its copy.

        Raises:
            RemoteError: It cannot be fetched.
            MissingExtraError: A package is missing.
        """
        if isinstance(place, Path):
            return place
        if place not in self._held:
            stack = ExitStack()
            self._held[place] = stack.enter_context(_fetched(place)), stack
        return self._held[place][0]

    def release(self, place: Place) -> None:
        """Delete the copy of a file that is no longer read."""
        if isinstance(place, RemotePath) and place in self._held:
            self._held.pop(place)[1].close()

    def release_all(self) -> None:
        """Delete all copies that are left."""
        for place in list(self._held):
            self.release(place)


@contextmanager
def local_copy(place: Place) -> Iterator[Path]:
    """Yield the path of a file: its own, or that of a copy for the block; errors inside name the place.

    Raises:
        RemoteError: It cannot be fetched.
        MissingExtraError: A package is missing.
    """
    with nullcontext(place) if isinstance(place, Path) else _fetched(place) as path, errors_about(place, path):
        yield path


@contextmanager
def errors_about(place: Place, path: Path) -> Iterator[None]:
    """Name a place in the errors of the block that name the local file which stands for it."""
    try:
        yield
    except FinescaleError as error:
        error.args = (str(error).replace(printable_name(path), printable_name(place)),)
        raise


@contextmanager
def _fetched(place: RemotePath) -> Iterator[Path]:
    with _work_folder() as folder:
        path = folder / "input"
        limit = int(shutil.disk_usage(folder).free * _SHARE)

        def check_room(size: int | None, value: int, **_: object) -> None:
            if max(size or 0, value) > limit:
                raise RemoteError(
                    f"{printable_name(place)}: takes more than {limit / 2**30:.1f} GiB, half of what is free in "
                    f"{folder.parent}; set TMPDIR to a folder on a larger disk"
                )

        def fetch(fs: Any, remote: str) -> None:
            from fsspec.callbacks import Callback

            fs.get_file(remote, str(path), callback=Callback(hooks={"room": check_room}))

        _attempt(place, fetch)
        yield path


@contextmanager
def _work_folder() -> Iterator[Path]:
    with ExitStack() as stack:
        scratch = scratch_folder()
        try:
            folder = stack.enter_context(temporary_folder(scratch))
        except OSError as error:
            raise RemoteError(f"{printable_name(scratch)}: cannot be written ({error.strerror}); set TMPDIR") from None
        yield folder


def scratch_folder() -> Path:
    """Return the folder of this user for temporary files, inside that of the system (``TMPDIR``).

    Raises:
        RemoteError: It cannot be created, or belongs to another user.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0  # Windows has a folder for each user
    folder = Path(tempfile.gettempdir()) / f"finescale-{user}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        owner = folder.lstat().st_uid
    except OSError as error:
        raise RemoteError(f"{printable_name(folder)}: cannot be created ({error.strerror}); set TMPDIR") from None
    if owner != user or folder.is_symlink():
        raise RemoteError(f"{printable_name(folder)}: belongs to another user; set TMPDIR to a folder of your own")
    return folder


# ---- sending


def refuse_web(place: Place) -> None:
    """Refuse a place that is never written to.

    Raises:
        ValueError: It is an address of the web.
    """
    if isinstance(place, RemotePath) and place.is_web:
        raise ValueError(f"{printable_name(place)}: a web server takes no results; name a folder, or s3:// or gs://")


def check_output(place: Place) -> None:
    """Refuse a remote place that cannot be written to, as far as that can be known before.

    Raises:
        ValueError: It is an address of the web.
        RemoteError: The place cannot be reached, or there is no such bucket.
        MissingExtraError: A package is missing.
    """
    refuse_web(place)
    if isinstance(place, Path):
        return

    def ask(fs: Any, path: str) -> None:
        if place.scheme in _BUCKETS:
            with suppress(PermissionError):  # a bucket may be written to without being read
                fs.info(path)

    _attempt(place.root, ask, doing="written")


@contextmanager
def local_result(place: Place) -> Iterator[Path]:
    """Yield the path under which a result is written: its own, or a temporary one, which is sent when the block ends.

    At a remote place the result takes its name when it is complete; an error leaves nothing there. A file beside the
    result whose name begins with the stem of the yielded one is sent first, under the stem of the place.

    Raises:
        RemoteError: It cannot be sent.
        MissingExtraError: A package is missing.
        ValueError: The place is an address of the web.
    """
    if isinstance(place, Path):
        yield place
        return
    refuse_web(place)
    with _work_folder() as folder:
        path = folder / f"result{place.suffix}"
        with errors_about(place, path):
            yield path
        companions = {
            file: place.parent / (place.stem + file.relative_to(folder).as_posix().removeprefix("result"))
            for file in sorted(folder.rglob("*"))
            if file.is_file() and file != path
        }
        if companions:
            _send_companions(place, companions)
        _attempt(place, lambda fs, remote: _send(fs, place, path, remote), doing="written")


def _send_companions(place: RemotePath, companions: dict[Path, RemotePath]) -> None:
    """Send the tiles of a result; those of an earlier result go first, together with the file that describes them."""
    folder = place.with_name(f"{place.stem}_files")
    _attempt(place, _remove, doing="written")
    _attempt(folder, _remove, doing="written")
    files = list(companions.items())
    try:
        for first in range(0, len(files), _TILES_AT_ONCE):
            _attempt(place, partial(_send_files, files[first : first + _TILES_AT_ONCE]), doing="written")
    except BaseException:
        with suppress(RemoteError):  # the first error is the one to know
            _attempt(folder, _remove, doing="written")
        raise


def _send_files(files: Sequence[tuple[Path, RemotePath]], fs: Any, _path: str) -> None:
    fs.put([str(path) for path, _ in files], [fs._strip_protocol(place.address) for _, place in files])


def _remove(fs: Any, path: str) -> None:
    if fs.exists(path):
        fs.rm(path, recursive=True)


def _send(fs: Any, place: RemotePath, path: Path, remote: str) -> None:
    if place.scheme in _STORES:
        fs.put_file(str(path), remote)
        return
    folder = fs._parent(remote)
    fs.makedirs(folder, exist_ok=True)
    _sweep(fs, folder)
    with temporary_name() as name:
        temporary = f"{folder.rstrip('/')}/{name}"
        try:
            fs.put_file(str(path), temporary)
            fs.mv(temporary, remote)
        except BaseException:
            with suppress(Exception):  # each filesystem has a tree of its own; the first error is the one to know
                fs.rm(temporary)
            raise


def _sweep(fs: Any, folder: str) -> None:
    """Delete what killed processes left half sent in a folder."""
    for entry in fs.ls(folder, detail=True):
        path = entry["name"]
        if entry["type"] == "file" and is_abandoned(path.rpartition("/")[2], partial(_newest_change, fs, path)):
            fs.rm(path)


def _newest_change(fs: Any, path: str) -> float:
    changed = fs.modified(path).timestamp()
    assert isinstance(changed, float)
    return changed


# ---- attempts and errors


def _attempt(place: RemotePath, action: Callable[[Any, str], T], *, doing: Literal["read", "written"] = "read") -> T:
    """Return what an action on a filesystem and a path returns; it is repeated where a connection is lost."""
    for pause in (*PAUSES, None):
        try:
            fs, path = _connect(place)
            return action(fs, path)
        except (FinescaleError, MemoryError):
            raise
        except Exception as error:  # each filesystem has a tree of its own, and those of HTTP libraries
            if pause is None or not (_is_throttled(error) or _is_lost(error)):
                raise _described(place, error, doing) from None
        time.sleep(pause * random.uniform(1, 1.5))
    raise AssertionError("the last attempt returns or raises")


def _connect(place: RemotePath) -> tuple[Any, str]:
    """Return the filesystem of a place, and its path there."""
    try:
        import fsspec
        from fsspec.registry import available_protocols, known_implementations
    except ImportError:
        raise MissingExtraError(
            f"{printable_name(place)}: remote places need a package; install it with pip install 'finescale[remote]'"
        ) from None
    if place.scheme not in available_protocols():
        raise RemoteError(
            f"{printable_name(place)}: no kind of place is called {place.scheme!r}; "
            "known are s3, gs, hf, https, abfs, sftp and others of fsspec"
        )
    try:
        fsspec.get_filesystem_class(place.scheme)
    except ImportError:
        package = _PACKAGES.get(place.scheme)
        remedy = f"install it with pip install {package}" if package else known_implementations[place.scheme]["err"]
        raise MissingExtraError(f"{printable_name(place)}: {place.scheme}:// needs a package; {remedy}") from None
    address = place.scheme + place.address[len(place.scheme) :]
    fs, path = fsspec.url_to_fs(address, **_options(place))
    if place.scheme in ("s3", "s3a"):
        fs.retries = 2  # of each request; the second goes on where a read was broken
    fs.invalidate_cache()
    return fs, path


def _options(place: RemotePath) -> dict[str, Any]:
    """Return options of a filesystem that limit how long and how often it tries by itself, beside the user's own.

    A web server has to answer in time, but may take any time for a large file; proxies are those of the environment.
    """
    from fsspec.config import conf

    if place.is_web:
        import aiohttp

        name = "client_kwargs"
        ours = {"trust_env": True, "timeout": aiohttp.ClientTimeout(total=None, **_PATIENCE)}
    elif place.scheme in ("s3", "s3a"):
        name, ours = "config_kwargs", {"retries": {"mode": "standard", "total_max_attempts": 1}}
    else:
        return {}
    return {name: ours | conf.get(place.scheme, {}).get(name, {})}


_LOST = re.compile(
    "Connect|Timeout|Disconnected|Payload|Protocol|Incomplete|HTTPClientError|ClientOSError|ReadError|WriteError"
)
"""Parts of the names of exceptions by which HTTP libraries report lost connections."""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what has caused it."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _statuses(error: BaseException) -> set[int]:
    """Return the HTTP statuses that an error states, in the words of any library."""
    found: set[Any] = set()
    for one in _chain(error):
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            found.add(response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
        stated = (getattr(one, name, None) for name in ("status", "status_code", "code"))  # some warn about a later one
        found.add(next((status for status in stated if status is not None), None))
        found.add(getattr(response, "status_code", None))
    return {status for status in found if isinstance(status, int)}


def _is_throttled(error: BaseException) -> bool:
    return bool(_statuses(error) & {429, 503}) or getattr(error, "errno", None) == errno.EBUSY  # EBUSY: by s3fs


def _is_lost(error: BaseException) -> bool:
    kinds = [kind for one in _chain(error) for kind in type(one).__mro__]
    is_of_network = any(
        issubclass(kind, (ConnectionError, TimeoutError)) or _LOST.search(kind.__name__) for kind in kinds
    )
    return is_of_network or bool(_statuses(error) & {408, 500, 502, 504})


def _described(place: RemotePath, error: Exception, doing: str) -> RemoteError:
    """Return an error of one sentence; of a library's it has the name alone."""
    kind = type(error).__name__
    statuses = _statuses(error)
    if _is_throttled(error):
        reason = f"the server throttles, {len(PAUSES) + 1} attempts failed; try again later, or with fewer processes"
    elif isinstance(error, PermissionError) or statuses & {401, 403, 407}:
        reason = f"access denied; check the credentials for {place.scheme}:// and what they permit"
    elif "Credential" in kind or "Token" in kind:
        reason = f"no usable credentials for {place.scheme}:// ({kind}); log in, or set them in the environment"
    elif isinstance(error, FileNotFoundError) or 404 in statuses:
        what = "no such bucket" if place.scheme in _BUCKETS else "no such place"
        reason = f"{what}; check its name" if doing == "written" else "no such file or bucket; check its name"
    elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        reason = f"the disk of {tempfile.gettempdir()} is full; set TMPDIR to a folder on a larger one"
    elif _is_lost(error):
        reason = f"connection lost or refused ({kind}), {len(PAUSES) + 1} attempts failed; check the network"
    else:
        status = "".join(f", status {status}" for status in sorted(statuses))
        reason = f"cannot be {doing} ({kind}{status})"
    return RemoteError(f"{printable_name(place)}: {reason}")
