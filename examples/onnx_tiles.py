"""Upscale a picture of any size by an ONNX file of `finescale export`, in tiles; numpy and onnxruntime suffice.

    python onnx_tiles.py default_x4.onnx picture.ppm upscaled.ppm [TILE]

Pictures are binary PPM files (P6) of 8 bits. Tiles are cut and merged as by `finescale upscale --tile TILE`.
"""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnxruntime


def spans(length, tile, overlap, period):
    """Cut one axis into spans of at most `tile` pixels: (start, stop, first and last pixel of the fade-in)."""
    step = max((tile - overlap) // period * period, 0)
    if step == 0:
        return spans(length, tile, overlap, 1)
    count = max(1, -(-(length - overlap) // step))
    side = -(-(length + (count - 1) * overlap) // count)
    even = [index * (length - side) // max(count - 1, 1) for index in range(count)]
    starts = [start // period * period for start in even]
    if length - starts[-1] > tile:
        starts = [-(-start // period) * period for start in even]
    side = max([side, *(after - before + overlap for before, after in pairwise(starts))])
    stops = [*(min(length, start + side) for start in starts[:-1]), length]
    most = 1.1 * (sum(stops) - sum(starts))
    for more in (count, count + 1) if count > 1 else ():  # equal spans, where they have at most a tenth more pixels
        least = -(-(length + (more - 1) * overlap) // more)
        for side in range(least + (length - least) % period, min(tile, length) + 1, period):
            periods = (length - side) // period
            if -(-periods // (more - 1)) * period + overlap <= side:
                break
        else:
            continue
        if more * side <= most:
            starts = [index * periods // (more - 1) * period for index in range(more)]
            stops = [start + side for start in starts]
            break
    fade = (overlap + 1) // 2
    seams = [start + (stop - start - fade) // 2 for stop, start in zip(stops, starts[1:], strict=False)]
    fades = [(0, 0), *((seam, seam + fade) for seam in seams)]
    return list(zip(starts, stops, fades, strict=True))


def weights(spans, index, scale):
    """Weight of each upscaled pixel of a span: it fades in from the one before and out to the one behind."""
    start, stop, _ = spans[index]
    centre = np.arange(start * scale, stop * scale) + 0.5

    def ramp(first, last):
        return 0.5 - 0.5 * np.cos(np.pi * np.clip((centre - first * scale) / max((last - first) * scale, 1), 0, 1))

    rise = ramp(*spans[index][2]) if index else np.ones_like(centre)
    return rise - (ramp(*spans[index + 1][2]) if index + 1 < len(spans) else 0)


def upscale(session, picture, tile=None):
    """Upscale a picture (height, width, 3) of uint8, by the facts that the file states of itself."""
    facts = session.get_modelmeta().custom_metadata_map
    scale, period, tile = int(facts["scale"]), int(facts["period"]), tile or int(facts["tile"])
    image = picture.astype(np.float32).transpose(2, 0, 1)[None] / 255
    rows, columns = (spans(side, tile, min(int(facts["overlap"]), tile // 4), period) for side in image.shape[2:])
    canvas = np.zeros((3, image.shape[2] * scale, image.shape[3] * scale), np.float32)
    for y, (top, bottom, _) in enumerate(rows):
        for x, (left, right, _) in enumerate(columns):
            (sr,) = session.run(["output"], {"input": np.ascontiguousarray(image[:, :, top:bottom, left:right])})
            weight = weights(rows, y, scale)[:, None] * weights(columns, x, scale)
            canvas[:, top * scale : bottom * scale, left * scale : right * scale] += sr[0] * weight
    return (canvas.clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)


if __name__ == "__main__":
    model, source, target, *tile = sys.argv[1:]
    content = Path(source).read_bytes()
    magic, width, height, most = content[:100].split()[:4]
    assert (magic, most) == (b"P6", b"255"), "the picture must be a PPM file (P6) of 8 bits, without a comment"
    shape = int(height), int(width), 3
    picture = np.frombuffer(content[-shape[0] * shape[1] * 3 :], np.uint8).reshape(shape)
    upscaled = upscale(onnxruntime.InferenceSession(model), picture, *map(int, tile))
    Path(target).write_bytes(b"P6 %d %d 255\n" % upscaled.shape[1::-1] + upscaled.tobytes())
