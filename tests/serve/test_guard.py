"""What stands before the routes, without a server around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")

from starlette.requests import Request  # noqa: E402
from starlette.responses import PlainTextResponse  # noqa: E402

from finescale.serve.errors import ApiError  # noqa: E402
from finescale.serve.guard import COOKIE, Guard, is_loopback  # noqa: E402
from finescale.serve.settings import ServeSettings  # noqa: E402

TOKEN = "a-token-of-many-letters"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    try:
        body = await Request(scope, receive).body()
        answer = PlainTextResponse(str(len(body)))
    except ApiError as error:
        answer = error.response()
    await answer(scope, receive, send)


def ask(settings: ServeSettings, method: str, path: str, **more: Any) -> Any:
    async def asked() -> Any:
        transport = httpx.ASGITransport(Guard(echo, settings, lambda _: None))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, **more)

    return asyncio.run(asked())


def test_a_token_is_asked_for() -> None:
    settings = ServeSettings(token=TOKEN)
    assert ask(settings, "GET", "/v1/models").json()["error"]["code"] == "token_needed"
    assert ask(settings, "GET", "/v1/models", headers={"Authorization": f"Bearer {TOKEN}x"}).status_code == 401
    assert ask(settings, "GET", "/v1/models", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert ask(settings, "GET", "/?token=wrong").status_code == 401
    assert ask(settings, "GET", f"/v1/models?token={TOKEN}").status_code == 401, "only the page's address may have it"
    assert ask(settings, "GET", "/healthz").status_code == 200
    entry = ask(settings, "GET", f"/?token={TOKEN}")
    assert (entry.status_code, entry.headers["location"]) == (303, "/")
    cookie = entry.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert ask(settings, "GET", "/", headers={"Cookie": f"{COOKIE}={TOKEN}"}).status_code == 200


def test_an_allowed_origin_and_host_pass() -> None:
    settings = ServeSettings(allowed_origins=("https://friend.example",), allowed_hosts=("pictures.example",))
    for headers, status in (
        ({"Origin": "https://friend.example"}, 200),
        ({"Origin": "https://friend.example.evil"}, 403),
        ({"Host": "pictures.example"}, 200),
        ({"Host": "other.example"}, 403),
        ({"Host": "192.168.1.5:8188"}, 200),
        ({"Host": ""}, 403),
    ):
        assert ask(settings, "GET", "/v1/models", headers=headers).status_code == status, headers


def test_a_body_is_bounded_before_it_is_read_whole() -> None:
    settings = ServeSettings(max_upload=100_000)
    assert ask(settings, "POST", "/v1/jobs", content=b"x" * 100_000).text == "100000"
    assert ask(settings, "POST", "/v1/jobs", content=b"x" * 200_000).status_code == 413
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 10_000
            yield b"x" * 10_000

    assert ask(settings, "POST", "/v1/jobs", content=endless()).json()["error"]["code"] == "too_large"
    assert sent < 200_000
    assert ask(settings, "POST", "/v1/jobs", headers={"Content-Length": "-5"}).status_code == 400


def test_a_body_that_stops_or_drips_is_given_up() -> None:
    settings = ServeSettings(send_seconds=0.2)

    async def dripping(pause: float) -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x"
            await asyncio.sleep(pause)

    for pause in (5, 0.05):
        answer = ask(settings, "POST", "/v1/jobs", content=dripping(pause))
        assert (answer.status_code, answer.json()["error"]["code"]) == (408, "too_slow")


@pytest.mark.parametrize(
    ("host", "is_own"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("a.b", False)],
)
def test_addresses_of_this_machine_are_known(host: str, is_own: bool) -> None:
    assert is_loopback(host) is is_own
