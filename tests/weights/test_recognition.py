"""A weight file of any origin is recognised as the network that it holds, or refused with the reason."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from finescale import networks, weights
from finescale.errors import UnknownNetworkError, WeightsError, WeightsMismatchError
from finescale.networks import FAMILIES
from finescale.weightfiles.tensors import StoredTensors
from finescale.weights.header import header_of
from finescale.weights.quantized import Content
from finescale.weights.recognition import Match, recognise
from helpers import STATISTICS, load_case, published_buffers, seeded_state
from publishing import publish, tiny_network, write

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = sorted(path.stem for path in (GOLDEN / "hit-sr").glob("*.npz"))
FILES = [pytest.param(path, id=path.stem) for family in FAMILIES for path in sorted((GOLDEN / family).glob("*.npz"))]

NOT_IN_SHAPES: dict[str, dict[str, Any]] = {
    "hit-sir_tiny_block": {"base_window": (4, 4)},
    "hit-sir_tiny_hier": {"base_window": (4, 4)},
    "hit-sir_tiny_nearest": {"base_window": (4, 4)},
    "hit-sir_tiny_restore_x1": {"base_window": (4, 4), "image_range": 2.0},
    "hit-sir_tiny_shuffle_x8": {"base_window": (4, 4)},
    "hit-sir_tiny_rect": {"base_window": (4, 8), "window_ratios": (0.5, 2.0)},
    "hit-srf_tiny_block": {"base_window": (4, 4)},
    "hit-srf_tiny_direct_x1": {"base_window": (4, 4)},
    "hit-srf_tiny_direct_x8": {"base_window": (4, 4)},
    "hit-srf_tiny_hier": {"base_window": (4, 4)},
    "hit-srf_tiny_options": {"base_window": (4, 4), "image_range": 4.0},
}
"""For each golden case, the settings that its file cannot show and that are not the published ones."""


def write_case(name: str, path: Path) -> Path:
    """A golden case as the file that the published training code would have saved."""
    case = load_case(GOLDEN / "hit-sr" / f"{name}.npz")
    return write({"params": {**seeded_state(case.shapes), **published_buffers(case)}}, path)


def recognised(tensors: dict[str, torch.Tensor], header: dict[str, str] | None = None) -> Match:
    """What tensors are recognised as that were read from a file with this header."""
    stored = StoredTensors(format="torch", wrapper=None, prefix="", header=header or {}, tensors=tensors)
    return recognise(Content(stored=stored), given={})


@pytest.mark.parametrize("name", CASES)
def test_a_published_file_shows_family_settings_and_scale(name: str) -> None:
    case = load_case(GOLDEN / "hit-sr" / f"{name}.npz")
    with torch.device("meta"):
        expected = networks.from_options({"type": case.arch, **case.config})
    parameters = {key: torch.zeros(()).expand(shape) for key, shape in case.shapes.items()}
    facts = recognised({**parameters, **published_buffers(case)})
    assert (facts.family, facts.scale) == ("hit-sr", expected.scale)
    differing = {
        field: getattr(expected.settings, field)
        for field in type(expected.settings).model_fields
        if getattr(facts.settings, field) != getattr(expected.settings, field)
    }
    assert differing == NOT_IN_SHAPES.get(name, {})
    assert set(differing) <= set(FAMILIES["hit-sr"].files.unseen(expected.settings, {}))
    published = "tiny" not in name and "onegroup" not in name
    assert facts.variant == (name.split("_")[0] if published else None)
    assert facts.num_parameters == sum(parameter.numel() for parameter in expected.parameters())


@pytest.mark.filterwarnings("ignore:DRCT. no network reads")
@pytest.mark.parametrize("path", FILES)
def test_the_tensors_of_every_golden_case_are_recognised_with_all_that_they_show(path: Path) -> None:
    case = load_case(path)
    family = next(family for family in FAMILIES.values() if case.arch in family.options.classes)
    expected, scale = family.options.read(case.options)
    parameters = {key: torch.zeros(()).expand(shape) for key, shape in case.shapes.items()}
    buffers = published_buffers(case)
    statistics = {key: buffer for key, buffer in buffers.items() if key.endswith(STATISTICS)}
    for tensors in (parameters | buffers, parameters | statistics):
        match = recognised(tensors)
        assert (match.family, match.scale) == (family.name, scale)
        differing = {
            field for field in type(expected).model_fields if getattr(match.settings, field) != getattr(expected, field)
        }
        assert differing <= set(family.files.unseen(expected, tensors))
        assert all(f"{field} = " in match.notes[-1] for field in differing)


@pytest.mark.parametrize("variant", networks.variants())
def test_a_published_size_is_recognised_by_its_name(variant: str) -> None:
    with torch.device("meta"):
        network = networks.build(variant, scale=networks.variants()[variant].scales(variant)[-1])
    header = header_of(network, source="a test", licence=None, training=None)
    assert header["variant"] == variant
    state = {key: torch.zeros((), dtype=one.dtype).expand(one.shape) for key, one in network.state_dict().items()}
    match = recognised(state, header)
    assert (match.variant, match.nearest, match.differs_in) == (variant, variant, ())


def test_a_file_whose_constants_were_trained_is_refused(tmp_path: Path) -> None:
    case = load_case(GOLDEN / "span" / "span_tiny_a.npz")
    state = {**seeded_state(case.shapes), **published_buffers(case)}
    assert weights.inspect(write(state, tmp_path / "file.pth")).family == "span"
    key = "layers.0.residual_group.blocks.0.weight"
    state[key] = state[key] * 1.01
    with pytest.raises(WeightsMismatchError, match=rf"file.pth: '{key}' does not have the values .* a training has"):
        weights.inspect(write(state, tmp_path / "file.pth"))


def test_what_shapes_do_not_show_is_told(tmp_path: Path) -> None:
    path = write_case("hit-srf_tiny_options", tmp_path / "file.pth")
    assert "assumed" in weights.inspect(path).notes[0]
    assert "image_range = 1.0" in weights.inspect(path).notes[0]
    assert "base_window = (8, 8)" in weights.inspect(path).notes[0]
    (note,) = weights.load(path, settings={"image_range": 4, "base_window": [4, 4]}).notes
    assert "image_range" not in note
    assert "base_window" not in note


def test_a_file_that_fits_two_published_networks_says_so(tmp_path: Path) -> None:
    case = load_case(GOLDEN / "dat" / "dat-s_x2.npz")
    state = {key: torch.zeros(shape) for key, shape in case.shapes.items()}
    state |= {key: value for key, value in published_buffers(case).items() if key.endswith(STATISTICS)}
    path = write(state, tmp_path / "file.pth")
    facts = weights.inspect(path)
    assert facts.variant == "dat-2"
    doubt = "its tensors also fit dat-s; if it is that network, pass --set 'window_size=[8, 16]'"
    assert facts.doubts == (f"{path}: {doubt}",)
    stated = weights.inspect(path, settings={"window_size": [8, 16]})
    assert (stated.variant, stated.doubts) == ("dat-s", ())
    whole = weights.inspect(write({**state, **published_buffers(case)}, tmp_path / "whole.pth"))
    assert (whole.variant, whole.doubts) == ("dat-s", ())


def test_buffers_that_can_be_derived_are_ignored_and_told(tmp_path: Path) -> None:
    facts = weights.inspect(write_case("hit-sng_tiny_hier", tmp_path / "file.pth"))
    assert "3 buffers that the network computes itself are ignored" in facts.notes


@pytest.mark.parametrize("name", [*NOT_IN_SHAPES, "hit-sng_tiny_hier", "hit-srf_x4"])
def test_a_file_loads_with_what_it_cannot_show_and_answers_as_published(name: str, tmp_path: Path) -> None:
    case = load_case(GOLDEN / "hit-sr" / f"{name}.npz")
    given = NOT_IN_SHAPES.get(name, {})
    loaded = weights.load(write_case(name, tmp_path / "file.pth"), settings=given)
    assert loaded.settings == networks.from_options({"type": case.arch, **case.config}).settings
    with torch.inference_mode():
        torch.testing.assert_close(loaded.network(case.input), case.output, rtol=0, atol=1e-4)


# ---- files that do not fit


def test_settings_that_contradict_the_tensors_are_refused(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    with pytest.raises(
        WeightsMismatchError, match=r"'conv_first.weight' of shape .16, 3, 3, 3. instead of .32, 3, 3, 3."
    ):
        weights.load(write(state, tmp_path / "file.pth"), settings={"embed_dim": 32})


def test_a_missing_an_unexpected_and_a_misshaped_key_are_named(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    del state["norm.bias"]
    state["extra.weight"] = torch.zeros(1)
    state["norm.weight"] = torch.ones(17)
    with pytest.raises(WeightsMismatchError) as error:
        weights.load(write(state, tmp_path / "file.pth"))
    message = str(error.value)
    assert "a hit-sr network (nearest variant: hit-srf, which differs in embed_dim," in message
    assert "1 key is missing (first: 'norm.bias')" in message
    assert "1 key is unexpected (first: 'extra.weight')" in message
    assert "1 key is misshaped (first: 'norm.weight' of shape (17,) instead of (16,))" in message


@pytest.mark.parametrize(
    "key", ["conv_first.weight", "upsample.0.weight", "layers.0.residual_group.blocks.0.mlp.fc1.weight"]
)
def test_a_missing_key_that_tells_the_size_is_named(
    key: str, state: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, "hit-sr", [])
    del state[key]
    reason = f"hit-sr network, but its size cannot be determined without '{key}'"
    with pytest.raises(WeightsMismatchError, match=reason):
        weights.load(write(state, tmp_path / "file.pth"))


def test_a_key_whose_shape_tells_no_size_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, "hit-sr", [])
    state = dict(tiny_network("hit-sr", "hit-srf", scale=3).state_dict())
    state["conv_first.weight"] = torch.zeros(60)
    with pytest.raises(
        WeightsMismatchError, match=r"against hit-srf x3, the nearest variant, 1 key is misshaped .*'conv_f"
    ):
        weights.load(write(state, tmp_path / "file.pth"))


def test_a_scale_that_no_network_has_is_refused(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    state["upsample.0.weight"] = torch.zeros(3 * 17**2, 16, 3, 3)
    with pytest.raises(WeightsMismatchError, match=r"scale must be 1 to 16 for the upsampler .*, got 17"):
        weights.load(write(state, tmp_path / "file.pth"))


def test_keys_that_count_a_billion_layers_are_refused_at_once(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    state["layers.0.residual_group.blocks.999999999.norm1.weight"] = torch.ones(16)
    with pytest.raises(WeightsMismatchError, match=r"blocks.999999999.* counts more layers"):
        weights.load(write(state, tmp_path / "file.pth"))


def test_an_unknown_network_is_told_with_its_first_key_and_the_known_families(tmp_path: Path) -> None:
    path = write({"conv_1.sk.weight": torch.zeros(2)}, tmp_path / "cat.pth")
    message = f"{path}: no known family has its keys (first: 'conv_1.sk.weight'); known: {', '.join(FAMILIES)}"
    with pytest.raises(UnknownNetworkError, match=f"^{re.escape(message)}; .*spandrel.*$"):
        weights.load(path)


def test_an_unknown_network_that_others_know_is_told_by_its_name(tmp_path: Path) -> None:
    state = {key: torch.zeros(2) for key in ("conv_1.sk.weight", "block_1.c1_r.sk.weight")}
    reason = "looks like the Swift Parameter-free Attention Network, .*; no known family has its keys"
    with pytest.raises(UnknownNetworkError, match=f"other.pth: {reason}"):
        weights.load(write(state, tmp_path / "other.pth"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_refused_with_its_tensor(
    value: float, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    state["norm.bias"] = torch.full((16,), value)
    with pytest.raises(WeightsError, match=r"'norm\.bias' contains NaN or infinity"):
        weights.load(write(state, tmp_path / "file.pth"))


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn])
def test_weights_that_are_not_floating_point_numbers_are_refused(
    dtype: torch.dtype, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    state["norm.bias"] = torch.zeros(16).to(dtype)
    with pytest.raises(WeightsError, match=f"'norm.bias' is stored as {str(dtype).removeprefix('torch.')}"):
        weights.load(write(state, tmp_path / "file.pth"))
