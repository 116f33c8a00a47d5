"""Published option files for training: what is done, what is told to change nothing, what is refused."""

from __future__ import annotations

import csv
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import finescale
from finescale.basicsr.training import Conversion, convert, is_option_file
from finescale.errors import SettingsError
from finescale.images import write_image
from finescale.settings import parse_settings, read_values
from finescale.train import TrainSettings, train

FILES = Path(__file__).parent / "option_files"
HIT = (FILES / "HiT_SRF_x2.yml").read_text(encoding="utf-8")


def converted(text: str, tmp_path: Path) -> Conversion:
    path = tmp_path / "train.yml"
    path.write_text(text, encoding="utf-8")
    return convert(read_values(path), source="train.yml")


def settings(conversion: Conversion) -> TrainSettings:
    return parse_settings(TrainSettings, conversion.values, source="train.yml")


@pytest.mark.parametrize("path", sorted(FILES.glob("*.yml")), ids=lambda path: path.stem)
def test_published_files_become_settings(path: Path) -> None:
    values = read_values(path)
    assert is_option_file(values)
    made = settings(convert(values, source=path.name))
    assert made.name == values["name"]
    assert made.network == {}


FOLDERS = (
    "DIV2K/HR", "DIV2K/HR_sub", "DF2K/HR_sub", "benchmark/Set5/HR", "Set5/GTmod4",
    "DIV2K/LR_bicubic/X2", "DIV2K/LR_sub_x4", "DF2K/LR_sub_x4", "benchmark/Set5/LR_bicubic/X2", "Set5/LRbicx4",
)  # fmt: skip
"""Where the three files say that their pictures are; the originals first."""


def write_datasets(root: Path) -> None:
    """Two pictures in each of `FOLDERS`, low-resolution ones named by the rule of the files that name them."""
    generator = torch.Generator().manual_seed(0)
    originals = torch.rand(2, 3, 64, 64, generator=generator)
    for folder in FOLDERS:
        scale = 2 if folder.endswith("X2") else 4 if folder.lower().endswith("x4") else 1
        suffix = "x2" if scale == 2 else ""
        for number, original in enumerate(originals):
            image = original if scale == 1 else F.avg_pool2d(original, scale)
            path = root / folder / f"{number}{suffix}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(path, image)


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(FILES.glob("*.yml")), ids=lambda path: path.stem)
def test_published_files_train_unchanged(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_datasets(tmp_path / "datasets")
    monkeypatch.chdir(tmp_path)
    values = read_values(path)
    made = settings(convert(values, source=path.name))
    # What the files begin with and follow by is not there: their earlier training, perhaps TensorBoard.
    keep = made.keep.model_copy(update={"tensorboard": made.keep.tensorboard and find_spec("tensorboard") is not None})
    result = train(made.model_copy(update={"warm_start": None, "keep": keep}), device="cpu")
    assert result == Path("experiments") / made.name / "weights.safetensors"
    assert finescale.load(result).variant == made.variant
    with (result.parent / "metrics.csv").open(newline="") as file:
        losses = {int(row["step"]): float(row["loss"]) for row in csv.DictReader(file) if row["loss"]}
    assert list(losses) == list(range(1, values["train"]["total_iter"] + 1))
    assert all(0 < loss < 2 for loss in losses.values())


def test_hit_srf_is_trained_as_its_file_says(tmp_path: Path) -> None:
    conversion = converted(HIT, tmp_path)
    made = settings(conversion)
    assert (made.variant, made.scale, made.warm_start) == ("hit-srf", 2, None)
    assert made.data.hr == (Path("datasets/DIV2K/HR"),)
    assert made.data.lr == (Path("datasets/DIV2K/LR_bicubic/X2"),)
    assert (made.data.patch, made.data.augmentation) == (16, "flips-and-transpose")
    steps = made.train
    assert (steps.iterations, steps.batch, steps.lr, steps.seed) == (4, 4, 5e-4, 1226)
    assert (steps.optimizer, steps.betas, steps.weight_decay, steps.loss) == ("Adam", (0.9, 0.99), 0.0, {"l1": 1.0})
    assert (steps.schedule, steps.milestones, steps.gamma, steps.warm_up) == ("multi-step", (2, 3), 0.5, 0)
    assert (steps.average, steps.average_warm_up, steps.clip, steps.precision) == (0.0, False, None, "float32")
    assert (made.validation.every, made.validation.pictures) == (2, 0)
    assert made.validation.lr == Path("datasets/benchmark/Set5/LR_bicubic/X2")
    assert (made.keep.every, made.keep.log_every, made.keep.tensorboard, made.keep.tracker) == (2, 1, False, "none")
    assert conversion.ignored == (
        "model_type", "dist_params", "path.strict_load_g", "datasets.train.name", "datasets.train.use_shuffle",
        "datasets.train.num_worker_per_gpu", "datasets.train.dataset_enlarge_ratio", "datasets.train.prefetch_mode",
        "datasets.val.name", "val.use_chop", "val.metrics", "HiT_SRF: no network reads expansion_factor; ignored",
    )  # fmt: skip


def test_drct_is_fine_tuned_as_its_file_says() -> None:
    conversion = convert(read_values(FILES / "DRCT_x4_finetune.yml"), source="DRCT")
    made = settings(conversion)
    assert (made.variant, made.train.average, made.train.lr, made.keep.tensorboard) == ("drct", 0.999, 1e-5, True)
    assert made.warm_start is not None
    assert made.warm_start.name == "net_g_latest.pth"
    assert made.validation.hr == Path("datasets/Set5/GTmod4")
    assert {"datasets.val_2", "datasets.train.meta_info_file", "path.param_key_g"} <= set(conversion.ignored)


def test_craft_is_trained_with_its_edge_loss_and_warms_up() -> None:
    made = settings(convert(read_values(FILES / "CRAFT_x4_edge.yml"), source="CRAFT"))
    assert (made.train.loss, made.train.warm_up, made.train.seed) == ({"l1": 1.0, "edge": 1.0}, 2, 33)
    assert made.validation.hr is None


def test_a_network_of_another_size_is_told_by_the_fields_that_differ(tmp_path: Path) -> None:
    made = settings(converted(HIT.replace("embed_dim: 60", "embed_dim: 48"), tmp_path))
    assert made.network == {"embed_dim": 48}
    assert made.network_settings().embed_dim == 48


def test_imagenet_pairs_are_made_on_the_fly(tmp_path: Path) -> None:
    text = HIT.replace("PairedImageDataset", "ImageNetPairedDataset", 1)
    text = text.replace("    dataroot_lq: datasets/DIV2K/LR_bicubic/X2\n", "")
    assert settings(converted(text, tmp_path)).data.lr == ()


def test_other_schedules_optimizers_and_losses_are_taken_over(tmp_path: Path) -> None:
    text = HIT.replace("type: MultiStepLR\n    milestones: [2, 3]\n    gamma: 0.5", COSINE)
    text = text.replace("type: Adam\n", "type: AdamW\n    eps: !!float 1e-6\n").replace("    weight_decay: 0\n", "")
    text = text.replace("    betas: [0.9, 0.99]\n", "").replace("type: L1Loss", "type: CharbonnierLoss\n    eps: 1e-6")
    steps = settings(converted(text.replace("resume_id: ~", "resume_id: x"), tmp_path)).train
    assert (steps.schedule, steps.final_lr, steps.loss) == ("cosine", 1e-7, {"charbonnier": 1.0})
    assert (steps.optimizer, steps.betas, steps.weight_decay, steps.options) == ("AdamW", None, 0.01, {"eps": 1e-6})


PIXEL_LOSS = "  pixel_opt:\n    type: L1Loss\n    loss_weight: 1.0\n    reduction: mean"
COSINE = "type: CosineAnnealingRestartLR\n    periods: [4]\n    restart_weights: [1]\n    eta_min: 1e-7"


def test_without_a_flip_nothing_is_turned(tmp_path: Path) -> None:
    text = HIT.replace("use_hflip: true", "use_hflip: false").replace("use_rot: true", "use_rot: false")
    assert settings(converted(text, tmp_path)).data.augmentation == "none"


def test_a_project_reports_to_its_service(tmp_path: Path) -> None:
    assert settings(converted(HIT.replace("project: ~", "project: sr"), tmp_path)).keep.tracker == "wandb"


def test_a_settings_file_of_ours_is_no_option_file() -> None:
    assert not is_option_file({"name": "a", "variant": "hit-srf", "train": {}})


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("num_gpu", "num_gpus", r"unknown key 'num_gpus' \(did you mean 'num_gpu'\?\)"),
        ("num_gpu: 2", "num_gpu: auto", "'num_gpu': input should be a valid integer"),
        ("  total_iter", "  total_iters", r"unknown key 'train.total_iters' \(did you mean 'train.total_iter'\?\)"),
        ("gt_size: 32", "gtsize: 32", r"datasets.train: .*unknown key 'gtsize' \(did you mean 'gt_size'\?\)"),
        ("gt_size: 32", "gt_size: 33", "gt_size must be a multiple of the scale 2, got 33"),
        ("  train:\n", "  training:\n", "'datasets.train' is missing"),
        ("use_rot: true", "use_rot: false", "use_hflip and use_rot are supported only together"),
        ("type: disk", "type: memcached", "io_backend must be of type disk or lmdb"),
        ("'{}x2'", "'{}_small'", r"filename_tmpl must be '\{\}' or '\{\}x2', got '\{\}_small'"),
        ("    dataroot_lq: datasets/DIV2K/LR_bicubic/X2\n", "", "a PairedImageDataset needs dataroot_lq"),
        ("PairedImageDataset", "FFHQDataset", "type must be PairedImageDataset or ImageNetPairedDataset"),
        ("upscale: 2", "upscale: 3", "scale is 2, but network_g has upscale 3"),
        ("resume_state: ~", "resume_state: 5.state", "'path.resume_state'"),
        ("type: MultiStepLR", "type: StepLR", "type must be MultiStepLR or CosineAnnealingRestartLR, got 'StepLR'"),
        ("milestones: [2", "milestone: [2", r"train.scheduler: unknown key 'milestone' \(did you mean 'milestones'"),
        ("type: L1Loss", "type: GANLoss", "train.pixel_opt: type must be one of L1Loss"),
        ("type: L1Loss", "type: CharbonnierLoss", "eps must be 1e-06, got None"),
        ("reduction: mean", "reduction: sum", "reduction must be mean, got 'sum'"),
    ],
)  # fmt: skip
def test_what_cannot_be_followed_is_refused(old: str, new: str, sentence: str, tmp_path: Path) -> None:
    assert old in HIT
    with pytest.raises(SettingsError, match=sentence):
        converted(HIT.replace(old, new, 1), tmp_path)


def test_restarts_are_refused(tmp_path: Path) -> None:
    text = HIT.replace("type: MultiStepLR\n    milestones: [2, 3]\n    gamma: 0.5", COSINE.replace("[4]", "[2, 2]"))
    with pytest.raises(SettingsError, match=r"periods must be \[4\] as total_iter"):
        converted(text, tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("type: Adam", "type: Adm", r"did you mean 'Adam'\?"),
        ("betas: [0.9, 0.99]", "beta: [0.9, 0.99]", r"Adam has no argument 'beta' \(did you mean 'betas'\?\)"),
        (
            "  pixel_opt:\n    type: L1Loss\n    loss_weight: 1.0\n    reduction: mean",
            "",
            "at least one loss is needed",
        ),
    ],
)
def test_what_the_settings_refuse_is_told_with_them(old: str, new: str, sentence: str, tmp_path: Path) -> None:
    assert old in HIT
    with pytest.raises(SettingsError, match=sentence):
        settings(converted(HIT.replace(old, new, 1), tmp_path))
