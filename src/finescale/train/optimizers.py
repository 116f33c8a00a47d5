"""Optimizers of `torch.optim` by name, with arguments that are checked before a training starts."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from finescale.settings import suggest

_UNFIT = {
    "LBFGS": "computes the loss several times per step",
    "SparseAdam": "takes only sparse gradients",
    "Muon": "takes only matrices",
}
"""Optimizers that cannot train a network here, and the reason."""


def optimizers() -> dict[str, type[torch.optim.Optimizer]]:
    """Return every optimizer of `torch.optim` that a training can use, by name."""
    return {
        name: kind
        for name, kind in vars(torch.optim).items()
        if isinstance(kind, type)
        and issubclass(kind, torch.optim.Optimizer)
        and kind is not torch.optim.Optimizer
        and name not in _UNFIT
    }


def default_of(name: str, argument: str) -> Any:
    """Return the default of an optimizer's argument; None where there is no such optimizer or argument."""
    kind = optimizers().get(name)
    known = inspect.signature(kind).parameters if kind else {}
    return known[argument].default if argument in known else None


def check_optimizer(name: str, arguments: Mapping[str, Any]) -> None:
    """Check an optimizer's arguments without a network.

    Args:
        name: Name of a class of `torch.optim`.
        arguments: Arguments of its constructor, without the parameters.

    Raises:
        ValueError: There is no such optimizer, or an argument is unknown or has a wrong value.
    """
    make_optimizer([nn.Parameter(torch.zeros(1))], name, arguments)


def make_optimizer(
    parameters: Iterable[nn.Parameter], name: str, arguments: Mapping[str, Any]
) -> torch.optim.Optimizer:
    """Make the optimizer of a training.

    Args:
        parameters: Parameters to optimize.
        name: Name of a class of `torch.optim`.
        arguments: Arguments of its constructor, without the parameters.

    Raises:
        ValueError: There is no such optimizer, or an argument is unknown or has a wrong value.
    """
    known = optimizers()
    if name in _UNFIT:
        raise ValueError(f"optimizer {name} {_UNFIT[name]} and cannot be used here; use another, such as Adam")
    if name not in known:
        raise ValueError(f"unknown optimizer {name!r}{suggest(name, known)}; known: {', '.join(known)}")
    taken = [argument for argument in inspect.signature(known[name]).parameters if argument != "params"]
    for argument in arguments:
        if argument not in taken:
            remedy = "; leave it out with betas: null" if argument == "betas" else suggest(argument, taken)
            raise ValueError(f"optimizer {name} has no argument {argument!r}{remedy}; known: {', '.join(taken)}")
    try:
        return known[name](parameters, **arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"optimizer {name} refuses {dict(arguments)}: {error}") from None
