"""What stands before every route: who may ask, how much and how slowly a request may send, and headers of answers."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import time
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from finescale.serve.errors import ApiError
from finescale.serve.settings import ServeSettings

COOKIE = "finescale_token"
_OPEN = ("/healthz", "/readyz")
"""Paths that need no token."""
_SLOWEST = 16 * 1024
"""Bytes per second that a client must send on average, once `ServeSettings.send_seconds` have passed."""
_SLACK = 2**16
"""Bytes of a request besides its picture."""

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Layer around the application that refuses what must not reach it.

    A page of another origin can make a browser send requests here, under a name of its own that it makes lead to this
    machine (DNS rebinding). Such requests are recognised by the name in Host and by Origin. A plain IP address in Host
    cannot be the name of such a page.

    Args:
        app: The application.
        settings: Of the server.
        count_response: Called with the status of each answer.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings, count_response: Callable[[int], None]) -> None:
        self._app, self._settings, self._count_response = app, settings, count_response
        self._origins = {origin.rstrip("/").lower() for origin in settings.allowed_origins}
        self._hosts = {"localhost", settings.host.lower(), *(name.lower() for name in settings.allowed_hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with an error."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._count_response(message["status"])
                answer = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    answer.setdefault(name, value)
            await send(message)

        try:
            self._check_origin(scope, headers)
            entry = self._check_token(scope, headers)
            if entry is not None:
                await entry(scope, receive, send_with_headers)
                return
            self._check_length(headers)
        except ApiError as error:
            await error.response()(scope, receive, send_with_headers)
            return
        await self._app(scope, self._bounded(receive), send_with_headers)

    def _check_origin(self, scope: Scope, headers: Headers) -> None:
        host = headers.get("host", "")
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            name = ""
        if name not in self._hosts and not _is_address(name):
            raise ApiError(
                403,
                "wrong_host",
                f"this server is not called {host[:100]!r}",
                "Use its IP address, or start it with --allow-host NAME.",
            )
        origin = headers.get("origin")
        if origin is not None:
            same = origin.lower() in (f"http://{host}".lower(), f"https://{host}".lower())
            if not same and origin.lower() not in self._origins:
                raise ApiError(
                    403,
                    "wrong_origin",
                    f"pages of {origin[:100]!r} may not use this server",
                    "Start it with --allow-origin to let them.",
                )
        elif headers.get("sec-fetch-site") == "cross-site" and scope["path"].startswith("/v1/"):
            raise ApiError(403, "wrong_origin", "pages of other sites may not use this server", "Open its own page.")

    def _check_token(self, scope: Scope, headers: Headers) -> RedirectResponse | None:
        """Let a request pass that has the token; answer the page's first one, which has it in its address."""
        token = self._settings.token
        if token is None or scope["path"] in _OPEN or scope["method"] == "OPTIONS":
            return None
        bearer = headers.get("authorization", "")
        if _is_equal(bearer.removeprefix("Bearer ") if bearer.startswith("Bearer ") else None, token):
            return None
        if _is_equal(cookie_parser(headers.get("cookie", "")).get(COOKIE), token):
            return None
        stated = parse_qs(scope["query_string"].decode("latin-1")).get("token", [None])[-1]
        if scope["path"] == "/" and _is_equal(stated, token):
            entry = RedirectResponse("/", status_code=303)
            entry.set_cookie(COOKIE, token, httponly=True, samesite="strict", path="/")
            return entry
        raise ApiError(
            401,
            "token_needed",
            "this server needs a token",
            "Send the header 'Authorization: Bearer TOKEN', or open /?token=TOKEN in a browser.",
        )

    def _check_length(self, headers: Headers) -> None:
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit() or len(length) > 18:
            raise ApiError(400, "bad_request", "Content-Length is not a number", "Send the number of bytes.")
        if int(length) > self._settings.max_upload + _SLACK:
            raise self._too_large()

    def _too_large(self) -> ApiError:
        limit = self._settings.max_upload / 2**20
        return ApiError(
            413,
            "too_large",
            f"the request is larger than {limit:g} MiB",
            "Send a smaller file, or start the server with a larger --max-upload.",
        )

    def _bounded(self, receive: Receive) -> Receive:
        """Bound the bytes of a request's body, and the time that a client may take to send them."""
        started, num_bytes, is_whole = time.monotonic(), 0, False
        patience = self._settings.send_seconds

        async def bounded() -> Message:
            nonlocal num_bytes, is_whole
            if is_whole:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), patience)
            except asyncio.TimeoutError:
                raise self._too_slow() from None
            num_bytes += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            if num_bytes > self._settings.max_upload + _SLACK:
                raise self._too_large()
            if not is_whole and time.monotonic() - started > patience + num_bytes / _SLOWEST:
                raise self._too_slow()
            return message

        return bounded

    def _too_slow(self) -> ApiError:
        return ApiError(408, "too_slow", "the request arrives too slowly", "Send it again over a faster connection.")


def _is_equal(stated: str | None, token: str) -> bool:
    return stated is not None and hmac.compare_digest(stated.encode(), token.encode())


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)
