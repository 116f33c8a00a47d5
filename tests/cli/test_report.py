"""``finescale upscale --shard`` on several processes, and ``finescale report merge`` on what they report."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from finescale.cli.main import run
from finescale.images import write_image


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    for number in range(7):
        write_image(folder / f"{number}.png", torch.full((3, 8 + number, 10), number / 10))
    return folder


def upscale(*arguments: object) -> int:
    return run(["upscale", *map(str, arguments)])


def merge(*arguments: object) -> int:
    return run(["report", "merge", *map(str, arguments)])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_shards_do_what_one_process_does(
    originals: Path, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert upscale(originals, "-o", tmp_path / "whole", "-n", tiny_weights) == 0
    for shard in ("2/3", "1/3", "3/3"):
        assert upscale(originals, "-o", tmp_path / "out", "-n", tiny_weights, "--shard", shard) == 0
    reports = [f"finescale-report.{number}-of-3.json" for number in (1, 2, 3)]
    assert names(tmp_path / "out") == [*names(tmp_path / "whole"), *reports]
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes()
    capsys.readouterr()
    assert merge(tmp_path / "out", "-o", tmp_path / "merged.json", "--json") == 0
    told = capsys.readouterr()
    assert told.err.splitlines()[0] == "7 done"
    merged = json.loads(told.out)
    assert json.loads((tmp_path / "merged.json").read_text()) == merged
    assert {Path(file["input"]).name for file in merged["files"]} == {f"{number}.png" for number in range(7)}
    assert (merged["missing"], merged["shards_without_report"]) == ([], {})
    assert {"output", "reason", "notes", "input_size", "output_size", "seconds"} <= merged["files"][0].keys()


def test_the_shard_is_that_of_the_launcher_unless_one_is_named(
    originals: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "7")
    given = originals, "-n", tiny_weights, "-o"
    assert upscale(*given, tmp_path / "one") == 0
    assert "shard 2/7, by torchrun\n" in capsys.readouterr().err
    assert names(tmp_path / "one") == ["5_x2.png", "finescale-report.2-of-7.json"]
    assert upscale(*given, tmp_path / "all", "--shard", "1/1", "--report", tmp_path / "all.json") == 0
    assert len(names(tmp_path / "all")) == 7
    assert json.loads((tmp_path / "all.json").read_text())["shard"] == "1/1"


def test_what_is_missing_or_failed_has_its_exit_code(
    originals: Path, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(originals, tmp_path / "in")
    (tmp_path / "in" / "3.png").write_bytes(b"no picture")
    flags = "-n", tiny_weights, "-o", tmp_path / "out", "--report", tmp_path / "report.json"
    assert upscale(tmp_path / "in", tmp_path / "absent.png", *flags, "--shard", "1/2") == 2
    capsys.readouterr()
    assert merge(tmp_path / "report.1-of-2.json") == 2
    told = capsys.readouterr().err
    assert "missing: the report of shard 2/2 (3 inputs); run the command with --shard 2/2" in told
    upscale(tmp_path / "in", tmp_path / "absent.png", *flags, "--shard", "2/2")
    capsys.readouterr()
    assert merge(tmp_path, "--json") == 2
    told = capsys.readouterr()
    assert told.err == "6 done, 2 failed\n"
    failed = [file["input"] for file in json.loads(told.out)["files"] if file["status"] == "failed"]
    assert sorted(failed) == sorted([str(tmp_path / "absent.png"), str(tmp_path / "in" / "3.png")])


def test_a_killed_shard_is_missing_until_it_is_run_again(
    originals: Path, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first of two shards is killed in the midst of the largest picture."""
    shutil.copytree(originals, tmp_path / "in")
    write_image(tmp_path / "in" / "large.png", torch.rand(3, 200, 200))
    flags = [tmp_path / "in", "-n", tiny_weights, "-t", 32]
    assert upscale(*flags, "-o", tmp_path / "whole") == 0
    given = [*flags, "-o", tmp_path / "out", "--shard"]
    command = [sys.executable, "-m", "finescale", "upscale", *map(str, given), "1/2"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    report = tmp_path / "out" / "finescale-report.1-of-2.json"
    deadline = time.monotonic() + 120
    while not report.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert upscale(*given, "2/2") == 0
    capsys.readouterr()
    assert merge(tmp_path / "out") == 2
    assert f"missing: {tmp_path / 'in' / 'large.png'}\n" in capsys.readouterr().err
    assert upscale(*given, "1/2") == 0
    capsys.readouterr()
    assert merge(tmp_path / "out") == 0
    assert capsys.readouterr().err == "8 done\n"
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes()
    assert not [name for name in names(tmp_path / "out") if name.startswith(".")]


def test_several_processes_do_what_one_does(
    originals: Path, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = originals, "-n", tiny_weights, "-o"
    assert upscale(*flags, tmp_path / "whole") == 0
    capsys.readouterr()
    assert upscale(*flags, tmp_path / "out", "--workers", 2, "--json") == 0
    told = capsys.readouterr()
    assert "computing on cpu, cpu by engine torch, since " in told.err
    assert [file["status"] for file in json.loads(told.out)["files"]] == ["done"] * 7
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--shard", "3/2"), "--shard: a shard is a number and a count such as 2/8, from 1/8 to 8/8, got '3/2'"),
        (("--devices", "cpu,cpu", "--workers", "2"), "--devices is mutually exclusive with --device and --workers"),
        (("--workers", "0"), "Invalid value for '--workers'"),
    ],
)
def test_flags_that_name_no_processes_are_refused(
    originals: Path, flags: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert upscale(originals, *flags) == 1
    assert message in capsys.readouterr().err
