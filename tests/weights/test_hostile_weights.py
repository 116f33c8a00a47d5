"""Every hostile weight file is refused for the right reason, quickly, with nothing run and nothing allocated."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from finescale import weights
from finescale.errors import UnknownNetworkError, UnsafeWeightsError, WeightsError, WeightsMismatchError

QV = r"'layers\.0\.residual_group\.blocks\.0\.correlation\.qv\.conv\.0\.weight'"
POS = r"'layers\.0\.residual_group\.blocks\.0\.correlation\.pos\.pos_proj\.weight'"

TABLE: dict[str, tuple[type[WeightsError], str]] = {
    "malicious_zip.pth": (UnsafeWeightsError, "contains code, not only weights"),
    "malicious_pickle.pth": (UnsafeWeightsError, "contains code, not only weights"),
    "pickle_named.safetensors": (UnsafeWeightsError, "contains code, not only weights"),
    "truncated.pth": (WeightsError, "truncated or damaged"),
    "truncated.safetensors": (WeightsError, "truncated or damaged"),
    "zero_bytes.pth": (WeightsError, "empty"),
    "text.pth": (WeightsError, "git-lfs pointer .* fetch the file"),
    "html.pth": (WeightsError, "web page"),
    "empty_state.pth": (WeightsError, "no weights in it"),
    "empty_params.pth": (WeightsError, "no weights in it"),
    "optimizer_only.pth": (WeightsError, "its keys are 'epoch', 'optimizer'"),
    "bare_tensor.pth": (WeightsError, "not a state dict but a Tensor"),
    "list.pth": (WeightsError, "not a state dict but a list"),
    "unknown_architecture.pth": (UnknownNetworkError, r"first: 'unknown\.stage0\.mixer\.weight'.*known: .*hit-sr"),
    "nan.pth": (WeightsError, f"{QV} contains NaN"),
    "missing_key.pth": (WeightsMismatchError, rf"nearest variant: hit-srf.*1 key is missing \(first: {QV}\)$"),
    "wrong_shape.pth": (WeightsMismatchError, rf"hit-srf.*{POS} of shape \(2, 3\) instead of \(3, 2\)"),
    "integer_weights.pth": (WeightsError, r"'conv_first\.weight' is stored as int8"),
    "header_length_lies.safetensors": (WeightsError, "truncated or damaged"),
    "header_length_100mb.safetensors": (WeightsError, "truncated or damaged"),
    "header_not_json.safetensors": (WeightsError, "truncated or damaged"),
    "unknown_dtype.safetensors": (WeightsError, "truncated or damaged .*F99"),
    "offsets_beyond_file.safetensors": (WeightsError, "truncated or damaged"),
    "offsets_overlap.safetensors": (WeightsError, "truncated or damaged"),
    "shape_lies.safetensors": (WeightsError, "truncated or damaged"),
}


@pytest.fixture(scope="module")
def folder(data_root: Path) -> Path:
    return data_root / "hostile" / "weights"


def test_every_hostile_file_is_in_the_table(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_a_hostile_file_is_refused_for_its_reason(
    name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "mark"
    monkeypatch.setenv("HOSTILE_PICKLE_MARK", str(mark))
    path = folder / name
    before = path.read_bytes()
    start = time.perf_counter()
    error, reason = TABLE[name]
    with pytest.raises(WeightsError, match=reason) as raised:
        weights.load(path)
    assert type(raised.value) is error
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert not mark.exists()
    assert path.read_bytes() == before
    assert time.perf_counter() - start < 5


REFUSE_IN_LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from finescale import weights
from finescale.errors import WeightsError

pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + 64 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for path in map(Path, sys.argv[1:]):
    try:
        weights.load(path)
    except WeightsError:
        continue
    sys.exit(f"{path} was not refused")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on memory is Linux's")
def test_lies_about_size_are_refused_within_64_mib(folder: Path) -> None:
    liars = sorted(str(path) for path in folder.glob("*.safetensors"))
    result = subprocess.run(
        [sys.executable, "-c", REFUSE_IN_LITTLE_MEMORY, *liars],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
