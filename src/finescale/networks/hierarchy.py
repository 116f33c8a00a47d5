"""Conversion of networks with windowed attention to hierarchical ones, the general method of the HiT-SR paper.

X. Zhang, Y. Zhang, F. Yu, "HiT-SR: Hierarchical Transformer for Efficient Image Super-Resolution", ECCV 2024.

Shell, widths, depths, heads and feed-forward layers of a network stay. Each of its layers becomes a
`finescale.layers.hierarchical.HierarchicalLayer`: windows grow from layer to layer of a group in place of one shifted
window, and spatial-channel correlation takes the place of softmax attention. SwinIR-light, SwinIR-NG and SRFormer-light
become HiT-SIR, HiT-SNG and HiT-SRF.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from finescale.layers.windows import Size
from finescale.networks.frame import FrameSettings
from finescale.networks.hit_sr import HiTSRSettings
from finescale.networks.ngram import SwinIRNGSettings
from finescale.networks.srformer import SRFormerSettings
from finescale.networks.swin import SwinSettings
from finescale.networks.swinir import SwinIRSettings
from finescale.settings import mistakes_of

_SWITCHES: Mapping[type[FrameSettings], Mapping[str, Any]] = {
    SwinIRSettings: {},
    SwinIRNGSettings: {"context": "ngram"},
    SRFormerSettings: {"feed_forward": "conv"},
}
"""What a network keeps of its own, by the class of its settings."""

_KEPT = (
    "in_channels", "image_range", "mean", "embed_dim", "depths", "num_heads", "mlp_ratio", "patch_norm", "upsampler",
    "residual_conv",
)  # fmt: skip
"""Fields that both networks have."""


def is_convertible(settings: FrameSettings) -> bool:
    """Whether `hierarchical` takes a network with these settings."""
    return type(settings) in _SWITCHES and getattr(settings, "position_size", None) is None


def hierarchical(
    settings: FrameSettings, *, base_window: Size = (8, 8), window_ratios: Sequence[float] = (0.5, 1, 2, 4, 6, 8)
) -> HiTSRSettings:
    """Return the settings of the hierarchical network that takes the place of one with windowed attention.

    What belongs to the attention alone is dropped: ``window_size``, ``shifted``, ``qkv_bias``, ``qk_scale``,
    ``shift_mask``; and ``drop_path_rate``, since no layer of a hierarchical network is skipped in training.

    Args:
        settings: Of a SwinIR, SwinIR-NG or SRFormer network.
        base_window: Window (height, width) that larger windows are pooled to, in lr pixels. The paper takes 8x8 for all
            three, whose own windows are 8 and 16.
        window_ratios: Window of each layer of a group, as a multiple of the base window, at least one for each layer.

    Raises:
        ValueError: There is no such conversion, or no hierarchical network of these sizes.
    """
    if type(settings) not in _SWITCHES:
        known = ", ".join(kind.__name__ for kind in _SWITCHES)
        raise ValueError(f"settings must be one of {known}, got {type(settings).__name__}")
    assert isinstance(settings, SwinSettings)
    if settings.position_size is not None:
        raise ValueError(f"position_size must be None for a hierarchical network, got {settings.position_size}")
    kept = {field: getattr(settings, field) for field in _KEPT}
    windows = {"base_window": base_window, "window_ratios": tuple(window_ratios)}
    try:
        return HiTSRSettings(**kept, **windows, **_SWITCHES[type(settings)])
    except ValidationError as error:
        raise ValueError(mistakes_of(HiTSRSettings, error)) from None
