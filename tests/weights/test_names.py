"""A name stands for one weight file, and a file called by a published name must be that network."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import safetensors.torch
import torch

from finescale import weights
from finescale.errors import DownloadError, SettingsError, WeightsError, WeightsMismatchError
from finescale.networks import FAMILIES, Frame
from hub_stand_in import HubStandIn
from publishing import authors_file, facts, our_file, publish, tiny_network, write


def test_bundled_models_are_found_by_name_and_scale(shelf: Path) -> None:
    assert weights.bundled() == [("default", 2), ("default", 4)]
    assert weights.find("default", scale=4) == shelf / "default_x4.safetensors"


def test_bundled_models_are_listed_by_name_then_scale(shelf: Path) -> None:
    for name in ("default-photo_x4", "default_x3", "notes"):
        (shelf / f"{name}.safetensors").touch()
    assert weights.bundled() == [("default", 2), ("default", 3), ("default", 4), ("default-photo", 4)]


def test_auto_is_no_model() -> None:
    with pytest.raises(ValueError, match="'auto' chooses for each picture, in upscale and serve alone; name one"):
        weights.find("auto")


def test_the_network_for_photos_is_offered_beside_the_bundled_one_alone(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert weights.for_photos("default") == "default-photo"
    assert weights.for_photos("default-photo") is None
    assert weights.for_photos("hit-srf") is None
    monkeypatch.chdir(tmp_path)
    (tmp_path / "default").touch()  # a weight file of one's own
    assert weights.for_photos("default") is None


def test_a_path_goes_before_a_name(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "default").touch()
    assert weights.find("default", scale=3) == Path("default")
    assert weights.find(str(shelf / "default_x2.safetensors")) == shelf / "default_x2.safetensors"


@pytest.mark.parametrize(
    ("name", "scale", "error", "message"),
    [
        ("default", 3, ValueError, "scale must be 2 or 4 for default, got 3"),
        (
            "defualt",
            4,
            ValueError,
            "no model is called 'defualt' (did you mean 'default'?); known: ",
        ),
        ("cit", 4, WeightsError, "cit: no weights of it are bundled or published; give the path of a weight file"),
        ("absent.pth", 4, WeightsError, "absent.pth: there is no such file"),
        ("folder/absent.pth", 4, WeightsError, "folder/absent.pth: there is no such file"),
        ("folder/below/absent", 4, WeightsError, "folder/below/absent: there is no such file"),
        ("owner/absent", 4, DownloadError, "owner/absent: its weights are not in "),
    ],
)
def test_a_name_without_weights_is_told(
    name: str, scale: int, error: type[Exception], message: str, shelf: Path, cache: Path
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        weights.find(name, scale=scale)


def test_every_bundled_file_loads_as_what_it_is_called() -> None:
    for name, scale in weights.bundled():
        loaded = weights.load(weights.find(name, scale=scale), scale=scale)
        assert loaded.header["licence"]
        assert loaded.header["source"]


# ---- published networks


@pytest.fixture
def authors(hub: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubStandIn:
    """Authors who publish HiT-SRF at x2 and x4 on the hub, and its training on more data by a link."""
    by_hub = [facts(variant="hit-srf", scale=scale, hub=f"authors/hit-srf-{scale}x", page=None) for scale in (2, 4)]
    by_link = facts(variant="hit-srf", tag="df2k", file="HiT-SRF-4x-DF2K.pth")
    publish(monkeypatch, "hit-sr", [*by_hub, by_link])
    for scale in (2, 4):
        path = tmp_path / "published.safetensors"
        safetensors.torch.save_file(tiny_network("hit-sr", "hit-srf", scale=scale).state_dict(), path)
        hub.files[f"authors/hit-srf-{scale}x"] = {"model.safetensors": path.read_bytes()}
    return hub


def assert_equal(one: Frame, other: Frame) -> None:
    assert (one.settings, one.scale) == (other.settings, other.scale)
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


@pytest.mark.parametrize(("scale", "expected"), [(None, 4), (4, 4), (2, 2)])
def test_a_published_name_is_fetched_and_loaded(
    scale: int | None, expected: int, authors: HubStandIn, cache: Path
) -> None:
    loaded = weights.load_named("hit-srf", scale=scale)
    assert_equal(loaded.network, tiny_network("hit-sr", "hit-srf", scale=expected))
    assert loaded.path == cache / "hub" / "authors" / f"hit-srf-{expected}x" / "model.safetensors"
    assert weights.fetch("hit-srf", scale=scale, offline=True) == loaded.path
    assert weights.find("hit-srf", scale=scale, offline=True) == loaded.path


def test_a_file_or_a_bundled_model_goes_before_a_published_one(
    authors: HubStandIn, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shelf / "hit-srf_x2.safetensors").touch()
    assert weights.find("hit-srf") == shelf / "hit-srf_x2.safetensors"
    Path("hit-srf").touch()
    assert weights.find("hit-srf") == Path("hit-srf")
    assert not authors.requests


@pytest.mark.parametrize(
    ("name", "scale", "error", "message"),
    [
        ("hit-srf", 3, ValueError, "scale must be 2 or 4 for hit-srf, got 3"),
        ("hit-srf-df2k", 2, ValueError, "scale must be 4 for hit-srf-df2k, got 2"),
        ("hit-srv", None, ValueError, "no published network is called 'hit-srv' (did you mean 'hit-srf'?); known: "),
        ("hit-srf-df2k", None, DownloadError, "download HiT-SRF-4x-DF2K.pth and put it into "),
    ],
)
def test_what_is_not_published_is_told(
    name: str, scale: int | None, error: type[Exception], message: str, authors: HubStandIn
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        weights.fetch(name, scale=scale)
    assert not authors.requests


def test_without_a_network_nothing_is_fetched_by_name(authors: HubStandIn) -> None:
    with pytest.raises(DownloadError, match="the hub is not asked while offline"):
        weights.load_named("hit-srf", offline=True)
    assert not authors.requests


def test_a_file_in_the_place_of_the_published_one_must_be_the_announced_network(
    authors: HubStandIn, cache: Path
) -> None:
    place = cache / "HiT-SRF-4x-DF2K.pth"
    authors_file(tiny_network("hit-sr", "hit-srf", scale=4), place)
    assert weights.load_named("hit-srf-df2k").path == place
    for family, variant, scale in (("hit-sr", "hit-srf", 2), ("hit-sr", "hit-sng", 4), ("drct", "drct", 4)):
        authors_file(tiny_network(family, variant, scale=scale), place)
        with pytest.raises(WeightsMismatchError, match=rf"DF2K\.pth: should hold hit-srf x4, but holds .+ x{scale}; "):
            weights.load_named("hit-srf-df2k")
    write({"body.weight": torch.zeros(3, 3)}, place)
    with pytest.raises(
        WeightsMismatchError, match=r"should hold hit-srf x4, but no known family has its keys .*replace"
    ):
        weights.load_named("hit-srf-df2k")


def test_a_name_tells_what_the_file_does_not_show(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, "dat", [facts(variant="dat-s", file="DAT_S_x4.pth")])
    network = tiny_network("dat", "dat-s", scale=4)
    path = authors_file(network, cache / "DAT_S_x4.pth")
    assert weights.load(path).settings.window_size != network.settings.window_size  # type: ignore[attr-defined]
    loaded = weights.load_named("dat-s")
    assert_equal(loaded.network, network)
    assert not [note for note in loaded.notes if "assumed" in note]


def test_what_the_caller_says_goes_before_the_name(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, "dat", [facts(variant="dat-s", file="DAT_S_x4.pth")])
    authors_file(tiny_network("dat", "dat-s", scale=4), cache / "DAT_S_x4.pth")
    loaded = weights.load_named("dat-s", settings={"image_range": 255})
    assert loaded.settings.image_range == 255
    with pytest.raises(SettingsError, match=r"unknown key 'image_rang' \(did you mean 'image_range'"):
        weights.load_named("dat-s", settings={"image_rang": 255})


@pytest.mark.parametrize("stated_in", ["a header", "a buffer"])
def test_a_name_does_not_overrule_what_the_file_states(
    stated_in: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, "dat", [facts(variant="dat-s", file="DAT_S_x4.pth")])
    settings = FAMILIES["dat"].tiny["dat-s"].model_copy(update={"window_size": (2, 4)})
    network = FAMILIES["dat"].network(settings=settings, scale=4)
    cache.mkdir()
    if stated_in == "a header":
        (cache / "DAT_S_x4.safetensors").write_bytes(our_file(network, tmp_path / "ours.safetensors"))
    else:
        offsets = torch.cartesian_prod(torch.arange(-1.0, 2), torch.arange(-3.0, 4))  # of a window of 2 x 4 pixels
        buffer = {"layers.0.blocks.0.attn.attns.0.rpe_biases": offsets}
        write({**network.state_dict(), **buffer}, cache / "DAT_S_x4.pth")
    with pytest.raises(WeightsMismatchError, match="should hold dat-s x4, but holds a network nearest to"):
        weights.load_named("dat-s")


def test_a_repository_of_the_hub_is_a_name(hub: HubStandIn, tmp_path: Path) -> None:
    network = tiny_network("hit-sr", "hit-sng", scale=3)
    hub.files["someone/my.net"] = {"model.safetensors": our_file(network, tmp_path / "ours.safetensors")}
    assert_equal(weights.load_named("someone/my.net", scale=3).network, network)
    with pytest.raises(ValueError, match=r"scale must be 3 for .*model\.safetensors, got 2"):
        weights.load_named("someone/my.net", scale=2)


def test_a_file_goes_before_a_repository_of_its_name(hub: HubStandIn) -> None:
    Path("someone").mkdir()
    Path("someone/net").touch()
    assert weights.find("someone/net") == Path("someone/net")
    assert not hub.requests
