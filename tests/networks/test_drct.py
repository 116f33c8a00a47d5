"""The parts of DRCT, against the paper's formulas written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

from finescale.layers.window_attention import SwinLayer
from finescale.networks import FAMILIES, build, from_options
from finescale.networks.drct import DRCT, DRCTSettings, ResidualDenseGroup, settings_from_state
from helpers import GOLDEN, load_case, seeded_input, seeded_state

SMALL: dict[str, Any] = {"embed_dim": 12, "depths": (2,), "num_heads": (3,), "window_size": 4, "growth": 4}
OPTIONS: dict[str, Any] = {
    "type": "DRCT",
    "embed_dim": 12,
    "depths": [6],
    "num_heads": [3],
    "window_size": 4,
    "gc": 4,
    "upsampler": "pixelshuffle",
}
CASES = sorted((GOLDEN / "drct").glob("*.npz"))


def network_of(**fields: Any) -> DRCT:
    """A small network in eval mode, in float64, with weights that make every part count."""
    network = DRCT(settings=DRCTSettings(**{**SMALL, **fields}), scale=2)
    network.load_state_dict(seeded_state({key: tensor.shape for key, tensor in network.state_dict().items()}))
    return network.double().eval()


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


# ---- the parts


def test_every_module_of_the_published_network_answers_alike() -> None:
    case = load_case(GOLDEN / "drct" / "drct_tiny_a.npz")
    network = from_options(case.options).eval()
    network.load_state_dict(seeded_state(case.shapes))
    seen = {}

    def see(name: str, module: nn.Module) -> None:
        module.register_forward_hook(lambda _module, _inputs, output: seen.update({name: output.reshape(-1)}))

    with np.load(GOLDEN / "drct" / "trace" / "drct_tiny_a.npz") as trace:
        names = [str(name) for name in trace["order"] if name != "patch_unembed"]  # a change of layout in theirs
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


def test_a_group_is_dense_and_adds_a_fifth_of_its_result() -> None:
    group = network_of().layers[0]
    assert isinstance(group, ResidualDenseGroup)
    x = numbers(2, 4, 8, 12)

    def made(layer: int, *parts: Tensor) -> Tensor:
        tokens = group.get_submodule(f"swin{layer}")(torch.cat(parts, dim=-1))
        adjust = group.get_submodule(f"adjust{layer}")
        return F.linear(tokens, adjust.weight[:, :, 0, 0], adjust.bias)

    def lrelu(x: Tensor) -> Tensor:
        return torch.where(x < 0, 0.2 * x, x)

    x1 = lrelu(made(1, x))
    x2 = lrelu(made(2, x, x1))
    x3 = lrelu(made(3, x, x1, x2))
    x4 = lrelu(made(4, x, x1, x2, x3))
    torch.testing.assert_close(group(x), 0.2 * made(5, x, x1, x2, x3, x4) + x)


@pytest.mark.parametrize("number", [1, 2], ids=["resting", "rolled"])
@pytest.mark.parametrize("size", [(4, 4), (4, 8), (12, 8)])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_a_layer_attends_within_windows_that_in_each_second_layer_lie_half_a_window_further(
    number: int, size: tuple[int, int], scale: float | None
) -> None:
    layer = network_of(qk_scale=scale).layers[0].get_submodule(f"swin{number}")
    assert isinstance(layer, SwinLayer)
    shift = (0, 2)[number - 1]
    image = numbers(*size, layer.norm1.normalized_shape[0])
    query, key, value = layer.attn.qkv(layer.norm1(image)).chunk(3, dim=-1)
    places = [(y, x) for y in range(size[0]) for x in range(size[1])]

    def window(y: int, x: int) -> tuple[int, int]:  # those at the edges are smaller
        return (y + 4 - shift) // 4, (x + 4 - shift) // 4

    out = torch.zeros_like(value)
    for y, x in places:
        others = [place for place in places if window(*place) == window(y, x)]
        rows, columns = zip(*others, strict=True)
        offsets = [7 * (y - row + 3) + x - column + 3 for row, column in others]
        for head, own in enumerate(torch.arange(value.shape[-1]).chunk(layer.attn.num_heads)):
            scores = key[rows, columns][:, own] @ query[y, x, own] * (scale or len(own) ** -0.5)
            weights = (scores + layer.attn.relative_position_bias_table[offsets, head]).softmax(0)
            out[y, x, own] = weights @ value[rows, columns][:, own]
    attended = image + layer.attn.proj(out)
    hidden = layer.mlp.fc1(layer.norm2(attended))
    gelu = hidden * torch.erfc(-hidden / 2**0.5) / 2
    torch.testing.assert_close(layer(image[None])[0], attended + layer.mlp.fc2(gelu))


def test_a_network_that_is_not_shifted_treats_the_second_layer_as_the_first() -> None:
    layer = network_of(shifted=False).layers[0].get_submodule("swin2")
    x = numbers(1, 8, 8, 16)
    torch.testing.assert_close(layer(x)[:, 4:, :4], layer(x[:, 4:, :4]))


def test_the_published_layers_have_the_published_widths_heads_and_hidden_channels() -> None:
    settings = DRCTSettings()
    assert [(settings.width(k), settings.heads(0, k), settings.hidden_of(k)) for k in range(1, 6)] == [
        (180, 6, 360), (212, 4, 424), (244, 2, 488), (276, 6, 276), (308, 4, 308),
    ]  # fmt: skip


def test_the_image_is_mirrored_at_the_bottom_and_on_the_right_to_whole_windows() -> None:
    network = network_of()
    image = seeded_input((1, 3, 6, 7)).double()
    mirrored = F.pad(image, (0, 1, 0, 2), mode="reflect")
    torch.testing.assert_close(network(image), network(mirrored)[..., :12, :14])


def test_a_network_with_a_position_embedding_takes_its_own_size_alone() -> None:
    network = network_of(position_size=8)
    assert network(seeded_input((1, 3, 8, 5)).double()).shape == (1, 3, 16, 10)
    with pytest.raises(ValueError, match=r"must be 8 x 8, the size of .* embedding, got 12 x 8 in whole windows"):
        network(seeded_input((1, 3, 9, 8)).double())


def test_in_training_all_branches_of_a_group_are_left_out_equally_often_and_those_of_the_first_never() -> None:
    with torch.device("meta"):
        network = DRCT(settings=DRCTSettings(), scale=4)
    rates = [
        {layer.drop_path.rate for layer in group.children() if hasattr(layer, "drop_path")} for group in network.layers
    ]
    assert all(len(rate) == 1 for rate in rates)
    assert [round(rate.pop(), 4) for rate in rates] == [0.0, 0.0171, 0.0343, 0.0514, 0.0686, 0.0857]


def test_a_left_out_branch_changes_the_answer_in_training_alone() -> None:
    network = network_of(depths=(2, 2), num_heads=(3, 3), drop_path_rate=0.9)
    image = seeded_input((1, 3, 4, 4)).double()
    expected = network(image)
    torch.manual_seed(0)
    assert not torch.equal(network.train()(image), expected)
    assert torch.equal(network.eval()(image), expected)


def test_new_linear_layers_are_small_and_without_offset() -> None:
    torch.manual_seed(0)
    layer = build("drct", scale=2).layers[0].get_submodule("swin1")
    assert isinstance(layer, SwinLayer)
    assert not layer.attn.qkv.bias.any()
    for tensor in (layer.attn.qkv.weight, layer.attn.relative_position_bias_table, layer.mlp.fc1.weight):
        assert abs(float(tensor.detach().std()) - 0.02) < 0.001


def test_the_published_networks_have_the_published_numbers_of_parameters() -> None:
    counted = {}
    for variant in FAMILIES["drct"].variants:
        for scale in (2, 3, 4):
            with torch.device("meta"):
                counted[variant, scale] = sum(
                    parameter.numel() for parameter in build(variant, scale=scale).parameters()
                )
    assert counted == {
        ("drct", 2): 13_991_867, ("drct", 3): 14_176_507, ("drct", 4): 14_139_579,
        ("drct-l", 2): 27_433_007, ("drct-l", 3): 27_617_647, ("drct-l", 4): 27_580_719,
    }  # fmt: skip


# ---- settings


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"depths": (6, 6)}, "one number per group"),
        ({"depths": (), "num_heads": ()}, "one number per group"),
        ({"depths": (0,)}, "one number per group"),
        ({"num_heads": (0,)}, r"num_heads must be at least 1, got \(0,\)"),
        ({"num_heads": (5,)}, "num_heads 5 gives layer 1 5 heads, which do not divide its 12 channels"),
        ({"num_heads": (12,)}, "num_heads 12 gives layer 5 8 heads, which do not divide its 28 channels"),
        ({"mlp_ratio": 0.05}, "mlp_ratio leaves no hidden channels of 12, got 0.05"),
        ({"mlp_ratio": 0}, "greater than 0"),
        ({"window_size": 0}, "greater than or equal to 1"),
        ({"window_size": 65}, "less than or equal to 64"),
        ({"position_size": 6}, "position_size must be a multiple of window_size 4, got 6"),
        ({"drop_path_rate": 1}, "less than 1"),
        ({"upsampler": "pixelshuffledirect"}, "should be 'pixelshuffle'"),
        ({"residual_conv": "3conv"}, "'1conv' or 'identity'"),
        ({"gc": 4}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_make_no_network_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DRCTSettings(**{**SMALL, **wrong})


@pytest.mark.parametrize(
    "fields",
    [
        {"depths": (6, 6, 6), "num_heads": (3, 4, 1)},
        {"embed_dim": 60, "growth": 12, "num_heads": (6,), "mlp_ratio": 2.06},  # 123 hidden, 123 / 60 * 60 falls short
        {"mlp_ratio": 0.7},
        {"window_size": 7},
        {"window_size": 1},
        {"position_size": 12, "patch_norm": False},
        {"residual_conv": "identity", "qkv_bias": False, "in_channels": 1},
    ],
)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_network_rebuilt_from_its_own_state_has_the_same_shapes(fields: dict[str, Any], scale: int) -> None:
    with torch.device("meta"):
        network = DRCT(settings=DRCTSettings(**{**SMALL, **fields}), scale=scale)
        settings, seen = settings_from_state(network.state_dict())
        rebuilt = DRCT(settings=settings, scale=seen)
    assert {key: tensor.shape for key, tensor in rebuilt.state_dict().items()} == {
        key: tensor.shape for key, tensor in network.state_dict().items()
    }


@pytest.mark.filterwarnings("ignore:DRCT. no network reads")
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_settings_are_read_from_the_published_keys_and_shapes(path: Any) -> None:
    case = load_case(path)
    with torch.device("meta"):
        network = from_options(case.options)
        published = {key: torch.empty(shape) for key, shape in {**case.shapes, **case.buffers}.items()}
    family = FAMILIES["drct"]
    assert family.files.recognises(published)
    settings, scale = family.files.from_state(published)
    assert scale == network.scale
    unseen = {"image_range", "qk_scale", "drop_path_rate"}
    assert settings.model_dump(exclude=unseen) == network.settings.model_dump(exclude=unseen)


# ---- options


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"shifted": True, "window_size": 4, "mlp_ratio": 4.0, "drop_path_rate": 0.1, "position_size": None}),
        ({"img_size": 5}, {"shifted": True, "window_size": 4}),
        ({"img_size": 4}, {"shifted": False, "window_size": 4}),
        ({"img_size": 3}, {"shifted": False, "window_size": 3}),
        ({"img_size": 16, "ape": True}, {"position_size": 16}),
        ({"qk_scale": 0}, {"qk_scale": None}),
        ({"qk_scale": 0.5}, {"qk_scale": 0.5}),
        ({"drop_rate": 0.0, "attn_drop_rate": 0, "patch_size": 1, "use_checkpoint": True}, {}),
    ],
)
def test_options_mean_what_they_mean_to_the_published_constructor(
    given: dict[str, Any], expected: dict[str, Any]
) -> None:
    network = from_options({**OPTIONS, **given})
    assert network.scale == 2
    assert network.settings.model_dump(include=set(expected)) == expected


def test_arguments_of_another_network_that_option_files_carry_are_dropped_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="DRCT: no network reads compress_ratio, overlap_ratio; ignored"):
        from_options({**OPTIONS, "compress_ratio": 3, "overlap_ratio": 0.5})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"upsampler": "nearest+conv"}, "DRCT: 'upsampler': input should be 'pixelshuffle', got 'nearest\\+conv'"),
        ({"upsampler": ""}, "DRCT: 'upsampler': input should be 'pixelshuffle', got ''"),
        ({"drop_rate": 0.1}, "DRCT: drop_rate is supported only as 0, got 0.1"),
        ({"patch_size": 2}, "DRCT: patch_size is supported only as 1, got 2"),
        ({"windowsize": 8}, r"DRCT has no argument 'windowsize' \(did you mean 'window_size'\?\)"),
        ({"upscale": 6}, "scale must be 1, 2, 3, 4, 8 or 16 for the upsampler 'pixelshuffle', got 6"),
    ],
)
def test_what_no_network_offers_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_options({**OPTIONS, **wrong})


def test_options_without_an_upsampler_are_refused_since_theirs_returns_its_input() -> None:
    with pytest.raises(ValueError, match="'upsampler': input should be 'pixelshuffle', got ''"):
        from_options({key: value for key, value in OPTIONS.items() if key != "upsampler"})
