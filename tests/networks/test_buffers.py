"""The buffers that the published code keeps in its files come back from a network's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from finescale import weights
from finescale.networks import FAMILIES, build, family_of, from_options
from helpers import GOLDEN, STATISTICS, load_case, usual_scale

CASES = [
    pytest.param(path, id=f"{name}/{path.stem}") for name in FAMILIES for path in sorted((GOLDEN / name).glob("*.npz"))
]


@pytest.mark.filterwarnings("ignore:.*no network reads")
@pytest.mark.parametrize("path", CASES)
def test_they_have_the_published_keys_and_shapes(path: Path) -> None:
    case = load_case(path)
    with torch.device("meta"):
        network = from_options(case.options)
    files = FAMILIES[path.parent.name].files
    # Masks are those of the image size that a training had, which changes no answer.
    stated = case.config.get("img_size", case.config.get("training_img_size")) if files.masks else None
    size = stated if isinstance(stated, int) else None  # the table of positions shows an oblong one
    published = {key: shape for key, shape in case.buffers.items() if not key.endswith(STATISTICS)}
    found = files.derived(network, image_size=size)
    assert {key: tuple(tensor.shape) for key, tensor in found.items()} == published


@pytest.mark.parametrize("variant", ["drct", "drct-l", "dat", "dat-s", "dat-2", "dat-light"])
def test_masks_are_those_of_the_published_files_by_default(variant: str) -> None:
    with torch.device("meta"):
        network = build(variant, scale=4)
        masks = {key: tensor for key, tensor in family_of(network).files.derived(network).items() if "mask" in key}
        (shape,) = {tuple(tensor.shape) for tensor in masks.values()}
    assert shape[0] * shape[1] == 64 * 64


@pytest.mark.parametrize(
    ("family", "changes", "size", "reason"),
    [
        ("hit-sr", {}, 64, "image_size must be left out for this family, whose files hold no masks, got 64"),
        ("drct", {}, 62, "image_size must be a multiple of 4 above it, by its windows, got 62"),
        ("drct", {}, 4, "image_size must be a multiple of 4 above it, by its windows, got 4"),
        ("drct", {"shifted": False}, 64, "image_size must be 4, by its windows, got 64"),
        ("drct", {"position_size": 16}, 64, "image_size must be 16, the side of its position table, got 64"),
        ("srformer", {"window_size": 6}, 6, "image_size must be a size above 6, by its windows, got 6"),
        ("dat", {"window_size": (2, 4)}, 66, "image_size must be a multiple of 4, by its windows, got 66"),
    ],
)
def test_an_image_size_that_no_published_network_has_is_refused(
    family: str, changes: dict[str, Any], size: int, reason: str
) -> None:
    known = FAMILIES[family]
    settings = next(iter(known.tiny.values())).model_copy(update=changes)
    with torch.device("meta"), pytest.raises(ValueError, match=f"^{reason}$"):
        known.files.derived(known.network(settings=settings, scale=2), image_size=size)


@pytest.mark.parametrize(
    ("family", "variant"), [(family, variant) for family in FAMILIES for variant in FAMILIES[family].tiny]
)
def test_a_file_with_them_is_read_as_the_same_network(family: str, variant: str, tmp_path: Path) -> None:
    settings = FAMILIES[family].tiny[variant]
    network = FAMILIES[family].network(settings=settings, scale=usual_scale(settings))
    weights.save(network, tmp_path / "net.safetensors", source="a test", published_buffers=True)
    loaded = weights.load(tmp_path / "net.safetensors")
    assert loaded.settings == settings
    count = len(FAMILIES[family].files.derived(network))
    note = f"{count} buffers that the network computes itself are ignored"
    assert loaded.notes == ((note,) if count else ())
    for key, tensor in network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[key], tensor)
