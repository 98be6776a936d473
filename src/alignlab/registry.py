"""Names to parts: `@register("objective", "dpo")` in a new file is all it takes to add one."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any, TypeVar

from alignlab.errors import BadInput, unknown_name

T = TypeVar("T")

PACKAGES: dict[str, str] = {
    "recipe": "alignlab.recipes",
    "objective": "alignlab.objectives",
    "engine": "alignlab.generation",
    "feedback": "alignlab.feedback",
    "benchmark": "alignlab.evaluation.benchmarks",
    "data": "alignlab.data",
    "model": "alignlab.models",
    "sandbox": "alignlab.sandbox",
}
"""Kind of part -> the package whose modules register parts of it."""

_parts: dict[tuple[str, str], Any] = {}
_options: dict[tuple[str, str], type] = {}
_old: dict[tuple[str, str], str] = {}
_discovered: set[str] = set()


def register(
    kind: str, name: str, *, options: type | None = None, old: tuple[str, ...] = ()
) -> Callable[[T], T]:
    """Register the decorated part under a name; registering a name twice is an error.

    `options` is the config class of what a spec may add to the name, where it may add something;
    `old` are earlier names, by which the part is still found but not listed.
    """
    if kind not in PACKAGES:
        raise ValueError(f"unknown kind of part {kind!r}; known: {sorted(PACKAGES)}")

    def keep(part: T) -> T:
        known = _parts.get((kind, name))
        if known is not None and getattr(known, "__qualname__", known) != getattr(
            part, "__qualname__", part
        ):
            raise ValueError(f"{kind} {name!r} is registered twice")
        _parts[kind, name] = part
        _old.update({(kind, earlier): name for earlier in old})
        if options is not None:
            _options[kind, name] = options
        return part

    return keep


def get(kind: str, name: str) -> Any:
    """Find a part by kind and name.

    Raises:
        BadInput: no such part; the message names the nearest one.
    """
    found = _parts.get((kind, name))
    if found is None:
        _discover(kind)
        found = _parts.get((kind, name))
    if found is None and (kind, name) in _old:
        return get(kind, _old[kind, name])
    if found is None:
        raise unknown_name(kind, name, names(kind))
    return found


def options(kind: str, name: str) -> type | None:
    """The config class of a part's own options; None where it has none.

    Raises:
        BadInput: no such part.
    """
    get(kind, name)
    return _options.get((kind, name))


def names(kind: str) -> list[str]:
    """All names of a kind, sorted."""
    if kind not in PACKAGES:
        raise BadInput(f"unknown kind of part {kind!r}; known: {', '.join(sorted(PACKAGES))}")
    _discover(kind)
    return sorted(name for a_kind, name in _parts if a_kind == kind)


def _discover(kind: str) -> None:
    """Import every module of the kind's package, and the sandbox, which adds to several kinds."""
    for package_name in (PACKAGES[kind], PACKAGES["sandbox"]):
        if package_name in _discovered:
            continue
        package = importlib.import_module(package_name)
        for module in pkgutil.iter_modules(package.__path__):
            if not module.name.startswith("_"):
                importlib.import_module(f"{package_name}.{module.name}")
        _discovered.add(package_name)
