"""Networks as files for other runtimes, compared with the original before they are written."""

from finescale.export.onnx import export_onnx, onnx_runtime

__all__ = ["export_onnx", "onnx_runtime"]
