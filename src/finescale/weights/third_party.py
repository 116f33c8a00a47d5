"""Third-party networks: weight files that none of our families knows, read by spandrel where it is installed.

`finescale.weightfiles.tensors.read_tensors` reads the file and runs no code; spandrel gets plain tensors, recognises by
their keys which network they belong to, and builds it. A file that we wrote states the architecture and the arguments
of its constructor, `ThirdPartySettings`; another network than the one that spandrel recognises is built by them.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import math
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from finescale.errors import MissingExtraError, UnknownNetworkError, WeightsError, WeightsMismatchError, printable_name
from finescale.layers.windows import pad_reflect
from finescale.networks import Frame, WrappedNetwork, check_scale, family_of
from finescale.settings import Settings
from finescale.weightfiles.messages import first_words
from finescale.weightfiles.tensors import StoredTensors, as_float32, refuse_absurd_numbering

THIRD_PARTY = "third-party"
"""Stands for the family in headers, and for the variant in settings of a training."""

MODULE = "model."
"""Prefix of the keys of a `ThirdPartyNetwork`; files are without it, so that spandrel reads them too."""

_INSTALL = "pip install 'finescale[spandrel]'"


class ThirdPartySettings(Settings):
    """Architecture of a third-party network, and its sizes."""

    architecture: str
    """Id that spandrel gives it: "SwinIR"."""
    constructor: str
    """Name of the class in spandrel's module of the architecture."""
    arguments: dict[str, Any] | None
    """Arguments of the constructor; those that are no plain values have its defaults. null: they are not known, and
    spandrel recognises the sizes by the tensors alone."""
    in_channels: int = Field(ge=1)
    """Channels of the image."""

    def check_scale(self, scale: int) -> None:
        """Refuse a scale that no network has; that of the network follows from ``arguments``, see `build_third_party`.

        Raises:
            ValueError: There is no such scale.
        """
        check_scale(scale)


class ThirdPartyNetwork(WrappedNetwork):
    """A third-party network: image in, image ``scale`` times as large out.

    Args:
        descriptor: What spandrel answers for a state dict, an image model with equal channels in and out.

    Attributes:
        settings: By which it is built again.
        architecture: Name of the architecture.
        one_by_one: Whether images of a batch pass one by one outside training; see `allow_batches`.
    """

    one_by_one = True  # spandrel promises nothing for several

    def __init__(self, descriptor: Any) -> None:
        sizes = descriptor.size_requirements
        super().__init__(
            descriptor.model, scale=descriptor.scale, channels=descriptor.input_channels, multiple=sizes.multiple_of
        )
        self.settings = _settings_of(descriptor)
        self.architecture: str = descriptor.architecture.name
        self.least_size: int = sizes.minimum
        self.supports_half: bool = descriptor.supports_half
        self.supports_bfloat16: bool = descriptor.supports_bfloat16
        self._square: bool = sizes.square
        self._is_local = descriptor.tiling.name == "SUPPORTED"
        self._call = descriptor._call_fn  # its public call passes no gradient

    @property
    def name(self) -> str:
        """Name of the architecture."""
        return self.architecture

    @property
    def precisions(self) -> tuple[str, ...]:
        """What the network is known to compute in: "float32", and besides "bf16", "fp16"."""
        supported = {"bf16": self.supports_bfloat16, "fp16": self.supports_half}
        return ("float32", *(precision for precision, is_supported in supported.items() if is_supported))

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of it, one sentence each."""
        notes = [f"read by spandrel as {self.architecture} x{self.scale} (not one of finescale's networks)"]
        if not self._is_local:
            notes.append(
                f"{self.architecture} looks at the whole picture; tiles may change the result, tile 0 avoids it"
            )
        return tuple(notes)

    def unstated(self) -> dict[str, Any]:
        """Return the arguments of the constructor that ``settings`` cannot state, such as classes of layers."""
        arguments = getattr(self.model, "hyperparameters", {})
        return {name: value for name, value in arguments.items() if name not in (self.settings.arguments or {})}

    @property
    def groups(self) -> list[nn.Module]:
        """The parts of the body that follow each other; a training can recompute each by itself.

        They are the members of the list or sequence of modules that holds the most parameters, the outermost of equals.
        """
        lists = [one for one in self.modules() if isinstance(one, nn.ModuleList | nn.Sequential)]
        largest = max(lists, key=lambda one: sum(each.numel() for each in one.parameters()), default=None)
        return [] if largest is None else list(largest)

    @torch.no_grad()
    def allow_batches(self) -> None:
        """Let the images of a batch pass together from now on, if two do so with the answers that each has alone."""
        generator, tensor = torch.Generator().manual_seed(0), next(self.parameters())
        side = math.ceil(max(self.least_size, 16) / self.period) * self.period
        images = torch.rand(2, self.in_channels, side, side, generator=generator).to(tensor)
        self.one_by_one = True
        alone = self(images)
        self.one_by_one = False
        try:
            error = float((self(images) - alone).abs().max())
        except RuntimeError:
            error = math.inf
        self.one_by_one = not error <= _TOLERANCE * max(1.0, float(alone.abs().max()))

    def forward(self, image: Tensor) -> Tensor:
        """Upscale images; each is padded to a size that the network takes, and the result is cropped.

        Args:
            image: (N, in_channels, H, W), RGB or gray in [0, 1], of any size from 1x1 up.

        Returns:
            (N, in_channels, scale * H, scale * W), not clamped.
        """
        if self.one_by_one and not self.training:
            return torch.cat([self._upscale(single[None]) for single in image])
        return self._upscale(image)

    def _upscale(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        size = self._whole(height), self._whole(width)
        if self._square:
            size = (torch.sym_max(*size),) * 2  # type: ignore[no-untyped-call]
        takes_any = self.least_size <= 1 and self.period == 1 and not self._square
        # A compiled network is for sizes that are extended, and for others.
        if not takes_any if torch.compiler.is_compiling() else size != (height, width):
            image = pad_reflect(image.permute(0, 2, 3, 1), size).permute(0, 3, 1, 2)
        sr: Tensor = self._call(self.model, image)
        return sr[..., : self.scale * height, : self.scale * width]

    def _whole(self, side: int) -> int:
        """The side to which an image is extended."""
        if self.least_size > 1:
            side = torch.sym_max(side, self.least_size)  # type: ignore[no-untyped-call]
        return side if self.period == 1 else (side + self.period - 1) // self.period * self.period


def read_third_party(stored: StoredTensors, stated: ThirdPartySettings | None = None) -> ThirdPartyNetwork:
    """Build the network of tensors by spandrel, in float32 and evaluation mode.

    Args:
        stored: The tensors.
        stated: What a header of ours states, which the tensors must fit.

    Raises:
        MissingExtraError: spandrel is not installed, or cannot be imported.
        UnknownNetworkError: spandrel knows no network with these keys.
        WeightsMismatchError: The tensors do not fit the network that spandrel takes them for, or that is stated.
        WeightsError: The network does not upscale or restore pictures, or a tensor has values that none can use.
    """
    spandrel = import_spandrel()
    refuse_absurd_numbering(stored.tensors)
    tensors = {
        key: as_float32(key, tensor) if tensor.is_floating_point() else tensor for key, tensor in stored.tensors.items()
    }
    descriptor = _build(spandrel, tensors, architecture=None if stated is None else stated.architecture)
    _check_purpose(spandrel, descriptor)
    if stated is not None and _settings_of(descriptor) != stated:
        _replace_network(spandrel, descriptor, stated)
    return ThirdPartyNetwork(descriptor).eval()


def build_third_party(settings: ThirdPartySettings, *, scale: int) -> ThirdPartyNetwork:
    """Build a third-party network with random weights.

    Args:
        settings: Of the network.
        scale: How many times it enlarges, as its arguments state it.

    Raises:
        MissingExtraError: spandrel is not installed, or cannot be imported.
        WeightsMismatchError: spandrel cannot build it, or it is another network than stated.
        ValueError: It has another scale, or its arguments are not known.
    """
    if settings.arguments is None:
        raise ValueError(f"{settings.architecture} cannot be built without its file: its arguments are not known")
    spandrel = import_spandrel()
    module = _constructed(spandrel, settings, settings.arguments, limit=_LARGEST)
    stored = StoredTensors(format="torch", wrapper=None, prefix="", header={}, tensors=module.state_dict())
    network = read_third_party(stored, settings)
    if network.scale != scale:
        raise ValueError(f"scale must be {network.scale} for this {settings.architecture}, got {scale}")
    return network


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
    try:
        theirs = read_third_party(stored)
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


def import_spandrel() -> Any:
    """Import the package.

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


def _build(spandrel: Any, tensors: Mapping[str, Tensor], *, architecture: str | None) -> Any:
    """spandrel's descriptor of the network that the tensors belong to, of a stated architecture or any."""
    found = None
    num_bytes = 8 * sum(tensor.nbytes for tensor in tensors.values()) + 256 * 2**20
    try:
        with _limited(num_bytes):
            for entry in spandrel.MAIN_REGISTRY.architectures("detection"):
                if architecture in (None, entry.architecture.id) and entry.detect(tensors):
                    found = entry.architecture
                    return found.load(dict(tensors))
    except Exception as error:  # whatever made-up tensors lead third-party code into
        name = found.name if found else "no network"
        raise WeightsMismatchError(f"spandrel takes it for {name}, but cannot build that ({_reason(error)})") from None
    if architecture is not None:
        raise WeightsMismatchError(f"its header states {architecture}, as which spandrel does not recognise it")
    raise UnknownNetworkError("spandrel does not know it either")


def _settings_of(descriptor: Any) -> ThirdPartySettings:
    """How the network of a descriptor is built again."""
    kind, arguments = type(descriptor.model), getattr(descriptor.model, "hyperparameters", None)
    offered = vars(_module_of(descriptor.architecture))  # ESRGAN's network is called RRDBNet elsewhere
    return ThirdPartySettings(
        architecture=descriptor.architecture.id,
        constructor=next((name for name, value in offered.items() if value is kind), kind.__name__),
        arguments=None if arguments is None else _plain(arguments),
        in_channels=descriptor.input_channels,
    )


def _module_of(architecture: Any) -> ModuleType:
    """Return the module in which spandrel describes an architecture, with the constructors of its networks."""
    return importlib.import_module(type(architecture).__module__)


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as JSON has them, without those that it cannot have, such as classes of layers."""
    plain = {}
    for name, value in arguments.items():
        try:
            plain[name] = json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError):
            continue
    return plain


def _replace_network(spandrel: Any, descriptor: Any, stated: ThirdPartySettings) -> None:
    """Put the stated network, with the weights of the recognised one, into a descriptor."""
    found = _settings_of(descriptor)
    if stated.arguments is None or found.arguments is None or stated.in_channels != found.in_channels:
        raise WeightsMismatchError(
            f"its header states {stated.architecture} with {stated.in_channels} channels, but spandrel reads it as "
            f"{found.constructor} with {found.in_channels} channels"
        )
    state = descriptor.model.state_dict()
    others = {name: value for name, value in descriptor.model.hyperparameters.items() if name not in found.arguments}
    limit = 8 * sum(tensor.nbytes for tensor in state.values()) + 256 * 2**20
    network = _constructed(spandrel, stated, {**others, **stated.arguments}, limit=limit)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsMismatchError(
            f"its tensors do not fit the {stated.architecture} that its header states ({_reason(error)})"
        ) from None
    descriptor._model = network


def _constructed(spandrel: Any, settings: ThirdPartySettings, arguments: Mapping[str, Any], *, limit: int) -> nn.Module:
    """Call the constructor; it must be one that spandrel's architecture offers, with arguments that it has."""
    ids = {entry.architecture.id: entry.architecture for entry in spandrel.MAIN_REGISTRY.architectures("detection")}
    if settings.architecture not in ids:
        raise WeightsMismatchError(f"spandrel knows no architecture {settings.architecture!r}; update spandrel")
    constructor = vars(_module_of(ids[settings.architecture])).get(settings.constructor)
    if not (inspect.isclass(constructor) and issubclass(constructor, nn.Module)):
        raise WeightsMismatchError(f"spandrel's {settings.architecture} has no network {settings.constructor!r}")
    try:
        with _limited(limit):
            network: nn.Module = constructor(**arguments)
    except Exception as error:  # whatever made-up arguments lead third-party code into
        raise WeightsMismatchError(
            f"spandrel cannot build the {settings.architecture} that is stated ({_reason(error)})"
        ) from None
    return network


def _reason(error: Exception) -> str:
    return textwrap.shorten(f"{type(error).__name__}: {first_words(error)}", 200, placeholder=" ...")


_LARGEST = 16 * 2**30
"""Limit on the bytes of all tensors that are made to build a network without a file."""


@contextmanager
def _limited(num_bytes: int) -> Iterator[None]:
    """Build third-party networks within a limit on bytes, without their warnings; callers' random numbers stay."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), _Allowance(num_bytes):
        warnings.simplefilter("ignore")
        yield


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
