"""The evaluation that a published option file for testing describes."""

from __future__ import annotations

from pathlib import Path

from finescale.basicsr.testing import load_option_file
from finescale.evaluate import Execution, Plan, bicubic, labels_of, network_model
from finescale.evaluate.plan import ON_CPU
from finescale.upscale import Upscaler


def plan_option_file(path: Path, *, execution: Execution = ON_CPU) -> Plan:
    """Read an option file, find its pictures and load its network.

    Args:
        path: The file, in the format of BasicSR.
        execution: Device, precision, engine and ensemble, which the file does not state.

    Raises:
        SettingsError: As for `finescale.basicsr.testing.load_option_file`.
        WeightsError: The weight file cannot be used.
        DataError: A folder of pictures does not exist or is empty.
        ValueError: The network is unknown, or a value of ``execution`` is.
        DeviceError: The device does not exist.
    """
    asked = load_option_file(path)
    upscaler = Upscaler(
        asked.network,
        tiling=asked.tiling,
        ensemble=execution.ensemble,
        device=execution.device,
        precision=execution.precision,
        engine=execution.engine,
    )
    (label,) = labels_of([str(asked.weights)])
    return Plan(
        name=asked.name,
        scale=asked.scale,
        models=[
            bicubic(scale=asked.scale),
            network_model(upscaler, label, weights=asked.weights, weights_file=str(asked.weights)),
        ],
        cases=asked.cases,
        protocol=asked.protocol,
        keep_pictures=asked.keep_pictures,
        suffix=asked.suffix,
        visualized=label,
        notes=[f"{path}: without effect here: {', '.join(asked.ignored)}"] if asked.ignored else [],
    )
