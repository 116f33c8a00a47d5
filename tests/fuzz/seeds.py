"""Small whole files of every format that finescale reads, to be damaged."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyvips
import torch
from PIL import Image

from finescale import save
from finescale.networks import FAMILIES, Frame
from quantizing import quantize

WIDTH, HEIGHT = 26, 18


def _levels(seed: int, *, dtype: type = np.uint8, channels: int = 3) -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    waves = [np.sin(0.3 * x + 0.2 * (seed + channel) * y) for channel in range(channels)]
    return (np.stack(waves, -1) * 0.4 + 0.5).clip(0, 1).__mul__(np.iinfo(dtype).max).astype(dtype)


def _pillow(kind: str, image: Image.Image | None = None, **options: object) -> bytes:
    file = io.BytesIO()
    (image or Image.fromarray(_levels(1))).save(file, kind, **options)
    return file.getvalue()


def _vips(suffix: str, *, dtype: type = np.uint8, channels: int = 3, **options: object) -> bytes:
    return bytes(
        pyvips.Image.new_from_array(_levels(2, dtype=dtype, channels=channels)).write_to_buffer(suffix, **options)
    )


def _png() -> list[bytes]:
    palette = Image.fromarray(_levels(3)).quantize(16)
    return [
        _pillow("PNG"),
        _pillow("PNG", palette, transparency=3),
        _vips(".png", interlace=True),
        _vips(".png", dtype=np.uint16, channels=4),
    ]


def _jpeg() -> list[bytes]:
    return [_pillow("JPEG"), _pillow("JPEG", progressive=True), _pillow("JPEG", Image.fromarray(_levels(1)[..., 0]))]


def _webp() -> list[bytes]:
    return [_pillow("WEBP"), _pillow("WEBP", lossless=True), _pillow("WEBP", Image.fromarray(_levels(1, channels=4)))]


def _tiff() -> list[bytes]:
    return [
        _vips(".tif", compression="deflate"),
        _vips(".tif", compression="lzw", tile=True, tile_width=16, tile_height=16),
        _vips(".tif", dtype=np.uint16),
        _pillow("TIFF"),
    ]


def _gif() -> list[bytes]:
    frames = [Image.fromarray(_levels(seed)).quantize(16) for seed in (1, 2)]
    return [_pillow("GIF", frames[0]), _pillow("GIF", frames[0], save_all=True, append_images=frames[1:])]


def _avif() -> list[bytes]:
    return [_vips(".avif"), _vips(".avif", channels=4)]


def _bmp() -> list[bytes]:
    image = Image.fromarray(_levels(1))
    plain = [_pillow("BMP"), _pillow("BMP", image.quantize(16)), _pillow("BMP", image.convert("1"))]
    return [*plain, _run_length_coded(), _with_masks()]


def _run_length_coded() -> bytes:
    """A BMP of 8 bits in runs (BI_RLE8): each row is one run of a colour, an end of line, and at last an end."""
    rows = b"".join(bytes((WIDTH, row % 4, 0, 0)) for row in range(HEIGHT)) + b"\0\1"
    palette = bytes(range(16))
    header = struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, 8, 1, len(rows), 0, 0, 4, 0)
    start = 14 + len(header) + len(palette)
    return struct.pack("<2sIHHI", b"BM", start + len(rows), 0, 0, start) + header + palette + rows


def _with_masks() -> bytes:
    """A BMP of 16 bits, of which masks take 5, 6 and 5 for red, green and blue (BI_BITFIELDS)."""
    levels = _levels(2).astype(np.uint16)
    pixels = ((levels[..., 0] >> 3) << 11 | (levels[..., 1] >> 2) << 5 | levels[..., 2] >> 3).astype("<u2").tobytes()
    header = struct.pack("<IiiHHIIiiII", 40, WIDTH, -HEIGHT, 1, 16, 3, len(pixels), 0, 0, 0, 0)
    masks = struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    start = 14 + len(header) + len(masks)
    return struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start) + header + masks + pixels


def _heic() -> list[bytes]:
    import pillow_heif

    files = []
    for quality in (60, -1):
        file = io.BytesIO()
        pillow_heif.from_pillow(Image.fromarray(_levels(1))).save(file, quality=quality)
        files.append(file.getvalue())
    return files


PICTURES: Mapping[str, Callable[[], Sequence[bytes]]] = {
    "png": _png, "jpg": _jpeg, "webp": _webp, "tif": _tiff, "gif": _gif, "avif": _avif, "bmp": _bmp,
    "heic": _heic,
}  # fmt: skip
"""Formats of pictures by their suffix."""


def tiny_network() -> Frame:
    """A network of a few thousand parameters at x2, with fixed random weights."""
    torch.manual_seed(0)
    family = FAMILIES["hit-sr"]
    return family.network(settings=family.tiny["hit-sir"], scale=2)


def weight_files(folder: Path) -> Mapping[str, Sequence[bytes]]:
    """Formats of weight files by a name of theirs; written below a folder."""
    network = tiny_network()
    save(network, folder / "seed.safetensors", source="a test")
    state = network.state_dict()
    torch.save({"params_ema": state}, folder / "seed.pth")
    quantized = tiny_network().eval()
    quantize(quantized, FAMILIES["hit-sr"], torch.rand(1, 3, 16, 16), bits=4)
    save(quantized, folder / "quantized.safetensors", source="a test")
    torch.save({"params": state}, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    return {
        "safetensors": [(folder / "seed.safetensors").read_bytes()],
        "quantized.safetensors": [(folder / "quantized.safetensors").read_bytes()],
        "pth": [(folder / "seed.pth").read_bytes()],
        "legacy.pth": [(folder / "legacy.pth").read_bytes()],
    }


SETTINGS = b"""\
# A training.
name: fuzz
variant: hit-sir
network: {embed_dim: 16, depths: [2, 1], num_heads: [2, 1], base_window: [4, 4], window_ratios: [0.5, 2]}
scale: 2
data:
  hr: &folders [pictures]
  patch: 8
train: {batch: 4, iterations: 12, lr: 2e-3, milestones: [8], seed: !!int 12}
validation: {hr: pictures, every: 4, pictures: 0}
keep: {every: 5, log_every: 2}
"""
"""A settings file of a training, in YAML."""
