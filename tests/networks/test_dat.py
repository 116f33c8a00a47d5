"""The parts of DAT, against the paper's formulas written out."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

from finescale.layers.attention import SoftmaxAttention
from finescale.networks import from_options
from finescale.networks.dat import (
    DAT,
    FAMILY,
    SGFN,
    ChannelAttention,
    DATSettings,
    SpatialAttention,
    SpatialGate,
    is_shifted,
    settings_from_options,
    settings_from_state,
)
from helpers import GOLDEN, Case, load_case, published_buffers, seeded_state

CASES = [pytest.param(path, id=path.stem) for path in sorted((GOLDEN / "dat").glob("*.npz"))]
LIGHT = FAMILY.variants["dat-light"]


def spatial(window: tuple[int, int], *, shifted: bool, channels: int = 64) -> SpatialAttention:
    torch.manual_seed(0)
    attention = SpatialAttention(
        channels=channels, qkv_bias=True, num_heads=4, window=window, shifted=shifted, bias_width=channels // 32
    )
    return distinct(attention)


def distinct(module: nn.Module) -> nn.Module:
    """The module in float64 and eval mode, with statistics and weights that make every part count."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module.double().eval()


# ---- attention


def offsets_and_bias(mlp: nn.Module, query: tuple[int, int], key: tuple[int, int]) -> Tensor:
    return mlp(torch.tensor([query[0] - key[0], query[1] - key[1]], dtype=torch.float64))


@torch.no_grad()
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(("window", "size"), [((2, 4), (8, 8)), ((2, 4), (5, 3)), ((3, 3), (6, 3)), ((1, 2), (2, 3))])
def test_spatial_attention_looks_at_the_pixels_of_a_window_and_at_zeros_beyond_the_border(
    window: tuple[int, int], size: tuple[int, int], shifted: bool
) -> None:
    layer = spatial(window, shifted=shifted)
    multiple = max(window)
    rows, columns = (-(-side // multiple) * multiple for side in size)
    qkv = torch.randn(1, *size, 3 * 64, dtype=torch.float64)
    answer = layer.attend(qkv)
    padded = torch.zeros(rows, columns, 3, 2, 2, 16, dtype=torch.float64)  # half of the channels, head, channel
    padded[: size[0], : size[1]] = qkv[0].reshape(*size, 3, 2, 2, 16)
    for half, (h, w) in enumerate([window, window[::-1]]):
        down, right = (h // 2, w // 2) if shifted else (0, 0)
        for y, x in ((y, x) for y in range(size[0]) for x in range(size[1])):
            # Two pixels meet if they fall into one window of the shifted grid without passing the border.
            near = [
                (b, a)
                for b in range(rows)
                for a in range(columns)
                if (b - down) // h == (y - down) // h and (a - right) // w == (x - right) // w
            ]
            # Those from beyond the border are in the window too, but pushed away by 100.
            beyond = [
                (b, a)
                for b in range(rows)
                for a in range(columns)
                if (b - down) % rows // h == (y - down) % rows // h
                and (a - right) % columns // w == (x - right) % columns // w
                and (b, a) not in near
            ]
            logits, values = [], []
            for b, a in near + beyond:
                place = [((i - down) % rows % h, (j - right) % columns % w) for i, j in ((y, x), (b, a))]
                product = (padded[y, x, 0, half] * padded[b, a, 1, half]).sum(-1) / math.sqrt(16)
                bias = offsets_and_bias(layer.attns[half].pos, *place)
                logits.append(product + bias - (100 if (b, a) in beyond else 0))
                values.append(padded[b, a, 2, half])
            shares = torch.stack(logits).softmax(0)  # (pixels, heads)
            expected = (shares[..., None] * torch.stack(values)).sum(0).flatten()
            torch.testing.assert_close(answer[0, y, x, 32 * half : 32 * (half + 1)], expected)


@torch.no_grad()
def test_channel_attention_mixes_the_channels_of_a_head_by_their_cosine() -> None:
    layer = distinct(ChannelAttention(channels=32, qkv_bias=True, num_heads=4))
    qkv = torch.randn(2, 3, 5, 96, dtype=torch.float64)
    answer = layer.attend(qkv)
    query, key, value = (part.flatten(1, 2).transpose(1, 2) for part in qkv.chunk(3, dim=-1))  # (N, C, tokens)
    for head in range(4):
        of_head = slice(8 * head, 8 * (head + 1))
        cosine = F.normalize(query[:, of_head], dim=-1) @ F.normalize(key[:, of_head], dim=-1).transpose(1, 2)
        mixed = (cosine * layer.temperature[head]).softmax(-1) @ value[:, of_head]
        torch.testing.assert_close(answer[..., of_head].flatten(1, 2), mixed.transpose(1, 2))


@torch.no_grad()
def test_channel_attention_survives_channels_that_are_zero() -> None:
    layer = ChannelAttention(channels=32, qkv_bias=True, num_heads=4)
    assert layer.attend(torch.zeros(1, 3, 5, 96)).isfinite().all()


@torch.no_grad()
def test_channel_attention_in_half_precision_bears_more_pixels_than_its_range() -> None:
    layer = ChannelAttention(channels=32, qkv_bias=True, num_heads=4)
    qkv = 4 * torch.randn(1, 96, 96, 96)
    half = layer.half().attend(qkv.half())
    torch.testing.assert_close(half.float(), layer.float().attend(qkv), rtol=0, atol=0.05)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["spatial", "channel"])
def test_each_branch_is_gated_by_what_the_other_knows(kind: str) -> None:
    if kind == "spatial":
        layer = spatial((2, 4), shifted=False)
    else:
        layer = distinct(ChannelAttention(channels=64, qkv_bias=True, num_heads=4))
    x = torch.randn(2, 4, 4, 64, dtype=torch.float64)
    qkv = layer.qkv(x)
    attended = layer.attend(qkv).permute(0, 3, 1, 2)
    convolved = layer.dwconv(qkv[..., 128:].permute(0, 3, 1, 2))
    to_channels, to_pixels = (convolved, attended) if kind == "spatial" else (attended, convolved)
    channel_gate = layer.channel_interaction(to_channels).sigmoid()
    spatial_gate = layer.spatial_interaction(to_pixels).sigmoid()
    assert channel_gate.shape == (2, 64, 1, 1)
    assert spatial_gate.shape == (2, 1, 4, 4)
    if kind == "spatial":
        mixed = attended * channel_gate + convolved * spatial_gate
    else:
        mixed = attended * spatial_gate + convolved * channel_gate
    torch.testing.assert_close(layer(x), layer.proj(mixed.permute(0, 2, 3, 1)))


@torch.no_grad()
def test_a_position_bias_of_width_one_changes_nothing_and_is_left_out() -> None:
    layer = spatial((2, 4), shifted=True, channels=32)
    qkv = torch.randn(1, 8, 8, 96, dtype=torch.float64)
    expected = layer.attend(qkv)
    assert layer.attns[0].masked_bias().shape == (4, 1, 8, 8)
    for attn in layer.attns:
        spread = attn.position_bias().flatten(1)
        torch.testing.assert_close(spread.amin(1), spread.amax(1))
        attn.has_position_bias = True
        attn.train()  # forgets the bias
    torch.testing.assert_close(layer.attend(qkv), expected)


@torch.no_grad()
def test_the_feed_forward_multiplies_one_half_by_the_convolved_other() -> None:
    layer = distinct(SGFN(channels=8, hidden=20, gate=SpatialGate(channels=10)))
    x = torch.randn(2, 3, 5, 8, dtype=torch.float64)
    first, second = F.gelu(layer.fc1(x)).split(10, dim=-1)
    gate = layer.sg.conv(layer.sg.norm(second).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    torch.testing.assert_close(layer(x), layer.fc2(first * gate))


# ---- order of blocks


def test_every_other_spatial_block_is_shifted_and_odd_groups_begin_with_a_shift() -> None:
    shifted = [[block for block in range(0, 8, 2) if is_shifted(group, block)] for group in range(3)]
    assert shifted == [[2, 6], [0, 4], [2, 6]]


def test_blocks_attend_in_turn_to_pixels_and_channels_and_windows_lie_across_each_other() -> None:
    network = DAT(settings=FAMILY.tiny["dat-light"].model_copy(update={"depths": (3, 2), "num_heads": (4, 2)}), scale=2)
    kinds = [[type(block.attn) for block in group.blocks] for group in network.layers]
    assert kinds == [[SpatialAttention, ChannelAttention, SpatialAttention], [SpatialAttention, ChannelAttention]]
    windows = [[attn.window for attn in group.blocks[0].attn.attns] for group in network.layers]
    assert windows == [[(2, 4), (4, 2)]] * 2


def test_stochastic_depth_grows_evenly_over_all_blocks() -> None:
    settings = FAMILY.tiny["dat-light"].model_copy(
        update={"depths": (3, 2), "num_heads": (4, 4), "drop_path_rate": 0.4}
    )
    network = DAT(settings=settings, scale=2)
    rates = [block.drop.rate for group in network.layers for block in group.blocks]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_training_on_a_single_image_is_refused_by_its_batch_norms() -> None:
    network = DAT(settings=FAMILY.tiny["dat-light"], scale=2).train()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        network(torch.rand(1, 3, 8, 8))


# ---- sizes


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"depths": (1, 1), "num_heads": (6,)}, "one number per group"),
        ({"depths": (), "num_heads": ()}, "one number per group"),
        ({"depths": (0,), "num_heads": (6,)}, "one number per group"),
        ({"embed_dim": 30}, "greater than or equal to 32"),
        ({"embed_dim": 63}, "embed_dim must be even, got 63"),
        ({"embed_dim": 64}, "multiple of the heads, got 64 and 6"),
        ({"embed_dim": 70, "num_heads": (5,) * 6}, "multiple of the heads, got 70 and 5"),
        ({"num_heads": (6, 6, 6, 6, 6, 1)}, "at least 2, one for each half of the channels, got 1"),
        ({"window_size": (0, 8)}, r"from 1 to 512 pixels a side, got \(0, 8\)"),
        ({"window_size": (8, 513)}, r"from 1 to 512 pixels a side, got \(8, 513\)"),
        ({"expansion_factor": 1.25}, "even number of hidden channels of 180, got 1.25, which makes 225"),
        ({"expansion_factor": 0.001}, "even number of hidden channels of 180, got 0.001, which makes 0"),
        ({"expansion_factor": math.inf}, "finite number"),
        ({"drop_path_rate": 1.0}, "less than 1"),
        ({"upsampler": "nearest+conv"}, "'pixelshuffle' or 'pixelshuffledirect'"),
        ({"residual_conv": "identity"}, "'1conv' or '3conv'"),
        ({"split_size": (8, 8)}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_make_no_network_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DATSettings(**wrong)


def test_the_published_networks_have_the_published_numbers_of_parameters() -> None:
    counted = {}
    for variant, settings in FAMILY.variants.items():
        for scale in (2, 3, 4):
            with torch.device("meta"):
                network = DAT(settings=settings, scale=scale)
            counted[variant, scale] = sum(parameter.numel() for parameter in network.parameters())
    assert counted == {
        ("dat-s", 2): 11_064_419, ("dat-s", 3): 11_249_059, ("dat-s", 4): 11_212_131,
        ("dat", 2): 14_654_339, ("dat", 3): 14_838_979, ("dat", 4): 14_802_051,
        ("dat-2", 2): 11_064_419, ("dat-2", 3): 11_249_059, ("dat-2", 4): 11_212_131,
        ("dat-light", 2): 553_290, ("dat-light", 3): 561_405, ("dat-light", 4): 572_766,
    }  # fmt: skip


def test_windows_repeat_after_the_smallest_common_multiple_of_their_sides() -> None:
    with torch.device("meta"):
        assert DAT(settings=LIGHT, scale=2).period == 32
        assert DAT(settings=DATSettings(window_size=(4, 6)), scale=2).period == 12


def test_the_factor_of_scores_reaches_both_windows_and_no_channel_attention() -> None:
    for given, expected in ((None, None), (0, None), (0.3, 0.3), (-1.5, -1.5)):
        network = from_options({"type": "DAT", "qk_scale": given})
        assert network.settings.qk_scale == expected
        products = [module for module in network.modules() if isinstance(module, SoftmaxAttention)]
        assert [product.scale for product in products] == [expected] * 2 * 4  # of one block in each of four groups


# ---- files and options


def published_state(case: Case) -> dict[str, Tensor]:
    """What a published file of this configuration holds, with the offsets that show the window."""
    return {key: torch.empty(shape, device="meta") for key, shape in case.shapes.items()} | published_buffers(case)


@pytest.mark.parametrize("path", CASES)
def test_a_published_file_shows_all_settings_but_the_factor_of_scores(path: Path) -> None:
    case = load_case(path)
    state = published_state(case)
    assert FAMILY.files.recognises(state)
    settings, scale = settings_from_options(case.options)
    assert settings_from_state(state) == (settings.model_copy(update={"qk_scale": None}), scale)


@pytest.mark.parametrize("path", CASES)
def test_a_published_file_without_buffers_does_not_show_the_window_either(path: Path) -> None:
    case = load_case(path)
    state = {key: torch.empty(shape, device="meta") for key, shape in case.shapes.items()}
    settings, scale = settings_from_options(case.options)
    expected = settings.model_copy(update={"window_size": (8, 32), "qk_scale": None})
    assert settings_from_state(state) == (expected, scale)


@pytest.mark.parametrize("path", CASES)
def test_the_published_keys_are_ours_and_the_buffers_of_batch_norm(path: Path) -> None:
    case = load_case(path)
    settings, scale = settings_from_options(case.options)
    with torch.device("meta"):
        network = DAT(settings=settings, scale=scale)
    saved = {**case.shapes, **{k: s for k, s in case.buffers.items() if not k.endswith(tuple(FAMILY.files.derivable))}}
    assert {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()} == saved


@pytest.mark.parametrize(
    "offsets",
    [torch.zeros(15, 2), torch.full((15, 2), math.nan), torch.full((15, 2), math.inf), torch.full((15, 2), -3.0)],
)
def test_offsets_of_no_window_are_refused(offsets: Tensor) -> None:
    state = published_state(load_case(GOLDEN / "dat" / "dat-tiny-pair_x2.npz"))
    state["layers.0.blocks.0.attn.attns.0.rpe_biases"] = offsets
    with pytest.raises(ValueError, match=r"rpe_biases of shape \(15, 2\) does not hold the offsets of a window"):
        settings_from_state(state)


@pytest.mark.parametrize(
    "fields",
    [
        {"expansion_factor": 2.07},  # 124 hidden channels of 60
        {"depths": (1, 3, 2), "num_heads": (2, 5, 3)},
        {"residual_conv": "1conv", "qkv_bias": False, "in_channels": 1},
        {"upsampler": "pixelshuffle"},
    ],
)
def test_a_network_rebuilt_from_its_own_state_has_the_same_shapes(fields: dict[str, object]) -> None:
    with torch.device("meta"):
        network = DAT(settings=DATSettings(**{**LIGHT.model_dump(), **fields}), scale=4)
        settings, scale = settings_from_state(network.state_dict())
        rebuilt = DAT(settings=settings, scale=scale)
    assert {key: tensor.shape for key, tensor in rebuilt.state_dict().items()} == {
        key: tensor.shape for key, tensor in network.state_dict().items()
    }


def test_statistics_of_a_plain_state_dict_are_loaded_and_count() -> None:
    case = load_case(GOLDEN / "dat" / "dat-tiny-bnstat_x2.npz")
    settings, scale = settings_from_options(case.options)
    network = DAT(settings=settings, scale=scale).eval()
    fresh = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    network.load_state_dict({**fresh, **seeded_state(case.shapes)})
    with torch.inference_mode():
        assert (network(case.input) - case.output).abs().max() < 1e-5
        network.load_state_dict({**network.state_dict(), **{k: t for k, t in fresh.items() if "running_mean" in k}})
        assert (network(case.input) - case.output).abs().max() > 1e-3


def test_what_options_leave_out_has_the_published_default() -> None:
    settings, scale = settings_from_options({"type": "DAT"})
    assert scale == 2
    assert settings == DATSettings(window_size=(2, 4), depths=(2,) * 4, num_heads=(2,) * 4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"drop_rate": 0.1}, "DAT: drop_rate is supported only as 0, got 0.1"),
        ({"window_size": [8, 8]}, "DAT has no argument 'window_size'"),
        ({"split_sizes": [8, 8]}, r"DAT has no argument 'split_sizes' \(did you mean 'split_size'\?\)"),
    ],
)
def test_options_that_no_network_offers_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings_from_options({"type": "DAT", **wrong})
