"""The strict base of all settings, and YAML files and overrides mapped onto them.

A misspelt key is an error that suggests the right path, and all mistakes of a file are reported at once.
"""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from finescale.errors import SettingsError

S = TypeVar("S", bound="Settings")


class Settings(BaseModel):
    """Base of all settings: frozen, unknown keys forbidden, every field described by its docstring."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=(), allow_inf_nan=False
    )


def suggest(word: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'scale'?)"`` for a near miss among the known words, else an empty string."""
    return _question(_nearest(word, known))


def alternatives(values: Iterable[object]) -> str:
    """Return what a value may be as an error message lists it: "2, 3 or 4"."""
    *most, last = map(str, values)
    return f"{', '.join(most)} or {last}" if most else last


def _nearest(word: str, known: Iterable[str]) -> list[str]:
    """The known word that a misspelt one is closest to, if one is close."""
    return difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)


def _question(words: Iterable[str]) -> str:
    """The words as a suggestion in brackets; an empty string without any."""
    named = " or ".join(map(repr, words))
    return f" (did you mean {named}?)" if named else ""


def group_of(field: FieldInfo) -> type[BaseModel] | None:
    """Return the class of the settings nested under a field, which may be null; None for any other field."""
    if get_origin(field.annotation) is dict:  # groups under names that the user chooses
        return None
    kinds = get_args(field.annotation) or (field.annotation,)
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def parse_settings(kind: type[S], values: Mapping[str, Any], *, source: str) -> S:
    """Build settings from plain values.

    Args:
        kind: The settings class.
        values: Field names to values, nested mappings for nested settings.
        source: What the values came from, named in the error.

    Raises:
        SettingsError: All mistakes: unknown keys (with the nearest known path), wrong values, missing fields.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise SettingsError(f"{source}: {mistakes_of(kind, error)}") from None


def load_settings(kind: type[S], path: Path, *, overrides: Iterable[str] = ()) -> S:
    """Read settings from a YAML file, single fields overridden by ``a.b=value``.

    Raises:
        SettingsError: The file cannot be read, is not YAML, or has mistakes (see `parse_settings`).
    """
    values = read_values(path)
    override(values, overrides)
    return parse_settings(kind, values, source=str(path))


def read_values(path: Path) -> dict[str, Any]:
    """Return the fields of a YAML file as plain values, unchecked.

    Raises:
        SettingsError: The file cannot be read, is not YAML, or contains no fields.
    """
    try:
        if path.is_file() and path.stat().st_size > _MAX_BYTES:
            raise SettingsError(f"{path}: not a settings file; it has more than {_MAX_BYTES // 2**20} MiB")
        values = _parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: not a text file; settings are YAML in UTF-8") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not valid YAML ({_in_one_line(error)})") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: expected fields as 'name: value', found a {type(values).__name__}")
    return values


def override(values: dict[str, Any], texts: Iterable[str]) -> None:
    """Set fields of plain values in place, each by ``a.b=value``; values are parsed as YAML.

    Raises:
        SettingsError: A text does not have this form.
    """
    for text in texts:
        _override(values, text)


def read_overrides(texts: Iterable[str]) -> dict[str, Any]:
    """Return the fields set on a command line, each as ``a.b=value``; values are parsed as YAML.

    Raises:
        SettingsError: A text does not have this form.
    """
    values: dict[str, Any] = {}
    override(values, texts)
    return values


def settings_text(settings: Settings) -> str:
    """Return settings as YAML that `load_settings` reads back to an equal object."""
    return yaml.dump(settings.model_dump(mode="json"), Dumper=_YamlDumper, sort_keys=False)


def mistakes_of(kind: type[BaseModel], error: ValidationError) -> str:
    """Describe all validation errors in one line, each with its value or the nearest known path."""
    return "; ".join(_describe(kind, mistake) for mistake in error.errors())


def _override(values: dict[str, Any], text: str) -> None:
    """Set the field that ``a.b=value`` names; the value is parsed as YAML."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise SettingsError(f"override {shortened(text)} must have the form name=value, for instance batch=8")
    *parents, last = name.strip().split(".")
    for parent in parents:
        if values.get(parent) is None:  # a group that is left out, or null
            values[parent] = {}
        values = values[parent]
        if not isinstance(values, dict):
            raise SettingsError(f"override {shortened(text)}: {parent!r} is a single value and has no fields")
    try:
        values[last] = _parse_yaml(value)
    except yaml.YAMLError as error:
        raise SettingsError(f"override {shortened(text)}: not a valid value ({_in_one_line(error)})") from None


def _describe(kind: type[BaseModel], mistake: Any) -> str:
    path = ".".join(str(part) for part in mistake["loc"])
    message = mistake["msg"].removeprefix("Value error, ")
    if not path:
        return str(message)
    if mistake["type"] == "extra_forbidden":
        return f"unknown key {path!r}{_question(_known_paths(kind, mistake['loc']))}"
    if mistake["type"] == "missing":
        return f"{path!r} is missing"
    # A group's own check names the values that it is about.
    is_groups_own = mistake["type"] == "value_error" and isinstance(mistake["input"], dict)
    got = "" if is_groups_own else f", got {shortened(mistake['input'])}"
    return f"{path!r}: {message[0].lower() + message[1:]}{got}"


def _known_paths(kind: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Paths that an unknown key may be meant for: fields of its name in other groups, else its closest neighbour."""
    *parents, word = map(str, path)
    near = _nearest(word, _fields_at(kind, parents))
    return list(_paths_to(word, kind)) or [".".join((*parents, name)) for name in near]


def _fields_at(kind: type[BaseModel], path: Iterable[str]) -> list[str]:
    """Names of the fields of the settings nested at ``path``."""
    for part in path:
        field = kind.model_fields.get(part)
        nested = group_of(field) if field else None
        if nested is None:
            return []
        kind = nested
    return list(kind.model_fields)


def _paths_to(name: str, kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Paths of all nested fields of one name."""
    for field, facts in kind.model_fields.items():
        if field == name:
            yield prefix + field
        nested = group_of(facts)
        if nested is not None:
            yield from _paths_to(name, nested, f"{prefix}{field}.")


def shortened(value: object) -> str:
    """Return the representation of a value as an error message quotes it: in full, or its two ends."""
    text = repr(value)
    return text if len(text) <= _LONGEST_QUOTE else f"{text[: _LONGEST_QUOTE - 40]} ... {text[-30:]}"


_LONGEST_QUOTE = 300  # characters
_MAX_BYTES = 2**20  # of a settings file
_MAX_DEPTH = 50  # levels of nesting
_MAX_NODES = 100_000  # values of a file, those of a repeated alias counted each time


class _YamlLoader(yaml.SafeLoader):
    """Loader of YAML 1.2 scalars: ``2e-4`` is a number, ``off`` a word and ``010`` ten, unlike in YAML 1.1 (PyYAML).

    What a text can grow to is bounded: its depth, and its size once every alias is written out.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._sizes: dict[int, int] = {}
        """Number of values in each node that is complete, by its identity."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a node and count the values in it."""
        self._depth += 1
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        is_alias = self.check_event(yaml.AliasEvent)
        if self._depth > _MAX_DEPTH:
            raise yaml.MarkedYAMLError(None, None, f"nested in more than {_MAX_DEPTH} levels", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is None or id(node) in self._sizes:  # an alias of a complete node
            return node
        if is_alias:
            raise yaml.MarkedYAMLError(None, None, "an alias refers to what contains it", mark)
        parts = node.value if isinstance(node, yaml.CollectionNode) else ()
        inner = [part for pair in parts for part in pair] if isinstance(node, yaml.MappingNode) else parts
        size = 1 + sum(self._sizes[id(part)] for part in inner)
        if size > _MAX_NODES:
            raise yaml.MarkedYAMLError(None, None, f"its aliases stand for more than {_MAX_NODES} values", mark)
        self._sizes[id(node)] = size
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Construct a value; a text that does not fit its tag is an error of YAML's, such as ``!!int abc``."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, OverflowError, TypeError, AttributeError):
            kind = node.tag.rpartition(":")[2]
            raise yaml.MarkedYAMLError(
                None, None, f"not a value of type {shortened(kind)}: {shortened(node.value)}", node.start_mark
            ) from None


def _parse_yaml(text: str) -> Any:
    return yaml.load(text, Loader=_YamlLoader)


def _in_one_line(error: yaml.YAMLError) -> str:
    return textwrap.shorten(str(error).replace(' in "<unicode string>",', ""), _LONGEST_QUOTE, placeholder=" ...")


class _YamlDumper(yaml.SafeDumper):
    """Dumper whose output `_YamlLoader` reads back unchanged: a word that looks like a number is quoted."""


_SCALARS = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?\d+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (r"[-+]?(?:(?:\d+\.\d*|\.\d+)(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.(?:inf|Inf|INF))", "-+.0123456789"),
}

for _kind in (_YamlLoader, _YamlDumper):
    _kind.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] not in (*_SCALARS, "timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for _name, (_pattern, _first) in _SCALARS.items():
        _kind.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), list(_first))


def _whole_number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    return int(text, 16) if text.lower().startswith("0x") else int(text)


_YamlLoader.add_constructor("tag:yaml.org,2002:int", _whole_number)
