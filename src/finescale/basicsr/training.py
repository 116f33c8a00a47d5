"""Published option files for training: BasicSR's YAML becomes the settings of a training.

Everything that a file requests is done or refused; known keys without an effect here are reported.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from finescale import networks
from finescale.basicsr.blocks import (
    DatasetOptions,
    Ignored,
    OptionFile,
    OptionPath,
    PathOptions,
    ValidationOptions,
    ignored_keys,
    present_weights,
    read_metrics,
    rules_of,
)
from finescale.data.pairs import lr_names
from finescale.data.samples import Augmentation
from finescale.errors import SettingsError
from finescale.networks import Recipe, recipes
from finescale.settings import Settings, parse_settings
from finescale.train.log import has_tensorboard
from finescale.train.losses import CHARBONNIER_EPSILON
from finescale.train.optimizers import default_of


class TrainSetOptions(DatasetOptions):
    """The block ``datasets.train``.

    Its type is "PairedImageDataset", or "ImageNetPairedDataset", whose low-resolution pictures are made on the fly.
    """

    dataroot_gt: OptionPath
    """HR images: a folder or an LMDB."""
    gt_size: int = Field(ge=1)
    """Side of a sample, in hr pixels."""
    use_hflip: bool
    """Mirror left to right, half of the time."""
    use_rot: bool
    """Mirror upside down and transpose, each half of the time."""
    batch_size_per_gpu: int = Field(ge=1)
    """Samples of a step on each device."""
    meta_info_file: Ignored = None
    """No effect: all pictures of the folder are taken."""
    use_shuffle: Ignored = None
    """No effect: each sample is drawn at random."""
    num_worker_per_gpu: Ignored = None
    """No effect."""
    dataset_enlarge_ratio: Ignored = None
    """No effect: there are no epochs."""
    prefetch_mode: Ignored = None
    """No effect."""
    num_prefetch_queue: Ignored = None
    """No effect."""
    pin_memory: Ignored = None
    """No effect."""


class ValidationSetOptions(DatasetOptions):
    """Another block of ``datasets``, to validate on."""

    name: str | None = None
    """Name of the set; null uses the key of its block."""
    dataroot_gt: OptionPath
    """Folder of HR images."""
    dataroot_lq: OptionPath
    """Folder of low-resolution pictures."""


class TrainPathOptions(PathOptions):
    """The block ``path``."""

    resume_state: None = None
    """Only null: a training is resumed by its name."""
    experiments_root: Ignored = None
    """No effect, as ``root``."""


class OptimizerOptions(Settings, extra="allow"):
    """The block ``train.optim_g``; further keys are arguments of the optimizer."""

    type: str
    """Name of a class of `torch.optim`."""
    lr: float
    """Learning rate."""
    weight_decay: float | None = None
    """Weight decay; null uses the optimizer's default."""
    betas: tuple[float, float] | None = None
    """Betas; null uses the optimizer's default."""


class SchedulerOptions(Settings):
    """The block ``train.scheduler``."""

    type: str
    """"MultiStepLR" or "CosineAnnealingRestartLR"."""
    milestones: tuple[int, ...] = ()
    """Milestones of MultiStepLR."""
    gamma: float = 0.1
    """Factor of MultiStepLR at each milestone."""
    periods: tuple[int, ...] = ()
    """Periods of CosineAnnealingRestartLR: only one, as long as the training."""
    restart_weights: tuple[float, ...] = (1.0,)
    """Restart weights of CosineAnnealingRestartLR: only one, 1."""
    eta_min: float = 0.0
    """Final learning rate of CosineAnnealingRestartLR."""


class LossOptions(Settings):
    """A block such as ``train.pixel_opt``."""

    type: str
    """"L1Loss", "MSELoss", "CharbonnierLoss" or "EdgeLoss"."""
    loss_weight: float = 1.0
    """Weight of the loss."""
    reduction: str = "mean"
    """Only "mean"."""
    eps: float | None = None
    """Number that CharbonnierLoss adds to the square."""


class StepOptions(Settings):
    """The block ``train``."""

    total_iter: int = Field(ge=1)
    """Number of steps."""
    optim_g: dict[str, Any]
    """Optimizer: `OptimizerOptions`."""
    scheduler: dict[str, Any]
    """Schedule of the learning rate: `SchedulerOptions`."""
    warmup_iter: int = -1
    """Steps over which the learning rate rises; -1 for none."""
    ema_decay: float = 0.0
    """Decay of the running average of the weights."""
    pixel_opt: dict[str, Any] | None = None
    """Pixel loss: `LossOptions`."""
    edgel_opt: dict[str, Any] | None = None
    """Edge loss of CRAFT's sequel: `LossOptions`."""
    perceptual_opt: None = None
    """Only null."""


class TrainValidationOptions(ValidationOptions):
    """The block ``val``."""

    val_freq: float
    """Steps between two validations."""


class LoggerOptions(Settings):
    """The block ``logger``."""

    print_freq: float = 100
    """Steps between two lines of the log."""
    save_checkpoint_freq: float = 5000
    """Steps between two checkpoints."""
    use_tb_logger: bool = False
    """Also write files for TensorBoard."""
    wandb: dict[str, Any] | None = None
    """Also report to Weights & Biases, where it has a ``project``."""


class TrainOptionFile(OptionFile):
    """The whole file; ``datasets`` holds ``train`` and, under any other names, sets to validate on."""

    num_gpu: Literal["auto"] | Annotated[int, Field(ge=0)]
    """Devices, by which the samples of a step are multiplied; 0 is one CPU, "auto" those that train here."""
    manual_seed: int
    """Seed."""
    path: TrainPathOptions = TrainPathOptions()
    """Initial weights."""
    train: StepOptions
    """Optimization."""
    val: TrainValidationOptions | None = None
    """Validation."""
    logger: LoggerOptions = LoggerOptions()
    """Logs and checkpoints."""
    auto_resume: Ignored = None
    """No effect: a training that was begun is always resumed."""
    find_unused_parameters: Ignored = None
    """No effect."""
    cudnn_benchmark: Ignored = None
    """No effect."""
    use_chop: Ignored = None
    """No effect: large pictures are tiled automatically."""


@dataclass(frozen=True)
class Conversion:
    """Training that an option file requests."""

    values: dict[str, Any]
    """Fields of `TrainSettings`."""
    ignored: tuple[str, ...]
    """Keys of the file without an effect here, and warnings about the network."""
    notes: tuple[str, ...]
    """What else a user should know, one sentence each."""
    batch_note: str
    """Where the number of samples per step comes from, and how to keep the authors'; a sentence."""


def is_option_file(values: Mapping[str, Any]) -> bool:
    """Return whether the fields of a YAML file are those of a BasicSR option file."""
    return "network_g" in values


def convert(values: Mapping[str, Any], *, source: str, devices: int = 1) -> Conversion:
    """Convert an option file to the settings of a training.

    Args:
        values: The file's fields.
        source: Name of the file, for messages.
        devices: Number of devices that train together, which ``num_gpu: auto`` stands for.

    Raises:
        SettingsError: There are unknown or wrong values, or the file requests something unsupported.
        ValueError: The network is unknown.
    """
    _check_kind(values, source)
    options = parse_settings(TrainOptionFile, values, source=source)
    blocks = dict(options.datasets)
    if "train" not in blocks:
        raise SettingsError(f"{source}: 'datasets.train' is missing")
    data = parse_settings(TrainSetOptions, blocks.pop("train"), source=f"{source}: datasets.train")
    test_sets = {
        key: parse_settings(ValidationSetOptions, block, source=f"{source}: datasets.{key}")
        for key, block in blocks.items()
    }
    for key, block in test_sets.items():
        _check_set(block, scale=options.scale, source=f"{source}: datasets.{key}")
    _check_set(data, scale=options.scale, source=f"{source}: datasets.train")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        variant, fields = _network(options, source)
    validation = _validation(options.val, test_sets, source)
    logger = options.logger
    stages = () if fields else recipes().get((variant, options.scale), ())
    batch, batch_note = _batch(options.num_gpu, data.batch_size_per_gpu, devices, stages)
    notes = []
    with_tensorboard = logger.use_tb_logger and has_tensorboard()
    if logger.use_tb_logger and not with_tensorboard:
        notes.append(
            "use_tb_logger needs the package tensorboard, which is not installed: metrics.csv holds all numbers; for "
            "TensorBoard too: pip install 'finescale[train]'"
        )
    return Conversion(
        values={
            "name": options.name,
            "variant": variant,
            "network": fields,
            "scale": options.scale,
            "warm_start": None if (start := options.path.pretrain_network_g) is None else present_weights(start),
            "data": _data(data, scale=options.scale, source=f"{source}: datasets.train"),
            "train": {
                **_steps(options.train, source=f"{source}: train"),
                "batch": batch,
                "seed": options.manual_seed,
            },
            "validation": validation,
            "keep": {
                "every": logger.save_checkpoint_freq,
                "log_every": logger.print_freq,
                "tensorboard": with_tensorboard,
                "tracker": "wandb" if (logger.wandb or {}).get("project") else "none",
            },
        },
        ignored=ignored_keys({"": options, "path.": options.path, "datasets.train.": data})
        + ignored_keys({f"datasets.{key}.": block for key, block in test_sets.items()})
        + ignored_keys({"val.": options.val} if options.val else {})
        + (() if options.val else tuple(f"datasets.{key}" for key in test_sets))
        + tuple(str(warning.message) for warning in caught),
        notes=tuple(notes),
        batch_note=batch_note,
    )


def _check_kind(values: Mapping[str, Any], source: str) -> None:
    """Refuse the training of a GAN as a whole, rather than each of its keys.

    Raises:
        SettingsError: It is one, or the stage before one, whose pictures are degraded in the same way.
    """
    steps, data = (values.get(key) for key in ("train", "datasets"))
    data = data.get("train") if isinstance(data, dict) else None
    kind = data.get("type") if isinstance(data, dict) else None
    has_discriminator = "network_d" in values or (isinstance(steps, dict) and {"optim_d", "gan_opt"} & steps.keys())
    if has_discriminator or kind == "RealESRGANDataset":
        raise SettingsError(
            f"{source}: this is a GAN training, or its first stage ({values.get('model_type')}, {kind}), which is not "
            "supported; for pictures from the web, train by a recipe with --set data.degradation={}, see "
            "finescale train --describe"
        )


def _batch(num_gpu: int | Literal["auto"], per_device: int, devices: int, stages: Sequence[Recipe]) -> tuple[int, str]:
    """Return the samples of a step, and a sentence about them, and about those of the authors where that differs."""
    count = devices if num_gpu == "auto" else max(num_gpu, 1)
    batch = per_device * count
    note = f"{batch} samples per step: batch_size_per_gpu {per_device} times {count}, by num_gpu {num_gpu}"
    wanted = stages[-1].batch if stages and num_gpu == "auto" else batch
    if wanted != batch:
        note += f"; the authors take {wanted}, on any number of devices by --set train.batch={wanted}"
    passes = wanted // (per_device * devices)
    if passes > 1:
        note += f"; --set train.accumulate={passes} takes them in passes of {per_device} samples, to save memory"
    return batch, note


def _network(options: TrainOptionFile, source: str) -> tuple[str, dict[str, Any]]:
    """Return the variant nearest to the described network, and the fields in which that differs."""
    network = options.described_network(source)
    variant, differing = networks.family_of(network).nearest(network.settings)
    described = network.settings.model_dump(mode="json")
    return variant, {name: described[name] for name in differing}


def _check_set(block: DatasetOptions, *, scale: int, source: str) -> None:
    kinds = ("PairedImageDataset", *(("ImageNetPairedDataset",) if isinstance(block, TrainSetOptions) else ()))
    if block.type not in kinds:
        raise SettingsError(f"{source}: type must be {' or '.join(kinds)}, got {block.type!r}")
    if block.io_backend.get("type") not in ("disk", "lmdb"):
        raise SettingsError(f"{source}: io_backend must be of type disk or lmdb, got {block.io_backend}")
    known = sorted(lr_names("{}", scale=scale))
    if block.filename_tmpl not in known:
        raise SettingsError(
            f"{source}: filename_tmpl must be one of {', '.join(map(repr, known))}, got {block.filename_tmpl!r}; "
            "rename the low-resolution pictures"
        )


def _data(block: TrainSetOptions, *, scale: int, source: str) -> dict[str, Any]:
    paired = block.type == "PairedImageDataset"
    if paired != (block.dataroot_lq is not None):
        raise SettingsError(f"{source}: a {block.type} {'needs' if paired else 'has no'} dataroot_lq")
    if block.gt_size % scale:
        raise SettingsError(f"{source}: gt_size must be a multiple of the scale {scale}, got {block.gt_size}")
    return {
        "hr": [block.dataroot_gt],
        "lr": [block.dataroot_lq] if paired else [],
        "patch": block.gt_size // scale,
        "augmentation": _AUGMENTATIONS[block.use_hflip, block.use_rot],
    }


_AUGMENTATIONS: dict[tuple[bool, bool], Augmentation] = {
    (True, True): "flips-and-transpose",
    (True, False): "flip",
    (False, True): "upside-down-and-transpose",
    (False, False): "none",
}
"""What ``use_hflip`` and ``use_rot`` mean together."""


def _steps(options: StepOptions, *, source: str) -> dict[str, Any]:
    optimizer = parse_settings(OptimizerOptions, options.optim_g, source=f"{source}.optim_g")
    decay = optimizer.weight_decay
    return {
        "iterations": options.total_iter,
        "optimizer": optimizer.type,
        "lr": optimizer.lr,
        "betas": optimizer.betas,
        "weight_decay": default_of(optimizer.type, "weight_decay") or 0.0 if decay is None else decay,
        "options": optimizer.model_extra or {},
        **_schedule(options, source=f"{source}.scheduler"),
        "warm_up": max(options.warmup_iter, 0),
        "loss": _losses(options, source),
        "average": options.ema_decay,
        "average_warm_up": False,
    }


def _schedule(options: StepOptions, *, source: str) -> dict[str, Any]:
    scheduler = parse_settings(SchedulerOptions, options.scheduler, source=source)
    if scheduler.type == "MultiStepLR":
        return {"schedule": "multi-step", "milestones": scheduler.milestones, "gamma": scheduler.gamma}
    if scheduler.type != "CosineAnnealingRestartLR":
        raise SettingsError(f"{source}: type must be MultiStepLR or CosineAnnealingRestartLR, got {scheduler.type!r}")
    if scheduler.periods != (options.total_iter,) or scheduler.restart_weights != (1.0,):
        raise SettingsError(
            f"{source}: periods must be [{options.total_iter}] as total_iter, and restart_weights [1]: restarts "
            f"are not supported; got {list(scheduler.periods)} and {list(scheduler.restart_weights)}"
        )
    return {"schedule": "cosine", "final_lr": scheduler.eta_min}


_LOSSES = {"L1Loss": "l1", "MSELoss": "mse", "CharbonnierLoss": "charbonnier", "EdgeLoss": "edge"}


def _losses(options: StepOptions, source: str) -> dict[str, float]:
    blocks = {"pixel_opt": options.pixel_opt, "edgel_opt": options.edgel_opt}
    weights: dict[str, float] = {}
    for key, block in blocks.items():
        if block is None:
            continue
        loss = parse_settings(LossOptions, block, source=f"{source}.{key}")
        if loss.type not in _LOSSES:
            raise SettingsError(f"{source}.{key}: type must be one of {', '.join(_LOSSES)}, got {loss.type!r}")
        if loss.reduction != "mean":
            raise SettingsError(f"{source}.{key}: reduction must be mean, got {loss.reduction!r}")
        ours = CHARBONNIER_EPSILON**2
        if loss.type == "CharbonnierLoss" and loss.eps != ours:
            raise SettingsError(f"{source}.{key}: eps must be {ours:g}, got {loss.eps}")
        name = _LOSSES[loss.type]
        weights[name] = weights.get(name, 0.0) + loss.loss_weight
    return weights


def _validation(
    options: TrainValidationOptions | None, sets: Mapping[str, ValidationSetOptions], source: str
) -> dict[str, Any]:
    """Convert the sets and the rules of their measurement to fields of `ValidationSettings`."""
    if options is None or not sets:
        return {}
    names = [block.name or key for key, block in sets.items()]
    if len(set(names)) < len(names):  # two blocks state the same name
        names = list(sets)
    values: dict[str, Any] = {
        "sets": {
            name: {"hr": block.dataroot_gt, "lr": block.dataroot_lq}
            for name, block in zip(names, sets.values(), strict=True)
        },
        "every": options.val_freq,
        "pictures": None if options.save_img else 0,
    }
    rules = rules_of(read_metrics(options.metrics, source=source), source=source)
    if rules is not None:
        values["border"], values["channel"] = rules
    return values
