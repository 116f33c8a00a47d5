"""Published option files for testing: what is done, what is told to change nothing, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from finescale import networks
from finescale.basicsr.testing import OptionPlan, load_option_file
from finescale.errors import DataError, SettingsError
from finescale.evaluate import PAPERS
from small_sets import write_set

NETWORK = {
    "type": "HiT_SIR",
    "upscale": 2,
    "in_chans": 3,
    "img_size": 64,
    "base_win_size": [4, 4],
    "img_range": 1.0,
    "depths": [2],
    "embed_dim": 48,
    "num_heads": [2],
    "mlp_ratio": 2,
    "resi_connection": "1conv",
    "hier_win_ratios": [0.5, 2],
    "upsampler": "pixelshuffledirect",
}

TEXT = """
name: HiT_SIR_x2
model_type: HiTModel
scale: 2
num_gpu: 1
manual_seed: 10
datasets:
  test_1:
    name: Set5
    type: PairedImageDataset
    dataroot_gt: {root}/Set5/HR
    dataroot_lq: {root}/Set5/LR_bicubic/X2
    filename_tmpl: '{{}}x2'
    io_backend:
      type: disk
network_g: {network}
path:
  pretrain_network_g: {weights}
  strict_load_g: true
  param_key_g: params
val:
  save_img: false
  suffix: 'x2'
  use_chop: false
  metrics:
    psnr:
      type: calculate_psnr
      crop_border: 2
      test_y_channel: true
    ssim:
      type: calculate_ssim
      crop_border: 2
      test_y_channel: true
"""


@pytest.fixture
def text(tmp_path: Path) -> str:
    torch.manual_seed(0)
    network = networks.from_options(NETWORK)
    torch.save({"params": network.state_dict()}, tmp_path / "net.pth")
    return TEXT.format(root=write_set(tmp_path), network=NETWORK, weights=tmp_path / "net.pth")


def load(text: str, tmp_path: Path) -> OptionPlan:
    path = tmp_path / "test.yml"
    path.write_text(text)
    return load_option_file(path)


def test_an_option_file_is_run_as_it_is(text: str, tmp_path: Path) -> None:
    plan = load(text, tmp_path)
    assert (plan.name, plan.scale, plan.suffix, plan.keep_pictures) == ("HiT_SIR_x2", 2, "x2", False)
    assert plan.protocol == PAPERS
    assert plan.tiling.tile == 0
    assert [(case.set, case.name) for case in plan.cases] == [("Set5", "one"), ("Set5", "two")]
    assert plan.cases[0].lr == tmp_path / "Set5" / "LR_bicubic" / "X2" / "onex2.png"
    assert plan.ignored == ("model_type", "num_gpu", "manual_seed", "path.strict_load_g")
    stored = torch.load(tmp_path / "net.pth", weights_only=True)["params"]
    assert torch.equal(plan.network.state_dict()["conv_first.weight"], stored["conv_first.weight"])


def test_its_rules_are_followed(text: str, tmp_path: Path) -> None:
    asked = text.replace("use_chop: false", "use_chop: true").replace("crop_border: 2", "crop_border: 3")
    asked = asked.replace("test_y_channel: true", "test_y_channel: false").replace("suffix: 'x2'", "suffix: ~")
    plan = load(asked, tmp_path)
    assert plan.tiling.rule == "chop"
    assert (plan.protocol.border, plan.protocol.channel, plan.protocol.name) == (3, "rgb", "custom")
    assert plan.suffix == "HiT_SIR_x2"


def test_what_no_shape_shows_is_taken_from_the_file(text: str, tmp_path: Path) -> None:
    assert load(text.replace("'img_range': 1.0", "'img_range': 255.0"), tmp_path).network.image_range == 255


def test_keys_that_published_networks_carry_in_vain_are_told_and_not_warned_of(text: str, tmp_path: Path) -> None:
    plan = load(text.replace("'mlp_ratio': 2", "'mlp_ratio': 2, 'expansion_factor': 2"), tmp_path)
    assert plan.ignored[-1] == "HiT_SIR: no network reads expansion_factor; ignored"


def test_pictures_without_originals_are_taken_alone(text: str, tmp_path: Path) -> None:
    asked = text.replace("PairedImageDataset", "SingleImageDataset")
    asked = "\n".join(line for line in asked.splitlines() if "dataroot_gt" not in line)
    assert [(case.hr, case.name) for case in load(asked, tmp_path).cases] == [(None, "onex2"), (None, "twox2")]


def test_a_missing_small_picture_is_left_to_be_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "Set5" / "LR_bicubic" / "X2" / "onex2.png").unlink()
    assert load(text, tmp_path).cases[0].lr == tmp_path / "Set5" / "LR_bicubic" / "X2" / "onex2.png"


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("num_gpu", "num_gpus", r"unknown key 'num_gpus' \(did you mean 'num_gpu'\?\)"),
        ("dataroot_gt", "dataroot_g", r"datasets.test_1: unknown key 'dataroot_g' \(did you mean 'dataroot_gt'\?\)"),
        ("save_img", "save_image", r"unknown key 'val.save_image' \(did you mean 'val.save_img'\?\)"),
        ("test_y_channel", "test_y", r"val.metrics.psnr: unknown key 'test_y' \(did you mean 'test_y_channel'\?\)"),
        ("type: disk", "type: lmdb", "io_backend must be of type disk"),
        ("type: calculate_ssim", "type: calculate_niqe", "val.metrics.ssim has type 'calculate_niqe'"),
        ("scale: 2", "scale: 3", "scale is 3, but network_g has upscale 2"),
        ("param_key_g: params", "param_key_g: model", "param_key_g is 'model', but the weights of .* are 'params'"),
        ("'embed_dim': 48", "'embed_dim': 60", "network_g has embed_dim 60, which does not match the weights of "),
        ("manual_seed: 10", "tile: {tile_size: 64}", "'tile.tile_pad' is missing"),
        ("use_chop: false", "tile: {tile_size: 64, tile_pad: 8}", r"'val.tile' \(did you mean 'tile'"),
        ("PairedImageDataset", "LmdbDataset", "type must be PairedImageDataset or SingleImageDataset"),
    ],
)  # fmt: skip
def test_what_cannot_be_followed_is_refused(old: str, new: str, sentence: str, text: str, tmp_path: Path) -> None:
    assert old in text
    with pytest.raises(SettingsError, match=sentence):
        load(text.replace(old, new), tmp_path)


@pytest.mark.parametrize("suffix", ["~", "None", "''"])
def test_without_a_suffix_pictures_have_the_name_of_the_results(suffix: str, text: str, tmp_path: Path) -> None:
    assert load(text.replace("suffix: 'x2'", f"suffix: {suffix}"), tmp_path).suffix == "HiT_SIR_x2"


def test_originals_named_as_by_rcan_are_paired(text: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        hr, lr = tmp_path / "Set5" / "HR", tmp_path / "Set5" / "LR_bicubic" / "X2"
        (hr / f"{name}.png").rename(hr / f"{name}_HR_x2.png")
        (lr / f"{name}x2.png").rename(lr / f"{name}_LRBI_x2.png")
    plan = load(text.replace("'{}x2'", "'{}_LRBI_x2'"), tmp_path)
    assert [case.lr and case.lr.name for case in plan.cases] == ["one_LRBI_x2.png", "two_LRBI_x2.png"]


def test_variables_in_paths_are_expanded(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SETS", str(tmp_path))
    asked = text.replace(f"{tmp_path}/net.pth", "~/net.pth").replace(f"{tmp_path}/Set5", "$SETS/Set5")
    assert "$SETS" in asked
    assert load(asked, tmp_path).cases == load(text, tmp_path).cases


def test_published_tiles_are_followed(text: str, tmp_path: Path) -> None:
    tiling = load(text.replace("manual_seed: 10", "tile: {tile_size: 64, tile_pad: 8}"), tmp_path).tiling
    assert (tiling.rule, tiling.tile, tiling.overlap) == ("pad", 64, 8)
    assert load(text.replace("use_chop: false", "use_chop: true"), tmp_path).tiling.rule == "chop"


def test_rules_that_contradict_each_other_are_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"val\.metrics differ in crop_border or test_y_channel"):
        load(text.replace("crop_border: 2", "crop_border: 0", 1), tmp_path)
    asked = text.replace("manual_seed: 10", "tile: {tile_size: 64, tile_pad: 8}")
    with pytest.raises(SettingsError, match=r"val\.use_chop and tile are mutually exclusive"):
        load(asked.replace("use_chop: false", "use_chop: true"), tmp_path)
    with pytest.raises(DataError, match="is not a folder"):
        load(text.replace("/Set5/HR", "/Set6/HR"), tmp_path)
