"""Well-known networks are recognised by their keys; other keys have no likeness."""

from __future__ import annotations

import pytest

from finescale.weights.lookalikes import LOOKALIKES, looks_like

GROUP = "layers.0.residual_group."

EXAMPLES = (
    ("the Swift Parameter-free Attention", ["conv_1.sk.weight", "conv_1.sk.bias", "block_1.c1_r.sk.weight"]),
    ("CRAFT for finding text", ["basenet.slice1.0.weight", "basenet.slice5.1.weight", "upconv1.conv.0.weight"]),
    ("a LoRA", ["lora_unet_down_blocks_0_attn1.lora_down.weight", "lora_unet_down_blocks_0_attn1.alpha"]),
    ("a LoRA", ["base_model.model.layers.0.q_proj.lora_A.default.weight"]),
    ("a language model", ["model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight"]),
    ("a language model", ["wte.weight", "h.0.attn.c_attn.weight"]),
    ("ESRGAN", ["model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight"]),
    ("ESRGAN", ["conv_first.weight", "body.0.rdb1.conv1.weight", "conv_last.weight"]),
    ("ESRGAN", ["conv_first.weight", "RRDB_trunk.0.RDB1.conv1.weight"]),
    ("EDSR", ["sub_mean.weight", "head.0.weight", "body.0.body.0.weight", "tail.0.0.weight"]),
    ("EDSR", ["conv_first.weight", "body.0.conv1.weight", "upsample.0.weight"]),
    ("Real-ESRGAN's compact network", ["body.0.weight", "body.0.bias", "body.1.weight", "body.2.weight"]),
    ("a discriminator", ["conv0_0.weight", "bn0_1.weight", "linear1.weight", "linear2.weight"]),
    ("a discriminator", ["conv0.weight", "conv1.weight_orig", "conv9.weight"]),
    ("a network that classifies", ["conv1.weight", "layer1.0.conv1.weight", "fc.weight"]),
    ("a network that classifies", ["features.0.weight", "classifier.6.weight"]),
)
"""How the name begins, and some keys of such a network."""


@pytest.mark.parametrize(("start", "keys"), EXAMPLES)
def test_a_well_known_network_is_named_by_its_keys(start: str, keys: list[str]) -> None:
    assert str(looks_like(keys)).startswith(start)


def test_every_row_has_an_example() -> None:
    assert {looks_like(keys) for _, keys in EXAMPLES} == {name for name, _ in LOOKALIKES}


def test_a_mark_is_a_whole_key_and_all_of_a_row_are_needed() -> None:
    assert looks_like(["body.0.weight", "body.1.weight"]) is None
    assert looks_like(["more.fc.weight", "fc.weights"]) is None
