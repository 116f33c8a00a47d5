"""Our networks, written out, give the same answer in code that is not ours, and the other way round.

spandrel has the published networks of five families. It has no HiT-SR and no CIT; what it calls SPAN is another one.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from finescale import weights
from finescale.networks import FAMILIES, Family, Frame, FrameSettings
from finescale.weights import load_by_spandrel
from heads import heads
from helpers import seeded_input, seeded_state

TOLERANCE = 1e-5

_DAT = {"depths": (3, 2), "num_heads": (6, 6)}  # shifted and unshifted blocks in both groups, and both attentions
_TWO_GROUPS = {"depths": (6, 6), "num_heads": (6, 6)}

NETWORKS: dict[str, tuple[str, FrameSettings]] = {
    "craft": ("craft", FAMILIES["craft"].variants["craft"]),
    "craft, turned and odd": (
        "craft",
        FAMILIES["craft"]
        .variants["craft"]
        .model_copy(
            update={"depths": (1, 2), "num_heads": (2, 6), "embed_dim": 96, "split_size": (8, 16), "qkv_bias": False}
        ),
    ),
    "drct, two groups": ("drct", FAMILIES["drct"].variants["drct"].model_copy(update=_TWO_GROUPS)),
    **{f"{variant}, tiny": ("drct", tiny) for variant, tiny in FAMILIES["drct"].tiny.items()},
    "hat-s, two groups": ("hat", FAMILIES["hat"].variants["hat-s"].model_copy(update=_TWO_GROUPS)),
    "hat, tiny": ("hat", FAMILIES["hat"].tiny["hat-l"].model_copy(update={"conv_scale": 0.01})),  # theirs, in any file
    "swinir, tiny": ("swinir", FAMILIES["swinir"].tiny["swinir"]),
    "swinir-light, two groups": (
        "swinir",
        FAMILIES["swinir"].variants["swinir-light"].model_copy(update={"depths": (2, 2), "num_heads": (6, 6)}),
    ),
    **{f"{variant}, tiny": ("dat", tiny) for variant, tiny in FAMILIES["dat"].tiny.items()},
    **{
        f"{variant}, {len(settings.depths)} groups": ("dat", settings)
        for variant, settings in (
            (variant, settings.model_copy(update=_DAT)) for variant, settings in FAMILIES["dat"].variants.items()
        )
    },
}
"""Family and settings; of the large ones few groups, as the others are more of the same."""

SIZES = {"craft": (20, 40), "drct": (32, 48), "hat": (21, 35), "swinir": (19, 35), "dat": (19, 35)}
"""Where the two agree how an image is padded.

The published CRAFT adds a whole window where nothing is missing, ours nothing: no side is a multiple of 16. The DRCT of
spandrel leaves padding to its caller: whole windows.
"""


def network_of(family: str, settings: FrameSettings, *, scale: int) -> Frame:
    network = FAMILIES[family].network(settings=settings, scale=scale).eval()
    state = {key: tensor for key, tensor in network.state_dict().items() if tensor.is_floating_point()}
    statistics = {key: tensor for key, tensor in state.items() if ".running_" in key}
    seeded = seeded_state({key: tuple(tensor.shape) for key, tensor in state.items()})
    network.load_state_dict({**network.state_dict(), **seeded, **statistics})
    return network


@torch.inference_mode()
def assert_same_answer(ours: Frame, theirs: Any, family: str) -> None:
    image = seeded_input((1, ours.in_channels, *SIZES[family]))
    answer, expected = ours(image), theirs(image)
    assert answer.shape == expected.shape
    assert expected.std() > 0.1
    difference = float((answer - expected).abs().max())
    assert difference <= TOLERANCE, f"largest difference {difference:.2e} of deviation {expected.std():.2f}"


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("scale", [2, 3])
def test_our_file_gives_our_answer_in_spandrel(name: str, scale: int, spandrel: ModuleType, tmp_path: Path) -> None:
    family, settings = NETWORKS[name]
    ours = network_of(family, settings, scale=scale)
    weights.save(ours, tmp_path / "net.safetensors", source="a test", published_buffers=True)
    theirs = load_by_spandrel(tmp_path / "net.safetensors").network
    assert theirs.architecture.lower() == family
    assert theirs.scale == scale
    assert_same_answer(ours, theirs.model, family)


@pytest.mark.parametrize("variant", ["swinir-real-m", "swinir-real-l", "swinir-gray-dn", "swinir-color-car"])
def test_every_head_of_swinir_gives_our_answer_in_spandrel(variant: str, spandrel: ModuleType, tmp_path: Path) -> None:
    family = FAMILIES["swinir"]
    ours = network_of("swinir", family.tiny[variant], scale=family.scales(variant)[-1])
    weights.save(ours, tmp_path / "net.safetensors", source="a test", published_buffers=True)
    theirs = load_by_spandrel(tmp_path / "net.safetensors").network
    assert_same_answer(ours, theirs.model, "swinir")


@pytest.mark.parametrize("name", [name for name, (family, _) in NETWORKS.items() if family == "drct"])
def test_spandrel_knows_the_shift_from_the_buffers(name: str, spandrel: ModuleType, tmp_path: Path) -> None:
    family, settings = NETWORKS[name]
    unshifted = settings.model_copy(update={"shifted": False})
    ours = network_of(family, unshifted, scale=2)
    weights.save(ours, tmp_path / "net.safetensors", source="a test", published_buffers=True)
    theirs = load_by_spandrel(tmp_path / "net.safetensors").network
    assert_same_answer(ours, theirs.model, family)
    assert weights.load(tmp_path / "net.safetensors").settings == unshifted


@pytest.mark.parametrize(
    "name", ["craft", "drct, two groups", "hat, tiny", "swinir, tiny", "dat, tiny", "dat-light, 2 groups"]
)
def test_their_file_gives_their_answer_in_ours(name: str, spandrel: ModuleType, tmp_path: Path) -> None:
    family, settings = NETWORKS[name]
    ours = network_of(family, settings, scale=4)
    weights.save(ours, tmp_path / "net.safetensors", source="a test", published_buffers=True)
    theirs = load_by_spandrel(tmp_path / "net.safetensors").network.model
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.mul_(1 + 0.1 * torch.randn_like(parameter))
    torch.save({"params": theirs.state_dict()}, tmp_path / "theirs.pth")
    loaded = weights.load(tmp_path / "theirs.pth")
    assert (loaded.family, loaded.scale) == (family, 4)
    assert_same_answer(loaded.network, theirs, family)


@pytest.mark.parametrize(
    ("family", "settings", "scale"),
    [head for head in heads(["drct", "dat"]) if head.id != "dat-pixelshuffle-x1"],  # which spandrel does not know
)
@pytest.mark.parametrize("channels", [1, 3])
def test_at_scales_1_and_8_our_file_gives_our_answer_in_spandrel(
    family: Family, settings: FrameSettings, scale: int, channels: int, spandrel: ModuleType, tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"in_channels": channels})
    ours = network_of(family.name, settings, scale=scale)
    weights.save(ours, tmp_path / "net.safetensors", source="a test", published_buffers=True)
    theirs = load_by_spandrel(tmp_path / "net.safetensors").network
    assert (theirs.architecture.lower(), theirs.scale) == (family.name, scale)
    assert_same_answer(ours, theirs.model, family.name)
