"""The parts of CRAFT, against the paper's formulas written out, and its files and options."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from finescale.networks import from_options
from finescale.networks.craft import (
    CRAFT,
    FAMILY,
    HFERB,
    SRWAB,
    CRAFTSettings,
    FusionAttention,
    GatedFeedForward,
    NormalizedChannelAttention,
    settings_from_state,
    unseen_fields,
)
from helpers import GOLDEN, load_case, seeded_input, seeded_state

CASES = sorted((GOLDEN / "craft").glob("*.npz"))


def tiny(**changes: Any) -> CRAFTSettings:
    return CRAFTSettings(**{**FAMILY.tiny["craft"].model_dump(), **changes})


def seeded(module: torch.nn.Module) -> Any:
    module.load_state_dict(seeded_state({key: tensor.shape for key, tensor in module.state_dict().items()}))
    return module.double().eval()


# ---- window attention


def test_the_settings_reach_both_windows() -> None:
    shifted = SRWAB(settings=tiny(shift_mask=True), num_heads=4, shifted=True)
    assert all(attention.masked for attention in shifted.attns)
    assert not any(attention.masked for attention in SRWAB(settings=tiny(), num_heads=4, shifted=True).attns)
    scaled = SRWAB(settings=tiny(qk_scale=0.7), num_heads=4, shifted=False)
    assert all(attention.attention.scale == 0.7 for attention in scaled.attns)
    narrow = SRWAB(settings=tiny(embed_dim=48), num_heads=4, shifted=False)
    assert not any(parameter.requires_grad for attention in narrow.attns for parameter in attention.pos.parameters())


@torch.no_grad()
def test_the_two_windows_are_one_another_turned_and_the_local_term_sees_the_map_unrolled() -> None:
    block = seeded(SRWAB(settings=tiny(), num_heads=4, shifted=True))
    x = torch.randn(1, 8, 16, 64, dtype=torch.float64)
    query, key, value = block.qkv(block.norm1(x)).split(64, dim=-1)
    wide, tall = (
        attention(torch.stack([part[..., first : first + 32] for part in (query, key, value)], dim=3))
        for attention, first in zip(block.attns, (0, 32), strict=True)
    )
    assert [attention.window for attention in block.attns] == [(4, 8), (8, 4)]
    assert [attention.shift for attention in block.attns] == [(2, 4), (4, 2)]
    local = block.get_v(value.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    y = x + block.proj(torch.cat((wide, tall), dim=-1) + local)
    y = y + block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(y))))
    torch.testing.assert_close(block(x), y)


# ---- the other blocks


@torch.no_grad()
def test_the_high_frequency_block_is_the_published_formula() -> None:
    block = seeded(HFERB(channels=6))
    image = torch.randn(2, 6, 5, 4, dtype=torch.float64)
    peaks = F.pad(image[:, 3:], (1, 1, 1, 1), value=-math.inf).unfold(2, 3, 1).unfold(3, 3, 1).amax((4, 5))
    branches = torch.cat((F.gelu(block.conv(image[:, :3])), F.gelu(block.fc(peaks))), dim=1)
    expected = image + block.last_fc(branches)
    torch.testing.assert_close(block(image.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), expected)


@torch.no_grad()
def test_channel_attention_is_the_published_formula() -> None:
    heads, channels = 3, 12
    block = seeded(FusionAttention(channels=channels, num_heads=heads))
    low, high = torch.randn(2, 2, channels, 5, 4, dtype=torch.float64)
    query = block.q_dwconv(block.q(high))
    key, value = block.kv_dwconv(block.kv(low)).split(channels, dim=1)
    query, key, value = (part.reshape(2, heads, channels // heads, 20) for part in (query, key, value))
    scores = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(-1, -2) * block.temperature
    expected = block.project_out((scores.softmax(-1) @ value).reshape(2, channels, 5, 4))
    answer = block(low.permute(0, 2, 3, 1), high.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(answer, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("size", [0.0, 8.0])
def test_channel_attention_neither_overflows_nor_divides_by_zero(dtype: torch.dtype, size: float) -> None:
    query = torch.full((1, 64, 64, 8), size, dtype=dtype)
    value = torch.rand(1, 64, 64, 8).to(dtype)
    answer = NormalizedChannelAttention()(query, query, value, torch.ones(2, 1, 1, dtype=dtype))
    expected = value.float().unflatten(3, (2, 4)).mean(-1, keepdim=True).expand(-1, -1, -1, -1, 4).flatten(3)
    torch.testing.assert_close(answer.float(), expected, rtol=0, atol=1e-2)


def test_channel_attention_keeps_apart_what_float16_cannot_measure() -> None:
    generator = torch.Generator().manual_seed(0)
    query, value = (torch.randn(1, 64, 64, 8, generator=generator).half() for _ in range(2))
    query = 3000 * query  # of norm 200,000
    temperature = torch.full((2, 1, 1), 10.0)
    expected = NormalizedChannelAttention()(query.float(), query.float(), value.float(), temperature)
    with torch.autocast("cpu", dtype=torch.float16):
        answer = NormalizedChannelAttention()(query, query, value, temperature)
    torch.testing.assert_close(answer.float(), expected, rtol=0, atol=1e-2)


@torch.no_grad()
def test_the_feed_forward_layer_gates_one_map_by_the_other() -> None:
    block = seeded(GatedFeedForward(channels=6))
    image = torch.randn(2, 6, 5, 4, dtype=torch.float64)
    gate, content = block.dwconv(block.project_in(image)).split(15, dim=1)
    expected = block.project_out(F.gelu(gate) * content)
    torch.testing.assert_close(block(image.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), expected)


# ---- the network


@pytest.mark.parametrize("size", [(8, 16), (9, 16), (3, 21), (1, 1), (16, 8)], ids=str)
@torch.no_grad()
def test_only_sides_that_are_no_multiple_are_mirrored_with_the_edge_repeated(size: tuple[int, int]) -> None:
    network = CRAFT(settings=tiny(), scale=2).eval()
    image = seeded_input((1, 3, *size))
    missing = [(0, -side % 8) for side in size]
    padded = torch.from_numpy(np.pad(image.numpy(), [(0, 0), (0, 0), *missing], mode="symmetric"))
    assert torch.equal(network.pad(image), padded)
    assert torch.equal(network(image), network(padded)[..., : 2 * size[0], : 2 * size[1]])


@pytest.mark.parametrize("size", [(64, 64), (16, 16), (16, 32), (20, 40)], ids=str)
@torch.no_grad()
def test_no_size_is_special_and_the_mask_counts_at_each(size: tuple[int, int]) -> None:
    image = seeded_input((1, 3, *size))
    answers = []
    for shift_mask in (False, True):
        network = CRAFT(settings=CRAFTSettings(depths=(1,), num_heads=(6,), shift_mask=shift_mask), scale=2).eval()
        network.load_state_dict(seeded_state({key: tensor.shape for key, tensor in network.state_dict().items()}))
        answers.append(network(image))
    assert (answers[0] - answers[1]).abs().max() > 1e-2


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("scale", "count"), [(2, 737_756), (3, 744_251), (4, 753_344)])
def test_the_published_networks_have_the_published_numbers_of_parameters(scale: int, count: int) -> None:
    with torch.device("meta"):
        network = CRAFT(settings=CRAFTSettings(), scale=scale)
    group = network.layers[0]
    blocks = group.residual_group
    assert parameters(network) == count
    assert parameters(group) == 177_584
    assert [parameters(part[0]) for part in (blocks.srwa_blocks, blocks.hfer_blocks, blocks.hf_blocks)] == [
        19_478,
        8_160,
        31_284,
    ]


def test_tiles_may_begin_where_both_windows_do() -> None:
    assert CRAFT(settings=tiny(split_size=(4, 6), window_size=24), scale=2).period == 12


def test_linear_layers_begin_small_norms_neutral_and_temperatures_at_one() -> None:
    for module in CRAFT(settings=tiny(), scale=2).modules():
        if isinstance(module, torch.nn.Linear):
            assert module.weight.abs().max() < 0.15
            assert not module.bias.any()
        elif isinstance(module, torch.nn.LayerNorm):
            assert (module.weight == 1).all()
            assert not module.bias.any()
        elif isinstance(module, FusionAttention):
            assert (module.temperature == 1).all()


# ---- settings


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"depths": (1, 1), "num_heads": (6,)}, "one number per group"),
        ({"depths": (), "num_heads": ()}, "one number per group"),
        ({"depths": (0,), "num_heads": (6,)}, "one number per group"),
        ({"num_heads": (6, 6, 6, 3)}, "num_heads must be even, one half for each window, got 3"),
        ({"num_heads": (6, 6, 6, 0)}, "num_heads must be even, one half for each window, got 0"),
        ({"embed_dim": 49}, "embed_dim must be even and a multiple of the heads, got 49 and 6"),
        ({"embed_dim": 50}, "embed_dim must be even and a multiple of the heads, got 50 and 6"),
        ({"embed_dim": 30}, "greater than or equal to 32"),
        ({"split_size": (4, 12)}, r"window_size must be a multiple of both split sizes, got 16 and \(4, 12\)"),
        ({"split_size": (0, 16)}, r"window_size must be a multiple of both split sizes, got 16 and \(0, 16\)"),
        ({"window_size": 8}, r"window_size must be a multiple of both split sizes, got 8 and \(4, 16\)"),
        ({"window_size": 1024}, "less than or equal to 512"),
        ({"mlp_ratio": 0.01}, "mlp_ratio leaves no hidden channels of 48, got 0.01"),
        ({"residual_conv": "3conv"}, "'1conv' or 'identity'"),
        ({"upsampler": "pixelshuffle"}, "'pixelshuffledirect'"),
        ({"shiftmask": True}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_make_no_network_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CRAFTSettings(**wrong)


# ---- files


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_published_file_is_recognised_and_its_settings_read(path: Path) -> None:
    case = load_case(path)
    state = {key: torch.empty(shape, device="meta") for key, shape in case.shapes.items()}
    network = from_options(case.options)
    settings, scale = settings_from_state(state)
    seen = set(CRAFTSettings.model_fields) - set(unseen_fields(settings, state))
    assert FAMILY.files.recognises(state)
    assert scale == network.scale
    assert {field: getattr(settings, field) for field in seen} == {
        field: getattr(network.settings, field) for field in seen
    }


@pytest.mark.parametrize(
    ("offset", "split_size", "window_size"),
    [((-3, -15), (4, 16), 16), ((-1, -3), (2, 4), 16), ((-15, -3), (16, 4), 16), ((-5, -7), (6, 8), 24)],
)
def test_the_offsets_that_a_published_file_carries_show_its_windows(
    offset: tuple[int, int], split_size: tuple[int, int], window_size: int
) -> None:
    state = {**CRAFT(settings=tiny(), scale=2).state_dict(), "biases_h": torch.tensor([offset, (0, 0)]).float()}
    settings, _ = settings_from_state(state)
    assert (settings.split_size, settings.window_size) == (split_size, window_size)


@pytest.mark.parametrize("offset", [(1, 1), (0, 5), (math.inf, 0), (math.nan, math.nan), (-1e9, -3), (-3,)])
def test_offsets_that_no_window_has_are_refused(offset: tuple[float, ...]) -> None:
    state = {**CRAFT(settings=tiny(), scale=2).state_dict(), "biases_h": torch.tensor([offset])}
    with pytest.raises(ValueError, match=r"window_size|unpack"):
        settings_from_state(state)


@pytest.mark.parametrize(
    "fields",
    [
        {
            "embed_dim": 66,
            "num_heads": (2,),
            "mlp_ratio": 1.35,
        },  # 89 hidden channels, of which 89 / 66 * 66 falls short
        {"depths": (1, 3, 2), "num_heads": (2, 4, 8)},
        {"residual_conv": "identity", "qkv_bias": False, "in_channels": 1},
        {"in_channels": 4},
    ],
)
def test_a_network_rebuilt_from_its_own_state_has_the_same_shapes(fields: dict[str, object]) -> None:
    with torch.device("meta"):
        network = CRAFT(settings=tiny(**fields), scale=3)
        settings, scale = settings_from_state(network.state_dict())
        rebuilt = CRAFT(settings=settings, scale=scale)
    assert {key: tensor.shape for key, tensor in rebuilt.state_dict().items()} == {
        key: tensor.shape for key, tensor in network.state_dict().items()
    }


# ---- options

PUBLISHED: dict[str, Any] = {
    "type": "CRAFT",
    "upscale": 4,
    "in_chans": 3,
    "img_size": 64,
    "window_size": 16,
    "img_range": 1.0,
    "depths": [2, 2, 2, 2],
    "embed_dim": 48,
    "num_heads": [6, 6, 6, 6],
    "mlp_ratio": 2,
    "resi_connection": "1conv",
}


def test_a_published_block_makes_the_published_network() -> None:
    network = from_options({**PUBLISHED, "patch_size": 64, "upsampler": "", "hooks": None})
    assert (network.scale, network.settings) == (4, CRAFTSettings())


def test_what_is_left_out_has_the_default_of_the_published_constructor() -> None:
    with torch.device("meta"):
        network = from_options({"type": "CRAFT"})
    assert parameters(network) == 7_677_996


def test_split_sizes_and_mask_are_taken() -> None:
    settings = from_options({**PUBLISHED, "split_size_1": 8, "shift_mask": True}).settings
    assert settings == CRAFTSettings(split_size=(4, 8), shift_mask=True)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"resi_connection": "3conv"}, "CRAFT: 'residual_conv': input should be '1conv' or 'identity', got '3conv'"),
        ({"split_size": 4}, r"CRAFT has no argument 'split_size' \(did you mean 'split_size_[01]'\?\)"),
        ({"num_heads": [5, 6, 6, 6]}, "CRAFT: num_heads must be even"),
        ({"split_size_0": 3}, r"CRAFT: window_size must be a multiple of both split sizes, got 16 and \(3, 16\)"),
        ({"split_size_0": "wide"}, "CRAFT: 'split_size.0': input should be a valid integer.*got 'wide'"),
        ({"upscale": 17}, "scale must be 1 to 16 for the upsampler 'pixelshuffledirect', got 17"),
    ],
)
def test_what_no_network_offers_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_options({**PUBLISHED, **wrong})
