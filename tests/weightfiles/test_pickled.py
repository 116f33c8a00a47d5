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
from finescale.weightfiles.pickled import is_pickled_network, read_pickled_network

CLASS = "basicsr.archs.craft_q_arch.Q_CRAFT"


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
    assert is_pickled_network(path, of_class=CLASS)
    with pytest.raises(UnsafeWeightsError, match=r"posix\.system|os\.system"):
        finescale.load(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "name", ["builtins\neval", "builtins\ngetattr", "torch\nload", "basicsrx\nAnything", "torch.nn.modulesx\nLinear"]
)
def test_any_other_name_is_refused(name: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "bad.pth", with_state(b"}" + plain("x") + b"c" + name.encode() + b"\ns"))
    with pytest.raises(UnsafeWeightsError, match="in it; it was not loaded"):
        read_pickled_network(path)


def test_a_call_of_a_known_class_with_arguments_makes_nothing(tmp_path: Path) -> None:
    path = archive(tmp_path / "bad.pth", HEAD + plain("x") + b"\x85R.")
    with pytest.raises(WeightsError):
        read_pickled_network(path)


@pytest.mark.parametrize(
    "pickled",
    [
        with_state(plain([1, 2])),  # a list in place of a state
        with_state(plain({"_modules": {"a": 3}})),  # a number in place of a module
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
        read_pickled_network(path)


def test_a_tensor_within_its_storage_is_read(tmp_path: Path) -> None:
    state = b"}" + plain("_parameters") + b"}" + plain("w") + tensor_of(4, (3,), (1,), 1) + b"ss"
    path = archive(tmp_path / "good.pth", with_state(state), s0=np.arange(4, dtype=np.float32).tobytes())
    assert read_pickled_network(path).tensors["w"].tolist() == [1, 2, 3]


def test_tensors_that_share_a_storage_have_no_more_bytes_than_the_file(tmp_path: Path) -> None:
    tensor = tensor_of(1000, (1000,), (1,), 0)
    each = b"".join(plain(f"w{number}") + tensor + b"s" for number in range(3))
    state = b"}" + plain("_parameters") + b"}" + each + b"s"
    path = archive(tmp_path / "bad.pth", with_state(state), s0=np.zeros(1000, np.float32).tobytes())
    with pytest.raises(WeightsError, match=f"claim 12000 bytes, but the file has {path.stat().st_size}$"):
        read_pickled_network(path)


def test_other_files_are_no_pickled_networks(tmp_path: Path) -> None:
    text, empty = tmp_path / "a.txt", tmp_path / "b.zip"
    text.write_text("no archive")
    zipfile.ZipFile(empty, "w").close()
    plain_file = tmp_path / "c.pth"
    torch.save({"x": torch.zeros(1)}, plain_file)
    for path in (text, empty, plain_file, tmp_path / "missing"):
        assert not is_pickled_network(path, of_class=CLASS)
