"""Places: paths of this machine and URLs, which show no credentials."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from finescale.system.places import RemotePath, is_url, place_of


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://host/a.png", "https://host/a.png"),
        ("https://host/a.png?token=secret", "https://host/a.png?***"),
        ("https://host/a.png#secret", "https://host/a.png#***"),
        ("https://me:secret@host/a.png", "https://***@host/a.png"),
        ("https://secret@host:8080/a.png?secret=1", "https://***@host:8080/a.png?***"),
        ("HTTPS://me:se:cret@host/a.png", "https://***@host/a.png"),
        ("sftp://me:secret@host/a.png", "sftp://***@host/a.png"),
        ("sftp://me:sec/ret@host/a.png", "sftp://***@host/a.png"),
        ("sftp://me@host:22/a.png", "sftp://me@host:22/a.png"),
        ("s3://bucket/a@b/what?.png", "s3://bucket/a@b/what?.png"),
        ("s3://bucket/a.png?versionId=secret", "s3://bucket/a.png?***"),
    ],
)
def test_a_place_shows_no_credentials(address: str, shown: str) -> None:
    place = RemotePath(address)
    assert str(place) == shown
    assert repr(place) == f"RemotePath({shown!r})"
    assert place.address == address


@pytest.mark.parametrize(
    ("address", "name", "stem", "suffix", "parent"),
    [
        ("s3://bucket/in/cat.tar.png", "cat.tar.png", "cat.tar", ".png", "s3://bucket/in"),
        ("s3://bucket/in/", "in", "in", "", "s3://bucket"),
        ("s3://bucket", "", "", "", "s3://bucket"),
        ("memory://a.png", "", "", "", "memory://a.png"),
        ("https://host/a%20b.png?x=/c.jpg", "a b.png", "a b", ".png", "https://host"),
        ("https://host/a%2Fb.png", "a%2Fb.png", "a%2Fb", ".png", "https://host"),
        ("s3://bucket/a%20b.png", "a%20b.png", "a%20b", ".png", "s3://bucket"),
    ],
)
def test_names_are_told_as_those_of_paths(address: str, name: str, stem: str, suffix: str, parent: str) -> None:
    place = RemotePath(address)
    assert (place.name, place.stem, place.suffix, place.parent.address) == (name, stem, suffix, parent)


def test_places_below_and_around() -> None:
    place = RemotePath("s3://bucket/in/cat.png")
    assert place.with_name("dog.jpg") == RemotePath("s3://bucket/in/dog.jpg")
    assert RemotePath("s3://bucket/in/") / Path("a/b") / "c.png" == RemotePath("s3://bucket/in/a/b/c.png")
    assert RemotePath("s3://bucket") / "" / Path() == RemotePath("s3://bucket")
    assert [folder.address for folder in place.parents] == ["s3://bucket/in", "s3://bucket"]
    assert place.root == RemotePath("s3://bucket")


@pytest.mark.parametrize(
    ("address", "is_folder"), [("s3://bucket", True), ("s3://bucket/a/", True), ("s3://bucket/a.png", False)]
)
def test_a_url_that_can_only_be_a_folder(address: str, is_folder: bool) -> None:
    assert RemotePath(address).is_folder_name is is_folder


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("a/b.png", Path("a/b.png")),
        ("C://a.png", Path("C://a.png")),
        ("file:///tmp/a.png", Path("/tmp/a.png")),
        ("s3://bucket/a.png", RemotePath("s3://bucket/a.png")),
        (Path("a"), Path("a")),
    ],
)
def test_a_name_means_a_path_or_a_remote_place(name: str | Path, place: Path | RemotePath) -> None:
    assert place_of(name) == place


def test_what_is_a_url() -> None:
    assert [is_url(name) for name in ("s3://b", "file:///a", "a.png", "C://a", "a/b://c")] == [True, True] + 3 * [False]


def test_a_chain_is_refused_without_its_credentials() -> None:
    with pytest.raises(ValueError, match=r"^https://\*\*\*@host/a\.zip\?\*\*\*: chains of URLs \(::\)") as refused:
        place_of("https://me:secret@host/a.zip?x::memory://b")
    assert "secret" not in str(refused.value)


def test_a_place_travels_to_another_process() -> None:
    place = RemotePath("https://me:secret@host/a.png", 7)
    copied = pickle.loads(pickle.dumps(place))
    assert (copied, copied.num_bytes) == (place, 7)
