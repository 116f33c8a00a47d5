"""Every network is listed once, and filters narrow the list."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from finescale import zoo
from finescale.networks import FAMILIES, SCALES, published

COSTS = [(variant, scale) for family in FAMILIES.values() for variant, scale in family.publication.costs]


def test_every_variant_and_every_published_network_is_listed_once() -> None:
    listed = Counter((found.name, found.scale) for found in zoo.models())
    assert set(listed.values()) == {1}
    assert set(listed) == {*COSTS, *published()}


def test_what_is_asked_for_narrows_the_list() -> None:
    assert {found.family for found in zoo.models(family="dat")} == {"dat"}
    assert {found.scale for found in zoo.models(scale=3)} == {3}
    assert [(found.name, found.scale) for found in zoo.models(name="hit-srf-df2k")] == [
        ("hit-srf-df2k", scale) for scale in SCALES
    ]
    small = zoo.models(family="dat", max_parameters=561_405)
    assert [(found.name, found.scale) for found in small] == [("dat-light", 2), ("dat-light", 3)]
    large = zoo.models(min_parameters=40_846_575)
    assert [(found.name, found.scale) for found in large] == [("hat-l", 3), ("hat-l", 4)]


def test_where_weights_are_is_told() -> None:
    places = {(found.name, found.scale): found.weights for found in zoo.models()}
    assert places["hit-srf", 4] == "hub"
    assert places["hit-srf-df2k", 4] == "link"
    assert places["drct", 4] == "link"
    assert places["drct", 2] == "none"
    assert places["cit", 4] == "none"


def test_a_training_of_its_own_is_of_the_same_variant() -> None:
    found = zoo.entry("hit-srf-df2k", scale=2)
    assert found.variant == "hit-srf"
    assert found.cost == zoo.entry("hit-srf", scale=2).cost


def test_other_networks_come_first_and_obey_the_same_filters() -> None:
    own = zoo.Entry(**{**vars(zoo.entry("hit-sir", scale=2)), "name": "mine", "variant": None})
    assert zoo.models(also=[own])[0] is own
    assert zoo.models(also=[own], name="mine") == [own]
    assert own not in zoo.models(also=[own], scale=4)


def test_one_entry_is_of_the_largest_scale_unless_told() -> None:
    assert zoo.entry("craft").scale == 4
    assert zoo.entry("craft", scale=2).scale == 2


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"name": "hit-srff"}, r"no network is called 'hit-srff' \(did you mean 'hit-srf'\?\); known: hit-sir, "),
        ({"family": "hitsr"}, r"no family is called 'hitsr' \(did you mean 'hit-sr'\?\); known: hit-sr, "),
        ({"scale": 5}, "scale must be 1, 2, 3, 4 or 8, got 5"),
    ],
)
def test_what_does_not_exist_is_refused(asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        zoo.models(**asked)


def test_an_entry_at_another_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="scale must be 2, 3 or 4 for craft, got 8"):
        zoo.entry("craft", scale=8)
