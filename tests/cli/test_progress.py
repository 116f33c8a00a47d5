"""Progress bars appear on a terminal and nowhere else."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from finescale.cli import console
from finescale.cli.progress import bars, training_bar
from finescale.train.progress import TrainingProgress


def on_terminal(monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool) -> io.StringIO:
    shown = io.StringIO()
    shown_console = Console(file=shown, force_terminal=is_terminal, width=120)
    monkeypatch.setattr(console, "errors", lambda: shown_console)
    return shown


def test_a_terminal_shows_steps_loss_and_psnr(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = on_terminal(monkeypatch, is_terminal=True)
    with training_bar() as on_step:
        assert on_step is not None
        on_step(TrainingProgress(step=700, iterations=1000))
        on_step(TrainingProgress(step=750, iterations=1000, loss=0.01234, psnr_y=30.456))
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown.getvalue())
    assert "750/1000" in text
    assert "loss 0.0123, PSNR 30.46 dB" in text


def test_elsewhere_there_is_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = on_terminal(monkeypatch, is_terminal=False)
    with training_bar() as on_step:
        assert on_step is None
    assert shown.getvalue() == ""


def test_each_work_has_a_bar_with_its_label_and_count(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = on_terminal(monkeypatch, is_terminal=True)
    with bars() as drawn:
        assert drawn.are_drawn
        drawn.show("pictures", 0, 3)
        drawn.show("tiles", 1, 4, label="[red]a\n.png")
        drawn.show("pictures", 2, 3)
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown.getvalue())
    assert re.search(r"pictures .* 2/3", text)
    assert "/100" not in text
    assert re.search(r"\[red\]a\\n.png .* 1/4", text)


def test_bars_without_a_terminal_have_no_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = on_terminal(monkeypatch, is_terminal=False)
    with bars() as drawn:
        assert not drawn.are_drawn
        drawn.show("pictures", 1, 3)
    assert shown.getvalue() == ""
