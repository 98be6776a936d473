from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alignlab.data import convert, load
from alignlab.data.templated import template_mark
from alignlab.errors import BadInput
from alignlab.types import Corpus
from tests.data.conftest import Write

ENDINGS = [".jsonl", ".jsonl.gz", ".parquet"]
TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(
    lambda t: t.strip() and not template_mark(t)
)
SCORE = st.floats(-100, 100) | st.integers(-3, 3).map(float)
CALM = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def turns(*texts: str) -> list[dict[str, str]]:
    roles = ["user", "assistant"]
    return [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)]


PROMPT = TEXT | st.tuples(TEXT, TEXT, TEXT).map(lambda three: turns(*three))
ANSWERS = st.lists(
    st.fixed_dictionaries({"text": TEXT, "score": SCORE, "model": TEXT}), min_size=2, max_size=5
)
EXTRAS = st.fixed_dictionaries(
    {},
    optional={"reference": TEXT, "query_type": st.sampled_from(["open", "closed"]), "source": TEXT},
)


def rows_of(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[list[dict[str, Any]]]:
    row = st.tuples(st.fixed_dictionaries(dict(fields)), EXTRAS).map(lambda pair: pair[0] | pair[1])
    return st.lists(row, min_size=1, max_size=4)


def contents(corpus: Corpus) -> Corpus:
    """A corpus without what names its file."""
    return replace(corpus, name="", files={}, counts=())


def there_and_back(write: Write, rows: list[dict[str, Any]], layout: str, ending: str) -> None:
    path = write(rows)
    before = load(f"{layout}:{path}")
    out = path.with_name("out" + ending)
    if not any((before.groups, before.demonstrations, before.labelled, before.prompts)):
        return
    done = convert(f"{layout}:{path}", out, to=layout)
    after = load(f"{layout}:{out}")
    assert contents(after) == contents(before)
    assert load(str(out)) == after  # the layout is recognised by its columns
    assert done.rows == after.counts[-1].kept
    assert not list(path.parent.glob("*.part"))


@pytest.mark.parametrize("ending", ENDINGS)
@CALM
@given(rows=rows_of(prompt=PROMPT, responses=ANSWERS))
def test_groups(write: Write, rows: list[dict[str, Any]], ending: str) -> None:
    there_and_back(write, rows, "groups", ending)


@pytest.mark.parametrize("ending", ENDINGS)
@CALM
@given(rows=rows_of(prompt=PROMPT, chosen=TEXT, rejected=TEXT))
def test_preference(write: Write, rows: list[dict[str, Any]], ending: str) -> None:
    there_and_back(write, rows, "preference", ending)


@CALM
@given(rows=rows_of(prompt=PROMPT, completion=TEXT))
def test_prompt_completion(write: Write, rows: list[dict[str, Any]]) -> None:
    there_and_back(write, rows, "prompt_completion", ".jsonl")


@CALM
@given(rows=rows_of(prompt=PROMPT, completion=TEXT, label=st.booleans()))
def test_unpaired(write: Write, rows: list[dict[str, Any]]) -> None:
    there_and_back(write, rows, "unpaired", ".parquet")


@CALM
@given(rows=rows_of(prompt=PROMPT))
def test_prompts(write: Write, rows: list[dict[str, Any]]) -> None:
    there_and_back(write, rows, "prompts", ".jsonl")


@CALM
@given(rows=rows_of(messages=st.lists(TEXT, min_size=1, max_size=3).map(lambda t: turns(*t, *t))))
def test_messages(write: Write, rows: list[dict[str, Any]]) -> None:
    there_and_back(write, rows, "messages", ".jsonl.gz")


def ranked(*scores: float) -> dict[str, Any]:
    answers = [{"text": f"r{n}", "score": score} for n, score in enumerate(scores)]
    return {"prompt": "p" + str(scores), "responses": answers}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_groups_to_pairs(write: Write, tmp_path: Path) -> None:
    source = str(write([ranked(3, 1, 2), ranked(1, 1), ranked(5, 4)]))
    out = tmp_path / "out.jsonl"
    done = convert(source, out, to="preference")
    assert [(r["chosen"], r["rejected"]) for r in lines(out)] == [("r0", "r1"), ("r0", "r1")]
    assert done.count.dropped == {"all scores equal": 1}
    assert done.count.changed == {"group of more than two to pairs": 1}
    assert str(done).startswith(f"{out}: 2 rows as preference (all scores equal 1; group of")
    convert(source, out, to="preference", pairs="all")
    assert [(r["chosen"], r["rejected"]) for r in lines(out)] == [
        ("r0", "r2"),
        ("r0", "r1"),
        ("r2", "r1"),
        ("r0", "r1"),
    ]


def test_groups_to_other_layouts(write: Write, tmp_path: Path) -> None:
    source = str(write([ranked(1, 3, 2), ranked(1, 1)]))
    out = tmp_path / "out.jsonl"
    unpaired = convert(source, out, to="unpaired")
    assert [(r["completion"], r["label"]) for r in lines(out)] == [("r1", True), ("r0", False)]
    assert unpaired.count.dropped == {"all scores equal": 1}
    best = convert(source, out, to="messages")
    assert [r["messages"][-1]["content"] for r in lines(out)] == ["r1", "r0"]
    assert best.count.changed == {"best response of a group": 2}
    convert(source, out, to="prompts")
    assert [r["prompt"] for r in lines(out)] == ["p(1, 3, 2)", "p(1, 1)"]


def test_the_held_out_side(write: Write, tmp_path: Path) -> None:
    write([ranked(2, 1)], "d/train.jsonl")
    write([ranked(4, 3)], "d/test.jsonl")
    out = tmp_path / "out.jsonl"
    convert(str(tmp_path / "d"), out, to="groups", part="test")
    assert [row["prompt"] for row in lines(out)] == ["p(4, 3)"]
    convert(str(tmp_path / "d"), out, to="groups")
    assert [row["prompt"] for row in lines(out)] == ["p(2, 1)"]


def test_same_source_same_bytes(write: Write, tmp_path: Path) -> None:
    source = str(write([ranked(2, 1)]))
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        convert(source, tmp_path / name, to="groups")
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


def test_refusals_leave_no_file(write: Write, tmp_path: Path) -> None:
    source = str(write([{"prompt": "a", "completion": "b"}]))
    for out, more, complaint in (
        ("x.jsonl", {"to": "preferences"}, "did you mean 'preference'"),
        ("x.docx", {"to": "messages"}, "ending in .jsonl"),
        ("x.jsonl", {"to": "preference"}, "a demonstration has no second response 1"),
        ("x.jsonl", {"to": "groups", "part": "test"}, "no records"),
        ("x.jsonl", {"to": "groups", "part": "dev"}, "expected train or test"),
        ("x.jsonl", {"to": "groups", "pairs": "all"}, "for to=preference alone"),
        ("x.jsonl", {"to": "preference", "pairs": "some"}, "best_worst or all"),
    ):
        with pytest.raises(BadInput, match=complaint):
            convert(source, tmp_path / "out" / out, **more)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_it_never_writes_over_its_source(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}) + "\n")
    before = path.read_bytes()
    for spec in (str(path), f"preference:{path}?test_share=0", str(tmp_path)):
        with pytest.raises(BadInput, match="found the source, which it would replace"):
            convert(spec, path, to="groups")
    assert path.read_bytes() == before
    assert convert(str(path), tmp_path / "groups.jsonl", to="groups").rows == 1
    assert convert("sandbox?ift=2", tmp_path / "made.jsonl", to="groups").rows
