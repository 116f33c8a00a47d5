"""Third-party networks: weight files that none of our families knows, read by spandrel where it is installed.

`finescale.weightfiles.tensors.read_tensors` reads the file and runs no code; spandrel gets plain tensors, recognises by
their keys which network they belong to, and builds it.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import textwrap
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from finescale.errors import MissingExtraError, UnknownNetworkError, WeightsError, WeightsMismatchError, printable_name
from finescale.networks import Frame, WrappedNetwork, family_of
from finescale.weightfiles.messages import naming
from finescale.weightfiles.tensors import StoredTensors, as_float32, read_tensors, refuse_absurd_numbering
from finescale.weights.header import stated_licence
from finescale.weights.loading import load_named, move
from finescale.weights.names import find
from finescale.zoo import choose_scale

logger = logging.getLogger("finescale")

_INSTALL = "pip install 'finescale[spandrel]'"


class ThirdPartyNetwork(WrappedNetwork):
    """A third-party network: image in, image ``scale`` times as large out.

    Args:
        descriptor: What spandrel answers for a state dict, an image model with equal channels in and out.
        path: The file.
        stored: The file's tensors and what was around them; the tensors are not kept.
    """

    one_by_one = True  # spandrel promises nothing for several

    def __init__(self, descriptor: Any, *, path: Path, stored: StoredTensors) -> None:
        super().__init__(
            descriptor.model,
            scale=descriptor.scale,
            channels=descriptor.input_channels,
            multiple=descriptor.size_requirements.multiple_of,
        )
        self.path = path
        self.format, self.wrapper = stored.format, stored.wrapper
        self.prefix, self.header = stored.prefix, stored.header
        self.architecture: str = descriptor.architecture.name
        self.supports_half: bool = descriptor.supports_half
        self.supports_bfloat16: bool = descriptor.supports_bfloat16
        self._descriptor = descriptor

    @property
    def name(self) -> str:
        """Name of the architecture."""
        return self.architecture

    @property
    def licence(self) -> str | None:
        """Of the weights, where the file's header states one."""
        return stated_licence(self.header)

    @property
    def precisions(self) -> tuple[str, ...]:
        """What the network is known to compute in: "float32", and besides "bf16", "fp16"."""
        supported = {"bf16": self.supports_bfloat16, "fp16": self.supports_half}
        return ("float32", *(precision for precision, is_supported in supported.items() if is_supported))

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of it, one sentence each."""
        notes = [
            f"{self.path}: read by spandrel as {self.architecture} x{self.scale} (not one of finescale's networks)"
        ]
        if self._descriptor.tiling.name != "SUPPORTED":
            notes.append(
                f"{self.architecture} looks at the whole picture; tiles may change the result, tile 0 avoids it"
            )
        return tuple(notes)

    def forward(self, image: Tensor) -> Tensor:
        """Upscale images; each is padded to a size that the network takes, and the result is cropped.

        Args:
            image: (N, in_channels, H, W), RGB or gray in [0, 1], of any size from 1x1 up.

        Returns:
            (N, in_channels, scale * H, scale * W) in [0, 1].
        """
        return torch.cat([self._descriptor(single[None]) for single in image])


def load_third_party(path: Path | str, *, device: str = "cpu") -> ThirdPartyNetwork:
    """Read a weight file by spandrel and build its network.

    Args:
        path: A ``.safetensors`` or ``.pth`` file, under any name.
        device: Where the network goes, such as "cpu" or "cuda".

    Raises:
        MissingExtraError: spandrel is not installed, or cannot be imported.
        WeightsError: The file is missing or cannot be used, or its network does not upscale or restore pictures.
        UnsafeWeightsError: It contains code; none of it was run.
        UnknownNetworkError: spandrel knows no network with these keys.
        WeightsMismatchError: Its tensors do not fit the network that spandrel takes them for.
        DeviceError: There is no such device.
    """
    path = Path(path)
    with naming(path):
        return _load(path, device)


def load_named_or_third_party(
    name: str | Path,
    *,
    scale: int | None = None,
    offline: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> tuple[Frame | ThirdPartyNetwork, tuple[str, ...]]:
    """The network that a name stands for: ours, or else, where spandrel knows it, a third-party one.

    Args:
        name: One of the names that `finescale.weights.find` takes.
        scale: The scale that the network must have; None takes that of a file, and the largest of a model's.
        offline: Touch no network: what was fetched before is found, nothing is fetched.
        settings: Fields that the file does not show, as for `finescale.weights.load`.

    Returns:
        The network, and what a user should know of it, one sentence each.

    Raises:
        WeightsError: The file cannot be used; as for `finescale.weights.load_named` and `load_third_party`.
        DownloadError: As for `finescale.weights.find`.
        MissingExtraError: As for `finescale.weights.find`.
        ValueError: There is no such name, or not at this scale, or ``settings`` were given for a third-party network.
        SettingsError: As for `finescale.weights.load`.
    """
    try:
        loaded = load_named(name, scale=scale, offline=offline, settings=settings)
        return loaded.network, loaded.doubts
    except UnknownNetworkError as refusal:
        path = find(name, scale=scale, offline=offline)
        network = retry_with_spandrel(path, refusal)
    choose_scale(scale, [network.scale], of=path)
    if settings:
        raise ValueError(f"settings must be left out for {path}, a third-party network, got {dict(settings)}")
    for note in network.notes:
        logger.info(note)
    return network, network.notes


def retry_with_spandrel(path: Path, refusal: UnknownNetworkError) -> ThirdPartyNetwork:
    """Read a file by spandrel that `finescale.weights` does not know.

    Raises:
        WeightsError: As for `load_third_party`.
        UnknownNetworkError: ``refusal``, and why spandrel did not help.
    """
    with naming(path):
        try:
            return _load(path, "cpu")
        except (MissingExtraError, UnknownNetworkError) as error:
            reason = error
    raise UnknownNetworkError(f"{refusal}; {reason}") from None


def check_answers(network: Frame, stored: StoredTensors, *, path: Path) -> None:
    """Check that spandrel reads the tensors of a network of ours, and gives its answers.

    Args:
        network: In evaluation mode.
        stored: Its tensors, as a file is to hold them.
        path: The file, for messages.

    Raises:
        MissingExtraError: spandrel is not installed, or cannot be imported.
        WeightsMismatchError: It does not know the network, or gives other answers.
    """
    spandrel = _spandrel()
    try:
        theirs = _network(spandrel, stored, path=path).eval()
    except UnknownNetworkError:
        name = family_of(network).name
        raise WeightsMismatchError(f"{printable_name(path)}: spandrel does not know networks of {name}") from None
    except WeightsMismatchError as error:
        raise WeightsMismatchError(f"{printable_name(path)}: it cannot be converted for spandrel; {error}") from None
    differences = [_difference(network, theirs, size) for size in _sizes(network, theirs)]
    if (theirs.scale, theirs.in_channels) != (network.scale, network.in_channels) or min(differences) > _TOLERANCE:
        read_as = f"spandrel reads it as {theirs.architecture} x{theirs.scale}"
        raise WeightsMismatchError(
            f"{printable_name(path)}: {read_as}, whose answers are others; some of its settings spandrel cannot know"
        )


_TOLERANCE = 1e-4
"""Largest difference of two equal networks' answers, for images in [0, 1]; sums in another order make 1e-5."""


def _sizes(network: Frame, theirs: ThirdPartyNetwork) -> list[tuple[int, int]]:
    """Two sizes of images, whole windows and less: the two may extend the one or the other differently."""
    whole = max(8, math.lcm(network.period, theirs.period))
    return [(whole, 2 * whole), (whole + whole // 4, whole + whole // 2)]


@torch.inference_mode()
def _difference(network: Frame, theirs: ThirdPartyNetwork, size: tuple[int, int]) -> float:
    """Largest difference of two networks' answers for an image of random numbers, as a multiple of their deviation."""
    image = torch.rand(1, network.in_channels, *size, generator=torch.Generator().manual_seed(0))
    answer, other = network(image), theirs.model(image)
    if answer.shape != other.shape:
        return math.inf
    return float((answer - other).abs().max() / max(1.0, float(answer.std())))


def _load(path: Path, device: str) -> ThirdPartyNetwork:
    spandrel = _spandrel()
    network = _network(spandrel, read_tensors(path), path=path)
    move(network, device)
    return network.eval()


def _network(spandrel: Any, stored: StoredTensors, *, path: Path) -> ThirdPartyNetwork:
    refuse_absurd_numbering(stored.tensors)
    tensors = {
        key: as_float32(key, tensor) if tensor.is_floating_point() else tensor for key, tensor in stored.tensors.items()
    }
    descriptor = _build(spandrel, tensors)
    _check_purpose(spandrel, descriptor)
    return ThirdPartyNetwork(descriptor, path=path, stored=stored)


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


def _build(spandrel: Any, tensors: Mapping[str, Tensor]) -> Any:
    """spandrel's descriptor of the network that the tensors belong to."""
    architecture = None
    allowance = _Allowance(8 * sum(tensor.nbytes for tensor in tensors.values()) + 256 * 2**20)
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), allowance:
            warnings.simplefilter("ignore")  # of third-party code
            for entry in spandrel.MAIN_REGISTRY.architectures("detection"):
                if entry.detect(tensors):
                    architecture = entry.architecture
                    return architecture.load(dict(tensors))
    except Exception as error:  # whatever made-up tensors lead third-party code into
        name = architecture.name if architecture else "no network"
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 200, placeholder=" ...")
        raise WeightsMismatchError(f"spandrel takes it for {name}, but cannot build that ({reason})") from None
    raise UnknownNetworkError("spandrel does not know it either")


def _check_purpose(spandrel: Any, descriptor: Any) -> None:
    """Refuse a network that does not upscale or restore whole pictures."""
    refused = f"read by spandrel as {descriptor.architecture.name}"
    if not isinstance(descriptor, spandrel.ImageModelDescriptor):
        raise WeightsError(f"{refused}, which fills in what a mask covers; finescale upscales and restores pictures")
    if descriptor.purpose not in ("SR", "Restoration"):
        raise WeightsError(f"{refused}, which is made for faces alone; finescale upscales and restores pictures")
    if descriptor.input_channels != descriptor.output_channels:
        counts = f"{descriptor.input_channels} channels to {descriptor.output_channels}"
        raise WeightsError(f"{refused}, which takes {counts}; finescale needs as many out as in")


class _Allowance(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Limit on the bytes of all tensors that this thread makes while it is active.

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
