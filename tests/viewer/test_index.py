"""The index: what it holds, that it follows a run, and that it is rebuilt when it is stale."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alignlab.viewer.index import Index
from tests.viewer.a_run import TWO, build


def open_index(run: Path, tmp_path: Path) -> Index:
    return Index(run, tmp_path / "index.sqlite")


def test_outcomes_scores_and_flags_of_answers(tmp_path: Path) -> None:
    index = open_index(build(tmp_path / "run"), tmp_path)
    index.update()
    rows = {
        row["prompt"]: row for row in index.rows("SELECT * FROM answers WHERE model = ?", (TWO,))
    }
    assert [rows[f"p/{i}"]["outcome"] for i in range(12)] == [1.0] * 6 + [0.0] * 4 + [None, 0.5]
    assert rows["p/1"]["score"] is None
    assert rows["p/5"]["score"] == 5.0
    assert rows["p/10"]["judged"] == 1
    assert rows["p/3"]["cut"] == 1
    assert index.one("SELECT sum(same) FROM answers WHERE model = 'M1'") == 0  # other prompts


def test_pairs_are_inverted_where_the_gold_score_says_so(tmp_path: Path) -> None:
    index = open_index(build(tmp_path / "run"), tmp_path)
    index.update()
    found = index.rows("SELECT inverted FROM pairs ORDER BY gid")
    assert [row[0] for row in found] == [1, 1, 0, 0]  # 3 against 3.5, then 3 against 1


def test_errors_are_score_less_gold(tmp_path: Path) -> None:
    index = open_index(build(tmp_path / "run"), tmp_path)
    index.update()
    found = index.rows("SELECT error FROM feedback WHERE kind = 'score' ORDER BY fid")
    assert [row[0] for row in found] == [0 - 3, 2 - 3, 0, 1, 2, -3, -2, -1, 0, 1, 2]


def test_a_second_update_reads_nothing_and_a_new_record_once(tmp_path: Path) -> None:
    run = build(tmp_path / "run", done=False)
    index = open_index(run, tmp_path)
    assert index.update() > 0
    assert index.update() == 0
    version = index.version
    metrics = next(run.rglob("metrics.jsonl"))
    with metrics.open("a") as file:
        file.write('{"step": 3, "loss": 0.4}\n{"step": 4, "lo')
    assert index.update() == 1
    assert index.version == version + 1
    assert index.one("SELECT count(*) FROM metrics") == 3


def test_what_is_not_committed_is_not_read(tmp_path: Path) -> None:
    run = build(tmp_path / "run", done=False)
    index = open_index(run, tmp_path)
    index.update()
    answers = next(run.glob("stages/*answer-m1/responses.jsonl"))
    with answers.open("a") as file:
        file.write(answers.read_text().splitlines()[0].replace("p/0", "p/99") + "\n")
    assert index.update() == 0


def test_a_stage_done_again_empties_the_index(tmp_path: Path) -> None:
    run = build(tmp_path / "run")
    index = open_index(run, tmp_path)
    before = index.update()
    answers = next(run.glob("stages/*answer-m2/responses.jsonl"))
    answers.write_text(answers.read_text().replace("unique0 words", "other00 words"))
    assert index.update() == before
    assert index.one("SELECT text FROM responses WHERE id = ?", (f"p/0/{TWO}",)).startswith(
        "other00"
    )


@pytest.mark.parametrize("content", [b"", b"not a database at all", b"SQLite format 3\x00torn"])
def test_a_file_that_is_no_index_is_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "index.sqlite").write_bytes(content)
    index = open_index(build(tmp_path / "run"), tmp_path)
    assert index.update() > 0


def test_the_run_is_not_written_to(tmp_path: Path) -> None:
    run = build(tmp_path / "run")
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    open_index(run, tmp_path).update()
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


def test_seeds_are_told_apart(tmp_path: Path) -> None:
    run = build(tmp_path / "run")
    (run / "stages" / "seed-7").mkdir()
    for stage in run.glob("stages/*-answer-m1"):
        stage.rename(run / "stages" / "seed-7" / stage.name)
    index = open_index(run, tmp_path)
    index.update()
    assert {row[0] for row in index.rows("SELECT DISTINCT seed FROM answers")} == {0, 7}
    assert json.loads((run / "manifest.json").read_text())["seeds"] == [0]
