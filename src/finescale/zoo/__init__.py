"""What there is to choose from: every network at every scale, and what its authors publish of it.

All facts stand in the family files; here they are listed, and put into the words of the manual and of model cards.
``python -m finescale.zoo`` prints docs/networks.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import yaml

from finescale.networks import FAMILIES, SCALES, SETS, Cost, Count, Family, FrameSettings, Paper, Published, Recipe
from finescale.settings import suggest

NOT_STATED = "not stated"
"""What is shown in place of a fact that the authors do not state."""

Weights = Literal["bundled", "hub", "link", "none"]
"""Where weights are: in the package, on the Hugging Face hub, behind a link on the authors' page, nowhere."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One network at one scale."""

    name: str
    """What users call it: "hit-srf", "hit-srf-df2k"."""
    scale: int
    """2, 3 or 4."""
    family: str
    """Name of its family."""
    variant: str | None
    """Name of its variant; None for a size of its own."""
    cost: Cost
    """What it takes."""
    published: Published | None
    """What its authors publish of it."""
    weights: Weights
    """Where its weights are."""
    licence: str | None
    """Of the weights; None where there are none, or no licence is stated."""


# ---- the list


def models(
    *,
    name: str | None = None,
    family: str | None = None,
    scale: int | None = None,
    min_parameters: int | None = None,
    max_parameters: int | None = None,
    also: Iterable[Entry] = (),
) -> list[Entry]:
    """Every network at every scale that passes all that is asked for, family by family.

    Args:
        name: What users call it: "hit-srf", "hit-srf-df2k".
        family: Name of its family: "hit-sr".
        scale: 2, 3 or 4.
        min_parameters: The least number of learned values.
        max_parameters: The largest number of learned values.
        also: Networks that are not the families' own, such as bundled ones; they come first.

    Raises:
        ValueError: There is no such name, family or scale.
    """
    entries = [*also, *(entry for known in FAMILIES.values() for entry in _entries(known))]
    names = dict.fromkeys(entry.name for entry in entries)
    if name is not None and name not in names:
        raise ValueError(f"no network is called {name!r}{suggest(name, names)}; known: {', '.join(names)}")
    if family is not None and family not in FAMILIES:
        raise ValueError(f"no family is called {family!r}{suggest(family, FAMILIES)}; known: {', '.join(FAMILIES)}")
    if scale is not None and scale not in SCALES:
        raise ValueError(f"scale must be 2, 3 or 4, got {scale}")
    return [
        entry
        for entry in entries
        if name in (None, entry.name)
        and family in (None, entry.family)
        and scale in (None, entry.scale)
        and (min_parameters is None or entry.cost.num_parameters >= min_parameters)
        and (max_parameters is None or entry.cost.num_parameters <= max_parameters)
    ]


def entry(name: str, *, scale: int | None = None) -> Entry:
    """One network at one scale, the largest by default.

    Raises:
        ValueError: There is no such name or scale.
    """
    found = {known.scale: known for known in models(name=name)}
    if scale is None:
        scale = max(found)
    if scale not in found:
        raise ValueError(f"scale must be one of {', '.join(map(str, found))} for {name}, got {scale}")
    return found[scale]


def _entries(family: Family) -> Iterator[Entry]:
    published = {(facts.name, facts.scale): facts for facts in family.publication.networks}
    variants = {key: key[0] for key in family.publication.costs} | {
        key: facts.variant for key, facts in published.items()
    }
    for (name, scale), variant in variants.items():
        facts = published.get((name, scale))
        yield Entry(
            name=name,
            scale=scale,
            family=family.name,
            variant=variant,
            cost=family.publication.costs[variant, scale],
            published=facts,
            weights=_where(facts),
            licence=facts.licence if facts else None,
        )


def _where(published: Published | None) -> Weights:
    if published is None or published.file is None:
        return "none"
    return "hub" if published.hub else "link"


# ---- facts in words


def parameters(cost: Cost) -> str:
    """ "499,680", or "499,680 + 3,240 constants"."""
    constants = f" + {cost.num_constants:,} constants" if cost.num_constants else ""
    return f"{cost.num_parameters:,}{constants}"


def multiply_adds(count: Count | None) -> str:
    """ "206.4 G (360x640)": with height and width of the lr image that it holds for."""
    return f"{count.giga} G ({count.size[0]}x{count.size[1]})" if count else NOT_STATED


def rules(costs: Iterable[Cost]) -> list[str]:
    """The different rules by which authors count, in the order of their first use."""
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


def citation(paper: Paper) -> str:
    """Authors, title, venue and address in one line; what is not known is left out."""
    authors = f"{paper.authors}, " if paper.authors else ""
    venue = f", {paper.venue}" if paper.venue else ""
    return f'{authors}"{paper.title}"{venue}, {paper.url}'


# ---- docs/networks.md

_INTRODUCTION = """\
# Networks

<!-- Made by `make docs` from the family files in src/finescale/networks/; change those. -->

Every network and what its authors publish of it. `finescale models` shows the same on the command line
([models](models.md)). `default`, which comes with the package, has
[a card of its own](../src/finescale/bundled/README.md).

- **parameters**: learned values, as finescale counts them; constants are values that the authors store as parameters.
- **multiply-adds**: all of convolutions, linear layers and matrix products, in 10^9 (G), for an input of the size
  (height x width) in brackets. What the authors print follows rules of their own and cannot be compared across papers.
- **PSNR / SSIM**: the authors' numbers for their weights, on Y, by [the papers' protocol](evaluate.md).
- **weights**: names on the hub are repositories on Hugging Face, which finescale fetches; other files the authors offer
  by a link on their page. The licence is the one that the authors state for the weights or for their whole repository.
- **trained by**: the recipes of `finescale train`, stage by stage, as the authors' option files have them. The loss is
  L1 where nothing else is said, the optimizer Adam with betas 0.9 and 0.99; `lr` halves at each milestone (1k = 1000
  steps).
- **not seen in a weight file**: what finescale assumes for a file that it did not write itself.
"""


def networks_page() -> str:
    """The page docs/networks.md, in Markdown."""
    return "\n".join([_INTRODUCTION, *(_section(family) for family in FAMILIES.values())])


def _section(family: Family) -> str:
    paper = family.publication.paper
    reference = ", ".join(part for part in (paper.authors, f"[*{paper.title}*]({paper.url})", paper.venue) if part)
    entries = list(_entries(family))
    paragraphs = [
        f"## {family.about.title}",
        f"**{family.about.caution}**" if family.about.caution else "",
        f"{reference}. Code: <{family.publication.repository}>.",
        family.about.idea,
        _cost_table(family),
        _score_table(entries),
        _weights_table(entries),
        _recipe_table(family),
        "\n".join(f"- {remark}" for remark in family.about.remarks),
        _table(
            ["not seen in a weight file", "assumed"], [[f"`{k}`", text] for k, text in family.files.unseen_help.items()]
        ),
    ]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph) + "\n"


def _cost_table(family: Family) -> str:
    by_rules = rules(family.publication.costs.values())
    header = ["variant", "scale", "parameters", "multiply-adds", *(["the authors print"] if by_rules else [])]
    rows = [
        [
            f"`{variant}`",
            f"x{scale}",
            parameters(cost),
            multiply_adds(cost.multiply_adds),
            *([printed(cost, by_rules)] if by_rules else []),
        ]
        for (variant, scale), cost in family.publication.costs.items()
    ]
    notes = "\n".join(f"- Rule {number}: {rule}." for number, rule in enumerate(by_rules, start=1))
    return "\n\n".join(filter(None, [_table(header, rows), notes]))


def _score_table(entries: Iterable[Entry]) -> str:
    rows = [
        [f"`{facts.name}`", f"x{facts.scale}", *(score(facts, name) for name in SETS)]
        for facts in (entry.published for entry in entries)
        if facts and facts.scores
    ]
    return _table(["PSNR / SSIM", "scale", *SETS], rows) if rows else ""


def _weights_table(entries: Iterable[Entry]) -> str:
    rows = [
        [
            f"`{facts.name}`",
            f"x{facts.scale}",
            f"`{facts.file}`" if facts.file else "none",
            f"hub: `{facts.hub}`" if facts.hub else f"[page]({facts.page})" if facts.page else "",
            (facts.licence or NOT_STATED) if facts.file else "",
            (facts.training_data or NOT_STATED) if facts.file else "",
            facts.remark,
        ]
        for facts in (entry.published for entry in entries)
        if facts
    ]
    return _table(["weights", "scale", "file", "where", "licence", "trained on", "remark"], rows) if rows else ""


def _recipe_table(family: Family) -> str:
    """Recipes and their stages; those that are the same at several scales have one row."""
    scales: dict[tuple[str, ...], list[int]] = {}
    for (name, scale), stages in family.recipes.items():
        for recipe in stages:
            scales.setdefault(_recipe_cells(name, scale, recipe), []).append(scale)
    names = list(dict.fromkeys(cells[0] for cells in scales))
    rows = [
        [cells[0], ", ".join(f"x{scale}" for scale in scales[cells]), *cells[1:]]
        for cells in sorted(scales, key=lambda cells: names.index(cells[0]))
    ]
    header = [
        "trained by",
        "scale",
        "data",
        "begins with",
        "patch",
        "batch",
        "lr",
        "steps",
        "milestones",
        "EMA",
        "remark",
    ]
    return _table(header, rows) if rows else ""


def _recipe_cells(name: str, scale: int, recipe: Recipe) -> tuple[str, ...]:
    """All of a row but the scales."""
    start = "random" if recipe.start is None else f"`{recipe.start[0]}` x{recipe.start[1]}"
    if recipe.start == (name, scale):
        start = "the stage before"
    loss = " + ".join(recipe.loss)
    told = [recipe.remark, f"loss {loss}" if loss != "l1" else ""]
    return (
        f"`{name}`",
        recipe.data,
        start,
        f"{recipe.patch}",
        f"{recipe.batch}",
        f"{recipe.lr:g}",
        f"{recipe.iterations // 1000}k",
        " ".join(f"{step / 1000:g}k" for step in recipe.milestones),
        f"{recipe.average:g}" if recipe.average else "none",
        "; ".join(filter(None, told)),
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# ---- model cards

_HUB_LICENCES = (
    "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "gpl-3.0", "agpl-3.0", "lgpl-3.0", "mpl-2.0", "unlicense",
    "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0", "cc-by-nd-4.0",
)  # fmt: skip
"""Licences that the Hugging Face hub knows by name; it takes others as "other" with a name."""


def model_card(
    *,
    family: str,
    variant: str | None,
    scale: int,
    source: str,
    licence: str | None,
    settings: FrameSettings | None = None,
    repository: str = "OWNER/NAME",
) -> str:
    """The page of a network's weights on a model hub, in Markdown with YAML front matter.

    Args:
        family: Name of the network's family.
        variant: Name of its variant; None for a size of its own.
        scale: 2, 3 or 4.
        source: Where the weights come from, see `finescale.weights.save`.
        licence: Of the weights, as an SPDX identifier where there is one; None where none is stated.
        settings: Of the network; shown where given.
        repository: Name of the weights on the hub.

    Raises:
        ValueError: There is no such family, or no such variant or scale in it.
    """
    if family not in FAMILIES:
        raise ValueError(f"no family is called {family!r}{suggest(family, FAMILIES)}; known: {', '.join(FAMILIES)}")
    facts = FAMILIES[family]
    if variant is not None and (variant, scale) not in facts.publication.costs:
        raise ValueError(f"{family} has no variant {variant!r} at scale {scale}; known: {', '.join(facts.variants)}")
    paragraphs = [
        _front_matter(facts, variant, scale, licence),
        f"# {facts.about.title}: {variant or 'a size of its own'}, x{scale}",
        f"**{facts.about.caution}**" if facts.about.caution else "",
        f"A network that makes pictures {scale} times as wide and high. {facts.about.idea}",
        _card_facts(facts, variant, scale, source, licence),
        _fenced("json", json.dumps(settings.model_dump(mode="json"))) if settings else "",
        "## Use",
        _fenced("sh", f"finescale upscale photo.jpg -n {repository}"),
        _fenced("python", _USE.format(repository=repository, scale=scale)),
        _card_scores(facts, variant, scale),
        "## Citation",
        f"{citation(facts.publication.paper)}. Code of the authors: <{facts.publication.repository}>.",
    ]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph) + "\n"


_USE = """\
import finescale

upscaler = finescale.Upscaler.from_pretrained("{repository}", scale={scale})
finescale.write_image("photo_x{scale}.png", upscaler(finescale.read_image("photo.jpg")))"""


def _front_matter(family: Family, variant: str | None, scale: int, licence: str | None) -> str:
    facts: dict[str, object] = {"library_name": "finescale"}
    if licence is not None:
        known = licence.lower() in _HUB_LICENCES
        facts |= {"license": licence.lower()} if known else {"license": "other", "license_name": licence}
    facts["pipeline_tag"] = "image-to-image"
    tags = ["super-resolution", "image-upscaling", family.name, variant or family.name, f"x{scale}"]
    facts["tags"] = list(dict.fromkeys(tags))
    return f"---\n{yaml.safe_dump(facts, sort_keys=False, allow_unicode=True, width=1000)}---"


def _card_facts(family: Family, variant: str | None, scale: int, source: str, licence: str | None) -> str:
    rows = [["family", f"`{family.name}`"], ["variant", f"`{variant}`" if variant else "none, a size of its own"]]
    if variant:
        cost = family.publication.costs[variant, scale]
        rows += [["parameters", parameters(cost)], ["multiply-adds (input)", multiply_adds(cost.multiply_adds)]]
    rows += [["source of the weights", _cell(source)], ["licence", _cell(licence or NOT_STATED)]]
    return _table(["", ""], rows)


def _card_scores(family: Family, variant: str | None, scale: int) -> str:
    published = [entry for entry in _entries(family) if (entry.variant, entry.scale) == (variant, scale)]
    table = _score_table(published)
    if not table:
        return ""
    return (
        "## What the authors publish\n\n"
        "PSNR / SSIM that the authors of the paper print for **their own weights**, on Y. They say what the network "
        f"can do; they were not measured with the weights of this page.\n\n{table}"
    )


def _fenced(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"


def _cell(text: str) -> str:
    """A text of a user's, as a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
