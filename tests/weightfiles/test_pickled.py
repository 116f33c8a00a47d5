"""Whole pickled networks are read without any class of theirs, and nothing else that they hold is."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import finescale
from finescale.errors import UnsafeWeightsError, WeightsError
from finescale.networks import FAMILIES
from finescale.quantize import switched_off
from finescale.quantize.modules import bounds_of
from finescale.weightfiles.pickled import holds_module, read_module
from golden_ptq import Case, published_file
from helpers import seeded_state

CLASS = "basicsr.archs.craft_q_arch.Q_CRAFT"


@pytest.mark.parametrize("stage", ["adc", "br"])
def test_a_published_quantized_network_loads_with_its_weights_bounds_and_bits(stage: str, tmp_path: Path) -> None:
    case = Case("published_4bit")
    loaded = finescale.load(published_file(tmp_path, stage), settings={"window_size": 4})
    assert (loaded.family, loaded.scale) == ("craft", 2)
    assert loaded.quantization is not None
    assert (loaded.quantization.bits, loaded.quantization.edge_bits) == (4, 8)
    state = loaded.network.state_dict()
    grid = case.meta["weight_grid"]
    for key, value in seeded_state(case.meta["shapes"]).items():
        torch.testing.assert_close(state[key], (value * grid).round() / grid, rtol=0, atol=0)
    files = FAMILIES["craft"].quantization.files
    assert files is not None
    wanted = case.bounds(stage)
    for path, bounds in bounds_of(loaded.network).items():
        for bound, aim in zip(bounds, wanted[files.name_of(path)], strict=True):
            torch.testing.assert_close(bound, aim, rtol=1e-6, atol=1e-6)


def test_a_published_quantized_network_answers_as_it_did_and_becomes_a_file_of_ours(tmp_path: Path) -> None:
    case = Case("published_4bit")
    published = published_file(tmp_path, "br")
    network = finescale.load(published, settings={"window_size": 4}).network
    ours = tmp_path / "ours.safetensors"
    finescale.save(network, ours, source="the authors")
    with torch.no_grad():
        torch.testing.assert_close(network(case["input"]), case["output"], rtol=0, atol=1e-3)
        assert torch.equal(finescale.load(ours).network(case["input"]), network(case["input"]))
        with switched_off(network):
            torch.testing.assert_close(network(case["input"]), case["float_output"], rtol=0, atol=1e-4)
    assert ours.stat().st_size < published.stat().st_size / 4


# ---- files that hold something else

HEAD = b"\x80\x02cbasicsr.archs.craft_q_arch\nQ_CRAFT\n"


def archive(path: Path, pickled: bytes, **storages: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickled)
        for name, content in storages.items():
            file.writestr(f"archive/data/{name.removeprefix('s')}", content)
    return path


def with_state(state: bytes) -> bytes:
    """A network whose state is what a piece of a pickle leaves on the stack."""
    return HEAD + b")\x81" + state + b"b."


def plain(value: Any) -> bytes:
    return pickle.dumps(value, protocol=2)[2:-1]


def test_a_call_of_the_system_is_refused_and_not_made(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    call = b"cos\nsystem\n" + plain(f"touch {mark}") + b"\x85R"
    path = archive(tmp_path / "bad.pth", with_state(b"}" + plain("x") + call + b"s"))
    assert holds_module(path, of_class=CLASS)
    with pytest.raises(UnsafeWeightsError, match=r"posix\.system|os\.system"):
        finescale.load(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "name", ["builtins\neval", "builtins\ngetattr", "torch\nload", "basicsrx\nAnything", "torch.nn.modulesx\nLinear"]
)
def test_any_other_name_is_refused(name: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "bad.pth", with_state(b"}" + plain("x") + b"c" + name.encode() + b"\ns"))
    with pytest.raises(UnsafeWeightsError, match="in it; it was not loaded"):
        read_module(path)


def test_a_call_of_a_known_class_with_arguments_makes_nothing(tmp_path: Path) -> None:
    path = archive(tmp_path / "bad.pth", HEAD + plain("x") + b"\x85R.")
    with pytest.raises(WeightsError):
        read_module(path)


@pytest.mark.parametrize(
    "pickled",
    [
        with_state(plain([1, 2])),  # a state that is no dictionary
        with_state(plain({"_modules": {"a": 3}})),  # a module that is none
        with_state(plain({"_modules": 3})),
        with_state(plain({}))[:-3],  # cut short
        HEAD + b".",  # the class itself
        with_state(plain({})),  # nothing in it
    ],
)
def test_damaged_networks_are_refused(pickled: bytes, tmp_path: Path) -> None:
    with pytest.raises(WeightsError):
        finescale.load(archive(tmp_path / "bad.pth", pickled))


def tensor_of(count: int, size: tuple[int, ...], stride: tuple[int, ...], offset: int) -> bytes:
    storage = b"(" + plain("storage") + b"ctorch\nFloatStorage\n" + plain("0") + plain("cpu") + plain(count) + b"tQ"
    rest = plain(offset) + plain(size) + plain(stride) + b"\x89" + b"ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + rest + b"tR"


@pytest.mark.parametrize(
    ("count", "size", "stride", "offset"),
    [(4, (2, 4), (4, 1), 0), (4, (4,), (1,), 2), (9, (3,), (1,), 0), (4, (10**9,), (0,), 0), (4, (-1,), (1,), 0)],
)
def test_a_tensor_beyond_its_storage_is_refused(
    count: int, size: tuple[int, ...], stride: tuple[int, ...], offset: int, tmp_path: Path
) -> None:
    state = b"}" + plain("_parameters") + b"}" + plain("w") + tensor_of(count, size, stride, offset) + b"ss"
    path = archive(tmp_path / "bad.pth", with_state(state), s0=np.zeros(4, np.float32).tobytes())
    with pytest.raises(WeightsError):
        read_module(path)


def test_a_tensor_within_its_storage_is_read(tmp_path: Path) -> None:
    state = b"}" + plain("_parameters") + b"}" + plain("w") + tensor_of(4, (3,), (1,), 1) + b"ss"
    path = archive(tmp_path / "good.pth", with_state(state), s0=np.arange(4, dtype=np.float32).tobytes())
    assert read_module(path).state["w"].tolist() == [1, 2, 3]


def test_other_files_are_no_pickled_networks(tmp_path: Path) -> None:
    text, empty = tmp_path / "a.txt", tmp_path / "b.zip"
    text.write_text("no archive")
    zipfile.ZipFile(empty, "w").close()
    plain_file = tmp_path / "c.pth"
    torch.save({"x": torch.zeros(1)}, plain_file)
    for path in (text, empty, plain_file, tmp_path / "missing"):
        assert not holds_module(path, of_class=CLASS)
