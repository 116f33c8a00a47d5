"""``finescale train``: a training by a published recipe, a settings file, or a published option file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finescale.cli import console, options
from finescale.cli.progress import training_bar

if TYPE_CHECKING:
    from finescale.train import TrainSettings


def train(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE | FILE.yml",
            help="A published recipe, such as hit-srf; a settings file; or a published option file.",
        ),
    ] = None,
    scale: Annotated[int | None, typer.Option("-s", "--scale", help="The scale of a recipe, such as 2.")] = None,
    stage: Annotated[int | None, typer.Option(help="Stage of a recipe that has several, counted from 1.")] = None,
    hr: Annotated[
        list[Path] | None,
        typer.Option(metavar="PLACE", help="Originals to train on, in place of those in the file; may be repeated."),
    ] = None,
    lr: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PLACE", help="Low-resolution pictures, one PLACE for each --hr; default: made from the originals."
        ),
    ] = None,
    val: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Originals to validate on.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the training; results go to experiments/NAME.")] = None,
    start: Annotated[
        str | None, typer.Option(metavar="MODEL", help="A weight file or known network to start from, or none.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Set any field, such as train.batch=8; may be repeated."),
    ] = None,
    resume: Annotated[
        bool | None,
        typer.Option(
            "--resume/--no-resume", help="Require, or refuse, to resume; default: resume if it was started before."
        ),
    ] = None,
    device: options.Device = None,
    opt: options.OptionFile = None,
    launcher: options.Launcher = None,
    auto_resume: options.AutoResume = False,
    local_rank: options.LocalRank = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print the settings file, and train nothing.")] = False,
    describe: Annotated[bool, typer.Option("--describe", help="Explain every field of a settings file.")] = False,
    _threads: options.Threads = None,
) -> None:
    """Train a network by a recipe or a settings file, on a folder of pictures."""
    if describe:
        _describe()
        return
    launch = options.notes_on_launch(launcher, auto_resume=auto_resume, local_rank=local_rank)
    if auto_resume and resume is False:
        raise typer.BadParameter("--auto_resume and --no-resume are mutually exclusive")
    if what is not None and opt is not None:
        raise typer.BadParameter(f"name one file, got {what} and {opt}")
    what = what if opt is None else str(opt)
    if what is None:
        raise typer.BadParameter("name a recipe or a settings file, such as: finescale train hit-srf -s 4 --hr FOLDER")

    from finescale.settings import override, parse_settings, settings_text
    from finescale.train import TrainSettings, check
    from finescale.train import train as run_training

    given = _read(what, scale=scale, stage=stage)
    given.notes += launch
    if hr:
        _fill(given.values, "data", hr=hr, lr=lr or [])
    elif lr:
        _fill(given.values, "data", lr=lr)
    if val is not None:
        _fill(given.values, "validation", hr=val, lr=None, sets={})
    if name is not None:
        given.values["name"] = name
    override(given.values, overrides or ())
    if given.is_recipe and not given.values["data"].get("hr"):
        raise typer.BadParameter("no pictures to train on: give --hr FOLDER")
    _take_third_party(given, start)
    if start is not None:  # a network may be downloaded, which mistakes and missing pictures must not cost
        settings = parse_settings(TrainSettings, {**given.values, "warm_start": None}, source=given.source)
        if not plan:
            _check_places(settings)
    _set_start(given, start)
    settings = parse_settings(TrainSettings, given.values, source=given.source)
    if given.batch is not None and settings.train.batch == given.batch[0]:
        given.notes.append(given.batch[1])
    if plan:
        check(settings)
        _note_missing_start(given, settings)
        _print_summary(settings, given.notes)
        sys.stdout.write(settings_text(settings))
        return
    if options.is_first_process():
        _print_summary(settings, given.notes)
    with training_bar() as on_step, console.messages_of_the_library(timed=True):
        result = run_training(settings, resume=resume, device=device, on_step=on_step)
    if options.is_first_process():
        console.say(f"weights: {result}")


@dataclass(kw_only=True)
class _Given:
    """Settings from the first argument."""

    values: dict[str, Any]
    """Fields of `TrainSettings`, to be completed by flags."""
    source: str
    """Their origin, for messages."""
    is_recipe: bool = False
    """Whether they are a published recipe."""
    notes: list[str] = field(default_factory=list)
    """What a user should know before the training starts."""
    start: tuple[str, int] | None = None
    """Name and scale of the training whose weights a recipe starts from."""
    start_model: str | None = None
    """Recipe of that training."""
    batch: tuple[int, str] | None = None
    """Samples per step of an option file, and a sentence about them."""


def _read(what: str, *, scale: int | None, stage: int | None) -> _Given:
    from finescale.networks import recipes

    is_file = Path(what).suffix in (".yml", ".yaml") or os.path.exists(what)  # noqa: PTH110 - of any text
    if what in {name for name, _ in recipes()} or not is_file:
        return _recipe(what, scale=scale, stage=stage)
    if (scale, stage) != (None, None):
        raise typer.BadParameter("-s and --stage need a recipe; a file states its scale itself")
    return _file(Path(what))


def _recipe(name: str, *, scale: int | None, stage: int | None) -> _Given:
    from finescale.train.recipes import recipe_of, recipe_values, start_of

    recipe, scale = recipe_of(name, scale=scale, stage=stage)
    given = _Given(
        values=recipe_values(name, scale=scale, stage=stage),
        source=f"recipe {name} x{scale}",
        is_recipe=True,
        notes=[f"the authors train it on {recipe.data}"],
    )
    training = start_of(name, scale=scale, stage=stage)
    if recipe.start is not None and training is not None:
        given.start_model, start_scale = recipe.start
        given.start = training, start_scale
    if recipe.remark:
        given.notes.append(recipe.remark)
    return given


def _file(path: Path) -> _Given:
    from finescale.basicsr.training import convert, is_option_file
    from finescale.settings import read_values
    from finescale.train.distributed import num_processes

    values = read_values(path)
    if not is_option_file(values):
        return _Given(values=values, source=str(path))
    conversion = convert(values, source=str(path), devices=num_processes())
    notes = [f"{path} is an option file of BasicSR; --plan prints it as a settings file"]
    if conversion.ignored:
        notes.append(f"no effect here: {', '.join(conversion.ignored)}")
    batch = conversion.values["train"]["batch"], conversion.batch_note
    return _Given(values=conversion.values, source=str(path), notes=[*notes, *conversion.notes], batch=batch)


def _fill(values: dict[str, Any], group: str, **fields: Any) -> None:
    """Set fields of a group; a value that is not a group stays as it is, and is refused later."""
    nested = values.setdefault(group, {})
    if isinstance(nested, dict):
        nested.update(fields)


def _check_places(settings: TrainSettings) -> None:
    """Refuse pictures to train or validate on that do not exist."""
    data, validation = settings.data, settings.validation
    sets = validation.all_sets().values()
    for place in (*data.hr, *data.lr, *(place for one in sets for place in (one.hr, one.lr))):
        try:
            is_missing = place is not None and not place.exists()
        except OSError as error:
            raise typer.BadParameter(f"{place}: cannot be read ({error.strerror})") from None
        if is_missing:
            raise typer.BadParameter(f"{place}: no such file or folder")


def _take_third_party(given: _Given, start: str | None) -> None:
    """Set the network to that of a third-party file to start from, where no variant is named."""
    from finescale.train.initial_weights import third_party_values

    path = start or given.values.get("warm_start")
    if "variant" not in given.values and path is not None and Path(path).is_file():
        with console.messages_of_the_library():
            given.values = {**third_party_values(Path(path)), **given.values}


def _set_start(given: _Given, start: str | None) -> None:
    """Set the weights to start from: by the flag, by a field, or of the training that the recipe names."""
    from finescale import weights
    from finescale.train.recipes import weights_of

    if start is not None:
        scale = given.start[1] if given.start else None
        given.values["warm_start"] = None if start == "none" else weights.find(start, scale=scale)
    elif given.start and "warm_start" not in given.values:
        training, scale = given.start
        path = weights_of(training, output=Path(given.values.get("output", "experiments")))
        given.values["warm_start"] = path
        missing = "" if path.exists() else _MISSING_START
        given.notes.append(f"it starts from the weights of {given.start_model} x{scale}, {path}{missing}")


_MISSING_START = ", which does not exist: train that first, or give --start MODEL or none"


def _note_missing_start(given: _Given, settings: TrainSettings) -> None:
    """Add a note where a file names weights to start from that do not exist."""
    if given.start is None and settings.warm_start is not None and not settings.warm_start.exists():
        given.notes.append(f"it starts from {settings.warm_start}{_MISSING_START}")


def _print_summary(settings: TrainSettings, notes: Iterable[str]) -> None:
    """Print a training in a few lines."""
    from finescale.weights.third_party import THIRD_PARTY

    for note in notes:
        console.say(f"note: {note}")
    steps, data = settings.train, settings.data
    is_changed = settings.network and settings.variant != THIRD_PARTY
    changed = f" with {', '.join(settings.network)} changed" if is_changed else ""
    loss = " + ".join(name if weight == 1 else f"{weight:g} {name}" for name, weight in steps.loss.items())
    console.say(f"training {settings.name}: {settings.title} x{settings.scale}{changed}")
    console.say(
        f"{steps.iterations:,} steps of {steps.batch} samples of {data.patch}x{data.patch}, {loss}, {steps.optimizer} "
        f"at {steps.lr:g}, {_schedule(settings)}"
    )


def _schedule(settings: TrainSettings) -> str:
    steps = settings.train
    if steps.schedule == "cosine":
        return f"half a cosine down to {steps.final_lr:g}"
    if not steps.milestones:
        return "constant"
    return f"times {steps.gamma:g} after {', '.join(f'{step:,}' for step in steps.milestones)}"


def _describe() -> None:
    """Print every field with its default and meaning on standard output."""
    from finescale.train.describe import groups

    for group in groups():
        sys.stdout.write(f"{group.name or 'fields of their own'}: {group.about}\n\n")
        for item in group.fields:
            default = item.default if item.default == "required" else f"default {item.default}"
            sys.stdout.write(f"  {item.name} ({default})\n      {item.meaning}\n")
        sys.stdout.write("\n")
