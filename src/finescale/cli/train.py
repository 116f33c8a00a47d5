"""``finescale train``: a training, from a settings file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from finescale.cli import console


def train(
    recipe: Annotated[Path, typer.Argument(help="Settings file (YAML); docs/train.md explains every field.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Override one field; may be repeated.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the training's last checkpoint.")] = False,
) -> None:
    """Train a network: settings in, a weight file out."""
    import logging

    from finescale.settings import load_settings
    from finescale.train import TrainSettings
    from finescale.train import train as run_training

    settings = load_settings(TrainSettings, recipe, overrides=overrides or ())
    log = logging.getLogger("finescale")
    log.setLevel(logging.INFO)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log.addHandler(handler)
    try:
        result = run_training(settings, resume=resume)
    finally:
        log.removeHandler(handler)
    console.say(f"weights: {result}")
