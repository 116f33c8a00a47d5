"""Tables of all settings of a training, made of their docstrings.

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
    """Full name, as ``--set`` takes it: "train.batch"."""
    default: str
    """Default as written in a settings file; "required" where there is none."""
    meaning: str
    """Docstring in one line, with the allowed words."""


@dataclass(frozen=True)
class SettingsGroup:
    """Fields of one group."""

    name: str
    """Name such as "train" or "data.degradation"; empty for fields outside of a group."""
    about: str
    """Description in one sentence."""
    fields: tuple[Field, ...]


def groups(kind: type[BaseModel] = TrainSettings, *, name: str = "") -> list[SettingsGroup]:
    """List every field of a settings file, those outside of a group first, and after each group those nested in it.

    Args:
        kind: The settings.
        name: Name of the group that they are; empty for a whole file.
    """
    alone, nested = [], []
    for inner, field in kind.model_fields.items():
        full = f"{name}.{inner}".lstrip(".")
        group = group_of(field)
        # A group that is null by default is also listed as a field, with that default.
        if group is None or field.default is None:
            alone.append(_field(full, field))
        if group is not None:
            nested += groups(group, name=full)
    return [SettingsGroup(name, _first_line(kind), tuple(alone)), *nested]


def tables() -> str:
    """Return the groups as Markdown tables."""
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
