"""Tensors are read from files of every format and wrapper, and what is not plain tensors is refused."""

from __future__ import annotations

import json
import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from finescale import weights
from finescale.errors import UnsafeWeightsError, WeightsError, WeightsMismatchError
from finescale.weightfiles.tensors import PREFIXES, WRAPPERS, read_tensors
from publishing import tiny_network, write
from traced import traced_peak


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return dict(tiny_network("hit-sr", "hit-srf", scale=2).state_dict())


@pytest.mark.parametrize("prefix", ["", *PREFIXES, "module._orig_mod.", "net_g.module."])
@pytest.mark.parametrize("wrapper", [None, *WRAPPERS])
def test_wrappers_and_prefixes_are_taken_off_and_told(
    wrapper: str | None, prefix: str, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    content: Any = {prefix + key: tensor for key, tensor in state.items()}
    path = write({wrapper: content, "iter": 5} if wrapper else content, tmp_path / "file.pth")
    stored = read_tensors(path)
    assert (stored.wrapper, stored.prefix, stored.format) == (wrapper, prefix, "torch")
    assert stored.tensors.keys() == state.keys()
    assert all(torch.equal(stored.tensors[key], state[key]) for key in state)


def test_averaged_weights_are_preferred(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    averaged = {key: tensor + 1 for key, tensor in state.items()}
    stored = read_tensors(write({"params": state, "params_ema": averaged}, tmp_path / "file.pth"))
    assert stored.wrapper == "params_ema"
    assert torch.equal(stored.tensors["conv_first.bias"], averaged["conv_first.bias"])


def test_a_prefix_that_only_some_keys_carry_stays(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    first, *rest = state
    mixed = {first: state[first], **{f"module.{key}": state[key] for key in rest}}
    path = write(mixed, tmp_path / "file.pth")
    assert read_tensors(path).prefix == ""
    with pytest.raises(WeightsMismatchError, match=re.escape("'module.")):
        weights.load(path)


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (torch.eye(3).to_sparse(), "special tensor"),
        (torch.zeros(3, device="meta"), "special tensor"),
        (torch.zeros(0, 3), "has no values"),
        (torch.zeros(1).expand(2**40), "damaged: its tensors claim 4398046511104 bytes"),
    ],
    ids=["sparse", "meta", "empty", "expanded"],
)
def test_a_tensor_that_is_not_plain_is_refused(tensor: torch.Tensor, reason: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=reason):
        weights.load(write({"conv_first.weight": tensor}, tmp_path / "file.pth"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([torch.zeros(1)], "not a state dict but a list"),
        ({}, "no weights in it"),
        ({"params": {}}, "no weights in it"),
        ({"params": {0: torch.zeros(1)}}, "its keys are of type int"),
        ({(1, 2): 3}, "its keys are of type tuple"),
        ({"epoch": 3, "optimizer": {}}, "no network in it; its keys are 'epoch', 'optimizer'"),
        ({"norm.bias": torch.zeros(1), "iter": 5}, "'iter' is a int, not a tensor"),
        ({"params": {"norm": {"bias": torch.zeros(1)}, "a": torch.zeros(1)}}, "'norm' is a dict, not a tensor"),
    ],
)
def test_content_that_is_no_state_dict_is_refused(content: object, reason: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=reason):
        read_tensors(write(content, tmp_path / "file.pth"))


def test_tensors_may_have_as_many_bytes_as_the_file_and_not_one_more(tmp_path: Path) -> None:
    path = tmp_path / "file.pth"

    def repeated(count: int) -> Path:
        return write({"a.weight": torch.zeros(1, dtype=torch.uint8).expand(count)}, path)

    size = repeated(1000).stat().st_size
    assert read_tensors(repeated(size)).tensors["a.weight"].shape == (size,)
    assert path.stat().st_size == size
    message = f"{path}: damaged: its tensors claim {size + 1} bytes, but the file has {size}"
    with pytest.raises(WeightsError, match=f"^{re.escape(message)}$"):
        weights.load(repeated(size + 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_claim_counts_the_bytes_of_each_number_in_all_tensors(dtype: torch.dtype, tmp_path: Path) -> None:
    shared = torch.zeros(1000, dtype=dtype)
    path = write({"a.weight": shared, "b.weight": shared}, tmp_path / "file.pth")
    claimed, size = 2 * 1000 * dtype.itemsize, path.stat().st_size
    assert 1000 * dtype.itemsize < size < claimed
    with pytest.raises(WeightsError, match=f"claim {claimed} bytes, but the file has {size}"):
        weights.inspect(path)


# ---- files that are not what they seem


class Payload:
    """Makes a folder when it is unpickled without restriction."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("how", ["torch", "torch (legacy)", "pickle 2", "pickle 4"])
def test_code_in_a_file_is_never_run(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path, mark = tmp_path / "file.pth", tmp_path / "mark"
    content = {"params": {"conv_first.weight": Payload(mark)}}
    if how.startswith("torch"):
        write(content, path, _use_new_zipfile_serialization=how == "torch")
    else:
        path.write_bytes(pickle.dumps(content, protocol=int(how[-1])))
    with pytest.raises(UnsafeWeightsError, match="contains code, not only weights"):
        weights.load(path)
    assert not mark.exists()


def test_a_torchscript_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", b"")
        archive.writestr("net/constants.pkl", b"")
    with pytest.raises(UnsafeWeightsError, match="TorchScript"):
        weights.load(path)


def test_a_zip_archive_of_something_else_is_told(tmp_path: Path) -> None:
    path = tmp_path / "weights.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("HiT-SRF-4x.pth", b"")
    with pytest.raises(WeightsError, match=r"that torch.save did not write; unpack it"):
        weights.load(path)


def test_an_archive_that_unfolds_is_refused_before_it_does(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", b"\0" * 10**7)
    with pytest.raises(WeightsError, match="unfolds into more than the file"):
        weights.load(path)


def test_a_single_wrong_byte_in_an_archive_is_noticed(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = write(state, tmp_path / "file.pth")
    data = bytearray(path.read_bytes())
    data[data.find(state["conv_first.weight"].numpy().tobytes()) + 5] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=r"damaged .the checksum of"):
        weights.load(path)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("part", [0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(part: float, legacy: bool, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = write(state, tmp_path / "file.pth", _use_new_zipfile_serialization=not legacy)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(WeightsError, match="truncated or damaged"):
        weights.load(path)


def test_a_file_that_is_missing_or_a_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"cannot be read .No such file"):
        weights.load(tmp_path / "absent.pth")
    with pytest.raises(WeightsError, match=r"cannot be read .Is a directory"):
        weights.load(tmp_path)


# ---- what tools put around and among weights


@pytest.mark.parametrize("wrappers", [("model", "params"), ("ema", "state_dict"), ("g", "network", "weights")])
def test_wrappers_within_wrappers_are_taken_off(
    wrappers: tuple[str, ...], state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    content: Any = state
    for name in reversed(wrappers):
        content = {name: content, "epoch": 3}
    stored = read_tensors(write(content, tmp_path / "file.pth"))
    assert stored.wrapper == "/".join(wrappers)
    assert stored.tensors.keys() == state.keys()


def test_counters_beside_the_weights_are_left_out_with_a_note(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    counters = {"total_ops": torch.zeros(1), "conv_first.total_params": torch.zeros(1), "n_averaged": 7, "step": 5}
    path = write({**state, **counters}, tmp_path / "file.pth")
    stored = read_tensors(path)
    assert stored.tensors.keys() == state.keys()
    assert stored.notes == ("left out 4 of its keys, which are counters, not weights (first: 'total_ops')",)
    assert stored.notes[0] in weights.inspect(path).notes


def test_any_prefix_that_all_keys_share_is_taken_off_and_reported(
    state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = write({f"ema.sr_net.{key}": tensor for key, tensor in state.items()}, tmp_path / "file.pth")
    loaded = weights.load(path)
    assert loaded.prefix == "ema.sr_net."
    assert torch.equal(loaded.network.state_dict()["conv_first.bias"], state["conv_first.bias"])


@pytest.mark.parametrize("legacy", [False, True])
def test_numbers_and_arrays_of_numpy_in_a_checkpoint_are_read(
    legacy: bool, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    content = {
        "params": {**state, "conv_first.bias": state["conv_first.bias"].numpy()},
        "best": np.float64(31.5), "iter": np.int64(5), "flag": np.bool_(True), "lr": np.arange(6.0).reshape(2, 3),
    }  # fmt: skip
    torch.save(content, tmp_path / "file.pth", _use_new_zipfile_serialization=not legacy)
    stored = read_tensors(tmp_path / "file.pth")
    assert torch.equal(stored.tensors["conv_first.bias"], state["conv_first.bias"])
    assert stored.tensors.keys() == state.keys()


def test_shards_are_read_by_their_index(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    names = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    place = {key: names[number % 2] for number, key in enumerate(state)}
    for name in names:
        save_file({key: state[key] for key in state if place[key] == name}, tmp_path / name)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": place}))
    stored = read_tensors(index)
    assert stored.format == "safetensors index"
    assert all(torch.equal(stored.tensors[key], state[key]) for key in state)
    (tmp_path / names[1]).unlink()
    with pytest.raises(WeightsError, match="1 of 2 shards are missing \\(first: 'model-00002-of-00002"):
        read_tensors(index)


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        ("[]", "not an index of shards"),
        ('{"weight_map": 5}', "not an index of shards"),
        ('{"weight_map": {"a.weight": "../../etc/passwd"}}', "shards in other folders"),
    ],
)
def test_an_index_of_something_else_is_refused(index: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "x.index.json").write_text(index)
    with pytest.raises(WeightsError, match=reason):
        read_tensors(tmp_path / "x.index.json")


# ---- files that ask for memory


def pickled(content: bytes, path: Path) -> Path:
    """A file of ``torch.save`` with a pickle of ours."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3\n")
    return path


PARAMS = b"\x80\x02}X\x06\x00\x00\x00params"
BOMBS = {
    "bytearray": PARAMS + b"cbuiltins\nbytearray\n\x8a\x05\x00\xbc\xa0e\x01\x85Rs.",
    "encode": PARAMS + b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00hex\x86Rs.",
    "far place": b"\x80\x02}r\xff\xff\xff\x7f.",
    "length": b"\x80\x05\x96\xff\xff\xff\xff\xff\x00\x00\x00.",
    "copies": b"\x80\x02]q\x00("
    + b"K\x01K\x02\x86" * 400
    + b"e0("
    + b"ccollections\nOrderedDict\nh\x00\x85R" * 400
    + b"l.",
}


def read_and_refused(path: Path) -> None:
    with pytest.raises(WeightsError):
        read_tensors(path)


@pytest.mark.parametrize("name", BOMBS)
def test_a_pickle_that_asks_for_memory_is_refused(name: str, tmp_path: Path) -> None:
    path = pickled(BOMBS[name], tmp_path / "bomb.pth")
    assert traced_peak(lambda: read_and_refused(path)) < 4 * 2**20


def test_a_pickle_of_public_reports_is_refused(data_root: Path) -> None:
    with pytest.raises(UnsafeWeightsError, match=r"contains code, not only weights \(builtins.bytearray\)"):
        read_tensors(data_root / "reports" / "faults" / "p_bytearraybomb.pth")


def test_a_file_larger_than_memory_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = json.dumps({"a.weight": {"dtype": "U8", "shape": [2**40], "data_offsets": [0, 2**40]}}).encode()
    with (tmp_path / "sparse.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + 2**40)
    with pytest.raises(WeightsError, match=r"1024.0 GiB do not fit into the .* GiB of free memory"):
        read_tensors(tmp_path / "sparse.safetensors")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pth")
    with pytest.raises(WeightsError, match="is a named pipe; give a"):
        weights.load(tmp_path / "pipe.pth")
