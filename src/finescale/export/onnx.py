"""ONNX files for ONNX Runtime, OpenVINO and other tools; quantized networks are written with integers (QDQ).

One file takes images of every size, any number at a time. The input is called ``input``, the output ``output``; both
are RGB, float32 in [0, 1], (N, C, H, W). What the file is stands in its metadata, see `finescale.export.metadata`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from finescale.engines.parity import Parity
from finescale.engines.translation import INPUT, OUTPUT, to_onnx
from finescale.errors import MissingExtraError, WeightsError
from finescale.export.checking import check
from finescale.export.metadata import metadata_of
from finescale.networks import Frame
from finescale.quantize import is_quantized
from finescale.system.files import whole_file
from finescale.weights.third_party import ThirdPartyNetwork

HALF_TOLERANCE = 2e-2
"""Largest difference allowed for weights in half precision, relative to the largest value where that is above 1."""

_HALF_ELEMENTS = 64
"""Smaller tensors stay in float32: offsets, norms and factors, which are few and on which all values depend."""


def export_onnx(
    network: Frame | ThirdPartyNetwork,
    file: Path,
    *,
    size: tuple[int, int] | None = None,
    half: bool = False,
    source: str | None = None,
    licence: str | None = None,
) -> Parity:
    """Write a network as ONNX, after comparing it with what ONNX Runtime, and OpenVINO where installed, compute.

    Args:
        network: Float or quantized, on the CPU.
        file: The ONNX file; it appears once the comparison has succeeded.
        size: Height and width of the images, in lr pixels, for runtimes that take no other; None is every size.
        half: Store matrices and kernels in float16; they are computed with in float32.
        source: Where the weights come from, for the metadata.
        licence: Of the weights, for the metadata.

    Returns:
        How close ONNX Runtime comes to the network, in float32 or integers, at the worst of several sizes.

    Raises:
        ValueError: The network takes one size alone, and ``size`` is None; or half precision for a quantized one.
        MissingExtraError: onnx, onnxscript or onnxruntime is not installed.
        NumericalError: A runtime computes other values.
        WeightsError: The file cannot be written.
    """
    runtime = onnx_runtime()
    import onnx

    if half and is_quantized(network):
        raise ValueError("half must be False for a quantized network, whose weights are integers")
    network = network.eval()
    model = to_onnx(network, size=size)
    for name, fact in metadata_of(network, source=source, licence=licence).items():
        model.metadata_props.add(key=name, value=fact)
    if half:
        _halve(model)
    onnx.checker.check_model(model, full_check=True)
    written: bytes = model.SerializeToString()
    session = runtime.InferenceSession(written, _options(runtime), providers=["CPUExecutionProvider"])

    def by_onnx_runtime(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])

    tolerance = HALF_TOLERANCE if half else None
    parity = check(network, by_onnx_runtime, size=size, by=f"ONNX Runtime {runtime.__version__}", tolerance=tolerance)
    openvino = _by_openvino(written, is_quantized(network))
    if openvino is not None:
        check(network, openvino, size=size, by="OpenVINO", tolerance=tolerance)
    try:
        with whole_file(file) as whole:
            whole.write(written)
    except OSError as error:
        raise WeightsError(f"{file}: cannot be written ({error.strerror})") from None
    return parity


def _options(runtime: Any) -> Any:
    """Options by which ONNX Runtime computes a file as it is written.

    By default it multiplies integers in kernels of its own, whose sums saturate on CPUs with AVX2 but without VNNI.
    """
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return options


def _by_openvino(model: bytes, quantized: bool) -> Callable[[Tensor], Tensor] | None:
    """OpenVINO with a serialized model; None where it is not installed, or where its sums of integers saturate."""
    try:
        import openvino
    except ImportError:
        return None
    from finescale.engines.openvino import multiplies_bytes_exactly

    core = openvino.Core()
    if quantized and not multiplies_bytes_exactly(openvino, core):
        return None
    compiled = core.compile_model(core.read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: torch.from_numpy(compiled([images.numpy()])[0])


def _halve(model: Any) -> None:
    """Store matrices and kernels in float16, where their values fit, each with a cast to float32 behind it."""
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size < _HALF_ELEMENTS or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    for cast in reversed(casts):
        graph.node.insert(0, cast)


def onnx_runtime() -> Any:
    """Import ONNX Runtime, after checking that all packages for an export are installed.

    Raises:
        MissingExtraError: A package is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"export to ONNX needs {error.name}, which is not installed; pip install 'finescale[export]'"
        ) from None
    return onnxruntime
