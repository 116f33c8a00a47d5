"""Settings of a training, in groups: network, data, steps, validation, checkpoints and logs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from typing_extensions import Self

from finescale.data.degradation import DegradationSettings
from finescale.data.folders import mistake_in_name
from finescale.data.samples import Augmentation
from finescale.metrics import Channel
from finescale.networks import FrameSettings, variants
from finescale.settings import Settings, mistakes_of, suggest
from finescale.train.losses import LOSS_NAMES
from finescale.train.optimizers import check_optimizer, default_of
from finescale.train.perceptual import SMALLEST_SIDE
from finescale.weights.third_party import THIRD_PARTY, ThirdPartySettings


class DataSettings(Settings):
    """Pictures to learn from, and how samples are made of them."""

    hr: tuple[Path, ...] = Field(min_length=1)
    """Folders of HR images, caches of `finescale prepare cache`, or LMDBs of BasicSR; their contents show which."""
    lr: tuple[Path, ...] = ()
    """Their low-resolution pictures, one place for each of ``hr``; empty makes them by the MATLAB-exact bicubic."""
    patch: int = Field(64, ge=1)
    """Side of a sample, in lr pixels."""
    augmentation: Augmentation = "flips-and-transpose"
    """How samples are varied: mirrored upside down, mirrored left to right and transposed, each half of the time;
    mirrored left to right and turned by a quarter, each half of the time; only the mirroring left to right of the
    first, or only its other two; or not at all."""
    degradation: DegradationSettings | None = None
    """Degradation of low-resolution pictures that are made here, as listed below; {} uses all defaults, null turns it
    off."""


class StepSettings(Settings):
    """Optimization of the weights."""

    iterations: int = Field(ge=1)
    """Number of steps."""
    batch: int = Field(16, ge=1)
    """Samples per step, over all devices."""
    accumulate: int = Field(1, ge=1)
    """Number of passes that the samples of a step are divided into, to save memory; 1 is neutral."""
    optimizer: str = "Adam"
    """Name of a class of `torch.optim`."""
    lr: float = Field(5e-4, gt=0)
    """Learning rate, before the schedule."""
    betas: tuple[float, float] | None = (0.9, 0.99)
    """Decay rates of the means of gradients and of their squares, for optimizers like Adam; null omits the argument."""
    weight_decay: float = Field(0.0, ge=0)
    """Weight decay of the optimizer; 0 is neutral."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the optimizer."""
    schedule: Literal["multi-step", "cosine"] = "multi-step"
    """Learning rate over the steps: multiplied by ``gamma`` at each milestone, or half a cosine to ``final_lr``."""
    milestones: tuple[int, ...] = ()
    """Steps after which the learning rate is multiplied by ``gamma``; for "multi-step"."""
    gamma: float = Field(0.5, gt=0, le=1)
    """Factor at each milestone; 1 is neutral."""
    final_lr: float = Field(0.0, ge=0)
    """Learning rate at the end of the schedule "cosine"."""
    warm_up: int = Field(0, ge=0)
    """Steps over which the learning rate rises from 0; 0 is neutral."""
    loss: dict[str, float] = Field(default_factory=lambda: {"l1": 1.0})
    """Names of losses and their weights: l1, charbonnier, mse, edge (CRAFT's), frequency, perceptual."""
    perceptual: Path | None = None
    """Weights of VGG19 for the loss "perceptual", as torchvision publishes them; null without that loss."""
    average: float = Field(0.999, ge=0, lt=1)
    """Decay of the running average of the weights (EMA), which is validated and saved; 0 is neutral."""
    average_warm_up: bool = True
    """Average the first steps over a shorter time; the published trainings do not."""
    clip: float | None = Field(None, gt=0)
    """Largest norm of all gradients together; null is neutral."""
    seed: int = Field(1226, ge=0)
    """Seed of the initial weights and of all samples."""
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    """Number format of products; "fp16" scales the loss."""
    checkpointing: bool = False
    """Recompute activations in the backward pass: about a third more time for a fraction of the memory."""
    compile: bool = False
    """Run the network through `torch.compile`."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """Distribution over several devices: each holds all weights, or a part of them to save memory; neutral on one
    device."""
    bad_steps: int = Field(10, ge=0)
    """Steps in a row that may be skipped because a loss exploded or gradients are not finite; one more returns to the
    last checkpoint and continues after the samples of these steps; a second return to it ends the training."""
    explosion: float = Field(20.0, gt=1)
    """A loss counts as exploded where it is not finite, or above this many times its mean over about the last 100 good
    steps."""

    @field_validator("loss")
    @classmethod
    def _check_loss(cls, value: dict[str, float]) -> dict[str, float]:
        for name, weight in value.items():
            if name not in LOSS_NAMES:
                known = f"{suggest(name, LOSS_NAMES)}; known: {', '.join(LOSS_NAMES)}"
                raise ValueError(f"unknown loss {name!r}{known}")
            if weight <= 0:
                raise ValueError(f"the weight of loss {name} must be above 0, got {weight}")
        if not value:
            raise ValueError(f"at least one loss is needed, such as {LOSS_NAMES[0]}")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if list(self.milestones) != sorted(self.milestones):
            raise ValueError(f"milestones must rise, got {self.milestones}")
        if self.batch % self.accumulate:
            raise ValueError(f"batch must be a multiple of accumulate={self.accumulate}, got {self.batch}")
        if (self.strategy, self.precision) == ("fsdp", "fp16"):
            raise ValueError("strategy 'fsdp' does not support precision 'fp16'; use 'bf16', or strategy 'ddp'")
        if ("perceptual" in self.loss) != (self.perceptual is not None):
            raise ValueError(
                "the loss perceptual and the field perceptual, its weights, go together: set both or neither, "
                f"got loss {', '.join(self.loss)} and perceptual {self.perceptual}"
            )
        check_optimizer(self.optimizer, self.optimizer_arguments())
        return self

    def optimizer_arguments(self) -> dict[str, Any]:
        """Return the arguments of the optimizer's constructor, without the parameters."""
        betas = {} if self.betas is None else {"betas": self.betas}
        # An optimizer's own default may differ from 0, as that of AdamW.
        decays = self.weight_decay or default_of(self.optimizer, "weight_decay") is not None
        decay = {"weight_decay": self.weight_decay} if decays else {}
        return {"lr": self.lr, **betas, **decay, **self.options}


class ValidationSet(Settings):
    """One of several sets to validate on."""

    hr: Path
    """Folder of HR images."""
    lr: Path | None = None
    """Their low-resolution pictures; null makes them by the MATLAB-exact bicubic."""


class ValidationSettings(Settings):
    """Validation during the training."""

    hr: Path | None = None
    """Folder of HR images to validate on; null turns validation off, unless ``sets`` names some."""
    lr: Path | None = None
    """Their low-resolution pictures; null makes them by the MATLAB-exact bicubic."""
    sets: dict[str, ValidationSet] = Field(default_factory=dict)
    """Several sets by name, each with the fields ``hr`` and ``lr``, in place of these two here. All are measured; the
    weights with the highest mean over the sets count as the best."""
    border: int | None = Field(None, ge=0)
    """Pixels left out on every side, in hr pixels; null leaves out as many as the scale, as the papers do."""
    channel: Channel = "y"
    """What is compared: "y" is BT.601 luma, as in the papers' tables, "rgb" all three channels."""
    every: int = Field(1000, ge=1)
    """Steps between two validations."""
    seconds: float | None = Field(None, gt=0)
    """Time limit of one validation in seconds: pictures beyond it at the first validation are left out of all further
    ones; null uses all."""
    pictures: int | None = Field(1, ge=0)
    """Number of upscaled pictures that each validation keeps, for inspection; null keeps all."""

    @model_validator(mode="after")
    def _check_sets(self) -> Self:
        if self.sets and self.hr:
            raise ValueError(f"hr and sets are mutually exclusive, got {self.hr} and {', '.join(self.sets)}")
        for name in self.sets:
            if mistake := mistake_in_name(name):
                raise ValueError(f"the name of a set {mistake}, got {name!r}")
        return self

    def all_sets(self) -> dict[str, ValidationSet]:
        """Return all sets by name; the only one of ``hr`` is called "validation"."""
        return {"validation": ValidationSet(hr=self.hr, lr=self.lr)} if self.hr else self.sets


class KeepSettings(Settings):
    """Checkpoints and logs."""

    every: int = Field(500, ge=1)
    """Steps between two checkpoints."""
    last: int = Field(2, ge=1)
    """Number of checkpoints to keep; the averaged weights that validated best are kept separately, as a weight file."""
    log_every: int = Field(100, ge=1)
    """Steps between two lines of the log."""
    tensorboard: bool = False
    """Also write files for TensorBoard; needs the extra "train"."""
    tracker: Literal["none", "wandb", "trackio"] = "none"
    """Also report to this service, which must be installed."""


class TrainSettings(Settings):
    """The training and its network. Samples depend on the seed alone: runs with the same settings use the same ones."""

    name: str
    """Name of the folder under ``output`` that holds all files of the training."""
    output: Path = Path("experiments")
    """Folder that holds all trainings."""
    licence: str | None = None
    """Licence of the weights, and of the data where it matters; written into the weight file."""

    variant: str
    """Published network to train, or to modify with ``network``; "third-party" for one that spandrel builds."""
    network: dict[str, Any] = Field(default_factory=dict)
    """Fields in which the network differs from the variant; empty is neutral. Of a third-party network all fields:
    architecture, constructor, arguments and in_channels, which ``--start FILE`` fills in."""
    scale: int
    """Factor by which the network enlarges an image: 1 to 16, as far as its upsampler exists there."""
    warm_start: Path | None = None
    """Weight file to start with: every tensor whose name and shape agree is copied, such as all but the head of another
    scale's network; null starts with random weights."""

    data: DataSettings
    """Pictures and samples."""
    train: StepSettings
    """Optimization."""
    validation: ValidationSettings = ValidationSettings()
    """Validation."""
    keep: KeepSettings = KeepSettings()
    """Checkpoints and logs."""

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if mistake := mistake_in_name(value):
            raise ValueError(mistake)
        if value[0] == "." or "\\" in value or "\0" in value:
            raise ValueError("must not begin with a dot, nor contain a backslash or a null character")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        known = variants()
        if self.variant not in (*known, THIRD_PARTY):
            raise ValueError(
                f"variant {self.variant!r} is unknown{suggest(self.variant, known)}; known: {', '.join(known)}"
            )
        self.network_settings().check_scale(self.scale)
        self._check_restoration()
        if self.data.lr and len(self.data.lr) != len(self.data.hr):
            raise ValueError(f"data.lr must name one place for each of data.hr, got {len(self.data.lr)}")
        if self.data.lr and self.data.degradation is not None:
            raise ValueError(
                "data.lr must be empty with data.degradation, which is for low-resolution pictures that are made, got "
                f"{', '.join(map(str, self.data.lr))}"
            )
        side = self.scale * self.data.patch
        if self.train.perceptual and side < SMALLEST_SIDE:
            raise ValueError(f"the loss perceptual needs samples of {SMALLEST_SIDE} hr pixels or more, got {side}")
        channels = self.network_settings().in_channels
        if channels not in (1, 3):
            raise ValueError(f"network.in_channels must be 3, for RGB pictures, or 1, for gray ones, got {channels}")
        return self

    def _check_restoration(self) -> None:
        """Refuse a training at scale 1 whose low-resolution pictures are the HR images, made smaller by no factor."""
        if self.scale > 1:
            return
        if not self.data.lr and self.data.degradation is None:
            raise ValueError(
                "scale 1 needs pictures to restore: name them in data.lr, or degrade HR images by data.degradation"
            )
        if self.validation.hr is not None and self.validation.lr is None:
            raise ValueError("scale 1 needs pictures to restore: name those of validation.hr in validation.lr")

    def shareable(self) -> dict[str, Any]:
        """Return the settings as plain values for the header of a weight file; paths are reduced to file names."""
        values = self.model_dump(mode="json", exclude={"output", "licence"})
        values["data"].update(hr=[path.name for path in self.data.hr], lr=[path.name for path in self.data.lr])
        validation = values["validation"]
        files = [(values, "warm_start"), (values["train"], "perceptual")]
        files += [(one, field) for one in (validation, *validation["sets"].values()) for field in ("hr", "lr")]
        for group, field in files:
            group[field] = group[field] and Path(group[field]).name
        return values

    @property
    def title(self) -> str:
        """Name of the network for users: the variant, or the architecture of a third-party network."""
        return str(self.network["architecture"]) if self.variant == THIRD_PARTY else self.variant

    def network_settings(self) -> FrameSettings | ThirdPartySettings:
        """Return the variant's settings with the fields of ``network`` changed.

        Raises:
            ValueError: A field is unknown or has a wrong value.
        """
        if self.variant == THIRD_PARTY:
            try:
                return ThirdPartySettings.model_validate(self.network)
            except ValidationError as error:
                raise ValueError(
                    f"network: {mistakes_of(ThirdPartySettings, error)}; --start FILE fills them in"
                ) from None
        variant = variants()[self.variant].variants[self.variant]
        fields = type(variant).model_fields
        for field in self.network:
            if field not in fields:
                raise ValueError(f"network has no field {field!r}{suggest(field, fields)}")
        try:
            return type(variant).model_validate({**variant.model_dump(), **self.network})
        except ValidationError as error:
            raise ValueError(f"network: {mistakes_of(type(variant), error)}") from None
