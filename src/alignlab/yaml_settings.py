"""Read settings in YAML: scalars of version 1.2, and specs with options in lists."""

from __future__ import annotations

import re
from typing import Any

import yaml

_QUESTION_MARK = "\ue000"
"""Stands for a question mark while YAML is read: PyYAML takes it for an indicator in lists."""


class _Loader(yaml.SafeLoader):
    """YAML loader with the scalars of version 1.2.

    1e-5 is a number; `no`, 12:30 and 2026-11-26 are text, 010 is decimal; a list may hold specs
    with options, such as [a.jsonl?weight=2, b.jsonl]. A repeated key is refused.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream.replace("?", _QUESTION_MARK))

    yaml_implicit_resolvers = {  # noqa: RUF012 - as the base class declares it
        first: [
            (tag, pattern)
            for tag, pattern in resolvers
            if tag.rpartition(":")[2] not in ("bool", "int", "float", "timestamp")
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_scalar(self, node: Any) -> Any:
        """Build a scalar; question marks are put back."""
        found = super().construct_scalar(node)
        return found.replace(_QUESTION_MARK, "?") if isinstance(found, str) else found

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping; a repeated key is refused."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        again = next((key for i, key in enumerate(keys) if key in keys[:i]), None)
        if again is not None:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {again!r} twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


_NUMBER = r"[-+]?(?:[0-9][0-9_]*)"
for _tag, _pattern, _first in (
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", rf"(?:{_NUMBER}|0x[0-9a-fA-F]+)$", "-+0123456789"),
    (
        "float",
        rf"(?:{_NUMBER}\.[0-9_]*(?:[eE][-+]?[0-9]+)?|{_NUMBER}[eE][-+]?[0-9]+"
        r"|[-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        "-+0123456789.",
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))
_Loader.add_constructor(
    "tag:yaml.org,2002:int",
    lambda loader, node: int(node.value, 16 if node.value.startswith("0x") else 10),
)


def load_yaml(text: str) -> Any:
    """Read the values of a YAML text.

    Raises:
        yaml.YAMLError: the text is no YAML, or repeats a key.
    """
    return yaml.load(text, _Loader)
