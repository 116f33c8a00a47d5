"""Upscaling of whole images and of batches of files: tiling within a memory budget, blending, x8 self-ensemble."""

from finescale.upscale.ensemble import self_ensemble
from finescale.upscale.tiling import Span, Tile, Tiling, plan_chop, plan_tiles, plan_whole
from finescale.upscale.upscaler import OnTile, Upscaler

__all__ = ["OnTile", "Span", "Tile", "Tiling", "Upscaler", "plan_chop", "plan_tiles", "plan_whole", "self_ensemble"]
