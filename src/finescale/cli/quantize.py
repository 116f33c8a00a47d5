"""``finescale quantize``: a network at 4, 6 or 8 bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finescale.cli import console
from finescale.cli.console import say

if TYPE_CHECKING:
    from finescale.networks import Frame
    from finescale.quantize import Material, Outcome, QuantSettings
    from finescale.weights import Loaded

HELD_OUT = 8
"""Crops that are measured on alone."""

WIDE = 100
"""Channels from which integers are faster than bf16 on CPUs, roughly: not with 60, 1.3 times with 180."""


def quantize(
    network: Annotated[str, typer.Option("-n", "--network", metavar="MODEL", help="A known network or a weight file.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="A new .safetensors file.")],
    scale: Annotated[int | None, typer.Option("-s", "--scale", help="2, 3 or 4; default that of the network.")] = None,
    bits: Annotated[int | None, typer.Option(help="4, 6 or 8, of weights and activations.")] = None,
    calibration: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Pictures like those that will be upscaled; no originals.")
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(metavar="LAYERS", help="Layers that keep 8 bits: first, last, paths with *; separated by commas."),
    ] = None,
    method: Annotated[str | None, typer.Option(help="dual (default), minmax or percentile.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Rounds of refinement; default 10, 0 for none.")] = None,
    crops: Annotated[int, typer.Option(min=1, help="How many parts of the pictures to learn from.")] = 32,
    crop_size: Annotated[int, typer.Option(min=8, help="Their side, in pixels.")] = 48,
    seed: Annotated[int, typer.Option(min=0, help="Which parts.")] = 0,
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", help="Also tell what each layer costs when it alone is quantized.")
    ] = False,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Any other setting of the quantization; may be repeated."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")] = "cpu",
    offline: Annotated[bool, typer.Option("--offline", help="Use downloaded weights only.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a report on standard output.")] = False,
) -> None:
    """Turn a network's numbers into small integers, with ranges learned from a few pictures."""
    from finescale import weights
    from finescale.quantize import is_quantized

    console.check_new_file(output, suffix=".safetensors", overwrite=overwrite)
    with console.messages_of_the_library():
        loaded = weights.load_named(network, scale=scale, device=device, offline=offline)
    if is_quantized(loaded.network):
        if (bits, calibration) != (None, None):
            raise typer.BadParameter(
                f"{network} is quantized already; without --bits and --calibration it is converted"
            )
        weights.save(loaded.network, output, source=_source(loaded))
        say(f"weights: {output}")
        return
    if bits is None or calibration is None:
        raise typer.BadParameter("give --bits 4, 6 or 8, and --calibration, a folder of pictures")
    settings = _settings(bits=bits, keep=keep, method=method, epochs=epochs, overrides=overrides or [])
    report = _quantize(
        loaded, settings, output=output, calibration=calibration, crops=crops, side=crop_size, seed=seed,
        with_sensitivity=sensitivity,
    )  # fmt: skip
    if as_json:
        console.print_json(report)
    else:
        _print(report)
    say(f"weights: {output}, {report['bytes']:,} bytes in place of {report['float_bytes']:,}")
    _tell_better_ranges(settings.method, report["fidelity_db"])
    width = loaded.network.settings.embed_dim
    if width < WIDE:
        say(f"note: with {width} channels the file is smaller, but integers gain little or no time over bf16")


def _settings(
    *, bits: int, keep: str | None, method: str | None, epochs: int | None, overrides: list[str]
) -> QuantSettings:
    from finescale.quantize import QuantSettings
    from finescale.settings import parse_settings, read_overrides

    if bits not in (4, 6, 8):
        raise typer.BadParameter(f"--bits must be 4, 6 or 8, got {bits}")
    flags = {
        "bits": bits,
        "keep": None if keep is None else [name.strip() for name in keep.split(",") if name.strip()],
        "method": method,
        "epochs": epochs,
    }
    values = {name: value for name, value in flags.items() if value is not None} | read_overrides(overrides)
    return parse_settings(QuantSettings, values, source="quantize")


def _quantize(
    loaded: Loaded,
    settings: QuantSettings,
    *,
    output: Path,
    calibration: Path,
    crops: int,
    side: int,
    seed: int,
    with_sensitivity: bool,
) -> dict[str, Any]:
    """Do it, and tell what was reached."""
    from finescale import quantize as room
    from finescale import weights
    from finescale.networks import FAMILIES
    from finescale.system.files import sha256

    network, family = loaded.network, FAMILIES[loaded.family]
    device = next(network.parameters()).device
    material = _material(network, loaded.family, calibration, crops=crops, side=side, seed=seed, device=device)
    placement = family.quantization.placement(network.settings)
    identity = {"weights": sha256(loaded.path), "crops": _digest(material), "seed": seed}
    state = output.with_name(f"{output.name}.partial")
    if state.exists():
        say(f"going on from {state}")
    float_bytes = sum(4 * tensor.numel() for tensor in network.state_dict().values())
    say(f"{crops} crops of {side}x{side} pixels of {calibration}; {HELD_OUT} more to measure on")
    with _resumable(state), _progress() as on_progress:
        outcome = room.quantize_network(
            network, material, placement, settings, state=state, identity=identity, on_progress=on_progress
        )
        costs: Mapping[str, float] = {}
        if with_sensitivity:
            costs = room.sensitivity(
                network, [material.held_out], on_layer=lambda done, total: on_progress("sensitivity", done, total)
            )
    weights.save(network, output, source=_source(loaded), licence=loaded.header.get("licence"))
    return _report(loaded, settings, outcome, costs, output=output, float_bytes=float_bytes)


def _material(network: Frame, family: str, folder: Path, *, crops: int, side: int, seed: int, device: Any) -> Material:
    """The crops, extended as the authors' test code does where it does."""
    from finescale.evaluate.models import extended
    from finescale.networks import FAMILIES
    from finescale.quantize import Material, calibration_crops

    padding = FAMILIES[family].publication.test_padding
    multiple = padding(network.settings) if padding else 0
    drawn = calibration_crops(folder, count=crops + HELD_OUT, side=side, seed=seed, channels=network.in_channels)
    # Every so many-th is held out, so that both parts are spread over the pictures.
    every = len(drawn) // HELD_OUT
    held_out = [number % every == every - 1 and number // every < HELD_OUT for number in range(len(drawn))]
    return Material(
        images=drawn[[not out for out in held_out]].to(device),
        held_out=drawn[held_out].to(device),
        extend=lambda images: extended(images, multiple),
    )


def _digest(material: Material) -> str:
    from hashlib import sha256

    return sha256(material.images.cpu().numpy().tobytes() + material.held_out.cpu().numpy().tobytes()).hexdigest()


def _source(loaded: Loaded) -> str:
    return loaded.header.get("source", loaded.path.name)


def _report(
    loaded: Loaded,
    settings: QuantSettings,
    outcome: Outcome,
    costs: Mapping[str, float],
    *,
    output: Path,
    float_bytes: int,
) -> dict[str, Any]:
    return {
        "output": str(output),
        "family": loaded.family,
        "variant": loaded.variant,
        "scale": loaded.scale,
        "settings": settings.model_dump(mode="json"),
        "fidelity_db": dict(outcome.fidelity),
        "losses": list(outcome.losses),
        "sensitivity": dict(costs),
        "bytes": output.stat().st_size,
        "float_bytes": float_bytes,
    }


def _print(report: Mapping[str, Any]) -> None:
    from rich.table import Table

    chosen = report["settings"]["method"]
    fidelity = Table("ranges", "PSNR to float, dB", box=None, pad_edge=False)
    for name, value in report["fidelity_db"].items():
        fidelity.add_row(f"{name}, taken" if name == chosen else name, f"{value:.2f}")
    tables = [fidelity]
    if report["sensitivity"]:
        costs = Table("quantized alone", "mean squared difference", box=None, pad_edge=False)
        for layer, cost in report["sensitivity"].items():
            costs.add_row(layer, f"{cost:.3g}")
        tables.append(costs)
    console.print_tables(*tables)


def _tell_better_ranges(taken: str, fidelity: Mapping[str, float]) -> None:
    """Names other ranges, where they as they are come nearer to the float network than all that was made of these."""
    from finescale.quantize import REFINED

    reached = fidelity.get(REFINED, fidelity[taken])
    best = max(fidelity.keys() - {taken, REFINED}, key=lambda name: fidelity[name])
    if fidelity[best] > reached:
        say(
            f"note: ranges by {best} come nearer to the float network, {fidelity[best]:.2f} dB, than these, "
            f"{reached:.2f} dB; --method {best} begins with them"
        )


@contextmanager
def _resumable(state: Path) -> Iterator[None]:
    """Says where it goes on when it is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        if state.exists():
            say(f"{state} keeps what is done; the same command goes on there")
        raise


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each stage on a terminal, else a line when one is done."""
    if not console.errors().is_terminal:
        yield lambda stage, done, total: say(f"{stage}: done") if done == total else None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console.errors(), transient=True) as progress:
        tasks: dict[str, Any] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage)
            progress.update(tasks[stage], completed=done, total=total)

        yield show
