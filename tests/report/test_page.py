from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from alignlab.errors import BadInput
from alignlab.report import compare_runs, write_report
from alignlab.report.page import render
from alignlab.report.run_data import read_run
from alignlab.types import EvalResult
from tests.report.build_run import HOSTILE, build_run, results


class Reader(HTMLParser):
    """Checks that elements nest, and collects what a test asks about."""

    VOID = frozenset({"meta", "link", "br", "img", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        (self.scripts if self.open and self.open[-1] == "script" else self.texts).append(data)


def read(page: Path) -> Reader:
    reader = Reader()
    reader.feed(page.read_text(encoding="utf-8"))
    assert reader.open == []
    return reader


def test_the_page_is_whole_and_self_contained(run_dir: Path) -> None:
    page = write_report(run_dir)
    reader = read(page)
    for _, attributes in reader.tags:
        for name in ("src", "href"):
            link = attributes.get(name) or "#"
            assert link.startswith("#") or link == "data:,"
    assert not re.search(r"https?://", page.read_text())
    assert "url(" not in page.read_text()
    anchors = {a["href"] for tag, a in reader.tags if tag == "a"}
    ids = {"#" + (a.get("id") or "") for _, a in reader.tags}
    assert anchors <= ids


def test_answer_figures_and_commands_are_on_the_page(run_dir: Path) -> None:
    text = " ".join(" ".join(read(write_report(run_dir)).texts).split())
    assert "Does feedback from a teacher improve a small model more than its own?" in text
    assert "3 of 6 models are better than M1: teacher reward (63.0%, 59.2 to 66.7%)" in text
    assert "not distinguishable from M3 and random judge" in text
    assert "alignlab run compare model=sandbox:knows_all" in text
    assert "n = 1,188, 3 training seeds (0, 1, 2), 72 unscored left out" in text
    assert "equal scores 336" in text
    folder = "/".join(run_dir.resolve().parts[-2:])
    assert f"Every record behind these figures: alignlab view {folder}" in text


def test_texts_of_models_cannot_become_markup(run_dir: Path) -> None:
    reader = read(write_report(run_dir))
    assert not [tag for tag, _ in reader.tags if tag == "img"]
    data = json.loads(next(s for s in reader.scripts if s.startswith("{")))
    assert data["examples"][0]["turns"] == [["user", HOSTILE]]
    assert data["examples"][0]["answers"][0]["text"] == HOSTILE
    assert len([tag for tag, _ in reader.tags if tag == "script"]) == 2


def test_hostile_names_are_escaped(run_dir: Path) -> None:
    path = run_dir / "study.json"
    study = json.loads(path.read_text())
    path.write_text(json.dumps({**study, "question": HOSTILE, "models": {"M2": HOSTILE}}))
    reader = read(write_report(run_dir))
    assert not [tag for tag, _ in reader.tags if tag == "img"]
    assert HOSTILE in "".join(reader.texts)


def test_marks_stand_for_what_their_intervals_allow(run_dir: Path) -> None:
    reader = read(write_report(run_dir))
    looks = [a["class"] for tag, a in reader.tags if tag == "g" and a.get("class")]
    assert sum("better" in (c or "") for c in looks) == 3
    assert sum("worse" in (c or "") for c in looks) == 1
    assert sum("open" in (c or "") for c in looks) == 2


def test_the_page_is_a_function_of_the_run_directory(run_dir: Path) -> None:
    run = read_run(run_dir)
    write_report(run_dir)
    assert render(read_run(run_dir)) == render(run)


def test_summary_holds_the_rows_that_are_shown(run_dir: Path) -> None:
    write_report(run_dir)
    summary = json.loads((run_dir / "summary.json").read_text())
    assert summary["recipe"] == "compare"
    assert summary["seeds"] == [0, 1, 2]
    assert summary["wall_seconds"] == 211.0
    assert len(summary["rows"]) == len(results())
    assert summary["rows"][0] == {
        "model": "M2", "benchmark": "head_to_head", "metric": "win_rate", "value": 0.555,
        "low": 0.52, "high": 0.59, "n": 1188, "unscored": 12, "against": "M1", "group": None,
        "seeds": [0, 1, 2],
    }  # fmt: skip
    assert [part["stage"] for part in summary["parts"]] == [
        f"seed-{s}/07-evaluate" for s in (0, 1, 2)
    ]


def test_a_run_without_results_still_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"recipe": "self_rewarding"}')
    text = " ".join(read(write_report(tmp_path)).texts)
    assert "No results yet." in text
    assert "has not finished" in text


def test_rows_without_value_or_bounds_are_drawn_where_they_can_be(tmp_path: Path) -> None:
    run_dir = build_run(tmp_path / "run")
    file = run_dir / "stages/summary/01-evaluate/results.jsonl"
    rows = [
        EvalResult("M2", "head_to_head", "win_rate", None, None, None, 0, 400, "M1"),
        EvalResult("M2", "score", "mean", 3.0, None, None, 1),
        EvalResult("M2", "odd", "nothing", None, None, None, 0),
    ]
    file.write_text("".join(json.dumps(r.__dict__) + "\n" for r in rows))
    text = " ".join(read(write_report(run_dir)).texts)
    assert "This run holds no win rate against M1." in text


def test_styles_of_single_elements_share_no_class_with_series(tmp_path: Path) -> None:
    page = compare_runs([build_run(tmp_path / "one"), build_run(tmp_path / "two")]).read_text()
    style = page[page.index("<style>") : page.index("</style>")]
    series = set(re.findall(r'class="key (s\d)', page))
    assert series == {"s0", "s1"}
    placed = set(re.findall(r"\.(\w+)\.\1\.\1 ", style))
    assert placed
    assert not placed & series


def test_runs_side_by_side(tmp_path: Path) -> None:
    one, two = build_run(tmp_path / "one"), build_run(tmp_path / "two")
    page = compare_runs([one, two])
    assert page == tmp_path / "compare.html"
    text = " ".join(" ".join(read(page).texts).split())
    assert "one and two" in text
    assert "M2: win rate against M1" in text
    other = compare_runs([one, two], tmp_path / "other.html")
    assert other.read_text() == page.read_text()


@pytest.mark.parametrize("names", [["one"], ["one", "one"]])
def test_comparing_needs_two_different_runs(tmp_path: Path, names: list[str]) -> None:
    build_run(tmp_path / "one")
    with pytest.raises(BadInput, match="compare: expected"):
        compare_runs([tmp_path / n for n in names])
