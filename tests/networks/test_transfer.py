"""A network begins with what another one has of it, and says what it has not."""

from __future__ import annotations

import pytest
import torch

from finescale.networks import FAMILIES, Family, transfer_weights
from finescale.networks.cit import CIT, CITSettings
from finescale.networks.dat import DAT, DATSettings
from helpers import GOLDEN, load_case, published_buffers, seeded_input, seeded_state

families = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


@torch.inference_mode()
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_cit_begun_from_a_published_dat_light_answers_as_dat_light(scale: int) -> None:
    case = load_case(GOLDEN / "dat" / f"dat-light_x{scale}.npz")
    network = CIT(settings=CITSettings(), scale=scale).eval()
    left = transfer_weights(network, {**seeded_state(case.shapes), **published_buffers(case)})
    added = (".hfab.", ".eib.", ".sg.weight", ".pos.")
    assert left == [key for key in network.state_dict() if any(part in key for part in added)]
    assert (network(case.input) - case.output).abs().max() < 1e-5


@torch.inference_mode()
def test_cit_of_equal_bias_width_begins_as_a_dat_of_any_size() -> None:
    sizes = {"embed_dim": 64, "depths": (3,), "num_heads": (4,), "window_size": (2, 4), "expansion_factor": 2}
    heads = {"upsampler": "pixelshuffle", "residual_conv": "1conv"}
    dat = DAT(settings=DATSettings(**sizes, **heads), scale=2).eval()
    dat.load_state_dict({**dat.state_dict(), **seeded_state({k: p.shape for k, p in dat.named_parameters()})})
    network = CIT(settings=CITSettings(**sizes, **heads, pos_dim=2), scale=2).eval()
    transfer_weights(network, dat.state_dict())
    image = seeded_input((1, 3, 9, 7))
    torch.testing.assert_close(network(image), dat(image), rtol=0, atol=1e-5)


@families
def test_another_scale_takes_all_but_the_head(family: Family) -> None:
    settings = next(iter(family.tiny.values()))
    x2, x3 = (family.network(settings=settings, scale=scale) for scale in (2, 3))
    with torch.no_grad():
        for parameter in x2.parameters():
            parameter.add_(1)
    left = transfer_weights(x3, x2.state_dict())
    assert left
    assert all(key.startswith("upsample.") for key in left)
    begun = x3.state_dict()
    assert all(torch.equal(begun[key], tensor) for key, tensor in x2.state_dict().items() if key not in left)


@families
def test_nothing_is_taken_from_a_network_of_other_names(family: Family) -> None:
    network = family.network(settings=next(iter(family.tiny.values())), scale=2)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    assert transfer_weights(network, {"conv_1.weight": torch.ones(3)}) == list(before)
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())
