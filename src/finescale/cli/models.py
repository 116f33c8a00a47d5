"""``finescale models``: list of the known networks, their facts and their weights."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finescale.cli import console, options

if TYPE_CHECKING:
    from rich.table import Table

    from finescale.networks import Count
    from finescale.zoo import Entry

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


def models(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME | fetch NAME", help="A network to show in full, or to download."),
    ] = None,
    family: Annotated[str | None, typer.Option(help="List the networks of one paper, such as hit-sr.")] = None,
    scale: Annotated[
        int | None,
        typer.Option("-s", "--scale", help="One scale; default: all; of fetch: the largest."),
    ] = None,
    min_parameters: Annotated[
        str | None, typer.Option(metavar="NUMBER", help="List networks of at least this size, such as 500k.")
    ] = None,
    max_parameters: Annotated[
        str | None, typer.Option(metavar="NUMBER", help="List networks of at most this size, such as 1M.")
    ] = None,
    offline: options.Offline = False,
    as_json: options.AsJson = False,
) -> None:
    """List the known networks, show one in full, or download its published weights.

    Weights are bundled with finescale, downloaded from a hub, linked on their authors' page, or not available.
    """
    words = words or []
    fetching = words[:1] == ["fetch"]
    names = words[1:] if fetching else words
    if len(names) > 1:
        raise typer.BadParameter(f"give one NAME, got {' '.join(names)}")
    if fetching and not names:
        raise typer.BadParameter("fetch needs the NAME of a network, such as hit-srf")
    if offline and not fetching:
        raise typer.BadParameter("--offline needs fetch NAME")
    if names and (family, min_parameters, max_parameters) != (None, None, None):
        raise typer.BadParameter("--family, --min-parameters and --max-parameters filter the list; omit the NAME")
    if fetching:
        _fetch(names[0], scale=scale, offline=offline, as_json=as_json)
        return

    from finescale import zoo

    entries = zoo.models(
        name=names[0] if names else None,
        family=family,
        scale=scale,
        min_parameters=_number("--min-parameters", min_parameters),
        max_parameters=_number("--max-parameters", max_parameters),
        also=_bundled(),
    )
    if as_json:
        console.print_json({"models": [_report(entry) for entry in entries]})
    elif names:
        console.print_tables(_facts(entries), _by_scale(entries))
    elif entries:
        console.print_tables(_list(entries))
    else:
        console.say("no network matches")


def _fetch(name: str, *, scale: int | None, offline: bool, as_json: bool) -> None:
    from finescale import weights

    with console.messages_of_the_library():
        path = weights.fetch(name, scale=scale, offline=offline)
    if as_json:
        console.print_json({"name": name, "file": str(path)})
    else:
        sys.stdout.write(f"{path}\n")


def _number(flag: str, text: str | None) -> int | None:
    """Parse a number of parameters such as "1M" or "500k"."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kmg]?)", text.strip().lower())
    if not found:
        raise typer.BadParameter(f"{flag} must be a number such as 500k or 1.5M, got {text!r}")
    return round(float(found[1]) * _UNITS[found[2]])


def _bundled() -> Iterator[Entry]:
    """Yield the networks whose weights are bundled."""
    from finescale import weights
    from finescale.networks import Cost
    from finescale.zoo import Entry

    for name, scale in weights.bundled():
        facts = weights.inspect(weights.find(name, scale=scale))
        yield Entry(
            name=name,
            scale=scale,
            family=facts.family,
            variant=facts.variant,
            cost=Cost(num_parameters=facts.num_parameters, multiply_adds=None),
            published=None,
            weights="bundled",
            licence=facts.header.get("licence"),
        )


# ---- tables


def _list(entries: Iterable[Entry]) -> Table:
    """Return a table with a row for each network and scale."""
    from rich.table import Table

    from finescale import zoo

    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    table.add_column("name", no_wrap=True)
    table.add_column("scale", no_wrap=True)
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("multiply-adds", justify="right", no_wrap=True)
    table.add_column("weights", no_wrap=True)
    table.add_column("licence", overflow="fold")
    for entry in entries:
        licence, more, _ = (entry.licence or zoo.NOT_STATED).partition(";")
        table.add_row(
            entry.name,
            f"x{entry.scale}",
            f"{entry.cost.num_parameters:,}",
            zoo.multiply_adds(entry.cost.multiply_adds, short=True),
            entry.weights,
            "-" if entry.weights == "none" else licence + (more and "; ..."),
        )
    return table


def _facts(entries: list[Entry]) -> Table:
    """Return the facts of a network that hold at every scale."""
    from finescale import weights, zoo
    from finescale.networks import FAMILIES

    first = entries[0]
    family = FAMILIES[first.family]
    published = [entry.published for entry in entries if entry.published]
    rows = {
        "name": first.name,
        "family": f"{family.name} ({family.about.title})",
        "variant": first.variant or "a size of its own",
        "caution": family.about.caution,
        "idea": family.about.idea,
        "paper": zoo.citation(family.publication.paper),
        "code": family.publication.repository,
        "page": next((facts.page for facts in published if facts.page), ""),
        "card": str(weights.BUNDLED / "README.md") if first.weights == "bundled" else "",
        "scores": "PSNR/SSIM on Y that the authors print for their weights" if published else "",
        "remarks": "\n".join(family.about.remarks),
        "use": next(filter(None, (zoo.restriction(entry.licence) for entry in entries)), ""),
    }
    rules = zoo.rules(entry.cost for entry in entries)
    rows |= {f"rule {number}": rule for number, rule in enumerate(rules, start=1)}
    return console.table_of_facts(rows)


def _by_scale(entries: list[Entry]) -> Table:
    """Return the facts that differ between scales, a column for each."""
    from rich.table import Table
    from rich.text import Text

    from finescale import zoo

    rules = zoo.rules(entry.cost for entry in entries)
    columns = [_column(entry, rules) for entry in entries]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", style="bold", no_wrap=True)
    for entry in entries:
        table.add_column(f"x{entry.scale}", overflow="fold")
    for name in columns[0]:
        values = [column[name] for column in columns]
        if any(values):
            table.add_row(name, *map(Text, values))
    return table


def _column(entry: Entry, rules: list[str]) -> dict[str, str]:
    """Return the facts of a network at one scale by their names, empty where one does not apply."""
    from finescale import zoo
    from finescale.networks import SETS

    cost, published = entry.cost, entry.published
    column = {
        "parameters": zoo.parameters(cost),
        "multiply-adds": zoo.multiply_adds(cost.multiply_adds),
        "authors print": zoo.printed(cost, rules) if rules else "",
        "weights": entry.weights,
        "licence": "" if entry.weights == "none" else entry.licence or zoo.NOT_STATED,
    }
    if published is None:
        return column
    return {
        **column,
        "file": published.file or "none",
        "hub": published.hub or "",
        "trained on": "" if published.file is None else published.training_data or zoo.NOT_STATED,
        "remark": published.remark,
        **{name: zoo.score(published, name) for name in SETS},
    }


# ---- report


def _report(entry: Entry) -> dict[str, Any]:
    from finescale import zoo
    from finescale.networks import FAMILIES

    family, cost, published = FAMILIES[entry.family], entry.cost, entry.published
    paper = family.publication.paper
    return {
        "name": entry.name,
        "scale": entry.scale,
        "family": family.name,
        "variant": entry.variant,
        "parameters": cost.num_parameters,
        "constants": cost.num_constants,
        "multiply_adds": _count(cost.multiply_adds) if cost.multiply_adds else None,
        "authors_print": [_count(count) for count in cost.printed],
        "weights": entry.weights,
        "licence": entry.licence,
        "non_commercial": bool(zoo.restriction(entry.licence)),
        "file": published.file if published else None,
        "hub": published.hub if published else None,
        "page": published.page if published else None,
        "training_data": published.training_data if published else None,
        "remark": published.remark if published else "",
        "scores": _scores(published.scores) if published else {},
        "paper": {"title": paper.title, "authors": paper.authors, "venue": paper.venue, "url": paper.url},
        "code": family.publication.repository,
        "caution": family.about.caution,
    }


def _count(count: Count) -> dict[str, Any]:
    return {"giga": count.giga, "input_size": list(count.size), "rule": count.rule}


def _scores(scores: Mapping[str, tuple[float, float | None]]) -> dict[str, Any]:
    return {name: {"psnr": psnr, "ssim": ssim} for name, (psnr, ssim) in scores.items()}
