"""Model cards: the page of a network's weights on a model hub."""

from __future__ import annotations

import json

import yaml

from finescale.networks import Family, FrameSettings
from finescale.zoo.entries import entries_of, family_called
from finescale.zoo.page import score_table, table
from finescale.zoo.wording import NOT_STATED, citation, multiply_adds, parameters

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
        scale: How many times it enlarges.
        source: Where the weights come from, as for `finescale.weights.save`.
        licence: Of the weights, as an SPDX identifier where there is one; None where none is stated.
        settings: Of the network; shown where given.
        repository: Name of the weights on the hub.

    Raises:
        ValueError: There is no such family, or no such variant or scale in it.
    """
    facts = family_called(family)
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
    return table(["", ""], rows)


def _card_scores(family: Family, variant: str | None, scale: int) -> str:
    published = [entry for entry in entries_of(family) if (entry.variant, entry.scale) == (variant, scale)]
    scores = score_table(published)
    if not scores:
        return ""
    return (
        "## What the authors publish\n\n"
        "PSNR / SSIM that the authors of the paper print for **their own weights**, on Y. They show what the network "
        f"can do; they were not measured with the weights of this page.\n\n{scores}"
    )


def _fenced(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"


def _cell(text: str) -> str:
    """A user's text as a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
