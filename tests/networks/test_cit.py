"""The parts of CIT, as we read it, against their formulas; and that it begins as the DAT-light it starts from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

from finescale.networks.cit import (
    CIT,
    EIB,
    FAMILY,
    HFAB,
    CITSettings,
    ContrastGate,
    neighbourhood_max,
    neighbourhood_mean,
    settings_from_options,
    settings_from_state,
)
from helpers import GOLDEN, load_case, offsets

CASES = [pytest.param(path, id=path.stem) for path in sorted((GOLDEN / "cit").glob("*.npz"))]
SIZES = [(1, 1), (1, 4), (2, 3), (5, 4)]


def random(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module.double()


def over_neighbours(image: Tensor, reduce: Callable[[Tensor], Tensor]) -> Tensor:
    """``reduce`` of the pixels at most one away from each, those outside the image left out."""
    answer = torch.empty_like(image)
    for y, x in ((y, x) for y in range(image.shape[2]) for x in range(image.shape[3])):
        answer[:, :, y, x] = reduce(image[:, :, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].flatten(2))
    return answer


# ---- the three additions


@pytest.mark.parametrize("size", SIZES)
def test_neighbourhoods_end_at_the_border(size: tuple[int, int]) -> None:
    image = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(neighbourhood_mean(image), over_neighbours(image, lambda pixels: pixels.mean(-1)))
    torch.testing.assert_close(neighbourhood_max(image), over_neighbours(image, lambda pixels: pixels.amax(-1)))


@torch.no_grad()
@pytest.mark.parametrize("size", SIZES)
def test_hfab_adds_a_gated_high_pass(size: tuple[int, int]) -> None:
    layer = random(HFAB(channels=8))
    image = torch.randn(2, 8, *size, dtype=torch.float64)
    detail = image - over_neighbours(image, lambda pixels: pixels.mean(-1))
    squeezed = F.leaky_relu(layer.squeeze(detail), 0.1)
    enriched = F.leaky_relu(squeezed + layer.conv(squeezed), 0.1)
    expected = image + layer.weight.reshape(8, 1, 1) * torch.sigmoid(layer.excite(enriched)) * detail
    torch.testing.assert_close(layer(image), expected)


@torch.no_grad()
def test_hfab_leaves_a_constant_image_alone() -> None:
    image = torch.full((1, 8, 5, 4), 0.7, dtype=torch.float64)
    torch.testing.assert_close(random(HFAB(channels=8))(image), image)


@torch.no_grad()
def test_eib_multiplies_with_surroundings_of_17_pixels() -> None:
    layer = random(EIB(channels=4))
    image = torch.randn(1, 4, 21, 21, dtype=torch.float64)
    features = F.gelu(image)
    torch.testing.assert_close(layer(image), image + features * layer.dwd(layer.dw(features)))
    changed = image.clone()
    changed[..., 10, 10] += 1
    moved = (layer(changed) - layer(image)).abs().sum((0, 1)) > 0
    rows, columns = moved.any(1).nonzero(), moved.any(0).nonzero()
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 18, 2, 18)


@torch.no_grad()
@pytest.mark.parametrize("size", SIZES)
def test_ghff_adds_the_local_contrast_to_the_gate(size: tuple[int, int]) -> None:
    layer = random(ContrastGate(channels=6))
    x = torch.randn(2, *size, 6, dtype=torch.float64)
    gate = layer.conv(layer.norm(x).permute(0, 3, 1, 2))
    contrast = over_neighbours(gate, lambda pixels: pixels.amax(-1) - pixels.mean(-1))
    expected = gate + layer.weight.reshape(6, 1, 1) * contrast
    torch.testing.assert_close(layer(x), expected.permute(0, 2, 3, 1))


# ---- where it starts


def test_all_that_is_added_begins_at_zero() -> None:
    network = CIT(settings=FAMILY.tiny["cit"], scale=2)
    zeros = {key for key, parameter in network.named_parameters() if not parameter.any()}
    for part in ("hfab.weight", "eib.dwd.weight", "eib.dwd.bias"):
        assert {f"layers.0.blocks.{block}.attn.{part}" for block in range(3)} <= zeros
    assert {f"layers.0.blocks.{block}.ffn.sg.weight" for block in range(3)} <= zeros
    for block, branch in [(0, 0), (0, 1), (2, 0), (2, 1)]:
        last = f"layers.0.blocks.{block}.attn.attns.{branch}.pos.pos3.2."
        assert {last + "weight", last + "bias"} <= zeros


# ---- sizes, files, options


def test_the_network_has_the_number_of_parameters_that_its_formulas_add_up_to() -> None:
    counted = []
    for scale in (2, 3, 4):
        with torch.device("meta"):
            network = CIT(settings=CITSettings(), scale=scale)
        counted.append(sum(parameter.numel() for parameter in network.parameters()))
    assert counted == [652_092, 660_207, 671_568]


@pytest.mark.parametrize("path", CASES)
def test_a_file_shows_its_settings_but_not_the_window(path: Path) -> None:
    case = load_case(path)
    state = {key: torch.empty(shape, device="meta") for key, shape in case.shapes.items()}
    settings, scale = settings_from_options(case.options)
    assert FAMILY.files.recognises(state)
    assert settings_from_state(state) == (settings.model_copy(update={"window_size": (8, 32)}), scale)


@pytest.mark.parametrize("path", CASES)
def test_offsets_in_a_file_show_the_window(path: Path) -> None:
    case = load_case(path)
    h, w = case.config["split_size"]
    state = {key: torch.empty(shape, device="meta") for key, shape in case.shapes.items()}
    state["layers.0.blocks.0.attn.attns.0.rpe_biases"] = offsets(h, w)
    assert settings_from_state(state) == settings_from_options(case.options)


def test_a_file_of_dat_is_not_taken_for_one_of_cit() -> None:
    case = load_case(GOLDEN / "dat" / "dat-light_x2.npz")
    assert not FAMILY.files.recognises({key: torch.empty(shape, device="meta") for key, shape in case.shapes.items()})


def test_what_options_leave_out_is_the_one_size_there_is() -> None:
    assert settings_from_options({"type": "CIT"}) == (CITSettings(), 2)


def test_a_position_bias_without_width_is_refused() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        CITSettings(pos_dim=0)
