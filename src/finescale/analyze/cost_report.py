"""Report of the costs of several networks, beside published numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from finescale.analyze.costs import (
    CostRow,
    PublishedComparison,
    Size,
    compare_with_published,
    hierarchical_counterpart,
    input_for,
    machine,
    measure_cost,
    subject,
)
from finescale.analyze.rules import rules_named

OUTPUT = (720, 1280)
"""(height, width) of the result for which papers count operations."""

SMALL_INPUT = (64, 64)
"""(height, width) of a small input, on which even slow networks are timed quickly."""


class CostReport:
    """Costs of networks beside published numbers.

    Networks are added one by one. A call of `add` that fails or is interrupted leaves what was counted before.

    Args:
        scale: How many times the networks enlarge.
        sizes: (height, width) of the inputs, in lr pixels; by default the one whose result is 1280 x 720 pixels, and
            64 x 64.
        rules: Names of published rules by which networks are counted besides, or "all", see `finescale.analyze.RULES`.
        timed: Whether to run the networks, to measure time and memory.
        runs: Number of timed forward passes, after one that is not timed.
        device: Where they run.
        hierarchical: Whether to put beside each network the hierarchical one that it can be converted to, see
            `finescale.networks.hierarchical`.

    Raises:
        ValueError: ``scale`` is out of range, or there is no such rule.
        DeviceError: There is no such device.

    Attributes:
        rules: The rules, by their names.
        rows: Costs, one row for each network and input size.
        pairs: Rows of each network and of its hierarchical counterpart, for each input size.
        published: Published numbers, each beside the same count of our network.
        machine: Where times were measured; None without times.
    """

    def __init__(
        self,
        *,
        scale: int = 4,
        sizes: Sequence[Size] | None = None,
        rules: Sequence[str] = (),
        timed: bool = False,
        runs: int = 5,
        device: str | torch.device = "cpu",
        hierarchical: bool = False,
    ) -> None:
        self._scale, self._timed, self._runs, self._device = scale, timed, runs, device
        self._sizes = [input_for(OUTPUT, scale=scale), SMALL_INPUT] if sizes is None else list(sizes)
        self.rules = rules_named(rules)
        self._hierarchical = hierarchical
        self.rows: list[CostRow] = []
        self.pairs: list[tuple[CostRow, CostRow]] = []
        self.published: list[PublishedComparison] = []
        self.machine = machine(device) if timed else None

    def add(self, model: str, *, before_timing: Callable[[str, Size], None] | None = None) -> None:
        """Count, and measure if asked for, the costs of one network.

        Args:
            model: Name of a published or bundled network, or path of a weight file.
            before_timing: Called before each timing with the model and the size of the input.

        Raises:
            ValueError: There is no such network at this scale, it has no hierarchical counterpart though one was asked
                for, or ``runs`` is less than 1.
            WeightsError: The weight file cannot be used.
            DeviceError: The image does not fit on the device.
        """
        network = subject(model, scale=self._scale, runs=self._timed)
        found = [network]
        if self._hierarchical:
            found.append(hierarchical_counterpart(network, runs=self._timed))
        for one in found:
            self.published += compare_with_published(one)
        for size in self._sizes:
            for one in found:
                if self._timed and before_timing is not None:
                    before_timing(one.name, size)
                row = measure_cost(one, size, rules=self.rules, timed=self._timed, runs=self._runs, device=self._device)
                self.rows.append(row)
            if self._hierarchical:
                self.pairs.append((self.rows[-2], self.rows[-1]))

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "rows": [row.as_json() for row in self.rows],
            "pairs": [_pair_as_json(base, converted) for base, converted in self.pairs],
            "published": [comparison.as_json() for comparison in self.published],
            "machine": self.machine,
        }


def _pair_as_json(base: CostRow, converted: CostRow) -> dict[str, Any]:
    """Return a pair by the names of its rows, with what the hierarchical network takes in parts of the other."""
    times = base.timing, converted.timing
    before, after = (timing.median_s if timing else None for timing in times)
    return {
        "model": base.model,
        "hierarchical": converted.model,
        "scale": base.scale,
        "input_size": list(base.input_size),
        "parameters_ratio": converted.parameters / base.parameters,
        "multiply_adds_ratio": converted.operations.multiply_adds / base.operations.multiply_adds,
        "time_ratio": after / before if before and after else None,
    }
