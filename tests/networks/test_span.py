"""The parts of the sliding proxy attention network, against the paper's formulas written out."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

from finescale.layers.windows import sliding_windows
from finescale.networks import FAMILIES, from_options
from finescale.networks.span import (
    HFT,
    SPAB,
    SPAN,
    SPANSettings,
    add_windows,
    pooled_and_repeated,
    settings_from_options,
    settings_from_state,
    shift_channels,
    shift_kernels,
)
from helpers import GOLDEN, load_case, seeded_input, seeded_state
from helpers import shift_kernels as published_kernels

CASES = [pytest.param(path, id=path.stem) for path in sorted((GOLDEN / "span").glob("*.npz"))]
SLIDES = [(4, 1), (5, 3), (4, 0), (3, 2), (1, 0)]  # window and overlap
SMALL = {"type": "SPAN", "embed_dim": 10, "depths": [1], "num_heads": [2]}


@pytest.mark.parametrize("stride", [6, 5, 4, 2])
def test_a_compiled_network_adds_up_windows_to_the_same_map(stride: int, monkeypatch: pytest.MonkeyPatch) -> None:
    windows = torch.randn(2, 3, 4, 5, 36)
    expected = add_windows(windows, 6, stride)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert torch.equal(add_windows(windows, 6, stride), expected)


@pytest.mark.parametrize("size", [(15, 16), (17, 23), (33, 64), (100, 61)])
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_compiled_network_pools_by_the_same_cells(size: tuple[int, int], factor: int) -> None:
    image = torch.randn(2, 3, *size)
    pooled = F.adaptive_avg_pool2d(image, (size[0] // factor, size[1] // factor))
    torch.testing.assert_close(
        pooled_and_repeated(image, factor), F.interpolate(pooled, size=size, mode="nearest"), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("whole", [False, True])
@torch.inference_mode()
def test_features_that_double_with_each_block_leave_float16_and_come_back(whole: bool) -> None:
    settings = SPANSettings(embed_dim=12, depths=(2, 2, 2, 2), num_heads=(2, 2, 2, 2), window_size=6, overlap_size=2)
    network = SPAN(settings=settings, scale=2).eval()
    network.load_state_dict(seeded_state({key: tensor.shape for key, tensor in network.state_dict().items()}))
    network.conv_first.weight.mul_(300)
    network.conv_after_body.weight.mul_(1e-3)
    features: list[Tensor] = []
    network.layers.register_forward_hook(lambda *of_layer: features.append(of_layer[2]))
    image = seeded_input((1, 3, 24, 24))
    expected = network(image)
    assert features[0].abs().max() > 2 * torch.finfo(torch.float16).max
    if whole:
        answer = network.half()(image.half())
        assert answer.dtype == torch.float16
    else:
        with torch.autocast("cpu", dtype=torch.float16):
            answer = network(image)
    assert (answer - expected).square().mean().sqrt() < 0.3 * expected.std()  # such weights amplify rounding


@pytest.mark.parametrize(("window", "overlap"), SLIDES)
@pytest.mark.parametrize("padding", [0, 1])
@torch.no_grad()
def test_a_pixel_attends_to_all_windows_that_hold_it(window: int, overlap: int, padding: int) -> None:
    """out(P) = Σ n_W / Σ z_W over its windows W, each with a maximum of its own."""
    torch.manual_seed(0)
    heads, width = 6, 2
    settings = SPANSettings(
        embed_dim=12, window_size=window, overlap_size=overlap, padding_size=min(padding, window - 1)
    )
    block = SPAB(settings=settings, num_heads=heads, drop_path=0).double()
    block.load_state_dict(seeded_state({key: tensor.shape for key, tensor in block.state_dict().items()}))
    p, t = settings.padding_size, settings.stride
    height, breadth = 3 * t + window - 2 * p, 2 * t + window - 2 * p
    qkv = torch.randn(1, height, breadth, 3 * heads * width, dtype=torch.float64)
    maps = F.pad(qkv[0], (0, 0, p, p, p, p)).unflatten(-1, (3, heads, width))
    numerator, denominator = torch.zeros_like(maps[:, :, 0]), torch.zeros_like(maps[:, :, 0, :, :1])
    pixels = [(y, x) for y in range(window) for x in range(window)]
    offsets = [[(y - v + window - 1) * (2 * window - 1) + x - u + window - 1 for v, u in pixels] for y, x in pixels]
    bias = block.relative_position_bias_table[torch.tensor(offsets)]  # (L, L, n)
    for top in range(0, maps.shape[0] - window + 1, t):
        for left in range(0, maps.shape[1] - window + 1, t):
            place = slice(top, top + window), slice(left, left + window)
            query, key, value = maps[place].reshape(-1, 3, heads, width).unbind(1)  # (L, n, d)
            scores = torch.einsum("ihd,jhd->ijh", query, key) * block.temperature.flatten() + bias
            weights = torch.exp(scores - scores.amax(1, keepdim=True))
            numerator[place] += torch.einsum("ijh,jhd->ihd", weights, value).reshape(window, window, heads, width)
            denominator[place] += weights.sum(1).reshape(window, window, heads, 1)
    expected = (numerator / denominator)[p : p + height, p : p + breadth].flatten(2)
    torch.testing.assert_close(block.attend(qkv)[0], expected)


@pytest.mark.parametrize(("window", "overlap"), SLIDES)
def test_windows_that_were_cut_are_added_where_they_were(window: int, overlap: int) -> None:
    stride = window - overlap
    x = torch.randn(2, 3 * stride + window, stride + window, 3, dtype=torch.float64)
    windows = sliding_windows(x, window, stride)
    assert windows.shape == (2, 4, 2, window**2, 3)
    sums, counts = (add_windows(part.transpose(-1, -2), window, stride) for part in (windows, torch.ones_like(windows)))
    assert counts.min() == 1
    assert counts.max() <= math.ceil(window / stride) ** 2
    torch.testing.assert_close(sums, x * counts)


@pytest.mark.parametrize("channels", [5, 12, 14])
def test_channels_shift_as_the_published_kernels_have_it(channels: int) -> None:
    kernel = published_kernels(channels)
    image = torch.randn(2, channels, 4, 3)
    shifted = shift_channels(image.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    assert torch.equal(shifted, F.conv2d(image, kernel, padding=1, groups=channels))
    assert torch.equal(shift_kernels(channels), kernel)


def test_detail_is_what_differs_from_the_means_of_three_surroundings() -> None:
    torch.manual_seed(0)
    gate = HFT(channels=2).double()
    x = torch.randn(1, 2, 21, 15, dtype=torch.float64)
    detail = 3 * x
    for factor in (2, 4, 8):
        for i in range(21):
            for j in range(15):
                detail[..., i, j] -= x[..., surroundings(i, 21, factor), :][..., surroundings(j, 15, factor)].mean(
                    (-1, -2)
                )
    expected = torch.sigmoid(gate.conv_after_upsample[0](detail)) * x
    torch.testing.assert_close(gate(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), expected)


def surroundings(place: int, side: int, factor: int) -> slice:
    bins = side // factor
    own = place * bins // side
    return slice(own * side // bins, -(-(own + 1) * side // bins))


@pytest.mark.parametrize(
    ("fields", "side", "padded"),
    [
        ({}, 64, 66), ({}, 24, 30), ({}, 20, 21), ({}, 21, 21), ({}, 13, 21), ({}, 12, 21), ({}, 1, 21),
        ({"window_size": 7, "overlap_size": 0}, 16, 21),
        ({"window_size": 6, "overlap_size": 2, "padding_size": 2}, 18, 18),
        ({"window_size": 6, "overlap_size": 2, "padding_size": 2}, 3, 18),
        ({"window_size": 32, "overlap_size": 8}, 5, 32),
    ],
)  # fmt: skip
def test_sides_grow_to_whole_windows_of_which_fifteen_pixels_at_least(
    fields: dict[str, int], side: int, padded: int
) -> None:
    settings = SPANSettings(**fields)
    with torch.device("meta"):
        network = SPAN(settings=settings, scale=2)
    image = torch.rand(1, 3, side, 66)
    mirrored = network.pad(image)
    assert mirrored.shape[2] == padded
    period = max(2 * (side - 1), 1)
    places = [min(y % period, period - y % period) for y in range(padded)]
    assert torch.equal(mirrored[..., :66], image[:, :, places if side > 1 else [0] * padded])


def test_every_block_has_two_skips_and_a_group_none() -> None:
    settings = SPANSettings(embed_dim=12, depths=(1,), num_heads=(2,), window_size=6, overlap_size=2)
    network = SPAN(settings=settings, scale=2).eval()
    features = torch.randn(1, 12, 18, 18)
    with torch.no_grad():
        for block in network.layers[0].residual_group.blocks:
            for name in ("conv2", "proj_out"):
                if hasattr(block, name):
                    getattr(block, name).weight.zero_()
        network.layers[0].residual_group.blocks[1].conv_ffn.fc2.weight.zero_()
        network.layers[0].esa.conv4.weight.zero_()
        torch.testing.assert_close(network.body(features), 0.5 * 4 * features)


def test_only_training_leaves_branches_out() -> None:
    network = SPAN(settings=SPANSettings(embed_dim=12, drop_path_rate=0.1), scale=2)
    rates = [block.drop_path.rate for group in network.layers for block in group.residual_group.blocks[1:]]
    assert rates == pytest.approx([0.1 * place / 11 for place in range(12)])


def test_the_restored_image_is_the_image_where_the_network_adds_nothing() -> None:
    settings = SPANSettings(embed_dim=12, depths=(1,), num_heads=(2,), upsampler="restoration", image_range=2.0)
    network = SPAN(settings=settings, scale=1).eval()
    torch.nn.init.zeros_(network.conv_last.weight)
    image = torch.rand(1, 3, 5, 7)
    torch.testing.assert_close(network(image), image)


def test_the_published_networks_have_the_published_numbers_of_parameters() -> None:
    counted = {}
    for scale in (2, 3, 4):
        with torch.device("meta"):
            network = SPAN(settings=SPANSettings(), scale=scale)
        counted[scale] = sum(parameter.numel() for parameter in network.parameters())
    assert counted == {2: 499_680, 3: 507_795, 4: 519_156}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"depths": (2, 2), "num_heads": (6,)}, "one number per group"),
        ({"depths": (), "num_heads": ()}, "one number per group"),
        ({"depths": (0,), "num_heads": (6,)}, "one number per group"),
        ({"embed_dim": 4, "num_heads": (1,) * 6}, "embed_dim must be at least 5, got 4"),
        ({"embed_dim": 62}, "multiple of the heads, got 62 and 6"),
        ({"num_heads": (6, 6, 6, 6, 6, 0)}, "multiple of the heads, got 60 and 0"),
        ({"overlap_size": 12}, "overlap_size must be less than window_size 12, got 12"),
        ({"padding_size": 12}, "padding_size must be less than window_size 12, got 12"),
        ({"window_size": 0}, "greater than or equal to 1"),
        ({"mlp_ratio": 1.55}, r"embed_dim \* mlp_ratio must be even, got 60 \* 1.55"),
        ({"mlp_ratio": 0.01}, "must be even, got 60"),
        ({"drop_path_rate": 1}, "less than 1"),
        ({"residual_conv": "identity"}, "'1conv' or '3conv', got 'identity'"),
        ({"windowsize": 12}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_make_no_network_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SPANSettings(**wrong)


@pytest.mark.parametrize(
    ("kind", "scale", "offered"), [("restoration", 2, "1"), ("pixelshuffle", 5, "1, 2, 3, 4, 8 or 16")]
)
def test_a_head_is_refused_at_scales_that_it_does_not_exist_at(kind: str, scale: int, offered: str) -> None:
    with pytest.raises(ValueError, match=f"scale must be {offered} for the upsampler '{kind}', got {scale}"):
        SPAN(settings=SPANSettings(upsampler=kind), scale=scale)


@pytest.mark.parametrize("path", CASES)
def test_a_published_state_shows_all_settings_but_the_unseen_ones(path: Path) -> None:
    case = load_case(path)
    stated, scale = settings_from_options(case.options)
    state: dict[str, Tensor] = {key: torch.empty(shape) for key, shape in {**case.shapes, **case.buffers}.items()}
    assert [family.name for family in FAMILIES.values() if family.files.recognises(state)] == ["span"]
    shown, shown_scale = settings_from_state(state)
    assert shown_scale == scale
    unseen = {field: getattr(stated, field) for field in FAMILIES["span"].files.unseen(shown, {})}
    assert shown.model_copy(update=unseen) == stated


@pytest.mark.parametrize(
    "fields",
    [
        {"mlp_ratio": 2.07},  # 124 hidden channels, of which 124 / 60 * 60 falls short
        {"depths": (1, 3), "num_heads": (1, 12), "window_size": 5, "in_channels": 1},
        {"upsampler": "pixelshuffle", "residual_conv": "3conv", "qkv_bias": False},
        {"upsampler": "nearest+conv", "window_size": 1, "overlap_size": 0},
    ],
)
def test_a_network_rebuilt_from_its_own_state_has_the_same_shapes(fields: dict[str, object]) -> None:
    with torch.device("meta"):
        network = SPAN(settings=SPANSettings(**fields), scale=4)
        settings, scale = settings_from_state(network.state_dict())
        rebuilt = SPAN(settings=settings, scale=scale)
    assert {key: tensor.shape for key, tensor in rebuilt.state_dict().items()} == {
        key: tensor.shape for key, tensor in network.state_dict().items()
    }


def test_what_options_leave_out_has_the_published_default() -> None:
    settings, scale = settings_from_options({"type": "SPAN", "upscale": 4, "upsampler": "pixelshuffle"})
    assert scale == 4
    assert settings == SPANSettings(
        embed_dim=96, depths=(6,) * 4, num_heads=(6,) * 4, window_size=7, overlap_size=0, mlp_ratio=4,
        upsampler="pixelshuffle",
    )  # fmt: skip


def test_arguments_without_effect_are_dropped() -> None:
    extra = {"upscale": 1, "drop_rate": 0.0, "attn_drop_rate": 0.3, "use_checkpoint": True, "img_size": [48, 64]}
    network = from_options({**SMALL, **extra})
    assert network.settings.upsampler == "restoration"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"img_size": 7}, "SPAN: img_size must exceed window_size 7, got 7"),
        ({"img_size": [64, 6]}, r"SPAN: img_size must exceed window_size 7, got \[64, 6\]"),
        ({"drop_rate": 0.1}, "SPAN: drop_rate is supported only as 0, got 0.1"),
        ({"overlap": 3}, r"SPAN has no argument 'overlap' \(did you mean 'overlap_size'\?\)"),
        ({"upsampler": "none"}, "SPAN: 'upsampler': input should be 'restoration'.*got 'none'"),
        ({"upscale": 2}, "scale must be 1 for the upsampler 'restoration', got 2"),
    ],
)
def test_options_that_no_network_offers_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_options({**SMALL, "upscale": 1, **wrong})
