"""What can be set in a training's file, told from the docstrings of the settings.

``python -m finescale.train.describe`` prints the tables of docs/train.md.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from finescale.settings import group_of
from finescale.train.settings import TrainSettings


@dataclass(frozen=True)
class Field:
    """One line of a settings file."""

    name: str
    """As after ``--set``: "train.batch"."""
    default: str
    """As in a settings file; "required" where there is none."""
    meaning: str
    """Its docstring in one line, with the words that it can be."""


@dataclass(frozen=True)
class SettingsGroup:
    """Fields that stand together."""

    name: str
    """Such as "train" or "data.degradation"; empty for the fields that stand alone."""
    about: str
    """One sentence."""
    fields: tuple[Field, ...]


def groups(kind: type[BaseModel] = TrainSettings, *, name: str = "") -> list[SettingsGroup]:
    """Every field of a settings file, those that stand alone first, and after each group those within it.

    Args:
        kind: The settings.
        name: What they are called where they are themselves a group.
    """
    alone, nested = [], []
    for inner, field in kind.model_fields.items():
        full = f"{name}.{inner}".lstrip(".")
        group = group_of(field)
        # A group that is null by default is also a field: what it is then, must be said.
        if group is None or field.default is None:
            alone.append(_field(full, field))
        if group is not None:
            nested += groups(group, name=full)
    return [SettingsGroup(name, _first_line(kind), tuple(alone)), *nested]


def tables() -> str:
    """The groups in Markdown."""
    return "\n".join(
        "\n".join(
            [
                f"**{group.name or 'The network'}.** {group.about}\n",
                "| field | default | meaning |",
                "|---|---|---|",
                *(f"| `{field.name}` | `{field.default}` | {field.meaning} |" for field in group.fields),
                "",
            ]
        )
        for group in groups()
    )


def _field(name: str, field: FieldInfo) -> Field:
    words = _words(field.annotation)
    meaning = " ".join((field.description or "").replace("``", "`").split())
    return Field(name, _default(field), f"{meaning} One of {', '.join(words)}." if words else meaning)


def _words(annotation: Any) -> tuple[str, ...]:
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {weight}" for key, weight in value.items()) + "}"
    return str(value)


def _first_line(kind: type[BaseModel]) -> str:
    return (kind.__doc__ or "").partition("\n")[0]


if __name__ == "__main__":
    sys.stdout.write(tables())
