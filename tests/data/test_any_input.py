"""Whatever a file holds, reading it ends in records or in one-line complaints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alignlab import registry
from alignlab.data import check
from alignlab.data.formats import Format

CALM = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
LAYOUTS = {
    name: part
    for name in registry.names("data")
    if isinstance(part := registry.get("data", name), Format)
}
NESTED_KEYS = ["role", "content", "from", "value", "text", "score", "rank", "message_id", "post"]
LEAF = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
WORD = st.sampled_from(["user", "assistant", "human", "gpt", "0", "1", "train", "\n\nHuman: x"])
VALUE = st.recursive(
    LEAF | WORD,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NESTED_KEYS), inner, max_size=4)
    ),
    max_leaves=8,
)


def report_on(path: Path, content: bytes, prefix: str = "") -> None:
    path.write_bytes(content)
    report = check(f"{prefix}{path}")
    assert all("\n" not in problem for problem in report.problems)
    for count in report.counts:
        assert count.kept >= 0
        assert all(number > 0 for number in count.dropped.values())


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet", "jsonl.gz"])
@CALM
@given(content=st.binary(max_size=60) | st.text('[]{}":,\n 1aé', max_size=40).map(str.encode))
def test_any_bytes(tmp_path: Path, ending: str, content: bytes) -> None:
    report_on(tmp_path / f"x.{ending}", content)


@pytest.mark.parametrize("name", [name for name in LAYOUTS if LAYOUTS[name].columns])
@settings(CALM, max_examples=40)
@given(data=st.data())
def test_any_values_in_the_right_columns(tmp_path: Path, name: str, data: Any) -> None:
    columns = data.draw(st.sampled_from(LAYOUTS[name].columns))
    rows = [{column: data.draw(VALUE) for column in sorted(columns)} for _ in range(3)]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    report_on(tmp_path / "x.jsonl", content, f"{name}:")


@pytest.mark.parametrize(
    "line",
    [
        '{"prompt": "\\ud800", "completion": "x"}',
        '{"prompt": ' + "1" * 5000 + ', "completion": "x"}',
        '{"prompt": ' + "[" * 100_000 + "}",
        '{"prompt": "a", "responses": [{"text": "x", "score": 1' + "0" * 400 + "}]}",
    ],
)
@pytest.mark.parametrize("ending", ["jsonl", "json"])
def test_values_that_python_cannot_use(tmp_path: Path, line: str, ending: str) -> None:
    path = tmp_path / f"x.{ending}"
    path.write_text(line + "\n")
    assert check(str(path)).problems
    report_on(path, f"[{line}]".encode())
