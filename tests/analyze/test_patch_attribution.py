from __future__ import annotations

import base64
import re
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
import pyvips
import torch
from torch import Tensor

from finescale.analyze.attribution import Attribution, Patch
from finescale.analyze.patch_attribution import (
    PatchAttribution,
    attribute_patch,
    compare_attributions,
    draw_attributions,
    draw_patch_attribution,
    heat,
)
from finescale.figures import svg
from finescale.networks import FAMILIES, Frame
from finescale.weights import load_by_spandrel


@pytest.fixture(scope="module")
def network() -> Frame:
    torch.manual_seed(0)
    family = FAMILIES["hit-sr"]
    return family.network(settings=family.tiny["hit-sir"], scale=2).eval()


@pytest.fixture
def image() -> Tensor:
    torch.manual_seed(1)
    return torch.rand(3, 40, 50)


def test_the_region_around_the_patch_is_attributed(network: Frame, image: Tensor) -> None:
    found = attribute_patch(network, image, Patch(top=40, left=50, size=8), region=20, steps=1)
    assert found.image.shape == (3, 20, 20)
    assert found.corner == (12, 17)  # the patch's middle, 22 and 27, less 10
    assert found.patch_in_region == Patch(top=16, left=16, size=8)
    assert torch.equal(found.image, image[:, 12:32, 17:37])


def test_the_region_stays_within_the_image(network: Frame, image: Tensor) -> None:
    assert attribute_patch(network, image, Patch(top=0, left=0, size=8), region=20, steps=1).corner == (0, 0)
    assert attribute_patch(network, image, Patch(top=72, left=92, size=8), region=20, steps=1).corner == (20, 30)


def test_a_region_of_0_or_larger_than_the_image_is_the_whole_image(network: Frame, image: Tensor) -> None:
    for region in (0, 1000):
        found = attribute_patch(network, image, Patch(top=40, left=50, size=8), region=region, steps=1)
        assert found.image.shape == image.shape


def test_gray_pictures_enter_as_equal_channels(network: Frame, image: Tensor) -> None:
    found = attribute_patch(network, image[:1], Patch(top=40, left=50, size=8), region=20, steps=1)
    assert found.image.shape == (3, 20, 20)


@pytest.mark.parametrize(
    ("patch", "region", "sentence"),
    [
        (
            Patch(top=0, left=96, size=8),
            20,
            "a patch of 8 pixels at 96,0 does not lie in the result, which has 100 x 80",
        ),
        (Patch(top=0, left=0, size=0), 20, "a patch of 0 pixels at 0,0 does not lie in the result"),
        (Patch(top=0, left=0, size=8), 5, "region must be 0 or hold a patch of 8 pixels at x2, got 5"),
        (Patch(top=0, left=0, size=8), -1, "region must be 0 or hold a patch"),
    ],
)
def test_what_cannot_be_attributed_is_refused(
    network: Frame, image: Tensor, patch: Patch, region: int, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        attribute_patch(network, image, patch, region=region, steps=1)


def test_third_party_networks_get_regions_of_sizes_that_they_take(
    spandrel: ModuleType, tmp_path: Path, image: Tensor
) -> None:
    torch.manual_seed(0)
    theirs = spandrel.architectures.ESRGAN.ESRGAN(in_nc=12, num_filters=8, num_blocks=1, scale=4, shuffle_factor=2)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    network = load_by_spandrel(tmp_path / "theirs.pth").network
    assert (network.scale, network.period) == (2, 4)
    found = attribute_patch(network, image, Patch(top=40, left=50, size=8), region=21, steps=64)
    assert found.image.shape == (3, 20, 20)
    assert found.attribution.map.sum() > 0

    ours = FAMILIES["hit-sr"].network(settings=FAMILIES["hit-sr"].tiny["hit-sir"], scale=2).eval()
    both = compare_attributions(
        {"ours": ours, "theirs": network}, image, Patch(top=40, left=50, size=8), region=21, steps=1
    )
    assert [one.image.shape for one in both.values()] == [(3, 20, 20)] * 2  # else indices could not be compared
    assert torch.equal(both["ours"].image, both["theirs"].image)


def test_networks_are_compared_one_after_the_other(network: Frame, image: Tensor) -> None:
    steps: list[tuple[str, int, int]] = []
    found = compare_attributions(
        {"one": network, "two": network}, image, Patch(top=40, left=50, size=8), region=20, steps=2,
        on_step=lambda *step: steps.append(step),
    )  # fmt: skip
    assert steps == [("one", 1, 2), ("one", 2, 2), ("two", 1, 2), ("two", 2, 2)]
    alone = attribute_patch(network, image, Patch(top=40, left=50, size=8), region=20, steps=2)
    assert torch.equal(found["two"].attribution.values, alone.attribution.values)


def test_networks_of_different_scales_are_not_compared(network: Frame, image: Tensor) -> None:
    other = FAMILIES["hit-sr"].network(settings=FAMILIES["hit-sr"].tiny["hit-sir"], scale=4)
    with pytest.raises(ValueError, match="all networks must have one scale, got one x2, other x4"):
        compare_attributions({"one": network, "other": other}, image, Patch(top=0, left=0, size=8))


def test_an_attribution_is_reported(network: Frame, image: Tensor) -> None:
    report = attribute_patch(network, image, Patch(top=40, left=50, size=8), region=20, steps=2).as_json()
    assert report["patch"] == {"top": 40, "left": 50, "size": 8}
    assert report["region"] == {"corner": [12, 17], "size": [20, 20]}
    gained = report["detector"] - report["detector_blurred"]
    assert report["attributed"] == pytest.approx(gained, rel=2 * report["gap"] + 1e-6)


def one_pixel(*, level: float = 0.5) -> PatchAttribution:
    """Attribution of a patch to the one pixel (4, 5) of a gray input."""
    values = torch.zeros(3, 10, 12)
    values[0, 4, 5] = 1
    return PatchAttribution(
        scale=2,
        image=torch.full((3, 10, 12), 0.5),
        corner=(0, 0),
        sr=torch.full((3, 20, 24), level),
        patch=Patch(top=12, left=10, size=4),
        attribution=Attribution(values=values, sharp=1, blurred=0),
    )


def test_the_figure_shows_three_pictures_and_marks_the_patch_in_two() -> None:
    figure = draw_patch_attribution(one_pixel())
    tree = ElementTree.fromstring(figure)
    pictures = re.findall(r"data:image/png;base64,([^\"]+)", figure)
    sizes = [(png.width, png.height) for png in map(_decode, pictures)]
    assert sizes == [(12, 10), (12, 10), (20, 16)]  # around the patch: 8 on each side, cut off by the border
    marks = [element for element in tree if element.get("stroke") == "#e6194b"]
    enlarged = 32  # 384 / 12
    assert float(str(marks[0].get("x"))) == pytest.approx(24 + enlarged * 5)
    assert float(str(marks[0].get("width"))) == pytest.approx(enlarged * 2)
    assert len(marks) == 2


def test_networks_stand_side_by_side_with_their_indices() -> None:
    figure = draw_attributions({"dark": one_pixel(level=0.25), "bright": one_pixel(level=0.75)})
    tree = ElementTree.fromstring(figure)
    pictures = [_decode(png) for png in re.findall(r"data:image/png;base64,([^\"]+)", figure)]
    assert [(png.width, png.height) for png in pictures] == [(12, 10), (20, 16)] * 3
    assert [round(png.avg()) for png in pictures[1::2]] == [128, 64, 191]  # the input, then the networks' results
    places = [(float(str(one.get("x"))), float(str(one.get("y")))) for one in tree if one.tag.endswith("image")]
    assert places[0][1] == places[2][1] == places[4][1] < places[1][1] == places[3][1] == places[5][1]
    assert places[0][0] == places[1][0] < places[2][0] == places[3][0] < places[4][0]
    texts = [one.text for one in tree if one.tag.endswith("text")]
    assert texts == ["input", "dark", "diffusion index 0.83", "bright", "diffusion index 0.83"]
    assert len([one for one in tree if one.get("stroke") == "#e6194b"]) == 4  # in the input, and around the patch


def test_the_name_of_a_network_fits_over_its_column() -> None:
    figure = draw_attributions({"a" * 99 + "z": one_pixel()})
    (name,) = re.findall(r">(…a*z)<", figure)
    assert len(name) * svg.LETTER_WIDTH * 14 <= 232


def _decode(text: str) -> pyvips.Image:
    return pyvips.Image.new_from_buffer(base64.b64decode(text), "")


def test_heat_is_white_where_most_was_used_and_a_dim_picture_where_nothing_was() -> None:
    values = torch.tensor([[0.0, 1.0]])
    shown = heat(torch.full((3, 1, 2), 0.8), values)
    assert torch.allclose(shown[:, 0, 0], torch.full((3,), 0.36))
    assert torch.allclose(shown[:, 0, 1], torch.ones(3))


def test_heat_of_nothing_is_finite() -> None:
    assert heat(torch.rand(3, 2, 2), torch.zeros(2, 2)).isfinite().all()
