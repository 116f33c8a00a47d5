"""HTTP API and web page on one machine: `ServeSettings` and `serve`, which `finescale serve` calls.

An event loop handles requests (`app`), one worker process for each server decodes, computes and encodes (`worker`,
started and watched by `engine_room`), and jobs live in a folder (`jobs`). Needs the extra ``serve``.
"""

from finescale.serve.server import serve
from finescale.serve.settings import JobSettings, ServeSettings

__all__ = ["JobSettings", "ServeSettings", "serve"]
