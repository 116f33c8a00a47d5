"""Everything that a training can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator
from typing_extensions import Self

from finescale.networks import SCALES, FrameSettings, variants
from finescale.settings import Settings, mistakes_of, suggest


class TrainSettings(Settings):
    """A training: network, data, optimizer, schedule, and how often to look at it.

    The images of a training are a pure function of ``seed``: two runs of the same settings see the same samples.
    """

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
    """Weight file to begin with, of the same network at any scale; the reconstruction head is not taken over."""

    hr: tuple[Path, ...] = Field(min_length=1)
    """Folders of original images; the low-resolution ones are made by the MATLAB-exact bicubic."""
    lr_patch: int = Field(64, ge=1)
    """Side of a sample, in lr pixels."""
    batch: int = Field(16, ge=1)
    """Samples of a step."""
    seed: int = Field(1226, ge=0)
    """Decides the first weights and every sample."""

    iterations: int = Field(ge=1)
    """Steps in all."""
    learning_rate: float = Field(5e-4, gt=0)
    """Adam's step size, before the first milestone."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Adam's decay of the mean and of the squared mean of gradients."""
    milestones: tuple[int, ...] = ()
    """Steps after which the learning rate is multiplied by ``gamma``."""
    gamma: float = Field(0.5, gt=0, le=1)
    """Factor at each milestone; 1 is neutral."""
    ema_decay: float = Field(0.999, ge=0, lt=1)
    """Share of the old in the running average of the weights, which is what is validated and saved; 0 is neutral."""

    validation: Path | None = None
    """Folder of original images to validate on; nothing is validated without."""
    validate_every: int = Field(1000, ge=1)
    """Steps between two validations."""
    checkpoint_every: int = Field(500, ge=1)
    """Steps between two checkpoints."""
    log_every: int = Field(100, ge=1)
    """Steps between two lines of progress."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        known = variants()
        if self.variant not in known:
            raise ValueError(
                f"variant {self.variant!r} is unknown{suggest(self.variant, known)}; known: {', '.join(known)}"
            )
        if self.scale not in SCALES:
            raise ValueError(f"scale must be 2, 3 or 4, got {self.scale}")
        if list(self.milestones) != sorted(self.milestones):
            raise ValueError(f"milestones must rise, got {self.milestones}")
        self.network_settings()
        return self

    def shareable(self) -> dict[str, Any]:
        """The settings as plain values for the header of a weight file: folders and files by their names alone."""
        values = self.model_dump(mode="json", exclude={"output", "licence"})
        values["hr"] = [folder.name for folder in self.hr]
        for field in ("warm_start", "validation"):
            path: Path | None = getattr(self, field)
            values[field] = path and path.name
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
