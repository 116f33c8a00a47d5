"""What every network of every family promises, asked of each at a tiny size and at every scale that it has."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from finescale.networks import FAMILIES, Family, Frame, FrameSettings, family_of
from finescale.quantize import QuantSettings, insert_quantizers
from finescale.quantize.calibrate import calibrate
from finescale.testing.heads import heads
from finescale.testing.seeded import STATISTICS, seeded_input, seeded_tensor
from finescale.weights import load, save

EVERY = [
    (family, variant, scale)
    for family in FAMILIES.values()
    for variant in family.tiny
    for scale in family.scales(variant)
    if scale <= 4
]
"""Every variant at every usual scale."""


def bodies(usual: int) -> list[Any]:
    """Each variant at one scale, which changes the head alone; of variants with equal bodies the first."""
    chosen: dict[tuple[str, str], Any] = {}
    for family in FAMILIES.values():
        for variant, settings in family.tiny.items():
            # At x4 repeated pixels are 16 times the work.
            offered = settings.scales[:1] if settings.upsampler == "nearest+conv" else settings.scales
            scale = usual if usual in offered else offered[0]
            body = (family.name, str(settings.model_dump(exclude={"upsampler"})))
            chosen.setdefault(body, pytest.param((family, variant, scale), id=f"{variant}-x{scale}"))
    return list(chosen.values())


TINY = bodies(2)
"""What most promises are asked of; heads at other scales have a test of their own below."""
PUBLISHED = [pytest.param(*each, id=f"{each[1]}-x{each[2]}") for each in EVERY]
CANCELLED = (".pos.pos3.0.bias", ".pos.pos3.2.bias")
"""What adds one number to all products of a window, as far as a tiny network's ReLU lets everything through.

Where a softmax follows, it takes that number away again: the gradient and the effect are rounding, and may be 0.
"""
SIZES = [(1, 1), (1, 9), (9, 1), (2, 2), (7, 5), (16, 16), (17, 23)]


@pytest.fixture(params=TINY)
def network(request: pytest.FixtureRequest) -> Frame:
    """A tiny network in eval mode, with weights that make every part count."""
    family, variant, scale = request.param
    network: Frame = family.network(settings=family.tiny[variant], scale=scale)
    network.load_state_dict({key: filled(key, tensor) for key, tensor in network.state_dict().items()})
    return network.eval()


def filled(key: str, tensor: Tensor) -> Tensor:
    """Weights by the rule of the golden cases; variances are positive, and counters stay."""
    if not tensor.is_floating_point():
        return tensor
    value = seeded_tensor(key, tensor.shape)
    return 1 + value.abs() if key.endswith(".running_var") else value


def training(network: Frame) -> Frame:
    """The network in training mode, but for its batch norms, whose answers depend on the whole batch there."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return network


@pytest.fixture
def image(network: Frame) -> Tensor:
    return seeded_input((1, network.in_channels, 7, 5))


@torch.no_grad()
def answer(network: nn.Module, image: Tensor) -> Tensor:
    output: Tensor = network(image)
    return output


def other(network: Frame) -> Frame:
    """A network of the same settings and scale with other weights."""
    return type(network)(settings=network.settings, scale=network.scale).eval()


# ---- images


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_an_image_of_any_size_comes_out_scale_times_larger(network: Frame, size: tuple[int, int]) -> None:
    output = answer(network, seeded_input((1, network.in_channels, *size)))
    assert output.shape == (1, network.in_channels, network.scale * size[0], network.scale * size[1])
    assert output.isfinite().all()


def test_an_image_has_the_same_answer_alone_and_in_a_batch(network: Frame) -> None:
    images = seeded_input((3, network.in_channels, 7, 5))
    alone = torch.cat([answer(network, image[None]) for image in images])
    torch.testing.assert_close(answer(network, images), alone, rtol=0, atol=1e-5)


def test_the_image_is_left_as_it_was(network: Frame, image: Tensor) -> None:
    before = image.clone()
    answer(network, image)
    assert torch.equal(image, before)


def test_an_images_memory_layout_does_not_matter(network: Frame, image: Tensor) -> None:
    expected = answer(network, image)
    flipped = image.transpose(2, 3).contiguous().transpose(2, 3)
    assert torch.equal(answer(network, flipped), expected)
    assert torch.equal(answer(network, image.contiguous(memory_format=torch.channels_last)), expected)


# ---- modes and numbers


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_answer_does_not_depend_on_whether_gradients_are_recorded(
    network: Frame, image: Tensor, mode: type[AbstractContextManager[None]]
) -> None:
    expected = answer(network, image)
    with mode():
        first, second = network(image), network(image)
    # Where a bias learns, PyTorch takes another attention kernel: the difference is the noise of float32.
    torch.testing.assert_close(first.detach(), expected, rtol=0, atol=5e-6)
    torch.testing.assert_close(second.detach(), expected, rtol=0, atol=5e-6)


def test_training_and_eval_mode_agree(network: Frame, image: Tensor) -> None:
    expected = answer(network, image)
    torch.testing.assert_close(answer(training(network), image), expected, rtol=0, atol=1e-6)


def test_every_parameter_gets_a_gradient(network: Frame) -> None:
    output = training(network)(seeded_input((2, network.in_channels, 13, 11)))
    (output * seeded_input(output.shape, seed=1)).sum().backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    missing = [name for name, gradient in gradients.items() if gradient is None]
    assert not missing
    learned = {name: gradient for name, gradient in gradients.items() if gradient is not None}
    zero = [name for name, gradient in learned.items() if not (gradient.any() or name.endswith(CANCELLED))]
    assert not zero
    assert all(gradient.isfinite().all() for gradient in learned.values())


def test_the_network_is_sensitive_to_every_parameter(network: Frame) -> None:
    image = seeded_input((1, network.in_channels, 13, 11))
    expected = answer(network, image)
    for name, parameter in network.named_parameters():
        kept = parameter.detach().clone()
        with torch.no_grad():
            parameter.add_(0.5 * seeded_input((1, 1, 1, kept.numel()), seed=2).reshape(kept.shape))
        same = torch.equal(answer(network, image), expected)
        assert not same or name.endswith(CANCELLED), f"{name} has no effect"
        with torch.no_grad():
            parameter.copy_(kept)
    assert torch.equal(answer(network, image), expected)


def test_float64_is_close_to_float32(network: Frame, image: Tensor) -> None:
    expected = answer(network, image)
    output = answer(network.double(), image.double())
    assert output.dtype == torch.float64
    torch.testing.assert_close(output.float(), expected, rtol=0, atol=1e-4)


HALF = [pytest.param(torch.bfloat16, 0.1, id="bfloat16"), pytest.param(torch.float16, 0.01, id="float16")]
"""The two halves of float32, and how far from it a network may be: 8 and 11 bits, some of which many layers use up."""


@pytest.mark.parametrize(("dtype", "bound"), HALF)
def test_a_network_converted_to_half_precision_is_near_float32(
    network: Frame, image: Tensor, dtype: torch.dtype, bound: float
) -> None:
    expected = answer(network, image)
    output = converted(network, image, dtype)
    assert output.dtype == dtype
    assert relative_error(output, expected) < bound


@pytest.mark.parametrize(("dtype", "bound"), HALF)
def test_autocast_is_near_float32(network: Frame, image: Tensor, dtype: torch.dtype, bound: float) -> None:
    expected = answer(network, image)
    assert relative_error(autocast(network, image, dtype), expected) < bound
    assert torch.equal(answer(network, image), expected)


@pytest.mark.parametrize("network", bodies(4), indirect=True)
@pytest.mark.parametrize(("dtype", "bound"), HALF)
def test_a_white_image_whose_sums_are_large_keeps_its_precision(
    network: Frame, dtype: torch.dtype, bound: float
) -> None:
    image = torch.ones(1, network.in_channels, 96, 96)
    expected = answer(network, image)
    assert relative_error(autocast(network, image, dtype), expected) < bound
    rounding = relative_error(expected.to(dtype), expected)  # of an image that hardly differs from white
    assert relative_error(converted(network, image, dtype), expected) < bound + rounding


@pytest.mark.parametrize("network", bodies(4), indirect=True)
def test_features_thirty_times_as_large_do_not_leave_the_range_of_float16(network: Frame) -> None:
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.LayerNorm):
                module.weight.mul_(30)
    for image in (torch.ones(1, network.in_channels, 96, 96), seeded_input((1, network.in_channels, 96, 96))):
        assert autocast(network, image, torch.float16).isfinite().all()
        assert converted(network, image, torch.float16).isfinite().all()


def converted(network: Frame, image: Tensor, dtype: torch.dtype) -> Tensor:
    return answer(copy.deepcopy(network).to(dtype), image.to(dtype))


def autocast(network: Frame, image: Tensor, dtype: torch.dtype) -> Tensor:
    with torch.autocast("cpu", dtype=dtype):
        return answer(network, image)


def relative_error(output: Tensor, expected: Tensor) -> float:
    """Size of the difference, as a share of the expected answer's own deviation."""
    return float((output.double() - expected.double()).pow(2).mean().sqrt() / expected.double().std())


# ---- state


def test_nothing_but_parameters_and_statistics_is_in_the_state_dict(network: Frame) -> None:
    learned = {key for key in network.state_dict() if not key.endswith(STATISTICS)}
    assert learned == {name for name, _ in network.named_parameters()}


def test_an_answer_leaves_the_state_dict_as_it_was(network: Frame, image: Tensor) -> None:
    keys = list(network.state_dict())
    answer(network, image)
    assert list(network.state_dict()) == keys


def test_a_state_dict_saved_and_loaded_gives_the_same_answer(network: Frame, image: Tensor) -> None:
    expected = answer(network, image)
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    loaded = other(network)
    assert not torch.equal(answer(loaded, image), expected)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(answer(loaded, image), expected)


def test_weights_assigned_in_place_of_the_old_ones_count_at_once(network: Frame, image: Tensor) -> None:
    expected = answer(network, image)
    loaded = other(network)
    answer(loaded, image)
    loaded.load_state_dict(network.state_dict(), assign=True)
    assert torch.equal(answer(loaded, image), expected)


def test_settings_and_scale_are_read_back_from_the_state_dict(network: Frame) -> None:
    family = family_of(network)
    settings, scale = family.files.from_state(network.state_dict())
    assert scale == network.scale
    differing = {
        field for field in type(settings).model_fields if getattr(settings, field) != getattr(network.settings, field)
    }
    assert differing <= set(family.files.unseen(network.settings, network.state_dict())), (
        "a field differs that the family claims to see"
    )


@pytest.mark.parametrize(("family", "variant", "scale"), PUBLISHED)
def test_a_published_size_is_read_back_where_it_is_seen(family: Family, variant: str, scale: int) -> None:
    published = family.variants[variant]
    with torch.device("meta"):
        network = family.network(settings=published, scale=scale)
    settings, read_scale = family.files.from_state(network.state_dict())
    seen = set(type(published).model_fields) - set(family.files.unseen(published, network.state_dict()))
    assert settings.model_dump(include=seen) == published.model_dump(include=seen)
    assert read_scale == scale


def test_a_network_that_is_saved_is_loaded_as_itself(network: Frame, image: Tensor, tmp_path: Path) -> None:
    file = tmp_path / "network.safetensors"
    save(network, file, source="a promise")
    loaded = load(file)
    assert (loaded.family, loaded.settings, loaded.scale) == (
        family_of(network).name, network.settings, network.scale,
    )  # fmt: skip
    assert torch.equal(answer(loaded.network, image), answer(network, image))


def test_a_quantized_network_is_near_float32_and_loaded_as_itself(network: Frame, tmp_path: Path) -> None:
    image, file = seeded_input((1, network.in_channels, 16, 16)), tmp_path / "network.safetensors"
    expected = answer(network, image)
    settings, placement = QuantSettings(bits=8, method="minmax"), family_of(network).quantization.placement
    insert_quantizers(network, placement(network.settings), settings)
    calibrate(network, [image], placement(network.settings), settings)
    assert relative_error(answer(network, image), expected) < 0.5
    save(network, file, source="a promise")
    assert torch.equal(answer(load(file).network, image), answer(network, image))


def test_a_network_is_recognised_by_its_own_family(network: Frame) -> None:
    recognising = [family.name for family in FAMILIES.values() if family.files.recognises(network.state_dict())]
    assert recognising[-1] == family_of(network).name  # the last that recognises a file reads it


# ---- scales that no family publishes


@pytest.mark.parametrize(("family", "settings", "scale"), heads())
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_head_at_another_scale_enlarges_learns_and_is_read_back(
    family: Family, settings: FrameSettings, scale: int, channels: int
) -> None:
    settings = settings.model_copy(update={"in_channels": channels})
    network = training(family.network(settings=settings, scale=scale))
    output = network(seeded_input((2, channels, 7, 5)))
    assert output.shape == (2, channels, 7 * scale, 5 * scale)
    (output * seeded_input(output.shape, seed=1)).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters() if parameter.grad is not None)
    shown, shown_scale = family.files.from_state(network.state_dict())
    assert (shown.upsampler, shown.in_channels, shown_scale) == (settings.upsampler, channels, scale)


@pytest.mark.parametrize(("family", "settings", "scale"), heads())
def test_the_image_is_added_by_the_head_for_restoration_alone(
    family: Family, settings: FrameSettings, scale: int
) -> None:
    network, image = family.network(settings=settings, scale=scale).eval(), seeded_input((1, 3, 7, 5))
    for parameter in network.get_submodule("upsample.0" if network.head == ("upsample",) else "conv_last").parameters():
        nn.init.zeros_(parameter)
    mean = network.mean.expand(1, 3, 7 * scale, 5 * scale)
    expected = image if settings.upsampler == "restoration" else mean
    torch.testing.assert_close(answer(network, image), expected, rtol=0, atol=1e-6)


# ---- copies


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))], ids=["deepcopy", "pickle"]
)
def test_a_copy_gives_the_same_answer_and_goes_its_own_way(
    network: Frame, image: Tensor, duplicate: Callable[[Frame], Frame]
) -> None:
    expected = answer(network, image)
    twin = duplicate(network)
    assert torch.equal(answer(twin, image), expected)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(1.5)
    changed = answer(twin, image)
    assert torch.equal(answer(network, image), expected)
    fresh = other(network)
    fresh.load_state_dict(twin.state_dict())
    assert torch.equal(answer(fresh, image), changed)


def test_an_exported_program_gives_the_same_answer(network: Frame, image: Tensor) -> None:
    expected = answer(network, image)
    with torch.no_grad():
        program = torch.export.export(network, (image,), strict=False)
        torch.testing.assert_close(program.module()(image), expected, rtol=0, atol=1e-5)
