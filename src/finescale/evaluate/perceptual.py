"""Metrics that judge as people do (LPIPS, NIQE, ...), by pyiqa where it is installed."""

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
    """As pyiqa calls it: "lpips"."""
    needs_original: bool
    """Whether it compares with the original, or judges the result alone."""
    lower_is_better: bool
    """Which way is up."""
    measure: Callable[..., Any]
    """pyiqa's own function on images (1, 3, H, W) in [0, 1]."""

    @torch.inference_mode()
    def __call__(self, sr: Tensor, hr: Tensor | None) -> float | None:
        """The value for a whole image (3, H, W) in RGB; None where an original is needed and missing."""
        if not self.needs_original:
            return float(self.measure(sr[None]))
        return None if hr is None else float(self.measure(sr[None], hr[None]))


def perceptual_metrics(names: Sequence[str], *, device: str = "cpu") -> list[PerceptualMetric]:
    """Metrics by pyiqa's names; pyiqa fetches the weights of most of them when they are first asked for.

    Raises:
        MissingExtraError: pyiqa is not installed.
        ValueError: It has no metric of that name.
    """
    if not names:
        return []
    if importlib.util.find_spec("pyiqa") is None:
        raise MissingExtraError(f"the metrics {', '.join(names)} need pyiqa, which is not installed: {_INSTALL}")
    pyiqa: Any = importlib.import_module("pyiqa")
    known = pyiqa.list_models()
    for name in names:
        if name not in known:
            raise ValueError(f"pyiqa has no metric {name!r}{suggest(name, known)}")
    metrics = []
    for name in dict.fromkeys(names):
        metric = pyiqa.create_metric(name, device=device)
        metrics.append(PerceptualMetric(name, metric.metric_mode == "FR", bool(metric.lower_better), metric))
    return metrics
