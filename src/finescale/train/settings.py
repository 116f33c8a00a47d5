"""Everything that a training can be told, in groups: the network, the data, the steps, looking at it, keeping it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from typing_extensions import Self

from finescale.data.degradation import DegradationSettings
from finescale.data.samples import Augmentation
from finescale.networks import SCALES, FrameSettings, variants
from finescale.settings import Settings, mistakes_of, suggest
from finescale.train.losses import LOSS_NAMES
from finescale.train.optimizers import check_optimizer, default_of
from finescale.train.perceptual import SMALLEST_SIDE


class DataSettings(Settings):
    """What is learned from."""

    hr: tuple[Path, ...] = Field(min_length=1)
    """Folders of originals, caches of `finescale prepare cache`, or LMDBs of BasicSR, told apart by what they hold."""
    lr: tuple[Path, ...] = ()
    """Their low-resolution pictures, one place for each of ``hr``; empty makes them by the MATLAB-exact bicubic."""
    patch: int = Field(64, ge=1)
    """Side of a sample, in lr pixels."""
    augmentation: Augmentation = "flips-and-transpose"
    """Each sample upside down, left to right and transposed, each half of the time; or left to right and a quarter
    turn, each half of the time; or as it is."""
    degradation: DegradationSettings | None = None
    """What else happens to low-resolution pictures that are made here, see below; {} takes all defaults, null is
    nothing."""


class StepSettings(Settings):
    """How the weights change, step by step."""

    iterations: int = Field(ge=1)
    """Steps in all."""
    batch: int = Field(16, ge=1)
    """Samples of a step, over all devices."""
    accumulate: int = Field(1, ge=1)
    """Passes into which the samples of a step are divided, to save memory; 1 is neutral."""
    optimizer: str = "Adam"
    """Name of a class of `torch.optim`."""
    lr: float = Field(5e-4, gt=0)
    """Learning rate, before the schedule."""
    betas: tuple[float, float] | None = (0.9, 0.99)
    """Decay of the means of gradients and of their squares, for optimizers of the Adam kind; None leaves it out."""
    weight_decay: float = Field(0.0, ge=0)
    """Of the optimizer; 0 is neutral."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the optimizer."""
    schedule: Literal["multi-step", "cosine"] = "multi-step"
    """Learning rate over the steps: times ``gamma`` at each milestone, or half a cosine down to ``final_lr``."""
    milestones: tuple[int, ...] = ()
    """Steps after which the learning rate is multiplied by ``gamma``; for "multi-step"."""
    gamma: float = Field(0.5, gt=0, le=1)
    """Factor at each milestone; 1 is neutral."""
    final_lr: float = Field(0.0, ge=0)
    """Learning rate at the end of "cosine"."""
    warm_up: int = Field(0, ge=0)
    """Steps over which the learning rate rises from 0; 0 is neutral."""
    loss: dict[str, float] = Field(default_factory=lambda: {"l1": 1.0})
    """Names of losses and their weights: l1, charbonnier, mse, edge (CRAFT's), frequency, perceptual."""
    perceptual: Path | None = None
    """Weights of VGG19 for the loss "perceptual", as torchvision publishes them; null without it."""
    average: float = Field(0.999, ge=0, lt=1)
    """Share of the old in the running average of the weights (EMA), which is validated and saved; 0 is neutral."""
    average_warm_up: bool = True
    """Average the first steps over a shorter time; the published trainings do not."""
    clip: float | None = Field(None, gt=0)
    """Largest norm of all gradients together; None is neutral."""
    seed: int = Field(1226, ge=0)
    """Decides the first weights and every sample."""
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    """What products are computed in; "fp16" scales the loss."""
    checkpointing: bool = False
    """Compute activations anew in the backward pass: about a third more time for a fraction of the memory."""
    compile: bool = False
    """Run the network through `torch.compile`."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """What each of several devices holds: all weights, or its part of them to save memory; neutral on one device."""
    bad_steps: int = Field(10, ge=0)
    """Steps in a row that are left out because a loss exploded or gradients are not finite; one more goes back to the
    last checkpoint, and on past the samples of these steps; from there a second time ends the training."""
    explosion: float = Field(20.0, gt=1)
    """A loss has exploded where it is not finite, or this many times its mean over about the last 100 good steps."""

    @field_validator("loss")
    @classmethod
    def _check_loss(cls, value: dict[str, float]) -> dict[str, float]:
        for name, weight in value.items():
            if name not in LOSS_NAMES:
                known = f"{suggest(name, LOSS_NAMES)}; known: {', '.join(LOSS_NAMES)}"
                raise ValueError(f"no loss is called {name!r}{known}")
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
            raise ValueError("strategy 'fsdp' is not offered with precision 'fp16'; take 'bf16', or strategy 'ddp'")
        if ("perceptual" in self.loss) != (self.perceptual is not None):
            raise ValueError(
                "the loss perceptual and the weights for it, in perceptual, go together: give both or neither, "
                f"got loss {', '.join(self.loss)} and perceptual {self.perceptual}"
            )
        check_optimizer(self.optimizer, self.optimizer_arguments())
        return self

    def optimizer_arguments(self) -> dict[str, Any]:
        """What the optimizer's constructor takes besides the parameters."""
        betas = {} if self.betas is None else {"betas": self.betas}
        # An optimizer's own default may be another than 0: AdamW's is.
        decays = self.weight_decay or default_of(self.optimizer, "weight_decay") is not None
        decay = {"weight_decay": self.weight_decay} if decays else {}
        return {"lr": self.lr, **betas, **decay, **self.options}


class ValidationSettings(Settings):
    """How good the network is meanwhile."""

    hr: Path | None = None
    """Folder of originals to validate on; nothing is validated without."""
    lr: Path | None = None
    """Their low-resolution pictures; None makes them by the MATLAB-exact bicubic."""
    every: int = Field(1000, ge=1)
    """Steps between two validations."""
    seconds: float | None = Field(None, gt=0)
    """Time for one validation: the pictures that do not fit into it, measured at the first validation, are left out of
    all; None takes all."""
    pictures: int = Field(1, ge=0)
    """Upscaled pictures that each validation keeps, to be looked at over time."""


class KeepSettings(Settings):
    """What is written, and how often."""

    every: int = Field(500, ge=1)
    """Steps between two checkpoints."""
    last: int = Field(2, ge=1)
    """Checkpoints that are kept; the averaged weights that validated best are kept apart, as a weight file."""
    log_every: int = Field(100, ge=1)
    """Steps between two lines of progress."""
    tensorboard: bool = False
    """Also write TensorBoard's files; needs the extra "train"."""
    tracker: Literal["none", "wandb", "trackio"] = "none"
    """Also report to this service, if it is installed."""


class TrainSettings(Settings):
    """A training. Its samples are a pure function of the seed: two runs of the same settings see the same ones."""

    name: str = Field(pattern=r"^[^/\\.][^/\\]*$")
    """Name of the folder under ``output`` that holds all that the training writes."""
    output: Path = Path("experiments")
    """Folder that holds all trainings."""
    licence: str | None = None
    """Terms of the weights, and of the data where they matter; written into the weight file."""

    variant: str
    """The published network to train, or to start from with ``network``."""
    network: dict[str, Any] = Field(default_factory=dict)
    """Fields in which the network differs from the variant; empty is neutral."""
    scale: int
    """How many times larger the network makes an image: 2, 3 or 4."""
    warm_start: Path | None = None
    """Weight file to begin with: every tensor whose name and shape agree is taken over, such as all but the head of
    another scale's; None begins with random weights."""

    data: DataSettings
    """See `DataSettings`."""
    train: StepSettings
    """See `StepSettings`."""
    validation: ValidationSettings = ValidationSettings()
    """See `ValidationSettings`."""
    keep: KeepSettings = KeepSettings()
    """See `KeepSettings`."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        known = variants()
        if self.variant not in known:
            raise ValueError(
                f"variant {self.variant!r} is unknown{suggest(self.variant, known)}; known: {', '.join(known)}"
            )
        if self.scale not in SCALES:
            raise ValueError(f"scale must be 2, 3 or 4, got {self.scale}")
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
        self.network_settings()
        return self

    def shareable(self) -> dict[str, Any]:
        """The settings as plain values for the header of a weight file: folders and files by their names alone."""
        values = self.model_dump(mode="json", exclude={"output", "licence"})
        values["data"].update(hr=[path.name for path in self.data.hr], lr=[path.name for path in self.data.lr])
        validation = values["validation"]
        files = (values, "warm_start"), (values["train"], "perceptual"), (validation, "hr"), (validation, "lr")
        for group, field in files:
            group[field] = group[field] and Path(group[field]).name
        return values

    def network_settings(self) -> FrameSettings:
        """The variant's settings with the fields of ``network`` changed.

        Raises:
            ValueError: A field is unknown or has a wrong value.
        """
        variant = variants()[self.variant].variants[self.variant]
        fields = type(variant).model_fields
        for field in self.network:
            if field not in fields:
                raise ValueError(f"network has no field {field!r}{suggest(field, fields)}")
        try:
            return type(variant).model_validate({**variant.model_dump(), **self.network})
        except ValidationError as error:
            raise ValueError(f"network: {mistakes_of(type(variant), error)}") from None
