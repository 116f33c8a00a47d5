"""What each family file declares about itself, and the reading of published constructor arguments."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal

from torch import Tensor

from finescale.networks.frame import Frame, FrameSettings
from finescale.networks.placement import Placement
from finescale.settings import suggest

State = Mapping[str, Tensor]
"""A state dict: published keys to tensors."""


SETS = ("Set5", "Set14", "B100", "Urban100", "Manga109")
"""The benchmark sets of the papers' tables, in their order."""


def scores(row: str) -> dict[str, tuple[float, float | None]]:
    """A row of a paper's table as `Published.scores`: "38.22/0.9613 33.91/0.9213 ...", one word for each of `SETS`.

    A word is PSNR/SSIM, or PSNR alone where no SSIM is stated.
    """
    table = {}
    for name, word in zip(SETS, row.split(), strict=True):
        psnr, _, ssim = word.partition("/")
        table[name] = float(psnr), float(ssim) if ssim else None
    return table


@dataclass(frozen=True, kw_only=True)
class Paper:
    """Where a family was published; None for what is not stated."""

    title: str
    """In full."""
    authors: str | None
    """Initials and names, in their order."""
    venue: str | None
    """Conference or journal, and year."""
    url: str
    """Address of the paper."""


@dataclass(frozen=True)
class Count:
    """How many multiply-adds one image takes."""

    giga: float
    """In units of 10^9."""
    _: KW_ONLY
    size: tuple[int, int]
    """(height, width) of the lr image that it was counted for."""
    rule: str = "convolutions, linear layers and matrix products"
    """What was counted, in a few words."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a variant takes at one scale."""

    num_parameters: int
    """Values that are learned."""
    num_constants: int = 0
    """Values that are not learned but that the authors store, and count, as parameters."""
    multiply_adds: Count | None
    """All of convolutions, linear layers and matrix products; None where it is not stated."""
    printed: tuple[Count, ...] = ()
    """What the authors print, each by a rule of theirs."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """What its authors publish of one trained network: a variant, at one scale, after one training."""

    variant: str
    """Name of the variant."""
    scale: int
    """2, 3 or 4."""
    tag: str = ""
    """What tells this training from the variant's usual one, such as "df2k"."""
    training_data: str | None
    """Names of the training sets, in the order of use; None where it is not stated."""
    scores: Mapping[str, tuple[float, float | None]]
    """Test set to PSNR in dB and SSIM, both on Y by the papers' protocol; None where it is not stated."""
    file: str | None
    """Name that the authors gave the weight file; None where they published none."""
    hub: str | None = None
    """Repository of the weights on the Hugging Face hub, as "owner/name"; its file is ``model.safetensors``."""
    page: str | None = None
    """Address of the page where the authors offer the file for download."""
    licence: str | None
    """Of the weights, as an SPDX identifier; None where the authors state none."""
    remark: str = ""
    """One clause that a user of the file should know; may be empty."""

    @property
    def name(self) -> str:
        """What users call it, together with the scale: "hit-srf", "hit-srf-df2k"."""
        return f"{self.variant}-{self.tag}" if self.tag else self.variant


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How its authors trained a network, or one stage of that; what is the same in all recipes are the defaults."""

    variant: str
    """Name of the variant that is trained."""
    data: str
    """Names of the training sets."""
    patch: int = 64
    """Side of a sample, in lr pixels."""
    augmentation: Literal["flips-and-transpose", "flip-and-turn"] = "flips-and-transpose"
    """Upside down, left to right and transposed; or left to right and a quarter turn; each half of the time."""
    batch: int
    """Samples of a step, over all devices."""
    optimizer: str = "Adam"
    """Name of a class of `torch.optim`; without weight decay."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Its decay of the means of gradients and of their squares."""
    lr: float
    """Learning rate at first; nothing warms up."""
    milestones: tuple[int, ...]
    """Steps after which it is multiplied by ``gamma``."""
    gamma: float = 0.5
    """Factor at each milestone."""
    iterations: int
    """Steps in all."""
    loss: Mapping[str, float] = field(default_factory=lambda: {"l1": 1.0})
    """Names of losses and their weights."""
    average: float = 0.0
    """Share of the old in the running average of the weights (EMA); 0: there is none."""
    seed: int
    """Of the random numbers."""
    start: tuple[str, int] | None = None
    """Name and scale of the recipe whose weights it begins with, its own for the stage before; None: random weights."""
    remark: str = ""
    """One clause that a user of the recipe should know; may be empty."""


HALVED = (250_000, 400_000, 450_000, 475_000)
"""Where most trainings of 500,000 steps halve their learning rate."""


UNSEEN = {
    "image_range": "1",
    "mean": "the mean colour of DIV2K: 0.4488, 0.4371, 0.4040",
}
"""`Family.unseen_help` of the fields that no file of any family shows."""


@dataclass(frozen=True, kw_only=True)
class QuantizedFiles:
    """How to read the authors' files of quantized networks, each a whole network pickled."""

    of_class: str
    """Full name of the network's class."""
    name_of: Callable[[str], str]
    """From the path of a quantizer to the module that has its bounds there."""
    key_of: Callable[[str], str]
    """From a key of a parameter or buffer there to ours."""
    settings_of: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    """From the attributes of the network there to fields of our settings that the tensors do not show."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """One paper: its network, its named sizes, and how its files and options are read."""

    name: str
    """As the paper calls it, in lower case: "hit-sr"."""
    title: str
    """As a heading for users: "HiT-SR"."""
    about: str
    """The idea, for users: two or three sentences."""
    caution: str = ""
    """What users must know before anything else; may be empty."""
    remarks: Sequence[str] = ()
    """What else there is to know about what the authors publish, one sentence each."""
    paper: Paper
    """Where it was published."""
    repository: str
    """Address of the authors' code."""
    network: type[Frame]
    """Builds every variant: ``network(settings=..., scale=...)``."""
    variants: Mapping[str, FrameSettings]
    """Published sizes by name."""
    costs: Mapping[tuple[str, int], Cost]
    """What each variant takes, at each scale."""
    tiny: Mapping[str, FrameSettings]
    """The same networks at a size for tests and tutorials."""
    marks: Collection[str]
    """Ends of keys that each file of the family carries, and of others' only those with ``foreign`` keys."""
    foreign: Collection[str] = ()
    """Ends of keys of a family that extends this one: a file that carries one of them is not of this family."""
    derivable: Collection[str]
    """Ends of keys of buffers that files may carry and the network computes itself."""
    from_state: Callable[[State], tuple[FrameSettings, int]]
    """Settings and scale from the shapes of a weight file; see ``unseen_help`` for what cannot be inferred."""
    constants: Callable[[Any], Mapping[str, Tensor]] = lambda _: {}
    """Ends of derivable keys that a training may have changed, and what a network with these settings has there."""
    unseen: Callable[[Any, State], Collection[str]]
    """Fields of a network with these settings that its file does not show; ``from_state`` assumes published values."""
    unseen_help: Mapping[str, str]
    """What ``from_state`` assumes for each field that ``unseen`` can name, in one clause."""
    gains_by_bf16_on_cpu: bool = True
    """Whether bf16 is faster than float32 in PyTorch on CPUs that have it, as measured in docs/precision.md."""
    classes: Collection[str]
    """Names of the published constructors."""
    misnomers: Collection[str] = ()
    """Names of other networks' constructors that published option files of this family state by mistake."""
    from_options: Callable[[Mapping[str, Any]], tuple[FrameSettings, int]]
    """Settings and scale from the arguments of a published constructor."""
    buffers: Callable[[Any], Mapping[str, Tensor]] | None = None
    """From a network to the derivable buffers that the published code keeps in its files; None: not offered."""
    published: Sequence[Published] = ()
    """Every network of the family that its authors trained."""
    recipes: Mapping[tuple[str, int], Sequence[Recipe]] = field(default_factory=dict)
    """How they trained, stage by stage, by name (as `Published.name`, or another training's) and scale."""
    quantization: Callable[[Any], Placement] = lambda _: Placement()
    """From settings to what quantization must know of the network; by default it is treated by the rule alone."""
    quantized_files: QuantizedFiles | None = None
    """How the authors' files of quantized networks are read; None: there are none."""
    test_padding: Callable[[Any], int] | None = None
    """Where the published test code extends its images before they reach the network: from settings to a number of lr
    pixels, to whose next multiple each side grows by its mirror, a whole one more where it is a multiple already."""

    def recognises(self, state: State) -> bool:
        """Whether a weight file is of this family, judged by its keys alone."""
        carries = [any(key.endswith(mark) for key in state) for mark in self.marks]
        return all(carries) and not any(key.endswith(tuple(self.foreign)) for key in state)

    def nearest(self, settings: FrameSettings) -> tuple[str, list[str]]:
        """The variant that differs least from ``settings``, and the names of the fields in which it differs."""
        return min(
            ((variant, self.differing(settings, variant)) for variant in self.variants),
            key=lambda found: len(found[1]),
        )

    def differing(self, settings: FrameSettings, variant: str) -> list[str]:
        """The names of the fields in which ``settings`` differ from those of a variant."""
        other = self.variants[variant]
        return [field for field in type(other).model_fields if getattr(settings, field) != getattr(other, field)]


def depths_of(state: State, blocks: str) -> tuple[int, ...]:
    """Number of blocks in each group, from the numbers in keys such as "layers.3.residual_group.blocks.5.norm1.weight".

    Args:
        state: A weight file's tensors.
        blocks: What the blocks of a group are called: "residual_group.blocks".
    """
    key_of_block = re.compile(rf"layers\.(\d+)\.{re.escape(blocks)}\.(\d+)\.")
    depths: dict[int, int] = {}
    for key in state:
        if found := key_of_block.match(key):
            group, block = int(found[1]), int(found[2])
            depths[group] = max(depths.get(group, 0), block + 1)
    return tuple(depths[group] for group in sorted(depths))


def ratio_of(part: int, whole: int) -> float:
    """The ratio that, rounded as it is, takes ``int(whole * ratio)`` back to ``part``."""
    ratio = part / whole
    return ratio if int(whole * ratio) == part else math.nextafter(ratio, math.inf)


_SHARED_ARGUMENTS: Mapping[str, str] = {
    "upscale": "scale",
    "in_chans": "in_channels",
    "embed_dim": "embed_dim",
    "num_heads": "num_heads",
    "img_range": "image_range",
    "resi_connection": "residual_conv",
}
"""Arguments of all published constructors, and our fields."""


def take_options(
    options: Mapping[str, Any],
    *,
    fields: Mapping[str, str],
    neutral: Mapping[str, Any],
    without_effect: Collection[str],
    in_vain: Collection[str],
) -> dict[str, Any]:
    """Published constructor arguments as the fields of our settings.

    Args:
        options: The arguments, with ``type``, the name of the published class.
        fields: Argument to field, for what our network reads besides the arguments that all families share.
        neutral: Arguments that published networks read but that our network offers at one value only.
        without_effect: Arguments that change nothing in the published network either; dropped.
        in_vain: Keys that published option files carry though no network reads them; dropped with a warning.

    Returns:
        Field names to values.

    Raises:
        ValueError: An argument is unknown, or has a value that is not offered.
    """
    network = options["type"]
    fields = {**_SHARED_ARGUMENTS, **fields}
    taken = {}
    dropped = []
    for key, value in options.items():
        if key in fields:
            taken[fields[key]] = value
        elif key in neutral:
            if value != neutral[key]:
                raise ValueError(f"{network}: {key} is supported only as {neutral[key]!r}, got {value!r}")
        elif key in in_vain:
            dropped.append(key)
        elif key not in without_effect and key != "type":
            known = [*fields, *neutral, *without_effect]
            raise ValueError(f"{network} has no argument {key!r}{suggest(key, known)}")
    if dropped:
        warnings.warn(f"{network}: no network reads {', '.join(dropped)}; ignored", UserWarning, stacklevel=4)
    return taken
