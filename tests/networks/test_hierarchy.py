"""Networks with windowed attention become the published hierarchical ones."""

from __future__ import annotations

import pytest
import torch

from finescale.layers.feedforward import MLP
from finescale.layers.hierarchical import HierarchicalLayer, SpatialChannelCorrelation, hierarchical_windows
from finescale.networks import FAMILIES, FrameSettings, build, from_options, hierarchical, is_convertible, variants
from helpers import GOLDEN, load_case

PAIRS = [("swinir-light", "hit-sir"), ("swinir-ng", "hit-sng"), ("srformer-light", "hit-srf")]


def settings_of(variant: str) -> FrameSettings:
    return variants()[variant].variants[variant]


@pytest.mark.parametrize(("base", "converted"), PAIRS)
@pytest.mark.filterwarnings("ignore:.*no network reads")
def test_a_published_network_becomes_the_published_hierarchical_one(base: str, converted: str) -> None:
    settings = hierarchical(settings_of(base))
    assert settings == FAMILIES["hit-sr"].variants[converted]
    for scale in (2, 3, 4):
        case = load_case(GOLDEN / "hit-sr" / f"{converted}_x{scale}.npz")
        assert from_options(case.options).settings == settings  # whose answers are those of the published network


@pytest.mark.parametrize(
    ("base", "converted", "num_tensors", "num_parameters"),
    [
        ("swinir-light", "hit-sir", 210, 526_392),
        ("swinir-ng", "hit-sng", 210, 526_392),
        ("srformer-light", "hit-srf", 258, 601_272),
    ],
)
def test_shell_norms_and_feed_forward_layers_keep_their_names_and_shapes(
    base: str, converted: str, num_tensors: int, num_parameters: int
) -> None:
    with torch.device("meta"):
        before, after = (dict(build(name, scale=2).named_parameters()) for name in (base, converted))
    kept = [key for key in after if key in before and before[key].shape == after[key].shape]
    assert (len(kept), sum(after[key].numel() for key in kept)) == (num_tensors, num_parameters)


def test_what_is_not_of_the_attention_stays() -> None:
    base = settings_of("swinir-light").model_copy(
        update={"in_channels": 1, "image_range": 255.0, "embed_dim": 48, "depths": (2, 3), "num_heads": (4, 2)}
    )
    settings = hierarchical(base, base_window=(4, 4), window_ratios=(0.5, 2, 3))
    assert (settings.in_channels, settings.image_range, settings.embed_dim) == (1, 255.0, 48)
    assert (settings.depths, settings.num_heads) == ((2, 3), (4, 2))
    assert settings.windows == ((2, 2), (8, 8), (12, 12))


def test_what_cannot_be_converted_is_refused() -> None:
    hat = settings_of("hat")
    assert not is_convertible(hat)
    with pytest.raises(ValueError, match="must be one of SwinIRSettings, SwinIRNGSettings, SRFormerSettings, got HAT"):
        hierarchical(hat)
    fixed = settings_of("swinir-light").model_copy(update={"position_size": 64})
    assert not is_convertible(fixed)
    with pytest.raises(ValueError, match="position_size must be None for a hierarchical network, got 64"):
        hierarchical(fixed)
    with pytest.raises(ValueError, match="a group of 6 blocks needs as many window_ratios, got 2"):
        hierarchical(settings_of("swinir-light"), window_ratios=(0.5, 1))


def test_a_layer_of_ones_own_is_built_from_the_blocks() -> None:
    for window in hierarchical_windows((4, 4), (0.5, 1, 3)):
        layer = HierarchicalLayer(
            correlation=SpatialChannelCorrelation(
                channels=16, num_heads=2, window=window, base_window=(4, 4), ngram=False
            ),
            feed_forward=MLP(channels=16, hidden=32),
            channels=16,
        )
        assert layer(torch.rand(1, 5, 9, 16)).shape == (1, 5, 9, 16)
    with pytest.raises(ValueError, match=r"window \(6, 6\) must be a multiple of base_window \(4, 4\) or smaller"):
        hierarchical_windows((4, 4), (1.5,))
