"""Networks as files for other runtimes, compared with the network before they take their name."""

from finescale.export.onnx import export_onnx

__all__ = ["export_onnx"]
