"""Small changes of Python source that a test suite should notice, found by its syntax tree.

A mutation replaces the text of one expression or statement; the rest of the file stays as it is.
Docstrings, annotations, decorators and the text of errors are left alone.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
_EXCHANGED = {
    "min": "max", "max": "min", "amin": "amax", "amax": "amin", "argmin": "argmax",
    "argmax": "argmin", "any": "all", "all": "any", "sum": "mean", "mean": "sum",
    "floor": "ceil", "ceil": "floor", "cumsum": "cumprod", "softmax": "log_softmax",
    "log_softmax": "softmax", "exp": "expm1", "log": "log1p", "zeros_like": "ones_like",
    "ones_like": "zeros_like", "zeros": "ones", "ones": "zeros",
}  # fmt: skip


@dataclass(frozen=True)
class Mutation:
    """One change of one file."""

    file: str
    """Path from the project's root."""
    line: int
    kind: str
    start: int
    """First changed byte of the file."""
    end: int
    new: str
    """Text in the place of the bytes from start to end."""

    @property
    def id(self) -> str:
        """Name that is the same for as long as the file does not change."""
        return f"{self.file}:{self.line}:{self.kind}:{self.start}:{self.new}"

    def apply(self, source: bytes) -> bytes:
        """Return the changed file."""
        return source[: self.start] + self.new.encode() + source[self.end :]

    def diff(self, source: bytes) -> str:
        """Return the changed lines, unified, without context."""
        before, after = source.decode().splitlines(), self.apply(source).decode().splitlines()
        lines = list(difflib.unified_diff(before, after, lineterm="", n=0))
        return "\n".join(lines[3:])


def mutations(path: Path, root: Path) -> list[Mutation]:
    """List every mutation of a file, in the order of the text."""
    source = path.read_bytes()
    offsets = [0]
    for line in source.splitlines(keepends=True):
        offsets.append(offsets[-1] + len(line))
    found = []
    for node, kind, new in _Finder(source.decode()).found():
        start = offsets[node.lineno - 1] + node.col_offset
        end = offsets[node.end_lineno - 1] + node.end_col_offset
        if source[start:end].decode() != new:
            name = str(path.relative_to(root))
            found.append(Mutation(name, node.lineno, kind, start, end, new))
    return sorted(set(found), key=lambda m: (m.start, m.end, m.kind, m.new))


class _Finder:
    """Walks a module and collects (node, kind of change, new text)."""

    def __init__(self, source: str) -> None:
        self._tree = ast.parse(source)

    def found(self) -> Iterator[tuple[ast.AST, str, str]]:
        for node in self._live(self._tree):
            for kind, new in self._changes(node):
                yield node, kind, new if isinstance(new, str) else f"({ast.unparse(new)})"

    def _live(self, node: ast.AST) -> Iterator[ast.AST]:
        """Every node but those that no test is about."""
        yield node
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "decorator_list", "bases", "type_params"):
                continue
            if isinstance(node, ast.Raise) or (isinstance(node, ast.Call) and _logs(node)):
                continue
            for child in value if isinstance(value, list) else [value]:
                if not isinstance(child, ast.AST):
                    continue
                text = isinstance(child, ast.JoinedStr | ast.Import | ast.ImportFrom | ast.alias)
                if not text and not _is_docstring(child):
                    yield from self._live(child)

    def _changes(self, node: ast.AST) -> Iterator[tuple[str, ast.AST | str]]:
        change = getattr(self, f"_{type(node).__name__.lower()}", None)
        if change is not None:
            yield from change(node)

    def _compare(self, node: ast.Compare) -> Iterator[tuple[str, ast.AST]]:
        for k, operator in enumerate(node.ops):
            ops = [*node.ops[:k], _COMPARED[type(operator)](), *node.ops[k + 1 :]]
            yield "comparison", ast.Compare(node.left, ops, node.comparators)

    def _binop(self, node: ast.BinOp) -> Iterator[tuple[str, ast.AST]]:
        if any(isinstance(side, ast.JoinedStr) or _is_text(side) for side in _sides(node)):
            return
        if (other := _COMPUTED.get(type(node.op))) is not None:
            yield "arithmetic", ast.BinOp(node.left, other(), node.right)
        yield "operand", node.left
        yield "operand", node.right
        if isinstance(node.op, ast.Sub | ast.Div | ast.FloorDiv | ast.Mod):
            yield "order", ast.BinOp(node.right, node.op, node.left)

    def _boolop(self, node: ast.BoolOp) -> Iterator[tuple[str, ast.AST]]:
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield "comparison", ast.BoolOp(other, node.values)
        for k in range(len(node.values)):
            rest = [*node.values[:k], *node.values[k + 1 :]]
            yield "operand", rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)

    def _unaryop(self, node: ast.UnaryOp) -> Iterator[tuple[str, ast.AST]]:
        yield "negation", node.operand

    def _ifexp(self, node: ast.IfExp) -> Iterator[tuple[str, ast.AST]]:
        yield "operand", node.body
        yield "operand", node.orelse

    def _constant(self, node: ast.Constant) -> Iterator[tuple[str, str]]:
        if isinstance(node.value, bool):
            yield "constant", str(not node.value)
        elif isinstance(node.value, int | float) and node.value + 1 != node.value:
            yield "constant", repr(node.value + 1)
            yield "constant", repr(node.value - 1)

    def _call(self, node: ast.Call) -> Iterator[tuple[str, ast.AST]]:
        named = node.func
        name = named.attr if isinstance(named, ast.Attribute) else getattr(named, "id", "")
        # Of a plain name only builtins are known to have the other; means are methods.
        if (other := _EXCHANGED.get(name)) and (isinstance(named, ast.Attribute) or name in _PLAIN):
            func = (
                ast.Attribute(named.value, other, ast.Load())
                if isinstance(named, ast.Attribute)
                else ast.Name(other, ast.Load())
            )
            yield "function", ast.Call(func, node.args, node.keywords)
        if name == "sorted":
            yield "order", f"list(reversed({ast.unparse(node)}))"
        for k, keyword in enumerate(node.keywords):
            if keyword.arg is not None:
                rest = [*node.keywords[:k], *node.keywords[k + 1 :]]
                yield "argument", ast.Call(node.func, node.args, rest)

    def _slice(self, node: ast.Slice) -> Iterator[tuple[str, str]]:
        if node.lower is not None or node.upper is not None:
            yield "operand", ":"

    def _expr(self, node: ast.Expr) -> Iterator[tuple[str, str]]:
        if isinstance(node.value, ast.Call) and not _logs(node.value):
            yield "statement", "pass"

    def _augassign(self, node: ast.AugAssign) -> Iterator[tuple[str, str]]:
        yield "statement", "pass"

    def _if(self, node: ast.If) -> Iterator[tuple[str, str]]:
        if not node.orelse:
            yield "statement", "pass"

    def _continue(self, node: ast.Continue) -> Iterator[tuple[str, str]]:
        yield "statement", "pass"

    def _break(self, node: ast.Break) -> Iterator[tuple[str, str]]:
        yield "statement", "pass"


_PLAIN = {"min", "max", "any", "all"}


def _sides(node: ast.BinOp) -> tuple[ast.expr, ast.expr]:
    return node.left, node.right


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and _is_text(node.value)


def _logs(node: ast.Call) -> bool:
    """Whether a call only tells something to a reader."""
    text = ast.unparse(node.func)
    return text.startswith(("log.", "logging.", "warnings.")) or text == "print"
