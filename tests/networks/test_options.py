"""The ``network_g`` block of a published option file is taken as it is, and nothing in it is dropped in silence."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from finescale.networks import from_options, variants

PUBLISHED = {
    "type": "HiT_SRF",
    "upscale": 3,
    "in_chans": 3,
    "img_size": 64,
    "base_win_size": [8, 8],
    "img_range": 1.0,
    "depths": [6, 6, 6, 6],
    "embed_dim": 60,
    "num_heads": [6, 6, 6, 6],
    "mlp_ratio": 2,
    "resi_connection": "1conv",
    "hier_win_ratios": [0.5, 1, 2, 4, 6, 8],
    "upsampler": "pixelshuffledirect",
}
DRCT: dict[str, Any] = {
    "type": "DRCT", "upscale": 4, "in_chans": 3, "img_size": 64, "window_size": 16, "compress_ratio": 3,
    "squeeze_factor": 30, "conv_scale": 0.01, "overlap_ratio": 0.5, "img_range": 1.0, "depths": [6] * 6,
    "embed_dim": 180, "num_heads": [6] * 6, "mlp_ratio": 2, "upsampler": "pixelshuffle", "resi_connection": "1conv",
}  # fmt: skip
HAT: dict[str, Any] = {**DRCT, "type": "HAT"}  # all of whose arguments are HAT's own
DAT: dict[str, Any] = {
    "type": "DAT", "upscale": 4, "in_chans": 3, "img_size": 64, "img_range": 1.0, "split_size": [8, 32],
    "depth": [6] * 6, "embed_dim": 180, "num_heads": [6] * 6, "expansion_factor": 4, "resi_connection": "1conv",
}  # fmt: skip
LIGHT = {
    "depth": [18], "embed_dim": 60, "num_heads": [6], "expansion_factor": 2, "resi_connection": "3conv",
    "upsampler": "pixelshuffledirect",
}  # fmt: skip
CRAFT: dict[str, Any] = {
    "type": "CRAFT", "upscale": 4, "in_chans": 3, "img_size": 64, "window_size": 16, "img_range": 1.0,
    "depths": [2] * 4, "embed_dim": 48, "num_heads": [6] * 4, "mlp_ratio": 2, "upsampler": "pixelshuffledirect",
    "resi_connection": "1conv",
}  # fmt: skip
SPAN: dict[str, Any] = {
    "type": "SPAN", "upscale": 4, "in_chans": 3, "img_size": 66, "window_size": 12, "overlap_size": 3,
    "padding_size": 0, "img_range": 1.0, "depths": [2] * 6, "embed_dim": 60, "num_heads": [6] * 6, "mlp_ratio": 2,
    "upsampler": "pixelshuffledirect", "resi_connection": "1conv",
}  # fmt: skip
SMALL: dict[str, Any] = {"type": "HiT_SIR", "upscale": 2, "embed_dim": 16, "depths": [1], "num_heads": [2]}


def test_a_published_block_makes_the_published_network() -> None:
    network = from_options(PUBLISHED)
    assert network.scale == 3
    assert sum(parameter.numel() for parameter in network.parameters()) == 855_059


@pytest.mark.filterwarnings("ignore:DRCT. no network reads compress_ratio, squeeze_factor, conv_scale, overlap_ratio")
@pytest.mark.filterwarnings("ignore:HiT_SNG. no network reads expansion_factor")
@pytest.mark.parametrize(
    ("block", "variant"),
    [
        ({**PUBLISHED, "type": "HiT_SIR"}, "hit-sir"),
        ({**PUBLISHED, "type": "HiT_SNG", "expansion_factor": 2}, "hit-sng"),
        (PUBLISHED, "hit-srf"),
        (CRAFT, "craft"),
        (DRCT, "drct"),
        ({**DRCT, "depths": [6] * 12, "num_heads": [6] * 12}, "drct-l"),
        (SPAN, "span"),
        ({**HAT, "embed_dim": 144, "compress_ratio": 24, "squeeze_factor": 24}, "hat-s"),
        (HAT, "hat"),
        ({**HAT, "depths": [6] * 12, "num_heads": [6] * 12}, "hat-l"),
        (DAT, "dat"),
        ({**DAT, "expansion_factor": 2}, "dat-2"),
        ({**DAT, "expansion_factor": 2, "split_size": [8, 16]}, "dat-s"),
        ({**DAT, **LIGHT}, "dat-light"),
        ({**DAT, **LIGHT, "type": "CIT", "pos_dim": 8}, "cit"),
    ],
)
def test_the_block_of_every_published_option_file_makes_its_variant(block: dict[str, Any], variant: str) -> None:
    with torch.device("meta"):
        network = from_options(block)
    assert network.scale == block["upscale"]
    assert network.settings == variants()[variant].variants[variant]


def test_a_block_is_not_changed_by_being_read() -> None:
    block = dict(SMALL)
    from_options(block)
    assert block == SMALL


def test_what_is_left_out_has_the_published_default() -> None:
    full = from_options({"type": "HiT_SRF"})
    assert full.scale == 4
    assert full.settings == from_options(PUBLISHED).settings


def test_a_key_that_published_files_carry_in_vain_is_dropped_with_a_warning_at_the_caller() -> None:
    with pytest.warns(UserWarning, match="HiT_SIR: no network reads expansion_factor; ignored") as caught:
        from_options({**SMALL, "expansion_factor": 2})
    assert caught[0].filename == __file__


def test_arguments_without_effect_are_dropped_silently() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from_options({**SMALL, "img_size": 48, "use_checkpoint": True})


@pytest.mark.parametrize("neutral", [{"drop_rate": 0.0}, {"drop_path_rate": 0}, {"ape": False}, {"patch_size": 1}])
def test_arguments_at_their_neutral_value_are_taken(neutral: dict[str, Any]) -> None:
    from_options({**SMALL, **neutral})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"drop_rate": 0.1}, "HiT_SIR: drop_rate is supported only as 0, got 0.1"),
        ({"ape": True}, "HiT_SIR: ape is supported only as False, got True"),
        ({"patch_size": 2}, "HiT_SIR: patch_size is supported only as 1, got 2"),
        ({"embed_dims": 16}, r"HiT_SIR has no argument 'embed_dims' \(did you mean 'embed_dim'\?\)"),
        ({"window_size": 8}, "HiT_SIR has no argument 'window_size'"),
        ({"scale": 2}, "HiT_SIR has no argument 'scale'"),
        ({"type": "HiT_SFR"}, r"network type 'HiT_SFR' is unknown \(did you mean 'HiT_SRF'\?\); known: HiT_SIR, "),
        ({"upscale": 0}, "scale must be 1 to 16 for the upsampler 'pixelshuffledirect', got 0"),
        ({"upscale": 2.0}, "scale must be 1 to 16 for .*, got 2.0"),
        ({"upscale": True}, "scale must be 1 to 16 for .*, got True"),
        ({"num_heads": [3]}, "HiT_SIR: embed_dim must be a multiple of twice the heads, got 16 and 3"),
        ({"embed_dim": "wide"}, "HiT_SIR: 'embed_dim': input should be a valid integer.*got 'wide'"),
        ({"upsampler": "nearest+conv"}, "scale must be 4 for the upsampler .*, got 2"),
        ({"base_win_size": [8]}, "HiT_SIR: 'base_window.1' is missing"),
        ({"resi_connection": "2conv"}, "HiT_SIR: 'residual_conv': input should be '1conv' or '3conv', got '2conv'"),
    ],
)
def test_what_no_network_offers_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_options({**SMALL, **wrong})


def test_a_block_without_type_is_refused() -> None:
    with pytest.raises(ValueError, match="network type None is unknown; known: HiT_SIR, HiT_SNG, HiT_SRF"):
        from_options({"upscale": 2})
