"""Programs of `torch.export`, for PyTorch without this package."""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch
from torch import Tensor

from finescale.engines.parity import Parity
from finescale.engines.translation import to_program
from finescale.errors import WeightsError
from finescale.export.checking import check
from finescale.export.metadata import metadata_of
from finescale.networks import Frame
from finescale.system.files import whole_file
from finescale.weights.third_party import ThirdPartyNetwork

METADATA = "finescale.json"
"""Name of the extra file in a ``.pt2`` that holds the metadata, as JSON."""


def export_program(
    network: Frame | ThirdPartyNetwork,
    file: Path,
    *,
    size: tuple[int, int] | None = None,
    source: str | None = None,
    licence: str | None = None,
) -> Parity:
    """Write a network as a program that `torch.export.load` reads, after comparing it with the network.

    Args:
        network: Float or quantized, on the CPU.
        file: The ``.pt2`` file; it appears once the comparison has succeeded.
        size: Height and width of the images, in lr pixels; None is every size.
        source: Where the weights come from, for the metadata.
        licence: Of the weights, for the metadata.

    Returns:
        How close the program comes to the network, at the worst of several sizes.

    Raises:
        ValueError: The network takes one size alone, and ``size`` is None.
        MissingExtraError: PyTorch is too old for free sizes.
        NumericalError: The program computes other values.
        WeightsError: The file cannot be written.
    """
    network = network.eval()
    facts = json.dumps(metadata_of(network, source=source, licence=licence))
    written = io.BytesIO()
    torch.export.save(to_program(network, size=size), written, extra_files={METADATA: facts})
    written.seek(0)
    module = torch.export.load(written).module()

    def by_program(images: Tensor) -> Tensor:
        with torch.no_grad():
            answer: Tensor = module(images)
        return answer

    parity = check(network, by_program, size=size, by="the program", tolerance=None)
    try:
        with whole_file(file) as whole:
            whole.write(written.getbuffer())
    except OSError as error:
        raise WeightsError(f"{file}: cannot be written ({error.strerror})") from None
    return parity
