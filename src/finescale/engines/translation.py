"""Translation of networks into programs of `torch.export` and models of ONNX, for images of every size or of one.

Sizes stay free because the network's arithmetic on them is translated with it: windows are counted, images are mirrored
by a gather, and masks are compared from counted places.

A quantized network is translated in its integer form (`finescale.quantize.integer_form`): weights as integers of eight
bits, every quantizer as a pair of QuantizeLinear and DequantizeLinear, which runtimes turn into integer arithmetic.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import logging
import textwrap
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config

from finescale.errors import MissingExtraError
from finescale.layers.exportable import exportable
from finescale.networks import Frame, WrappedNetwork
from finescale.networks.swin import SwinFrame
from finescale.quantize import integer_form, is_quantized
from finescale.quantize.integers import SIGNED

OPSET = 19
"""Version of ONNX's operators; from 21 on, ONNX Runtime 1.31 refuses its own rearrangement of quantized transposes."""

INPUT, OUTPUT = "input", "output"
"""Names of the images that go into an ONNX model and come out of it."""

TRACED = (2, 53, 69)
"""Batch, height and width of the images with which a network for every size is traced: odd ones, of several windows."""

MAX_FOLDED = 4096
"""Elements of a constant that is computed ahead of time; larger ones are left to runtimes, which keeps files small."""

Size = tuple[int, int]


def to_program(network: Frame | WrappedNetwork, *, size: Size | None = None, integers: bool = True) -> ExportedProgram:
    """Translate a network into a program of `torch.export`.

    Args:
        network: Float or quantized, on the CPU, in evaluation mode; it is left as it is.
        size: Height and width of the images, one at a time; None is any number of images of any size.
        integers: Whether a quantized network becomes one of integers; else it computes in floats what they give.

    Raises:
        ValueError: The network takes images of one size alone, and ``size`` is None; or the code of a third-party
            network cannot be translated.
        MissingExtraError: PyTorch is too old for free sizes.
    """
    if size is None and isinstance(network, SwinFrame) and (only := network.settings.positions) is not None:
        raise ValueError(
            f"the network takes images of {only[0]} x {only[1]} pixels alone, for which it has a position embedding; "
            "export it for that size, or use engine 'torch'"
        )
    if "prefer_deferred_runtime_asserts_over_guards" not in inspect.signature(torch.export.export).parameters:
        raise MissingExtraError(f"export needs PyTorch 2.9 or later, this is {torch.__version__}; update it")
    batch, height, width = TRACED if size is None else (1, *size)
    free = None if size is not None else ({0: Dim.AUTO, 2: Dim.AUTO, 3: Dim.AUTO},)
    with _quiet(), torch.inference_mode(False), torch.no_grad(), _config.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
        # The copy too must be made outside a caller's inference mode: the exporter refuses tensors of that mode.
        form = _form(network, integers=integers)
        image = torch.rand(batch, network.in_channels, height, width)
        try:
            program = torch.export.export(
                form, (image,), dynamic_shapes=free, strict=False, prefer_deferred_runtime_asserts_over_guards=True
            )
        except Exception as error:
            if isinstance(network, Frame):
                raise
            reason = textwrap.shorten(f"{type(error).__name__}: {error}", 200, placeholder=" ...")
            remedy = "export it for one size (--size), or use engine 'torch'" if size is None else "use engine 'torch'"
            raise ValueError(f"{network.name} cannot be translated ({reason}); {remedy}") from None
    _drop_assertions(program)
    return program


@functools.cache
def _describe_fake_quantization() -> object:
    """Tell PyTorch the shape of fake-quantized operands, which it knows for stated sizes alone.

    Returns:
        What the registration lives as long as; the cache keeps it.
    """
    operator = "fake_quantize_per_tensor_affine_cachemask"
    if torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{operator}", "Meta"):
        return None

    def shapes(x: Tensor, _step: float, _zero: int, _lowest: int, _highest: int) -> tuple[Tensor, Tensor]:
        return torch.empty_like(x), torch.empty_like(x, dtype=torch.bool)

    library = torch.library.Library("aten", "IMPL", "Meta")  # type: ignore[no-untyped-call]
    library.impl(operator, shapes)  # type: ignore[no-untyped-call]
    return library


def _form(network: Frame | WrappedNetwork, *, integers: bool) -> nn.Module:
    """Return what is traced in place of a network."""
    if isinstance(network, WrappedNetwork):
        network.allow_batches()
    form: nn.Module = network
    if integers and is_quantized(network):
        _describe_fake_quantization()
        form = integer_form(network)
    if isinstance(network, Frame):  # other code may use more of a convolution than its call
        form = exportable(form)
    return form


def _drop_assertions(program: ExportedProgram) -> None:
    """Remove the assertions that an image is as the traced one in what no result depends on, such as a single window.

    What the program computes at other sizes is compared with the network by those who write or use it.
    """
    graph = program.graph
    for node in list(graph.nodes):
        if node.target is torch.ops.aten._assert_scalar.default:
            graph.erase_node(node)
    graph.eliminate_dead_code()
    program.graph_module.recompile()


def to_onnx(network: Frame | WrappedNetwork, *, size: Size | None = None, integers: bool = True) -> Any:
    """Translate a network into a model of the package onnx.

    Args:
        network: As for `to_program`.
        size: As for `to_program`.
        integers: As for `to_program`.

    Returns:
        An ``onnx.ModelProto``; its input and output are called `INPUT` and `OUTPUT`, their free axes "batch",
        "height" and "width".

    Raises:
        MissingExtraError: A package for it is not installed, or PyTorch is too old.
    """
    try:
        import onnx  # noqa: F401
        from onnxscript import optimizer
    except ImportError as error:
        raise MissingExtraError(
            f"export to ONNX needs {error.name}, which is not installed; pip install 'finescale[export]'"
        ) from None
    table: Any = {
        torch.ops.aten.fake_quantize_per_tensor_affine.default: _per_tensor,
        torch.ops.aten.fake_quantize_per_channel_affine.default: _per_channel,
    }
    program = to_program(network, size=size, integers=integers)
    with _quiet(), torch.no_grad():
        translated = torch.onnx.export(
            program,
            (),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            custom_translation_table=table,
            optimize=False,
            verbose=False,
        )
        assert translated is not None
        optimizer.optimize_ir(translated.model, output_size_limit=MAX_FOLDED)
        model = translated.model_proto
    _strip(model.graph)
    if size is None:
        _name_axes(model.graph, scale=network.scale)
    _store_integers(model)
    return model


def _strip(graph: Any) -> None:
    """Remove what no runtime reads, which is larger than a small network's weights: traces of the stack, and shapes."""
    del graph.value_info[:]
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer, graph):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def _name_axes(graph: Any, *, scale: int) -> None:
    """Name the free axes of input and output."""
    by = "" if scale == 1 else f"{scale}*"
    for value, names in (
        (graph.input[0], ("batch", "height", "width")),
        (graph.output[0], ("batch", f"{by}height", f"{by}width")),
    ):
        for axis, name in zip((0, 2, 3), names, strict=True):
            value.type.tensor_type.shape.dim[axis].dim_param = name


def _store_integers(model: Any) -> None:
    """Store quantized weights as the integers that QuantizeLinear would compute."""
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


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the messages of PyTorch's exporter, and the traces that it keeps where anything listens to them."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.__trace", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


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
