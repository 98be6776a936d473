"""Read names, defaults and docstrings from source files, without importing them.

Importing an objective or a recipe imports torch, which takes seconds. Listing parts, showing
settings and refusing a misspelt name need only what stands in the source.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from dataclasses import dataclass, field
from functools import cache
from inspect import Parameter
from pathlib import Path
from typing import Any, NamedTuple

PACKAGE = "alignlab"
_ROOT = Path(__file__).parent


class Unread(Exception):
    """An expression that only running the code can evaluate."""


class Place(NamedTuple):
    """A name in a module."""

    module: str
    name: str


@dataclass(frozen=True)
class Option:
    """One setting as `--options` shows it."""

    key: str
    default: Any
    doc: str


@dataclass(frozen=True)
class Instance:
    """A settings class with the arguments it is made with."""

    cls: Place
    given: dict[str, Any]


@dataclass
class Source:
    """A parsed module: its top-level definitions, and where imported names come from."""

    tree: ast.Module
    defined: dict[str, ast.AST] = field(default_factory=dict)
    imported: dict[str, Place] = field(default_factory=dict)


@cache
def read(module: str) -> Source:
    """Parse a module; of this package no parent is imported for it.

    Raises:
        Unread: it has no source file.
    """
    source = Source(ast.parse(_file(module).read_text(encoding="utf-8")))
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for name in node.names:
                source.imported[name.asname or name.name] = Place(node.module, name.name)
    for node in source.tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            source.defined[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            source.defined[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            source.defined[node.target.id] = node.value
    return source


def modules(package: str) -> list[str]:
    """Names of a package's public modules, sorted."""
    folder = _ROOT.joinpath(*package.split(".")[1:])
    return [f"{package}.{f.stem}" for f in sorted(folder.glob("*.py")) if f.stem[0] != "_"] + [
        package
    ]


def find(module: str, name: str) -> tuple[Place, ast.AST]:
    """Follow imports within the package to the definition of a name.

    Raises:
        Unread: it is defined elsewhere.
    """
    source = read(module)
    if name in source.defined:
        return Place(module, name), source.defined[name]
    origin = source.imported.get(name)
    if origin and origin.module.split(".")[0] in (PACKAGE, module.split(".")[0]):
        return find(*origin)
    raise Unread(name)


def evaluate(module: str, node: ast.AST) -> Any:
    """Evaluate literals, constants of the package and calls of its settings classes.

    Raises:
        Unread: anything else.
    """
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        place, found = find(module, node.id)
        if isinstance(found, ast.ClassDef | ast.FunctionDef):
            return place
        return evaluate(place.module, found)
    if isinstance(node, ast.Tuple | ast.List):
        return tuple(evaluate(module, each) for each in node.elts)
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {evaluate(module, k): evaluate(module, v) for k, v in pairs if k is not None}
    if isinstance(node, ast.UnaryOp | ast.BinOp):
        sides = [n for n in ast.iter_child_nodes(node) if isinstance(n, ast.expr)]
        values = ast.Tuple([ast.Constant(evaluate(module, side)) for side in sides])
        return _arithmetic(node, values)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        called = _called(module, node)
        if isinstance(called, Place):
            given = {k.arg: evaluate(module, k.value) for k in node.keywords if k.arg}
            return Instance(called, given)
        if called in ("tuple", "dict", "list", "frozenset") and not node.args:
            return {} if called == "dict" else ()
        if called in ("Path", "tuple", "frozenset"):
            return evaluate(module, node.args[0])
    raise Unread(ast.unparse(node))


def _called(module: str, node: ast.Call) -> Place | str:
    assert isinstance(node.func, ast.Name)
    try:
        place, found = find(module, node.func.id)
    except Unread:
        return node.func.id
    return place if isinstance(found, ast.ClassDef) else node.func.id


def _arithmetic(node: ast.UnaryOp | ast.BinOp, values: ast.Tuple) -> Any:
    parts = values.elts
    made: ast.expr = (
        ast.UnaryOp(node.op, parts[0])
        if isinstance(node, ast.UnaryOp)
        else ast.BinOp(parts[0], node.op, parts[1])
    )
    numbers = all(isinstance(p, ast.Constant) and isinstance(p.value, int | float) for p in parts)
    if not numbers:
        raise Unread(ast.unparse(node))
    return eval(compile(ast.fix_missing_locations(ast.Expression(made)), "", "eval"), {})


class Field(NamedTuple):
    """A dataclass field where it is defined."""

    module: str
    node: ast.AnnAssign
    doc: str


def fields_of(cls: Place) -> dict[str, Field]:
    """Fields of a dataclass and its bases by name, in the order of its constructor."""
    place, node = find(*cls)
    assert isinstance(node, ast.ClassDef), cls
    found: dict[str, Field] = {}
    for base in reversed(node.bases):
        if isinstance(base, ast.Name):
            try:
                found |= fields_of(find(place.module, base.id)[0])
            except Unread:
                continue  # a base of another package holds no settings
    following: list[ast.stmt | None] = [*node.body[1:], None]
    for each, after in zip(node.body, following, strict=True):
        if not isinstance(each, ast.AnnAssign) or not isinstance(each.target, ast.Name):
            continue
        if "ClassVar" not in ast.unparse(each.annotation):
            name = each.target.id
            doc = _text(after) or (found[name].doc if name in found else "")
            found[name] = Field(place.module, each, doc)
    return found


def attribute(cls: Place, name: str) -> tuple[str, ast.AST] | None:
    """The value that a class or the nearest of its bases gives a class attribute; None if none."""
    try:
        place, node = find(*cls)
    except Unread:
        return None
    assert isinstance(node, ast.ClassDef)
    for each in node.body:
        if isinstance(each, ast.AnnAssign) and each.value and ast.unparse(each.target) == name:
            return place.module, each.value
    bases = [Place(place.module, b.id) for b in node.bases if isinstance(b, ast.Name)]
    return next((found for base in bases if (found := attribute(base, name))), None)


def describe(cls: Place, prefix: str = "", given: dict[str, Any] | None = None) -> list[Option]:
    """List a settings class's settings with defaults and sentences; nested ones are dotted.

    Args:
        cls: the dataclass.
        prefix: what stands before each key.
        given: values in place of the class's own defaults.
    """
    found: list[Option] = []
    for name, each in fields_of(cls).items():
        default = _default(each)
        if given and name in given:
            default = given[name]
        if isinstance(default, Instance):
            found += describe(default.cls, f"{prefix}{name}.", default.given)
            continue
        found.append(Option(prefix + name, default, each.doc))
        optional = _settings_in(each) if default is None else None
        if optional is not None:
            found += describe(optional, f"{prefix}{name}.")
    return found


def docstring(module: str, name: str, *, whole: bool = False) -> str:
    """Return the first paragraph of a class's or function's docstring, else of its module's.

    Args:
        module: the module.
        name: the class or function.
        whole: return every paragraph.
    """
    node = read(module).defined.get(name)
    own = ast.get_docstring(node) if isinstance(node, ast.ClassDef | ast.FunctionDef) else None
    text = own or ast.get_docstring(read(module).tree) or ""
    return text if whole else " ".join(text.strip().split("\n\n")[0].split())


def signature(function: Place) -> list[Parameter]:
    """List a function's parameters; annotations are the text in the source."""
    node = find(*function)[1]
    assert isinstance(node, ast.FunctionDef), function
    given = node.args
    plain = [*given.posonlyargs, *given.args]
    without = len(plain) - len(given.defaults)
    found = [
        _parameter(function, one, Parameter.POSITIONAL_OR_KEYWORD, default)
        for one, default in zip(plain, [None] * without + [*given.defaults], strict=True)
    ]
    if given.vararg:
        found.append(_parameter(function, given.vararg, Parameter.VAR_POSITIONAL, None))
    found += [
        _parameter(function, one, Parameter.KEYWORD_ONLY, default)
        for one, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)
    ]
    if given.kwarg:
        found.append(_parameter(function, given.kwarg, Parameter.VAR_KEYWORD, None))
    return found


def _parameter(function: Place, one: ast.arg, kind: Any, default: ast.expr | None) -> Parameter:
    annotation = ast.unparse(one.annotation) if one.annotation else ""
    value: Any = Parameter.empty
    if default is not None:
        try:
            value = evaluate(function.module, default)
        except Unread as error:
            value = str(error)
    return Parameter(one.arg, kind, default=value, annotation=annotation)


def _default(each: Field) -> Any:
    value = each.node.value
    try:
        if value is None:
            return None
        if isinstance(value, ast.Call) and ast.unparse(value.func) in (
            "field",
            "dataclasses.field",
        ):
            named = {k.arg: k.value for k in value.keywords}
            if "default" in named:
                return evaluate(each.module, named["default"])
            made = named["default_factory"]
            body = made.body if isinstance(made, ast.Lambda) else ast.Call(made, [], [])
            return evaluate(each.module, body)
        return evaluate(each.module, value)
    except Unread as error:
        return str(error)


def _settings_in(each: Field) -> Place | None:
    """The settings class that an annotation such as `LoraConfig | None` allows."""
    for node in ast.walk(each.node.annotation):
        if isinstance(node, ast.Name):
            try:
                place, found = find(each.module, node.id)
            except Unread:
                continue
            if isinstance(found, ast.ClassDef) and any(
                "dataclass" in ast.unparse(d) for d in found.decorator_list
            ):
                return place
    return None


def _file(module: str) -> Path:
    first, *rest = module.split(".")
    if first == PACKAGE:
        path = _ROOT.joinpath(*rest)
        return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    loaded = sys.modules.get(module)
    try:
        found = None if loaded else importlib.util.find_spec(module)
    except (ImportError, ValueError):
        found = None
    origin = getattr(loaded, "__file__", None) or getattr(found, "origin", None)
    if not origin or not Path(origin).is_file():
        raise Unread(module)  # a notebook's cell
    return Path(origin)


def _text(node: ast.stmt | None) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return " ".join(str(node.value.value).split())
    return ""
