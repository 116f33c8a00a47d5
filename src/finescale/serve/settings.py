"""Settings of the server, and of one job as a request states them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import platformdirs
from pydantic import Field, model_validator
from typing_extensions import Self

from finescale.engines import EngineName, Precision
from finescale.settings import Settings
from finescale.upscale.outputs import OutputSettings

MIN_TOKEN = 16
"""Characters of the shortest token."""


class ServeSettings(Settings):
    """Address, limits and networks of a server."""

    host: str = "127.0.0.1"
    """Address to listen on; any but those of this machine needs a token."""
    port: int = Field(8188, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    token: str | None = Field(None, min_length=MIN_TOKEN, pattern=r"^[\x21-\x7e]+$")
    """What clients must send; None lets everybody in who reaches the address."""
    allowed_hosts: tuple[str, ...] = ()
    """Names under which clients may address the server, besides localhost and plain IP addresses."""
    allowed_origins: tuple[str, ...] = ()
    """Origins of other pages that may call the API from a browser, such as "https://pictures.example"."""

    folder: Path = Field(default_factory=lambda: platformdirs.user_data_path("finescale", appauthor=False) / "serve")
    """Folder of the jobs; one server at a time uses it."""
    max_age: float = Field(24.0, gt=0)
    """Hours after which a finished job is deleted."""
    max_stored: int = Field(10 * 2**30, gt=0)
    """Bytes of all finished jobs; the oldest are deleted above it."""

    max_queued: int = Field(32, ge=1)
    """Jobs that wait or are being received; further ones are refused until one ends."""
    max_upload: int = Field(200 * 2**20, gt=0)
    """Bytes of one request."""
    max_pixels: int = Field(100_000_000, gt=0)
    """Pixels of one picture."""
    max_seconds: float = Field(3600, gt=0)
    """Seconds that one job may take."""
    max_memory: int | None = Field(None, gt=0)
    """Bytes of address space that a job may take on a CPU besides what the worker takes at its start; None is what is
    free then."""
    send_seconds: float = Field(20, gt=0)
    """Seconds that a client may pause while it sends a request."""
    stop_seconds: float = Field(30, ge=0)
    """Seconds that the picture at work gets to finish when the server is stopped."""

    networks: tuple[str, ...] = ()
    """Weight files and names of networks to offer besides the bundled and the downloaded ones; the first is the choice
    of requests that state none."""
    devices: tuple[str, ...] = Field(("cpu",), min_length=1)
    """Where networks compute: a worker process for each."""
    precision: Precision = "auto"
    """Precision of their arithmetic."""
    engine: EngineName = "auto"
    """Runtime that computes them."""


class JobSettings(Settings):
    """What a request asks for; every field has the meaning and the default that it has on the command line."""

    network: str | None = None
    """Id of a network in ``/v1/models``; None is the server's first."""
    scale: int | None = Field(None, ge=1, le=16)
    """One of the network's scales; None is the largest."""
    format: str = "png"
    """png, jpg, webp, tif, bmp or avif."""
    quality: int | None = Field(None, ge=1, le=100)
    """For JPEG, WebP and AVIF; None takes each format's default."""
    ensemble: bool = False
    """Average over 8 flips and rotations: slightly better, 8 times slower."""
    outscale: float | None = None
    """Size of the result as a multiple of the input's."""
    width: int | None = None
    """Width of the result in pixels."""
    height: int | None = None
    """Height of the result in pixels."""
    long_side: int | None = None
    """Longer side of the result in pixels."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.output_settings()
        return self

    def output_settings(self) -> OutputSettings:
        """Return how the result is written."""
        return OutputSettings(
            format=self.format,
            quality=self.quality,
            outscale=self.outscale,
            width=self.width,
            height=self.height,
            long_side=self.long_side,
        )


Status = Literal["queued", "running", "done", "failed", "cancelled"]
"""Where a job stands; the last three are final."""
