"""Tools built on spandrel open our networks, and give their answers or refuse."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import safetensors.torch
import torch

from finescale import weights
from finescale.networks import FAMILIES, Frame, variants
from helpers import seeded_input
from publishing import authors_file, tiny_network
from quantizing import quantize

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid")  # by third-party code, once in each process

COMFYUI = Path(__file__).parents[2] / "integrations" / "comfyui" / "finescale_networks.py"

PUBLISHED: dict[str, dict[str, Any]] = {
    "hit-sir": {"depths": (3,), "num_heads": (6,), "window_ratios": (0.5, 1, 2)},
    "hit-sng": {"depths": (3,), "num_heads": (6,), "window_ratios": (0.5, 1, 2)},
    "hit-srf": {"depths": (3,), "num_heads": (6,), "window_ratios": (0.5, 1, 2)},
    "span": {"depths": (1,), "num_heads": (6,)},
    "cit": {"depths": (3,), "num_heads": (4,)},
    "srformer-light": {"depths": (2,), "num_heads": (6,)},
    "swinir-ng": {"depths": (2,), "num_heads": (6,)},
    "ngswin": {"depths": (1, 1, 1, 1)},
}
"""Published variants of families that spandrel lacks, with the fields that make them small."""


@pytest.fixture
def installed(spandrel: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The package with our families, in registers that are as before afterwards."""
    from finescale.integrations.spandrel import install

    registry = spandrel.MAIN_REGISTRY
    before = {name: getattr(registry, name) for name in ("_architectures", "_ordered", "_by_id")}
    loader = spandrel.ModelLoader.load_state_dict_from_file
    added = install()
    assert added[:5] == [f"finescale-{name}" for name in ("hit-sr", "span", "cit", "srformer", "ngram")]
    assert install() == []
    yield spandrel
    spandrel.ModelLoader.load_state_dict_from_file = loader
    for name, value in before.items():
        setattr(registry, name, value)


def small(variant: str, **changes: Any) -> Frame:
    family = variants()[variant]
    fields = {**family.variants[variant].model_dump(), **PUBLISHED[variant], **changes}
    torch.manual_seed(0)
    return family.network(settings=type(family.variants[variant]).model_validate(fields), scale=4).eval()


@pytest.mark.parametrize("variant", PUBLISHED)
@torch.inference_mode()
def test_a_published_file_gives_our_answers_to_the_bit(variant: str, installed: ModuleType, tmp_path: Path) -> None:
    network = small(variant)
    model = installed.ModelLoader().load_from_file(authors_file(network, tmp_path / "theirs.pth"))
    assert model.architecture.id == f"finescale-{variants()[variant].name}"
    assert (model.scale, model.input_channels, model.purpose) == (4, 3, "SR")
    image = seeded_input((1, 3, 9, 21))
    assert torch.equal(model(image), network(image).clamp(0, 1))


def test_spandrels_own_families_stay_its_own(installed: ModuleType, tmp_path: Path) -> None:
    network = tiny_network("swinir", "swinir-light", scale=2)
    path = tmp_path / "file.safetensors"
    weights.save(network, path, source="a test", published_buffers=True)
    assert installed.ModelLoader().load_from_file(path).architecture.id == "SwinIR"


@torch.inference_mode()
def test_a_file_whose_settings_would_be_lost_is_refused_and_opened_by_its_header(
    installed: ModuleType, tmp_path: Path
) -> None:
    from finescale.integrations.spandrel import open_file

    network = small("hit-sir", base_window=(4, 4))
    path = tmp_path / "mine.safetensors"
    weights.save(network, path, source="a test")
    sentence = (
        r"mine.safetensors: its tensors do not show base_window = \(4, 4\), and spandrel does not read its header"
    )
    with pytest.raises(installed.UnsupportedModelError, match=sentence):
        installed.ModelLoader().load_from_file(path)
    image = seeded_input((1, 3, 9, 21))
    assert torch.equal(open_file(path)(image), network(image).clamp(0, 1))


def test_a_file_of_ours_at_published_settings_passes(installed: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "ours.safetensors"
    weights.save(small("hit-srf"), path, source="a test")
    assert installed.ModelLoader().load_from_file(path).architecture.name == "HiT-SR"


def test_a_quantized_file_is_refused(installed: ModuleType, tmp_path: Path) -> None:
    network = small("hit-sir")
    quantize(network, FAMILIES["hit-sr"], torch.rand(1, 3, 16, 16), bits=8)
    path = tmp_path / "int8.safetensors"
    weights.save(network, path, source="a test")
    with pytest.raises(installed.UnsupportedModelError, match=r"int8.safetensors: a network of 8-bit integers, which"):
        installed.ModelLoader().load_from_file(path)


def test_third_party_files_pass_unread(installed: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"some.weight": torch.zeros(2, dtype=torch.int8)}, path)
    with pytest.raises(installed.UnsupportedModelError) as caught:
        installed.ModelLoader().load_from_file(path)
    assert str(caught.value) == ""  # spandrel's own, which says nothing


def test_comfyuis_file_registers_the_families_and_opens_files(
    installed: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ours.safetensors"
    weights.save(small("hit-sir", base_window=(4, 4)), path, source="a test")
    folders = ModuleType("folder_paths")
    folders.get_filename_list = lambda kind: [f"{kind}/{path.name}"]  # type: ignore[attr-defined]
    folders.get_full_path = lambda kind, name: str(path)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "folder_paths", folders)
    (node,) = runpy.run_path(str(COMFYUI))["NODE_CLASS_MAPPINGS"].values()
    assert node.INPUT_TYPES() == {"required": {"model_name": (["upscale_models/ours.safetensors"],)}}
    (model,) = getattr(node(), node.FUNCTION)("ours.safetensors")
    assert isinstance(model, installed.ImageModelDescriptor)
    assert model.model.settings.base_window == (4, 4)
