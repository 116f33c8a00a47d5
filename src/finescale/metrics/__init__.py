"""Quality of a result (PSNR, SSIM), and cost of a network."""

from finescale.metrics.planes import Channel
from finescale.metrics.psnr import psnr
from finescale.metrics.ssim import ssim

__all__ = ["Channel", "psnr", "ssim"]
