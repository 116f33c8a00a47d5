"""PTQ4SR and 2DQuant find the published ranges, and refine them by the published steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from finescale.quantize import QuantSettings
from finescale.quantize.calibrate import calibrate, count_numbers
from finescale.quantize.losses import energy_distance, features_of, mixed_distance
from finescale.quantize.modules import quantizers, switched_off
from finescale.quantize.objectives import SquaredError
from finescale.quantize.observers import Observer, percentiles
from finescale.quantize.quantizer import Quantizer, along_rows, codes_between, fake_quantize
from finescale.quantize.refine import refine
from golden_ptq2 import Case, found_bounds, gradients, names, our_path, quantized_network, set_bounds

SEARCH = QuantSettings(bits=4, method="search", scheme="anchored")
DENSITY = QuantSettings(bits=4, method="density", scheme="anchored")

METHODS = ("2dquant", "ptq4sr")
quantizer_cases = pytest.mark.parametrize(
    ("name", "method"),
    [(name, method) for method in METHODS for name in names("quantizer", method) if name != "quantizer_crossed"],
)
network_cases = pytest.mark.parametrize("name", [name for method in METHODS for name in names("network", method)])


def relative(found: Tensor, wanted: Tensor, tolerance: float) -> None:
    """Differences stay below a share of the largest wanted number."""
    torch.testing.assert_close(found, wanted, rtol=0, atol=tolerance * max(float(wanted.abs().max()), 1e-12))


# ---- one tensor


@quantizer_cases
def test_codes_values_and_gradients_are_the_published_ones(name: str, method: str) -> None:
    case = Case(name)
    for bits in case.meta["bits"]:
        of_bits = f"b{bits}." if f"b{bits}.low" in case.arrays else ""
        x, low, high = (case[key].clone().requires_grad_() for key in ("x", f"{of_bits}low", f"{of_bits}high"))
        seen = round(case.meta["gradient_scale"][str(bits)] ** -2 / (2 ** (bits - 1) - 1)) if method == "ptq4sr" else 0
        ends = along_rows(low, x), along_rows(high, x)
        assert torch.equal(codes_between(x, *ends, bits=bits, anchored=True).short(), case[f"b{bits}.codes"])
        answer = fake_quantize(x, low, high, bits=bits, anchored=True, seen=seen)
        relative(answer.detach(), case[f"b{bits}.output"], 1e-6)
        answer.backward(case["grad_out"])
        assert x.grad is not None
        relative(x.grad, case[f"b{bits}.grad_x"], 1e-6)
        wanted = torch.stack([case[f"b{bits}.grad_low"], case[f"b{bits}.grad_high"]])
        assert low.grad is not None
        assert high.grad is not None
        relative(torch.stack([low.grad, high.grad]), wanted, 1e-3 if method == "2dquant" else 1e-4)


@pytest.mark.parametrize("name", [name for name in names("search", "2dquant") if name != "search_constant"])
def test_the_search_takes_the_published_range(name: str) -> None:
    case = Case(name)
    x = case["x"]
    for key, result in case.meta["results"].items():
        bits = int(key[1 : key.index(".")])
        seen = Observer(SEARCH, bits=bits, upper_only=key.endswith("one"))
        seen.update(x)
        for bound, end in zip(seen.bounds, ("low", "high"), strict=True):
            torch.testing.assert_close(bound, case[f"{key}.{end}"], rtol=0, atol=1e-6 * float(x.max() - x.min()))
        assert result["margin"] > 2e-5
        found = SquaredError(x.reshape(1, -1), settings=SEARCH, bits=bits)(
            case[f"{key}.low"].reshape(1, 1), case[f"{key}.high"].reshape(1, 1)
        )
        scores = case[f"{key}.scores"]
        assert float(found) == pytest.approx(float(scores[result["index"]]), abs=1e-5 * float(scores.max()))


@pytest.mark.parametrize("key", ["constant", "zeros", "single"])
@pytest.mark.parametrize("settings", [SEARCH, DENSITY], ids=["search", "density"])
def test_a_constant_tensor_is_kept(key: str, settings: QuantSettings) -> None:
    x = Case("search_constant")[key]
    seen = Observer(settings, bits=4)
    seen.update(x)
    one = Quantizer(bits=4, anchored=True)
    one.set_bounds(*seen.bounds)
    one.is_on = True
    for bound in (one.low, one.high):
        bound.requires_grad_()
    answer = one(x)
    torch.testing.assert_close(answer.detach(), x, rtol=0, atol=1e-6)
    answer.sum().backward()
    assert one.low.grad is not None
    assert one.low.grad.isfinite()


@pytest.mark.parametrize("name", names("clip", "ptq4sr"))
def test_density_clipping_cuts_the_published_ends(name: str) -> None:
    case = Case(name)
    for bits in case.meta["bits"]:
        together = Observer(DENSITY, bits=bits)
        for batch in range(case.meta["calls"]):
            x = case[f"x{batch}"]
            alone = Observer(DENSITY, bits=bits)
            for seen, key in ((alone, "clip_"), (together, "")):
                seen.update(x)
                for bound, end in zip(seen.bounds, ("low", "high"), strict=True):
                    allowed = 1e-6 * max(float(x.max() - x.min()), 1e-6)
                    torch.testing.assert_close(bound, case[f"b{bits}.{key}{end}{batch}"], rtol=0, atol=allowed)


def test_density_leaves_weights_whole() -> None:
    case = Case("ptq4sr_weight")
    seen = Observer(DENSITY, bits=4, per_row=True)
    seen.update(case["x"])
    assert torch.equal(torch.stack(seen.bounds), torch.stack([case["low"], case["high"]]))
    tails = percentiles(case["x"].reshape(1, -1), tail=case.meta["weight_clip"])
    for bound, end in zip(tails, ("tensor_low", "tensor_high"), strict=True):
        torch.testing.assert_close(bound[0].float(), case[end], rtol=0, atol=1e-6)


# ---- whole networks


@network_cases
def test_a_whole_network_has_the_published_ranges_and_answers(name: str) -> None:
    case = Case(name)
    network, placement, settings = quantized_network(case)
    with torch.no_grad():
        torch.testing.assert_close(network(case["input"]), case["float_output"], rtol=0, atol=1e-4)
    calibrate(network, [case["calib"]], placement, settings)
    wanted, found = case.bounds("bounds"), found_bounds(network)
    assert found.keys() == wanted.keys()
    for path, ends in wanted.items():
        for bound, end in zip(found[path], ends, strict=True):
            allowed = 2e-5 if settings.method == "search" else 2e-6 * float((ends[1] - ends[0]).max())
            torch.testing.assert_close(bound.flatten(), end.flatten(), rtol=0, atol=allowed)
    with torch.no_grad():
        torch.testing.assert_close(network(case["input"]), case["output"], rtol=0, atol=1e-4)


def distance(found: dict[str, tuple[Tensor, Tensor]], wanted: dict[str, tuple[Tensor, Tensor]]) -> float:
    """Norm of a difference, as a share of that of what is wanted, over the quantizers found."""
    pairs = [
        (one.flatten().double(), other.flatten().double())
        for path, ends in found.items()
        for one, other in zip(ends, wanted[path], strict=True)
    ]
    ours, theirs = (torch.cat([pair[side] for pair in pairs]) for side in range(2))
    return float((ours - theirs).norm() / theirs.norm())


def steps_of(case: Case, network: Any, images: list[Tensor], settings: QuantSettings) -> list[dict[str, Any]]:
    """Loss, gradients and bounds of every step of a refinement, against the float network."""
    steps: list[dict[str, Any]] = []
    targets, features = [], []
    with switched_off(network), torch.no_grad():
        for image in images:
            if settings.loss == "2dquant":
                with features_of(network) as seen:
                    targets.append(network(image))
                features.append(seen)
            else:
                targets.append(network(image))
    set_bounds(network, case.bounds("start"))
    refine(
        network, images, targets, settings, features=features,
        on_step=lambda loss: steps.append(
            {"loss": loss, "gradients": gradients(network), "bounds": found_bounds(network)}
        ),
    )  # fmt: skip
    return steps


@pytest.mark.parametrize("name", names("refine", "2dquant"))
def test_2dquant_is_refined_by_the_published_steps(name: str) -> None:
    case = Case(name)
    network, _, settings = quantized_network(case)
    assert (settings.lr, settings.beta2) == (case.meta["lr"], case.meta["betas"][1])
    batches = [case[key] for key in ("batch0", "batch1") if key in case.arrays]
    steps = steps_of(case, network, [batches[number % len(batches)] for number in range(3)], settings)
    wanted = case["losses"][:, 0] + case["losses"][:, 1]
    assert steps[0]["loss"] == pytest.approx(float(wanted[0]), rel=1e-5)
    assert [step["loss"] for step in steps] == pytest.approx(wanted.tolist(), rel=1e-3)
    assert distance(steps[0]["gradients"], case.bounds("grad")) < 1e-4
    for step, key, allowed in ((0, "step1", 1e-5), (2, "last", 1e-4)):
        for path, ends in case.bounds(key).items():
            for bound, end in zip(steps[step]["bounds"][path], ends, strict=True):
                torch.testing.assert_close(bound.flatten(), end.flatten(), rtol=0, atol=allowed)


@pytest.mark.parametrize("name", names("refine", "2dquant"))
def test_features_are_compared_as_2dquant_does(name: str) -> None:
    case = Case(name)
    network, _, _ = quantized_network(case)
    with switched_off(network), torch.no_grad(), features_of(network) as aims:
        network(case["batch0"])
    set_bounds(network, case.bounds("start"))
    for one in quantizers(network).values():
        one.low.requires_grad_()
        one.high.requires_grad_()
    with features_of(network) as seen:
        network(case["batch0"])
    losses = [5 * mixed_distance(*pair) for pair in zip(seen, aims, strict=True)]
    assert [float(loss.detach()) for loss in losses] == pytest.approx(case["losses"][0, 2:].tolist(), rel=1e-5)
    sum(losses).backward()
    assert distance(gradients(network), case.bounds("grad_feature")) < 1e-4


def test_ptq4sr_refines_activations_and_then_weights_by_the_published_steps() -> None:
    case = Case("ptq4sr_refine_4bit")
    network, _, settings = quantized_network(case)
    images = [case[f"batch{number}"] for number in range(3)]
    count_numbers(network, case["calib"])
    for path, scale in case.meta["gradient_scale"].items():
        one = quantizers(network)[our_path(path)]
        assert (one.seen * (2 ** (one.bits - 1) - 1)) ** -0.5 == pytest.approx(scale)
    steps = steps_of(case, network, images, settings.model_copy(update={"epochs": 2}))
    losses = [step["loss"] for step in steps]
    assert losses == pytest.approx(case["losses"][:, 0].tolist(), rel=1e-4)
    for step, key in ((0, "grad_activation"), (3, "grad_weight")):
        trained = {path for path in steps[step]["gradients"] if ("weight" in path) == (key == "grad_weight")}
        assert len(trained) == 8
        found = {path: ends for path, ends in steps[step]["gradients"].items() if path in trained}
        assert distance(found, case.bounds(key)) < 1e-4
    for step, key in ((0, "step1"), (2, "after_activation"), (3, "step1_weight"), (5, "last")):
        for path, ends in case.bounds(key).items():
            allowed = 1e-7 if "weight" in path else 2e-4
            for bound, end in zip(steps[step]["bounds"][path], ends, strict=True):
                torch.testing.assert_close(bound, end, rtol=1e-6 if "weight" in path else 0, atol=allowed)


def test_energies_are_compared_as_ptq4sr_logs_them() -> None:
    case = Case("ptq4sr_refine_4bit")
    network, _, _ = quantized_network(case)
    seen: list[Tensor] = []
    for block in network.body:
        block.register_forward_hook(lambda _block, _inputs, output: seen.append(output.permute(0, 2, 3, 1)))
    with torch.no_grad():
        network(case["batch0"])
        set_bounds(network, case.bounds("start"))
        network(case["batch0"])
    found = torch.stack([energy_distance(*pair) for pair in zip(seen[2:], seen[:2], strict=True)]).mean()
    assert float(found) == pytest.approx(float(case["losses"][0, 1]), rel=1e-4)


def test_a_network_without_groups_has_no_features() -> None:
    with (
        pytest.raises(ValueError, match="EDSR has no residual groups"),
        features_of(quantized_network(Case("ptq4sr_network_4bit"))[0]),
    ):
        pass
