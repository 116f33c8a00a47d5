"""Networks as files for other runtimes, compared with the original before they are written."""

from finescale.export.metadata import metadata_of
from finescale.export.onnx import export_onnx, onnx_runtime
from finescale.export.program import export_program

__all__ = ["export_onnx", "export_program", "metadata_of", "onnx_runtime"]
