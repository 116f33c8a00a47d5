from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
import torch
from torch import Tensor

from finescale.errors import MissingExtraError
from finescale.evaluate import perceptual_metrics


@pytest.fixture
def pyiqa(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """A stand-in with two metrics; the list is of what was asked of it."""
    asked = []

    class Metric:
        def __init__(self, mode: str, lower: bool) -> None:
            self.metric_mode, self.lower_better = mode, lower

        def __call__(self, *images: Tensor) -> Tensor:
            assert len(images) == (2 if self.metric_mode == "FR" else 1)
            assert all(image.shape == (1, 3, 4, 5) for image in images)
            return sum(images).mean()[None]

    def create_metric(name: str, *, device: str) -> Metric:
        asked.append((name, device))
        return Metric("FR" if name == "lpips" else "NR", name != "musiq")

    module = ModuleType("pyiqa")
    module.__spec__ = ModuleSpec("pyiqa", None)
    vars(module).update(list_models=lambda: ["lpips", "niqe", "musiq"], create_metric=create_metric)
    monkeypatch.setitem(sys.modules, "pyiqa", module)
    return asked


def test_metrics_are_pyiqas(pyiqa: list[tuple[str, str]]) -> None:
    compared, judged = perceptual_metrics(["lpips", "musiq", "lpips"], device="cpu")
    assert pyiqa == [("lpips", "cpu"), ("musiq", "cpu")]
    assert (compared.needs_original, judged.needs_original) == (True, False)
    assert (compared.lower_is_better, judged.lower_is_better) == (True, False)
    sr, hr = torch.full((3, 4, 5), 0.5), torch.full((3, 4, 5), 0.25)
    assert compared(sr, hr) == 0.75
    assert compared(sr, None) is None
    assert judged(sr, hr) == judged(sr, None) == 0.5


@pytest.mark.usefixtures("pyiqa")
def test_an_unknown_metric_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"pyiqa has no metric 'lpip' \(did you mean 'lpips'\?\)"):
        perceptual_metrics(["lpip"])


def test_without_pyiqa_the_install_line_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"lpips, niqe need pyiqa, .*: pip install 'finescale\[perceptual\]'"):
        perceptual_metrics(["lpips", "niqe"])
    assert perceptual_metrics([]) == []
