"""The parts of HiT-SR, against the paper's formulas written out."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from finescale.layers.hierarchical import SpatialChannelCorrelation, SpatialPooling
from finescale.networks.hit_sr import HiTSR, HiTSRSettings, settings_from_state

WINDOWS = [((2, 2), (4, 4)), ((4, 4), (4, 4)), ((6, 6), (2, 2)), ((2, 4), (4, 8)), ((4, 8), (2, 4)), ((3, 2), (3, 1))]


def correlation(window: tuple[int, int], base_window: tuple[int, int]) -> SpatialChannelCorrelation:
    torch.manual_seed(0)
    return SpatialChannelCorrelation(channels=48, num_heads=3, window=window, base_window=base_window, ngram=False)


@pytest.mark.parametrize(("window", "base_window"), WINDOWS)
def test_the_position_term_is_the_mean_over_each_cell_of_query_minus_key(
    window: tuple[int, int], base_window: tuple[int, int]
) -> None:
    layer = correlation(window, base_window).double()
    (h, w), (p, q) = window, layer.pooled
    kh, kw = h // p, w // q
    term = layer.position_term()
    assert term.shape == (3, h * w, p * q)
    for y, x in ((y, x) for y in range(h) for x in range(w)):
        for a, e in ((a, e) for a in range(p) for e in range(q)):
            offsets = [[y - (a * kh + i), x - (e * kw + j)] for i in range(kh) for j in range(kw)]
            mean = layer.pos(torch.tensor(offsets, dtype=torch.float64)).mean(0)
            torch.testing.assert_close(term[:, y * w + x, a * q + e], mean)


@pytest.mark.parametrize(("window", "base_window"), WINDOWS)
def test_pooling_weighs_the_pixels_of_each_cell_in_row_major_order(
    window: tuple[int, int], base_window: tuple[int, int]
) -> None:
    pooling: SpatialPooling = correlation(window, base_window).spatial_linear
    (h, w), (p, q), (kh, kw) = window, pooling.pooled, pooling.cell
    x = torch.randn(2, h * w, 5)
    pooled = pooling(x).reshape(2, p, q, 5)
    image = x.reshape(2, h, w, 5)
    for a, e in ((a, e) for a in range(p) for e in range(q)):
        cell = image[:, a * kh : (a + 1) * kh, e * kw : (e + 1) * kw].flatten(1, 2)
        expected = torch.einsum("nkc,k->nc", cell, pooling.weight[0]) + pooling.bias
        torch.testing.assert_close(pooled[:, a, e], expected)


def test_query_and_value_may_be_extended_after_what_acts_on_each_pixel_alone() -> None:
    qv = correlation((4, 4), (4, 4)).qv
    x = torch.randn(1, 3, 5, 48)
    padded = x[:, [0, 1, 2, 1]][:, :, [0, 1, 2, 3, 4, 3, 2, 1]]
    torch.testing.assert_close(qv(x, (4, 8)), qv(padded, (4, 8)))


def test_windows_grow_within_a_group_and_shorter_groups_use_the_first_ones() -> None:
    settings = HiTSRSettings(depths=(3, 1), num_heads=(6, 6), base_window=(4, 8), window_ratios=(0.5, 1, 2))
    network = HiTSR(settings=settings, scale=2)
    windows = [[block.correlation.window for block in group.residual_group.blocks] for group in network.layers]
    assert windows == [[(2, 4), (4, 8), (8, 16)], [(2, 4)]]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"depths": (1, 1), "num_heads": (6,)}, "one number per group"),
        ({"depths": (), "num_heads": ()}, "one number per group"),
        ({"depths": (0,), "num_heads": (6,)}, "one number per group"),
        ({"depths": (7,), "num_heads": (6,)}, "a group of 7 blocks needs as many window_ratios, got 6"),
        ({"embed_dim": 12}, "embed_dim must be at least 16, got 12"),
        ({"embed_dim": 62}, "multiple of twice the heads, got 62 and 6"),
        ({"num_heads": (6, 6, 6, 0)}, "multiple of twice the heads, got 60 and 0"),
        ({"window_ratios": (0.5, 1, 2, 4, 6, 7.5), "base_window": (4, 5)}, r"window \(30, 37\) must be a multiple"),
        ({"base_window": (8, 4), "window_ratios": (0.1, 1, 1, 1, 1, 1)}, r"window \(0, 0\) must be a multiple"),
        ({"base_window": (8, 4), "context": "ngram"}, "square windows"),
        ({"mean": (0.5,)}, "one value for red, green and blue, got 1"),
        ({"image_range": math.inf}, "finite number"),
        ({"window_ratios": (math.nan,) * 6}, "finite number"),
        ({"upsampler": "bicubic"}, "'pixelshuffledirect', 'pixelshuffle' or 'nearest\\+conv'"),
        ({"embeddim": 60}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_make_no_network_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        HiTSRSettings(**wrong)


@pytest.mark.parametrize(
    "fields",
    [
        {"embed_dim": 60, "mlp_ratio": 2.06},  # 123 hidden channels, of which 123 / 60 * 60 falls short
        {"context": "ngram", "base_window": (11, 11), "window_ratios": (1, 2, 3, 4, 5, 6)},
        {"context": "ngram", "base_window": (8, 8), "window_ratios": (0.25, 0.5, 1, 1, 2, 3)},
        {"depths": (1, 3, 2), "num_heads": (1, 2, 3), "window_ratios": (0.5, 1, 2)},
        {"upsampler": "pixelshuffle"},
        {"upsampler": "nearest+conv"},
        {"residual_conv": "3conv", "patch_norm": False, "feed_forward": "conv", "in_channels": 1},
    ],
)
def test_a_network_rebuilt_from_its_own_state_has_the_same_shapes(fields: dict[str, object]) -> None:
    with torch.device("meta"):
        network = HiTSR(settings=HiTSRSettings(**fields), scale=4)
        settings, scale = settings_from_state(network.state_dict())
        rebuilt = HiTSR(settings=settings, scale=scale)
    assert {key: tensor.shape for key, tensor in rebuilt.state_dict().items()} == {
        key: tensor.shape for key, tensor in network.state_dict().items()
    }


def test_the_published_networks_have_the_published_numbers_of_parameters() -> None:
    counted = {}
    for name, switches in {"sir": {}, "sng": {"context": "ngram"}, "srf": {"feed_forward": "conv"}}.items():
        for scale in (2, 3, 4):
            with torch.device("meta"):
                network = HiTSR(settings=HiTSRSettings(**switches), scale=scale)
            counted[name, scale] = sum(parameter.numel() for parameter in network.parameters())
    assert counted == {
        ("sir", 2): 772_064, ("sir", 3): 780_179, ("sir", 4): 791_540,
        ("sng", 2): 1_012_584, ("sng", 3): 1_020_699, ("sng", 4): 1_032_060,
        ("srf", 2): 846_944, ("srf", 3): 855_059, ("srf", 4): 866_420,
    }  # fmt: skip
