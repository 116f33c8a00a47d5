"""How good a result is (PSNR, SSIM)."""

from finescale.metrics.planes import Channel
from finescale.metrics.psnr import psnr
from finescale.metrics.ssim import ssim

__all__ = ["Channel", "psnr", "ssim"]
