"""A stand-in of the hub on this machine: the part of its HTTP interface that its real client uses for single files.

Files up to ``SMALL`` bytes are stored as git does and stated by git's hash; larger ones are stated by their SHA-256.
Faults are set as attributes before the request that they are to meet.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar

from loopback import listening

SMALL = 10_000
COMMIT = "c0ffee" + 34 * "0"


@dataclass
class HubStandIn:
    """What is in the hub, what was asked of it, and what is to go wrong."""

    address: str = ""
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Repository to its files by name."""
    requests: list[str] = field(default_factory=list)
    """Method, path and, where there was one, range of each request; without what else the client asks for."""
    gated: set[str] = field(default_factory=set)
    """Repositories whose files are given on request."""
    status: int | None = None
    """Answer every question for a file with this."""
    drops: list[int] = field(default_factory=list)
    """For each download to come, the bytes after which the connection breaks."""
    swaps: bytes | None = None
    """What arrives in place of every file."""
    uploads: dict[str, bytes] = field(default_factory=dict)
    """Content of large files by its SHA-256, before it is committed."""
    token: str | None = None
    """The last token that was shown."""


@contextmanager
def serving() -> Iterator[HubStandIn]:
    """A hub of its own, on a port of its own."""
    hub = HubStandIn()
    with listening(_Handler, hub=hub) as hub.address:
        yield hub


class _Handler(BaseHTTPRequestHandler):
    hub: ClassVar[HubStandIn]

    def log_message(self, *_: object) -> None:
        """Nothing on standard error."""

    def do_HEAD(self) -> None:
        self._give_file(with_content=False)

    def do_GET(self) -> None:
        self._give_file(with_content=True)

    def do_PUT(self) -> None:
        self._note()
        content = self.rfile.read(int(self.headers["Content-Length"]))
        assert hashlib.sha256(content).hexdigest() == self.path.rpartition("/")[2]
        self.hub.uploads[self.path.rpartition("/")[2]] = content
        self._answer(200, {})

    def do_POST(self) -> None:
        self._note()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = self.path.partition("?")[0].removeprefix("/").split("/")
        match path:
            case ["api", "repos", "create"]:
                asked = json.loads(body)
                repository = f"{asked['organization']}/{asked['name']}"
                self.hub.files.setdefault(repository, {})
                self._answer(200, {"url": f"{self.hub.address}/{repository}", "name": repository})
            case ["api", "validate-yaml"]:
                self._answer(200, {"errors": [], "warnings": []})
            case ["api", "models", _, _, "preupload", "main"]:
                self._answer(200, {"files": [self._upload_mode(file) for file in json.loads(body)["files"]]})
            case [_, _, "info", "lfs", "objects", "batch"]:
                objects = [
                    {**wanted, "actions": {"upload": {"href": f"{self.hub.address}/lfs/{wanted['oid']}"}}}
                    for wanted in json.loads(body)["objects"]
                ]
                self._answer(200, {"transfer": "basic", "objects": objects})
            case ["api", "models", owner, name, "commit", "main"]:
                self._commit(f"{owner}/{name}", [json.loads(line) for line in body.splitlines()])
            case _:
                self._answer(404, {"error": self.path})

    def _note(self) -> None:
        asked = " ".join(filter(None, [self.command, self.path, self.headers.get("Range")]))
        self.hub.requests.append(asked)
        self.hub.token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

    def _upload_mode(self, file: dict[str, Any]) -> dict[str, Any]:
        mode = "lfs" if file["size"] > SMALL else "regular"
        return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}

    def _commit(self, repository: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                self.hub.files[repository][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.hub.files[repository][value["path"]] = self.hub.uploads[value["oid"]]
        address = f"{self.hub.address}/{repository}/commit/{COMMIT}"
        self._answer(200, {"commitUrl": address, "commitOid": COMMIT})

    def _give_file(self, *, with_content: bool) -> None:
        path = self.path.removeprefix("/").split("/")
        if path[2:4] != ["resolve", "main"]:
            self._answer(404, {"error": self.path})
            return
        self._note()
        repository, file = "/".join(path[:2]), path[4]
        files = self.hub.files.get(repository)
        if self.hub.status:
            self._answer(self.hub.status, {})
        elif files is None:
            self._refuse(404, "RepoNotFound")
        elif repository in self.hub.gated and not self.hub.token:
            self._refuse(401, "GatedRepo")
        elif file not in files:
            self._refuse(404, "EntryNotFound")
        else:
            self._send_file(files[file], with_content=with_content)

    def _send_file(self, content: bytes, *, with_content: bool) -> None:
        stated, start = self._hash(content), 0
        content = self.hub.swaps or content
        if span := self.headers.get("Range"):
            start = int(span.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("ETag", f'"{stated}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if with_content:
            end = self.hub.drops.pop(0) if self.hub.drops else len(content)
            self.wfile.write(content[start : max(start, end)])

    def _hash(self, content: bytes) -> str:
        if len(content) > SMALL:
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
