"""Published option files for training: what is done, what is told to change nothing, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from finescale.basicsr import training
from finescale.basicsr.training import Conversion, convert, is_option_file
from finescale.errors import SettingsError
from finescale.settings import parse_settings, read_values
from finescale.train import TrainSettings

HIT = """
name: train_HiT_SRF_SRx2_from_scratch
model_type: HiTModel
scale: 2
num_gpu: 2
manual_seed: 1226
datasets:
  train:
    name: DIV2K
    type: PairedImageDataset
    dataroot_gt: datasets/DIV2K/HR
    dataroot_lq: datasets/DIV2K/LR_bicubic/X2
    filename_tmpl: '{}x2'
    io_backend:
      type: disk
    gt_size: 32
    use_hflip: true
    use_rot: true
    use_shuffle: true
    num_worker_per_gpu: 4
    batch_size_per_gpu: 2
    dataset_enlarge_ratio: 1
    prefetch_mode: ~
  val:
    name: Set5
    type: PairedImageDataset
    dataroot_gt: datasets/benchmark/Set5/HR
    dataroot_lq: datasets/benchmark/Set5/LR_bicubic/X2
    filename_tmpl: '{}x2'
    io_backend:
      type: disk
network_g:
  type: HiT_SRF
  upscale: 2
  in_chans: 3
  img_size: 64
  base_win_size: [8, 8]
  img_range: 1.
  depths: [6, 6, 6, 6]
  embed_dim: 60
  num_heads: [6, 6, 6, 6]
  expansion_factor: 2
  resi_connection: '1conv'
  hier_win_ratios: [0.5, 1, 2, 4, 6, 8]
  upsampler: 'pixelshuffledirect'
path:
  pretrain_network_g: ~
  strict_load_g: true
  resume_state: ~
train:
  optim_g:
    type: Adam
    lr: !!float 5e-4
    weight_decay: 0
    betas: [0.9, 0.99]
  scheduler:
    type: MultiStepLR
    milestones: [2, 3]
    gamma: 0.5
  total_iter: 4
  warmup_iter: -1
  pixel_opt:
    type: L1Loss
    loss_weight: 1.0
    reduction: mean
val:
  val_freq: !!float 2
  save_img: False
  use_chop: False
  metrics:
    psnr:
      type: calculate_psnr
      crop_border: 2
      test_y_channel: True
logger:
  print_freq: 1
  save_checkpoint_freq: !!float 2
  use_tb_logger: False
  wandb:
    project: ~
    resume_id: ~
dist_params:
  backend: nccl
  port: 29500
"""
"""An option file of our own, in the format of the published ones; those are run by test_published_files.py."""


def converted(text: str, tmp_path: Path) -> Conversion:
    path = tmp_path / "train.yml"
    path.write_text(text, encoding="utf-8")
    return convert(read_values(path), source="train.yml")


def settings(conversion: Conversion) -> TrainSettings:
    return parse_settings(TrainSettings, conversion.values, source="train.yml")


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
    assert (made.validation.border, made.validation.channel) == (2, "y")
    (name, places), *others = made.validation.sets.items()
    assert (name, places.lr, others) == ("Set5", Path("datasets/benchmark/Set5/LR_bicubic/X2"), [])
    assert (made.keep.every, made.keep.log_every, made.keep.tensorboard, made.keep.tracker) == (2, 1, False, "none")
    assert conversion.ignored == (
        "model_type", "dist_params", "path.strict_load_g", "datasets.train.name", "datasets.train.use_shuffle",
        "datasets.train.num_worker_per_gpu", "datasets.train.dataset_enlarge_ratio", "datasets.train.prefetch_mode",
        "val.use_chop", "HiT_SRF: no network reads expansion_factor; ignored",
    )  # fmt: skip


def published(data_root: Path, name: str) -> Conversion:
    (path,) = (data_root / "options").rglob(name)
    return convert(read_values(path), source=name)


def test_drct_is_fine_tuned_as_its_file_says(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "has_tensorboard", lambda: True)
    conversion = published(data_root, "train_DRCT_SRx4_finetune_from_ImageNet_pretrain.yml")
    made = settings(conversion)
    assert (made.variant, made.train.average, made.train.lr, made.keep.tensorboard) == ("drct", 0.999, 1e-5, True)
    assert made.warm_start is not None
    assert made.warm_start.name == "net_g_latest.pth"
    assert made.validation.sets["Set14"].hr == Path("datasets/Set14/GTmod4")
    assert list(made.validation.sets) == ["Set5", "Set14"]
    assert {"datasets.train.meta_info_file", "path.param_key_g"} <= set(conversion.ignored)


def test_crafts_sequel_is_trained_with_its_edge_loss_and_validated_in_rgb(data_root: Path) -> None:
    (path,) = (data_root / "options" / "Frequency-Inspired-Optimization-for-EfficientSR").rglob("*x4_scratch.yml")
    made = settings(convert(read_values(path), source="CRAFT"))
    assert (made.train.loss, made.train.seed) == ({"l1": 1.0, "edge": 1.0}, 33)
    assert (made.validation.border, made.validation.channel) == (4, "rgb")


def test_span_is_trained_on_paths_below_the_home_folder(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    made = settings(published(data_root, "train_SPAN_SRx2_scratch.yml"))
    assert made.data.hr == (Path("/home/me/DIV2K/DIV2K_train_HR"),)
    assert made.validation.sets["BSD100"].lr == Path("/home/me/Benchmark/LRBI/B100/x2")


def test_variables_in_paths_are_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA", "/data")
    text = HIT.replace("datasets/DIV2K/HR", "$DATA/HR").replace("datasets/benchmark", "${DATA}/benchmark")
    made = settings(converted(text, tmp_path))
    assert made.data.hr == (Path("/data/HR"),)
    assert made.validation.sets["Set5"].hr == Path("/data/benchmark/Set5/HR")


@pytest.mark.parametrize(
    ("num_gpu", "devices", "batch", "sentence"),
    [
        ("2", 1, 4, "4 samples per step: batch_size_per_gpu 2 times 2, by num_gpu 2; --set train.accumulate=2 takes "
         "them in passes of 2 samples, to save memory"),
        ("2", 2, 4, "4 samples per step: batch_size_per_gpu 2 times 2, by num_gpu 2"),
        ("0", 1, 2, "2 samples per step: batch_size_per_gpu 2 times 1, by num_gpu 0"),
        ("auto", 1, 2, "2 samples per step: batch_size_per_gpu 2 times 1, by num_gpu auto; the authors take 64, on any "
         "number of devices by --set train.batch=64; --set train.accumulate=32 takes them in passes of 2 samples, to "
         "save memory"),
        ("auto", 32, 64, "64 samples per step: batch_size_per_gpu 2 times 32, by num_gpu auto"),
    ],
)  # fmt: skip
def test_the_number_of_devices_decides_the_samples_of_a_step_and_nothing_else(
    num_gpu: str, devices: int, batch: int, sentence: str
) -> None:
    values = yaml.safe_load(HIT.replace("num_gpu: 2", f"num_gpu: {num_gpu}"))
    conversion = convert(values, source="HiT", devices=devices)
    assert (settings(conversion).train.batch, conversion.batch_note) == (batch, sentence)


@pytest.mark.parametrize("template", ["{}", "{}x2", "{}_LRBI_x2"])
def test_names_of_all_published_layouts_are_paired(template: str, tmp_path: Path) -> None:
    assert settings(converted(HIT.replace("'{}x2'", f"'{template}'"), tmp_path)).data.lr


@pytest.mark.parametrize(
    ("hflip", "rot", "augmentation"),
    [
        ("true", "false", "flip"),
        ("false", "true", "upside-down-and-transpose"),
        ("false", "false", "none"),
    ],
)
def test_each_flag_of_augmentation_counts_alone(hflip: str, rot: str, augmentation: str, tmp_path: Path) -> None:
    text = HIT.replace("use_hflip: true", f"use_hflip: {hflip}").replace("use_rot: true", f"use_rot: {rot}")
    assert settings(converted(text, tmp_path)).data.augmentation == augmentation


def test_without_tensorboard_its_files_are_left_out_and_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = HIT.replace("use_tb_logger: False", "use_tb_logger: True")
    monkeypatch.setattr(training, "has_tensorboard", lambda: True)
    assert settings(converted(text, tmp_path)).keep.tensorboard is True
    monkeypatch.setattr(training, "has_tensorboard", lambda: False)
    conversion = converted(text, tmp_path)
    assert settings(conversion).keep.tensorboard is False
    (note,) = conversion.notes
    assert note.startswith("use_tb_logger needs the package tensorboard, which is not installed")


def test_sets_of_one_name_are_told_apart_by_their_blocks(tmp_path: Path) -> None:
    block = HIT[HIT.index("  val:\n") : HIT.index("network_g:")]
    text = HIT.replace("\nnetwork_g:", f"\n{block.replace('  val:', '  val_2:')}network_g:")
    assert list(settings(converted(text, tmp_path)).validation.sets) == ["val", "val_2"]


def test_all_pictures_of_a_validation_are_kept_where_the_file_says_so(tmp_path: Path) -> None:
    assert settings(converted(HIT.replace("save_img: False", "save_img: True"), tmp_path)).validation.pictures is None


def test_without_a_block_on_validation_the_sets_are_told_to_be_unused(tmp_path: Path) -> None:
    text = HIT[: HIT.index("val:\n  val_freq")] + HIT[HIT.index("logger:") :]
    conversion = converted(text, tmp_path)
    assert settings(conversion).validation.all_sets() == {}
    assert "datasets.val" in conversion.ignored


def test_weights_that_our_training_wrote_stand_for_those_of_basicsr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = HIT.replace("pretrain_network_g: ~", "pretrain_network_g: experiments/first/models/net_g_latest.pth")
    theirs, ours = Path("experiments/first/models/net_g_latest.pth"), Path("experiments/first/weights.safetensors")
    assert settings(converted(text, tmp_path)).warm_start == theirs
    ours.parent.mkdir(parents=True)
    ours.touch()
    assert settings(converted(text, tmp_path)).warm_start == ours
    theirs.parent.mkdir()
    theirs.touch()
    assert settings(converted(text, tmp_path)).warm_start == theirs


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("PairedImageDataset", "RealESRGANDataset"),
        ("network_g:", "network_d: {type: UNetDiscriminatorSN}\nnetwork_g:"),
        ("  total_iter", "  gan_opt: {type: GANLoss}\n  total_iter"),
    ],
)
def test_a_gan_training_is_refused_as_one(old: str, new: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^train\.yml: this is a GAN training, or its first stage") as caught:
        converted(HIT.replace(old, new, 1), tmp_path)
    assert "unknown key" not in str(caught.value)


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


def test_a_project_reports_to_its_service(tmp_path: Path) -> None:
    assert settings(converted(HIT.replace("project: ~", "project: sr"), tmp_path)).keep.tracker == "wandb"


def test_a_settings_file_of_ours_is_no_option_file() -> None:
    assert not is_option_file({"name": "a", "variant": "hit-srf", "train": {}})


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("num_gpu", "num_gpus", r"unknown key 'num_gpus' \(did you mean 'num_gpu'\?\)"),
        ("num_gpu: 2", "num_gpu: many", "'num_gpu.*many'"),
        ("num_gpu: 2", "num_gpu: -1", "'num_gpu.*got -1"),
        ("  total_iter", "  total_iters", r"unknown key 'train.total_iters' \(did you mean 'train.total_iter'\?\)"),
        ("gt_size: 32", "gtsize: 32", r"datasets.train: .*unknown key 'gtsize' \(did you mean 'gt_size'\?\)"),
        ("gt_size: 32", "gt_size: 33", "gt_size must be a multiple of the scale 2, got 33"),
        ("  train:\n", "  training:\n", "'datasets.train' is missing"),
        ("type: disk", "type: memcached", "io_backend must be of type disk or lmdb"),
        ("'{}x2'", "'{}_small'", r"filename_tmpl must be one of '\{\}', '\{\}_LRBI_x2', '\{\}x2', got"),
        ("    dataroot_lq: datasets/DIV2K/LR_bicubic/X2\n", "", "a PairedImageDataset needs dataroot_lq"),
        ("PairedImageDataset", "FFHQDataset", "type must be PairedImageDataset or ImageNetPairedDataset"),
        ("upscale: 2", "upscale: 3", "scale is 2, but network_g has upscale 3"),
        ("resume_state: ~", "resume_state: 5.state", "'path.resume_state'"),
        ("type: MultiStepLR", "type: StepLR", "type must be MultiStepLR or CosineAnnealingRestartLR, got 'StepLR'"),
        ("milestones: [2", "milestone: [2", r"train.scheduler: unknown key 'milestone' \(did you mean 'milestones'"),
        ("type: L1Loss", "type: GANLoss", "train.pixel_opt: type must be one of L1Loss"),
        ("type: L1Loss", "type: CharbonnierLoss", "eps must be 1e-06, got None"),
        ("crop_border: 2", "border: 2", "val.metrics.psnr: .*unknown key 'border'"),
        ("calculate_psnr", "calculate_niqe", "val.metrics.psnr has type 'calculate_niqe'"),
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
