"""The buffers that the published code keeps in its files come back from a network's settings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from finescale import weights
from finescale.networks import FAMILIES, Frame, from_options
from helpers import GOLDEN, STATISTICS, load_case, usual_scale

WITH_BUFFERS = [name for name, family in FAMILIES.items() if family.files.buffers]
CASES = [
    pytest.param(path, id=f"{name}/{path.stem}")
    for name in WITH_BUFFERS
    for path in sorted((GOLDEN / name).glob("*.npz"))
]


@pytest.mark.filterwarnings("ignore:.*no network reads")
@pytest.mark.parametrize("path", CASES)
def test_they_have_the_published_keys_and_shapes(path: Path) -> None:
    case = load_case(path)
    with torch.device("meta"):
        network = from_options(case.options)
    found = buffers_of(path.parent.name, network)
    published = {key: shape for key, shape in case.buffers.items() if not key.endswith(STATISTICS)}
    assert set(found) == set(published)
    for key, shape in published.items():
        # Masks are those of the image size that a training had, which changes no answer.
        free = 1 if "attn_mask" in key else 0
        assert tuple(found[key].shape[free:]) == shape[free:], key


def buffers_of(family: str, network: Frame) -> dict[str, torch.Tensor]:
    buffers = FAMILIES[family].files.buffers
    assert buffers is not None
    return dict(buffers(network))


@pytest.mark.parametrize(
    ("family", "variant"), [(family, variant) for family in WITH_BUFFERS for variant in FAMILIES[family].tiny]
)
def test_a_file_with_them_is_read_as_the_same_network(family: str, variant: str, tmp_path: Path) -> None:
    settings = FAMILIES[family].tiny[variant]
    network = FAMILIES[family].network(settings=settings, scale=usual_scale(settings))
    weights.save(network, tmp_path / "net.safetensors", source="a test", published_buffers=True)
    loaded = weights.load(tmp_path / "net.safetensors")
    assert loaded.settings == settings
    assert f"{len(buffers_of(family, network))} buffers that the network computes itself are ignored" in loaded.notes
    for key, tensor in network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[key], tensor)


def test_a_family_without_them_says_so(tmp_path: Path) -> None:
    family = FAMILIES["hit-sr"]
    network = family.network(settings=family.tiny["hit-srf"], scale=2)
    with pytest.raises(ValueError, match="published_buffers must be False for hit-sr; they are offered for craft"):
        weights.save(network, tmp_path / "net.safetensors", source="a test", published_buffers=True)
    assert not list(tmp_path.iterdir())
