"""The parts of SwinIR-NG and NGswin, against the paper's formulas written out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

from finescale.layers.window_attention import attend_in_windows
from finescale.networks import FAMILIES, build, family_of, from_options
from finescale.networks.ngram import (
    Bottleneck,
    CosineAttention,
    NGswin,
    NGswinSettings,
    SwinIRNG,
    SwinIRNGSettings,
    settings_from_state,
)
from helpers import GOLDEN, load_case, seeded_input, seeded_state

FAMILY = FAMILIES["ngram"]
NGSWIN: dict[str, Any] = {
    "type": "NGswin", "embed_dim": 16, "dec_dim": 16, "depths": [1, 1, 1], "dec_depths": 1, "num_heads": [2, 2, 2],
    "dec_num_heads": 2, "window_size": 2,
}  # fmt: skip
SWINIR_NG: dict[str, Any] = {"type": "SwinIRNG", "embed_dim": 12, "depths": [1], "num_heads": [3], "window_size": 4}


def filled(network: nn.Module) -> nn.Module:
    """The network in float64 and eval mode, with weights that make every part count."""
    network.load_state_dict(seeded_state({key: tensor.shape for key, tensor in network.state_dict().items()}))
    return network.double().eval()


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


# ---- the parts


OTHERS = (".patch_embed", "patch_unembed", "_pool")
"""Ends of names of modules without parameters, which only the published networks have."""

IN_OTHER_ROWS = (".ngram_attn", ".ngram_attn.qkv", ".ngram_attn.proj", ".ngram_window_partition")
"""Ends of names of modules whose rows differ: n-grams of both directions together; maps that are not yet cut."""


@pytest.mark.parametrize("name", ["swinir-ng_tiny_a", "ngswin_tiny_a"])
def test_every_module_of_the_published_network_answers_alike(name: str) -> None:
    case = load_case(GOLDEN / "ngram" / f"{name}.npz")
    network = from_options(case.options).eval()
    network.load_state_dict(seeded_state(case.shapes))
    seen: dict[str, Tensor] = {}

    def see(path: str, module: nn.Module) -> None:
        def keep(_module: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, Tensor]) -> None:
            seen[path] = output[0] if isinstance(output, tuple) else output

        module.register_forward_hook(keep)

    with np.load(GOLDEN / "ngram" / "trace" / f"{name}.npz") as trace:
        once = (path for path in map(str, trace["order"]) if "#" not in path)
        paths = [path for path in once if not path.endswith((*OTHERS, *IN_OTHER_ROWS))]
        for path in paths:
            see(path, network.get_submodule(path))
        with torch.inference_mode():
            network(case.input)
        for path in paths:
            shape = tuple(trace[f"{path}:shape"])
            own = seen[path] if len(shape) != 4 or seen[path].shape == shape else seen[path].permute(0, 3, 1, 2)
            places = np.linspace(0, own.numel() - 1, 128).astype(np.int64)
            expected = torch.from_numpy(trace[f"{path}:values"])
            torch.testing.assert_close(
                own.reshape(-1)[places], expected, rtol=0, atol=2e-5, msg=lambda text, path=path: f"{path}: {text}"
            )


def test_attention_compares_by_cosines_times_a_factor_of_at_most_100() -> None:
    torch.manual_seed(0)
    attention = CosineAttention(channels=8, num_heads=3, head_dim=2, window_size=2, shifted=False).double()
    with torch.no_grad():
        attention.logit_scale.copy_(torch.tensor([0.5, math.log(100), 9.0])[:, None, None])
        nn.init.normal_(attention.relative_position_bias_table)
    x = numbers(1, 2, 2, 8)
    tokens = x.reshape(4, 8)
    query, key, value = attention.qkv(tokens).reshape(4, 3, 3, 2).permute(1, 2, 0, 3)
    heads = []
    for head, factor in enumerate((math.exp(0.5), 100.0, 100.0)):
        scores = torch.empty(4, 4, dtype=torch.float64)
        for i in range(4):
            for j in range(4):
                cosine = query[head, i] @ key[head, j] / query[head, i].norm() / key[head, j].norm()
                offset = 3 * (i // 2 - j // 2 + 1) + i % 2 - j % 2 + 1
                scores[i, j] = factor * cosine + attention.relative_position_bias_table[offset, head]
        heads.append(scores.softmax(-1) @ value[head])
    expected = attention.proj(torch.cat(heads, dim=-1)).reshape(1, 2, 2, 8)
    torch.testing.assert_close(attend_in_windows(attention, x), expected)


def test_a_new_attention_begins_at_a_factor_of_10() -> None:
    attention = CosineAttention(channels=8, num_heads=2, head_dim=4, window_size=2, shifted=False)
    torch.testing.assert_close(attention.logit_scale.exp(), torch.full((2, 1, 1), 10.0))


def test_a_stage_gives_each_block_the_sum_of_what_the_one_before_read_and_returned() -> None:
    network = filled(NGswin(settings=NGswinSettings(**_SMALL, depths=(3, 1, 1, 1)), scale=2))
    assert isinstance(network, NGswin)
    x = numbers(1, 16, 16, 16)
    first, second, third = network.encoder_layer1.blocks
    one = first(x)
    two = second(one + x)
    three = third(two + one + x)
    out, below = network.encoder_layer1(x)
    torch.testing.assert_close(out, three)
    downsample = network.encoder_layer1.downsample
    assert downsample is not None
    total = three + two + one + x
    corners = torch.cat([total[:, y::2, x::2] for y in (0, 1) for x in (0, 1)], dim=-1)
    torch.testing.assert_close(below, F.linear(downsample.norm(corners), downsample.reduction.weight))


_SMALL: dict[str, Any] = {"embed_dim": 16, "num_heads": (2, 2, 2, 2), "window_size": 4}


def test_a_block_adds_each_branch_after_its_norm() -> None:
    network = filled(NGswin(settings=NGswinSettings(**_SMALL, depths=(1, 1, 1, 1)), scale=2))
    assert isinstance(network, NGswin)
    block = network.decoder_layer1.blocks[0]
    x = numbers(1, 8, 8, 16)
    y = x + block.norm1(attend_in_windows(block.attn, block.ngram_window_partition(x)))
    hidden = block.ffn.fc1(y)
    gelu = hidden * torch.erfc(-hidden / 2**0.5) / 2
    torch.testing.assert_close(block(x), y + block.norm2(block.ffn.fc2(gelu)))


def test_the_bottleneck_shuffles_all_resolutions_together() -> None:
    bottleneck = filled(Bottleneck(channels=16))
    shallow, stages = numbers(1, 8, 8, 16), [numbers(1, 8, 8, 16), numbers(1, 4, 4, 16), numbers(1, 2, 2, 16)]
    assert isinstance(bottleneck, Bottleneck)
    image = shallow.permute(0, 3, 1, 2)
    parts = []
    for number, stage in enumerate(stages):
        added = stage.permute(0, 3, 1, 2) + torch.where(image < 0, 0.01 * image, image)
        parts.append(F.pixel_shuffle(added, 2**number))
        image = F.max_pool2d(image, 2)
    mixed = F.gelu(bottleneck.depthwise(torch.cat(parts, dim=1))).permute(0, 2, 3, 1)
    torch.testing.assert_close(bottleneck(shallow, stages), bottleneck.norm(bottleneck.pointwise(mixed)))


@pytest.mark.parametrize(
    ("scale", "deviation"),
    [(2, (0.2397, 0.2290, 0.2389)), (3, (0.2373, 0.2265, 0.2367)), (4, (0.2352, 0.2244, 0.2349))],
)
def test_ngswin_divides_colours_by_the_deviation_of_its_scale(scale: int, deviation: tuple[float, ...]) -> None:
    network = NGswin(settings=NGswinSettings(), scale=scale)
    mean = torch.tensor((0.4485, 0.4375, 0.4045)).reshape(1, 3, 1, 1)
    image = seeded_input((1, 3, 4, 4))
    torch.testing.assert_close(network.normalise(image), (image - mean) / torch.tensor(deviation).reshape(1, 3, 1, 1))
    torch.testing.assert_close(network.denormalise(network.normalise(image)), image)


# ---- sizes


@pytest.mark.parametrize(
    ("ngrams", "least"), [((2, 2, 2, 2), 64), ((1, 1, 1, 1), 32), ((1, 1, 1, 9), 96), ((3, 3, 2, 4), 64)]
)
def test_ngswin_extends_images_by_zeros_to_windows_enough_for_the_ngrams(
    ngrams: tuple[int, int, int, int], least: int
) -> None:
    with torch.device("meta"):
        network = NGswin(settings=NGswinSettings(ngrams=ngrams), scale=2)
    padded = network.pad(torch.ones(1, 3, 5, 100))
    assert padded.shape == (1, 3, least, 128)
    assert padded.sum() == 3 * 5 * 100
    assert network.mirrored_size((5, 128)) == (least, 128)


def test_swinir_ng_mirrors_images_to_two_windows_at_least() -> None:
    with torch.device("meta"):
        network = SwinIRNG(settings=SwinIRNGSettings(), scale=2)
    image = seeded_input((1, 3, 9, 17))
    torch.testing.assert_close(network.pad(image), F.pad(image, (0, 7, 0, 7), mode="reflect"))
    assert network.pad(seeded_input((1, 3, 1, 16))).shape == (1, 3, 16, 16)


def test_the_published_networks_have_the_published_numbers_of_parameters() -> None:
    counted = {}
    for variant in FAMILY.variants:
        for scale in (2, 3, 4):
            with torch.device("meta"):
                network = build(variant, scale=scale)
            counted[variant, scale] = sum(parameter.numel() for parameter in network.parameters())
    assert counted == {
        ("swinir-ng", 2): 1_181_448, ("swinir-ng", 3): 1_189_563, ("swinir-ng", 4): 1_200_924,
        ("ngswin", 2): 998_384, ("ngswin", 3): 1_007_039, ("ngswin", 4): 1_019_156,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "wrong", "message"),
    [
        (NGswinSettings, {"embed_dim": 24}, "multiple of 16"),
        (NGswinSettings, {"depths": (6, 4, 4)}, "depths.3"),
        (NGswinSettings, {"depths": (6, 4, 0, 6)}, r"depths must be at least 1 for each stage, got \(6, 4, 0, 6\)"),
        (NGswinSettings, {"ngrams": (2, 2, 2, 0)}, r"ngrams must be at least 1 for each stage, got \(2, 2, 2, 0\)"),
        (NGswinSettings, {"num_heads": (6, 4, 33, 6)}, r"num_heads must be at most half of embed_dim 64, got"),
        (NGswinSettings, {"head_dims": (6, 4, 0, 6)}, r"head_dims must be at least 1, got \(6, 4, 0, 6\)"),
        (NGswinSettings, {"mlp_ratios": (2, 2, 0.01, 2)}, "mlp_ratios leave no hidden channels of 64"),
        (NGswinSettings, {"in_channels": 1}, "unit_deviation must be false for images of 1 channels"),
        (SwinIRNGSettings, {"embed_dim": 61}, "multiple of 2"),
        (SwinIRNGSettings, {"num_heads": (6, 6, 6, 4)}, "embed_dim must be a multiple of the heads, got 30 and 4"),
        (SwinIRNGSettings, {"shifted": False}, "shifted"),
    ],
)
def test_settings_that_make_no_network_are_refused(kind: type[Any], wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        kind(**wrong)


@pytest.mark.parametrize("scale", [1, 5, 8])
def test_ngswin_exists_at_the_published_scales_alone(scale: int) -> None:
    with pytest.raises(ValueError, match="scale must be 2, 3 or 4"):
        NGswin(settings=NGswinSettings(), scale=scale)


# ---- options


@pytest.mark.parametrize(
    ("options", "variant", "scale"),
    [
        ({"type": "SwinIRNG", "upscale": 3, "img_size": 64, "window_size": 8}, "swinir-ng", 3),
        ({"type": "SwinIRNG"}, "swinir-ng", 2),
        ({"type": "NGswin", "training_img_size": 48, "target_mode": "light_x4", "weight_init": ""}, "ngswin", 4),
        ({"type": "NGswin", "head_dim": [10, 16, 16], "dec_head_dim": 10, "mlp_ratio": [2, 2, 2, 2]}, "ngswin", 2),
    ],
)
def test_published_arguments_make_the_published_network(options: dict[str, Any], variant: str, scale: int) -> None:
    with torch.device("meta"):
        network = from_options(options)
    assert network.scale == scale
    assert network.settings == FAMILY.variants[variant]
    assert family_of(network) is FAMILY


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({**NGSWIN, "target_mode": "light_x5"}, "target_mode must be light_x2, light_x3 or light_x4, got 'light_x5'"),
        ({**NGSWIN, "dec_dim": 32}, "dec_dim must equal embed_dim 16, got 32"),
        ({**NGSWIN, "in_chans": 1}, "img_norm must be False for 1 channels, got True"),
        ({**NGSWIN, "upscale": 2}, "NGswin has no argument 'upscale'"),
        ({**NGSWIN, "ngram": 2}, r"NGswin has no argument 'ngram' \(did you mean 'ngrams'\?\)"),
        ({**NGSWIN, "drop_rate": 0.1}, "NGswin: drop_rate is supported only as 0, got 0.1"),
        ({**NGSWIN, "num_heads": [2, 2, 9]}, "NGswin: num_heads must be at most half of embed_dim 16"),
        ({**SWINIR_NG, "img_size": 4}, "SwinIRNG: img_size must exceed window_size 4, got 4"),
        ({**SWINIR_NG, "upsampler": "", "upscale": 2}, "scale must be 1"),
        ({**SWINIR_NG, "upsampler": "nearest+conv", "upscale": 3}, "scale must be 2 or 4"),
        ({**SWINIR_NG, "num_heads": [4]}, "SwinIRNG: embed_dim must be a multiple of the heads, got 6 and 4"),
    ],
)
def test_arguments_that_make_no_network_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_options(options)


# ---- weight files


def test_ngrams_of_another_size_are_not_those_of_swinir_ng() -> None:
    state = dict(from_options(SWINIR_NG).state_dict())
    block = "layers.0.residual_group.blocks.0.ngram_window_partition.ngram_context."
    state[block + "ngram_attn.relative_position_bias_table"] = torch.zeros(25, 3)
    with pytest.raises(ValueError, match="n-grams of SwinIR-NG must have 2 x 2 windows, got 3 x 3"):
        settings_from_state(state)


def test_a_file_is_told_from_those_of_networks_that_have_the_same_parts() -> None:
    state = from_options(SWINIR_NG).state_dict()
    assert FAMILY.files.recognises(state)
    without_context = {key: tensor for key, tensor in state.items() if "ngram" not in key}
    assert not FAMILY.files.recognises(without_context)
    hit_sng = FAMILIES["hit-sr"].network(settings=FAMILIES["hit-sr"].tiny["hit-sng"], scale=2).state_dict()
    assert not FAMILY.files.recognises(hit_sng)
    assert not FAMILIES["hit-sr"].files.recognises(state)


def test_a_file_of_the_one_network_shows_nothing_of_the_other() -> None:
    states = {variant: build(variant, scale=2).state_dict() for variant in FAMILY.variants}
    for variant, other in (("swinir-ng", "ngswin"), ("ngswin", "swinir-ng")):
        assert FAMILY.files.unseen(FAMILY.variants[variant], states[variant])
        assert FAMILY.files.unseen(FAMILY.variants[variant], states[other]) == ()


def test_the_variant_of_the_other_network_differs_in_every_field() -> None:
    settings = FAMILY.variants["ngswin"]
    assert FAMILY.nearest(settings) == ("ngswin", [])
    assert FAMILY.differing(settings, "swinir-ng") == list(SwinIRNGSettings.model_fields)
