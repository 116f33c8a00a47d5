"""Saving of a network as a weight file, with a header that states all that the tensors do not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from finescale.errors import WeightsMismatchError
from finescale.networks import Frame, family_of
from finescale.quantize.modules import is_quantized
from finescale.quantize.packing import to_file
from finescale.weightfiles.messages import naming
from finescale.weightfiles.tensors import StoredTensors, as_float32, write_tensors
from finescale.weights.header import header_of
from finescale.weights.quantized import HEADER_KEY
from finescale.weights.third_party import ThirdPartyNetwork, read_third_party


def stored_state(network: Frame | ThirdPartyNetwork) -> dict[str, Tensor]:
    """The state dict of a network as it is stored: float32 and counters, on the host.

    Keys of a third-party network are those of the network in its wrapper.

    Raises:
        WeightsError: A tensor has NaN or infinity.
    """
    module = network.model if isinstance(network, ThirdPartyNetwork) else network
    return {
        key: as_float32(key, tensor.detach().cpu()) if tensor.is_floating_point() else tensor.cpu()
        for key, tensor in module.state_dict().items()
    }


def save(
    network: Frame | ThirdPartyNetwork,
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
        WeightsError: A tensor has NaN or infinity, the file cannot be written, or spandrel could not read a third-party
            network from it.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"weights are saved as .safetensors, got the name {path.name!r}")
    if published_buffers and is_quantized(network):
        raise ValueError(
            "published_buffers must be False for a quantized network; the published code cannot read its integers"
        )
    header = header_of(network, source=source, licence=licence, training=training)
    with naming(path):
        tensors = stored_state(network)
        if isinstance(network, ThirdPartyNetwork):
            _check_is_recognised(network, tensors)
        elif published_buffers:
            tensors |= family_of(network).files.derived(network, image_size=image_size)
        if is_quantized(network):
            module = network.model if isinstance(network, ThirdPartyNetwork) else network
            tensors, header[HEADER_KEY] = to_file(module, tensors, traced=getattr(network, "traced", None))
        write_tensors(path, tensors, header)


def _check_is_recognised(network: ThirdPartyNetwork, tensors: Mapping[str, Tensor]) -> None:
    """Refuse a third-party network that spandrel would build otherwise from what the file will hold.

    Raises:
        WeightsMismatchError: It would.
    """
    stored = StoredTensors(format="safetensors", wrapper=None, prefix="", header={}, tensors=tensors)
    found = read_third_party(stored, network.settings)
    if (found.settings, found.scale) != (network.settings, network.scale) or found.unstated() != network.unstated():
        raise WeightsMismatchError(
            f"{network.architecture} cannot be saved: some arguments of its constructor are no plain values, and its "
            "tensors do not show them"
        )
