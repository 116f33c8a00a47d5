"""Published networks that tests make up: facts, and families that state them of their tiny networks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from finescale import weights
from finescale.networks import FAMILIES, Frame, Published


def facts(**changes: Any) -> Published:
    """A published network whose weights are offered by a link."""
    page = "https://example.org/DRCT"
    stated = {"file": "DRCT-L_X4.pth", "page": page, "training_data": "DIV2K", "scores": {}, "licence": "MIT"}
    return Published(**{"variant": "drct-l", "scale": 4, **stated, **changes})


def publish(monkeypatch: pytest.MonkeyPatch, family: str, published: Iterable[Published]) -> None:
    """Let a family's authors have published these, its tiny networks being its variants."""
    publication = replace(FAMILIES[family].publication, networks=tuple(published))
    changed = replace(FAMILIES[family], variants=FAMILIES[family].tiny, publication=publication)
    monkeypatch.setitem(FAMILIES.families, family, changed)


def tiny_network(family: str, variant: str, *, scale: int) -> Frame:
    """A variant's tiny sister with weights that are random but fixed, for evaluation."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return FAMILIES[family].network(settings=FAMILIES[family].tiny[variant], scale=scale).eval()


def write(content: object, path: Path, **options: Any) -> Path:
    """A file of ``torch.save``."""
    torch.save(content, path, **options)
    return path


def authors_file(network: Frame, path: Path) -> Path:
    """A network's state dict as authors publish it, without a header of ours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write({"params": dict(network.state_dict())}, path)


def our_file(network: Frame, path: Path) -> bytes:
    """The bytes of a network's file as we write it."""
    weights.save(network, path, source="a test", licence="MIT")
    return path.read_bytes()
