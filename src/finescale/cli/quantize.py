"""``finescale quantize``: a network at 2, 3, 4, 6 or 8 bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finescale.cli import console, options
from finescale.cli.console import say
from finescale.cli.progress import bars

if TYPE_CHECKING:
    from finescale.quantize import QuantizationResult, QuantSettings, Trace
    from finescale.weights import Loaded


def quantize(
    network: options.Network,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="A new .safetensors file.")
    ] = None,
    scale: options.Scale = None,
    bits: Annotated[int | None, typer.Option(help="2, 3, 4, 6 or 8, of weights and activations.")] = None,
    calibration: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Pictures like those that will be upscaled; no originals.")
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(metavar="LAYERS", help="Layers that keep 8 bits: first, last, paths with *; separated by commas."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="auto (default): the best by measurement; dual, minmax, percentile, density or search."),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Only print what whole methods reach, their time and file size.")
    ] = False,
    epochs: Annotated[int | None, typer.Option(help="Epochs of the refinement; default: 10; 0: none.")] = None,
    start: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The same network, quantized: refine its ranges, in place of finding any."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="published, ptq4sr or 2dquant: the settings of authors; --set overrides them."),
    ] = None,
    crops: Annotated[
        int | None, typer.Option(min=1, help="How many parts of the pictures to learn from; default: 32.")
    ] = None,
    crop_size: Annotated[int | None, typer.Option(min=8, help="Side of a part, in pixels; default: 48.")] = None,
    seed: options.Seed = 0,
    sensitivity: Annotated[
        bool,
        typer.Option("--sensitivity", help="Also list the error that each layer causes when it alone is quantized."),
    ] = False,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Any other setting of the quantization; may be repeated."),
    ] = None,
    device: options.CpuByDefault = "cpu",
    offline: options.Offline = False,
    overwrite: options.ReplaceFile = False,
    as_json: options.AsJson = False,
    _threads: options.Threads = None,
) -> None:
    """Convert a network's numbers to small integers, with ranges learned from a few pictures."""
    from finescale import weights
    from finescale.networks import Frame
    from finescale.quantize import QuantSettings, is_quantized, quantize_network
    from finescale.quantize.crops import HELD_OUT
    from finescale.quantize.run import FASTER_FROM_CHANNELS
    from finescale.settings import parse_settings
    from finescale.system.files import sha256

    _check_output(output, compare=compare, overwrite=overwrite)
    values = _values(bits, keep=keep, method=method, epochs=epochs, recipe=recipe, overrides=overrides or [])
    auto = start is None and recipe is None and "method" not in values
    if method == "auto" and not auto:
        raise typer.BadParameter("--method auto and --recipe, --start or --set method=... are mutually exclusive")
    if calibration is not None:
        crops, crop_size = _sampling(calibration, crops, crop_size, recipe=recipe)
    settings = None if bits is None or start is not None else parse_settings(QuantSettings, values, source="quantize")
    started = None if start is None else weights.load(start)
    if started is not None:
        settings = _settings_from(started, values)
    with console.messages_of_the_library():
        loaded = weights.load_named(network, scale=scale, device=device, offline=offline)
    source = loaded.header.get("source", loaded.path.name)
    if is_quantized(loaded.network):
        if compare or (bits, calibration, start) != (None, None, None):
            raise typer.BadParameter(
                f"{network} is quantized already; omit --bits and --calibration to convert its file, or refine it by "
                "--start, with its float network as -n"
            )
        assert output is not None
        weights.save(loaded.network, output, source=source)
        say(f"weights: {output}")
        return
    if settings is None or calibration is None:
        raise typer.BadParameter("give --bits 2, 3, 4, 6 or 8, and --calibration, a folder of pictures")
    if crops is None:
        say(f"pictures of {calibration}: all of one size, taken whole, to learn from and to measure on")
    else:
        say(f"{crops} crops of {crop_size}x{crop_size} pixels of {calibration}; {HELD_OUT} more to measure on")
    if output is None:
        _compare(loaded, calibration, settings, crops=crops, crop_size=crop_size, seed=seed, as_json=as_json)
        return
    state = output.with_name(f"{output.name}.partial")
    if state.exists():
        say(f"resuming from {state}")
    float_bytes = sum(4 * tensor.numel() for tensor in loaded.network.state_dict().values())
    with _watched(state) as on_progress:
        result = quantize_network(
            loaded.network, calibration, settings, auto=auto, crops=crops, crop_size=crop_size, seed=seed,
            start=None if started is None else started.network, with_sensitivity=sensitivity, state=state,
            weights_sha256=sha256(loaded.path), on_progress=on_progress,
        )  # fmt: skip
    weights.save(loaded.network, output, source=source, licence=loaded.header.get("licence"))
    report = _report(loaded, result, output=output, float_bytes=float_bytes)
    if as_json:
        console.print_json(report)
    else:
        _print(result)
    if result.traced is not None:
        _say_found(result.traced)
    say(f"weights: {output}, {report['bytes']:,} bytes instead of {report['float_bytes']:,}")
    if result.settings.keep != settings.keep:
        say("note: the first and last layer have 8 bits, which comes closer to the float network")
    better = result.better_method
    if better is not None:
        say(
            f"note: ranges by {better} come closer to the float network, {result.fidelity[better]:.2f} dB, than these, "
            f"{result.reached:.2f} dB; --method {better} starts with them"
        )
    width = loaded.network.settings.embed_dim if isinstance(loaded.network, Frame) else None
    if width is not None and width < FASTER_FROM_CHANNELS:
        say(f"note: with {width} channels the file is smaller, but integers gain little or no time over bf16")


def _check_output(output: Path | None, *, compare: bool, overwrite: bool) -> None:
    """Refuse a file that cannot be written, and one beside a comparison, which writes none."""
    if compare:
        if output is not None:
            raise typer.BadParameter(f"--compare writes no file; omit -o {output}")
    elif output is None:
        raise typer.BadParameter("give -o, a new .safetensors file, or --compare")
    else:
        console.check_new_file(output, suffix=".safetensors", overwrite=overwrite)


def _values(
    bits: int | None,
    *,
    keep: str | None,
    method: str | None,
    epochs: int | None,
    recipe: str | None,
    overrides: list[str],
) -> dict[str, Any]:
    """Return the fields of `QuantSettings` that the flags set."""
    from finescale.quantize import RECIPES
    from finescale.quantize import recipe as recipe_for
    from finescale.settings import read_overrides

    if bits not in (None, 2, 3, 4, 6, 8):
        raise typer.BadParameter(f"--bits must be 2, 3, 4, 6 or 8, got {bits}")
    if recipe is not None and recipe not in RECIPES:
        raise typer.BadParameter(f"--recipe must be {', '.join(RECIPES)}, got {recipe!r}")
    flags = {
        "bits": bits,
        "keep": None if keep is None else options.names_of(keep),
        "method": None if method == "auto" else method,
        "epochs": epochs,
    }
    stated = {name: value for name, value in flags.items() if value is not None}
    of_authors = {} if recipe is None else recipe_for(recipe, bits=bits or 4)
    return {**of_authors, **stated, **read_overrides(overrides)}


def _sampling(
    calibration: Path, crops: int | None, crop_size: int | None, *, recipe: str | None
) -> tuple[int | None, int | None]:
    """Return how many parts of the pictures to take, and their side; None for patches that are taken whole."""
    from finescale.quantize import calibration_pictures, find_patches
    from finescale.quantize.crops import CROP_SIZE, CROPS, PUBLISHED_CROPS

    if crops is None and crop_size is None and find_patches(calibration):
        return None, None
    count, side = (CROPS, CROP_SIZE) if recipe is None else PUBLISHED_CROPS[recipe]
    crops, crop_size = crops or count, crop_size or side
    calibration_pictures(calibration, side=crop_size)
    return crops, crop_size


def _settings_from(started: Loaded, values: dict[str, Any]) -> QuantSettings:
    """Return the settings of a refinement of a quantized network.

    Raises:
        ValueError: It is not quantized, or was quantized otherwise than the flags state.
    """
    from finescale.quantize import is_quantized, settings_from

    if not is_quantized(started.network):
        raise ValueError(f"{started.path}: not quantized; name a file that finescale quantize wrote, with --epochs 0")
    try:
        return settings_from(started.network, values)
    except ValueError as error:
        raise ValueError(f"{started.path}: {error}") from None


def _compare(
    loaded: Loaded,
    calibration: Path,
    settings: QuantSettings,
    *,
    crops: int | None,
    crop_size: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Print what whole methods reach; each network is saved for a moment, which shows the size of its file."""
    from rich.table import Table

    from finescale import weights
    from finescale.networks import Frame
    from finescale.quantize import compare
    from finescale.weights.third_party import ThirdPartyNetwork

    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder, _watched(None) as on_progress:
        file = Path(folder) / "quantized.safetensors"
        for one in compare(
            loaded.network, calibration, settings, crops=crops, crop_size=crop_size, seed=seed, on_progress=on_progress
        ):
            assert isinstance(one.network, Frame | ThirdPartyNetwork)  # as what was loaded
            weights.save(one.network, file, source=loaded.path.name)
            facts = {"fidelity_db": one.fidelity, "seconds": one.seconds, "bytes": file.stat().st_size}
            rows.append({"method": one.name, **facts})
            file.unlink()
    if as_json:
        console.print_json({"family": loaded.family, "variant": loaded.variant, "scale": loaded.scale, "methods": rows})
        return
    table = Table("method", "PSNR to float, dB", "seconds", "bytes", box=None, pad_edge=False)
    for row in rows:
        table.add_row(row["method"], f"{row['fidelity_db']:.2f}", f"{row['seconds']:.0f}", f"{row['bytes']:,}")
    console.print_tables(table)


def _report(loaded: Loaded, result: QuantizationResult, *, output: Path, float_bytes: int) -> dict[str, Any]:
    return {
        "output": str(output),
        "family": loaded.family,
        "variant": loaded.variant,
        "scale": loaded.scale,
        "settings": result.settings.model_dump(mode="json"),
        "fidelity_db": dict(result.fidelity),
        "losses": list(result.losses),
        "sensitivity": dict(result.sensitivity),
        "traced": None if result.traced is None else _traced(result.traced),
        "bytes": output.stat().st_size,
        "float_bytes": float_bytes,
    }


def _traced(traced: Trace) -> dict[str, Any]:
    """Return what was found in a third-party network, and what of it stays in float."""
    products = {path: len(operands) for path, operands in traced.products.items()}
    return {"layers": list(traced.layers), "products": products, "in_float": dict(traced.in_float)}


def _print(result: QuantizationResult) -> None:
    from rich.table import Table

    fidelity = Table("ranges", "PSNR to float, dB", box=None, pad_edge=False)
    for name, value in result.fidelity.items():
        fidelity.add_row(f"{name}, chosen" if name == result.settings.method else name, f"{value:.2f}")
    tables = [fidelity]
    if result.sensitivity:
        costs = Table("quantized alone", "mean squared difference", box=None, pad_edge=False)
        for layer, cost in result.sensitivity.items():
            costs.add_row(layer, f"{cost:.3g}")
        tables.append(costs)
    if result.traced is not None and result.traced.in_float:
        kept = Table("stays in float", "why", box=None, pad_edge=False)
        for path, reason in result.traced.in_float.items():
            kept.add_row(path, reason)
        tables.append(kept)
    console.print_tables(*tables)


def _say_found(traced: Trace) -> None:
    """Print how much was found in a third-party network."""
    products = sum(len(operands) for operands in traced.products.values())
    say(
        f"found: {len(traced.layers)} layers and {products} products to quantize, the network's result and "
        f"{len(traced.in_float)} parts stay in float"
    )


@contextmanager
def _watched(state: Path | None) -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar for each stage, without a terminal a line when it is done; on an interrupt, how to resume."""
    try:
        with bars() as shown:

            def on_progress(stage: str, done: int, total: int) -> None:
                shown.show(stage, done, total)
                if done == total and not shown.are_drawn:
                    say(f"{stage}: done")

            yield on_progress
    except KeyboardInterrupt:
        if state is not None and state.exists():
            say(f"{state} stores the progress; run the same command to continue")
        raise
