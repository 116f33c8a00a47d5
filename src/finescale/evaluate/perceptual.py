"""Perceptual metrics (LPIPS, NIQE, ...), computed by pyiqa where it is installed."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from finescale.errors import MissingExtraError
from finescale.settings import suggest

_INSTALL = "pip install 'finescale[perceptual]'"


@dataclass(frozen=True, eq=False)
class PerceptualMetric:
    """One of pyiqa's metrics."""

    name: str
    """Its name in pyiqa, such as "lpips"."""
    needs_original: bool
    """Whether it compares with the original instead of rating the result alone."""
    lower_is_better: bool
    """Whether smaller values are better."""
    measure: Callable[..., Any]
    """pyiqa's function of images (1, 3, H, W) in [0, 1]."""

    @torch.inference_mode()
    def __call__(self, sr: Tensor, hr: Tensor | None) -> float | None:
        """Return the value for a whole image (3, H, W) in RGB; None where a required original is missing."""
        if not self.needs_original:
            return float(self.measure(sr[None]))
        return None if hr is None else float(self.measure(sr[None], hr[None]))


def perceptual_metrics(names: Sequence[str], *, device: str = "cpu") -> list[PerceptualMetric]:
    """Return metrics by their names in pyiqa, which downloads the weights of most of them on first use.

    Raises:
        MissingExtraError: pyiqa is not installed.
        ValueError: pyiqa has no metric of that name.
    """
    if not names:
        return []
    check_metrics(names)
    pyiqa: Any = importlib.import_module("pyiqa")
    metrics = []
    for name in dict.fromkeys(names):
        metric = pyiqa.create_metric(name, device=device)
        metrics.append(PerceptualMetric(name, metric.metric_mode == "FR", bool(metric.lower_better), metric))
    return metrics


def check_metrics(names: Sequence[str]) -> None:
    """Refuse metrics that cannot be computed here, before anything is loaded or downloaded for them.

    Raises:
        MissingExtraError: pyiqa is not installed.
        ValueError: pyiqa has no metric of that name.
    """
    if not names:
        return
    if importlib.util.find_spec("pyiqa") is None:
        raise MissingExtraError(f"the metrics {', '.join(names)} need pyiqa, which is not installed: {_INSTALL}")
    pyiqa: Any = importlib.import_module("pyiqa")
    known = pyiqa.list_models()
    for name in names:
        if name not in known:
            raise ValueError(f"pyiqa has no metric {name!r}{suggest(name, known)}")
