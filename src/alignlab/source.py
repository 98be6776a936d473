"""Read names, defaults and docstrings from source files, without importing them.

Importing an objective or a recipe imports torch, which takes seconds; listing parts, showing
settings and refusing a misspelt name do without.
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


class NotStatic(Exception):
    """Expression that cannot be evaluated without running the code."""


class Place(NamedTuple):
    """Module and name of a definition."""

    module: str
    name: str


@dataclass(frozen=True)
class Option:
    """One setting with default and docstring, as `--options` shows it."""

    key: str
    default: Any
    doc: str


@dataclass(frozen=True)
class Instance:
    """Call of a settings class."""

    cls: Place
    given: dict[str, Any]
    """Keyword arguments of the call."""


@dataclass
class Source:
    """Parsed module."""

    tree: ast.Module
    defined: dict[str, ast.AST] = field(default_factory=dict)
    """Name -> top-level definition."""
    imported: dict[str, Place] = field(default_factory=dict)
    """Imported name -> its origin."""


@cache
def read(module: str) -> Source:
    """Parse a module's source file.

    Raises:
        Unread: the module has no source file.
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
    """List the names of a package's public modules, sorted, the package itself last."""
    folder = _ROOT.joinpath(*package.split(".")[1:])
    return [f"{package}.{f.stem}" for f in sorted(folder.glob("*.py")) if f.stem[0] != "_"] + [
        package
    ]


def find(module: str, name: str) -> tuple[Place, ast.AST]:
    """Follow imports within the package to the definition of a name.

    Raises:
        NotStatic: the definition is in another package.
    """
    source = read(module)
    if name in source.defined:
        return Place(module, name), source.defined[name]
    origin = source.imported.get(name)
    if origin and origin.module.split(".")[0] in (PACKAGE, module.split(".")[0]):
        return find(*origin)
    raise NotStatic(name)


def evaluate(module: str, node: ast.AST) -> Any:
    """Evaluate literals, constants of the package and calls of its settings classes.

    Raises:
        Unread: another kind of expression.
    """
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        place, definition = find(module, node.id)
        if isinstance(definition, ast.ClassDef | ast.FunctionDef):
            return place
        return evaluate(place.module, definition)
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
            # Positional arguments are the first fields; `strict` would need all of them.
            given = dict(zip(fields_of(called), (evaluate(module, a) for a in node.args)))  # noqa: B905
            given |= {k.arg: evaluate(module, k.value) for k in node.keywords if k.arg}
            return Instance(called, given)
        if called in ("tuple", "dict", "list", "frozenset") and not node.args:
            return {} if called == "dict" else ()
        if called in ("Path", "tuple", "frozenset"):
            value = evaluate(module, node.args[0])
            return tuple(value) if isinstance(value, dict) else value
    raise NotStatic(ast.unparse(node))


def _called(module: str, node: ast.Call) -> Place | str:
    assert isinstance(node.func, ast.Name)
    try:
        place, definition = find(module, node.func.id)
    except NotStatic:
        return node.func.id
    return place if isinstance(definition, ast.ClassDef) else node.func.id


def _arithmetic(node: ast.UnaryOp | ast.BinOp, values: ast.Tuple) -> Any:
    parts = values.elts
    expression: ast.expr = (
        ast.UnaryOp(node.op, parts[0])
        if isinstance(node, ast.UnaryOp)
        else ast.BinOp(parts[0], node.op, parts[1])
    )
    numbers = all(isinstance(p, ast.Constant) and isinstance(p.value, int | float) for p in parts)
    if not numbers:
        raise NotStatic(ast.unparse(node))
    return eval(compile(ast.fix_missing_locations(ast.Expression(expression)), "", "eval"), {})


class Field(NamedTuple):
    """Definition of a dataclass field, with the module that holds it."""

    module: str
    node: ast.AnnAssign
    doc: str


def fields_of(cls: Place) -> dict[str, Field]:
    """Return the fields of a dataclass and its bases by name, in constructor order."""
    place, node = find(*cls)
    assert isinstance(node, ast.ClassDef), cls
    fields: dict[str, Field] = {}
    for base in reversed(node.bases):
        if isinstance(base, ast.Name):
            try:
                fields |= fields_of(find(place.module, base.id)[0])
            except NotStatic:
                continue  # a base of another package holds no settings
    following: list[ast.stmt | None] = [*node.body[1:], None]
    for each, after in zip(node.body, following, strict=True):
        if not isinstance(each, ast.AnnAssign) or not isinstance(each.target, ast.Name):
            continue
        if "ClassVar" not in ast.unparse(each.annotation):
            name = each.target.id
            doc = _text(after) or (fields[name].doc if name in fields else "")
            fields[name] = Field(place.module, each, doc)
    return fields


def attribute(cls: Place, name: str) -> tuple[str, ast.AST] | None:
    """Find module and value of a class attribute in a class or its bases; None if undefined."""
    try:
        place, node = find(*cls)
    except NotStatic:
        return None
    assert isinstance(node, ast.ClassDef)
    for each in node.body:
        if isinstance(each, ast.AnnAssign) and each.value and ast.unparse(each.target) == name:
            return place.module, each.value
    bases = [Place(place.module, b.id) for b in node.bases if isinstance(b, ast.Name)]
    return next((value for base in bases if (value := attribute(base, name))), None)


def describe(cls: Place, prefix: str = "", given: dict[str, Any] | None = None) -> list[Option]:
    """List the settings of a settings class with defaults and docstrings.

    Args:
        cls: the dataclass; keys of nested dataclasses are dotted.
        prefix: prefix of every key.
        given: values that replace the class's defaults.
    """
    options: list[Option] = []
    for name, each in fields_of(cls).items():
        default = _default(each)
        if given and name in given:
            default = given[name]
        if isinstance(default, Instance):
            options += describe(default.cls, f"{prefix}{name}.", default.given)
            continue
        options.append(Option(prefix + name, default, each.doc))
        optional = _settings_in(each) if default is None else None
        if optional is not None:
            options += describe(optional, f"{prefix}{name}.")
    return options


def docstring(module: str, name: str, *, whole: bool = False) -> str:
    """Return the first paragraph of a docstring: of a class or function, else of its module.

    Args:
        module: the module.
        name: the class or function.
        whole: return all paragraphs.
    """
    node = read(module).defined.get(name)
    own = ast.get_docstring(node) if isinstance(node, ast.ClassDef | ast.FunctionDef) else None
    text = own or ast.get_docstring(read(module).tree) or ""
    return text if whole else " ".join(text.strip().split("\n\n")[0].split())


def signature(function: Place) -> list[Parameter]:
    """List the parameters of a function, with the source text of their annotations."""
    node = find(*function)[1]
    assert isinstance(node, ast.FunctionDef), function
    args = node.args
    plain = [*args.posonlyargs, *args.args]
    without = len(plain) - len(args.defaults)
    parameters = [
        _parameter(function, one, Parameter.POSITIONAL_OR_KEYWORD, default)
        for one, default in zip(plain, [None] * without + [*args.defaults], strict=True)
    ]
    if args.vararg:
        parameters.append(_parameter(function, args.vararg, Parameter.VAR_POSITIONAL, None))
    parameters += [
        _parameter(function, one, Parameter.KEYWORD_ONLY, default)
        for one, default in zip(args.kwonlyargs, args.kw_defaults, strict=True)
    ]
    if args.kwarg:
        parameters.append(_parameter(function, args.kwarg, Parameter.VAR_KEYWORD, None))
    return parameters


def _parameter(function: Place, one: ast.arg, kind: Any, default: ast.expr | None) -> Parameter:
    annotation = ast.unparse(one.annotation) if one.annotation else ""
    value: Any = Parameter.empty
    if default is not None:
        try:
            value = evaluate(function.module, default)
        except NotStatic as error:
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
            factory = named["default_factory"]
            body = factory.body if isinstance(factory, ast.Lambda) else ast.Call(factory, [], [])
            return evaluate(each.module, body)
        return evaluate(each.module, value)
    except NotStatic as error:
        return str(error)


def _settings_in(each: Field) -> Place | None:
    """Find the settings class in an annotation such as `LoraConfig | None`."""
    for node in ast.walk(each.node.annotation):
        if isinstance(node, ast.Name):
            try:
                place, definition = find(each.module, node.id)
            except NotStatic:
                continue
            if isinstance(definition, ast.ClassDef) and any(
                "dataclass" in ast.unparse(d) for d in definition.decorator_list
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
        spec = None if loaded else importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    origin = getattr(loaded, "__file__", None) or getattr(spec, "origin", None)
    if not origin or not Path(origin).is_file():
        raise NotStatic(module)  # a notebook's cell
    return Path(origin)


def _text(node: ast.stmt | None) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return " ".join(str(node.value.value).split())
    return ""
