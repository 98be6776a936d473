"""One name, one class: a search for a class finds its definition and no other."""

from __future__ import annotations

import ast
from collections import defaultdict

from tests.conftest import ROOT


def test_public_classes_have_different_names():
    found = defaultdict(list)
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert {name: places for name, places in found.items() if len(places) > 1} == {}
