"""A model card states what the weights are, and marks what it quotes from the authors."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from finescale import zoo
from finescale.networks import FAMILIES


def card(**changed: Any) -> str:
    usual: dict[str, Any] = {"family": "hit-sr", "variant": "hit-srf", "scale": 4, "source": "a test", "licence": "MIT"}
    return zoo.model_card(**{**usual, **changed})


def front_matter(text: str) -> dict[str, Any]:
    _, head, _ = text.split("---\n", 2)
    return dict(yaml.safe_load(head))


def test_a_card_begins_with_what_hubs_read() -> None:
    assert front_matter(card()) == {
        "library_name": "finescale",
        "license": "mit",
        "pipeline_tag": "image-to-image",
        "tags": ["super-resolution", "image-upscaling", "hit-sr", "hit-srf", "x4"],
    }


def test_a_licence_that_hubs_do_not_know_is_named() -> None:
    head = front_matter(card(licence="my terms: ask"))
    assert (head["license"], head["license_name"]) == ("other", "my terms: ask")
    assert "license" not in front_matter(card(licence=None))
    assert "| licence | not stated |" in card(licence=None)


def test_published_results_on_a_card_are_marked_as_those_of_other_weights() -> None:
    before, heading, after = card().partition("## What the authors publish")
    assert heading
    assert "32.55/0.8999" not in before
    assert "32.55/0.8999" in after
    assert "for **their own weights**" in after
    assert "they were not measured with the weights of this page" in after


def test_a_size_of_its_own_shows_its_settings_and_no_published_results() -> None:
    settings = FAMILIES["hit-sr"].tiny["hit-srf"]
    text = card(variant=None, settings=settings)
    assert '"feed_forward": "conv"' in text
    assert "PSNR" not in text
    assert "hit-srf" not in front_matter(text)["tags"]


def test_the_card_of_our_own_reading_says_so_first() -> None:
    text = card(family="cit", variant="cit")
    assert text.partition("\n# CIT: cit, x4\n\n")[2].startswith("**This is our own reading of an abstract")
    assert "PSNR" not in text
    assert front_matter(text)["tags"] == ["super-resolution", "image-upscaling", "cit", "x4"]


def test_what_a_user_writes_stays_in_its_cell() -> None:
    assert "| source of the weights | a \\| b # c |" in card(source="a | b\n# c")


def test_the_code_of_a_card_names_the_repository() -> None:
    text = card(repository="me/mine")
    assert "finescale upscale photo.jpg -n me/mine" in text
    assert 'from_pretrained("me/mine", scale=4)' in text


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"family": "hit"}, r"no family is called 'hit'"),
        ({"variant": "dat"}, r"hit-sr has no variant 'dat' at scale 4; known: hit-sir, hit-sng, hit-srf"),
        ({"scale": 5}, r"hit-sr has no variant 'hit-srf' at scale 5"),
    ],
)
def test_a_card_of_what_does_not_exist_is_refused(asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        card(**asked)
