"""A network goes to a repository of the hub and comes back equal; authors' repositories are read too."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import finescale
from finescale import weights
from finescale.networks import FAMILIES, build
from finescale.upscale import Upscaler
from helpers import seeded_input
from hub_stand_in import HubStandIn
from publishing import authors_file, tiny_network

huggingface_hub = pytest.importorskip("huggingface_hub")

from finescale.weights.hub import HubNetwork  # noqa: E402

# The client's own way of calling its HTTP library when it uploads.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def network() -> HubNetwork:
    return HubNetwork(tiny_network("hit-sr", "hit-srf", scale=3), source="a test", licence="Apache-2.0")


def assert_equal(one: HubNetwork, other: HubNetwork) -> None:
    assert (one.source, one.licence) == (other.source, other.licence)
    assert (one.network.settings, one.network.scale) == (other.network.settings, other.network.scale)
    image = seeded_input((1, 3, 9, 12))
    with torch.inference_mode():
        assert torch.equal(one(image), other(image))
        assert torch.equal(one(image), one.network(image))


def test_a_pushed_network_comes_back_equal(network: HubNetwork, hub: HubStandIn) -> None:
    commit = network.push_to_hub("someone/net", token="hf_of_a_test")
    assert commit.startswith(f"{hub.address}/someone/net/commit/")
    assert hub.token == "hf_of_a_test"
    assert set(hub.files["someone/net"]) == {"model.safetensors", "config.json", "README.md"}
    assert hub.uploads  # the weights went as a large file
    assert_equal(HubNetwork.from_pretrained("someone/net"), network)


def test_a_pushed_network_is_a_name_of_the_upscaler(network: HubNetwork, hub: HubStandIn) -> None:
    network.push_to_hub("someone/net", token="hf_of_a_test")
    upscaler = Upscaler.from_pretrained("someone/net", scale=3)
    image = seeded_input((1, 3, 9, 12))
    assert torch.equal(upscaler(image), Upscaler(network.network)(image))


def test_a_saved_folder_holds_weights_settings_and_a_page(network: HubNetwork, tmp_path: Path) -> None:
    network.save_pretrained(tmp_path)
    settings = FAMILIES["hit-sr"].tiny["hit-srf"].model_dump(mode="json")
    config = json.loads((tmp_path / "config.json").read_text())
    assert config == {"family": "hit-sr", "variant": None, "scale": 3, "settings": settings}
    header = weights.inspect(tmp_path / "model.safetensors").header
    assert (header["source"], header["licence"]) == ("a test", "Apache-2.0")
    assert_equal(HubNetwork.from_pretrained(tmp_path), network)


def test_the_page_is_made_from_what_the_network_is(network: HubNetwork, hub: HubStandIn) -> None:
    network.push_to_hub("someone/net", token="hf_of_a_test")
    card = huggingface_hub.ModelCard(hub.files["someone/net"]["README.md"].decode())
    assert (card.data.library_name, card.data.pipeline_tag) == ("finescale", "image-to-image")
    assert card.data.license == "apache-2.0"
    for told in (
        "# HiT-SR: a size of its own, x3",
        "a test",
        "Apache-2.0",
        "-n someone/net",
        'from_pretrained("someone/net"',
    ):
        assert told in card.text


def test_a_named_size_is_called_by_its_name() -> None:
    network = HubNetwork(build("hit-sng", scale=2), source="a test")
    assert "# HiT-SR: hit-sng, x2" in network.generate_model_card().text


def test_an_authors_repository_loads_with_its_name_as_source(hub: HubStandIn, tmp_path: Path) -> None:
    network = build("hit-sng", scale=2).eval()
    content = authors_file(network, tmp_path / "published.pth").read_bytes()
    hub.files["authors/net"] = {"model.safetensors": content, "config.json": b'{"upscale": 2, "img_range": 1.0}'}
    loaded = HubNetwork.from_pretrained("authors/net")
    assert_equal(loaded, HubNetwork(network, source="authors/net"))
    stated = HubNetwork.from_pretrained("authors/net", source="a paper", licence="MIT")
    assert (stated.source, stated.licence) == ("a paper", "MIT")


def test_a_misspelt_argument_is_refused(network: HubNetwork, tmp_path: Path) -> None:
    network.save_pretrained(tmp_path)
    with pytest.raises(TypeError, match="devise"):
        HubNetwork.from_pretrained(tmp_path, devise="cpu")


def test_it_is_a_public_name_that_tells_of_its_extra() -> None:
    assert finescale.HubNetwork is HubNetwork
    program = (
        "import sys; sys.modules['huggingface_hub'] = None\n"
        "import finescale, finescale.errors\n"
        "try:\n"
        "    finescale.HubNetwork\n"
        "except finescale.errors.MissingExtraError as error:\n"
        "    print(error)\n"
        "from finescale import *\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert run.stdout == "the hub needs its client; install it with pip install 'finescale[hub]'\n"
