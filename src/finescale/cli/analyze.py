"""``finescale analyze``: costs of networks, local attribution maps, and figures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from finescale.cli import console, options
from finescale.cli.progress import bars

if TYPE_CHECKING:
    from rich.table import Table

    from finescale.analyze.cost_report import CostReport
    from finescale.analyze.costs import CostRow
    from finescale.analyze.prices import Quantity
    from finescale.analyze.rules import Rule

analyze = typer.Typer(
    help="Measure the costs of networks, draw plots and training curves, and show which pixels a network uses.",
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
    every: Annotated[bool, typer.Option("--all", help="Report every published variant.")] = False,
    scale: options.FixedScale = 4,
    input_size: Annotated[
        str | None, typer.Option("--input", metavar="HxW", help="Height and width of the input, for example 64x64.")
    ] = None,
    output_size: Annotated[
        str | None,
        typer.Option(
            "--output",
            metavar="WxH",
            help="Width and height of the result; default: 1280x720, and an input of 64x64.",
        ),
    ] = None,
    rules: Annotated[
        list[str] | None,
        typer.Option(
            "--rule",
            metavar="RULE",
            help="Also count by a published rule: fvcore, torchinfo, torchinfo-pass, linear-2d, swinir, swinir-size or "
            "all; may be repeated.",
        ),
    ] = None,
    hierarchical: Annotated[
        bool,
        typer.Option("--hierarchical", help="Compare each with the hierarchical (HiT) network it can be converted to."),
    ] = False,
    timed: Annotated[
        bool | None,
        typer.Option("--time/--no-time", help="Measure time and memory; default: on for -n, off for --all."),
    ] = None,
    runs: Annotated[int, typer.Option(help="Number of timed forward passes, after one that is not timed.")] = 5,
    device: options.CpuByDefault = "cpu",
    as_json: options.AsJson = False,
) -> None:
    """Count parameters and multiply-adds, and measure time and memory, beside published numbers."""
    if bool(models) == every:
        raise typer.BadParameter("name networks with -n MODEL, or use --all")
    if every and hierarchical:
        raise typer.BadParameter("--hierarchical needs -n MODEL; not every published variant can be converted")
    if input_size is not None and output_size is not None:
        raise typer.BadParameter("--input and --output are mutually exclusive")
    if runs < 1:
        raise typer.BadParameter(f"--runs must be at least 1, got {runs}")

    from finescale.analyze.cost_report import CostReport
    from finescale.analyze.costs import input_for

    names = models or _variants_at(scale)
    sizes = None
    if input_size is not None:
        sizes = [_size("--input", input_size)]
    elif output_size is not None:
        sizes = [input_for(_size("--output", output_size)[::-1], scale=scale)]

    def announce(model: str, size: tuple[int, int]) -> None:
        console.say(f"timing {model} x{scale} on {_by(size)} pixels")

    timed = bool(models) if timed is None else timed
    report = CostReport(
        scale=scale,
        sizes=sizes,
        rules=rules or (),
        timed=timed,
        runs=runs,
        device=device,
        hierarchical=hierarchical,
    )
    try:
        for name in names:
            report.add(name, before_timing=announce)
    finally:  # what is known so far, even when interrupted
        if as_json:
            console.print_json(report.as_json())
        elif report.rows:
            _print_costs(report)


def _variants_at(scale: int) -> list[str]:
    """List the published variants that exist at a scale, and say which do not."""
    from finescale import zoo
    from finescale.networks import variants

    at_scale = {entry.name for entry in zoo.models(scale=scale)}
    missing = [name for name in variants() if name not in at_scale]
    if missing:
        console.say(f"not published at x{scale}: {', '.join(missing)}")
    return [name for name in variants() if name in at_scale]


def _size(flag: str, text: str) -> tuple[int, int]:
    """Parse two numbers such as "64x64", in their order."""
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text.strip().lower())
    if not found or 0 in (size := (int(found[1]), int(found[2]))):
        raise typer.BadParameter(f"{flag} must be two numbers of pixels such as 64x64, got {text!r}")
    return size


def _print_costs(report: CostReport) -> None:
    """Print a row for each network and input, the same by other rules, and a row for each published number."""
    costs = _table("model", "scale", right=("input", "parameters", "multiply-adds", "executed", "time", "memory"))
    for row in report.rows:
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
    if not any(row.timing for row in report.rows):
        costs.columns = costs.columns[:-2]
    tables = [costs, *(_pair(base, converted) for base, converted in report.pairs)]
    if report.rules:
        by_rule = _table("model", "scale", right=("input", *(rule.title for rule in report.rules.values())))
        for row in report.rows:
            counts = (_count(row.by_rule[name], rule) for name, rule in report.rules.items())
            by_rule.add_row(row.model, f"x{row.scale}", _by(row.input_size), *counts)
        tables.append(by_rule)
    if report.published:
        published = _table("model", "scale", right=("input", "stated", "counted here"), left=("what is counted",))
        for comparison in report.published:
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


def _pair(base: CostRow, converted: CostRow) -> Table:
    """Return the costs of a network beside those of its hierarchical counterpart."""
    quantities = [
        ("parameters", base.parameters, converted.parameters, "{:,}"),
        ("multiply-adds, G", base.operations.multiply_adds / 1e9, converted.operations.multiply_adds / 1e9, "{:,.2f}"),
    ]
    if base.timing and converted.timing:
        quantities.append(("time, s", base.timing.median_s, converted.timing.median_s, "{:.3g}"))
    table = _table(f"x{base.scale}, {_by(base.input_size)}", right=(base.model, converted.model, "ratio"))
    for name, before, after, form in quantities:
        table.add_row(name, form.format(before), form.format(after), f"{after / before:.2f}")
    return table


def _by(size: Sequence[int]) -> str:
    return f"{size[0]}x{size[1]}"


def _giga(number: float) -> str:
    return f"{number:,.2f} G"


def _count(number: int, rule: Rule) -> str:
    """Text of a count by a published rule, in the unit that papers print it in."""
    if rule.unit == "bytes":
        return f"{number / 1e6:,.2f} MB"
    return _giga(number / 1e9) if rule.unit == "operations" else f"{number:,}"


def _table(*names: str, right: tuple[str, ...] = (), left: tuple[str, ...] = ()) -> Table:
    """Return an empty table: left-aligned columns, then right-aligned, then left-aligned ones that wrap."""
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
    axis: Annotated[
        str, typer.Option("--x", help="Cost on the horizontal axis: parameters, multiply-adds, time or memory.")
    ] = "parameters",
    area: Annotated[
        str | None, typer.Option("--area", metavar="COST", help="Cost that the areas of the points show, likewise.")
    ] = None,
    test_set: Annotated[
        str, typer.Option("--set", help="Test set: Set5, Set14, B100, Urban100 or Manga109.")
    ] = "Urban100",
    scale: options.FixedScale = 4,
    results: Annotated[
        list[Path] | None, typer.Option("--results", metavar="FILE", help="A report.json of evaluate; may be repeated.")
    ] = None,
    files: Annotated[
        list[Path] | None,
        typer.Option(
            "-n", "--network", metavar="FILE", help="Weight file of a network in --results that was moved; repeatable."
        ),
    ] = None,
    costs: Annotated[
        list[Path] | None,
        typer.Option(
            "--costs",
            metavar="FILE",
            help="A report of 'analyze cost --time --json', for time and memory; may be repeated.",
        ),
    ] = None,
    points: Annotated[
        list[Path] | None,
        typer.Option(
            "--points", metavar="FILE.csv", help="A table of further networks; its columns are named; may be repeated."
        ),
    ] = None,
    by_hand: Annotated[
        list[str] | None,
        typer.Option(
            "--point",
            metavar="NAME,PSNR,...",
            help="A further network: name, PSNR, parameters, multiply-adds, ms, MiB; may be repeated.",
        ),
    ] = None,
    only: Annotated[
        str | None, typer.Option("--only", metavar="NAME,...", help="Networks to show; default: all that are known.")
    ] = None,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Plot PSNR against cost: a point for each network, with published values, own measurements and further points."""
    from finescale.analyze.plot import draw_plot, gather_points, read_rows
    from finescale.analyze.points import point_from_text, read_points
    from finescale.figures import svg

    svg.check_name(output)
    if _is_kept(output, overwrite=overwrite, as_json=as_json):
        return
    given = [point for path in points or () for point in read_points(path)]
    given += [point_from_text(text) for text in by_hand or ()]
    data = gather_points(
        scale=scale,
        axis=cast("Quantity", axis),
        area=cast("Quantity | None", area),
        test_set=test_set,
        results=read_rows(results or ()),
        costs=read_rows(costs or ()),
        given=given,
        files=files or (),
        only=options.names_of(only),
    )
    for sentence in data.left_out:
        console.say(sentence)
    svg.write_figure(output, draw_plot(data))
    console.say(f"done: {output}, {len(data.points)} points")
    if as_json:
        console.print_json(
            {"output": str(output), "status": "done", "points": [asdict(point) for point in data.points]}
        )


def _is_kept(output: Path, *, overwrite: bool, as_json: bool) -> bool:
    """Whether a figure exists and is not to be replaced; if so, report it."""
    if overwrite or not output.exists():
        return False
    console.say(f"kept: {output}: already exists; use --overwrite to replace it")
    if as_json:
        console.print_json({"output": str(output), "status": "kept"})
    return True


# ---- curve


@analyze.command()
def curve(
    trainings: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", help="Folders of trainings, for example experiments/mine.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FIGURE", help="File name of the figure; default: curve.png of a single training."
        ),
    ] = None,
    first_step: Annotated[int, typer.Option("--from", min=0, metavar="STEP", help="Leave out earlier steps.")] = 0,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Draw the loss and validation PSNR of trainings over their steps, also while they run."""
    from finescale.figures import svg
    from finescale.train.log import draw_trainings, plot_curve

    if output is None:
        if len(trainings) > 1:
            raise typer.BadParameter("several trainings need -o FIGURE")
        if first_step:
            raise typer.BadParameter("--from needs -o FIGURE")
        output = plot_curve(trainings[0])
    else:
        svg.check_name(output)
        if _is_kept(output, overwrite=overwrite, as_json=as_json):
            return
        svg.write_figure(output, draw_trainings(trainings, first_step=first_step))
    console.say(f"done: {output}")
    if as_json:
        console.print_json({"output": str(output), "status": "done"})


# ---- attribution


@analyze.command()
def attribution(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The input image.")],
    at: Annotated[
        str, typer.Option("--at", metavar="X,Y", help="Upper left corner of the patch, in pixels of the result.")
    ],
    output: options.Figure,
    networks: options.Networks = None,
    scale: options.Scale = None,
    size: Annotated[int, typer.Option(help="Side length of the patch, in pixels of the result.")] = 16,
    region: Annotated[
        int,
        typer.Option(help="Side length of the region around the patch, in pixels of the input; 0 takes all."),
    ] = 128,
    steps: Annotated[int, typer.Option(help="Steps from blurred to sharp; more steps are more accurate.")] = 50,
    sigma: Annotated[float, typer.Option(help="Standard deviation of the initial blur, in pixels of the input.")] = 1.2,
    device: options.CpuByDefault = "cpu",
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Draw local attribution maps: which pixels of the input networks use for a patch of their results."""
    corner = re.fullmatch(r"(\d{1,7}),(\d{1,7})", at.replace(" ", ""))
    if not corner:
        raise typer.BadParameter(f"--at must be two numbers of pixels such as 120,64, got {at!r}")

    from finescale.analyze import Patch, compare_attributions, draw_attributions, draw_patch_attribution
    from finescale.figures import svg
    from finescale.images import read_image
    from finescale.upscale import Upscaler

    svg.check_name(output)
    if _is_kept(output, overwrite=overwrite, as_json=as_json):
        return
    pixels = read_image(image).pixels
    upscalers = {}
    for name in dict.fromkeys(networks or ["default"]):
        upscalers[name] = Upscaler.from_pretrained(name, scale=scale, device=device)
        for note in upscalers[name].notes:
            console.say(f"note: {note}")
    patch = Patch(top=int(corner[2]), left=int(corner[1]), size=size)
    with bars() as shown:

        def on_step(name: str, done: int, total: int) -> None:
            shown.show("steps", done, total, label=name)

        found = compare_attributions(
            {name: upscaler.network for name, upscaler in upscalers.items()},
            pixels, patch, region=region, sigma=sigma, steps=steps, on_step=on_step,
        )  # fmt: skip
    first = next(iter(found.values()))
    labels = _labels(list(found))
    figure = draw_attributions(dict(zip(labels, found.values(), strict=True)))
    svg.write_figure(output, figure if len(found) > 1 else draw_patch_attribution(first))
    for label, one in zip(labels, found.values(), strict=True):
        console.say(
            f"{f'{label}: ' if len(found) > 1 else ''}diffusion index {one.attribution.diffusion_index:.2f} in "
            f"{_by(one.image.shape[1:])} pixels of the input; integration error {one.attribution.gap:.2%}"
        )
    console.say(f"done: {output}")
    if as_json:
        reports = [{"model": name, **one.as_json()} for name, one in found.items()]
        common = reports[0] if len(reports) == 1 else {}
        console.print_json(
            {"output": str(output), "status": "done", "image": str(image), **common, "networks": reports}
        )


def _labels(names: Sequence[str]) -> list[str]:
    """Return what stands above the columns of a figure: names, and files without folder and suffix unless equal."""
    from finescale.analyze.prices import name_in_reports

    short = [name_in_reports(name) for name in names]
    return [one if short.count(one) == 1 else name for one, name in zip(short, names, strict=True)]
