"""finescale's networks in spandrel's registry: tools that read weight files by spandrel then open ours.

spandrel hands the tensors of a file over, without its header. What shapes do not show is therefore assumed as
published, and a file whose header states something else is refused where spandrel reads it, or opened by `open_file`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from finescale.errors import MissingExtraError, WeightsError
from finescale.networks import FAMILIES, Frame
from finescale.networks.family import TRAINING_ALONE
from finescale.weightfiles.messages import naming
from finescale.weightfiles.tensors import StoredTensors
from finescale.weights import load
from finescale.weights.header import states_settings, states_third_party
from finescale.weights.quantized import Content, read
from finescale.weights.recognition import build, recognise, recognise_by_spandrel

try:
    import spandrel
except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision made for another PyTorch
    raise MissingExtraError(
        f"spandrel cannot be imported ({error}); install it with pip install 'finescale[spandrel]'"
    ) from None

THEIRS = ("craft", "drct", "dat", "swinir", "hat")
"""Families that spandrel has itself."""


class FamilyArchitecture(spandrel.Architecture):  # type: ignore[misc]  # typed as Any where spandrel is absent
    """One of our families, as spandrel knows architectures.

    Args:
        family: Its name.
    """

    def __init__(self, family: str) -> None:
        super().__init__(
            id=f"finescale-{family}", name=FAMILIES[family].about.title, detect=FAMILIES[family].files.recognises
        )

    def load(self, state_dict: Mapping[str, Tensor]) -> Any:
        """Build the network of a state dict, as ``spandrel.ImageModelDescriptor``.

        Raises:
            WeightsMismatchError: The tensors do not fit a network of the family.
            WeightsError: A tensor has values that no network can use.
        """
        content = Content(stored=_without_header(state_dict))
        match = recognise(content, given={})
        network = build(content, match)
        assert isinstance(network, Frame)  # since the family recognises it
        return self.describe(network, tags=[match.variant or match.nearest])

    def describe(self, network: Frame, *, tags: list[str]) -> Any:
        """Return the descriptor of a network with its weights.

        Networks extend images themselves, so any size goes in. Half precision is not offered: they need finescale's
        own rule of what is computed in float32.
        """
        return spandrel.ImageModelDescriptor(
            network,
            network.state_dict(),
            architecture=self,
            purpose="SR" if network.scale > 1 else "Restoration",
            tags=tags,
            supports_half=False,
            supports_bfloat16=False,
            scale=network.scale,
            input_channels=network.in_channels,
            output_channels=network.in_channels,
        )


def install() -> list[str]:
    """Register the families that spandrel lacks, and have it refuse files whose settings it would lose.

    spandrel asks them before its own: it takes SRFormer and SwinIR-NG files for SwinIR's, and CIT for DAT's. A second
    call changes nothing.

    Returns:
        The ids of the architectures that were added.
    """
    registry = spandrel.MAIN_REGISTRY
    before = tuple(entry.architecture.id for entry in registry if not _is_ours(entry))
    ours = (FamilyArchitecture(family) for family in FAMILIES if family not in THEIRS)
    entries = [spandrel.ArchSupport.from_architecture(one, before) for one in ours]
    added = registry.add(*entries, ignore_duplicates=True)
    read_file = spandrel.ModelLoader.load_state_dict_from_file
    if not hasattr(read_file, "__wrapped__"):

        @functools.wraps(read_file)
        def checked(loader: Any, path: str | Path) -> Any:
            refuse_lost_settings(Path(path))
            return read_file(loader, path)

        spandrel.ModelLoader.load_state_dict_from_file = checked
    return [str(entry.architecture.id) for entry in added]


def open_file(path: Path | str) -> Any:
    """Open a weight file of ours or of a published network with all settings of its header.

    Returns:
        ``spandrel.ImageModelDescriptor``, in float32 and evaluation mode, quantized where the file is.

    Raises:
        WeightsError: As for `finescale.load`.
    """
    loaded = load(path)
    if not isinstance(loaded.network, Frame):
        raise WeightsError(f"{path}: a network of spandrel's own; open it by spandrel.ModelLoader")
    return FamilyArchitecture(loaded.family).describe(loaded.network, tags=[loaded.variant or loaded.nearest])


def refuse_lost_settings(path: Path) -> None:
    """Refuse a file of ours whose tensors alone would be read as another network; files without our header pass.

    Raises:
        UnsupportedModelError: spandrel's; it names the settings.
        WeightsError: The file has our header, and cannot be used.
    """
    if path.suffix.lower() != ".safetensors" or not path.is_file():
        return
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
    except SafetensorError:
        return  # spandrel reports it
    if not states_settings(header):
        return
    with naming(path):
        content = read(path)
        if content.quantized is not None:
            raise spandrel.UnsupportedModelError(
                f"{path}: a network of {content.quantized.settings.bits}-bit integers, which spandrel cannot read; "
                "open it by finescale.integrations.spandrel.open_file, or use finescale upscale"
            )
        stated = recognise(content, given={})
        bare = Content(stored=_without_header(content.stored.tensors))
        shown = recognise_by_spandrel(bare) if states_third_party(header) else recognise(bare, given={})
    lost = [
        f"{field} = {value}"
        for field, value in stated.settings
        if field not in TRAINING_ALONE and value != getattr(shown.settings, field)
    ]
    if lost:
        raise spandrel.UnsupportedModelError(
            f"{path}: its tensors do not show {', '.join(lost)}, and spandrel does not read its header; "
            "open it by finescale.integrations.spandrel.open_file, or use finescale upscale"
        )


def _is_ours(entry: Any) -> bool:
    return isinstance(entry.architecture, FamilyArchitecture)


def _without_header(tensors: Mapping[str, Tensor]) -> StoredTensors:
    """Tensors as spandrel hands them over."""
    return StoredTensors(format="torch", wrapper=None, prefix="", header={}, tensors=tensors)
