"""OpenVINO as an engine: a network is translated for each size of image, compared, compiled, and kept on disk.

Sizes are fixed, since what a network does depends on them: how it pads, how many windows it cuts. A translation takes
tens of seconds, reading what was kept less than one.

Of a quantized network its integer form is translated, see `finescale.quantize.integer_form`: layers and products of
attention multiply integers of eight bits; what lies between them is in the precision that is asked for.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import warnings
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from finescale.engines.parity import check_parity
from finescale.errors import MissingExtraError
from finescale.layers.exportable import exportable
from finescale.networks import Frame
from finescale.quantize import integer_form, is_quantized, settings_of
from finescale.system.files import whole_file
from finescale.weights.download import cache_folder

MAX_COMPILED = 9
"""Networks in memory at once: tiles of one picture are of up to nine sizes."""

MAX_KEPT = 2 * 2**30
"""Bytes on disk; beyond them, what was not used for longest is deleted."""

_HINTS = {"float32": "f32", "bf16": "bf16"}
_DIGEST = 32  # bytes of the SHA-256 that a kept file begins with

Shape = tuple[int, ...]

logger = logging.getLogger("finescale")


class OpenVINOEngine:
    """Computes a network on the CPU by OpenVINO, with as many threads as PyTorch has.

    It may be called from several threads. Each size of image is translated at its first use, and in float32 the
    translation is compared with the network; what was compiled lies in the folder ``openvino`` of the cache.

    Args:
        network: On the CPU, in evaluation; its weights are those of now.

    Raises:
        MissingExtraError: OpenVINO is not installed.
    """

    def __init__(self, network: Frame) -> None:
        self._openvino = _openvino()
        self._core = self._openvino.Core()
        self._network = network
        self._identity = _digest(
            *(
                text.encode()
                for text in (type(network).__name__, str(network.scale), network.settings.model_dump_json())
            ),
            *_contents(network),
            *(path.read_bytes() for path in _sources()),
            *(text.encode() for text in (self._openvino.__version__, torch.__version__, platform.platform())),
            self._core.get_property("CPU", "FULL_DEVICE_NAME").encode(),
        )
        self._compiled: OrderedDict[tuple[Shape, str, int], Any] = OrderedDict()
        self._lock = Lock()

    @property
    def precisions(self) -> tuple[str, ...]:
        """See `finescale.engines.Engine`."""
        has_bf16 = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return ("float32", "bf16") if has_bf16 else ("float32",)

    def __call__(self, images: Tensor, *, precision: str) -> Tensor:
        """See `finescale.engines.Engine`.

        Raises:
            NumericalError: A translation is too far from the network.
        """
        compiled = self._network_for(tuple(images.shape), precision)
        return self._answer(compiled, images)

    def _answer(self, compiled: Any, images: Tensor) -> Tensor:
        answer: Tensor = torch.from_numpy(compiled.create_infer_request().infer([images.contiguous().numpy()])[0])
        return answer

    def _network_for(self, shape: Shape, precision: str) -> Any:
        """The compiled network for a shape: from memory, from disk or made now."""
        key = shape, precision, torch.get_num_threads()
        with self._lock:
            if key in self._compiled:
                self._compiled.move_to_end(key)
                return self._compiled[key]
            file = cache_folder() / "openvino" / f"{_digest(self._identity, repr(key).encode()).hex()}.blob"
            compiled = self._read(file, precision)
            if compiled is None:
                compiled = self._make(shape, precision)
                self._keep(compiled, file)
            self._compiled[key] = compiled
            if len(self._compiled) > MAX_COMPILED:
                self._compiled.popitem(last=False)
            return compiled

    def _make(self, shape: Shape, precision: str) -> Any:
        logger.info("translating the network for %d x %d pixels; it is kept for next time", *shape[2:])
        image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        model = self._translate(image)
        exact = self._core.compile_model(model, "CPU", self._options("float32"))
        check_parity(
            self._network, self._answer(exact, image), image, by=f"OpenVINO {self._openvino.__version__}",
            remedy="take engine 'torch'",
        )  # fmt: skip
        return exact if precision == "float32" else self._core.compile_model(model, "CPU", self._options(precision))

    def _translate(self, image: Tensor) -> Any:
        from openvino.frontend import FrontEndManager
        from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder
        from openvino.frontend.pytorch.torchdynamo.export_decompositions import ops_to_not_decompose

        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")  # of PyTorch's own code
            network = integer_form(self._network) if is_quantized(self._network) else self._network
            network = exportable(network, image)
            table: Any = torch.export.default_decompositions()
            for operator in ops_to_not_decompose():
                if operator in table:
                    table.pop(operator)
            program = torch.export.export(network, (image,), strict=False).run_decompositions(table)
            # Not openvino.convert_model, which reports each use to its makers.
            frontend = FrontEndManager().load_by_framework("pytorch")
            decoder = TorchFXPythonDecoder(program.module(), dynamic_shapes=False)
            return frontend.convert(frontend.load(decoder))

    def _options(self, precision: str) -> dict[str, Any]:
        return {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
        }

    def _read(self, file: Path, precision: str) -> Any | None:
        """What was kept in a file; None where it is not there, or damaged."""
        try:
            kept = file.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        blob = kept[_DIGEST:]
        if _digest(blob) != kept[:_DIGEST]:
            logger.warning("%s: damaged, made anew", file)
            return None
        os.utime(file)  # used now
        return self._core.import_model(blob, "CPU", self._options(precision))

    def _keep(self, compiled: Any, file: Path) -> None:
        blob = compiled.export_model().getvalue()
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(file) as whole:
                whole.write(_digest(blob))
                whole.write(blob)
            _tidy(file.parent)
        except OSError as error:
            logger.warning("%s: cannot be written (%s), so the network is translated anew next time", file, error)


def _tidy(folder: Path) -> None:
    """Delete the files that were not used for longest, until the others take no more than `MAX_KEPT`."""
    files = [(path.stat(), path) for path in folder.glob("*.blob")]
    total = 0
    for facts, path in sorted(files, key=lambda file: file[0].st_mtime, reverse=True):
        total += facts.st_size
        if total > MAX_KEPT:
            path.unlink(missing_ok=True)


def _openvino() -> Any:
    """The package.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import openvino
    except ImportError:
        raise MissingExtraError(
            "engine 'openvino' needs OpenVINO, which is not installed; pip install 'finescale[export]'"
        ) from None
    return openvino


def _contents(network: Frame) -> Iterable[bytes]:
    """All that the answers depend on, besides the code."""
    yield repr(settings_of(network) if is_quantized(network) else None).encode()
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        yield f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode()
        yield tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _sources() -> list[Path]:
    """The files that say what a network computes."""
    package = Path(__file__).parents[1]
    return sorted(path for room in ("layers", "networks", "quantize") for path in (package / room).glob("*.py"))


def _digest(*parts: bytes) -> bytes:
    """A SHA-256 of parts, in which it counts where one ends."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()
