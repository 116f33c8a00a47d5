"""Engine that computes a network by OpenVINO: it is translated and compared once, and compiled for each size of image.

A translation takes tens of seconds and serves every size. Compiled for one size it is 1.3 times as fast as for all, and
that takes about a second; both are cached on disk.

A quantized network is translated in its integer form (`finescale.quantize.integer_form`): layers and products of
attention multiply integers of eight bits, all other operations have the requested precision. On CPUs whose sums of such
products saturate it is translated as it is, and computes in floats what the integers give.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import sys
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from finescale.engines.parity import check_parity
from finescale.engines.translation import to_onnx
from finescale.errors import MissingExtraError
from finescale.networks import Frame, WrappedNetwork
from finescale.quantize import is_quantized, settings_of
from finescale.system.files import whole_file
from finescale.weights.download import cache_folder
from finescale.weights.third_party import ThirdPartyNetwork

MAX_COMPILED = 9
"""Compiled networks in memory at once: the tiles of one image have up to nine sizes."""

MAX_CACHED_BYTES = 2 * 2**30
"""Bytes of cached files on disk; beyond them, the least recently used ones are deleted."""

CHECKED = ((17, 23), (9, 70), (48, 48))
"""Height and width of the images by which a translation is compared: odd ones, a wide one, and whole windows."""

_HINTS = {"float32": "f32", "bf16": "bf16"}
_DIGEST = 32  # bytes of the SHA-256 at the start of a cached file

Shape = tuple[int, ...]

logger = logging.getLogger("finescale")


class OpenVINOEngine:
    """Engine that computes a network on the CPU by OpenVINO, with as many threads as PyTorch has.

    It may be called from several threads. The network is translated at its first use, and the translation is compared
    with it in float32 at several sizes. What was translated, and compiled for a size, is cached in the folder
    ``openvino`` of the cache folder.

    Args:
        network: On the CPU, in evaluation mode; later changes of its weights have no effect.

    Raises:
        MissingExtraError: OpenVINO, or a package for the translation, is not installed.
    """

    def __init__(self, network: Frame | ThirdPartyNetwork) -> None:
        self._openvino = _openvino()
        self._core = self._openvino.Core()
        self._network = network
        self.multiplies_integers = is_quantized(network) and multiplies_bytes_exactly(self._openvino, self._core)
        self._identity = _digest(
            *(
                text.encode()
                for text in (type(network).__name__, str(network.scale), network.settings.model_dump_json())
            ),
            *_contents(network),
            str(self.multiplies_integers).encode(),
            *(path.read_bytes() for path in _sources(network)),
            *(text.encode() for text in (self._openvino.__version__, torch.__version__, platform.platform())),
            self._core.get_property("CPU", "FULL_DEVICE_NAME").encode(),
        )
        self._compiled: OrderedDict[tuple[Shape, str, int], Any] = OrderedDict()
        self._lock = Lock()

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precisions in which it can compute the network on this machine, "float32" first."""
        has_bf16 = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return ("float32", "bf16") if has_bf16 else ("float32",)

    def __call__(self, images: Tensor, *, precision: str) -> Tensor:
        """Upscale images (N, in_channels, H, W); returns float32.

        Raises:
            NumericalError: A translation differs too much from the network.
        """
        if isinstance(self._network, Frame):
            return _infer(self.compiled(tuple(images.shape), precision), images)
        compiled = self.compiled((1, *images.shape[1:]), precision)
        return torch.cat([_infer(compiled, image[None]) for image in images])

    def compiled(self, shape: Shape, precision: str) -> Any:
        """Return the compiled network for a shape (N, C, H, W), from memory, from disk or compiled now.

        Raises:
            NumericalError: The translation differs too much from the network.
        """
        key = shape, precision, torch.get_num_threads()
        with self._lock:
            if key in self._compiled:
                self._compiled.move_to_end(key)
                return self._compiled[key]
            file = cache_folder() / "openvino" / f"{_digest(self._identity, repr(key).encode()).hex()}.blob"
            blob = self._read(file)
            if blob is not None:
                compiled = self._core.import_model(blob, "CPU", self._options(precision))
            else:
                compiled = self._compile(shape, precision)
                self._write(compiled.export_model().getvalue(), file)
            self._compiled[key] = compiled
            if len(self._compiled) > MAX_COMPILED:
                self._compiled.popitem(last=False)
            return compiled

    def _compile(self, shape: Shape, precision: str) -> Any:
        # Code of third parties may compute other constants for each size.
        size = None if isinstance(self._network, Frame) else (shape[2], shape[3])
        model = self._core.read_model(self._translation(size))
        model.reshape(list(shape))
        return self._core.compile_model(model, "CPU", self._options(precision))

    def _translation(self, size: tuple[int, int] | None) -> bytes:
        """Return the network for one size or, by None, every size, from disk or translated now, as an ONNX model."""
        identity = self._identity if size is None else _digest(self._identity, repr(size).encode())
        file = cache_folder() / "openvino" / f"{identity.hex()}.onnx"
        cached = self._read(file)
        if cached is not None:
            return cached
        logger.info("translating the network for OpenVINO; the result is cached")
        translated = translate(self._network, integers=self.multiplies_integers, size=size)
        compiled = self._core.compile_model(self._core.read_model(translated), "CPU", self._options("float32"))
        for checked in CHECKED if size is None else (size,):
            images = torch.rand(1, self._network.in_channels, *checked, generator=torch.Generator().manual_seed(0))
            check_parity(
                self._network, _infer(compiled, images), images, by=f"OpenVINO {self._openvino.__version__}",
                remedy="use engine 'torch'",
            )  # fmt: skip
        self._write(translated, file)
        return translated

    def _options(self, precision: str) -> dict[str, Any]:
        return {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
        }

    def _read(self, file: Path) -> bytes | None:
        """The content of a cached file; None where the file is missing or damaged."""
        try:
            content = file.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        blob = content[_DIGEST:]
        if _digest(blob) != content[:_DIGEST]:
            logger.warning("%s is damaged and will be replaced", file)
            return None
        os.utime(file)  # the time of its last use
        return blob

    def _write(self, blob: bytes, file: Path) -> None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(file) as whole:
                whole.write(_digest(blob))
                whole.write(blob)
            delete_least_recently_used(file.parent)
        except OSError as error:
            logger.warning("%s: cannot be written (%s), so the network is translated again next time", file, error)


def translate(network: Frame | WrappedNetwork, *, integers: bool, size: tuple[int, int] | None = None) -> bytes:
    """Translate a network into a serialized ONNX model, which OpenVINO reads.

    Args:
        network: On the CPU, in evaluation mode; it is left as it is.
        integers: Translate the integer form of a quantized network.
        size: Height and width of the images; None is every size.

    Raises:
        MissingExtraError: A package for the translation is not installed.
    """
    model: bytes = to_onnx(network, integers=integers, size=size).SerializeToString()
    return model


def multiplies_bytes_exactly(openvino: Any, core: Any) -> bool:
    """Whether OpenVINO sums products of bytes exactly on this CPU.

    Without instructions for it (VNNI), CPUs add pairs of such products in 16 bits, which saturate: 2 * 255 * 127
    exceeds 32767. The largest sum that a layer of 64 channels can give shows it.
    """
    from openvino import opset13 as ops

    images = ops.parameter([1, 64], np.float32)
    codes = ops.fake_quantize(images, *map(np.float32, (0, 255, 0, 255)), 256)
    weights = ops.convert(ops.constant(np.full((64, 64), 127, np.int8)), np.float32)
    product = ops.matmul(codes, ops.multiply(weights, ops.constant(np.float32(1))), False, True)
    model = core.compile_model(openvino.Model([product], [images]), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return bool((model(np.full((1, 64), 255, np.float32))[0] == 64 * 255 * 127).all())


def delete_least_recently_used(folder: Path) -> None:
    """Delete the least recently used files of a cache until the others take at most `MAX_CACHED_BYTES`."""
    files = [(path.stat(), path) for ending in ("blob", "onnx") for path in folder.glob(f"*.{ending}")]
    total = 0
    for facts, path in sorted(files, key=lambda file: file[0].st_mtime, reverse=True):
        total += facts.st_size
        if total > MAX_CACHED_BYTES:
            path.unlink(missing_ok=True)


def _infer(compiled: Any, images: Tensor) -> Tensor:
    result: Tensor = torch.from_numpy(compiled.create_infer_request().infer([images.contiguous().numpy()])[0])
    return result


def _openvino() -> Any:
    """The package openvino, or a `MissingExtraError`."""
    try:
        import openvino
    except ImportError:
        raise MissingExtraError(
            "engine 'openvino' needs OpenVINO, which is not installed; pip install 'finescale[export]'"
        ) from None
    return openvino


def _contents(network: Frame | WrappedNetwork) -> Iterable[bytes]:
    """Everything that the network's results depend on, besides the code."""
    yield repr(settings_of(network) if is_quantized(network) else None).encode()
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        yield f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode()
        yield tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _sources(network: Frame | WrappedNetwork) -> list[Path]:
    """The source files that determine what a network computes: ours, and those of its modules from elsewhere."""
    package = Path(__file__).parents[1]
    ours = {path for room in ("layers", "networks", "quantize") for path in (package / room).glob("*.py")}
    ours.add(package / "engines" / "translation.py")
    kinds = {type(module) for module in network.modules()}
    names = {kind.__module__ for kind in kinds if kind.__module__.partition(".")[0] not in ("finescale", "torch")}
    files = {getattr(sys.modules[name], "__file__", None) for name in names}
    return sorted(ours | {Path(file) for file in files if file is not None})


def _digest(*parts: bytes) -> bytes:
    """A SHA-256 of parts and of their lengths."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()
