"""The parts of SwinIR, and how its files and options are read."""

from __future__ import annotations

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
from finescale.networks import FAMILIES, Frame, build, from_options
from finescale.networks.swinir import SwinIR, SwinIRSettings
from helpers import GOLDEN, load_case, published_buffers, seeded_input, seeded_state

SMALL: dict[str, Any] = {"embed_dim": 12, "depths": (2,), "num_heads": (3,), "window_size": 4}
OPTIONS: dict[str, Any] = {
    "type": "SwinIR",
    "embed_dim": 12,
    "depths": [2],
    "num_heads": [3],
    "window_size": 4,
    "upsampler": "pixelshuffle",
}
CASES = sorted((GOLDEN / "swinir").glob("*.npz"))


def network_of(*, scale: int = 2, **fields: Any) -> SwinIR:
    """A small network in eval mode, in float64, with weights that make every part count."""
    network = SwinIR(settings=SwinIRSettings(**{**SMALL, **fields}), scale=scale)
    network.load_state_dict(seeded_state({key: tensor.shape for key, tensor in network.state_dict().items()}))
    return network.double().eval()


def modules_of_trace(folder: str, case_name: str) -> dict[str, tuple[Tensor, Tensor]]:
    """What each module of a golden trace answers, ours and the published one's."""
    case = load_case(GOLDEN / folder / f"{case_name}.npz")
    network = from_options(case.options).eval()
    network.load_state_dict(seeded_state(case.shapes))
    seen: dict[str, Tensor] = {}

    def see(name: str, module: nn.Module) -> None:
        module.register_forward_hook(lambda _module, _inputs, output: seen.update({name: output.reshape(-1)}))

    with np.load(GOLDEN / folder / "trace" / f"{case_name}.npz") as trace:
        known = dict(network.named_modules())
        names = [str(name) for name in trace["order"] if str(name) in known]
        for name in names:
            see(name, known[name])
        with torch.inference_mode():
            network(case.input)
        values = {}
        for name in names:
            places = np.linspace(0, len(seen[name]) - 1, 256).astype(np.int64)
            values[name] = seen[name][places], torch.from_numpy(trace[f"{name}:values"])
    return values


def test_every_module_of_the_published_network_answers_alike() -> None:
    answers = modules_of_trace("swinir", "swinir_tiny_a")
    assert len(answers) > 25
    for name, (ours, theirs) in answers.items():
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_a_restored_image_is_the_image_and_what_the_network_adds() -> None:
    network = network_of(upsampler="restoration", scale=1)
    image = seeded_input((1, 3, 6, 7)).double()
    with torch.no_grad():
        for parameter in network.conv_last.parameters():  # type: ignore[union-attr]
            parameter.zero_()
    torch.testing.assert_close(network(image), image)


def test_a_shuffled_image_at_scale_1_is_made_anew() -> None:
    network = network_of(upsampler="pixelshuffledirect", scale=1)
    with torch.no_grad():
        for parameter in network.upsample.parameters():  # type: ignore[union-attr]
            parameter.zero_()
    mean = torch.tensor([0.4488, 0.4371, 0.4040]).double().reshape(1, 3, 1, 1)
    torch.testing.assert_close(network(seeded_input((1, 3, 6, 7)).double()), mean.expand(1, 3, 6, 7))


def test_the_image_is_mirrored_at_the_bottom_and_on_the_right_to_whole_windows() -> None:
    network = network_of()
    image = seeded_input((1, 3, 6, 7)).double()
    mirrored = F.pad(image, (0, 1, 0, 2), mode="reflect")
    torch.testing.assert_close(network(image), network(mirrored)[..., :12, :14])


def test_a_network_with_a_position_embedding_takes_its_own_size_alone() -> None:
    network = network_of(position_size=(8, 12))
    assert network(seeded_input((1, 3, 8, 9)).double()).shape == (1, 3, 16, 18)
    with pytest.raises(ValueError, match=r"must be 8 x 12, the size of .* embedding, got 12 x 8 in whole windows"):
        network(seeded_input((1, 3, 12, 8)).double())


def test_in_training_layers_are_left_out_ever_more_often() -> None:
    with torch.device("meta"):
        network = build("swinir", scale=2)
    rates = [layer.drop_path.rate for layer in network.modules() if hasattr(layer, "drop_path")]
    assert len(rates) == 36
    assert (rates[0], round(rates[1], 5), rates[-1]) == (0.0, 0.00286, 0.1)


# ---- settings and options


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_heads": (5,)}, "embed_dim must be a multiple of the heads, got 12 and 5"),
        ({"position_size": (8, 6)}, r"position_size must be a multiple of window_size 4, got \(8, 6\)"),
        ({"residual_conv": "identity"}, "'1conv' or '3conv'"),
        ({"upsampler": "pixelshuffel"}, "'nearest\\+conv'"),
        ({"mlp_ratio": 0.05}, "mlp_ratio leaves no hidden channels of 12, got 0.05"),
    ],
)
def test_settings_that_make_no_network_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SwinIRSettings(**{**SMALL, **wrong})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"shifted": True, "mlp_ratio": 4.0, "drop_path_rate": 0.1, "position_size": None, "qk_scale": None}),
        ({"img_size": 4}, {"shifted": False}),
        ({"img_size": [8, 4]}, {"shifted": False}),
        ({"img_size": [8, 12], "ape": True}, {"shifted": True, "position_size": (8, 12)}),
        ({"img_size": 16, "ape": True}, {"position_size": 16}),
        ({"qk_scale": 0}, {"qk_scale": None}),
        ({"upsampler": None, "upscale": 1}, {"upsampler": "restoration"}),
        ({"upsampler": "", "upscale": 1}, {"upsampler": "restoration"}),
        ({"upsampler": "nearest+conv"}, {"upsampler": "nearest+conv"}),
    ],
)
def test_options_mean_what_they_mean_to_the_published_constructor(
    given: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert from_options({**OPTIONS, **given}).settings.model_dump(include=set(expected)) == expected


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"upsampler": "pixelshufle"}, "SwinIR: 'upsampler': input should be .*, got 'pixelshufle'"),
        ({"upsampler": ""}, "scale must be 1 for the upsampler 'restoration', got 2"),
        ({"upsampler": "nearest+conv", "upscale": 3}, "scale must be 2 or 4 for the upsampler 'nearest\\+conv', got 3"),
        ({"img_size": 3}, "SwinIR: img_size must be at least window_size 4, got 3"),
        ({"resi_connection": "2conv"}, "SwinIR: 'residual_conv': input should be '1conv' or '3conv', got '2conv'"),
        ({"windowsize": 8}, r"SwinIR has no argument 'windowsize' \(did you mean 'window_size'\?\)"),
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
        published = {key: torch.empty(shape) for key, shape in {**case.shapes, **case.buffers}.items()}
    assert [family.name for family in FAMILIES.values() if family.files.recognises(published)] == ["swinir"]
    settings, scale = FAMILIES["swinir"].files.from_state(published)
    assert scale == network.scale
    unseen = {"qk_scale", "drop_path_rate", "mlp_ratio"}
    if case.options["window_size"] != 7 or network.settings.upsampler != "restoration":
        unseen |= {"image_range"}
    assert settings.hidden == network.settings.hidden  # type: ignore[attr-defined]
    assert settings.model_dump(exclude=unseen) == network.settings.model_dump(exclude=unseen)


@pytest.mark.parametrize("wrapper", [None, "params", "params_ema"])
@pytest.mark.parametrize("case_name", ["swinir_tiny_e", "swinir_tiny_c"])
def test_a_published_file_is_recognised_in_every_wrapper(wrapper: str | None, case_name: str, tmp_path: Path) -> None:
    case = load_case(GOLDEN / "swinir" / f"{case_name}.npz")
    tensors = {**seeded_state(case.shapes), **published_buffers(case)}
    state = {f"module.{key}": tensor for key, tensor in tensors.items()}
    torch.save(state if wrapper is None else {wrapper: state}, tmp_path / "net.pth")
    found = weights.inspect(tmp_path / "net.pth")
    assert (found.family, found.scale, found.wrapper) == ("swinir", from_options(case.options).scale, wrapper)


def test_of_two_sets_of_weights_the_average_is_taken(tmp_path: Path) -> None:
    network = network_of()
    average = network.state_dict()
    torch.save({"params": {k: t + 1 for k, t in average.items()}, "params_ema": average}, tmp_path / "net.pth")
    loaded = weights.load(tmp_path / "net.pth").network
    assert all(torch.equal(tensor, average[key].float()) for key, tensor in loaded.state_dict().items())


@pytest.mark.parametrize("fields", [{"shifted": False}, {"position_size": (8, 12)}, {"residual_conv": "3conv"}])
def test_a_saved_network_comes_back(fields: dict[str, Any], tmp_path: Path) -> None:
    network: Frame = network_of(**fields).float()
    weights.save(network, tmp_path / "net.safetensors", source="a test")
    assert weights.load(tmp_path / "net.safetensors").settings == network.settings


def test_a_network_with_a_pixel_unshuffle_before_it_is_refused(tmp_path: Path) -> None:
    state = network_of().state_dict()
    state["conv_first.1.weight"] = state.pop("conv_first.weight")
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(WeightsMismatchError, match=r"cannot be determined without 'conv_first\.weight'"):
        weights.load(tmp_path / "net.pth")
