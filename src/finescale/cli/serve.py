"""``finescale serve``: a page and an HTTP API that upscale pictures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from finescale.cli import console, options

TOKEN_VARIABLE = "FINESCALE_TOKEN"


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; any but this machine's own needs --token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8188,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    networks: options.Networks = None,
    token: Annotated[
        str | None,
        typer.Option(envvar=TOKEN_VARIABLE, show_envvar=False, help="What clients must send, 16 characters or more."),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A name under which this server is addressed; may be repeated."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="A web page that may use the API; may be repeated.")
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="Folder of the pictures; default: one of this user.")] = None,
    max_age: Annotated[float, typer.Option(metavar="HOURS", help="Delete finished pictures after this time.")] = 24,
    max_stored: Annotated[
        str, typer.Option(metavar="SIZE", help="Delete the oldest finished pictures above this size.")
    ] = "10G",
    max_queued: Annotated[int, typer.Option(metavar="N", help="Pictures that may wait.")] = 32,
    max_upload: Annotated[str, typer.Option(metavar="SIZE", help="Largest file.")] = "200M",
    max_pixels: Annotated[int, typer.Option(metavar="N", help="Pixels of the largest picture.")] = 100_000_000,
    max_seconds: Annotated[float, typer.Option(metavar="SECONDS", help="Longest time for one picture.")] = 3600,
    max_memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Memory for one picture, on a CPU; default: what is free.")
    ] = None,
    stop_seconds: Annotated[
        float, typer.Option(metavar="SECONDS", help="Time to finish the present picture when the server is stopped.")
    ] = 30,
    precision: options.Precision = "auto",
    engine: options.Engine = None,
    device: options.Device = None,
    devices: Annotated[
        str | None,
        typer.Option(metavar="DEVICE,...", help="Several devices, such as cuda:0,cuda:1: a worker for each."),
    ] = None,
    _threads: options.Threads = None,
) -> None:
    """Serve a page and an HTTP API, on this machine alone unless --host is given. Stop it by Ctrl+C."""
    if None not in (device, devices):
        raise typer.BadParameter("--devices is mutually exclusive with --device")
    from finescale.errors import MissingExtraError
    from finescale.settings import parse_settings

    try:
        from finescale.serve.server import serve as run
        from finescale.serve.settings import ServeSettings
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "starlette", "uvicorn"):
            raise
        raise MissingExtraError(f"serve needs {error.name}: pip install 'finescale[serve]'") from None

    engine_name = options.engine_of(engine, compile=False)
    given = {
        "host": host,
        "port": port,
        "token": token,
        "allowed_hosts": tuple(allow_host or ()),
        "allowed_origins": tuple(allow_origin or ()),
        "folder": folder,
        "max_age": max_age,
        "max_stored": options.read_bytes("--max-stored", max_stored),
        "max_queued": max_queued,
        "max_upload": options.read_bytes("--max-upload", max_upload),
        "max_pixels": max_pixels,
        "max_seconds": max_seconds,
        "max_memory": None if max_memory is None else options.read_bytes("--max-memory", max_memory),
        "stop_seconds": stop_seconds,
        "networks": tuple(networks or ()),
        "devices": tuple(options.names_of(devices)) or (options.device_of(device, engine=engine_name),),
        "precision": precision,
        "engine": engine_name,
    }
    settings = parse_settings(ServeSettings, {k: v for k, v in given.items() if v is not None}, source="serve")

    def on_start(address: str) -> None:
        console.say(f"serving {address} on {', '.join(settings.devices)}; stop it by Ctrl+C")
        if open_page:
            typer.launch(re.sub(r"//(?:0\.0\.0\.0|\[::\])", "//127.0.0.1", address))

    with console.messages_of_the_library():
        run(settings, on_start=on_start)
    console.say("stopped")
