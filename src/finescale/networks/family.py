"""The declarations that each family file makes about itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from finescale.networks.counting import CountingRule
from finescale.networks.frame import Frame, FrameSettings
from finescale.networks.placement import Placement
from finescale.networks.state import State

if TYPE_CHECKING:  # a network that runs needs no metrics
    from finescale.metrics.cost import Beyond


SETS = ("Set5", "Set14", "B100", "Urban100", "Manga109")
"""The benchmark sets of the papers' tables, in their order."""


def scores(row: str) -> dict[str, tuple[float, float | None]]:
    """Parse a row of a paper's table, "38.22/0.9613 33.91/0.9213 ...", as `Published.scores`.

    Args:
        row: One word for each of `SETS`: PSNR/SSIM, or PSNR alone where the paper states no SSIM.
    """
    table = {}
    for name, word in zip(SETS, row.split(), strict=True):
        psnr, _, ssim = word.partition("/")
        table[name] = float(psnr), float(ssim) if ssim else None
    return table


# ---- words for users


@dataclass(frozen=True, kw_only=True)
class About:
    """Description of a family for users."""

    title: str
    """Heading: "HiT-SR"."""
    idea: str
    """The idea of the paper, in two or three sentences."""
    label: str | None = None
    """Short name in figures; None: the name of the variant."""
    caution: str = ""
    """What users must know before anything else; may be empty."""
    remarks: Sequence[str] = ()
    """Further facts about what the authors publish, one sentence each."""


# ---- facts of the paper


@dataclass(frozen=True, kw_only=True)
class Paper:
    """Bibliographic record of a paper; None for what is not stated."""

    title: str
    """In full."""
    authors: str | None
    """Initials and names, in the paper's order."""
    venue: str | None
    """Conference or journal, and year."""
    url: str
    """Address of the paper."""


@dataclass(frozen=True)
class Count:
    """Number of multiply-adds for one image."""

    giga: float
    """In units of 10^9."""
    _: KW_ONLY
    size: tuple[int, int]
    """(height, width) of the lr image that it was counted for."""
    rule: str = "convolutions, linear layers and matrix products"
    """What was counted, in a few words."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Size and cost of a variant at one scale."""

    num_parameters: int
    """Values that are learned."""
    num_constants: int = 0
    """Values that are not learned but that the authors store, and count, as parameters."""
    multiply_adds: Count | None
    """Multiply-adds of all convolutions, linear layers and matrix products; None where not stated."""
    printed: tuple[Count, ...] = ()
    """Counts that the authors print, each by a rule of their own."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """Published facts about one trained network: a variant, at one scale, after one training."""

    variant: str
    """Name of the variant."""
    scale: int
    """How many times it enlarges."""
    tag: str = ""
    """Mark of a training that is not the variant's usual one, such as "df2k"."""
    training_data: str | None
    """Names of the training sets, in the order of use; None where not stated."""
    scores: Mapping[str, tuple[float, float | None]]
    """Test set to PSNR in dB and SSIM, both on Y by the papers' protocol; None where not stated."""
    file: str | None
    """Name that the authors gave the weight file; None where they published none."""
    also: Collection[str] = ()
    """Further names of the same file, as in the authors' option files."""
    hub: str | None = None
    """Repository of the weights on the Hugging Face hub, as "owner/name"; its file is ``model.safetensors``."""
    page: str | None = None
    """Address of the page where the authors offer the file for download."""
    licence: str | None
    """Licence of the weights, as an SPDX identifier; None where the authors state none."""
    remark: str = ""
    """One clause that a user of the file should know; may be empty."""

    @property
    def name(self) -> str:
        """Name that users give it, together with the scale: "hit-srf", "hit-srf-df2k"."""
        return f"{self.variant}-{self.tag}" if self.tag else self.variant

    @property
    def file_names(self) -> tuple[str, ...]:
        """Every name of the weight file; empty where there is none."""
        return () if self.file is None else (self.file, *self.also)

    def is_file(self, name: str) -> bool:
        """Whether a file is named as the published one is, in upper or lower case, converted to safetensors or not."""
        stem, _, ending = name.casefold().rpartition(".")
        return any(
            own.rpartition(".")[0] == stem and ending in (own.rpartition(".")[2], "safetensors")
            for own in map(str.casefold, self.file_names)
        )


@dataclass(frozen=True, kw_only=True)
class Publication:
    """Facts that the paper and its authors' repository state, and how they arrived at their numbers."""

    paper: Paper
    """Where the family was published."""
    repository: str
    """Address of the authors' code."""
    costs: Mapping[tuple[str, int], Cost]
    """Size and cost of each variant at each scale."""
    networks: Sequence[Published] = ()
    """Every network of the family that its authors trained."""
    counting: Mapping[str, CountingRule] = field(default_factory=dict)
    """`Count.rule` of each printed count, with the function that counts our network by it."""
    beyond: Mapping[type[nn.Module], Beyond] = field(default_factory=dict)
    """Modules that compute by other steps than the published network, with the multiply-adds that its steps take more,
    or (below zero) less."""
    test_padding: Callable[[Any], int] = lambda _: 0
    """How the published test code extends images before they reach the network: from settings to a number of lr pixels.
    Each side grows by its mirror to the next multiple, a whole one more where it is a multiple already; 0: not at all.
    """


# ---- reading published files and options


UNSEEN = {
    "image_range": "1",
    "mean": "the mean colour of DIV2K: 0.4488, 0.4371, 0.4040",
}
"""`WeightFiles.unseen_help` of the fields that no weight file of any family shows."""


Key = Literal["params", "params_ema", "none"]
"""Under which a ``.pth`` has its state dict; "none" is a bare one."""


TRAINING_ALONE = ("drop_path_rate",)
"""Fields of settings that change no answer of a trained network."""


@dataclass(frozen=True, kw_only=True)
class WeightFiles:
    """How weight files of a family are recognised and read."""

    marks: Collection[str]
    """Ends of keys that every file of the family contains; of other families' only those with ``foreign`` keys do."""
    foreign: Collection[str] = ()
    """Ends of keys of a family that extends this one: a file that contains one of them is not of this family."""
    derivable: Collection[str] = ()
    """Ends of keys of buffers that files may contain and the network computes itself."""
    from_state: Callable[[State], tuple[FrameSettings, int]]
    """From a state dict to settings and scale, by the shapes of its tensors."""
    unseen: Callable[[Any, State], Collection[str]] = lambda _settings, _state: tuple(UNSEEN)
    """From settings and the state dict of such a network to the fields that the state dict does not show;
    ``from_state`` assumes published values for them."""
    unseen_help: Mapping[str, str] = field(default_factory=lambda: UNSEEN)
    """What ``from_state`` assumes for each field that ``unseen`` can name, in one clause."""
    constants: Callable[[Any], Mapping[str, Tensor]] = lambda _: {}
    """From settings to the derivable buffers that a training may have changed: ends of keys, with our values."""
    buffers: Callable[[Any], Mapping[str, Tensor]] = lambda _: {}
    """From a network to the derivable tensors that the published code keeps in its files, besides ``masks``."""
    masks: Callable[[Any, int | None], Mapping[str, Tensor]] | None = None
    """From a network and the side of the lr images that its training had, None being the published one, to the masks
    of shifted windows that the published code keeps in its files for this size; None: it keeps no masks."""

    key: Key = "params"
    """Where the published code finds the state dict of a ``.pth``, directly or after it has sought elsewhere."""

    def derived(self, network: Any, *, image_size: int | None = None) -> dict[str, Tensor]:
        """Compute the derivable tensors that the published code keeps in its files, of which ours do without.

        Args:
            network: Of this family.
            image_size: Side of the lr images that the published code is to be built for, its ``img_size``; by default
                that of the published files. Masks depend on it, answers do not.

        Raises:
            ValueError: Files of this family do not depend on the size, or the network cannot have it.
        """
        if self.masks is not None:
            return {**self.buffers(network), **self.masks(network, image_size)}
        if image_size is not None:
            raise ValueError(
                f"image_size must be left out for this family, whose files hold no masks, got {image_size}"
            )
        return dict(self.buffers(network))

    varying: Mapping[str, str] = field(default_factory=dict)
    """Fields in which files of one published network may differ, as their tensors show, each with a sentence for users
    of a file that differs from the variant."""

    def recognises(self, state: State) -> bool:
        """Whether a weight file is of this family, judged by its keys alone."""
        has_all_marks = all(any(key.endswith(mark) for key in state) for mark in self.marks)
        return has_all_marks and not any(key.endswith(tuple(self.foreign)) for key in state)


@dataclass(frozen=True, kw_only=True)
class PublishedOptions:
    """How arguments of the published constructors are read."""

    classes: Collection[str]
    """Names of the published constructors."""
    read: Callable[[Mapping[str, Any]], tuple[FrameSettings, int]]
    """From the arguments, with the constructor's name as ``type``, to settings and scale."""


# ---- quantization


@dataclass(frozen=True, kw_only=True)
class QuantizedFiles:
    """How the authors' files of quantized networks are read, each of them a whole network pickled."""

    of_class: str
    """Full name of the network's class."""
    name_of: Callable[[str], str]
    """From the path of a quantizer of ours to the module of theirs that holds its bounds."""
    key_of: Callable[[str], str]
    """From a key of a parameter or buffer of theirs to ours."""
    settings_of: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    """From the attributes of their network to the fields of our settings that the tensors do not show."""


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """How networks of a family are quantized."""

    placement: Callable[[Any], Placement] = lambda _: Placement()
    """From settings to what quantization must know of the network; by default the general rule."""
    files: QuantizedFiles | None = None
    """The authors' files of quantized networks; None: there are none."""


# ---- training


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Training of a network, or one stage of it, as its authors did it; defaults are what all recipes share."""

    variant: str
    """Name of the variant that is trained."""
    data: str
    """Names of the training sets."""
    patch: int = 64
    """Side of a sample, in lr pixels."""
    augmentation: Literal["flips-and-transpose", "flip-and-turn"] = "flips-and-transpose"
    """Flip vertically, flip horizontally and transpose; or flip horizontally and turn by 90 degrees; each with
    probability 1/2."""
    batch: int
    """Samples per step, over all devices."""
    optimizer: str = "Adam"
    """Name of a class of `torch.optim`; without weight decay."""
    betas: tuple[float, float] = (0.9, 0.99)
    """The optimizer's decay of the means of gradients and of their squares."""
    lr: float
    """Initial learning rate, after the warm-up."""
    warm_up: int = 0
    """Steps over which the learning rate rises from 0; 0: there is no warm-up."""
    milestones: tuple[int, ...]
    """Steps after which the learning rate is multiplied by ``gamma``."""
    gamma: float = 0.5
    """Factor at each milestone."""
    iterations: int
    """Number of steps."""
    loss: Mapping[str, float] = field(default_factory=lambda: {"l1": 1.0})
    """Names of losses and their weights."""
    average: float = 0.0
    """Decay of the running average of the weights (EMA); 0: there is none."""
    seed: int
    """Seed of the random numbers."""
    start: tuple[str, int] | None = None
    """Name and scale of the recipe whose weights it begins with, its own for the stage before; None: random weights."""
    remark: str = ""
    """One clause that a user of the recipe should know; may be empty."""


HALVED = (250_000, 400_000, 450_000, 475_000)
"""Milestones of most trainings of 500,000 steps."""

_DF2K: Mapping[str, Any] = {"data": "DF2K in sub-images of 480x480", "batch": 32, "average": 0.999, "seed": 0}

DF2K_ALONE: Mapping[str, Any] = {**_DF2K, "lr": 2e-4, "milestones": HALVED, "iterations": 500_000}
"""Training of HAT and DRCT from random weights, without ImageNet."""

IMAGENET_FIRST: Mapping[str, Any] = {
    **_DF2K,
    "data": "ImageNet",
    "lr": 2e-4,
    "milestones": (300_000, 500_000, 650_000, 700_000, 750_000),
    "iterations": 800_000,
    "remark": "the published code stretches sides shorter than a patch; here such images are left out",
}
"""First of two stages of HAT and DRCT."""

DF2K_AFTERWARDS: Mapping[str, Any] = {
    **_DF2K, "milestones": (125_000, 200_000, 225_000, 240_000), "iterations": 250_000
}  # fmt: skip
"""Training of HAT and DRCT that continues from another; their learning rates differ."""


# ---- the family


@dataclass(frozen=True, kw_only=True)
class Family:
    """One paper: its network, or networks, its named sizes, and the facts about them."""

    name: str
    """Name of the paper's method in lower case: "hit-sr"."""
    about: About
    """Description for users."""
    network: Callable[..., Frame]
    """Class of every variant, or what chooses it by the class of its settings: ``network(settings=..., scale=...)``."""
    variants: Mapping[str, FrameSettings]
    """Published sizes by name."""
    tiny: Mapping[str, FrameSettings]
    """The same networks at a size for tests and tutorials."""
    publication: Publication
    """Facts of the paper."""
    files: WeightFiles
    """Recognition and reading of weight files."""
    options: PublishedOptions | None = None
    """Reading of published option files; None: there are none."""
    quantization: Quantization = field(default_factory=Quantization)
    """Quantization of the family's networks."""
    recipes: Mapping[tuple[str, int], Sequence[Recipe]] = field(default_factory=dict)
    """Training of the networks, stage by stage, by name (as `Published.name`, or another training's) and scale."""
    gains_by_bf16_on_cpu: bool = True
    """Whether bf16 is faster than float32 in PyTorch on CPUs that have it, as measured in docs/precision.md."""
    openvino_speed: float = 1.0
    """How many times as fast as PyTorch OpenVINO computes the networks on CPUs, the least that was measured; 1 stands
    for networks that are slower or not measured (docs/upscale-measurements.md)."""

    def scales(self, variant: str) -> list[int]:
        """Return the scales at which a variant is published, or meant to be; networks of its sizes exist at others."""
        return [scale for name, scale in self.publication.costs if name == variant]

    @property
    def settings_kinds(self) -> tuple[type[FrameSettings], ...]:
        """Classes of the settings of its networks."""
        return tuple(dict.fromkeys(type(settings) for settings in self.variants.values()))

    def includes(self, network: nn.Module) -> bool:
        """Whether a network is of this family."""
        return isinstance(network, Frame) and type(network.settings) in self.settings_kinds

    def nearest(self, settings: FrameSettings) -> tuple[str, list[str]]:
        """Find the variant that differs least from ``settings``; return it and the fields in which it differs."""
        return min(
            ((variant, self.differing(settings, variant)) for variant in self.variants),
            key=lambda found: len(found[1]),
        )

    def differing(self, settings: FrameSettings, variant: str) -> list[str]:
        """Return the names of the fields in which ``settings`` differ from those of a variant; of another kind, all."""
        other = self.variants[variant]
        if type(settings) is not type(other):
            return list(type(other).model_fields)
        return [field for field in type(other).model_fields if getattr(settings, field) != getattr(other, field)]
