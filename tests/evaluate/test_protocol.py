from __future__ import annotations

import pytest
from pydantic import ValidationError

from finescale.errors import DataError
from finescale.evaluate import PAPERS, PROTOCOLS, Protocol, protocol_named
from finescale.metrics import psnr, ssim
from small_sets import picture


def test_the_papers_measure_rounded_luma_inside_a_border_of_the_scale() -> None:
    sr, hr = (picture(30, 40, seed=seed).float() / 255 for seed in (0, 1))
    assert PAPERS.scores(sr, hr, scale=3) == (psnr(sr, hr, border=3), ssim(sr, hr, border=3))


def test_each_other_protocol_differs_from_the_papers_in_one_thing_and_gives_other_values() -> None:
    sr = picture(30, 40).float() / 255 + 0.4 / 255
    hr = picture(30, 40, seed=1).float() / 255
    values = {protocol.name: protocol.scores(sr, hr, scale=3) for protocol in PROTOCOLS.values()}
    assert values.pop("network-padding") == values["papers"]
    assert len(set(values.values())) == len(values) == 4
    for protocol in PROTOCOLS.values():
        changed = [name for name, value in protocol if value != getattr(PAPERS, name)]
        assert len(changed) == (0 if protocol is PAPERS else 2)


def test_wrong_rules_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"no protocol is called 'paper' \(did you mean 'papers'\?\); known: papers, rgb"
    ):
        protocol_named("paper")
    with pytest.raises(ValidationError, match="border"):
        Protocol(border=-1)
    with pytest.raises(DataError, match="SSIM needs 11 pixels a side inside a border of 4, 10 are left"):
        PAPERS.scores(picture(18, 40) / 255, picture(18, 40) / 255, scale=4)
