"""``finescale analyze``: what networks take, what they look at, and figures of both."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from finescale.cli import console, options
from finescale.cli.progress import bars

if TYPE_CHECKING:
    from rich.table import Table

    from finescale.analyze.costs import Comparison, CostRow
    from finescale.analyze.plot import Axis

analyze = typer.Typer(
    help="Tell what networks take, what they look at, and draw figures of both.",
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)


@analyze.callback(invoke_without_command=True)
def _analyze(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(1)


# ---- cost


@analyze.command()
def cost(
    models: options.Networks = None,
    every: Annotated[bool, typer.Option("--all", help="Every published variant.")] = False,
    scale: options.FixedScale = 4,
    input_size: Annotated[
        str | None, typer.Option("--input", metavar="HxW", help="Height and width of the input, such as 64x64.")
    ] = None,
    output_size: Annotated[
        str | None,
        typer.Option(
            "--output", metavar="WxH", help="Width and height of the result; default 1280x720, and --input 64x64."
        ),
    ] = None,
    timed: Annotated[
        bool | None, typer.Option("--time/--no-time", help="Measure time and memory; default for -n, not for --all.")
    ] = None,
    runs: Annotated[int, typer.Option(help="Forwards that are timed, after one that is not.")] = 5,
    device: options.CpuByDefault = "cpu",
    as_json: options.AsJson = False,
) -> None:
    """Count parameters and multiply-adds, and measure time and memory, beside what the authors publish."""
    if bool(models) == every:
        raise typer.BadParameter("say which networks: -n MODEL, once or more, or --all")
    if input_size is not None and output_size is not None:
        raise typer.BadParameter("--input and --output exclude one another")
    if runs < 1:
        raise typer.BadParameter(f"--runs must be at least 1, got {runs}")

    from finescale.analyze import costs as room
    from finescale.networks import variants

    if input_size is not None:
        sizes = [_size("--input", input_size)]
    elif output_size is not None:
        sizes = [room.input_for(_size("--output", output_size)[::-1], scale=scale)]
    else:
        sizes = [room.input_for((720, 1280), scale=scale), (64, 64)]
    timed = bool(models) if timed is None else timed
    machine = room.machine(device) if timed else None
    rows: list[CostRow] = []
    comparisons: list[Comparison] = []
    try:
        for name in models or variants():
            subject = room.subject(name, scale=scale, runs=timed)
            comparisons += room.compare_with_published(subject)
            for size in sizes:
                if timed:
                    console.say(f"timing {name} x{scale} on {size[0]}x{size[1]} pixels")
                rows.append(room.measure_cost(subject, size, timed=timed, runs=runs, device=device))
    finally:  # what is known so far, even when interrupted
        if as_json:
            report = {
                "rows": [row.as_json() for row in rows],
                "published": [comparison.as_json() for comparison in comparisons],
                "machine": machine,
            }
            console.print_json(report)
        elif rows:
            _print_costs(rows, comparisons)


def _size(flag: str, text: str) -> tuple[int, int]:
    """Two numbers such as "64x64", in their order."""
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text.strip().lower())
    if not found or 0 in (size := (int(found[1]), int(found[2]))):
        raise typer.BadParameter(f"{flag} must be two numbers of pixels such as 64x64, got {text!r}")
    return size


def _print_costs(rows: list[CostRow], comparisons: list[Comparison]) -> None:
    """A row for each network and input, then one for each published number."""
    costs = _table("model", "scale", right=("input", "parameters", "multiply-adds", "executed", "time", "memory"))
    for row in rows:
        costs.add_row(
            row.model,
            f"x{row.scale}",
            _by(row.input_size),
            f"{row.parameters:,}",
            _giga(row.operations.multiply_adds / 1e9),
            _giga(row.operations.executed / 1e9),
            f"{row.timing.median_s:.3g} s ({row.timing.fastest_s:.3g} to {row.timing.slowest_s:.3g})"
            if row.timing
            else "-",
            f"{row.memory_mib:,.0f} MiB" if row.memory_mib is not None else "-",
        )
    if not any(row.timing for row in rows):
        costs.columns = costs.columns[:-2]
    tables = [costs]
    if comparisons:
        published = _table("model", "scale", right=("input", "stated", "counted here"), left=("what is counted",))
        for comparison in comparisons:
            published.add_row(
                comparison.model,
                f"x{comparison.scale}",
                _by(comparison.published.size),
                f"{comparison.published.giga:g} G",
                "-" if comparison.counted is None else _giga(comparison.counted / 1e9),
                ("the authors: " if comparison.by_authors else "") + comparison.published.rule,
            )
        tables.append(published)
    console.print_tables(*tables)


def _by(size: Sequence[int]) -> str:
    return f"{size[0]}x{size[1]}"


def _giga(number: float) -> str:
    return f"{number:,.2f} G"


def _table(*names: str, right: tuple[str, ...] = (), left: tuple[str, ...] = ()) -> Table:
    """An empty table whose first columns stand to the left."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name, no_wrap=True)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    for name in left:
        table.add_column(name, overflow="fold")
    return table


# ---- plot


@analyze.command()
def plot(
    output: options.Figure,
    axis: Annotated[str, typer.Option("--x", help="parameters, multiply-adds or time.")] = "parameters",
    test_set: Annotated[str, typer.Option("--set", help="Set5, Set14, B100, Urban100 or Manga109.")] = "Urban100",
    scale: options.FixedScale = 4,
    results: Annotated[
        list[Path] | None, typer.Option("--results", metavar="FILE", help="A report.json of evaluate; may be repeated.")
    ] = None,
    costs: Annotated[
        list[Path] | None,
        typer.Option("--costs", metavar="FILE", help="A report of 'analyze cost --time --json', for --x time."),
    ] = None,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Draw PSNR against cost: a point for each network, as its authors print it and as measured here."""
    from finescale.analyze.plot import draw_plot, gather_points
    from finescale.figures import svg as drawing

    drawing.check_name(output)
    if _is_kept(output, overwrite=overwrite):
        _report_kept(output, as_json=as_json)
        return
    shown = gather_points(
        scale=scale,
        axis=cast("Axis", axis),
        test_set=test_set,
        results=_rows(results or ()),
        costs=_rows(costs or ()),
    )
    for sentence in shown.left_out:
        console.say(sentence)
    drawing.write_figure(output, draw_plot(shown))
    console.say(f"done: {output}, {len(shown.points)} points")
    if as_json:
        console.print_json(
            {"output": str(output), "status": "done", "points": [asdict(point) for point in shown.points]}
        )


def _rows(reports: Iterable[Path]) -> list[dict[str, Any]]:
    """The rows of several reports, one after the other."""
    from finescale.errors import DataError

    rows: list[dict[str, Any]] = []
    for path in reports:
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from None
        except ValueError as error:
            raise DataError(f"{path}: is no report, which is JSON ({error})") from None
        if not isinstance(report, dict) or not isinstance(report.get("rows"), list):
            raise DataError(f"{path}: is no report, it has no list called 'rows'")
        rows += report["rows"]
    return rows


def _is_kept(output: Path, *, overwrite: bool) -> bool:
    return output.exists() and not overwrite


def _report_kept(output: Path, *, as_json: bool) -> None:
    console.say(f"kept: {output}: it exists already; --overwrite makes it anew")
    if as_json:
        console.print_json({"output": str(output), "status": "kept"})


# ---- curve


@analyze.command()
def curve(
    training: Annotated[Path, typer.Argument(metavar="FOLDER", help="A training's folder, such as experiments/mine.")],
    as_json: options.AsJson = False,
) -> None:
    """Draw the loss and the validation PSNR of a training, also while it runs, as its curve.png."""
    from finescale.train.log import plot_curve

    picture = plot_curve(training)
    console.say(f"done: {picture}")
    if as_json:
        console.print_json({"output": str(picture), "status": "done"})


# ---- attribution


@analyze.command()
def attribution(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A picture, as it would be upscaled.")],
    at: Annotated[
        str, typer.Option("--at", metavar="X,Y", help="Upper left corner of the patch, in pixels of the result.")
    ],
    output: options.Figure,
    network: options.Network = "default",
    scale: options.Scale = None,
    size: Annotated[int, typer.Option(help="Side of the patch, in pixels of the result.")] = 16,
    region: Annotated[
        int,
        typer.Option(help="Side of the part of the input around the patch that is looked at, in its pixels; 0: all."),
    ] = 128,
    steps: Annotated[int, typer.Option(help="Steps from blurred to sharp; more are more exact.")] = 50,
    sigma: Annotated[float, typer.Option(help="Blur of the first step, in pixels of the input.")] = 1.2,
    device: options.CpuByDefault = "cpu",
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Draw which pixels of a picture a network uses for a patch of its result: a local attribution map."""
    corner = re.fullmatch(r"(\d{1,7}),(\d{1,7})", at.replace(" ", ""))
    if not corner:
        raise typer.BadParameter(f"--at must be two numbers of pixels such as 120,64, got {at!r}")

    from finescale.analyze.attribution import Patch
    from finescale.analyze.patch_attribution import draw_look, look_at
    from finescale.figures import svg as drawing
    from finescale.images import read_image
    from finescale.upscale import Upscaler

    drawing.check_name(output)
    if _is_kept(output, overwrite=overwrite):
        _report_kept(output, as_json=as_json)
        return
    pixels = read_image(image).pixels
    upscaler = Upscaler.from_pretrained(network, scale=scale, device=device)
    for note in upscaler.notes:
        console.say(f"note: {note}")
    patch = Patch(top=int(corner[2]), left=int(corner[1]), size=size)
    with bars() as shown:

        def on_step(done: int, total: int) -> None:
            shown.show("steps", done, total)

        look = look_at(upscaler.network, pixels, patch, region=region, sigma=sigma, steps=steps, on_step=on_step)
    drawing.write_figure(output, draw_look(look))
    found = look.attribution
    console.say(
        f"diffusion index {found.diffusion_index:.2f} in {_by(look.image.shape[1:])} pixels of the input; "
        f"the map misses {found.gap:.2%} of what the network gained"
    )
    console.say(f"done: {output}")
    if as_json:
        console.print_json(
            {"output": str(output), "status": "done", "model": network, "image": str(image), **look.as_json()}
        )
