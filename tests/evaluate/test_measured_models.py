"""What is measured: the bicubic's published target numbers, and how networks are asked."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

import numpy as np
import pytest
import torch

from finescale import Tiling, Upscaler, networks, save
from finescale.evaluate import PAPERS, benchmark_cases, bicubic, labels_of, network_model, run
from finescale.evaluate.models import describe_tiles
from finescale.evaluate.run import Score
from finescale.networks import FAMILIES
from helpers import GOLDEN, load_case, seeded_state

# PSNR and SSIM on luma of the bicubic, at x2, x3 and x4.
BASELINE = {
    "Set5 baby": ((37.0875, 0.9526), (33.9262, 0.9048), (31.7861, 0.8577)),
    "Set5 bird": ((36.8294, 0.9726), (32.5866, 0.9264), (30.1843, 0.8738)),
    "Set5 butterfly": ((27.4374, 0.9159), (24.0386, 0.8222), (22.0995, 0.7375)),
    "Set5 head": ((34.8826, 0.8630), (32.9037, 0.8010), (31.6151, 0.7547)),
    "Set5 woman": ((32.1529, 0.9480), (28.5663, 0.8903), (26.4677, 0.8327)),
    "Set14 baboon": ((24.8609, 0.6981), (23.2103, 0.5445), (22.4380, 0.4528)),
    "Set14 barbara": ((28.0022, 0.8419), (26.2516, 0.7539), (25.1484, 0.6871)),
    "Set14 bridge": ((27.8930, 0.8039), (25.7240, 0.6680), (24.4671, 0.5667)),
    "Set14 coastguard": ((29.1240, 0.7894), (26.5469, 0.6149), (25.4714, 0.5223)),
    "Set14 comic": ((26.0185, 0.8497), (23.1151, 0.6993), (21.6909, 0.5837)),
    "Set14 face": ((34.8547, 0.8629), (32.8439, 0.7993), (31.5786, 0.7529)),
    "Set14 flowers": ((30.3676, 0.8991), (27.2310, 0.8020), (25.5224, 0.7221)),
    "Set14 foreman": ((34.1249, 0.9520), (31.1453, 0.9063), (29.3698, 0.8667)),
    "Set14 lenna": ((34.7123, 0.9116), (31.6866, 0.8586), (29.8394, 0.8143)),
    "Set14 man": ((29.2475, 0.8460), (27.0084, 0.7501), (25.6974, 0.6764)),
    "Set14 monarch": ((32.9487, 0.9608), (29.4318, 0.9206), (27.4600, 0.8816)),
    "Set14 pepper": ((34.9694, 0.9082), (32.3837, 0.8711), (30.5921, 0.8379)),
    "Set14 ppt3": ((26.8082, 0.9466), (23.6463, 0.8791), (21.9187, 0.8192)),
    "Set14 zebra": ((30.6522, 0.9093), (26.6290, 0.7957), (24.0638, 0.6850)),
}
SET_BASELINE = {
    ("Set5", 2): (33.6780, 0.9304),
    ("Set5", 3): (30.4043, 0.8690),
    ("Set5", 4): (28.4305, 0.8113),
    ("Set14", 2): (30.3274, 0.8700),
    ("Set14", 3): (27.6324, 0.7759),
    ("Set14", 4): (26.0899, 0.7049),
}


@pytest.mark.parametrize(("name", "scale"), SET_BASELINE)
def test_the_bicubic_has_the_target_numbers_on_every_picture(data_root: Path, name: str, scale: int) -> None:
    cases = benchmark_cases(data_root / "benchmark", [name], scale=scale)
    scores = [score for score in run([bicubic(scale=scale)], cases, scale=scale) if isinstance(score, Score)]
    found = {f"{score.set} {score.image}": (score.psnr, score.ssim) for score in scores}
    wanted = {image: values[scale - 2] for image, values in BASELINE.items() if image.startswith(f"{name} ")}
    assert found.keys() == wanted.keys()
    for image, values in wanted.items():
        assert found[image] == pytest.approx(values, abs=1e-4), image
    psnr, ssim = SET_BASELINE[name, scale]
    assert mean(score.psnr or 0 for score in scores) == pytest.approx(psnr, abs=1e-4)
    assert mean(score.ssim or 0 for score in scores) == pytest.approx(ssim, abs=1e-4)


def tiny(family: str, *, scale: int = 2) -> networks.Frame:
    torch.manual_seed(0)
    known = FAMILIES[family]
    return known.network(settings=next(iter(known.tiny.values())), scale=scale).eval()


@pytest.mark.parametrize("size", [(16, 24), (13, 16), (9, 21)])
def test_craft_is_tested_on_images_that_always_grow_by_their_mirror(size: tuple[int, int]) -> None:
    network = tiny("craft")
    lr = torch.rand(3, *size)
    growth = [(side // 8 + 1) * 8 - side for side in size]  # windows of the tiny network: 8 pixels
    grown = np.pad(lr.numpy(), ((0, 0), (0, growth[0]), (0, growth[1])), mode="symmetric")
    with torch.inference_mode():
        wanted = network(torch.from_numpy(grown)[None])[0, :, : 2 * size[0], : 2 * size[1]].clamp(0, 1)
        alone = network(lr[None])[0].clamp(0, 1)
    upscaler = Upscaler(network, tiling=Tiling(tile=0))
    model = network_model(upscaler, "craft")
    # 1e-5: the order of float32 sums depends on the CPU and on the layout of the image. Another padding changes 1e-4.
    torch.testing.assert_close(model.upscale(lr, None), wanted, rtol=0, atol=1e-5)
    assert model.conditions["padding"] == "mirror, to the next multiple of 8"
    plain = network_model(upscaler, "craft", follow_published_padding=False)
    torch.testing.assert_close(plain.upscale(lr, None), alone, rtol=0, atol=1e-5)
    assert plain.conditions["padding"] == "network"
    is_multiple = any(side % 8 == 0 for side in size)
    assert ((wanted - alone).abs().max() > 1e-4) == is_multiple


@pytest.mark.parametrize(
    ("family", "variant", "multiple"),
    [("craft", "craft", 16), ("swinir", "swinir", 8), ("swinir", "swinir-gray-car", 7)],
)
def test_images_for_released_networks_grow_to_multiples_of_their_windows(
    family: str, variant: str, multiple: int
) -> None:
    known = FAMILIES[family]
    assert known.publication.test_padding(known.variants[variant]) == multiple


@pytest.mark.parametrize("case", sorted((GOLDEN / "ngram" / "harness").glob("*.npz")), ids=lambda path: path.stem)
def test_ngram_networks_are_tested_on_images_that_grow_by_their_mirror_to_whole_windows(case: Path) -> None:
    published = load_case(case)
    network = networks.from_options(published.options).eval()
    network.load_state_dict(seeded_state(published.shapes))
    upscaler = Upscaler(network, tiling=Tiling(tile=0))
    model = network_model(upscaler, "it")
    torch.testing.assert_close(
        model.upscale(published.input[0], None), published.output[0].clamp(0, 1), rtol=0, atol=1e-4
    )
    assert model.conditions["padding"] == "mirror, to whole windows"
    alone = network_model(upscaler, "it", follow_published_padding=False)
    with torch.inference_mode():
        wanted = network(published.input)[0].clamp(0, 1)
    torch.testing.assert_close(alone.upscale(published.input[0], None), wanted, rtol=0, atol=1e-5)
    assert (wanted - published.output[0].clamp(0, 1)).abs().max() > 0.05
    assert alone.conditions["padding"] == "network"


def test_the_published_ngswin_gives_its_published_table(data_root: Path) -> None:
    weights = data_root / "weights" / "NGswin_x2.pth"
    upscaler = Upscaler.from_pretrained(weights, tiling=Tiling(tile=0))
    model = network_model(upscaler, "ngswin", weights=weights)
    cases = benchmark_cases(data_root / "benchmark", ["Set5"], scale=2)
    scores = [score for score in run([model], cases, scale=2) if isinstance(score, Score)]
    assert {score.image: score.psnr for score in scores} == pytest.approx(
        {"baby": 38.9466, "bird": 43.1016, "butterfly": 35.5014, "head": 36.0800, "woman": 36.6018}, abs=2e-4
    )
    assert mean(score.psnr or 0 for score in scores) == pytest.approx(38.0463, abs=2e-4)
    assert mean(score.ssim or 0 for score in scores) == pytest.approx(0.96096, abs=2e-5)
    assert model.published["Set5"] == (38.05, 0.9610)


@pytest.mark.parametrize(
    "family",
    [
        name
        for name, family in FAMILIES.items()
        if not family.publication.test_padding(next(iter(family.tiny.values()))) and name != "ngram"
    ],
)
def test_other_networks_are_tested_on_whole_images_as_they_are(family: str) -> None:
    network = tiny(family)
    lr = torch.rand(3, 13, 16)
    with torch.inference_mode():
        wanted = network(lr[None])[0].clamp(0, 1)
    upscaler = Upscaler(network, tiling=Tiling(tile=0))
    assert torch.equal(network_model(upscaler, "it").upscale(lr, None), wanted)


def test_published_values_are_found_by_name_or_by_the_name_of_the_authors_file(tmp_path: Path) -> None:
    upscaler = Upscaler(tiny("craft", scale=4), tiling=Tiling(tile=0))
    scores = networks.published()["craft", 4].scores
    assert network_model(upscaler, "x", published_as="craft").published == scores
    for name, values in (
        ("CRAFT_MODEL_X4.pth", scores),
        ("CRAFT_MODEL_x4.pth", scores),
        ("craft_model_x4.safetensors", scores),
        ("CRAFT_MODEL_X2.pth", {}),
        ("craft.pth", {}),
    ):
        path = tmp_path / name
        path.write_bytes(b"")
        assert network_model(upscaler, "x", weights=path).published == values
    assert network_model(upscaler, "x").published == {}


def test_a_file_is_known_again_by_its_content(tmp_path: Path) -> None:
    network = tiny("hit-sr")
    upscaler = Upscaler(network, tiling=Tiling(tile=0))
    for name in ("a", "b"):
        save(network, tmp_path / f"{name}.safetensors", source="a test")
    one, other = (network_model(upscaler, "x", weights=tmp_path / f"{name}.safetensors") for name in ("a", "b"))
    assert one.conditions == other.conditions
    assert len(one.conditions["weights_sha256"]) == 64


def test_tiles_are_told_in_words() -> None:
    assert describe_tiles(Tiling(tile=0)) == "whole"
    assert describe_tiles(Tiling()) == "auto"
    assert describe_tiles(Tiling(rule="chop")) == "chop"
    assert describe_tiles(Tiling(tile=128)) == "blend 128, overlap 32"
    assert describe_tiles(Tiling(max_memory=1000)) == "blend, at most 1000 bytes"


def test_models_get_names_that_differ() -> None:
    assert labels_of(["hit-srf", "runs/a/net.pth", "runs/b/net.pth"]) == ["hit-srf", "a_net", "b_net"]
    assert labels_of(["v1.5.pth"]) == ["v1.5"]
    with pytest.raises(ValueError, match="a second model would be called 'bicubic' in the report"):
        labels_of(["mine/bicubic.pth"])
    with pytest.raises(ValueError, match="a second model would be called 'a_net'"):
        labels_of(["x/a/net.pth", "y/a/net.pth"])


def test_the_papers_protocol_is_the_default() -> None:
    assert PAPERS.padding == "published"
