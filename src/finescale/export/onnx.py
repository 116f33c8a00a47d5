"""ONNX files for ONNX Runtime, OpenVINO and other tools; quantized networks are written with integers (QDQ).

The size of the image is fixed, since padding and the number of windows depend on it. The input is called ``lr``, the
output ``sr``; both are RGB, float32 in [0, 1], (1, C, H, W).

A quantized network is written in its integer form (`finescale.quantize.integer_form`): weights as integers of eight
bits, every quantizer as a pair of QuantizeLinear and DequantizeLinear, which runtimes turn into integer arithmetic.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from finescale.engines.parity import Parity, check_parity
from finescale.errors import MissingExtraError, WeightsError
from finescale.layers.exportable import exportable
from finescale.networks import Frame
from finescale.quantize import integer_form, is_quantized
from finescale.quantize.integers import SIGNED
from finescale.system.files import whole_file

OPSET = 19
"""Version of ONNX's operators; from 21 on, ONNX Runtime 1.31 refuses its own rearrangement of quantized transposes."""


def export_onnx(network: Frame, file: Path, *, size: tuple[int, int]) -> Parity:
    """Write a network for images of one size, after comparing it with what ONNX Runtime computes.

    Args:
        network: Float or quantized, on the CPU.
        file: The ONNX file; it appears once the comparison has succeeded.
        size: Height and width of the images, in lr pixels.

    Returns:
        How close ONNX Runtime comes to the network, in float32 or integers.

    Raises:
        MissingExtraError: onnx, onnxscript or onnxruntime is not installed.
        NumericalError: ONNX Runtime computes other values.
        WeightsError: The file cannot be written.
    """
    runtime = onnx_runtime()
    network = network.eval()
    image = torch.rand(1, network.in_channels, *size, generator=torch.Generator().manual_seed(0))
    form: nn.Module = integer_form(network) if is_quantized(network) else network
    written = _with_integer_weights(_translate(exportable(form, image), image))
    session = runtime.InferenceSession(written, _options(runtime), providers=["CPUExecutionProvider"])
    found = torch.from_numpy(session.run(["sr"], {"lr": image.numpy()})[0])
    parity = check_parity(network, found, image, by=f"ONNX Runtime {runtime.__version__}", remedy="nothing is written")
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


def _translate(network: nn.Module, image: Tensor) -> Any:
    """Translate a network to a model of the package onnx."""
    table: Any = {
        torch.ops.aten.fake_quantize_per_tensor_affine.default: _per_tensor,
        torch.ops.aten.fake_quantize_per_channel_affine.default: _per_channel,
    }
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            network,
            (image,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["lr"],
            output_names=["sr"],
            custom_translation_table=table,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the messages of PyTorch's exporter."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(level)


def _per_tensor(x: Any, step: float, zero: int, lowest: int, _highest: int) -> Any:
    """Translate `torch.fake_quantize_per_tensor_affine`; integers are signed if any is negative."""
    from onnxscript import ir, opset19

    kind = np.int8 if lowest < 0 else np.uint8
    steps, zeros = (
        opset19.Constant(value=ir.tensor(value)) for value in (np.array(step, np.float32), np.array(zero, kind))
    )
    return opset19.DequantizeLinear(opset19.QuantizeLinear(x, steps, zeros), steps, zeros)


def _per_channel(x: Any, step: Any, zero: Any, axis: int, _lowest: int, _highest: int) -> Any:
    """Translate `torch.fake_quantize_per_channel_affine`, for signed integers."""
    from onnxscript import ir, opset19

    zeros = opset19.Cast(zero, to=ir.DataType.INT8)
    codes = opset19.QuantizeLinear(x, step, zeros, axis=axis)
    return opset19.DequantizeLinear(codes, step, zeros, axis=axis)


def _with_integer_weights(model: Any) -> bytes:
    """Serialize a model, with quantized weights stored as the integers that QuantizeLinear would compute."""
    from onnx import numpy_helper

    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    integers: dict[str, str] = {}
    for node in [node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] in tensors]:
        weight, step, zero = (numpy_helper.to_array(tensors[name]) for name in node.input)
        codes = np.rint(weight / step.reshape(-1, *(1,) * (weight.ndim - 1))).clip(-SIGNED, SIGNED).astype(zero.dtype)
        tensors[node.input[0]].CopyFrom(numpy_helper.from_array(codes, node.input[0]))
        integers[node.output[0]] = node.input[0]
        graph.node.remove(node)
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in integers:
                node.input[place] = integers[name]
    del graph.value_info[:]  # types of intermediate values, some of which have changed
    serialized: bytes = model.SerializeToString()
    return serialized


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
