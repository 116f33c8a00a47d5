"""Places of files: paths on the disks of this machine, and URLs of remote ones such as ``s3://bucket/folder/cat.png``.

A `RemotePath` answers the questions about names that a `pathlib.Path` answers, so that plans are made alike for both.
Reading and writing it is the part of `finescale.system.remote`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath
from typing import TypeAlias
from urllib.parse import unquote

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://", re.ASCII)  # two letters at least: one is a drive of Windows
_WEB = ("http", "https")
_USER = re.compile(r"[^/]*@|[^/:@]*:(?!\d*(?:/|$))[^@]*@")  # a slash in a password counts as a part of it
_HIDDEN = "***"


@dataclass(frozen=True)
class RemotePath:
    """A file or folder under a URL. As text it shows no credentials: no ``user:password@`` and no query."""

    address: str = field(repr=False)
    """The whole URL, credentials included; never printed."""
    num_bytes: int | None = field(default=None, compare=False, repr=False)
    """Size of the file, where a listing has stated it."""

    def __str__(self) -> str:
        scheme, user, rest, query = self._parts
        if user and (self.is_web or ":" in user):
            user = f"{_HIDDEN}@"
        return f"{scheme}://{user}{rest}" + (f"{query[0]}{_HIDDEN}" if query else "")

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    def __truediv__(self, below: str | PurePath) -> RemotePath:
        """Return what has a relative name below this folder."""
        below = below.as_posix() if isinstance(below, PurePath) else below
        if below in ("", "."):
            return self
        scheme, user, rest, _ = self._parts
        return RemotePath(f"{scheme}://{user}{rest.rstrip('/')}/{below}")

    @property
    def scheme(self) -> str:
        """What stands before ``://``, in lower case, such as "s3"."""
        return self._parts[0]

    @property
    def is_web(self) -> bool:
        """Whether it is an address of the web, which is read only and has no folders."""
        return self.scheme in _WEB

    @property
    def is_folder_name(self) -> bool:
        """Whether the URL can only be that of a folder: it ends in a slash, or names a bucket alone."""
        rest = self._parts[2]
        return rest.endswith("/") or "/" not in rest

    @property
    def root(self) -> RemotePath:
        """The bucket or server."""
        scheme, user, rest, _ = self._parts
        return RemotePath(f"{scheme}://{user}{rest.partition('/')[0]}")

    @property
    def name(self) -> str:
        """The last part, without a query, and without the escapes of the web; "" for a bucket or a server."""
        name = self._parts[2].rstrip("/").partition("/")[2].rpartition("/")[2]
        plain = unquote(name) if self.is_web else name
        return name if {"/", "\\", "\0"} & set(plain) else plain  # it becomes a part of a local name

    @property
    def stem(self) -> str:
        """The name without its last extension."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """The last extension of the name, with its dot."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> RemotePath:
        """The folder; of a bucket or server itself."""
        scheme, user, rest, _ = self._parts
        folder, slash, _ = rest.rstrip("/").rpartition("/")
        return RemotePath(f"{scheme}://{user}{folder if slash else rest}")

    @property
    def parents(self) -> Iterator[RemotePath]:
        """The folders around it, the innermost first."""
        here = self
        while here.name:
            here = here.parent
            yield here

    def with_name(self, name: str) -> RemotePath:
        """Return another name in the same folder."""
        return self.parent / name

    @property
    def _parts(self) -> tuple[str, str, str, str]:
        """The scheme, the user with "@", the rest, and the query with its mark."""
        scheme, _, rest = self.address.partition("://")
        user = _USER.match(rest)
        start = 0 if user is None else user.end()
        query = re.search(r"[?#].*" if scheme.lower() in _WEB else r"\?\w+=.*", rest[start:], re.DOTALL)
        end = len(rest) if query is None else start + query.start()
        return scheme.lower(), rest[:start], rest[start:end], rest[end:]


Place: TypeAlias = Path | RemotePath
"""Where a file is, or will be."""


def is_url(name: str) -> bool:
    """Return whether a name is a URL, ``file://`` included, and not a path."""
    return _URL.match(name) is not None


def place_of(name: str | Place) -> Place:
    """Return the place that a user names: a path, or a URL of any kind that fsspec knows; ``file://`` is a path.

    Raises:
        ValueError: A chain of URLs, which is not supported.
    """
    if not isinstance(name, str):
        return name
    found = _URL.match(name)
    if found is None:
        return Path(name)
    if found[1].lower() in ("file", "local"):
        return Path(name[found.end() :])
    if "::" in name:
        raise ValueError(f"{RemotePath(name)}: chains of URLs (::) are not supported; name one place")
    return RemotePath(name)
