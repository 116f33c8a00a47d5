"""Published rules of counting, on a network small enough to count by hand, and on the published networks."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from finescale.analyze import CostReport
from finescale.analyze.rules import RULES, rules_named
from finescale.metrics.cost import count_operations
from finescale.networks import build

SHAPE = (1, 3, 8, 8)


class Toy(nn.Module):
    """Network with SwinIR's names: 64 pixels of 4 channels, at x2."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_first = nn.Conv2d(3, 4, 3, padding=1)  # 108 weights, 4 biases
        self.first_norm = nn.LayerNorm(4)  # 8 parameters
        self.relative_position_bias_table = nn.Parameter(torch.zeros(5))
        self.fc1, self.fc2 = nn.Linear(4, 6), nn.Linear(6, 4)  # 24 + 6 and 24 + 4
        self.norm = nn.LayerNorm(4)
        self.conv_after_body = nn.Conv2d(4, 4, 3, padding=1)  # 144 + 4
        self.upsample = nn.Sequential(nn.Conv2d(4, 12, 3, padding=1), nn.PixelShuffle(2))  # 432 + 12

    def forward(self, image: Tensor) -> Tensor:
        x = self.first_norm(self.conv_first(image).permute(0, 2, 3, 1))
        x = self.norm(self.fc2(self.fc1(x))).permute(0, 3, 1, 2)
        return self.upsample(self.conv_after_body(x))  # type: ignore[no-any-return]


class Rows(nn.Module):
    """Linear layer over pixels as rows of a matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 5)

    def forward(self, image: Tensor) -> Tensor:
        return self.linear(image.flatten(2)[0].T)  # type: ignore[no-any-return]


def count(rule: str, network: nn.Module, shape: tuple[int, ...] = SHAPE) -> int:
    return RULES[rule].count(network, shape, count_operations(network, shape))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("fvcore", 64 * 732 + 5 * 512),
        ("torchinfo", 64 * (112 + 148 + 444) + 30 + 28 + 8 + 8),
        ("torchinfo-pass", 8 * 64 * (4 + 4 + 6 + 4 + 4 + 4 + 12)),
        ("linear-2d", 64 * (108 + 144 + 432) + 2 * 64 * 64),
        ("swinir", 64 * (108 + 24 + 24 + 4 + 3 * 4 * 4 + 9 * 4 * 3)),
        ("swinir-size", 112 + 8 + 30 + 28 + 8 + 148 + 444),
    ],
)
def test_a_network_is_counted_as_by_hand(rule: str, expected: int) -> None:
    assert count(rule, Toy()) == expected


def test_every_rule_leaves_the_network_as_it_was() -> None:
    network = Toy()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    for rule in RULES:
        count(rule, network)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(layer._forward_hooks for layer in network.modules())


def test_the_rule_for_two_dimensions_is_right_for_two_dimensions() -> None:
    assert count("linear-2d", Rows()) == 64 * 3 * 5


def test_rules_are_found_by_name_and_all_stands_for_every_one() -> None:
    assert list(rules_named(["swinir", "fvcore"])) == ["fvcore", "swinir"]
    assert list(rules_named(["all"])) == list(RULES)
    with pytest.raises(ValueError, match=r"no counting rule is called 'fvcor' \(did you mean 'fvcore'\?\).*, or all"):
        rules_named(["fvcor"])


@pytest.mark.filterwarnings("ignore:torch.meshgrid")  # in the third party's code
@pytest.mark.parametrize(
    ("scale", "size", "published", "parameters"),
    [(2, (368, 520), 195.589, 877_752), (4, (184, 264), 49.650, 897_228)],
)
def test_what_swinir_prints_is_reproduced_on_a_network_of_a_third_party(
    spandrel: ModuleType, scale: int, size: tuple[int, int], published: float, parameters: int
) -> None:
    network = spandrel.architectures.SwinIR.SwinIR(
        img_size=16, window_size=8, upscale=scale, embed_dim=60, depths=[6] * 4, num_heads=[6] * 4, mlp_ratio=2,
        upsampler="pixelshuffledirect", resi_connection="1conv",
    ).eval()  # fmt: skip
    assert count("swinir-size", network) == parameters
    of_a_pixel = count("swinir", network, (1, 3, 16, 16)) / 256  # whole windows: in proportion to the pixels
    assert of_a_pixel * size[0] * size[1] / 1e9 == pytest.approx(published, abs=0.0005)


def test_a_file_that_a_third_party_reads_is_counted_by_every_rule(spandrel: ModuleType, tmp_path: Path) -> None:
    theirs = spandrel.architectures.ESRGAN.ESRGAN(in_nc=3, num_filters=8, num_blocks=1, scale=4)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    report = CostReport(scale=4, sizes=[(8, 8)], rules=["all"])
    report.add(str(tmp_path / "theirs.pth"))
    (row,) = report.rows
    assert list(row.by_rule) == list(RULES)
    assert row.by_rule["fvcore"] == row.by_rule["linear-2d"] == row.by_rule["swinir"] == row.operations.multiply_adds
    assert row.by_rule["swinir-size"] == row.parameters


@pytest.mark.slow  # networks of 14 and 28 million parameters
@pytest.mark.parametrize(("variant", "megabytes"), [("drct", 2173.70), ("drct-l", 4278.19)])
def test_the_forward_column_of_drct_is_reproduced(variant: str, megabytes: float) -> None:
    """The README prints 4278 for DRCT-L; its 1857 for DRCT belongs to another network."""
    with torch.device("meta"):
        network = build(variant, scale=4)
    assert count("torchinfo-pass", network, (1, 3, 64, 64)) / 1e6 == pytest.approx(megabytes, abs=0.005)
