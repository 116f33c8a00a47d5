"""Published weights are fetched once, whole or not at all, and never taken for what they are not."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import random
import re
import shutil
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import platformdirs
import pytest

import hub_stand_in
from finescale.errors import DownloadError, MissingExtraError
from finescale.weights import download
from hub_stand_in import HubStandIn
from publishing import facts

CONTENT = random.Random(0).randbytes(100_000)


@pytest.fixture
def offered(hub: HubStandIn) -> HubStandIn:
    """A hub with one repository."""
    hub.files["owner/net"] = {"model.safetensors": CONTENT}
    return hub


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the client would have waited between its attempts."""
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


# ---- where


def test_the_cache_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FINESCALE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    assert download.cache_folder() == Path("/home/someone/.cache/finescale")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
    assert download.cache_folder() == Path("/var/cache/finescale")
    monkeypatch.setenv("FINESCALE_CACHE", "~/weights")
    assert download.cache_folder() == Path("/home/someone/weights")


def test_the_folder_of_earlier_versions_is_kept_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FINESCALE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    library = tmp_path / "Library" / "Caches" / "finescale"
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_, **__: library)
    assert download.cache_folder() == library
    earlier = tmp_path / ".cache" / "finescale"
    earlier.mkdir(parents=True)
    assert download.cache_folder() == earlier
    library.mkdir(parents=True)
    assert download.cache_folder() == library


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("owner/net", True),
        ("XiangZ/hit-srf-4x", True),
        ("a.b/c_d", True),
        ("net", False),
        ("owner/net/file", False),
        ("../net", False),
        ("./net", False),
        ("owner/..", False),
        ("/net", False),
        ("owner/", False),
        ("own er/net", False),
    ],
)
def test_a_repository_is_told_by_its_form(name: str, expected: bool) -> None:
    assert download.is_repository(name) is expected


def test_another_form_is_refused_before_anything_is_asked(cache: Path) -> None:
    with pytest.raises(ValueError, match=re.escape("a repository of the hub is called owner/name, got '../net'")):
        download.fetch_repository("../net")


# ---- from the hub


def test_a_file_arrives_whole_with_its_hash_beside_it(
    offered: HubStandIn, cache: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO, logger="finescale"):
        file = download.fetch(facts(hub="owner/net"))
    assert file == cache / "hub" / "owner" / "net" / "model.safetensors"
    assert file.read_bytes() == CONTENT
    record = file.with_name("model.safetensors.sha256").read_text()
    assert record == f"{hashlib.sha256(CONTENT).hexdigest()}  model.safetensors\n"
    told = f"fetching model.safetensors of {offered.address}/owner/net (0.1 MiB) into {file.parent}"
    assert [entry.getMessage() for entry in caplog.records if entry.name == "finescale"] == [told]
    assert capsys.readouterr().err == ""  # no bars where there is no terminal


def test_a_second_use_touches_no_network_and_needs_no_client(
    offered: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = download.fetch_repository("owner/net")
    asked = len(offered.requests)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert download.fetch_repository("owner/net") == file
    assert download.fetch_repository("owner/net", offline=True) == file
    assert len(offered.requests) == asked


def test_an_interrupted_transfer_goes_on_where_it_broke(offered: HubStandIn, waits: list[float]) -> None:
    offered.drops = [40_000, 70_000]
    assert download.fetch_repository("owner/net").read_bytes() == CONTENT
    path = "GET /owner/net/resolve/main/model.safetensors"
    assert [asked for asked in offered.requests if asked.startswith("GET")] == [
        path,
        f"{path} bytes=40000-",
        f"{path} bytes=70000-",
    ]


def test_a_transfer_that_keeps_breaking_is_told_and_leaves_nothing(offered: HubStandIn, waits: list[float]) -> None:
    offered.drops = [0] * 50
    with pytest.raises(DownloadError, match=r"owner/net: cannot be reached, or the connection broke \(\w+\); check"):
        download.fetch_repository("owner/net")
    assert waits
    offered.drops = []
    assert download.fetch_repository("owner/net").read_bytes() == CONTENT


def test_a_stop_by_the_user_leaves_nothing_that_would_be_taken(
    offered: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_: float) -> None:
        raise KeyboardInterrupt

    offered.drops = [40_000]
    monkeypatch.setattr(time, "sleep", stop)  # the client sleeps before its second attempt
    with pytest.raises(KeyboardInterrupt):
        download.fetch_repository("owner/net")
    with pytest.raises(DownloadError, match="not asked while offline"):
        download.fetch_repository("owner/net", offline=True)
    assert download.fetch_repository("owner/net").read_bytes() == CONTENT


def test_what_arrives_damaged_is_refused_and_not_kept(offered: HubStandIn, cache: Path) -> None:
    offered.swaps = CONTENT[::-1]
    with pytest.raises(
        DownloadError, match=r"model\.safetensors arrived damaged \(SHA-256 \w{12}\.\.\., the hub states"
    ):
        download.fetch_repository("owner/net")
    assert not [path for path in (cache / "hub" / "owner" / "net").iterdir() if path.is_file()]
    offered.swaps = None
    assert download.fetch_repository("owner/net").read_bytes() == CONTENT


def test_a_file_of_unknown_origin_in_its_place_is_not_taken(offered: HubStandIn, cache: Path) -> None:
    place = cache / "hub" / "owner" / "net" / "model.safetensors"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"the first half")
    assert download.fetch_repository("owner/net").read_bytes() == CONTENT


def test_a_file_that_changed_in_the_cache_is_refused_until_it_is_deleted(offered: HubStandIn) -> None:
    file = download.fetch_repository("owner/net")
    file.write_bytes(CONTENT[:-1] + b"!")
    was, found = hashlib.sha256(CONTENT).hexdigest()[:12], hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    expected = f"{file}: changed since it was fetched (SHA-256 {found}..., was {was}...); delete it"
    with pytest.raises(DownloadError, match=re.escape(expected)):
        download.fetch_repository("owner/net")
    file.unlink()
    assert download.fetch_repository("owner/net").read_bytes() == CONTENT


@pytest.mark.parametrize("record", [b"", b"\xff", b"nothing of the kind"])
def test_a_record_that_is_damaged_vouches_for_nothing(record: bytes, offered: HubStandIn) -> None:
    file = download.fetch_repository("owner/net")
    file.with_name(f"{file.name}.sha256").write_bytes(record)
    with pytest.raises(DownloadError, match=r"model\.safetensors: changed since it was fetched"):
        download.fetch_repository("owner/net")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is closed to this user")
def test_a_file_that_cannot_be_read_is_told(offered: HubStandIn) -> None:
    file = download.fetch_repository("owner/net")
    file.chmod(0)
    with pytest.raises(DownloadError, match=r"model\.safetensors: cannot be read \(.+\); make it readable"):
        download.fetch_repository("owner/net")


def test_a_small_file_without_a_stated_hash_is_taken_and_noted(hub: HubStandIn) -> None:
    hub.files["owner/net"] = {"model.safetensors": b"small"}
    file = download.fetch_repository("owner/net")
    assert file.with_name(f"{file.name}.sha256").read_text().startswith(hashlib.sha256(b"small").hexdigest())


def test_a_token_opens_what_is_given_on_request(
    offered: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    offered.gated.add("owner/net")
    with pytest.raises(
        DownloadError, match=r"owner/net: its owner gives access on request; ask for it there, then log"
    ):
        download.fetch_repository("owner/net")
    (tmp_path / "token").write_text("hf_of_a_test")
    assert download.fetch_repository("owner/net").read_bytes() == CONTENT
    assert offered.token == "hf_of_a_test"


@pytest.mark.parametrize(
    ("repository", "status", "message"),
    [
        ("owner/absent", None, "/owner/absent: no such repository, or a private one; check the name, or log in"),
        ("owner/empty", None, "/owner/empty: there is no model.safetensors in it; download what it has, and give"),
        ("owner/net", 503, "/owner/net: the hub answered with status 503; try again later"),
    ],
)
def test_what_the_hub_refuses_is_told_with_address_and_remedy(
    repository: str, status: int | None, message: str, offered: HubStandIn, cache: Path
) -> None:
    offered.files["owner/empty"] = {}
    offered.status = status
    with pytest.raises(DownloadError, match=re.escape(offered.address + message)):
        download.fetch_repository(repository)
    assert not cache.exists()


def test_a_hub_out_of_reach_is_told(hub: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    with hub_stand_in.serving() as gone:
        address = gone.address
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    template = huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(hub.address, address)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    with pytest.raises(DownloadError, match=re.escape(f"{address}/owner/net: cannot be reached")):
        download.fetch_repository("owner/net")


def test_without_a_network_nothing_is_asked(offered: HubStandIn, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = re.escape(f"owner/net: its weights are not in {cache / 'hub' / 'owner' / 'net'}, and the hub is not asked")
    with pytest.raises(DownloadError, match=told):
        download.fetch_repository("owner/net", offline=True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError, match=told):
        download.fetch(facts(hub="owner/net"))
    assert not offered.requests


def test_the_missing_client_is_told_with_its_install_line(offered: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=re.escape("pip install 'finescale[hub]'")):
        download.fetch_repository("owner/net")


def test_a_disk_with_too_little_room_is_told_before_anything_is_sent(
    offered: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=50_000))
    with pytest.raises(
        DownloadError, match=r"too little room for 0\.1 MiB, 0\.0 MiB are free; make room, or set FINES"
    ):
        download.fetch_repository("owner/net")
    assert not [asked for asked in offered.requests if asked.startswith("GET")]


def test_a_folder_that_cannot_be_written_is_told(offered: HubStandIn, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    reason = os.strerror(errno.ENOTDIR)
    with pytest.raises(DownloadError, match=re.escape(f"model.safetensors: cannot be written ({reason}); make room")):
        download.fetch_repository("owner/net")


# ---- by hand


@pytest.mark.parametrize("name", ["DRCT-L_X4.pth", "drct-l_x4.PTH", "DRCT-L_X4.safetensors", "drct-l_srx4.pth"])
@pytest.mark.parametrize("folder", ["cache", "working folder"])
def test_a_file_that_was_put_in_place_is_found(name: str, folder: str, cache: Path) -> None:
    place = cache if folder == "cache" else download.PRETRAINED
    place.mkdir(parents=True)
    (place / "another.pth").touch()
    (place / name).touch()
    assert download.fetch(facts(also=("DRCT-L_SRx4.pth",)), offline=True) == place / name


@pytest.mark.parametrize(("licence", "warned"), [("CC-BY-NC-4.0", True), ("MIT", False), (None, False)])
def test_before_a_use_that_is_restricted_a_warning_comes(
    licence: str | None, warned: bool, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.mkdir()
    (cache / "DRCT-L_X4.pth").touch()
    download.fetch(facts(licence=licence))
    expected = ["drct-l x4: its weights are for non-commercial use only (CC-BY-NC-4.0)"]
    assert caplog.messages == (expected if warned else [])


def test_a_placed_file_goes_before_the_hub(cache: Path) -> None:
    cache.mkdir()
    (cache / "DRCT-L_X4.pth").touch()
    assert download.fetch(facts(hub="owner/net"), offline=True) == cache / "DRCT-L_X4.pth"


def test_a_file_that_is_offered_by_a_link_is_told_with_page_and_place(cache: Path) -> None:
    (cache / "DRCT-L_X4.pth").mkdir(parents=True)  # a folder of that name is no weight file
    expected = (
        "drct-l x4: its authors offer the weights at https://example.org/DRCT; download DRCT-L_X4.pth and put it into "
        f"{cache} or {Path('experiments/pretrained_models')}"
    )
    with pytest.raises(DownloadError, match=re.escape(expected)):
        download.fetch(facts())


def test_weights_that_nobody_publishes_are_told(cache: Path) -> None:
    with pytest.raises(
        DownloadError, match=r"drct-l-df2k x4: its authors publish no weights; give the path of a weight"
    ):
        download.fetch(facts(tag="df2k", file=None, page=None))
