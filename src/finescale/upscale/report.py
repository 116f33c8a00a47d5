"""Report on one input of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from finescale.system.jobs import FileReport
from finescale.system.places import Place
from finescale.upscale.compression import Compression
from finescale.upscale.flaws import Flaw
from finescale.upscale.noise import Noise


@dataclass(frozen=True)
class UpscaleReport(FileReport[Place]):
    """Outcome of upscaling one image, with its sizes and its time where the image was upscaled now."""

    input_size: tuple[int, int] | None = None
    output_size: tuple[int, int] | None = None
    seconds: float | None = None
    depth: int | None = None
    """Bits per channel of the input, 8 or 16."""
    profile: str | None = None
    """Name of the input's colour profile; None where there is none, which stands for sRGB."""
    flaw: Flaw | None = None
    """Visible compression or noise of the input; None where there is none, or it was not looked for."""
    network: str | None = None
    """Name of the network that upscaled it; None where the network has none, or nothing was upscaled."""

    @property
    def output(self) -> Place | None:
        """The result, made now or kept."""
        return self.outputs[0] if self.outputs else None

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain values, sizes as (height, width)."""
        return {
            "input": str(self.input),
            "output": None if self.output is None else str(self.output),
            "status": self.status,
            "reason": self.reason,
            "notes": list(self.notes),
            "input_size": self.input_size,
            "output_size": self.output_size,
            "seconds": self.seconds,
            "depth": self.depth,
            "profile": self.profile,
            "compression": str(self.flaw) if isinstance(self.flaw, Compression) else None,
            "noise": round(self.flaw.level, 1) if isinstance(self.flaw, Noise) else None,
            "network": self.network,
        }
