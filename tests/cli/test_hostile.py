"""The folder of hostile pictures, as a whole, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finescale import images
from finescale.cli.main import run

BAD = {
    "truncated.png",
    "truncated.webp",
    "truncated.jpg",
    "truncated_tail.jpg",
    "zero_bytes.png",
    "signature_only.png",
    "text.png",
    "bad_crc.png",
    "float32_nan.tif",
    "bomb_30000x30000.png",
    "bomb_lying_header.png",
}
PICTURES = {".png", ".jpg", ".webp", ".tif", ".bmp", ".gif"}


def test_every_sound_picture_is_upscaled_and_every_bad_one_named(
    data_root: Path, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile, out = data_root / "hostile", tmp_path / "out"
    before = {path: path.stat().st_mtime_ns for path in hostile.rglob("*")}
    assert run(["upscale", str(hostile), "-o", str(out), "-n", str(tiny_weights), "--json"]) == 2
    told = capsys.readouterr()
    rows = json.loads(told.out)["files"]
    meant = [
        path
        for path in hostile.rglob("*")
        if path.is_file() and path.suffix.lower() in PICTURES and not path.name.startswith(".")
    ]
    assert sorted(row["input"] for row in rows) == sorted(map(str, meant))
    failed = {Path(row["input"]).name for row in rows if row["status"] == "failed"}
    assert failed == BAD
    for row in rows:
        if row["status"] == "failed":
            assert row["reason"].count("\n") == 0
            assert row["reason"] in told.err
        else:
            source, result = (images.read_image(row[end]) for end in ("input", "output"))
            assert result.size == (2 * source.size[0], 2 * source.size[1])
            assert (result.alpha is None) == (source.alpha is None)
    outputs = [row["output"] for row in rows if row["output"]]
    assert len(set(outputs)) == len(outputs) == len([path for path in out.rglob("*") if path.is_file()])
    assert "Traceback" not in told.err
    assert {path: path.stat().st_mtime_ns for path in hostile.rglob("*")} == before
    assert "no image extension" in told.err
    assert "3 further frames" in told.err
