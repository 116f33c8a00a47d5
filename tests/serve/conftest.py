"""A server process of its own, as users start it, with a tiny network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from finescale import weights
from finescale.networks import FAMILIES
from serving import Running, start


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A HiT-SIR of a few thousand parameters at x2, random but fixed."""
    torch.manual_seed(0)
    family = FAMILIES["hit-sr"]
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    weights.save(family.network(settings=family.tiny["hit-sir"], scale=2), path, source="a test")
    return path


Start = Callable[..., Running]


@pytest.fixture
def starting(tmp_path: Path, tiny_weights: Path) -> Iterator[Start]:
    """Start servers that end with the test."""
    for package in ("fastapi", "uvicorn", "python_multipart"):
        pytest.importorskip(package)
    running: list[Running] = []

    def start_one(*more: str, name: str = "server", wait: bool = True) -> Running:
        running.append(start(tmp_path / name, tiny_weights, *more, wait=wait))
        return running[-1]

    yield start_one
    for server in running:
        server.process.kill()
        server.process.wait()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_weights: Path) -> Iterator[Running]:
    """A server that tests share."""
    for package in ("fastapi", "uvicorn", "python_multipart"):
        pytest.importorskip(package)
    running = start(tmp_path_factory.mktemp("server"), tiny_weights, "--max-pixels", "1000000", "--max-upload", "1M")
    yield running
    assert running.stop() == 0
    said = running.errors.read_text()
    assert "Traceback" not in said, said


@pytest.fixture
def client(server: Running) -> Iterator[Any]:
    httpx = pytest.importorskip("httpx")
    with httpx.Client(base_url=server.address, timeout=120) as client:
        yield client
