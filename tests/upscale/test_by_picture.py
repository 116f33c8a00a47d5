"""Which networks stand behind a name."""

from __future__ import annotations

import pytest

from finescale.upscale import Tiling
from finescale.upscale.by_picture import load_upscaler
from finescale.upscale.compression import Compression


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_auto_has_a_network_for_flawed_pictures_with_the_same_settings(scale: int) -> None:
    upscaler = load_upscaler("auto", scale=scale, tiling=Tiling(tile=64), ensemble=True)
    for one, name in ((upscaler, "default"), (upscaler.chosen_for(Compression(40)), "default-photo")):
        assert (one.name, one.scale, one.tiling.tile, one.ensemble) == (name, scale, 64, True)
    assert upscaler.chosen_for(None) is upscaler


@pytest.mark.parametrize(("name", "scale"), [("default", 4), ("default-photo", 4)])
def test_one_network_takes_all_pictures(name: str, scale: int) -> None:
    upscaler = load_upscaler(name, scale=scale)
    assert upscaler.chosen_for(Compression(40)) is upscaler


def test_another_engine_is_that_of_both_networks() -> None:
    pytest.importorskip("openvino")
    chosen = load_upscaler("auto", scale=4, engine="auto").by("openvino")
    other = chosen.chosen_for(Compression(40))
    assert other is not chosen
    assert (chosen.engine, other.engine) == ("openvino", "openvino")
    assert other.name == "default-photo"
