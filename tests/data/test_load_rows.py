"""Lists of dicts and `datasets` objects go the way of a file."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from alignlab.data import load, load_rows
from alignlab.errors import BadInput
from tests.data.conftest import Write

ROWS: list[dict[str, Any]] = [
    {"id": n, "prompt": f"Add {n}", "chosen": str(n), "rejected": "no"} for n in range(20)
]


def test_the_same_corpus_as_from_a_file(write: Write) -> None:
    path = write(ROWS)
    read = load(f"{path}?test_share=0.3&seed=1&limit=9")
    made = load_rows(ROWS, test_share=0.3, seed=1, limit=9)
    assert made.groups
    assert made.test_groups
    assert replace(made, files={}) == replace(read, files={})
    assert list(made.files) == ["rows"]


def test_a_dataset_and_its_splits() -> None:
    datasets = pytest.importorskip("datasets")
    whole = datasets.Dataset.from_list(ROWS)
    assert load_rows(whole) == load_rows(ROWS)
    splits = datasets.DatasetDict(
        {
            "train": datasets.Dataset.from_list(ROWS[:15]),
            "test": datasets.Dataset.from_list(ROWS[15:]),
        }
    )
    corpus = load_rows(splits)
    assert (len(corpus.groups), len(corpus.test_groups)) == (15, 5)
    assert len(load_rows({"test": ROWS}).groups) == 20


def test_complaints_name_row_and_field() -> None:
    bad = [*ROWS, {**ROWS[0], "chosen": None}]
    with pytest.raises(BadInput, match="mine, line 21, field 'chosen': expected text, found null"):
        load_rows(bad, "mine")
    assert load_rows(bad, bad="drop").counts[-1].dropped == {"bad record": 1}
    with pytest.raises(BadInput, match="rows, line 2: expected a dict, found 'x'"):
        load_rows([ROWS[0], "x"])
    with pytest.raises(BadInput, match=r"rows\[train\], line 1"):
        load_rows({"train": [{**ROWS[0], "tools": [1]}]})


def test_layouts_and_options_by_name() -> None:
    said = [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}]
    assert len(load_rows(said, layout="messages", turns="all").demonstrations) == 1
    for given in ({"layout": "none"}, {"layout": "sandbox"}, {"shuffle": True}):
        with pytest.raises(BadInput):
            load_rows(said, **given)
    with pytest.raises(BadInput, match="rows: expected at least one record, found none"):
        load_rows([])
