"""Defaults and constants of modules, on which figures depend silently."""

from __future__ import annotations

import inspect
import re
from dataclasses import MISSING, fields, is_dataclass
from types import ModuleType
from typing import Any


def defaults_of(module: ModuleType) -> dict[str, Any]:
    """Every plain constant of a module, default of its functions and classes, and class value."""
    found: dict[str, Any] = {
        name: value
        for name, value in vars(module).items()
        if re.fullmatch(r"_?[A-Z][A-Z_0-9]*", name) and _is_number(value)
    }
    for name, thing in vars(module).items():
        if getattr(thing, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(thing):
            found |= _of_function(name, thing)
        elif inspect.isclass(thing):
            found |= _of_class(name, thing)
    return found


def _of_function(name: str, function: Any) -> dict[str, Any]:
    return {
        f"{name}({p.name})": p.default
        for p in inspect.signature(function).parameters.values()
        if p.default is not p.empty and _is_plain(p.default)
    }


def _of_class(name: str, cls: type) -> dict[str, Any]:
    own = {f"{name}.{k}": v for k, v in vars(cls).items() if _is_plain(v) and not k.startswith("_")}
    if is_dataclass(cls):
        given = {f.name: f.default for f in fields(cls) if f.default is not MISSING}
        own |= {f"{name}.{k}": v for k, v in given.items() if _is_plain(v)}
    for key, thing in vars(cls).items():
        if inspect.isfunction(thing) and (
            (key == "__init__" and not is_dataclass(cls)) or not key.startswith("__")
        ):
            own |= _of_function(f"{name}.{key}", thing)
    return own


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return isinstance(value, bool | int | float | str)


def _is_number(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_number, value))
    return isinstance(value, int | float) and not isinstance(value, re.RegexFlag)
