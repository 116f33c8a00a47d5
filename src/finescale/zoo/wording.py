"""Costs, scores and citations in words, as the manual, model cards and the command line show them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from finescale.networks import Cost, Count, Paper, Published

NOT_STATED = "not stated"
"""What is shown in place of a fact that the authors do not state."""


def parameters(cost: Cost) -> str:
    """ "499,680", or "499,680 + 3,240 constants"."""
    constants = f" + {cost.num_constants:,} constants" if cost.num_constants else ""
    return f"{cost.num_parameters:,}{constants}"


def multiply_adds(count: Count | None, *, short: bool = False) -> str:
    """ "206.4 G (360x640)": with height and width of the lr image that it holds for.

    Args:
        count: None where it is not stated.
        short: Leave out the digits after the point from 1000 up.
    """
    if count is None:
        return NOT_STATED
    giga = round(count.giga) if short and count.giga >= 1000 else count.giga
    return f"{giga} G ({count.size[0]}x{count.size[1]})"


def rules(costs: Iterable[Cost]) -> list[str]:
    """The different rules by which the authors count, in the order of their first use."""
    return list(dict.fromkeys(count.rule for cost in costs for count in cost.printed))


def printed(cost: Cost, by_rules: Sequence[str]) -> str:
    """What the authors print, each with the number of its rule: "209.9 G (360x640) by rule 1"."""
    counts = [f"{multiply_adds(count)} by rule {by_rules.index(count.rule) + 1}" for count in cost.printed]
    return "; ".join(counts) or NOT_STATED


def score(published: Published, name: str) -> str:
    """PSNR and SSIM on one test set: "38.22/0.9613", or PSNR alone."""
    if name not in published.scores:
        return NOT_STATED
    psnr, ssim = published.scores[name]
    return f"{psnr:.2f}" if ssim is None else f"{psnr:.2f}/{ssim:.4f}"


def restriction(licence: str | None) -> str:
    """What a licence forbids, as one clause: "for non-commercial use only (CC-BY-NC-4.0)"; empty if it is not known to.

    Args:
        licence: SPDX identifier; None where none is stated.
    """
    return f"for non-commercial use only ({licence})" if licence and "-NC" in licence else ""


def citation(paper: Paper) -> str:
    """Authors, title, venue and address in one line; what is not known is left out."""
    authors = f"{paper.authors}, " if paper.authors else ""
    venue = f", {paper.venue}" if paper.venue else ""
    return f'{authors}"{paper.title}"{venue}, {paper.url}'
