"""The example that upscales by an exported file without PyTorch gives what `finescale upscale` does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from finescale.export import export_onnx
from finescale.networks import Frame
from finescale.upscale import Tiling, Upscaler
from heads import one_block
from small_sets import picture

for package in ("onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(package)

EXAMPLE = Path(__file__).parents[2] / "examples" / "onnx_tiles.py"
WITHOUT_TORCH = """
import runpy, sys
sys.modules.update(torch=None, finescale=None)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_tiles_of_an_exported_file_make_the_same_picture(tmp_path: Path) -> None:
    network = one_block("pixelshuffledirect", 2)
    export_onnx(network, tmp_path / "n.onnx")
    for tile in (40, 256):  # several tiles, and one
        compare(network, tmp_path, tile)


def compare(network: Frame, folder: Path, tile: int) -> None:
    """Compare the example's picture with finescale's."""
    source = np.ascontiguousarray(picture(93, 61).permute(1, 2, 0).numpy())
    (folder / "in.ppm").write_bytes(b"P6\n61 93\n255\n" + source.tobytes())
    words = [str(EXAMPLE), "n.onnx", "in.ppm", "out.ppm", str(tile)]
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *words], cwd=folder, check=True, timeout=60)
    header, _, pixels = (folder / "out.ppm").read_bytes().partition(b"255\n")
    assert header == b"P6 122 186 "
    found = np.frombuffer(pixels, np.uint8).reshape(186, 122, 3)
    expected = Upscaler(network, tiling=Tiling(tile=tile))(source)
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert (found != expected).mean() < 0.01
