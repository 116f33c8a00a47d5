"""Other people's networks: weight files that none of our families knows, read by spandrel where it is installed.

The file is read by `tensors.read_state`, which runs no code; spandrel gets plain tensors, tells by their keys which
network they belong to, and builds it.
"""

from __future__ import annotations

import importlib.util
import logging
import textwrap
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from finescale import weights
from finescale.errors import MissingExtraError, UnknownNetworkError, WeightsError, WeightsMismatchError
from finescale.networks import Frame
from finescale.weightfiles import tensors
from finescale.weightfiles.tensors import RawState

logger = logging.getLogger("finescale")

_INSTALL = "pip install 'finescale[spandrel]'"


class ForeignNetwork(nn.Module):
    """A network of others, for inference alone: image in, image ``scale`` times as large out.

    Args:
        descriptor: What spandrel answers for a state dict, an image model with equal channels in and out.
        path: The file.
        raw: The file's tensors and what was around them; the tensors are not kept.
    """

    def __init__(self, descriptor: Any, *, path: Path, raw: RawState) -> None:
        super().__init__()
        self.model: nn.Module = descriptor.model
        self.path = path
        self.format, self.wrapper, self.prefix, self.header = raw.format, raw.wrapper, raw.prefix, raw.header
        self.architecture: str = descriptor.architecture.name
        self.scale: int = descriptor.scale
        self.in_channels: int = descriptor.input_channels
        self.period: int = descriptor.size_requirements.multiple_of
        self.supports_half: bool = descriptor.supports_half
        self.supports_bfloat16: bool = descriptor.supports_bfloat16
        self._descriptor = descriptor

    @property
    def num_parameters(self) -> int:
        """Values that were learned."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def licence(self) -> str | None:
        """Of the weights, where the file's header states one."""
        return next(
            (self.header[key] for key in ("licence", "license", "modelspec.license") if key in self.header), None
        )

    @property
    def precisions(self) -> tuple[str, ...]:
        """What the network is known to compute in: "float32", and besides "bf16", "fp16"."""
        supported = {"bf16": self.supports_bfloat16, "fp16": self.supports_half}
        return ("float32", *(precision for precision, is_supported in supported.items() if is_supported))

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of it, one sentence each."""
        told = [f"{self.path}: read by spandrel as {self.architecture} x{self.scale} (not one of finescale's networks)"]
        if self._descriptor.tiling.name != "SUPPORTED":
            told.append(f"{self.architecture} looks at a whole picture; in tiles it may differ, tile 0 makes none")
        return tuple(told)

    def forward(self, image: Tensor) -> Tensor:
        """Upscale images; each is padded to a size that the network takes, and the result is cropped.

        Args:
            image: (N, in_channels, H, W), RGB or gray in [0, 1], of any size from 1x1 up.

        Returns:
            (N, in_channels, scale * H, scale * W) in [0, 1].
        """
        # One by one: spandrel promises nothing for several.
        return torch.cat([self._descriptor(single[None]) for single in image])


def load(path: Path | str, *, device: str = "cpu") -> ForeignNetwork:
    """Read a weight file of others and build its network.

    Args:
        path: A ``.safetensors`` or ``.pth`` file, under any name.
        device: Where the network goes, such as "cpu" or "cuda".

    Raises:
        MissingExtraError: spandrel is not installed, or cannot be imported.
        WeightsError: As for `finescale.weightfiles.tensors.read_state`, or the network does not upscale or restore
            pictures.
        UnknownNetworkError: spandrel knows no network with these keys.
        WeightsMismatchError: Its tensors do not fit the network that spandrel takes them for.
        DeviceError: There is no such device.
    """
    path = Path(path)
    spandrel = _spandrel()
    raw = tensors.read_state(path)
    tensors.refuse_absurd_numbering(path, raw.state)
    state = {
        key: tensors.as_float32(path, key, tensor) if tensor.is_floating_point() else tensor
        for key, tensor in raw.state.items()
    }
    network = ForeignNetwork(_checked(path, spandrel, _build(path, spandrel, state)), path=path, raw=raw)
    weights.move(network, device)
    return network.eval()


def load_any(
    name: str | Path,
    *,
    scale: int | None = None,
    offline: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> tuple[Frame | ForeignNetwork, tuple[str, ...]]:
    """The network that a name stands for: ours, or else, where spandrel knows it, that of others.

    Args:
        name: See `finescale.weights.find`.
        scale: The scale that the network must have; see `finescale.weights.find` for None.
        offline: See `finescale.weights.find`.
        settings: See `finescale.weights.load`.

    Returns:
        The network, and what a user should know of it, one sentence each.

    Raises:
        WeightsError: The file cannot be used; see `finescale.weights.load_named` and `load_unknown`.
        DownloadError: As for `finescale.weights.find`.
        MissingExtraError: As for `finescale.weights.find`.
        ValueError: There is no such name, or not at this scale, or ``settings`` were given for a network of others.
        SettingsError: As for `finescale.weights.load`.
    """
    try:
        loaded = weights.load_named(name, scale=scale, offline=offline, settings=settings)
        return loaded.network, loaded.doubts
    except UnknownNetworkError as refusal:
        path = weights.find(name, scale=scale, offline=offline)
        network = load_unknown(path, refusal)
    if scale not in (None, network.scale):
        raise ValueError(f"scale must be {network.scale} for {path}, got {scale}")
    if settings:
        raise ValueError(f"settings must be left out for {path}, a network of others, got {dict(settings)}")
    for note in network.notes:
        logger.info(note)
    return network, network.notes


def load_unknown(path: Path, refusal: UnknownNetworkError) -> ForeignNetwork:
    """Try a file again that `finescale.weights` does not know.

    Raises:
        WeightsError: As for `load`.
        UnknownNetworkError: ``refusal``, and why spandrel did not help.
    """
    try:
        return load(path)
    except (MissingExtraError, UnknownNetworkError) as error:
        raise UnknownNetworkError(f"{refusal}; {str(error).removeprefix(f'{path}: ')}") from None


def _spandrel() -> Any:
    """The package.

    Raises:
        MissingExtraError: It is not there, or something that it imports is not.
    """
    if importlib.util.find_spec("spandrel") is None:
        raise MissingExtraError(f"{_INSTALL} may read it")
    try:
        import spandrel
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision made for another PyTorch
        raise MissingExtraError(f"spandrel, which may read it, cannot be imported ({error}); {_INSTALL}") from None
    return spandrel


def _build(path: Path, spandrel: Any, state: Mapping[str, Tensor]) -> Any:
    """spandrel's descriptor of the network that the tensors belong to."""
    architecture = None
    allowance = _Allowance(8 * sum(tensor.nbytes for tensor in state.values()) + 256 * 2**20)
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), allowance:
            warnings.simplefilter("ignore")  # of others' code
            for entry in spandrel.MAIN_REGISTRY.architectures("detection"):
                if entry.detect(state):
                    architecture = entry.architecture
                    return architecture.load(dict(state))
    except Exception as error:  # whatever made-up tensors lead others' code into
        name = architecture.name if architecture else "no network"
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 200, placeholder=" ...")
        raise WeightsMismatchError(f"{path}: spandrel takes it for {name}, but cannot build that ({reason})") from None
    raise UnknownNetworkError(f"{path}: spandrel does not know it either")


def _checked(path: Path, spandrel: Any, descriptor: Any) -> Any:
    """The descriptor, which must be of a network that upscales or restores whole pictures."""
    name = descriptor.architecture.name
    refused = f"{path}: read by spandrel as {name}"
    if not isinstance(descriptor, spandrel.ImageModelDescriptor):
        raise WeightsError(f"{refused}, which fills in what a mask covers; finescale upscales and restores pictures")
    if descriptor.purpose not in ("SR", "Restoration"):
        raise WeightsError(f"{refused}, which is made for faces alone; finescale upscales and restores pictures")
    if descriptor.input_channels != descriptor.output_channels:
        counts = f"{descriptor.input_channels} channels to {descriptor.output_channels}"
        raise WeightsError(f"{refused}, which takes {counts}; finescale needs as many out as in")
    return descriptor


class _Allowance(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Lets this thread make tensors of so many bytes in all, while it is active.

    What a file of a few bytes can announce, such as a width, has no bound. Networks take one to three times what their
    file holds to be built.
    """

    def __init__(self, num_bytes: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.left = num_bytes

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not any(given.alias_info for given in func._schema.returns):  # type: ignore[attr-defined]
            self.left -= sum(leaf.nbytes for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
            if self.left < 0:
                raise MemoryError("it would be many times as large as the file")
        return result
