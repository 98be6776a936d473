"""Fail on docstrings that an editor's hover cannot show alone.

    python scripts/lint_docstrings.py src/alignlab

A docstring opens with an imperative verb or a noun phrase of the field. An opening free relative
clause ("What a run takes", "Whether it fits") needs its neighbours to be understood.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

OPENERS = frozenset({"What", "Whether", "How", "As", "Those", "Said", "Told"})
"""First words of a docstring that are refused."""

WORDS = frozenset({"beside", "said", "told"})
"""Words of no technical document, refused anywhere in a docstring."""


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and text of every docstring, those under fields and constants included."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        documents = isinstance(
            node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        )
        for before, statement in zip([None, *body], body, strict=False):
            is_text = (
                isinstance(statement, ast.Expr)
                and isinstance(statement.value, ast.Constant)
                and isinstance(statement.value.value, str)
            )
            if is_text and (
                (before is None and documents) or isinstance(before, ast.AnnAssign | ast.Assign)
            ):
                yield statement.lineno, statement.value.value


def problems(path: Path) -> Iterator[str]:
    """Yield one line for every docstring of a file that breaks a rule."""
    for line, text in docstrings(ast.parse(path.read_text(encoding="utf-8"))):
        words = text.split()
        first = words[0].strip(",.:") if words else ""
        if first in OPENERS:
            yield f"{path}:{line}: docstring opens with {first!r}: open with a verb or a noun"
        for word in sorted(WORDS & {w.strip(",.:;()").lower() for w in words}):
            yield f"{path}:{line}: docstring holds {word!r}"


def main() -> int:
    """Print every problem; exit code 1 if there is any."""
    found = [
        problem
        for folder in sys.argv[1:]
        for path in sorted(Path(folder).rglob("*.py"))
        for problem in problems(path)
    ]
    print("\n".join([*found, f"{len(found)} docstrings to rewrite"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
