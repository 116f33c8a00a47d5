"""A quantized network stands beside what its authors print for the same bits."""

from __future__ import annotations

from finescale.evaluate.models import network_model
from finescale.networks import FAMILIES, Frame, build, published
from finescale.quantize import QuantSettings, insert_quantizers
from finescale.upscale import Upscaler


def quantized(network: Frame, family: str, bits: int) -> Frame:
    placement = FAMILIES[family].quantization.placement(network.settings)
    insert_quantizers(network, placement, QuantSettings(bits=bits))  # type: ignore[arg-type]
    return network


def test_a_quantized_craft_is_compared_with_the_published_one_of_its_bits() -> None:
    rows = {}
    for bits in (8, 6, 4):
        network = quantized(build("craft", scale=4), "craft", bits)
        rows[bits] = network_model(Upscaler(network), "ours").published
        assert rows[bits] == published()[f"craft-{bits}bit", 4].scores
    assert rows[4]["Set5"] == (29.46, 0.7854)
    assert rows[8]["Manga109"] == (31.06, 0.9141)


def test_other_sizes_scales_and_families_have_nothing_to_be_compared_with() -> None:
    tiny = FAMILIES["craft"].network(settings=FAMILIES["craft"].tiny["craft"], scale=4)
    others = [(tiny, "craft"), (build("craft", scale=2), "craft"), (build("hit-sir", scale=4), "hit-sr")]
    for network, family in others:
        assert network_model(Upscaler(quantized(network, family, 8)), "ours", published_as="hit-sir").published == {}
