"""The parts of HAT, against the paper's formulas written out."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

from finescale import weights
from finescale.errors import WeightsMismatchError
from finescale.layers.window_attention import attend_in_windows
from finescale.networks import FAMILIES, build, from_options
from finescale.networks.hat import HAB, HAT, OCAB, HATSettings, HybridBlocks, overlapping_index, settings_from_state
from helpers import GOLDEN, load_case, seeded_input, seeded_state
from publishing import write

SMALL: dict[str, Any] = {
    "embed_dim": 12, "depths": (2,), "num_heads": (3,), "window_size": 4, "overlap": 2, "conv_channels": 4,
    "squeezed_channels": 3, "conv_scale": 0.5,
}  # fmt: skip
OPTIONS: dict[str, Any] = {
    "type": "HAT", "embed_dim": 12, "depths": [2], "num_heads": [3], "window_size": 4, "squeeze_factor": 4,
    "upsampler": "pixelshuffle",
}  # fmt: skip
CASES = sorted((GOLDEN / "hat").glob("*.npz"))


def network_of(**fields: Any) -> HAT:
    """A small network in eval mode, in float64, with weights that make every part count."""
    network = HAT(settings=HATSettings(**{**SMALL, **fields}), scale=2)
    network.load_state_dict(seeded_state({key: tensor.shape for key, tensor in network.state_dict().items()}))
    return network.double().eval()


def group_of(**fields: Any) -> HybridBlocks:
    """The first group of such a network, without its convolution."""
    blocks = network_of(**fields).layers[0].get_submodule("residual_group")
    assert isinstance(blocks, HybridBlocks)
    return blocks


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


# ---- the parts


def test_every_module_of_the_published_network_answers_alike() -> None:
    case = load_case(GOLDEN / "hat" / "hat_tiny_a.npz")
    network = from_options(case.options).eval()
    network.load_state_dict(seeded_state(case.shapes))
    seen = {}

    def see(name: str, module: nn.Module) -> None:
        module.register_forward_hook(lambda _module, _inputs, output: seen.update({name: output.reshape(-1)}))

    with np.load(GOLDEN / "hat" / "trace" / "hat_tiny_a.npz") as trace:
        relaid = (".conv_block", "patch_unembed", "layers.0.patch_embed")  # answers of others in another layout
        names = [str(name) for name in trace["order"] if not name.endswith(relaid)]
        for name in names:
            see(name, network.get_submodule(name))
        with torch.inference_mode():
            network(case.input)
        for name in names:
            places = np.linspace(0, len(seen[name]) - 1, 256).astype(np.int64)
            expected = torch.from_numpy(trace[f"{name}:values"])
            torch.testing.assert_close(
                seen[name][places], expected, rtol=0, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
            )


@pytest.mark.parametrize("number", [0, 1], ids=["resting", "rolled"])
def test_a_block_adds_a_convolution_with_channel_attention_of_what_its_attention_reads(number: int) -> None:
    block = group_of().blocks[number]
    assert isinstance(block, HAB)
    assert block.attn.shift == ((0, 0), (2, 2))[number]
    x = numbers(2, 8, 12, 12)
    normed = block.norm1(x)

    def conv(name: str, image: Tensor, padding: int) -> Tensor:
        layer = block.conv_block.cab.get_submodule(name)
        return F.conv2d(image, layer.weight, layer.bias, padding=padding)

    hidden = conv("0", normed.permute(0, 3, 1, 2), 1)
    image = conv("2", hidden * torch.erfc(-hidden / 2**0.5) / 2, 1)
    means = image.sum((2, 3), keepdim=True) / 96
    gate = 1 / (1 + torch.exp(-conv("3.attention.3", conv("3.attention.1", means, 0).clamp_min(0), 0)))
    beside = x + attend_in_windows(block.attn, normed) + 0.5 * (image * gate).permute(0, 2, 3, 1)
    torch.testing.assert_close(block(x), beside + block.mlp(block.norm2(beside)))


@pytest.mark.parametrize(("window", "overlap"), [(4, 2), (4, 4), (2, 4), (3, 0)])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_a_group_ends_with_attention_to_a_square_around_each_window_that_may_lie_beyond_the_map(
    window: int, overlap: int, scale: float | None
) -> None:
    block = group_of(window_size=window, overlap=overlap, qk_scale=scale).overlap_attn
    assert isinstance(block, OCAB)
    height, width = 2 * window, 3 * window
    image = numbers(height, width, 12)
    query, key, value = block.qkv(block.norm1(image)).chunk(3, dim=-1)
    side = window + overlap
    zero = torch.zeros(12, dtype=torch.float64)

    def at(of: Tensor, y: int, x: int) -> Tensor:
        return of[y, x] if 0 <= y < height and 0 <= x < width else zero

    out = torch.zeros_like(value)
    for y, x in product(range(height), range(width)):
        top, left = y // window * window - overlap // 2, x // window * window - overlap // 2
        square = list(product(range(side), range(side)))
        keys = torch.stack([at(key, top + row, left + column) for row, column in square])
        values = torch.stack([at(value, top + row, left + column) for row, column in square])
        first = 1 - overlap  # the published numbers of rows begin there, and negative ones count from the end
        rows = [
            (row - y % window + first) * (window + side - 1) + column - x % window + first for row, column in square
        ]
        for head, own in enumerate(torch.arange(12).chunk(3)):
            scores = keys[:, own] @ query[y, x, own] * (scale or 0.5)  # 4 ** -0.5
            weights = (scores + block.relative_position_bias_table[rows, head]).softmax(0)
            out[y, x, own] = weights @ values[:, own]
    attended = image + block.proj(out)
    torch.testing.assert_close(block(image[None])[0], attended + block.mlp(block.norm2(attended)))


def test_every_row_of_a_released_table_belongs_to_one_offset() -> None:
    index = overlapping_index(16, 24)
    assert (int(index.min()), int(index.max())) == (-880, 640)
    assert torch.equal((index % 39**2).unique(), torch.arange(39**2))


def test_a_network_that_is_not_shifted_treats_the_second_block_as_the_first() -> None:
    assert [block.attn.shift for block in group_of(shifted=False, depths=(3,)).blocks] == [(0, 0)] * 3
    assert [block.attn.shift for block in group_of(depths=(3,)).blocks] == [(0, 0), (2, 2), (0, 0)]


def test_the_image_is_mirrored_at_the_bottom_and_on_the_right_to_whole_windows() -> None:
    network = network_of()
    image = seeded_input((1, 3, 6, 7)).double()
    mirrored = F.pad(image, (0, 1, 0, 2), mode="reflect")
    torch.testing.assert_close(network(image), network(mirrored)[..., :12, :14])


def test_in_training_later_blocks_leave_their_branches_out_more_often() -> None:
    with torch.device("meta"):
        network = HAT(settings=HATSettings(**{**SMALL, "depths": (2, 3), "num_heads": (3, 3)}), scale=4)
    rates = [module.drop_path.rate for module in network.modules() if isinstance(module, HAB)]
    assert rates == pytest.approx([0, 0.025, 0.05, 0.075, 0.1])


def test_what_is_left_out_is_neither_the_convolution_nor_the_overlapping_attention() -> None:
    blocks = group_of(depths=(1,), drop_path_rate=0.99).train()
    block = blocks.blocks[0]
    assert isinstance(block, HAB)
    block.drop_path.rate = 1 - 1e-12
    x = numbers(1, 4, 4, 12)
    beside = x + 0.5 * block.conv_block(block.norm1(x))
    torch.testing.assert_close(blocks(x), blocks.overlap_attn(beside))


def test_new_linear_layers_are_small_and_without_offset() -> None:
    torch.manual_seed(0)
    blocks = build("hat-s", scale=2).layers[0].get_submodule("residual_group")
    block, overlapping = blocks.get_submodule("blocks.0"), blocks.get_submodule("overlap_attn")
    assert isinstance(block, HAB)
    assert isinstance(overlapping, OCAB)
    assert not block.attn.get_parameter("qkv.bias").any()
    for tensor in (
        block.attn.get_parameter("qkv.weight"),
        block.attn.relative_position_bias_table,
        overlapping.qkv.weight,
        overlapping.relative_position_bias_table,
    ):
        assert abs(float(tensor.detach().std()) - 0.02) < 0.001


# ---- settings


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"depths": (6, 6)}, "one number per group"),
        ({"depths": (0,)}, "one number per group"),
        ({"num_heads": (5,)}, "embed_dim must be a multiple of the heads, got 12 and 5"),
        ({"overlap": 3}, r"overlap \(window_size \* overlap_ratio in published options\) must be even, got 3"),
        ({"overlap": -2}, "greater than or equal to 0"),
        ({"conv_channels": 0}, "greater than or equal to 1"),
        ({"squeezed_channels": 0}, "greater than or equal to 1"),
        ({"mlp_ratio": 0.05}, "mlp_ratio leaves no hidden channels of 12, got 0.05"),
        ({"window_size": 0}, "greater than or equal to 1"),
        ({"position_size": 6}, "position_size must be a multiple of window_size 4, got 6"),
        ({"drop_path_rate": 1}, "less than 1"),
        ({"upsampler": "pixelshuffledirect"}, "should be 'pixelshuffle'"),
        ({"residual_conv": "3conv"}, "'1conv' or 'identity'"),
        ({"overlap_ratio": 0.5}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_make_no_network_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        HATSettings(**{**SMALL, **wrong})


@pytest.mark.parametrize(
    "fields",
    [
        {"depths": (3, 1, 2), "num_heads": (3, 4, 1)},
        {"embed_dim": 60, "num_heads": (6,), "mlp_ratio": 2.06},  # 123 hidden, 123 / 60 * 60 falls short
        {"window_size": 7, "overlap": 2},
        {"window_size": 1, "overlap": 0},
        {"overlap": 8},
        {"conv_channels": 5, "squeezed_channels": 7},
        {"position_size": 12, "patch_norm": False},
        {"residual_conv": "identity", "qkv_bias": False, "in_channels": 1},
    ],
)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_settings_are_read_back_from_the_networks_own_state(fields: dict[str, Any], scale: int) -> None:
    with torch.device("meta"):
        network = HAT(settings=HATSettings(**{**SMALL, **fields}), scale=scale)
        settings, seen = settings_from_state(network.state_dict())
    assert seen == scale
    inexact = {"conv_scale", "mlp_ratio"}
    assert settings.model_dump(exclude=inexact) == network.settings.model_dump(exclude=inexact)
    assert settings.hidden == network.settings.hidden


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_settings_are_read_from_the_published_keys_and_shapes(path: Path) -> None:
    case = load_case(path)
    with torch.device("meta"):
        network = from_options(case.options)
        published = {key: torch.empty(shape) for key, shape in {**case.shapes, **case.buffers}.items()}
    settings, scale = settings_from_state(published)
    assert scale == network.scale
    unseen = set(FAMILIES["hat"].files.unseen(network.settings, published))
    assert settings.model_dump(exclude=unseen) == network.settings.model_dump(exclude=unseen)


def test_a_file_says_that_the_weight_of_its_convolutions_is_assumed(tmp_path: Path) -> None:
    state = network_of().float().state_dict()
    path = write({"params_ema": state}, tmp_path / "file.pth")
    assert "conv_scale = 0.01" in weights.load(path).notes[-1]
    loaded = weights.load(path, settings={"conv_scale": 0.5})
    assert loaded.settings == network_of().settings
    assert "conv_scale" not in loaded.notes[-1]


def test_a_descendant_with_more_keys_is_refused(tmp_path: Path) -> None:
    state = {**network_of().float().state_dict(), "layers.0.residual_group.extra.weight": torch.zeros(2)}
    with pytest.raises(WeightsMismatchError, match=r"a hat network .* 1 key is unexpected \(first: .*extra.weight"):
        weights.load(write({"params": state}, tmp_path / "file.pth"))


# ---- options


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"conv_channels": 4, "squeezed_channels": 3, "overlap": 2, "mlp_ratio": 4.0, "conv_scale": 0.01}),
        ({"compress_ratio": 5, "squeeze_factor": 7}, {"conv_channels": 2, "squeezed_channels": 1}),
        ({"window_size": 7, "overlap_ratio": 0.3}, {"overlap": 2}),
        ({"overlap_ratio": 0}, {"overlap": 0}),
        ({"img_size": 5}, {"shifted": True, "position_size": None}),
        ({"img_size": 4}, {"shifted": False, "window_size": 4}),
        ({"img_size": 16, "ape": True}, {"position_size": 16}),
        ({"qk_scale": 0}, {"qk_scale": None}),
        ({"qk_scale": 0.5}, {"qk_scale": 0.5}),
        ({"drop_rate": 0.0, "attn_drop_rate": 0, "patch_size": 1, "use_checkpoint": True}, {"drop_path_rate": 0.1}),
    ],
)
def test_options_mean_what_they_mean_to_the_published_constructor(
    given: dict[str, Any], expected: dict[str, Any]
) -> None:
    network = from_options({**OPTIONS, **given})
    assert network.scale == 2
    assert network.settings.model_dump(include=set(expected)) == expected


def test_the_published_defaults_are_those_of_the_constructor() -> None:
    with torch.device("meta"):
        settings = from_options({"type": "HAT", "upsampler": "pixelshuffle", "overlap_ratio": 0.6}).settings
    assert settings == HATSettings(
        embed_dim=96, depths=(6,) * 4, num_heads=(6,) * 4, window_size=7, overlap=4, conv_channels=32,
        squeezed_channels=3, mlp_ratio=4,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"upsampler": "nearest+conv"}, "HAT: 'upsampler': input should be 'pixelshuffle', got 'nearest\\+conv'"),
        ({"resi_connection": "3conv"}, "HAT: 'residual_conv': input should be '1conv' or 'identity', got '3conv'"),
        ({"drop_rate": 0.1}, "HAT: drop_rate is supported only as 0, got 0.1"),
        ({"patch_size": 2}, "HAT: patch_size is supported only as 1, got 2"),
        ({"img_size": 3}, "HAT: img_size must be at least window_size 4, got 3"),
        ({"overlap_ratio": 0.25}, r"HAT: overlap .* must be even, got 1"),
        ({"squeeze_factor": 13}, "HAT: 'squeezed_channels': input should be greater than or equal to 1, got 0"),
        ({"overlapratio": 0.5}, r"HAT has no argument 'overlapratio' \(did you mean 'overlap_ratio'\?\)"),
    ],
)
def test_what_no_network_offers_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_options({**OPTIONS, **wrong})


def test_options_without_an_upsampler_are_refused_since_theirs_returns_its_input() -> None:
    with pytest.raises(ValueError, match="'upsampler': input should be 'pixelshuffle', got ''"):
        from_options({key: value for key, value in OPTIONS.items() if key != "upsampler"})
