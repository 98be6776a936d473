"""Build settings from dataclass defaults, a preset, a YAML file and key=value, in this order."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import logging
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from alignlab import source
from alignlab.errors import BadInput, unknown_name
from alignlab.source import Option
from alignlab.yaml_settings import load_yaml

T = TypeVar("T")

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]

_TRL = {
    "learning_rate": ("lr",),
    "num_train_epochs": ("epochs",),
    "max_steps": ("epochs", "steps"),
    "per_device_train_batch_size": ("batch_size",),
    "gradient_accumulation_steps": ("batch_size", "token_budget"),
    "lr_scheduler_type": ("schedule",),
    "warmup_steps": ("warmup_ratio",),
    "lengths": ("max_prompt_tokens", "max_tokens"),
    "max_length": ("lengths.max_prompt_tokens", "lengths.max_response_tokens"),
    "max_prompt_length": ("max_prompt_tokens",),
    "max_completion_length": ("max_tokens", "lengths.max_response_tokens"),
    "max_new_tokens": ("max_tokens",),
    "num_generations": ("responses",),
    "num_return_sequences": ("n",),
    "bf16": ("dtype",),
    "fp16": ("dtype",),
    "torch_dtype": ("dtype",),
    "loss_type": ("objective.name",),
    "peft_config": ("lora",),
    "logging_steps": ("log_every",),
    "save_steps": ("save_every",),
    "eval_steps": ("validate_every",),
    "save_total_limit": ("keep_checkpoints",),
    "report_to": ("track",),
}
"""Names of settings in TRL, transformers and other commands -> those that replace them."""

_ARGUMENTS = {"loss_type": "the objective's name", "output_dir": "out"}
"""Names of settings in TRL -> arguments that replace them where no setting does."""

_EXPECTED = {
    "greater_than": "above {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "less_than": "below {lt:g}",
    "less_than_equal": "at most {le:g}",
    "literal_error": "{expected}",
    "finite_number": "a finite number",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    "string_type": "a text",
    **dict.fromkeys(("list_type", "tuple_type"), "a list"),
    **dict.fromkeys(("dict_type", "dataclass_type"), "settings by name ({{NAME: VALUE}})"),
}
"""Type of a pydantic error -> expected value as error messages state it."""

log = logging.getLogger(__name__)


class Bounded:
    """Settings dataclass that validates the bounds in its annotations on construction.

    Fields declare bounds by `Annotated[int, Field(gt=0)]`, an alias such as `PositiveInt`, or a
    `Literal`. Subclasses check relations between fields in `__post_init__`, after
    `super().__post_init__()`.
    """

    def __post_init__(self) -> None:
        cls: Any = type(self)
        hints = _hints(cls)
        for name, adapter in _bounds(cls):
            value = getattr(self, name)
            try:
                adapter.validate_python(value)
            except ValidationError as error:
                raise BadInput(f"{cls.__name__}: {name}: {_complaint(error)}") from None
            # pydantic takes "0.1" for 0.1, but the field still holds the text.
            if isinstance(value, str) and _is_number(hints[name], str):
                raise BadInput(f"{cls.__name__}: {name}: expected a number, found {value!r}")
        _refuse_truth(cls, vars(self), f"{cls.__name__}: ")


@cache
def _hints(cls: Any) -> dict[str, Any]:
    """Return the type hints of a class, with their bounds."""
    return get_type_hints(cls, include_extras=True)


def _is_number(hint: Any, other: type) -> bool:
    """Return whether a type hint holds numbers, and no values of another type."""
    if isinstance(hint, type):
        return issubclass(hint, int | float) and not issubclass(hint, bool)
    parts = get_args(hint)[:1] if get_origin(hint) is Annotated else get_args(hint)
    return any(_is_number(part, other) for part in parts) and other not in parts


def _refuse_truth(cls: type, values: Mapping[str, Any], where: str) -> None:
    """Refuse true and false for a number: Python takes them for 1 and 0.

    Raises:
        BadInput: such a value; nested settings are checked too.
    """
    hints = _hints(cls)
    for key, value in values.items():
        nested = _dataclass_in(hints.get(key))
        if nested is not None and isinstance(value, Mapping):
            _refuse_truth(nested, value, f"{where}{key}.")
        several = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(one, bool) for one in several) and _is_number(hints.get(key), bool):
            raise BadInput(f"{where}{key}: expected a number, found {value!r}")


@cache
def _bounds(cls: Any) -> tuple[tuple[str, TypeAdapter[Any]], ...]:
    """Return the fields that declare a bound, each with its validator."""
    hints = _hints(cls)
    bounded = [f.name for f in dataclasses.fields(cls) if _declares_bound(hints[f.name])]
    return tuple((name, TypeAdapter(hints[name])) for name in bounded)


def _declares_bound(hint: Any) -> bool:
    if get_origin(hint) in (Annotated, Literal):
        return True
    return any(_declares_bound(part) for part in get_args(hint))


def _complaint(error: ValidationError) -> str:
    """Describe the first pydantic error on one line: expected and found."""
    first = error.errors()[0]
    known = _EXPECTED.get(first["type"])
    bound = first["msg"] if known is None else known.format(**first.get("ctx", {}))
    expected = bound if known is None else "expected " + bound.replace("'", "")
    return f"{expected}, found {first['input']!r}"


def refuse_one_of_two(first: tuple[str, Any], second: tuple[str, Any]) -> None:
    """Refuse a setting without the other that it needs.

    Args:
        first: name and value of one setting; a false value is none.
        second: the other's.

    Raises:
        BadInput: one of the two is given alone.
    """
    (one, value), (other, its_value) = first, second
    if bool(value) != bool(its_value):
        raise BadInput(
            f"settings {one} and {other}: expected both or neither, found {value} and {its_value}"
        )


def build(cls: type[T], *layers: Mapping[str, Any]) -> T:
    """Build a config from its defaults and nested mappings; later layers win.

    Raises:
        BadInput: a key is unknown (the message names the nearest valid one), or a value has the
            wrong type or is out of bounds.
    """
    values = merged(cls, *layers)
    _refuse_truth(cls, values, "setting ")
    try:
        config = TypeAdapter(cls).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"] if isinstance(part, str | int))
        raise BadInput(f"setting {key}: {_complaint(error)}") from None
    _refuse_unbounded(config)
    return config


def merged(cls: type, *layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge a config's defaults and nested mappings, unvalidated; later layers win.

    Raises:
        BadInput: a key is unknown.
    """
    found: dict[str, Any] = _defaults(cls)
    for layer in layers:
        _check_keys(cls, layer, "")
        merge(found, layer)
    return found


def parse_overrides(overrides: Sequence[str], *, warn: bool = False) -> dict[str, Any]:
    """Parse `["sft.lr=5e-4", "seed=1"]` to a nested mapping; values are YAML.

    Args:
        overrides: the settings; a later one of a name wins, as scripts extend lists.
        warn: log settings that are given twice with different values.

    Raises:
        BadInput: an argument is not key=value, has a value where another has parts of it, or
            begins a list and is none.
    """
    nested: dict[str, Any] = {}
    for item in overrides:
        key, equals, text = item.partition("=")
        if not equals or not key:
            raise BadInput(f"expected key=value, found {item!r}")
        value: Any
        try:
            value = load_yaml(text) if text else ""
        except yaml.YAMLError as error:
            if text.startswith("["):
                raise BadInput(
                    f"setting {key}: expected a list such as [a, b], found {text!r}"
                ) from error
            value = text
        *parents, last = key.strip().split(".")
        layer = {last: value}
        for parent in reversed(parents):
            layer = {parent: layer}
        _add(nested, layer, warn)
    return nested


def _add(into: dict[str, Any], layer: Mapping[str, Any], warn: bool, prefix: str = "") -> None:
    """Add settings to nested ones in place.

    Raises:
        BadInput: a setting has a value where another has parts of it.
    """
    for key, value in layer.items():
        known = into.get(key)
        if isinstance(known, dict) and isinstance(value, dict):
            _add(known, value, warn, f"{prefix}{key}.")
            continue
        found = f"{_shortened(known)} and {_shortened(value)}"
        if value is not None and known is not None and dict in (type(known), type(value)):
            raise BadInput(f"setting {prefix}{key}: expected one value, found two: {found}")
        if warn and key in into and known != value:
            log.warning("setting %s%s: given twice (%s); the last counts", prefix, key, found)
        into[key] = value


def _shortened(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def dotted(nested: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the names of nested settings: {"sft": {"lr": 1}} -> "sft.lr"."""
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file of settings.

    Raises:
        BadInput: the file is missing, is not YAML, or is not a mapping.
    """
    try:
        content = load_yaml(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise BadInput(f"{path}: no such configuration file") from None
    except OSError as error:
        raise BadInput(f"{path}: expected a file of settings, found: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        where = f", line {line + 1}" if line is not None else ""
        found = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise BadInput(f"{path}{where}: expected YAML, found {found}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise BadInput(f"{path}: expected settings (key: value), found {type(content).__name__}")
    return content


def describe(cls: type, prefix: str = "") -> list[Option]:
    """List the settings of a config class with defaults and docstrings; nested keys are dotted."""
    return source.describe(source.Place(cls.__module__, cls.__name__), prefix)


def refuse_unknown(options: Sequence[Option], given: Mapping[str, Any], prefix: str = "") -> None:
    """Refuse settings whose keys are not among the options.

    Raises:
        BadInput: a key is unknown; the message names the nearest valid one.
    """
    free = {o.key for o in options if isinstance(o.default, dict)}
    keys = [option.key for option in options]
    for key, value in given.items():
        name = f"{prefix}{key}"
        inside = [known for known in keys if known.startswith(f"{name}.")]
        if isinstance(value, Mapping) and inside:
            refuse_unknown(options, value, f"{name}.")
        elif name not in keys and not inside and not any(name.startswith(f"{f}.") for f in free):
            depth = name.count(".")
            level = {".".join(k.split(".")[: depth + 1]) for k in keys if k.startswith(prefix)}
            meant = _meant(key, keys, level)
            if not meant and prefix and not _alike(key, level):
                # objective.beta may be an option, objective.options.beta
                meant = [f"{f}.{key}" for f in free if f.rpartition(".")[0] == prefix[:-1]]
            raise unknown_name("setting", name, level, meant)


def _meant(name: str, keys: Sequence[str], level: Collection[str]) -> list[str]:
    """Return the settings that a name of TRL's, or a setting without its group, stands for.

    Args:
        level: settings at the place of the name; one that is spelled alike comes first.
    """
    wanted = _TRL.get(name, (name,))
    groups = [key for key in keys if key in wanted or key.rpartition(".")[2] in wanted]
    if not groups and name in _ARGUMENTS:
        return [_ARGUMENTS[name]]
    alike = difflib.get_close_matches(name, level, n=1, cutoff=0.9) if groups else []
    return [*alike, *groups][:3]


def _alike(key: str, level: Collection[str]) -> bool:
    """Return whether the last part of a setting is spelled nearly as the key is."""
    leaves = [known.rpartition(".")[2] for known in level]
    return bool(difflib.get_close_matches(key, leaves, n=1, cutoff=0.6))


def _refuse_unbounded(config: Any, prefix: str = "") -> None:
    """Refuse NaN and infinity, which YAML and Python read as numbers."""
    if not dataclasses.is_dataclass(config):
        return
    for one in dataclasses.fields(config):
        value = getattr(config, one.name)
        if isinstance(value, float) and not math.isfinite(value):
            raise BadInput(f"setting {prefix}{one.name}: expected a finite number, found {value}")
        _refuse_unbounded(value, f"{prefix}{one.name}.")


def _defaults(cls: type) -> dict[str, Any]:
    """Return the nested defaults of a dataclass; empty if a field has no default."""
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
    """Find the dataclass in a type hint (`X`, `X | None`)."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return hint
    for part in getattr(hint, "__args__", ()):
        if dataclasses.is_dataclass(part) and isinstance(part, type):
            return part
    return None


def merge(into: dict[str, Any], layer: Mapping[str, Any]) -> None:
    """Merge a layer into a nested mapping in place; the layer's values win."""
    for key, value in layer.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = copy.deepcopy(value)
