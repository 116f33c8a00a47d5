"""Cost of networks: parameters, operations, time and memory, beside the numbers that their authors publish."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from finescale import weights, zoo
from finescale.analyze.published import beyond, count_by_rule
from finescale.analyze.rules import Rule
from finescale.errors import DeviceError
from finescale.metrics.cost import Operations, Timing, count_operations, count_parameters, time_forward
from finescale.networks import (
    Cost,
    Count,
    Frame,
    WrappedNetwork,
    as_network,
    build,
    check_scale,
    family_of,
    hierarchical,
    is_convertible,
    variants,
)
from finescale.system.memory import is_out_of_memory
from finescale.upscale.memory import LiveBytes

Size = tuple[int, int]


@dataclass(frozen=True, eq=False, kw_only=True)
class Subject:
    """Network whose cost is analyzed."""

    name: str
    """Name that the user gave it."""
    scale: int
    """Scale of its results."""
    network: Frame | WrappedNetwork
    """The network, with the weights of a file, with random ones (which cost the same), or without values."""
    cost: Cost | None
    """Published size and cost; None for networks of other sizes."""


def subject(name: str, *, scale: int, runs: bool = False) -> Subject:
    """Find a network: a published one, whose weights need not be present, a bundled one, or that of a weight file.

    Args:
        name: Name of the network, or path of a weight file.
        scale: How many times it enlarges.
        runs: Whether it will run; otherwise a published network is built without values, on the meta device.

    Raises:
        ValueError: There is no such network, or not at this scale.
        WeightsError: The file cannot be used.
    """
    known = {entry.scale: entry for entry in zoo.models() if entry.name == name}
    if known and known[max(known)].variant is not None:
        entry = zoo.entry(name, scale=scale)
        with torch.random.fork_rng(devices=[]), torch.device("cpu" if runs else "meta"):  # callers' numbers stay
            return Subject(name=name, scale=scale, network=build(str(entry.variant), scale=scale), cost=entry.cost)
    network = weights.load_named(name, scale=scale).network
    return Subject(name=name, scale=scale, network=network, cost=_known_cost(network))


def hierarchical_counterpart(subject: Subject, *, runs: bool = False) -> Subject:
    """Convert a network with windowed attention to the hierarchical one, with random weights.

    Args:
        subject: A SwinIR, SwinIR-NG or SRFormer network, see `finescale.networks.hierarchical`.
        runs: Whether the counterpart will run.

    Raises:
        ValueError: The network cannot be converted.
    """
    network = subject.network
    if not isinstance(network, Frame) or not is_convertible(network.settings):
        raise ValueError(
            f"{subject.name} has no hierarchical counterpart; SwinIR, SwinIR-NG and SRFormer networks without a "
            "position embedding have one"
        )
    family = variants()["hit-sir"]
    settings = hierarchical(network.settings)
    nearest, differing = family.nearest(settings)
    with torch.random.fork_rng(devices=[]), torch.device("cpu" if runs else "meta"):  # callers' random numbers stay
        converted = family.network(settings=settings, scale=subject.scale)
    name = f"{subject.name}, hierarchical" if differing else nearest
    return Subject(name=name, scale=subject.scale, network=converted, cost=_known_cost(converted))


def subject_of(
    module: nn.Module, *, scale: int | None = None, channels: int | None = None, multiple: int | None = None
) -> Subject:
    """Take a network, or any module, as a subject; see `finescale.networks.as_network` for the arguments.

    Raises:
        ValueError: As for `finescale.networks.as_network`.
    """
    network = as_network(module, scale=scale, channels=channels, multiple=multiple)
    name = network.name if isinstance(network, WrappedNetwork) else type(network).__name__
    return Subject(name=name, scale=network.scale, network=network, cost=_known_cost(network))


def _known_cost(network: Frame | WrappedNetwork) -> Cost | None:
    """Return the published size and cost of a network, if it is of a published size."""
    if isinstance(network, WrappedNetwork):
        return None
    family = family_of(network)
    variant, differing = family.nearest(network.settings)
    return None if differing else family.publication.costs.get((variant, network.scale))


def input_for(output: Size, *, scale: int) -> Size:
    """Return (height, width) of the lr image whose result is at most as large as ``output``, rounded down.

    Raises:
        ValueError: Less than one pixel is left, or there is no such scale.
    """
    check_scale(scale)
    size = output[0] // scale, output[1] // scale
    if min(size) < 1:
        raise ValueError(
            f"an output of {output[1]} x {output[0]} pixels has no input at x{scale}; ask for a larger one"
        )
    return size


@dataclass(frozen=True, kw_only=True)
class CostRow:
    """Cost of one network for one input."""

    model: str
    """Name of the network."""
    scale: int
    """Scale of its results."""
    input_size: Size
    """(height, width) of the lr image."""
    parameters: int
    """Number of values of all parameters."""
    operations: Operations
    """Operations of one forward."""
    timing: Timing | None
    """Duration on this machine; None where not measured."""
    memory_mib: float | None
    """Peak memory of all tensors other than the weights; None where not measured."""
    by_rule: Mapping[str, int]
    """Counts by published rules, by their names, in the units of `finescale.analyze.RULES`."""

    def as_json(self) -> dict[str, Any]:
        """Return the row of a report."""
        return {
            "model": self.model,
            "scale": self.scale,
            "input_size": list(self.input_size),
            "output_size": [side * self.scale for side in self.input_size],
            "parameters": self.parameters,
            "multiply_adds": self.operations.multiply_adds,
            "executed_multiply_adds": self.operations.executed,
            "flops": 2 * self.operations.multiply_adds,
            "time": asdict(self.timing) if self.timing else None,
            "memory_mib": self.memory_mib,
            "by_rule": dict(self.by_rule),
        }


def measure_cost(
    subject: Subject,
    size: Size,
    *,
    rules: Mapping[str, Rule] | None = None,
    timed: bool = False,
    runs: int = 5,
    device: str | torch.device = "cpu",
) -> CostRow:
    """Count, and measure if ``timed``, what a network costs for one image.

    Args:
        subject: The network, built with ``runs`` if it is to be timed; timing moves it to the device.
        size: (height, width) of the image, in lr pixels.
        rules: Published rules by which it is counted besides, by their names.
        timed: Whether to measure time and memory of forwards on the whole image.
        runs: Number of timed forwards, after one that is not timed.
        device: Device of the forwards.

    Raises:
        ValueError: ``runs`` is less than 1.
        DeviceError: The image does not fit on the device, or there is no such device.
    """
    shape = (1, subject.network.in_channels, *size)
    timing = memory_mib = None
    if timed:
        weights.move(subject.network, str(device))
        network = subject.network.eval()
        image = torch.rand(shape, device=device, generator=torch.Generator(device).manual_seed(0))
        try:
            timing = time_forward(network, image, runs=runs)
            memory_mib = _peak_bytes(network, image) / 2**20
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise DeviceError(
                f"{subject.name} does not fit into the memory of {device} with a whole image of {size[0]}x{size[1]} "
                "pixels; time it at a smaller --input"
            ) from None
    operations = count_operations(subject.network, shape, beyond=beyond())
    return CostRow(
        model=subject.name,
        scale=subject.scale,
        input_size=size,
        parameters=count_parameters(subject.network),
        operations=operations,
        timing=timing,
        memory_mib=memory_mib,
        by_rule={name: rule.count(subject.network, shape, operations) for name, rule in (rules or {}).items()},
    )


@torch.inference_mode()
def _peak_bytes(network: nn.Module, image: torch.Tensor) -> int:
    """Return the peak number of bytes of a forward, besides its input and the network."""
    live = LiveBytes()
    with live:
        network(image)
    return live.peak


# ---- beside what is published


@dataclass(frozen=True, kw_only=True)
class PublishedComparison:
    """Published count of multiply-adds beside ours."""

    model: str
    """Name of the network."""
    scale: int
    """Scale of its results."""
    published: Count
    """Published count, with its input size and its rule."""
    counted: int | None
    """Count of our network for the same input by the same rule; None where the rule is not known."""
    by_authors: bool
    """Whether the authors print the number; otherwise it was counted on their network."""

    def as_json(self) -> dict[str, Any]:
        """Return the comparison as a row of a report."""
        return {
            "model": self.model,
            "scale": self.scale,
            "input_size": list(self.published.size),
            "rule": self.published.rule,
            "by_authors": self.by_authors,
            "published_giga": self.published.giga,
            "counted_giga": None if self.counted is None else self.counted / 1e9,
        }


def compare_with_published(subject: Subject) -> Iterator[PublishedComparison]:
    """Compare every published count of a network with the same count of ours; nothing for unpublished networks."""
    if subject.cost is None:
        return
    counts = [(count, True) for count in subject.cost.printed]
    if subject.cost.multiply_adds is not None:
        counts.insert(0, (subject.cost.multiply_adds, False))
    operations: dict[Size, Operations] = {}
    for published, by_authors in counts:
        shape = (1, subject.network.in_channels, *published.size)
        if published.size not in operations:
            operations[published.size] = count_operations(subject.network, shape, beyond=beyond())
        ours = operations[published.size]
        counted = count_by_rule(published.rule, subject.network, shape, ours) if by_authors else ours.multiply_adds
        yield PublishedComparison(
            model=subject.name, scale=subject.scale, published=published, counted=counted, by_authors=by_authors
        )


def machine(device: str | torch.device) -> dict[str, Any]:
    """Describe the machine of a measurement: processor or GPU, number of threads, version of PyTorch.

    Raises:
        DeviceError: There is no such device.
    """
    try:
        device = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError):
        raise DeviceError(f"device {str(device)!r} cannot be used here; use 'cpu'") from None
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {"device": str(device), "name": name, "threads": torch.get_num_threads(), "torch": torch.__version__}
