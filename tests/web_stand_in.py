"""A web server on this machine that gives files, and breaks connections or refuses requests where a test says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import ClassVar

from loopback import listening


@dataclass
class WebStandIn:
    """What the server has, what was asked of it, and what is to go wrong."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    """Content by path."""
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """Path with query, and authorization, of each request."""
    faults: list[int | str] = field(default_factory=list)
    """For each request to come: a status to refuse it with, "cut" to break off within the file, "" for none."""
    always: int | str = ""
    """The fault of all requests after those."""


@contextmanager
def serving() -> Iterator[WebStandIn]:
    """A server of its own, on a port of its own."""
    web = WebStandIn()
    with listening(_Handler, web=web) as web.address:
        yield web


class _Handler(BaseHTTPRequestHandler):
    web: ClassVar[WebStandIn]

    def log_message(self, *_: object) -> None:
        """Nothing on standard error."""

    def do_GET(self) -> None:
        self.web.requests.append((self.path, self.headers.get("Authorization")))
        fault = self.web.faults.pop(0) if self.web.faults else self.web.always
        content = self.web.files.get(self.path.partition("?")[0])
        status = fault if isinstance(fault, int) else 404 if content is None else 200
        self.send_response(status)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        if content is None or status != 200:
            self.wfile.write(content or b"")
        elif fault == "cut":
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
        else:
            self.wfile.write(content)
