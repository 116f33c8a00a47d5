"""What half precision costs in quality: bf16's and fp16's answers against float32's; prints a table, writes a file.

Usage: python benchmarks/precision.py DATA [VARIANT...] [--size 64]      DATA holds Set5/HR, Set5/LR_bicubic/X4, ...

The bundled network is trained: its loss is measured against the originals of Set5 as well. The other variants have the
fixed random weights of the golden cases. Their answers are no images, so what is told is a signal-to-noise ratio: the
float32 answer's variance over the mean squared difference. A body whose answer explodes under such weights is weakened
to a deviation of 1 by its last convolution, or no head could hold it in float16.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from statistics import mean

import torch
from record import write_results
from torch import Tensor

import finescale
from finescale import Tiling, Upscaler, read_image
from finescale.data import benchmark_pairs
from finescale.engines import DTYPES
from finescale.metrics import psnr
from finescale.networks import Frame, variants

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from helpers import seeded_tensor

PRECISIONS = ("bf16", "fp16")
LARGEST = 100.0
"""Deviation of the body's answer above which it is weakened to 1."""


def seeded(variant: str) -> Frame:
    """A variant at x4 with the weights of the golden cases."""
    network = finescale.build(variant, scale=4).eval()
    state = {}
    for key, tensor in network.state_dict().items():
        value = seeded_tensor(key, tensor.shape) if tensor.is_floating_point() else tensor
        state[key] = 1 + value.abs() if key.endswith(".running_var") else value
    network.load_state_dict(state)
    return network


def weaken(network: Frame, image: Tensor) -> bool:
    """Bring a body whose answer explodes back to a deviation of 1, by its last convolution; whether that was done."""
    answers: list[Tensor] = []
    handle = network.conv_after_body.register_forward_hook(lambda _layer, _input, answer: answers.append(answer))
    with torch.inference_mode():
        network(image)
    handle.remove()
    deviation = float(answers[0].std())
    if deviation > LARGEST:
        with torch.no_grad():
            for parameter in network.conv_after_body.parameters():
                parameter.div_(deviation)
    return deviation > LARGEST


@torch.inference_mode()
def answer(network: Frame, image: Tensor, precision: str) -> Tensor:
    """The network's answer as `Upscaler` computes it, neither clamped nor, where it is not finite, computed anew."""
    with torch.autocast(image.device.type, dtype=DTYPES[precision], enabled=precision != "float32"):
        result: Tensor = network(image)
    return result.float()


def ratio_db(noisy: Tensor, exact: Tensor) -> float | None:
    """The exact answer's variance over the mean squared difference, in dB; None where the noisy one is not finite."""
    if not noisy.isfinite().all():
        return None
    return round(10 * math.log10(exact.var() / (noisy - exact).square().mean()), 1)


def measure_variant(variant: str, image: Tensor) -> dict[str, object]:
    """Signal-to-noise ratios of one variant with random weights."""
    network = seeded(variant)
    weakened = weaken(network, image)
    exact = answer(network, image, "float32")
    ratios = {f"{p}_ratio_db": ratio_db(answer(network, image, p), exact) for p in PRECISIONS}
    return {"variant": variant, "scale": 4, "weakened": weakened, **ratios}


def measure_bundled(root: Path, scale: int) -> dict[str, object]:
    """Mean over Set5 of the bundled network's PSNR to its own float32 result, and of its loss against the originals."""
    pairs = benchmark_pairs(root, "Set5", scale=scale)
    images = [[read_image(path).pixels.expand(3, -1, -1) for path in (pair.hr, pair.lr) if path] for pair in pairs]

    def upscaled(precision: str) -> list[Tensor]:
        upscaler = Upscaler.from_pretrained(
            "default",
            scale=scale,
            tiling=Tiling(tile=0),
            precision=precision,  # type: ignore[arg-type]
        )
        return [upscaler(lr) for _, lr in images]

    def quality(results: list[Tensor]) -> float:
        return mean(
            psnr(sr, hr[:, : sr.shape[1], : sr.shape[2]], border=scale)
            for sr, (hr, _) in zip(results, images, strict=True)
        )

    exact = upscaled("float32")
    row: dict[str, object] = {"variant": "default", "scale": scale, "psnr_db": round(quality(exact), 4)}
    for precision in PRECISIONS:
        results = upscaled(precision)
        errors = [(sr - reference).square().mean() for sr, reference in zip(results, exact, strict=True)]
        row[f"{precision}_to_float32_db"] = round(mean(-10 * math.log10(error) for error in errors), 1)
        row[f"{precision}_loss_db"] = round(quality(exact) - quality(results), 4)
    return row


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("variants", nargs="*", default=list(variants()))
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    trained = [measure_bundled(arguments.data, scale) for scale in (2, 3, 4)]
    print("| network | scale | float32 PSNR | bf16 to float32 | fp16 to float32 | bf16 loss | fp16 loss |")
    print("|---|---|---|---|---|---|---|")
    for row in trained:
        print(
            f"| {row['variant']} | x{row['scale']} | {row['psnr_db']:.2f} | {row['bf16_to_float32_db']} | "
            f"{row['fp16_to_float32_db']} | {row['bf16_loss_db']:+.4f} | {row['fp16_loss_db']:+.4f} |"
        )

    head = next(pair for pair in benchmark_pairs(arguments.data, "Set5", scale=2) if pair.hr.stem == "head")
    assert head.lr is not None
    image = read_image(head.lr).pixels[None, :, : arguments.size, : arguments.size]
    print("\n| network | bf16 | fp16 |\n|---|---|---|")
    rows = []
    for variant in arguments.variants:
        rows.append(row := measure_variant(variant, image))
        print(
            f"| {variant}{' (weakened)' if row['weakened'] else ''} | {row['bf16_ratio_db']} | {row['fp16_ratio_db']} |"
        )

    write_results(
        "precision", {"size": arguments.size, "trained": trained, "random_weights": rows}, threads=arguments.threads
    )


if __name__ == "__main__":
    main()
