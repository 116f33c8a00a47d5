"""The parts of SRFormer, and how its files and options are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from finescale import weights
from finescale.networks import FAMILIES, from_options
from finescale.networks.srformer import PermutedAttention, SRFormer, SRFormerSettings
from helpers import GOLDEN, load_case, published_buffers, seeded_state
from networks.test_swinir import modules_of_trace

SMALL: dict[str, Any] = {"embed_dim": 12, "depths": (2,), "num_heads": (3,), "window_size": 6}
OPTIONS: dict[str, Any] = {
    "type": "SRFormer",
    "embed_dim": 12,
    "depths": [2],
    "num_heads": [3],
    "window_size": 6,
    "upsampler": "pixelshuffle",
}
CASES = sorted((GOLDEN / "srformer").glob("*.npz"))


def network_of(**fields: Any) -> SRFormer:
    """A small network in eval mode, in float64, with weights that make every part count."""
    network = SRFormer(settings=SRFormerSettings(**{**SMALL, **fields}), scale=2)
    network.load_state_dict(seeded_state({key: tensor.shape for key, tensor in network.state_dict().items()}))
    return network.double().eval()


def attention_of(network: SRFormer, layer: int) -> PermutedAttention:
    attention = network.get_submodule(f"layers.0.residual_group.blocks.{layer}.attn")
    assert isinstance(attention, PermutedAttention)
    return attention


def test_every_module_of_the_published_network_answers_alike() -> None:
    answers = modules_of_trace("srformer", "srformer_tiny_a")
    assert len(answers) > 25
    for name, (ours, theirs) in answers.items():
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_a_key_holds_the_quarters_of_its_cell_one_after_another() -> None:
    attention = attention_of(network_of(), 0)
    windows = torch.randn(2, 36, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    _query, key, value = attention.project(windows)
    narrow = attention.kv(windows).reshape(2, 6, 6, 2, 3)  # (K, y, x, key or value, C/4)
    for a in range(3):
        for b in range(3):
            pixels = [narrow[:, 2 * a + r, 2 * b + c] for r in (0, 1) for c in (0, 1)]
            for number, folded in enumerate((key, value)):
                expected = torch.cat([pixel[:, number] for pixel in pixels], dim=-1)
                torch.testing.assert_close(folded[:, :, 3 * a + b].flatten(1), expected)


def labels(side: int, window: int, first: int) -> Tensor:
    """Labels 0, 1, 2 of a padded side: up to the last window, then up to ``first`` from the end, then to the end."""
    place = torch.arange(side)
    return (place >= side - window).int() + (place >= side - first).int()


@pytest.mark.parametrize("window", [2, 4, 6, 8])
def test_the_mask_is_the_published_one(window: int) -> None:
    side, half = 3 * window, window // 2
    attention = attention_of(network_of(window_size=window), 1)
    mask = attention.mask((side, side))
    queries = labels(side, window, half)
    keys = labels(side // 2, half, -(-half // 2))
    for row in range(3):
        for column in range(3):
            rows, columns = slice(row * window, (row + 1) * window), slice(column * window, (column + 1) * window)
            query = (3 * queries[rows, None] + queries[None, columns]).flatten()
            rows, columns = slice(row * half, (row + 1) * half), slice(column * half, (column + 1) * half)
            key = (3 * keys[rows, None] + keys[None, columns]).flatten()
            expected = -100.0 * (query[:, None] != key[None, :])
            if window == 2:  # a query without any key forgets its mask
                continue
            assert torch.equal(mask[3 * row + column], expected)
    assert mask.shape == (9, window**2, half**2)


def test_without_a_mask_opposite_ends_meet() -> None:
    with_mask, without = network_of(), network_of(shift_mask=False)
    image = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert (with_mask(image) - without(image)).abs().max() > 1e-3


# ---- settings and options


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"window_size": 7}, "window_size must be even, got 7"),
        ({"embed_dim": 18}, "embed_dim must be a multiple of 4, got 18"),
        ({"num_heads": (5,)}, "embed_dim must be a multiple of the heads, got 12 and 5"),
    ],
)
def test_settings_that_make_no_network_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SRFormerSettings(**{**SMALL, **wrong})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"shifted": True, "shift_mask": True, "position_size": None}),
        ({"img_size": 6}, {"shifted": False}),
        ({"img_size": 5}, {"shifted": False}),
        ({"img_size": 7, "ape": True}, {"shifted": True, "position_size": 12}),
        ({"shift_mask": False}, {"shift_mask": False}),
    ],
)
def test_options_mean_what_they_mean_to_the_published_constructor(
    given: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert from_options({**OPTIONS, **given}).settings.model_dump(include=set(expected)) == expected


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"upsampler": "nearest+conv"}, "scale must be 4 for the upsampler 'nearest\\+conv', got 2"),
        ({"upsampler": None}, "scale must be 1 for the upsampler 'restoration', got 2"),
        ({"img_size": [64, 64]}, r"SRFormer: img_size must be a whole number, got \[64, 64\]"),
        ({"window_size": 7}, "SRFormer: window_size must be even, got 7"),
    ],
)
def test_what_no_network_offers_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_options({**OPTIONS, **wrong})


# ---- files


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_settings_are_read_from_the_published_keys_and_shapes(path: Path) -> None:
    case = load_case(path)
    with torch.device("meta"):
        network = from_options(case.options)
        published = {key: torch.empty(shape) for key, shape in case.shapes.items()}
    published |= {key: torch.zeros(shape) for key, shape in case.buffers.items()}
    assert [family.name for family in FAMILIES.values() if family.files.recognises(published)] == ["srformer"]
    settings, scale = FAMILIES["srformer"].files.from_state(published)
    assert scale == network.scale
    unseen = {"image_range", "qk_scale", "drop_path_rate", "shift_mask", "mlp_ratio"}
    assert settings.hidden == network.settings.hidden  # type: ignore[attr-defined]
    assert settings.model_dump(exclude=unseen) == network.settings.model_dump(exclude=unseen)


def test_masks_that_hide_every_key_show_the_code_that_masked_nothing(tmp_path: Path) -> None:
    case = load_case(GOLDEN / "srformer" / "srformer_tiny_a.npz")
    state = {**seeded_state(case.shapes), **published_buffers(case)}
    (mask,) = (key for key in state if key.endswith("layers.0.residual_group.blocks.1.attn_mask"))
    torch.save({"params": state}, tmp_path / "new.pth")
    state[mask][-1, 3] = -100
    torch.save({"params": state}, tmp_path / "old.pth")
    new, old = (weights.inspect(tmp_path / name) for name in ("new.pth", "old.pth"))
    assert (new.settings.shift_mask, old.settings.shift_mask) == (True, False)
    note = "its masks hide nothing, as those from before July 2023: shift_mask = False"
    assert (note in new.notes, note in old.notes) == (False, True)


def test_a_file_without_masks_is_taken_as_of_today_and_says_so(tmp_path: Path) -> None:
    torch.save(network_of().float().state_dict(), tmp_path / "net.pth")
    found = weights.inspect(tmp_path / "net.pth")
    assert found.settings.shift_mask is True
    assert any("shift_mask = True" in note for note in found.notes)


def test_files_of_the_second_network_in_the_repository_are_not_read(tmp_path: Path) -> None:
    state = network_of().state_dict()
    state["layers.0.residual_group.blocks.1.attn.qkv.weight"] = torch.zeros(36, 12)
    assert not FAMILIES["srformer"].files.recognises(state)
