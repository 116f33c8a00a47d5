"""What a CUDA device is asked, section by section; each runs in a process of its own, which `gpu.py` starts.

Usage: python benchmarks/gpu_sections.py SECTION --device cuda [--tiny] --seconds 60

Prints one JSON object: rows, and the bounds that were missed. With ``--tiny`` networks and images are small.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

import finescale
from finescale import Tiling, Upscaler
from finescale.engines import build_engine
from finescale.networks import FAMILIES, Frame, variants
from finescale.train import TrainSettings, train
from finescale.train.progress import TrainingProgress
from finescale.upscale.memory import LiveBytes
from finescale.weights import load_by_spandrel

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from helpers import GOLDEN, exactness, load_case, network_of  # noqa: E402  # golden cases lie with the tests

LEAST_DB = {"tf32": 50.0, "bf16": 30.0, "fp16": 40.0}
"""Least PSNR in dB of an answer to that in float32, whose largest value is the peak."""

GIB = 2**30
RTX_4090 = {
    "craft": 0.17, "hit-sir": 0.19, "hit-sng": 0.21, "hit-srf": 0.235, "dat-light": 1.56, "dat-s": 1.77, "dat": 3.5,
    "drct": 5.4, "drct-l": 10.7,
}  # fmt: skip
"""Seconds for 640x480 to x4 that the community reports, by the published code."""

BESIDE = ("span", "swinir-light", "swinir", "srformer-light", "hat-s", "hat")
"""Networks for which nothing is reported."""


@dataclass
class Asked:
    """What is measured where, and until when."""

    device: torch.device
    tiny: bool
    end: float
    rows: list[dict[str, Any]] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    @property
    def on_cuda(self) -> bool:
        return self.device.type == "cuda"

    def in_time(self, what: str) -> bool:
        """Whether there is time left; what is left out is stated."""
        if time.monotonic() < self.end:
            return True
        self.rows.append({"subject": what, "left_out": "no time left"})
        return False

    def expect(self, held: bool, sentence: str) -> None:
        if not held:
            self.missed.append(sentence)

    def wait(self) -> None:
        if self.on_cuda:
            torch.cuda.synchronize(self.device)


# ---- golden cases


def golden(asked: Asked) -> None:
    """Every golden case in float32, within its tolerance, and in lower precisions, in dB to float32."""
    files = [path for family in FAMILIES for path in sorted((GOLDEN / family).glob("*.npz"))]
    if asked.tiny:
        small = [path for path in files if "tiny" in path.stem]
        files = [next(path for path in small if path.parent.name == family) for family in FAMILIES]
    for path in files:
        name = f"{path.parent.name}/{path.stem}"
        if asked.in_time(name):
            asked.rows.append(_golden_row(asked, path, name))


@torch.inference_mode()
def _golden_row(asked: Asked, path: Path, name: str) -> dict[str, Any]:
    case = load_case(path)
    network = network_of(case)
    exact, allowed = exactness(case)
    image = case.input.to(asked.device)
    _allow_tf32(False)
    answer = network.to(asked.device, exact)(image.to(exact))
    difference = float((answer.cpu() - case.output).abs().max())
    asked.expect(difference <= allowed, f"{name}: float32 differs by {difference:.1e}, allowed {allowed:.1e}")
    row = {"subject": name, "float32": difference, "allowed": allowed}
    if exact is torch.float64:  # whose weights amplify rounding too much for lower precisions to tell anything
        return row
    engine = build_engine("torch", network, device=asked.device)
    for precision in ("tf32", "bf16", *(("fp16",) if asked.on_cuda else ())):
        if precision != "tf32" and precision not in engine.precisions:
            continue
        _allow_tf32(precision == "tf32")
        lower = engine(image, precision="float32" if precision == "tf32" else precision)
        row[f"{precision}_db"] = reached = _db(lower, answer)
        asked.expect(reached >= LEAST_DB[precision], f"{name}: {precision} reaches {reached:.1f} dB to float32")
    return row


def _allow_tf32(allowed: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


def _db(found: Tensor, expected: Tensor) -> float:
    """PSNR in dB; minus infinity where a value is not finite."""
    if not found.isfinite().all():
        return -math.inf
    error = float((found - expected).square().mean().sqrt())
    return math.inf if error == 0 else round(20 * math.log10(float(expected.abs().max()) / error), 1)


# ---- tests


def tests(asked: Asked) -> None:
    """The tests marked ``gpu``; without a device they are skipped."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/test_gpu.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    asked.rows.append({"subject": "pytest -m gpu", "result": done.stdout.strip().splitlines()[-1]})
    asked.expect(done.returncode == 0, "pytest -m gpu failed: " + done.stdout[-1000:])


# ---- memory


def planner(asked: Asked) -> None:
    """Tiles by the planner under limits of memory: nothing runs out, most of the limit is used, a mistake is mended."""
    network, size = _network("hit-srf", asked), (96, 96) if asked.tiny else (1500, 1500)
    total = torch.cuda.get_device_properties(asked.device).total_memory if asked.on_cuda else 0
    for gib in (4, 8, 24) if asked.on_cuda else (0.02,):
        limit = int(gib * GIB)
        if asked.on_cuda and limit > total:
            asked.rows.append({"subject": f"{gib} GiB", "left_out": "the device has less"})
            continue
        if asked.on_cuda:
            torch.cuda.empty_cache()
            torch.cuda.set_per_process_memory_fraction(limit / total, asked.device)
        tiling = Tiling() if asked.on_cuda else Tiling(max_memory=limit)
        upscaler = Upscaler(network, device=asked.device, tiling=tiling)
        tile = upscaler.first_tile(size)
        peak = _peak(asked, lambda upscaler=upscaler: upscaler(torch.rand(3, *size)))
        asked.rows.append({"subject": f"{gib} GiB", "tile": tile, "peak_bytes": peak, "share": round(peak / limit, 2)})
        asked.expect(peak <= limit, f"{gib} GiB: {peak:,} bytes were used")
        asked.expect(
            not asked.on_cuda or peak >= 0.6 * limit, f"{gib} GiB: {peak / limit:.0%} of the limit was used, asked 60%"
        )
    if asked.on_cuda:
        _planner_recovers(asked, network, size)
        torch.cuda.set_per_process_memory_fraction(1.0, asked.device)


def _planner_recovers(asked: Asked, network: Frame, size: tuple[int, int]) -> None:
    """A plan for a hundred times the memory that there is ends in smaller tiles."""
    upscaler = Upscaler(network, device=asked.device, tiling=Tiling(tile=1024))
    total = torch.cuda.get_device_properties(asked.device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, GIB / total), asked.device)
    answer = upscaler(torch.rand(3, *size))
    asked.expect(bool(answer.isfinite().all()), "tiles that were too large: the answer is not finite")
    asked.rows.append({"subject": "tiles that are too large", "result": "smaller ones were taken"})


def memory(asked: Asked) -> None:
    """The peak does not grow with the picture."""
    network = _network("hit-srf", asked)
    tile, sides = (32, (64, 96, 128)) if asked.tiny else (256, (512, 1024, 2048))
    upscaler = Upscaler(network, device=asked.device, tiling=Tiling(tile=tile))
    peaks = []
    for side in sides:
        peaks.append(_peak(asked, lambda side=side: upscaler(torch.rand(3, side, side))))
        asked.rows.append({"subject": f"{side}x{side}", "peak_bytes": peaks[-1]})
    if asked.on_cuda:
        asked.expect(peaks[-1] <= 1.05 * peaks[0], f"the peak grows from {peaks[0]:,} to {peaks[-1]:,} bytes")


def _peak(asked: Asked, run: Callable[[], object]) -> int:
    """The most bytes of tensors at once: the allocator's on CUDA, else those that operations create."""
    if asked.on_cuda:
        torch.cuda.reset_peak_memory_stats(asked.device)
        run()
        return torch.cuda.max_memory_allocated(asked.device)
    live = LiveBytes()
    with live:
        run()
    return live.peak


# ---- training


def training(asked: Asked) -> None:
    """A training in bf16 and fp16, interrupted in its middle and resumed."""
    steps = 4 if asked.tiny else 50
    for precision in ("bf16", *(("fp16",) if asked.on_cuda else ())):
        if not asked.in_time(precision):
            continue
        with tempfile.TemporaryDirectory() as name:
            losses = _trained(Path(name), asked, precision=precision, steps=steps)
        ends = {"first_loss": losses[0], "last_loss": losses[-1]}
        asked.rows.append({"subject": precision, "steps": len(losses), **ends})
        asked.expect(len(losses) == steps, f"{precision}: {len(losses)} of {steps} steps were done")
        asked.expect(all(map(math.isfinite, losses)), f"{precision}: a loss is not finite")


def _trained(folder: Path, asked: Asked, *, precision: str, steps: int) -> list[float]:
    (folder / "hr").mkdir()
    for number in range(4):
        finescale.write_image(folder / "hr" / f"{number}.png", _smooth((96, 96), seed=number))
    settings = TrainSettings.model_validate(
        {
            "name": precision,
            "output": folder,
            "variant": "hit-srf",
            "network": variants()["hit-srf"].tiny["hit-srf"].model_dump(mode="json") if asked.tiny else {},
            "scale": 4,
            "data": {"hr": [folder / "hr"], "patch": 8 if asked.tiny else 24},
            "train": {"batch": 4, "iterations": steps, "precision": precision},
            "keep": {"log_every": 1},
        }
    )
    losses: list[float] = []

    def note(progress: TrainingProgress) -> None:
        losses.append(math.nan if progress.loss is None else progress.loss)
        if len(losses) == steps // 2:
            signal.raise_signal(signal.SIGINT)

    for resume in (False, True):
        with contextlib.suppress(KeyboardInterrupt):
            train(settings, resume=resume, device=str(asked.device), on_step=note)
    return losses


# ---- time


def speed(asked: Asked) -> None:
    """640x480 to x4 by every variant, precision and way to run it, and by spandrel's code of the same network."""
    names = ["hit-srf"] if asked.tiny else [*RTX_4090, *BESIDE]
    size = (24, 32) if asked.tiny else (480, 640)
    for name in names:
        if asked.in_time(name):
            row = {"subject": name, "rtx_4090_by_published_code": None if asked.tiny else RTX_4090.get(name)}
            asked.rows.append({**row, **_times(asked, name, size)})


@torch.inference_mode()
def _times(asked: Asked, name: str, size: tuple[int, int]) -> dict[str, Any]:
    network, image = _network(name, asked), _smooth(size)[None].to(asked.device)
    upscaler = Upscaler(network, device=asked.device)
    tile = upscaler.first_tile(size)
    if tile:  # forwards of one tile; the whole picture is that of `upscale`
        image = image[..., :tile, :tile]
    engine = build_engine("torch", network, device=asked.device)
    found: dict[str, Any] = {"tile": tile, "whole_picture": _seconds(asked, lambda: upscaler(_smooth(size)))}
    for precision in engine.precisions if asked.on_cuda else ("float32", "bf16"):
        if precision in engine.precisions:
            found[precision] = _seconds(asked, lambda precision=precision: engine(image, precision=precision))
    several = image.expand(4, -1, -1, -1).contiguous()
    fast = "bf16" if "bf16" in engine.precisions else "float32"
    with _noted(found, "batch of 4, each"):
        found["batch of 4, each"] = _seconds(asked, lambda: engine(several, precision=fast)) / 4
    if asked.on_cuda:
        network.to(memory_format=torch.channels_last)
        last = image.to(memory_format=torch.channels_last)
        found["channels last"] = _seconds(asked, lambda: engine(last, precision=fast))
        network.to(memory_format=torch.contiguous_format)
        with _noted(found, "CUDA graph"):
            found["CUDA graph"] = _seconds(asked, _graphed(engine, image, fast))
        if time.monotonic() < asked.end - 60:
            with _noted(found, "compiled"):
                compiled = build_engine("compile", network, device=asked.device)
                found["compiled"] = _seconds(asked, lambda: compiled(image, precision=fast))
    with _noted(found, "spandrel"):
        theirs = _by_spandrel(network, name, asked)
        found["spandrel"] = _seconds(asked, lambda: theirs(image))
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in found.items()}


@contextlib.contextmanager
def _noted(found: dict[str, Any], what: str) -> Iterator[None]:
    """State in the row why something could not be measured."""
    try:
        yield
    except Exception as error:  # whatever an engine or others' code raises is the finding
        found[what] = f"{type(error).__name__}: {str(error).splitlines()[0][:100] if str(error) else ''}"


def _graphed(engine: Callable[..., Tensor], image: Tensor, precision: str) -> Callable[[], object]:
    for _ in range(3):
        engine(image, precision=precision)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        engine(image, precision=precision)
    return graph.replay


def _by_spandrel(network: Frame, name: str, asked: Asked) -> nn.Module:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{name}.safetensors"
        finescale.save(network, file, source="a benchmark", published_buffers=True)
        return load_by_spandrel(file, device=str(asked.device)).network.eval()


def _seconds(asked: Asked, run: Callable[[], object]) -> float:
    """The median of three runs, after one that is not timed."""
    taken = []
    for _ in range(4):
        asked.wait()
        start = time.perf_counter()
        run()
        asked.wait()
        taken.append(time.perf_counter() - start)
    return median(taken[1:])


# ---- copies


def copies(asked: Asked) -> None:
    """Tiles to the device and results back: one after the other, and by pinned memory beside computing."""
    if not asked.on_cuda:
        asked.rows.append({"subject": "copies", "left_out": "no copies on a CPU"})
        return
    network = _network("hit-srf", asked)
    engine = build_engine("torch", network, device=asked.device)
    tiles = [_smooth((256, 256), seed=seed)[None] for seed in range(8)]
    pinned = [tile.pin_memory() for tile in tiles]
    stream = torch.cuda.Stream(asked.device)

    def plainly() -> None:
        for tile in tiles:
            engine(tile.to(asked.device), precision="bf16").cpu()

    def beside() -> None:
        results = []
        for tile in pinned:
            with torch.cuda.stream(stream):
                moved = tile.to(asked.device, non_blocking=True)
            torch.cuda.current_stream().wait_stream(stream)
            results.append(engine(moved, precision="bf16").to("cpu", non_blocking=True))
        torch.cuda.synchronize()

    with torch.inference_mode():
        asked.rows.append({"subject": "one after the other", "seconds": round(_seconds(asked, plainly), 4)})
        asked.rows.append({"subject": "beside computing", "seconds": round(_seconds(asked, beside), 4)})


# ---- whole calls


def folder(asked: Asked) -> None:
    """A folder by the command line: the share of the time in which the device computes."""
    from finescale.cli.main import run

    number, size = (2, (24, 32)) if asked.tiny else (20, (480, 640))
    with tempfile.TemporaryDirectory() as name:
        inputs = Path(name) / "inputs"
        inputs.mkdir()
        for seed in range(number):
            finescale.write_image(inputs / f"{seed}.png", _smooth(size, seed=seed))
        words = ["upscale", str(inputs), "-n", "default", "--device", str(asked.device), "--overwrite"]
        assert run([*words, "-o", str(Path(name) / "first")]) == 0  # imports and kernels are loaded
        activities = [torch.profiler.ProfilerActivity.CPU]
        if asked.on_cuda:
            activities = [torch.profiler.ProfilerActivity.CUDA]
        start = time.perf_counter()
        with torch.profiler.profile(activities=activities) as profile:
            assert run([*words, "-o", str(Path(name) / "second")]) == 0
        seconds = time.perf_counter() - start
    busy = sum(event.self_device_time_total for event in profile.key_averages()) / 1e6 if asked.on_cuda else None
    share = None if busy is None else round(busy / seconds, 2)
    asked.rows.append({"subject": f"{number} pictures", "seconds": round(seconds, 2), "share_of_device": share})
    asked.expect(share is None or share >= 0.9, f"the device works {share or 0:.0%} of the time, asked 90%")


# ----


def _network(name: str, asked: Asked) -> Frame:
    family = variants()[name]
    settings = family.tiny[name] if asked.tiny else family.variants[name]
    torch.manual_seed(0)
    return family.network(settings=settings, scale=4).eval().to(asked.device)


def _smooth(size: tuple[int, int], *, seed: int = 0) -> Tensor:
    noise = torch.rand(1, 3, *(math.ceil(side / 8) for side in size), generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(noise, size=size, mode="bicubic").clamp(0, 1)[0]


SECTIONS = {section.__name__: section for section in (golden, tests, planner, memory, training, speed, copies, folder)}


def main() -> None:
    """Run a section and print what it found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("section", choices=SECTIONS)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--seconds", type=float, default=60)
    given = parser.parse_args()
    asked = Asked(torch.device(given.device), given.tiny, time.monotonic() + given.seconds)
    with mock.patch.dict("os.environ", {"FINESCALE_CACHE": tempfile.gettempdir()}):
        SECTIONS[given.section](asked)
    print(json.dumps({"rows": asked.rows, "missed": asked.missed}))


if __name__ == "__main__":
    main()
