"""Weight files of every origin come back as the network they hold, and ours say all that they are."""

from __future__ import annotations

import json
import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from finescale import networks, weights
from finescale.errors import (
    DeviceError,
    DownloadError,
    SettingsError,
    UnknownNetworkError,
    UnsafeWeightsError,
    WeightsError,
    WeightsMismatchError,
)
from finescale.networks import FAMILIES, Frame
from finescale.weightfiles import tensors
from helpers import STATISTICS, load_case, published_buffers, seeded_state
from hub_stand_in import HubStandIn
from publishing import authors_file, facts, our_file, publish, tiny_network

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = sorted(path.stem for path in (GOLDEN / "hit-sr").glob("*.npz"))
FILES = [pytest.param(path, id=path.stem) for family in FAMILIES for path in sorted((GOLDEN / family).glob("*.npz"))]

NOT_IN_SHAPES: dict[str, dict[str, Any]] = {
    "hit-sir_tiny_block": {"base_window": (4, 4)},
    "hit-sir_tiny_hier": {"base_window": (4, 4)},
    "hit-sir_tiny_nearest": {"base_window": (4, 4)},
    "hit-sir_tiny_rect": {"base_window": (4, 8), "window_ratios": (0.5, 2.0)},
    "hit-srf_tiny_block": {"base_window": (4, 4)},
    "hit-srf_tiny_hier": {"base_window": (4, 4)},
    "hit-srf_tiny_options": {"base_window": (4, 4), "image_range": 4.0},
}
"""For each golden case, the settings that its file cannot show and that are not the published ones."""

TINY = [(family, variant) for family in FAMILIES.values() for variant in family.tiny]


@pytest.fixture
def network() -> Frame:
    """A HiT-SRF of 16 channels and three blocks."""
    family = FAMILIES["hit-sr"]
    size = {"embed_dim": 16, "depths": (2, 1), "num_heads": (2, 1), "base_window": (4, 4), "window_ratios": (0.5, 2.0)}
    return family.network(settings=family.variants["hit-srf"].model_copy(update=size), scale=2).eval()


@pytest.fixture
def state(network: Frame) -> dict[str, torch.Tensor]:
    return dict(network.state_dict())


def write(content: object, path: Path, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def write_case(name: str, path: Path) -> Path:
    """A golden case as the file that the published training code would have saved."""
    case = load_case(GOLDEN / "hit-sr" / f"{name}.npz")
    return write({"params": {**seeded_state(case.shapes), **published_buffers(case)}}, path)


# ---- recognition


@pytest.mark.parametrize("name", CASES)
def test_a_published_file_tells_family_settings_and_scale(name: str, tmp_path: Path) -> None:
    case = load_case(GOLDEN / "hit-sr" / f"{name}.npz")
    expected = networks.from_options({"type": case.arch, **case.config})
    facts = weights.inspect(write_case(name, tmp_path / "file.pth"))
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
@pytest.mark.parametrize("buffers", [True, False], ids=["with-buffers", "without"])
@pytest.mark.parametrize("path", FILES)
def test_the_file_of_every_golden_case_is_recognised_with_all_that_it_shows(
    path: Path, buffers: bool, tmp_path: Path
) -> None:
    case = load_case(path)
    expected = networks.from_options(case.options)
    state = {key: torch.zeros(shape) for key, shape in case.shapes.items()}
    carried = published_buffers(case)
    state |= {key: buffer for key, buffer in carried.items() if buffers or key.endswith(STATISTICS)}
    facts = weights.inspect(write({"params_ema": state}, tmp_path / "file.pth"))
    assert (facts.family, facts.scale) == (networks.family_of(expected).name, expected.scale)
    differing = {
        field
        for field in type(expected.settings).model_fields
        if getattr(facts.settings, field) != getattr(expected.settings, field)
    }
    assert differing <= set(FAMILIES[facts.family].files.unseen(expected.settings, state))
    assert all(f"{field} = " in facts.notes[-1] for field in differing)


def test_a_file_whose_constants_were_trained_is_refused(tmp_path: Path) -> None:
    case = load_case(GOLDEN / "span" / "span_tiny_a.npz")
    state = {**seeded_state(case.shapes), **published_buffers(case)}
    assert weights.inspect(write(state, tmp_path / "file.pth")).family == "span"
    key = "layers.0.residual_group.blocks.0.weight"
    state[key] = state[key] * 1.01
    with pytest.raises(WeightsMismatchError, match=rf"file.pth: '{key}' does not have the values .* a training has"):
        weights.inspect(write(state, tmp_path / "file.pth"))


@pytest.mark.parametrize("name", [*NOT_IN_SHAPES, "hit-sng_tiny_hier", "hit-srf_x4"])
def test_a_file_loads_with_what_it_cannot_show_and_answers_as_published(name: str, tmp_path: Path) -> None:
    case = load_case(GOLDEN / "hit-sr" / f"{name}.npz")
    given = NOT_IN_SHAPES.get(name, {})
    loaded = weights.load(write_case(name, tmp_path / "file.pth"), settings=given)
    assert loaded.settings == networks.from_options({"type": case.arch, **case.config}).settings
    with torch.inference_mode():
        torch.testing.assert_close(loaded.network(case.input), case.output, rtol=0, atol=1e-4)


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
    assert facts.doubts == (f"{path}: its tensors fit dat-s as well; if it is that, say --set 'window_size=[8, 16]'",)
    told = weights.inspect(path, settings={"window_size": [8, 16]})
    assert (told.variant, told.doubts) == ("dat-s", ())
    whole = weights.inspect(write({**state, **published_buffers(case)}, tmp_path / "whole.pth"))
    assert (whole.variant, whole.doubts) == ("dat-s", ())


def test_buffers_that_can_be_derived_are_ignored_and_told(tmp_path: Path) -> None:
    facts = weights.inspect(write_case("hit-sng_tiny_hier", tmp_path / "file.pth"))
    assert "3 buffers that the network computes itself are ignored" in facts.notes


@pytest.mark.parametrize("prefix", ["", *tensors.PREFIXES, "module._orig_mod.", "net_g.module."])
@pytest.mark.parametrize("wrapper", [None, *tensors.WRAPPERS])
def test_wrappers_and_prefixes_are_taken_off_and_told(
    wrapper: str | None, prefix: str, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    stored: Any = {prefix + key: tensor for key, tensor in state.items()}
    path = write({wrapper: stored, "iter": 5} if wrapper else stored, tmp_path / "file.pth")
    raw = tensors.read_state(path)
    assert (raw.wrapper, raw.prefix, raw.format) == (wrapper, prefix, "torch")
    assert raw.state.keys() == state.keys()
    assert all(torch.equal(raw.state[key], state[key]) for key in state)


def test_averaged_weights_are_preferred(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    averaged = {key: tensor + 1 for key, tensor in state.items()}
    raw = tensors.read_state(write({"params": state, "params_ema": averaged}, tmp_path / "file.pth"))
    assert raw.wrapper == "params_ema"
    assert torch.equal(raw.state["conv_first.bias"], averaged["conv_first.bias"])


def test_a_prefix_that_only_some_keys_carry_stays(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    first, *rest = state
    mixed = {first: state[first], **{f"module.{key}": state[key] for key in rest}}
    path = write(mixed, tmp_path / "file.pth")
    assert tensors.read_state(path).prefix == ""
    with pytest.raises(WeightsMismatchError, match=re.escape("'module.")):
        weights.load(path)


def test_the_content_decides_and_not_the_name(network: Frame, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    pickled = write(state, tmp_path / "pickled.safetensors")
    weights.save(network, tmp_path / "safe.safetensors", source="test")
    safe = (tmp_path / "safe.safetensors").rename(tmp_path / "safe.pth")
    legacy = write(state, tmp_path / "legacy.bin", _use_new_zipfile_serialization=False)
    formats = [weights.load(path).format for path in (pickled, safe, legacy)]
    assert formats == ["torch", "safetensors", "torch (legacy)"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_weights_become_float32_and_that_is_told(
    dtype: torch.dtype, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = write({key: tensor.to(dtype) for key, tensor in state.items()}, tmp_path / "file.pth")
    loaded = weights.load(path)
    name = str(dtype).removeprefix("torch.")
    assert loaded.dtype == name
    assert f"{name} is converted to float32" in loaded.notes
    assert {parameter.dtype for parameter in loaded.network.parameters()} == {torch.float32}


def test_loading_leaves_random_numbers_alone_and_the_network_ready(
    state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = write(state, tmp_path / "file.pth")
    before = torch.get_rng_state()
    assert not weights.load(path).network.training
    assert torch.equal(torch.get_rng_state(), before)


# ---- arguments


def test_another_scale_than_the_files_is_refused(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = write(state, tmp_path / "file.pth")
    assert weights.load(path, scale=2).scale == 2
    with pytest.raises(ValueError, match=re.escape(f"scale must be 2 for {path}, got 4")):
        weights.load(path, scale=4)


def test_wrong_settings_are_told_with_the_right_name(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"unknown key 'img_range' .did you mean 'image_range'"):
        weights.load(write(state, tmp_path / "file.pth"), settings={"img_range": 4})


def test_settings_that_contradict_the_tensors_are_refused(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    with pytest.raises(
        WeightsMismatchError, match=r"'conv_first.weight' of shape .16, 3, 3, 3. instead of .32, 3, 3, 3."
    ):
        weights.load(write(state, tmp_path / "file.pth"), settings={"embed_dim": 32})


def test_an_unknown_device_is_told(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="device 'abacus' cannot be used"):
        weights.load(write(state, tmp_path / "file.pth"), device="abacus")


# ---- files that do not fit


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
def test_a_missing_key_that_tells_the_size_is_named(key: str, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    del state[key]
    with pytest.raises(WeightsMismatchError, match=f"hit-sr network, but its size cannot be told without '{key}'"):
        weights.load(write(state, tmp_path / "file.pth"))


def test_a_key_whose_shape_tells_no_size_is_named(tmp_path: Path) -> None:
    state = dict(networks.build("hit-srf", scale=3).state_dict())
    state["conv_first.weight"] = torch.zeros(60)
    with pytest.raises(
        WeightsMismatchError, match=r"against hit-srf x3, the nearest variant, 1 key is misshaped .*'conv_f"
    ):
        weights.load(write(state, tmp_path / "file.pth"))


def test_a_scale_that_no_network_has_is_refused(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    state["upsample.0.weight"] = torch.zeros(75, 16, 3, 3)
    with pytest.raises(WeightsMismatchError, match="scale must be 2, 3 or 4, got 5"):
        weights.load(write(state, tmp_path / "file.pth"))


def test_keys_that_count_a_billion_layers_are_refused_at_once(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    state["layers.0.residual_group.blocks.999999999.norm1.weight"] = torch.ones(16)
    with pytest.raises(WeightsMismatchError, match=r"blocks.999999999.* counts more layers"):
        weights.load(write(state, tmp_path / "file.pth"))


def test_an_unknown_network_is_told_with_its_first_key_and_the_known_families(tmp_path: Path) -> None:
    path = write({"conv_1.sk.weight": torch.zeros(2)}, tmp_path / "cat.pth")
    message = f"{path}: no known family has its keys (first: 'conv_1.sk.weight'); known: {', '.join(FAMILIES)}"
    with pytest.raises(UnknownNetworkError, match=f"^{re.escape(message)}$"):
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


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (torch.eye(3).to_sparse(), "special tensor"),
        (torch.zeros(3, device="meta"), "special tensor"),
        (torch.zeros(0, 3), "has no values"),
        (torch.zeros(1).expand(2**40), "damaged: its tensors claim 4398046511104 bytes"),
    ],
    ids=["sparse", "meta", "empty", "expanded"],
)
def test_a_tensor_that_is_not_plain_is_refused(tensor: torch.Tensor, reason: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=reason):
        weights.load(write({"conv_first.weight": tensor}, tmp_path / "file.pth"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([torch.zeros(1)], "not a state dict but a list"),
        ({}, "no weights in it"),
        ({"params": {}}, "no weights in it"),
        ({"params": {0: torch.zeros(1)}}, "its keys are of type int"),
        ({(1, 2): 3}, "its keys are of type tuple"),
        ({"epoch": 3, "optimizer": {}}, "no network in it; its keys are 'epoch', 'optimizer'"),
        ({"norm.bias": torch.zeros(1), "iter": 5}, "'iter' is a int, not a tensor"),
        ({"params": {"norm": {"bias": torch.zeros(1)}, "a": torch.zeros(1)}}, "'norm' is a dict, not a tensor"),
    ],
)
def test_content_that_is_no_state_dict_is_refused(content: object, reason: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=reason):
        tensors.read_state(write(content, tmp_path / "file.pth"))


# ---- files that are not what they seem


class Payload:
    """Makes a folder when it is unpickled without restriction."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("how", ["torch", "torch (legacy)", "pickle 2", "pickle 4"])
def test_code_in_a_file_is_never_run(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path, mark = tmp_path / "file.pth", tmp_path / "mark"
    content = {"params": {"conv_first.weight": Payload(mark)}}
    if how.startswith("torch"):
        write(content, path, _use_new_zipfile_serialization=how == "torch")
    else:
        path.write_bytes(pickle.dumps(content, protocol=int(how[-1])))
    with pytest.raises(UnsafeWeightsError, match="contains code, not only weights"):
        weights.load(path)
    assert not mark.exists()


def test_a_torchscript_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", b"")
        archive.writestr("net/constants.pkl", b"")
    with pytest.raises(UnsafeWeightsError, match="TorchScript"):
        weights.load(path)


def test_a_zip_archive_of_something_else_is_told(tmp_path: Path) -> None:
    path = tmp_path / "weights.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("HiT-SRF-4x.pth", b"")
    with pytest.raises(WeightsError, match=r"that torch.save did not write; unpack it"):
        weights.load(path)


def test_an_archive_that_unfolds_is_refused_before_it_does(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", b"\0" * 10**7)
    with pytest.raises(WeightsError, match="unfolds into more than the file"):
        weights.load(path)


def test_a_single_wrong_byte_in_an_archive_is_noticed(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = write(state, tmp_path / "file.pth")
    data = bytearray(path.read_bytes())
    data[data.find(state["conv_first.weight"].numpy().tobytes()) + 5] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=r"damaged .the checksum of"):
        weights.load(path)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("part", [0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(part: float, legacy: bool, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = write(state, tmp_path / "file.pth", _use_new_zipfile_serialization=not legacy)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(WeightsError, match="truncated or damaged"):
        weights.load(path)


def test_a_file_that_is_missing_or_a_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"cannot be read .No such file"):
        weights.load(tmp_path / "absent.pth")
    with pytest.raises(WeightsError, match=r"cannot be read .Is a directory"):
        weights.load(tmp_path)


# ---- saving


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(("family", "variant"), TINY, ids=lambda value: getattr(value, "name", value))
def test_a_saved_network_comes_back_equal(family: Any, variant: str, scale: int, tmp_path: Path) -> None:
    settings = family.tiny[variant].model_copy(update={"image_range": 2.0, "mean": (0.5, 0.5, 0.5)})
    network = family.network(settings=settings, scale=scale).eval()
    path = tmp_path / "net.safetensors"
    weights.save(network, path, source="a test")
    loaded = weights.load(path)
    assert (loaded.family, loaded.variant, loaded.scale, loaded.settings) == (family.name, None, scale, settings)
    assert loaded.notes == ()
    image = torch.rand(1, 3, 9, 7)
    with torch.inference_mode():
        assert torch.equal(loaded.network(image), network(image))


@pytest.mark.parametrize("variant", networks.variants())
def test_a_published_size_is_saved_under_its_name(variant: str, tmp_path: Path) -> None:
    weights.save(networks.build(variant, scale=4), tmp_path / "net.safetensors", source="a test")
    facts = weights.inspect(tmp_path / "net.safetensors")
    assert (facts.variant, facts.nearest, facts.differs_in) == (variant, variant, ())
    assert facts.header["variant"] == variant


def test_the_header_states_everything_and_other_tools_read_the_tensors(network: Frame, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    weights.save(network, path, source="a test", licence="CC0-1.0", training={"lr": 5e-4, "crop": [64, 64]})
    with safetensors.safe_open(path, framework="pt") as file:
        header = file.metadata()
    settings = json.loads(header.pop("settings"))
    assert type(network.settings).model_validate(settings) == network.settings
    assert json.loads(header.pop("training")) == {"lr": 5e-4, "crop": [64, 64]}
    assert header == {
        "format": "pt",
        "finescale_format": "1",
        "family": "hit-sr",
        "scale": "2",
        "source": "a test",
        "licence": "CC0-1.0",
    }
    stored = safetensors.torch.load_file(path)
    assert stored.keys() == network.state_dict().keys()
    assert all(torch.equal(stored[key], tensor) for key, tensor in network.state_dict().items())


def test_the_same_network_gives_the_same_bytes(network: Frame, tmp_path: Path) -> None:
    for name in ("one", "two"):
        weights.save(network, tmp_path / f"{name}.safetensors", source="a test", training={"seed": 1})
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()


def test_memory_order_is_not_stored(network: Frame, tmp_path: Path) -> None:
    weights.save(network, tmp_path / "one.safetensors", source="a test")
    weights.save(network.to(memory_format=torch.channels_last), tmp_path / "two.safetensors", source="a test")
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()


def test_a_failed_save_leaves_the_old_file_and_nothing_else(
    network: Frame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"precious")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WeightsError, match=r"cannot be written .No space left"):
        weights.save(network, path, source="a test")
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_a_network_that_diverged_is_not_saved(network: Frame, tmp_path: Path) -> None:
    with torch.no_grad():
        network.conv_first.bias[3] = float("nan")
    with pytest.raises(WeightsError, match=r"'conv_first\.bias' contains NaN"):
        weights.save(network, tmp_path / "net.safetensors", source="a test")
    assert not list(tmp_path.iterdir())


def test_saving_under_another_ending_is_refused(network: Frame, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"saved as \.safetensors, got the name 'net\.pth'"):
        weights.save(network, tmp_path / "net.pth", source="a test")


# ---- our header


def forge(network: Frame, path: Path, **changes: str) -> Path:
    """A file of ours with a changed header."""
    weights.save(network, path, source="a test")
    with safetensors.safe_open(path, framework="pt") as file:
        header = {**file.metadata(), **changes}
    safetensors.torch.save_file(safetensors.torch.load_file(path), path, metadata=header)
    return path


@pytest.mark.parametrize(
    ("changes", "error", "reason"),
    [
        ({"finescale_format": "2"}, WeightsError, "has format '2', this version reads '1'; update finescale"),
        ({"family": "swin"}, WeightsMismatchError, "states family 'swin', but its keys are hit-sr's"),
        ({"scale": "4"}, WeightsMismatchError, "states scale = 4, but its tensors show 2"),
        ({"scale": "two"}, WeightsError, "damaged header"),
        ({"settings": "{"}, WeightsError, "damaged header"),
        ({"settings": "[" * 100_000}, WeightsError, "damaged header"),
        ({"settings": "[]"}, WeightsError, "damaged header"),
        ({"settings": '{"depth": 3}'}, WeightsError, "settings in its header: unknown key 'depth'"),
        ({"settings": "{}"}, WeightsMismatchError, "states embed_dim = 60, but its tensors show 16"),
    ],
)
def test_a_header_that_is_wrong_is_refused(
    changes: dict[str, str], error: type[Exception], reason: str, network: Frame, tmp_path: Path
) -> None:
    with pytest.raises(error, match=reason):
        weights.load(forge(network, tmp_path / "net.safetensors", **changes))


def test_a_header_that_claims_a_billion_layers_is_refused_at_once(network: Frame, tmp_path: Path) -> None:
    settings = network.settings.model_dump(mode="json") | {"depths": [10**9, 1], "window_ratios": [1] * 10}
    with pytest.raises(WeightsError, match=r"window_ratios|depths"):
        weights.load(forge(network, tmp_path / "net.safetensors", settings=json.dumps(settings)))


@pytest.mark.parametrize("change", [{"window_ratios": [0.5, 1e15]}, {"mlp_ratio": 1e6}, {"mlp_ratio": 1e30}])
def test_a_header_that_claims_huge_layers_is_refused_at_once(
    change: dict[str, Any], network: Frame, tmp_path: Path
) -> None:
    settings = network.settings.model_dump(mode="json") | change
    with pytest.raises(WeightsMismatchError):
        weights.load(forge(network, tmp_path / "net.safetensors", settings=json.dumps(settings)))


def test_a_file_that_states_its_settings_takes_no_others(network: Frame, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    weights.save(network, path, source="a test")
    with pytest.raises(ValueError, match=r"settings must be left out for .*, whose header states them"):
        weights.load(path, settings={"image_range": 255})


# ---- names of models


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder with two bundled files."""
    shelf = tmp_path / "bundled"
    shelf.mkdir()
    for name in ("default_x2", "default_x4"):
        (shelf / f"{name}.safetensors").touch()
    monkeypatch.setattr(weights, "BUNDLED", shelf)
    return shelf


def test_bundled_models_are_found_by_name_and_scale(shelf: Path) -> None:
    assert weights.bundled() == [("default", 2), ("default", 4)]
    assert weights.find("default", scale=4) == shelf / "default_x4.safetensors"


def test_bundled_models_are_listed_by_name_then_scale(shelf: Path) -> None:
    for name in ("default-photo_x4", "default_x3", "notes"):
        (shelf / f"{name}.safetensors").touch()
    assert weights.bundled() == [("default", 2), ("default", 3), ("default", 4), ("default-photo", 4)]


def test_the_network_for_photos_is_offered_beside_the_bundled_one_at_its_scale_alone(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert weights.for_photos("default", scale=4) is None
    (shelf / "default-photo_x4.safetensors").touch()
    assert weights.for_photos("default", scale=4) == "default-photo"
    assert weights.for_photos("default", scale=2) is None
    assert weights.for_photos("default-photo", scale=4) is None
    assert weights.for_photos("hit-srf", scale=4) is None
    with pytest.raises(ValueError, match="scale must be 4 for default-photo, got 2"):
        weights.find("default-photo", scale=2)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "default").touch()  # a weight file of one's own
    assert weights.for_photos("default", scale=4) is None


def test_a_path_goes_before_a_name(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "default").touch()
    assert weights.find("default", scale=3) == Path("default")
    assert weights.find(str(shelf / "default_x2.safetensors")) == shelf / "default_x2.safetensors"


@pytest.mark.parametrize(
    ("name", "scale", "error", "message"),
    [
        ("default", 3, ValueError, "scale must be 2 or 4 for default, got 3"),
        (
            "defualt",
            4,
            ValueError,
            "no model is called 'defualt' (did you mean 'default'?); known: ",
        ),
        ("cit", 4, WeightsError, "cit: no weights of it are bundled or published; give the path of a weight file"),
        ("absent.pth", 4, WeightsError, "absent.pth: there is no such file"),
        ("folder/absent.pth", 4, WeightsError, "folder/absent.pth: there is no such file"),
        ("folder/below/absent", 4, WeightsError, "folder/below/absent: there is no such file"),
        ("owner/absent", 4, DownloadError, "owner/absent: its weights are not in "),
    ],
)
def test_a_name_without_weights_is_told(
    name: str, scale: int, error: type[Exception], message: str, shelf: Path, cache: Path
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        weights.find(name, scale=scale)


def test_every_bundled_file_loads_as_what_it_is_called() -> None:
    for name, scale in weights.bundled():
        loaded = weights.load(weights.find(name, scale=scale), scale=scale)
        assert loaded.header["licence"]
        assert loaded.header["source"]


# ---- names of published networks


@pytest.fixture
def authors(hub: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubStandIn:
    """Authors who publish HiT-SRF at x2 and x4 on the hub, and its training on more data by a link."""
    by_hub = [facts(variant="hit-srf", scale=scale, hub=f"authors/hit-srf-{scale}x", page=None) for scale in (2, 4)]
    by_link = facts(variant="hit-srf", tag="df2k", file="HiT-SRF-4x-DF2K.pth")
    publish(monkeypatch, "hit-sr", [*by_hub, by_link])
    for scale in (2, 4):
        path = tmp_path / "published.safetensors"
        safetensors.torch.save_file(tiny_network("hit-sr", "hit-srf", scale=scale).state_dict(), path)
        hub.files[f"authors/hit-srf-{scale}x"] = {"model.safetensors": path.read_bytes()}
    return hub


def assert_equal(one: Frame, other: Frame) -> None:
    assert (one.settings, one.scale) == (other.settings, other.scale)
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


@pytest.mark.parametrize(("scale", "expected"), [(None, 4), (4, 4), (2, 2)])
def test_a_published_name_is_fetched_and_loaded(
    scale: int | None, expected: int, authors: HubStandIn, cache: Path
) -> None:
    loaded = weights.load_named("hit-srf", scale=scale)
    assert_equal(loaded.network, tiny_network("hit-sr", "hit-srf", scale=expected))
    assert loaded.path == cache / "hub" / "authors" / f"hit-srf-{expected}x" / "model.safetensors"
    assert weights.fetch("hit-srf", scale=scale, offline=True) == loaded.path
    assert weights.find("hit-srf", scale=scale, offline=True) == loaded.path


def test_a_file_or_a_bundled_model_goes_before_a_published_one(
    authors: HubStandIn, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shelf / "hit-srf_x2.safetensors").touch()
    assert weights.find("hit-srf") == shelf / "hit-srf_x2.safetensors"
    Path("hit-srf").touch()
    assert weights.find("hit-srf") == Path("hit-srf")
    assert not authors.requests


@pytest.mark.parametrize(
    ("name", "scale", "error", "message"),
    [
        ("hit-srf", 3, ValueError, "scale must be 2 or 4 for hit-srf, got 3"),
        ("hit-srf-df2k", 2, ValueError, "scale must be 4 for hit-srf-df2k, got 2"),
        ("hit-srv", None, ValueError, "no published network is called 'hit-srv' (did you mean 'hit-srf'?); known: "),
        ("hit-srf-df2k", None, DownloadError, "download HiT-SRF-4x-DF2K.pth and put it into "),
    ],
)
def test_what_is_not_published_is_told(
    name: str, scale: int | None, error: type[Exception], message: str, authors: HubStandIn
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        weights.fetch(name, scale=scale)
    assert not authors.requests


def test_without_a_network_nothing_is_fetched_by_name(authors: HubStandIn) -> None:
    with pytest.raises(DownloadError, match="the hub is not asked while offline"):
        weights.load_named("hit-srf", offline=True)
    assert not authors.requests


def test_a_file_in_the_place_of_the_published_one_must_be_the_announced_network(
    authors: HubStandIn, cache: Path
) -> None:
    place = cache / "HiT-SRF-4x-DF2K.pth"
    authors_file(tiny_network("hit-sr", "hit-srf", scale=4), place)
    assert weights.load_named("hit-srf-df2k").path == place
    for family, variant, scale in (("hit-sr", "hit-srf", 2), ("hit-sr", "hit-sng", 4), ("drct", "drct", 4)):
        authors_file(tiny_network(family, variant, scale=scale), place)
        with pytest.raises(WeightsMismatchError, match=rf"DF2K\.pth: should hold hit-srf x4, but holds .+ x{scale}; "):
            weights.load_named("hit-srf-df2k")
    write({"body.weight": torch.zeros(3, 3)}, place)
    with pytest.raises(
        WeightsMismatchError, match=r"should hold hit-srf x4, but no known family has its keys .*replace"
    ):
        weights.load_named("hit-srf-df2k")


def test_a_name_tells_what_the_file_does_not_show(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, "dat", [facts(variant="dat-s", file="DAT_S_x4.pth")])
    network = tiny_network("dat", "dat-s", scale=4)
    path = authors_file(network, cache / "DAT_S_x4.pth")
    assert weights.load(path).settings.window_size != network.settings.window_size  # type: ignore[attr-defined]
    loaded = weights.load_named("dat-s")
    assert_equal(loaded.network, network)
    assert not [note for note in loaded.notes if "assumed" in note]


def test_what_the_caller_says_goes_before_the_name(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, "dat", [facts(variant="dat-s", file="DAT_S_x4.pth")])
    authors_file(tiny_network("dat", "dat-s", scale=4), cache / "DAT_S_x4.pth")
    loaded = weights.load_named("dat-s", settings={"image_range": 255})
    assert loaded.settings.image_range == 255
    with pytest.raises(SettingsError, match=r"unknown key 'image_rang' \(did you mean 'image_range'"):
        weights.load_named("dat-s", settings={"image_rang": 255})


@pytest.mark.parametrize("stated_in", ["a header", "a buffer"])
def test_a_name_does_not_overrule_what_the_file_states(
    stated_in: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, "dat", [facts(variant="dat-s", file="DAT_S_x4.pth")])
    settings = FAMILIES["dat"].tiny["dat-s"].model_copy(update={"window_size": (2, 4)})
    network = FAMILIES["dat"].network(settings=settings, scale=4)
    cache.mkdir()
    if stated_in == "a header":
        (cache / "DAT_S_x4.safetensors").write_bytes(our_file(network, tmp_path / "ours.safetensors"))
    else:
        offsets = torch.cartesian_prod(torch.arange(-1.0, 2), torch.arange(-3.0, 4))  # of a window of 2 x 4 pixels
        buffer = {"layers.0.blocks.0.attn.attns.0.rpe_biases": offsets}
        write({**network.state_dict(), **buffer}, cache / "DAT_S_x4.pth")
    with pytest.raises(WeightsMismatchError, match="should hold dat-s x4, but holds a network nearest to"):
        weights.load_named("dat-s")


def test_a_repository_of_the_hub_is_a_name(hub: HubStandIn, tmp_path: Path) -> None:
    network = tiny_network("hit-sr", "hit-sng", scale=3)
    hub.files["someone/my.net"] = {"model.safetensors": our_file(network, tmp_path / "ours.safetensors")}
    assert_equal(weights.load_named("someone/my.net", scale=3).network, network)
    with pytest.raises(ValueError, match=r"scale must be 3 for .*model\.safetensors, got 2"):
        weights.load_named("someone/my.net", scale=2)


def test_a_file_goes_before_a_repository_of_its_name(hub: HubStandIn) -> None:
    Path("someone").mkdir()
    Path("someone/net").touch()
    assert weights.find("someone/net") == Path("someone/net")
    assert not hub.requests
