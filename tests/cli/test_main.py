"""What every command has in common: help, version, exit codes, one sentence for what is wrong."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

from finescale.cli import main
from finescale.cli.main import run


def test_without_a_verb_the_verbs_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 1
    told = capsys.readouterr()
    assert all(verb in told.out for verb in ("upscale", "models", "inspect", "evaluate", "train", "prepare"))
    assert told.err == ""


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["upscale", "--help"], ["models", "-h"], ["inspect", "-h"], ["evaluate", "-h"], ["train", "-h"]],
)
def test_help_is_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 0
    assert "Usage: finescale" in capsys.readouterr().out


def test_the_version_is_the_installed_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == version("finescale")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["upscal", "a.png"], "finescale: No such command 'upscal'. Did you mean 'upscale'?\n"),
        (["inspect"], "finescale: Missing argument 'FILE'.\n"),
        (["upscale"], "finescale: Invalid value: no INPUT: name pictures, folders or patterns\n"),
        (["inspect", "nowhere.pth"], "finescale: nowhere.pth: cannot be read (No such file or directory)\n"),
        (["prepare"], "finescale: Missing command.\n"),
        (["train", "nowhere.yml"], "finescale: nowhere.yml: cannot be read (No such file or directory)\n"),
    ],
)
def test_wrong_usage_is_one_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 1
    told = capsys.readouterr()
    assert told.err == sentence
    assert told.out == ""


def test_the_package_can_be_run_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "finescale", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == version("finescale")


def test_a_message_has_a_bounded_length(capsys: pytest.CaptureFixture[str]) -> None:
    name = "".join(map(str, range(50_000)))
    assert run(["upscale", name]) == 2
    assert run([name]) == 1
    told = capsys.readouterr().err
    assert all(len(line) < 2100 for line in told.splitlines())
    assert "characters ...]" in told


def test_an_error_of_the_system_or_of_memory_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = {
        "out: cannot be used (Permission denied)": PermissionError(13, "Permission denied", "out"),
        "too little memory (could not create a primitive)": RuntimeError("could not create a primitive"),
        "too little memory (nothing more could be allocated)": MemoryError(),
    }
    for sentence, error in errors.items():

        def fail(error: Exception = error, **_: object) -> None:
            raise error

        monkeypatch.setattr(main, "app", fail)
        assert run([]) == 1
        assert capsys.readouterr().err == f"finescale: {sentence}\n"

    def mistake(**_: object) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(main, "app", mistake)
    with pytest.raises(RuntimeError, match="of ours"):
        run([])
