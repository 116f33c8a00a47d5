"""The server process: address, protocol, and an end that keeps its word to clients."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from finescale.errors import FinescaleError
from finescale.serve.app import Service, create_app
from finescale.serve.guard import is_loopback
from finescale.serve.settings import ServeSettings
from finescale.system.lock import exclusive
from finescale.upscale.upscaler import check_device

_HEADER_SECONDS = 10
"""Seconds that a new connection has for the header of its first request."""
_MOST_CONNECTIONS = 500


def serve(settings: ServeSettings, *, on_start: Callable[[str], None] | None = None) -> None:
    """Run the server until Ctrl+C or SIGTERM, then end it gracefully.

    Args:
        settings: Of the server.
        on_start: Called with the page's address, the token included, once the server listens.

    Raises:
        ValueError: The address can be reached from other machines, and there is no token; or a device has no such name.
        DeviceError: This machine lacks a device.
        FinescaleError: The address is taken, or another server uses the folder, or a network cannot be used.
    """
    if not is_loopback(settings.host) and settings.token is None:
        raise ValueError(
            f"other machines can reach {settings.host}: give --token, or FINESCALE_TOKEN in the environment, "
            "which clients then must send; or listen on 127.0.0.1"
        )
    for device in settings.devices:
        check_device(device)
    try:
        settings.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with exclusive(settings.folder / "lock"):
            _serve(settings, on_start)
    except BlockingIOError:
        raise FinescaleError(f"{settings.folder}: another server uses this folder; give --folder") from None


def _serve(settings: ServeSettings, on_start: Callable[[str], None] | None) -> None:
    service = Service(settings)
    listener = _listen(settings)
    config = uvicorn.Config(
        create_app(service),
        http=_Protocol,
        ws="none",
        loop="asyncio",
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=int(settings.stop_seconds) + 5,
        h11_max_incomplete_event_size=2**16,
    )
    server = _Server(config, service)
    if on_start is not None:
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        server.on_start = lambda: on_start(
            f"http://{shown}:{port}/" + (f"?token={settings.token}" if settings.token else "")
        )
    with listener:
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:  # the signal that ended it, raised again by uvicorn
            return


def _listen(settings: ServeSettings) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=512)
    except OSError as error:
        raise FinescaleError(
            f"cannot listen on {settings.host}, port {settings.port} ({error.strerror}); choose another --port"
        ) from None


class _Server(uvicorn.Server):
    """Server that takes no new pictures from the first signal on, and stops the worker before connections close."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self.on_start: Callable[[], None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.on_start is not None and not self.should_exit:
            self.on_start()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._service.engine.is_stopping = True
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._service.engine.stop()
        await super().shutdown(sockets)


class _Protocol(H11Protocol):
    """HTTP/1.1, on connections that are closed where no request arrives."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self.loop.call_later(_HEADER_SECONDS, self._close_if_silent)

    def _close_if_silent(self) -> None:
        cycle: Any = self.cycle
        if cycle is None and not self.transport.is_closing():
            self.transport.close()
