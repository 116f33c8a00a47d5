from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from finescale.data import LmdbImages, write_lmdb
from finescale.errors import DataError, ImageReadError, MissingExtraError
from pictures import draw, stored
from samples import sample

lmdb = pytest.importorskip("lmdb")


@pytest.fixture
def originals(tmp_path: Path) -> dict[Path, Tensor]:
    folder = tmp_path / "hr"
    return {
        folder / "0001.png": draw(folder / "0001.png", width=30, height=20),
        folder / "gray.bmp": draw(folder / "gray.bmp", width=16, height=17, gray=True),
    }


@pytest.fixture
def made(originals: dict[Path, Tensor], tmp_path: Path) -> Path:
    folder = tmp_path / "hr.lmdb"
    assert [report.status for report in write_lmdb([*originals], folder, workers=2)] == ["done", "done"]
    return folder


def values(folder: Path) -> dict[str, bytes]:
    """All that an LMDB holds, read without our reader."""
    with lmdb.open(str(folder), readonly=True, lock=False) as environment, environment.begin() as transaction:
        return {bytes(key).decode(): bytes(value) for key, value in transaction.cursor()}


def test_the_folder_is_what_basicsr_reads(originals: dict[Path, Tensor], made: Path, tmp_path: Path) -> None:
    assert (made / "meta_info.txt").read_text() == "0001.png (20,30,3) 1\ngray.png (17,16,1) 1\n"
    assert sorted(path.name for path in made.iterdir()) == ["data.mdb", "meta_info.txt"]
    held = values(made)
    assert set(held) == {"0001", "gray"}
    for (key, value), expected in zip(sorted(held.items()), originals.values(), strict=True):
        assert value.startswith(b"\x89PNG")
        (tmp_path / key).write_bytes(value)
        assert torch.equal(stored(tmp_path / key), expected)


def test_what_was_written_is_read_back_as_three_channels(originals: dict[Path, Tensor], made: Path) -> None:
    images = LmdbImages(made)
    assert images.names == ("0001.png", "gray.png")
    assert images.sizes == ((20, 30), (17, 16))
    for image, expected in zip(images, originals.values(), strict=True):
        assert torch.equal(image, expected.expand(3, -1, -1))
    assert len(images[:1]) == 1
    with pytest.raises(IndexError):
        images[2]


def test_samples_can_be_drawn_from_it_also_by_a_copy(originals: dict[Path, Tensor], made: Path) -> None:
    images = LmdbImages(made)
    copy = pickle.loads(pickle.dumps(images))
    expected = [levels.expand(3, -1, -1) for levels in originals.values()]
    for index in range(8):
        drawing = {"seed": 1, "index": index, "scale": 2, "patch": 7}
        assert torch.equal(sample(copy, **drawing)[1], sample(expected, **drawing)[1])


def test_the_map_grows_as_pictures_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finescale.data.lmdb.FIRST_MAP", 2**16)
    paths = [tmp_path / "hr" / f"{number}.png" for number in range(8)]
    expected = [draw(path, width=80, height=90, seed=number) for number, path in enumerate(paths)]
    list(write_lmdb(paths, tmp_path / "hr.lmdb"))
    assert (tmp_path / "hr.lmdb" / "data.mdb").stat().st_size > 2**16
    assert all(torch.equal(*both) for both in zip(LmdbImages(tmp_path / "hr.lmdb"), expected, strict=True))


def test_a_pair_has_one_key_in_its_two_folders(tmp_path: Path) -> None:
    draw(tmp_path / "birdx4.png")
    draw(tmp_path / "bird.png")
    good, bad = write_lmdb([tmp_path / "birdx4.png", tmp_path / "bird.png"], tmp_path / "lr.lmdb", drop_ending="x4")
    assert set(values(tmp_path / "lr.lmdb")) == {"bird"}
    assert good.status == "done"
    assert bad.reason == f"{tmp_path / 'bird.png'}: the name does not end in 'x4', the ending to drop"


@pytest.mark.parametrize("stem", ["two.dots", "Käse", "line\nbreak", "n" * 247 + "\u0001"])
def test_names_that_other_readers_do_not_find_are_refused(tmp_path: Path, stem: str) -> None:
    paths = [tmp_path / f"{stem}.png", tmp_path / "good.png"]
    for path in paths:
        draw(path)
    bad, good = write_lmdb(paths, tmp_path / "hr.lmdb")
    assert (bad.status, good.status) == ("failed", "done")
    assert str(bad.reason).endswith("cannot be a key; rename it to printable ASCII letters without a dot")


def test_what_exists_is_kept_and_of_other_pictures_refused(originals: dict[Path, Tensor], made: Path) -> None:
    paths = [*originals]
    assert [report.status for report in write_lmdb(paths, made)] == ["kept", "kept"]
    new = paths[0].with_name("new.png")
    draw(new)
    reports = list(write_lmdb([*paths, new], made))
    assert [report.status for report in reports] == ["kept", "kept", "failed"]
    assert reports[2].reason == f"{new}: the LMDB exists and lacks it; --overwrite rebuilds the LMDB"
    with pytest.raises(DataError, match=r"is an LMDB of other pictures \(gray, \.\.\.\); replace it with --overwrite"):
        write_lmdb(paths[:1], made)
    list(write_lmdb(paths[:1], made, overwrite=True))
    assert LmdbImages(made).names == ("0001.png",)


def test_an_interrupted_lmdb_leaves_nothing(originals: dict[Path, Tensor], tmp_path: Path) -> None:
    reports = write_lmdb([*originals], tmp_path / "hr.lmdb")
    next(reports)
    reports.close()
    assert [path.name for path in tmp_path.iterdir()] == ["hr"]


def test_a_value_that_was_not_stored_as_written_is_noticed(
    originals: dict[Path, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LmdbImages, "encoded", lambda _self, _index: b"other")
    with pytest.raises(DataError, match=r"0001\.png was not stored as it was written"):
        list(write_lmdb([*originals], tmp_path / "hr.lmdb"))
    assert not (tmp_path / "hr.lmdb").exists()


def test_without_any_picture_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="no picture can be read; no LMDB is written"):
        list(write_lmdb([tmp_path / "bad.png"], tmp_path / "hr.lmdb"))
    with pytest.raises(ValueError, match=r"the name of an LMDB must end in \.lmdb, got "):
        write_lmdb([], tmp_path / "hr")


def test_an_lmdb_of_other_makers_is_read(originals: dict[Path, Tensor], tmp_path: Path) -> None:
    folder = tmp_path / "theirs.lmdb"
    with lmdb.open(str(folder), map_size=2**20) as environment, environment.begin(write=True) as transaction:
        for path in originals:
            transaction.put(path.stem.encode(), path.read_bytes())
    (folder / "meta_info.txt").write_text("gray.bmp (17,16,1) 1\n0001.png (20,30,3) 1")
    assert torch.equal(LmdbImages(folder)[1], originals[tmp_path / "hr" / "0001.png"])


def test_damaged_ones_are_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"hr is not an LMDB of pictures, it has no meta_info\.txt"):
        LmdbImages(tmp_path / "hr")
    meta, data = made / "meta_info.txt", made / "data.mdb"
    whole = data.read_bytes()
    data.write_bytes(whole[:-4096])
    with pytest.raises(DataError, match=r"data\.mdb is truncated, it has \d+ of \d+ bytes; rebuild the LMDB"):
        LmdbImages(made)
    data.write_bytes(b"no LMDB" * 1000)
    with pytest.raises(DataError, match=r"cannot be opened as an LMDB \(.*MDB_INVALID"):
        LmdbImages(made)
    data.unlink()
    with pytest.raises(DataError, match=r"cannot be opened as an LMDB \(.*No such file"):
        LmdbImages(made)
    data.write_bytes(whole)
    for text, sentence in {
        "": "lists no picture",
        "0001.png\n": r"line 1 is not 'name\.png \(height,width,channels\) 1'",
    }.items():
        meta.write_text(text)
        with pytest.raises(DataError, match=sentence):
            LmdbImages(made)
    meta.write_text("0002.png (20,30,3) 1\n")
    with pytest.raises(DataError, match=r"meta_info\.txt lists '0002', which data\.mdb lacks"):
        LmdbImages(made)[0]


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "bad.lmdb"
    with lmdb.open(str(folder), map_size=2**20) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"1", b"no picture")
    (folder / "meta_info.txt").write_text("1.png (1,1,3) 1")
    with pytest.raises(ImageReadError, match=r"bad\.lmdb: 1\.png: not an image"):
        LmdbImages(folder)[0]


def test_without_the_package_its_install_line_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(MissingExtraError, match=r"install it with: pip install 'finescale\[lmdb\]'"):
        write_lmdb([], tmp_path / "hr.lmdb")
