"""Settings: dataclass defaults, under a preset, under a YAML file, under key=value."""

from __future__ import annotations

import ast
import copy
import dataclasses
import inspect
import textwrap
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from alignlab.errors import BadInput, unknown_name

T = TypeVar("T")

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]

_EXPECTED = {
    "greater_than": "above {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "less_than": "below {lt:g}",
    "less_than_equal": "at most {le:g}",
    "literal_error": "{expected}",
    "finite_number": "a finite number",
}
"""Kind of pydantic's complaint -> the bound in the project's words."""


class Bounded:
    """Hold a settings dataclass to the bounds in its annotations, however it is made.

    A field says `Annotated[int, Field(gt=0)]`, one of the names above, or a `Literal`. What
    takes several fields to tell is checked in `__post_init__`, after `super().__post_init__()`.
    """

    def __post_init__(self) -> None:
        cls: Any = type(self)
        for name, adapter in _bounds(cls):
            try:
                adapter.validate_python(getattr(self, name))
            except ValidationError as error:
                raise BadInput(f"{type(self).__name__}: {name}: {_complaint(error)}") from None


@cache
def _bounds(cls: Any) -> tuple[tuple[str, TypeAdapter[Any]], ...]:
    """Return the fields that declare a bound, each with what checks it."""
    hints = get_type_hints(cls, include_extras=True)
    bounded = [f.name for f in dataclasses.fields(cls) if _declares_bound(hints[f.name])]
    return tuple((name, TypeAdapter(hints[name])) for name in bounded)


def _declares_bound(hint: Any) -> bool:
    if get_origin(hint) in (Annotated, Literal):
        return True
    return any(_declares_bound(part) for part in get_args(hint))


def _complaint(error: ValidationError) -> str:
    """Say in one line what pydantic expected first, and what it found."""
    first = error.errors()[0]
    known = _EXPECTED.get(first["type"])
    bound = first["msg"] if known is None else known.format(**first.get("ctx", {}))
    said = bound if known is None else "expected " + bound.replace("'", "")
    return f"{said}, found {first['input']!r}"


@dataclasses.dataclass(frozen=True)
class Option:
    """One setting as `--options` shows it."""

    key: str
    default: Any
    doc: str


def build(cls: type[T], *layers: Mapping[str, Any]) -> T:
    """A config from its defaults and nested mappings, later ones winning.

    Raises:
        BadInput: an unknown key (the nearest valid one is named), or a value of the wrong type or
            beyond the field's bound.
    """
    merged: dict[str, Any] = _defaults(cls)
    for layer in layers:
        _check_keys(cls, layer, "")
        _merge(merged, layer)
    try:
        return TypeAdapter(cls).validate_python(merged)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"] if isinstance(part, str | int))
        raise BadInput(f"setting {key}: {_complaint(error)}") from None


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """`["sft.lr=5e-4", "seed=1"]` as a nested mapping; values are read as YAML.

    Raises:
        BadInput: an argument that is not key=value.
    """
    nested: dict[str, Any] = {}
    for item in overrides:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise BadInput(f"expected key=value, found {item!r}")
        place = nested
        *parents, last = key.strip().split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise BadInput(f"setting {key}: {parent!r} was given a value before")
        try:
            place[last] = yaml.safe_load(value) if value else ""
        except yaml.YAMLError:
            place[last] = value
    return nested


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file of settings.

    Raises:
        BadInput: the file is missing, is not YAML, or is not a mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise BadInput(f"{path}: no such configuration file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        where = f", line {line + 1}" if line is not None else ""
        raise BadInput(
            f"{path}{where}: expected YAML, found {str(error).splitlines()[0]}"
        ) from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise BadInput(f"{path}: expected settings (key: value), found {type(content).__name__}")
    return content


def describe(cls: type, prefix: str = "") -> list[Option]:
    """Every setting of a config class with its default and its sentence, nested ones dotted."""
    docs = _field_docs(cls)
    hints = get_type_hints(cls)
    found: list[Option] = []
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(hints[field.name]):
            found += describe(hints[field.name], f"{prefix}{field.name}.")
            continue
        default = field.default
        if default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        found.append(Option(prefix + field.name, default, docs.get(field.name, "")))
    return found


def _defaults(cls: type) -> dict[str, Any]:
    """The class's own nested defaults, which a layer changes in part; none where one is missing."""
    missing = dataclasses.MISSING
    if any(f.default is missing and f.default_factory is missing for f in dataclasses.fields(cls)):
        return {}
    return dataclasses.asdict(cls())


def _check_keys(cls: type, layer: Mapping[str, Any], prefix: str) -> None:
    known = {field.name for field in dataclasses.fields(cls)}
    hints = get_type_hints(cls)
    for key, value in layer.items():
        if key not in known:
            raise unknown_name("setting", f"{prefix}{key}", [prefix + name for name in known])
        if isinstance(value, Mapping):
            nested = _dataclass_in(hints[key])
            if nested is not None:
                _check_keys(nested, value, f"{prefix}{key}.")


def _dataclass_in(hint: Any) -> type | None:
    """The dataclass that a type hint is or allows (`X`, `X | None`)."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return hint
    for part in getattr(hint, "__args__", ()):
        if dataclasses.is_dataclass(part) and isinstance(part, type):
            return part
    return None


def _merge(into: dict[str, Any], layer: Mapping[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = copy.deepcopy(value)


def _field_docs(cls: type) -> dict[str, str]:
    """The sentence under each field, read from the source of the class and its bases."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, doc in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(doc, ast.Expr)
                and isinstance(doc.value, ast.Constant)
            ):
                docs[field.target.id] = " ".join(str(doc.value.value).split())
    return docs
