"""Optimizers by name: what is wrong is told before there is a network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from finescale.train.optimizers import check_optimizer, default_of, make_optimizer, optimizers


def test_an_optimizer_has_its_arguments() -> None:
    weight = nn.Parameter(torch.zeros(2))
    made = make_optimizer([weight], "AdamW", {"lr": 3e-4, "betas": (0.8, 0.9), "weight_decay": 0.0})
    assert type(made) is torch.optim.AdamW
    assert made.param_groups[0]["params"] == [weight]
    assert [made.defaults[name] for name in ("lr", "betas", "weight_decay")] == [3e-4, (0.8, 0.9), 0.0]


@pytest.mark.parametrize("name", optimizers())
def test_every_optimizer_on_offer_makes_a_step(name: str) -> None:
    weight = nn.Parameter(torch.ones(3, 3))
    made = make_optimizer([weight], name, {"lr": 0.1})
    weight.square().sum().backward()  # type: ignore[no-untyped-call]
    made.step()
    assert not torch.equal(weight, torch.ones(3, 3))


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("Adm", {}, r"unknown optimizer 'Adm' \(did you mean 'Adam'\?\); known: .*SGD"),
        ("Optimizer", {}, "unknown optimizer 'Optimizer'"),
        ("lr_scheduler", {}, "unknown optimizer 'lr_scheduler'"),
        ("LBFGS", {}, "LBFGS computes the loss several times per step"),
        ("Adam", {"lr": 1e-3, "epz": 1}, r"Adam has no argument 'epz' \(did you mean 'eps'\?\)"),
        ("Adam", {"params": []}, "Adam has no argument 'params'"),
        ("SGD", {"lr": 1e-3, "betas": (0.9, 0.99)}, "SGD has no argument 'betas'; leave it out with betas: null"),
        ("Adam", {"lr": 1e-3, "betas": (0.9, 1.2)}, r"Adam refuses .*1\.2.*: Invalid beta"),
        ("Adam", {"lr": 1e-3, "betas": 3}, "Adam refuses"),
    ],
)
def test_what_is_wrong_is_one_sentence(name: str, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_optimizer(name, arguments)


def test_defaults_are_read_from_the_optimizer() -> None:
    assert default_of("AdamW", "weight_decay") == 0.01
    assert default_of("Rprop", "weight_decay") is None
    assert default_of("Adm", "weight_decay") is None
