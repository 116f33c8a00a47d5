"""Saving of a network as a weight file, with a header that states all that the tensors do not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from finescale.networks import Frame, family_of
from finescale.quantize.modules import is_quantized
from finescale.quantize.packing import to_file
from finescale.weightfiles.messages import naming
from finescale.weightfiles.tensors import as_float32, write_tensors
from finescale.weights.header import header_of
from finescale.weights.quantized import HEADER_KEY


def stored_state(network: Frame) -> dict[str, Tensor]:
    """The state dict of a network as it is stored: float32 and counters, on the host.

    Raises:
        WeightsError: A tensor has NaN or infinity.
    """
    return {
        key: as_float32(key, tensor.detach().cpu()) if tensor.is_floating_point() else tensor.cpu()
        for key, tensor in network.state_dict().items()
    }


def save(
    network: Frame,
    path: Path | str,
    *,
    source: str,
    licence: str | None = None,
    training: Mapping[str, Any] | None = None,
    published_buffers: bool = False,
    image_size: int | None = None,
) -> None:
    """Write a network as safetensors, with a header that states all that the tensors do not.

    The file appears under its name when it is whole, and the same network gives the same bytes. The weights of a
    quantized network are stored as integers of its bits, by which it gives the same answers.

    Args:
        network: Its parameters are stored as float32.
        path: Where to; must end in ``.safetensors``. An existing file is replaced.
        source: Where the weights come from: a training's name, or the paper or address they were taken from.
        licence: Of the weights, as an SPDX identifier where there is one: "Apache-2.0".
        training: The settings of the training, as plain values.
        published_buffers: Also write what the published code keeps in a state dict though it can be derived: that code
            and tools that know the network by it, such as spandrel, then read the file. It may be twice as large.
        image_size: The ``img_size`` that the published code is built with, by which these buffers hold masks; None is
            that of the published networks.

    Raises:
        ValueError: The name has another ending; the buffers are asked for a quantized network, or do not exist for the
            image size; or a network's quantizers have no bounds yet.
        WeightsError: A tensor has NaN or infinity, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"weights are saved as .safetensors, got the name {path.name!r}")
    family = family_of(network)
    if published_buffers and is_quantized(network):
        raise ValueError(
            "published_buffers must be False for a quantized network; the published code cannot read its integers"
        )
    header = header_of(network, source=source, licence=licence, training=training)
    with naming(path):
        tensors = stored_state(network)
        if published_buffers:
            tensors |= family.files.derived(network, image_size=image_size)
        if is_quantized(network):
            tensors, header[HEADER_KEY] = to_file(network, tensors)
        write_tensors(path, tensors, header)
