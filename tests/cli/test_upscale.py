"""``finescale upscale`` through its entry point: what it makes, what it says, how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import finescale
from finescale import images, networks, weights
from finescale.cli.main import run
from finescale.upscale import Upscaler, batch, streaming
from heads import one_block
from hub_stand_in import HubStandIn
from publishing import facts, publish
from quantizing import quantize

ENTRY_POINT = Path(sys.executable).with_name("finescale")


def upscale(*arguments: object) -> int:
    return run(["upscale", *map(str, arguments)])


def report(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return json.loads(capsys.readouterr().out)["files"]


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_becomes_a_folder_of_the_same_shape(pictures: Path, tiny_weights: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in pictures.rglob("*") if path.is_file()}
    assert upscale(pictures, "-o", tmp_path / "out", "-n", tiny_weights) == 0
    assert files_below(tmp_path / "out") == {"one_x2.png", "below/two_x2.png"}
    assert images.read_image(tmp_path / "out" / "one_x2.png").size == (18, 24)
    assert {path: path.read_bytes() for path in before} == before


def test_results_stand_beside_their_inputs_by_default_and_are_not_upscaled_again(
    pictures: Path, tiny_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert upscale(pictures, "-n", tiny_weights) == 0
    assert files_below(pictures) == {"one.png", "one_x2.png", "below/two.jpg", "below/two_x2.png", "notes.txt"}
    capsys.readouterr()
    assert upscale(pictures, "-n", tiny_weights, "--json") == 0
    assert [file["status"] for file in report(capsys)] == ["kept", "kept"]
    assert len(files_below(pictures)) == 5


def test_no_recursive_stays_in_the_named_folder(pictures: Path, tiny_weights: Path, tmp_path: Path) -> None:
    assert upscale(pictures, "-o", tmp_path / "out", "-n", tiny_weights, "--no-recursive") == 0
    assert files_below(tmp_path / "out") == {"one_x2.png"}


def test_one_file_can_be_given_its_own_name(pictures: Path, tiny_weights: Path, tmp_path: Path) -> None:
    assert upscale("-i", pictures / "one.png", "-o", tmp_path / "large.webp", "-n", tiny_weights, "-s", 2, "-t", 0) == 0
    assert images.read_image(tmp_path / "large.webp").size == (18, 24)


@pytest.mark.parametrize(("head", "scale"), [("restoration", 1), ("pixelshuffle", 8)])
def test_the_scale_is_the_files_also_where_no_network_is_published(
    pictures: Path, tmp_path: Path, head: str, scale: int, capsys: pytest.CaptureFixture[str]
) -> None:
    weights.save(one_block(head, scale), tmp_path / "net.safetensors", source="a test")
    assert upscale(pictures, "-o", tmp_path / "out", "-n", tmp_path / "net.safetensors") == 0
    assert files_below(tmp_path / "out") == {f"one_x{scale}.png", f"below/two_x{scale}.png"}
    assert images.read_image(tmp_path / "out" / f"one_x{scale}.png").size == (9 * scale, 12 * scale)
    assert upscale(pictures, "-n", tmp_path / "net.safetensors", "-s", 4) == 1
    assert f"scale must be {scale} for {tmp_path / 'net.safetensors'}, got 4" in capsys.readouterr().err


def test_a_network_for_other_images_than_pictures_is_refused_in_one_sentence(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    family = networks.FAMILIES["dat"]
    settings = family.tiny["dat-light"].model_copy(update={"in_channels": 2})
    weights.save(family.network(settings=settings, scale=2), tmp_path / "net.safetensors", source="a test")
    assert upscale(pictures, "-o", tmp_path / "out", "-n", tmp_path / "net.safetensors") == 1
    assert "takes images of 2 channels, but pictures have 1 (gray) or 3 (RGB)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_network_of_others_is_told_on_both_outputs(
    spandrel: ModuleType, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "theirs.pth"
    torch.save(spandrel.architectures.ESRGAN.ESRGAN(num_filters=8, num_blocks=2, scale=8).state_dict(), path)
    assert upscale(pictures / "one.png", "-o", tmp_path / "out", "-n", path, "--json") == 0
    told = capsys.readouterr()
    note = f"{path}: read by spandrel as ESRGAN x8 (not one of finescale's networks)"
    assert f"note: {note}\n" in told.err
    assert json.loads(told.out)["notes"] == [note]
    assert images.read_image(tmp_path / "out" / "one_x8.png").size == (72, 96)
    assert upscale(pictures / "one.png", "-n", path, "-s", 4) == 1
    assert capsys.readouterr().err == f"finescale: scale must be 8 for {path}, got 4\n"


def test_what_a_weight_file_does_not_show_is_said_by_set(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    path = tmp_path / "net.pth"
    torch.save(
        networks.FAMILIES["craft"].network(settings=networks.FAMILIES["craft"].tiny["craft"], scale=2).state_dict(),
        path,
    )
    for name, flags in {"off": (), "on": ("--set", "shift_mask=true")}.items():
        assert upscale(pictures / "one.png", "-n", path, "-o", tmp_path / f"{name}.png", *flags) == 0
    assert (tmp_path / "on.png").read_bytes() != (tmp_path / "off.png").read_bytes()
    capsys.readouterr()
    assert upscale(pictures / "one.png", "-n", path, "--set", "shift_masc=true") == 1
    assert "unknown key 'shift_masc' (did you mean 'shift_mask'?)" in " ".join(capsys.readouterr().err.split())
    assert upscale(pictures / "one.png", "-n", path, "--set", "shift_mask") == 1
    assert "must have the form name=value" in " ".join(capsys.readouterr().err.split())


def test_a_published_tile_rule_is_taken_with_its_sizes(pictures: Path, tiny_weights: Path, tmp_path: Path) -> None:
    given = pictures / "one.png", "-n", tiny_weights
    for name, flags in {
        "pad": ("--tile-rule", "pad", "-t", 32, "--overlap", 16),
        "average": ("--tile-rule", "average", "-t", 16, "--overlap", 8),
        "chop": ("--tile-rule", "chop"),
        "short": ("--chop",),
    }.items():
        assert upscale(*given, "-o", tmp_path / f"{name}.png", *flags) == 0
        assert images.read_image(tmp_path / f"{name}.png").size == (18, 24)
    assert (tmp_path / "chop.png").read_bytes() == (tmp_path / "short.png").read_bytes()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--tile-rule", "pad"), "rule 'pad' needs tile and overlap in pixels"),
        (("--tile-rule", "pad", "-t", 30, "--overlap", 16), "tile must be a multiple of"),
        (("--tile-rule", "paste"), "'rule': input should be 'blend', 'chop', 'pad' or 'average', got 'paste'"),
        (("--tile-rule", "pad", "--chop"), "--chop and --tile-rule pad are mutually exclusive"),
    ],
)
def test_a_tile_rule_that_cannot_be_kept_is_refused(
    flags: tuple[object, ...], message: str, pictures: Path, tiny_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert upscale(pictures, "-n", tiny_weights, *flags) == 1
    assert message in " ".join(capsys.readouterr().err.split())


def test_existing_results_are_kept_unless_overwritten(pictures: Path, tiny_weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "one_x2.png"
    out.write_text("mine")
    assert upscale(pictures / "one.png", "-o", tmp_path, "-n", tiny_weights) == 0
    assert out.read_text() == "mine"
    assert upscale(pictures / "one.png", "-o", tmp_path, "-n", tiny_weights, "--overwrite") == 0
    assert images.read_image(out).size == (18, 24)


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_an_input_is_never_replaced(
    overwrite: list[str], pictures: Path, tiny_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (pictures / "one.png").read_bytes()
    assert upscale(pictures / "one.png", "-n", tiny_weights, "--suffix", "", *overwrite) == 2
    assert (pictures / "one.png").read_bytes() == before
    assert "would replace an input" in capsys.readouterr().err


def test_two_pictures_of_one_stem_do_not_share_a_result(pictures: Path, tiny_weights: Path, tmp_path: Path) -> None:
    images.write_image(pictures / "one.jpg", torch.zeros(3, 4, 4))
    assert upscale(pictures, "-o", tmp_path / "out", "-n", tiny_weights) == 0
    assert files_below(tmp_path / "out") == {"one_x2.png", "one.png_x2.png", "below/two_x2.png"}
    assert images.read_image(tmp_path / "out" / "one_x2.png").size == (8, 8)
    assert images.read_image(tmp_path / "out" / "one.png_x2.png").size == (18, 24)


def test_a_bad_file_is_named_and_the_rest_is_done(
    pictures: Path, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "bad.png").write_bytes((pictures / "one.png").read_bytes()[:60])
    missing = tmp_path / "nowhere.png"
    assert upscale(pictures, missing, "-o", tmp_path / "out", "-n", tiny_weights, "--json") == 2
    told = capsys.readouterr()
    rows = {Path(row["input"]).name: row for row in json.loads(told.out)["files"]}
    assert {name: row["status"] for name, row in rows.items()} == {
        "nowhere.png": "failed",
        "bad.png": "failed",
        "one.png": "done",
        "two.jpg": "done",
    }
    assert "truncated" in rows["bad.png"]["reason"]
    assert rows["bad.png"]["output"] is None
    assert rows["nowhere.png"]["reason"] == f"{missing}: no such file or folder"
    assert "2 done, 2 failed" in told.err
    assert "Traceback" not in told.err
    assert files_below(tmp_path / "out") == {"one_x2.png", "below/two_x2.png"}


def test_a_name_in_brackets_is_no_pattern_and_a_pattern_is_expanded(
    pictures: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    images.write_image(pictures / "[one].png", torch.zeros(3, 4, 4))
    assert upscale(pictures / "[one].png", "-o", tmp_path / "a", "-n", tiny_weights) == 0
    assert files_below(tmp_path / "a") == {"[one]_x2.png"}
    assert upscale(pictures / "**" / "*.jpg", "-o", tmp_path / "b", "-n", tiny_weights) == 0
    assert files_below(tmp_path / "b") == {"two_x2.png"}


@pytest.mark.parametrize(
    ("flags", "size"),
    [
        (["--outscale", "1.5"], (14, 18)),
        (["--width", "10"], (8, 10)),
        (["--height", "27"], (27, 36)),
        (["--width", "5", "--height", "7"], (7, 5)),
        (["--long-side", "40"], (30, 40)),
    ],
)
def test_the_result_can_be_given_a_size(
    flags: list[str], size: tuple[int, int], pictures: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    assert upscale(pictures / "one.png", "-o", tmp_path, "-n", tiny_weights, *flags) == 0
    assert images.read_image(tmp_path / "one_x2.png").size == size


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--outt", "x"], "--outt"),
        (["--format", "pgn"], "did you mean 'png'?"),
        (["--name", "{stm}_big"], "did you mean 'stem'?"),
        (["--name", "big"], "without {stem}"),
        (["--name", "{stem:999999999}"], "the format of {stem} may only hold numbers up to 255"),
        (["--name", "{stem}{scale:{scale}}"], "the format of {scale} may only hold numbers up to 255"),
        (["--name", "{stem:d}"], "not a template (Unknown format code 'd'"),
        (["--name", "{stem!x}"], "not a template"),
        (["--name", "{stem.__class__}"], "unknown field {stem.__class__}"),
        (["--name", "{stem[0]}{stem}"], "unknown field {stem[0]}"),
        (["--name", "../../{stem}"], "must not contain folders"),
        (["--name", "{0}{stem}" + 100_000 * "x"], "unknown field {0}"),
        (["--max-memory", 400 * "9"], "800M or 4G"),
        (["--outscale", "inf"], "outscale"),
        (["--suffix", "_a", "--name", "{stem}"], "are mutually exclusive"),
        (["--width", "5", "--long-side", "9"], "mutually exclusive"),
        (["-s", "3"], "scale"),
        (["-t", "-5"], "tile"),
        (["-t", "atuo"], "tile"),
        (["--quality", "101"], "100"),
        (["--max-memory", "lots"], "800M or 4G"),
        (["--precision", "float8"], "float8"),
        (["--device", "toaster"], "toaster"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_1(
    flags: list[str], sentence: str, pictures: Path, tiny_weights: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert upscale(pictures, "-o", tmp_path / "out", "-n", tiny_weights, *flags) == 1
    told = capsys.readouterr()
    assert sentence in told.err
    assert "Traceback" not in told.err
    assert told.out == ""
    assert not (tmp_path / "out").exists()


def test_an_unknown_network_or_verb_is_answered_with_what_is_known(
    pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert upscale(pictures, "-n", "defualt") == 1
    assert "did you mean 'default'?" in capsys.readouterr().err
    assert run(["upscal", str(pictures)]) == 1
    assert "upscale" in capsys.readouterr().err


def test_one_output_file_cannot_hold_several_results(
    pictures: Path, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert upscale(pictures, "-o", tmp_path / "all.png", "-n", tiny_weights) == 1
    assert "can hold one result, got 2 inputs" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_batch_ends_with_130_and_leaves_no_partial_file(
    number: signal.Signals, tiny_weights: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for index in range(40):
        images.write_image(folder / f"{index:02}.png", torch.rand(3, 160, 160))
    out = tmp_path / "out"
    process = subprocess.Popen(
        [ENTRY_POINT, "upscale", folder, "-o", out, "-n", tiny_weights, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 120
    while not (out / "01_x2.png").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    printed, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "interrupted" in said
    assert "Traceback" not in said
    done = {Path(row["output"]).name for row in json.loads(printed)["files"]}
    assert 2 <= len(done) < 40
    left = files_below(out)
    assert done <= left
    assert all(images.read_image(out / name).size == (320, 320) for name in left)


def test_the_bundled_network_makes_a_sharper_picture_than_the_bicubic(tmp_path: Path) -> None:
    from finescale.metrics import psnr
    from finescale.resize import downsample, resize

    original = images.read_image(Path(__file__).parents[2] / "examples" / "still_life.png").pixels
    small = downsample((original * 255).round().to(torch.uint8), scale=2).float() / 255
    images.write_image(tmp_path / "small.png", small)
    assert upscale(tmp_path / "small.png", "-s", 2) == 0
    sr = images.read_image(tmp_path / "small_x2.png").pixels
    original = original[:, : sr.shape[1], : sr.shape[2]]
    bicubic = resize(small, size=(sr.shape[1], sr.shape[2])).clamp(0, 1)
    assert psnr(sr, original, border=2) > psnr(bicubic, original, border=2) + 0.5


# ---- compressed pictures


@pytest.fixture
def web(tmp_path: Path) -> Path:
    """A folder of two JPEGs of low quality, one of high quality, and a picture that was never compressed."""
    folder = tmp_path / "web"
    folder.mkdir()
    picture = torch.rand(3, 6, 5, generator=torch.Generator().manual_seed(1))
    for name, quality in {"a.jpg": 40, "b.jpg": 60, "fine.jpg": 95, "plain.png": None}.items():
        images.write_image(folder / name, picture, quality=quality)
    return folder


def test_each_picture_gets_the_network_for_it(web: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert upscale(web, "-o", tmp_path / "auto", "--json") == 0
    told = capsys.readouterr()
    taken = {Path(file["input"]).name: file["network"] for file in json.loads(told.out)["files"]}
    assert taken == {
        "a.jpg": "default-photo", "b.jpg": "default-photo", "fine.jpg": "default", "plain.png": "default"
    }  # fmt: skip
    assert re.search(
        r"done: \S+a\.jpg .*, by default-photo, since it looks compressed \(JPEG quality about 40\)\n", told.err
    )
    assert re.search(r"done: \S+plain\.png .*, by default\n", told.err)
    assert "note: " not in told.err
    for network in set(taken.values()):
        assert upscale(web, "-o", tmp_path / network, "-n", network) == 0
    for name, network in taken.items():
        result = f"{Path(name).stem}_x4.png"
        assert (tmp_path / "auto" / result).read_bytes() == (tmp_path / network / result).read_bytes()
    assert (tmp_path / "default" / "a_x4.png").read_bytes() != (tmp_path / "default-photo" / "a_x4.png").read_bytes()


def test_a_noisy_picture_is_taken_by_the_network_for_photos_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = 0.04 * torch.randn(3, 64, 80, generator=torch.Generator().manual_seed(0))
    images.write_image(tmp_path / "noisy.png", (0.5 + noise).clamp(0, 1))
    assert upscale(tmp_path / "noisy.png", "-o", tmp_path / "out", "--json") == 0
    told = capsys.readouterr()
    facts = json.loads(told.out)["files"][0]
    assert (facts["network"], facts["compression"]) == ("default-photo", None)
    assert facts["noise"] == pytest.approx(10, abs=1)
    assert re.search(r"by default-photo, since it looks noisy \(about (9|10) levels\)\n", told.err)
    assert upscale(tmp_path / "noisy.png", "-n", "default", "-o", tmp_path / "other", "--json") == 0
    assert "looks noisy" in json.loads(capsys.readouterr().out)["notes"][0]


def test_one_compressed_picture_is_told_in_one_line_and_in_the_report(
    web: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert upscale(web / "a.jpg", "-n", "default", "-o", tmp_path / "out", "--json") == 0
    told = capsys.readouterr()
    note = f"{web / 'a.jpg'}: looks compressed (JPEG quality about 40): `-n default-photo` is made for such pictures"
    assert told.err.count(f"note: {note}\n") == told.err.count("note: ") == 1
    facts = json.loads(told.out)
    assert facts["notes"] == [note]
    assert facts["files"][0]["compression"] == "JPEG quality about 40"


def test_a_folder_of_compressed_pictures_is_told_in_one_line(
    web: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert upscale(web, "-n", "default", "-o", tmp_path / "out", "--json") == 0
    told = capsys.readouterr()
    note = "2 of 4 pictures look compressed (JPEG quality about 40 to 60): `-n default-photo` is made for such pictures"
    assert told.err.count(f"note: {note}\n") == told.err.count("note: ") == 1
    facts = json.loads(told.out)
    assert facts["notes"] == [note]
    assert [file["compression"] is None for file in facts["files"]] == [False, False, True, True]


@pytest.mark.parametrize("flags", [("-n", "default-photo"), ("-n", "tiny")])
def test_nothing_is_said_of_compression_where_no_better_network_is_there(
    flags: tuple[Any, ...], web: Path, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = tuple(tiny_weights if flag == "tiny" else flag for flag in flags)
    assert upscale(web / "a.jpg", "-o", tmp_path / "out", "--json", *flags) == 0
    told = capsys.readouterr()
    assert "note: " not in told.err
    assert json.loads(told.out)["files"][0]["compression"] is None


def test_the_network_for_photos_says_which_scales_it_has(web: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert upscale(web / "a.jpg", "-n", "default-photo", "-s", 8) == 1
    assert capsys.readouterr().err == "finescale: scale must be 2, 3 or 4 for default-photo, got 8\n"


# ---- published networks


@pytest.fixture
def someones(hub: HubStandIn, tiny_weights: Path) -> HubStandIn:
    """A hub where someone has pushed a tiny network."""
    hub.files["someone/net"] = {"model.safetensors": tiny_weights.read_bytes()}
    return hub


def test_a_network_of_the_hub_is_fetched_once_and_told(
    someones: HubStandIn, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [ENTRY_POINT, "upscale", pictures / "one.png", "-o", tmp_path / "out", "-n", "someone/net"]
    monkeypatch.setenv("HF_ENDPOINT", someones.address)
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0
    told, computing, done, summary = run.stderr.splitlines()
    assert re.fullmatch(r"computing in (float32|bf16) on (cpu|cuda) by engine torch, since .*", computing)
    place = tmp_path / "cache" / "hub" / "someone" / "net"
    assert re.fullmatch(
        rf"fetching model\.safetensors of {someones.address}/someone/net \(0\.\d MiB\) into {place}", told
    )
    assert done.startswith("done: ")
    assert summary == "1 done"
    assert images.read_image(tmp_path / "out" / "one_x2.png").size == (18, 24)
    asked = len(someones.requests)
    again = subprocess.run([*command, "--offline"], capture_output=True, text=True, timeout=120)
    assert (again.returncode, again.stderr.splitlines()[-1]) == (0, "1 kept")
    assert len(someones.requests) == asked


def test_offline_fetches_nothing(someones: HubStandIn, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert upscale(pictures, "-n", "someone/net", "--offline") == 1
    assert "finescale: someone/net: its weights are not in " in capsys.readouterr().err
    assert not someones.requests


def test_a_published_network_is_called_by_its_name(
    hub: HubStandIn, pictures: Path, tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, "hit-sr", [facts(variant="hit-sir", scale=2, hub="authors/hit-sir-2x")])
    hub.files["authors/hit-sir-2x"] = {"model.safetensors": tiny_weights.read_bytes()}
    assert upscale(pictures / "one.png", "-o", tmp_path / "out", "-n", "hit-sir", "--name", "{stem}_{network}") == 0
    assert files_below(tmp_path / "out") == {"one_hit-sir.png"}


@pytest.mark.parametrize(
    ("engine", "told"),
    [
        ("torch", r"float32 what integers of 8 bits give \('--engine openvino' multiplies integers\)"),
        (
            "openvino",
            r"(integers of 8 bits, all else in (float32|bf16),|"
            r"float32 what integers of 8 bits give \(sums of bytes saturate on this CPU\))",
        ),
    ],
)
def test_it_is_told_what_a_quantized_network_computes_in(
    engine: str, told: str, pictures: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino")
    family = networks.FAMILIES["drct"]
    network = family.network(settings=family.tiny["drct"], scale=2).eval()
    quantize(network, family, torch.rand(1, 3, 16, 16), bits=8)
    finescale.save(network, tmp_path / "n.safetensors", source="a test")
    picture, named = pictures / "one.png", ("-n", tmp_path / "n.safetensors")
    assert upscale(picture, "-o", tmp_path / "out", *named, "--device", "cpu", "--engine", engine) == 0
    assert re.search(rf"^computing in {told} on cpu by engine {engine}$", capsys.readouterr().err, re.MULTILINE)


# ---- equal names


@pytest.mark.parametrize("place", ["named", "pattern", "folder"])
def test_pictures_of_one_name_have_a_result_each_and_keep_it(
    place: str, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, folder in enumerate("abcd"):
        (tmp_path / "same" / folder).mkdir(parents=True)
        images.write_image(tmp_path / "same" / folder / "cat.png", torch.full((3, 4, 5), number / 8))
    folders = [tmp_path / "same" / folder for folder in "abcd"]
    inputs = {
        "named": [folder / "cat.png" for folder in folders],
        "pattern": [tmp_path / "same" / "**" / "c*.png"],
        "folder": folders,
    }[place]
    command = [*inputs, "-o", tmp_path / "out", "-n", tiny_weights, "--json"]
    assert upscale(*command) == 0
    first = json.loads(capsys.readouterr().out)["files"]
    assert [row["status"] for row in first] == ["done"] * 4
    assert len({row["output"] for row in first}) == len(files_below(tmp_path / "out")) == 4
    assert upscale(*command) == 0
    again = json.loads(capsys.readouterr().out)["files"]
    assert [row["status"] for row in again] == ["kept"] * 4
    assert [(row["input"], row["output"]) for row in again] == [(row["input"], row["output"]) for row in first]


def test_the_reported_pictures_of_one_name_have_four_results(
    data_root: Path, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*sorted((data_root / "reports").rglob("same/*/cat.png")), "-o", tmp_path / "out", "-n", tiny_weights]
    assert len(command) == 8
    assert upscale(*command) == 0
    assert len(files_below(tmp_path / "out")) == 4
    assert upscale(*command) == 0
    assert "4 kept" in capsys.readouterr().err


# ---- what stands in the way


def test_ctrl_c_during_the_first_picture_counts_it(
    pictures: Path,
    tiny_weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from finescale.upscale import Upscaler

    original = Upscaler.__call__

    def interrupted(self: Upscaler, *args: Any, **kwargs: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Upscaler, "__call__", interrupted)
    assert upscale(pictures, "-o", tmp_path / "out", "-n", tiny_weights, "--json") == 130
    told = capsys.readouterr()
    assert told.err.endswith("nothing done, 1 interrupted, 1 not started\nfinescale: interrupted\n")
    assert json.loads(told.out)["files"] == []
    assert not (tmp_path / "out").exists()


def test_what_stands_in_the_place_of_a_result_is_reported(
    pictures: Path,
    tiny_weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    command = [pictures / "one.png", "-n", tiny_weights, "-o"]

    def reason(*options: object) -> str:
        assert upscale(*command, *options) == 2
        told = capsys.readouterr().err
        assert "Traceback" not in told
        return next(line for line in told.splitlines() if line.startswith("failed: ")).removeprefix("failed: ")

    (out / "one_x2.png").symlink_to("nowhere")
    place = f"{out / 'one_x2.png'}: is"
    assert reason(out) == f"{place} a link to nothing, in the place of the result; rename or delete it"
    (out / "one_x2.png").unlink()
    (out / "one_x2.png").mkdir()
    assert reason(out, "--overwrite") == f"{place} a folder, in the place of the result; rename or delete it"
    os.mkfifo(out / "pipe.png")
    assert "pipe.png: is a named pipe, in the place" in reason(out / "pipe.png")
    assert "cannot be written (File name too long)" in reason(out, "--suffix", 300 * "x")
    (tmp_path / "file").touch()
    assert reason(tmp_path / "file" / "deep").endswith("cannot be written (Not a directory)")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert reason(tmp_path / "new" / "deep").endswith(f"{tmp_path} cannot be written to")
    assert not (tmp_path / "new").exists()


def test_a_result_of_other_settings_or_of_an_older_input_is_told_apart(
    pictures: Path, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "one_x2.png"
    command = [pictures / "one.png", "-n", tiny_weights, "-o", tmp_path, "--json"]

    def reason(*options: object) -> str:
        assert upscale(*command, *options) == 0
        (row,) = report(capsys)
        assert row["status"] == "kept"
        return str(row["reason"])

    assert upscale(*command) == 0
    capsys.readouterr()
    assert reason() == "the result exists already; --overwrite redoes it"
    other = (
        "the result exists already, but has 24 x 18 pixels instead of 36 x 27 pixels, as by another network or other"
    )
    assert reason("--outscale", 3).startswith(other.replace(" pixels instead", " instead"))
    os.utime(pictures / "one.png", (time.time() + 100, time.time() + 100))
    assert reason() == "the result exists already, but is older than its input; --overwrite redoes it"
    out.write_text("mine")
    assert reason().endswith("but is older than its input and cannot be read as a picture; --overwrite redoes it")


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (">/dev/full", "No space left on device"),
        (">&-", "Bad file descriptor"),
        ("| true", "Broken pipe"),
    ],
)
def test_a_report_that_cannot_be_printed_is_one_sentence(
    output: str, reason: str, pictures: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    if output == ">/dev/full" and not Path("/dev/full").exists():
        pytest.skip("only Linux has a device that is always full")
    command = f"'{ENTRY_POINT}' upscale '{pictures}' -o '{tmp_path}/out' -n '{tiny_weights}' --json"
    script = f"{{ {command}; echo $? >&2; }} {output}"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=120)
    *_, sentence, code = done.stderr.splitlines()
    assert sentence == f"finescale: standard output cannot be written ({reason})"
    assert code == "1"
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    assert files_below(tmp_path / "out") == {"one_x2.png", "below/two_x2.png"}


@pytest.mark.parametrize("errors", ["2>/dev/full", "2>&-"])
def test_messages_that_nobody_reads_do_not_end_a_batch(
    errors: str, pictures: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    command = f"'{ENTRY_POINT}' upscale '{pictures}' -o '{tmp_path}/out' -n '{tiny_weights}' --json {errors}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    assert [row["status"] for row in json.loads(done.stdout)["files"]] == ["done", "done"]


# ---- on disk


def test_a_picture_can_be_upscaled_on_disk_and_goes_on_where_it_was_stopped(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images.write_image(tmp_path / "in.png", torch.rand(3, 100, 40))
    flags = tmp_path / "in.png", "-n", tiny_weights, "-t", 32
    assert upscale(*flags, "-o", tmp_path / "memory.png", "--no-stream") == 0
    original, num_tiles = Upscaler.upscale_tile, 0

    def interrupted(self: Upscaler, lr: torch.Tensor) -> tuple[torch.Tensor, str]:
        nonlocal num_tiles
        num_tiles += 1
        if num_tiles == 6:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, lr)

    with monkeypatch.context() as patched:
        patched.setattr(Upscaler, "upscale_tile", interrupted)
        assert upscale(*flags, "-o", tmp_path / "disk.png", "--stream") == 130
    told = capsys.readouterr().err
    assert "stopped; finished rows are kept in .finescale-bands-" in told
    assert "1 interrupted" in told
    assert upscale(*flags, "-o", tmp_path / "disk.png", "--stream") == 0
    assert re.search(r"\d+ of its 200 rows were computed by an earlier run", capsys.readouterr().err)
    assert (tmp_path / "disk.png").read_bytes() == (tmp_path / "memory.png").read_bytes()
    assert files_below(tmp_path) == {"in.png", "memory.png", "disk.png"}


def test_a_large_picture_is_upscaled_on_disk_without_being_asked(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images.write_image(tmp_path / "in.png", torch.rand(3, 20, 20))
    monkeypatch.setattr(streaming, "MAX_WHOLE_PIXELS", 1599)
    monkeypatch.setattr(batch, "read_image", lambda *_, **__: pytest.fail("the picture is read into memory"))
    assert upscale(tmp_path / "in.png", "-n", tiny_weights) == 0
    assert images.read_size(tmp_path / "in_x2.png") == (40, 40)
    assert upscale(tmp_path / "in.png", "-n", tiny_weights, "--max-pixels", 399, "--overwrite") == 2
    assert "20 x 20 pixels (0.0 megapixels) exceed the limit of 0.000399 megapixels" in capsys.readouterr().err


def test_a_result_in_a_format_without_rows_is_refused_before_the_picture_is_read(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images.write_image(tmp_path / "in.png", torch.rand(3, 20, 20))
    for module in (batch, streaming):
        monkeypatch.setattr(module, "free_host_memory", lambda: 20 * 1600 - 1)
    monkeypatch.setattr(batch, "read_image", lambda *_, **__: pytest.fail("the picture is read"))
    assert upscale(tmp_path / "in.png", "-n", tiny_weights, "--format", "bmp") == 2
    assert "a result of 40 x 40 pixels takes 0.0 GiB of memory as bmp" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ("--format", "png", "--pyramid"),
            "only TIFF files are pyramids, got png; choose the format tif, or dzi alone",
        ),
        (("--format", "dzi", "--width", "30"), "dzi is made on disk, which no-stream and a final size rule out"),
        (("--pyramid", "--format", "tif", "--no-stream"), "a pyramid is made on disk, which no-stream"),
        (("--stream", "--format", "avif"), "avif is not written on disk row by row; choose png, jpg, webp, tif, jpeg"),
    ],
)
def test_what_cannot_be_made_on_disk_is_refused(
    pictures: Path, flags: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert upscale(pictures, *flags) == 1
    assert message in " ".join(capsys.readouterr().err.split())


def test_tiles_for_viewers_are_neither_inputs_nor_made_of_tiny_pictures(
    pictures: Path, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images.write_image(pictures / "tiny.png", torch.rand(3, 5, 9))
    assert upscale(pictures, "-n", tiny_weights, "--format", "dzi") == 2
    message = (
        f"{pictures / 'tiny.png'}: 9 x 5 pixels are too few, or no whole windows of the network, for tiles in several "
        "sizes; choose png"
    )
    assert message in capsys.readouterr().err
    assert upscale(pictures, "-n", tiny_weights, "--format", "dzi", "--json") == 2
    statuses = {Path(file["input"]).name: file["status"] for file in report(capsys)}
    assert statuses == {"one.png": "kept", "two.jpg": "kept", "tiny.png": "failed"}
    assert {"one_x2.dzi", "one_x2_files/5/0_0.jpg"} <= files_below(pictures)
