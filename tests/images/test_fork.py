"""Images in processes that were forked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, signal, sys, warnings
warnings.simplefilter("ignore")
import torch
from finescale.images import encode_png, read_image, read_size, write_image

path, order = sys.argv[1:]
if order == "parent first":
    write_image(path, torch.zeros(3, 300, 300))
child = os.fork()
if child == 0:
    signal.alarm(60)
    try:
        for use in (
            lambda: write_image(path, torch.zeros(3, 300, 300)),
            lambda: read_image(path),
            lambda: read_size(path),
            lambda: encode_png(torch.zeros(3, 4, 4, dtype=torch.uint8)),
        ):
            try:
                use()
            except Exception as error:
                print(type(error).__name__, error, flush=True)
    finally:
        os._exit(0)
assert os.waitpid(child, 0)[1] == 0
write_image(path, torch.zeros(3, 300, 300))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not fork")
@pytest.mark.parametrize(("order", "refused"), [("parent first", 4), ("child first", 0)])
def test_a_forked_process_is_refused_what_would_hang(order: str, refused: int, tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "a.png", order], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == refused * [
        "ImageError images cannot be read or written in a process that was forked after its parent had done so; start "
        "processes with multiprocessing.get_context('spawn')"
    ]
