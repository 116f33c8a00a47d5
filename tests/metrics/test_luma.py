from __future__ import annotations

import pytest
import torch
from skimage.color import rgb2ycbcr

from finescale.metrics.luma import rgb_to_y


def test_luma_is_matlabs() -> None:
    rgb = torch.rand(2, 3, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 255
    expected = rgb2ycbcr(rgb.numpy() / 255, channel_axis=1)[:, :1]
    torch.testing.assert_close(rgb_to_y(rgb), torch.from_numpy(expected), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("grey", "luma"), [(0.0, 16.0), (255.0, 235.0), (51.0, 16 + 219 / 5)])
def test_grey_spans_the_studio_range(grey: float, luma: float) -> None:
    assert rgb_to_y(torch.full((3, 1, 1), grey, dtype=torch.float64)).item() == pytest.approx(luma, abs=1e-12)


def test_the_dtype_is_kept() -> None:
    assert rgb_to_y(torch.zeros(3, 2, 2)).dtype == torch.float32


def test_anything_but_three_floating_point_channels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"RGB of shape \(\.\.\., 3, H, W\), got \(1, 4, 4\)"):
        rgb_to_y(torch.zeros(1, 4, 4))
    with pytest.raises(ValueError, match=r"floating point values from 0 to 255, got torch.uint8"):
        rgb_to_y(torch.zeros(3, 4, 4, dtype=torch.uint8))
