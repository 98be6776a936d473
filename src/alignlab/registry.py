"""Registry of parts by kind and name: `@register("objective", "dpo")` in a new file adds one.

Other packages add parts by entry points of the group `alignlab.KIND` (`alignlab.feedback`,
`alignlab.objective`, `alignlab.benchmark`, `alignlab.data`, `alignlab.engine`, `alignlab.recipe`):
`NAME = "package.module"`, a module that registers the part, or `"package.module:factory"`.

Names, docstrings and settings are read from source files (`source`): listing parts or refusing a
misspelt name imports nothing. A part's module is imported on first use.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from alignlab import source
from alignlab.errors import BadInput, unknown_name
from alignlab.source import PACKAGE, NotStatic, Place

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
"""Kind of part -> package whose modules register parts of that kind."""

_DATA_DECORATORS = ("row_format", "grouped_format")
"""Decorators that register a data format under their first argument."""

_parts: dict[tuple[str, str], Any] = {}
_options: dict[tuple[str, str], type] = {}
_old: dict[tuple[str, str], str] = {}


@dataclass(frozen=True)
class Part:
    """Registered part, as described by its source file."""

    kind: str
    name: str
    place: Place
    """Module and name of the class or function."""
    about: str
    """One-line description."""
    options: Place | None = None
    """Class of the settings that a spec or a recipe accepts; None without settings."""
    old: tuple[str, ...] = ()
    """Earlier names."""


def register(
    kind: str, name: str, *, options: type | None = None, old: tuple[str, ...] = ()
) -> Callable[[T], T]:
    """Register the decorated part under a name.

    Args:
        kind: a key of `PACKAGES`.
        name: name in specs and on the command line.
        options: config class of the options that may follow the name in a spec.
        old: earlier names; the part is found under them but not listed.

    Raises:
        ValueError: the kind is unknown, or the name is registered already.
    """
    if kind not in PACKAGES:
        raise ValueError(f"unknown kind of part {kind!r}; known: {sorted(PACKAGES)}")

    def add(part: T) -> T:
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

    return add


def get(kind: str, name: str) -> Any:
    """Import and return a part.

    Raises:
        BadInput: the part is unknown; the message names the nearest one.
    """
    if (kind, name) not in _parts:
        part = find(kind, name)
        name = part.name
        module = importlib.import_module(part.place.module)
        if (kind, name) not in _parts:  # a plugin's factory, named by its entry point alone
            register(kind, name)(getattr(module, part.place.name))
    return _parts[kind, name]


def find(kind: str, name: str) -> Part:
    """Describe a part without importing it.

    Raises:
        BadInput: the part is unknown; the message names the nearest one.
    """
    known = index(kind)
    for part in known.values():
        if name == part.name or name in part.old:
            return part
    name = _old.get((kind, name), name)
    registered = _parts.get((kind, name))
    if registered is None:
        raise unknown_name(kind, name, names(kind))
    cls = registered if isinstance(registered, type) else type(registered)
    about = " ".join((registered.__doc__ or "").strip().split("\n\n")[0].split())
    config = getattr(registered, "config", None)  # a recipe's
    own = Place(config.__module__, config.__name__) if isinstance(config, type) else None
    return Part(kind, name, Place(cls.__module__, cls.__name__), about, own)


def options(kind: str, name: str) -> type | None:
    """Return the config class of a part's options; None without options.

    Raises:
        BadInput: the part is unknown.
    """
    get(kind, name)
    return _options.get((kind, name))


def names(kind: str) -> list[str]:
    """List all names of a kind, sorted."""
    if kind not in PACKAGES:
        raise BadInput(f"unknown kind of part {kind!r}; known: {', '.join(sorted(PACKAGES))}")
    return sorted({*index(kind), *(name for a_kind, name in _parts if a_kind == kind)})


@cache
def index(kind: str) -> dict[str, Part]:
    """Describe the parts of a kind that the project and installed plugins register, by name.

    Raises:
        BadInput: a plugin's part has the name of another.
    """
    modules = source.modules(PACKAGES[kind]) + source.modules(PACKAGES["sandbox"])
    found = {p.name: p for module in modules for p in _registered(module) if p.kind == kind}
    for point in entry_points(group=f"{PACKAGE}.{kind}"):
        if point.name in found:
            package = point.dist.name if point.dist else point.value
            raise BadInput(
                f"plugin {package}: expected a new name of {kind}, found {point.name!r}, which "
                "another part has"
            )
        found[point.name] = _plugin(kind, point)
    return found


def _plugin(kind: str, point: EntryPoint) -> Part:
    """Describe a plugin's part from the source of its module."""
    try:
        parts = [p for p in _registered(point.module) if (p.kind, p.name) == (kind, point.name)]
        about = source.docstring(point.module, point.attr) if point.attr and not parts else ""
    except NotStatic:
        parts, about = [], ""  # found out where the part is used
    return parts[0] if parts else Part(kind, point.name, Place(point.module, point.attr), about)


@cache
def _registered(module: str) -> tuple[Part, ...]:
    return tuple(_parts_in(module))


def _parts_in(module: str) -> Iterator[Part]:
    for node in source.read(module).tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Name):
                    yield from _decorated(module, node.name, decorator)
        elif isinstance(node, ast.Expr | ast.Assign) and isinstance(node.value, ast.Call):
            outer = node.value
            if isinstance(outer.func, ast.Call) and ast.unparse(outer.func.func) == "register":
                yield _called(module, outer.func, outer.args[0])


def _decorated(module: str, name: str, decorator: ast.Call) -> Iterator[Part]:
    called = ast.unparse(decorator.func)
    if called in _DATA_DECORATORS:
        known = source.evaluate(module, decorator.args[0])
        yield Part("data", known, Place(module, name), source.docstring(module, name))
    elif called == "register":
        kind, known = (source.evaluate(module, arg) for arg in decorator.args)
        keywords = _keywords(module, decorator)
        own, old = keywords.get("options"), tuple(keywords.get("old", ()))
        place = Place(module, name)
        if own is None and isinstance(source.find(*place)[1], ast.ClassDef):
            own = place
        yield Part(kind, known, place, source.docstring(module, name), own, old)


def _called(module: str, registering: ast.Call, part: ast.expr) -> Part:
    """Describe `register(KIND, NAME)(Recipe(question=..., config=...))` or `(Format(doc=...))`."""
    kind, name = (source.evaluate(module, arg) for arg in registering.args)
    arguments = {k.arg: k.value for k in part.keywords} if isinstance(part, ast.Call) else {}
    text = arguments.get("question") or arguments.get("doc") or ast.Constant("")
    about = source.evaluate(module, text)
    own = source.evaluate(module, arguments["config"]) if "config" in arguments else None
    old = _keywords(module, registering).get("old", ())
    return Part(kind, name, Place(module, name), about, own, tuple(old))


def _keywords(module: str, registering: ast.Call) -> dict[str, Any]:
    return {k.arg: source.evaluate(module, k.value) for k in registering.keywords if k.arg}
