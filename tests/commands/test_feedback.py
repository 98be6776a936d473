"""Sheets exported, filled in and imported; PandaLM's annotators among them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alignlab.commands.feedback import Imported, export, import_
from alignlab.data import load
from alignlab.data.judged_pairs import pandalm_pair, read_judged_pairs
from alignlab.errors import BadInput
from alignlab.evaluation.annotators import agreement
from alignlab.records import to_line
from alignlab.types import Message, Prompt, Response, SampledBy
from tests.conftest import shared_path

GROUPS = [
    {
        "prompt": f"Question {n}?",
        "responses": [
            {"text": f"good {n}", "score": 2, "model": "M2"},
            {"text": f"fair {n}", "score": 1, "model": "M1"},
            {"text": f"bad {n}", "score": 0, "model": "M0"},
        ],
    }
    for n in range(5)
]
Judged = Callable[[dict[str, str]], Any]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in GROUPS))
    return path


def filled(sheet: Path, who: str, column: str, answer: Judged) -> Path:
    with sheet.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    out = sheet.with_name(f"{who}.csv")
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {column: answer(row)} for row in rows)
    return out


def figures(found: Imported) -> dict[str, float]:
    return {row["model"]: row["value"] for row in found.evaluated.rows}


ORDER = {"good": 1, "fair": 2, "bad": 3}


def rank(row: dict[str, str]) -> int:
    return ORDER[row["response"].split()[0]]


@pytest.mark.parametrize("form", ["numerical", "ranking"])
def test_groups_come_back_as_they_were(data: Path, tmp_path: Path, form: str) -> None:
    sheet = tmp_path / "sheet.csv"
    made = export(data, sheet, format=form)
    assert (made.rows, made.prompts) == (15, 5)
    answer: Judged = rank if form == "ranking" else lambda row: 5 - rank(row)
    sheets = [filled(sheet, who, made.column, answer) for who in ("anna", "ben")]
    found = import_(*sheets, out=tmp_path / "out.jsonl")
    again = {
        g.prompt.text: [r.text for r in g.responses]
        for g in load(str(tmp_path / "out.jsonl")).groups
    }
    assert again == {g["prompt"]: [r["text"] for r in g["responses"]] for g in GROUPS}
    told = figures(found)
    assert told["anna: rows answered"] == told["ben: rows answered"] == 15
    assert told["Krippendorff's alpha, nominal"] == told["equal ratings"] == 1
    assert told["mean of M2"] > told["mean of M1"] > told["mean of M0"]
    import_(*sheets, out=tmp_path / "pairs.jsonl", to="preference")
    pairs = load(str(tmp_path / "pairs.jsonl")).groups
    assert len(pairs) == 15
    assert all(
        ORDER[g.responses[0].text.split()[0]] < ORDER[g.responses[1].text.split()[0]] for g in pairs
    )


def test_labels_and_words_come_back(data: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    made = export(data, labels, "labels=[right, wrong, rude]", format="labels")
    assert made.expected == "one of right, wrong, rude"
    label: Judged = lambda row: ("", "right", "wrong", "rude")[rank(row)]  # noqa: E731
    sheets = [filled(labels, who, "label", label) for who in ("anna", "ben", "eva")]
    import_(*sheets, key=made.key, out=tmp_path / "unpaired.jsonl")
    found = load(str(tmp_path / "unpaired.jsonl")).labelled
    assert {(each.response.text.split()[0], each.desirable) for each in found} == {
        ("good", True),
        ("fair", False),
        ("bad", False),
    }
    words = tmp_path / "words.csv"
    asked = export(data, words, format="text")
    sheet = filled(words, "anna", "comment", lambda row: f"this is {row['response']}")
    import_(sheet, key=asked.key, out=tmp_path / "comments.jsonl")
    comments = load(str(tmp_path / "comments.jsonl")).commented
    assert len(comments) == 15
    assert all(each.comment == f"this is {each.response.text}" for each in comments)


def test_people_are_a_judge(alignlab, data: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    sheet = tmp_path / "sheet.csv"
    ended = alignlab("feedback", "export", data, sheet, "limit=4", "low=0", "high=10")
    assert ended.code == 0
    assert "12 rows of 4 prompts, 12 new (left out: over the limit 3)" in ended.out
    assert "fill in 'rating' (a number from 0 to 10)" in ended.out
    anna = filled(sheet, "anna", "rating", lambda row: 10 - rank(row))
    said = tmp_path / "said.jsonl"
    ended = alignlab("feedback", "import", anna, "--out", said, "--to", "feedback")
    assert ended.code == 0
    assert "12 rows as feedback" in ended.out
    out = tmp_path / "judged.jsonl"
    ended = alignlab("judge", "--judge", f"human:{said}", "--responses", data, "--out", out)
    assert (ended.code, "unscored: no annotator answered 3" in ended.out) == (0, True)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    scores = {row["completion"]: row.get("score") for row in rows}
    assert sorted(s for s in scores.values() if s is not None) == [7] * 4 + [8] * 4 + [9] * 4


def test_sheets_are_checked_whole(alignlab, data: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    sheet = tmp_path / "sheet.csv"
    export(data, sheet, format="numerical")
    wrong = filled(sheet, "anna", "rating", lambda row: 9 if rank(row) == 3 else rank(row))
    ended = alignlab("feedback", "import", wrong)
    assert ended.code == 2
    assert ended.err.count("field 'rating': expected a number from 1 to 5, found '9'") == 5
    ended = alignlab("feedback", "import", wrong, "--out", tmp_path / "out.jsonl")
    assert ended.code == 2
    assert "anna.csv, line" in ended.line
    assert not (tmp_path / "out.jsonl").exists()
    ended = alignlab("feedback", "import", wrong, "--out", tmp_path / "out.jsonl", "--bad", "drop")
    assert ended.code == 0
    assert "response without an answer 5" in ended.out
    ended = alignlab("feedback", "import", wrong, "--json")
    assert json.loads(ended.out)["rows"][0]["unanswered"] == 5


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["export", "DATA", "SHEET", "--format", "rankings"], "did you mean 'ranking'"),
        (["export", "DATA", "SHEET", "stages=x"], "no effect on"),
        (["export", "DATA"], "--out is missing"),
        (["export", "DATA", "SHEET", "limit=-1"], "setting limit: expected 0 or more"),
        (["export", "DATA", "SHEET", "form=text"], "setting form: expected as --format"),
        (["import", "SHEET", "--to", "unpaired", "--out", "o.jsonl"], "expected groups or pref"),
        (["import", "SHEET", "--to", "groups"], "--to: has no effect without --out"),
        (["import", "SHEET", "--bad", "drop"], "--bad drop: has no effect without --out"),
        (["import", "SHEET", "--out", "o.txt"], "expected a file name ending in"),
        (["import", "SHEET", "--to", "feedback", "--out", "o.parquet"], "ending in .jsonl"),
        (["import", "SHEET", "--out", "OUT"], "expected answers to write, found none"),
        (["import", "DATA", "--key", "absent"], "expected the key of a sheet"),
    ],
)
def test_bad_input(  # type: ignore[no-untyped-def]
    alignlab, data: Path, tmp_path: Path, arguments: list[str], says: str
) -> None:
    sheet = tmp_path / "sheet.csv"
    if arguments[0] == "import":
        export(data, sheet, format="numerical")
    places = {"DATA": str(data), "SHEET": str(sheet), "OUT": str(tmp_path / "out.jsonl")}
    ended = alignlab("feedback", *(places.get(each, each) for each in arguments))
    assert ended.code == 2
    assert says in ended.line


def test_which_key_must_be_clear(data: Path, tmp_path: Path) -> None:
    for name in ("one.csv", "two.csv"):
        export(data, tmp_path / name, format="numerical")
    copy = filled(tmp_path / "one.csv", "anna", "rating", lambda row: 1)
    says = r"anna\.csv: expected anna\.csv\.key\.jsonl beside it, found one\.csv\.key"
    with pytest.raises(BadInput, match=says):
        import_(copy)


def run_of(folder: Path) -> Path:
    """A run directory with two models' answers to two held-out prompts, and samples."""
    run = folder / "run"
    prompts = [Prompt(f"p{n}", (Message("user", f"Q{n}?"),)) for n in range(2)]
    stages = {
        "01-seed/test_prompts": prompts,
        "02-sample/responses": [Response("s", "p0", "a sample", SampledBy("M1"))],
        "03-answer-m0/responses": [
            Response(f"a{n}", f"p{n}", f"m0 says {n}", SampledBy("M0")) for n in range(2)
        ],
        "04-answer-m1/responses": [
            Response("b0", "p0", "m1 says 0", SampledBy("M1")),
            Response("b1", "p1", "m0 says 1", SampledBy("M1")),
            Response("b2", "gone", "to nothing", SampledBy("M1")),
        ],
    }
    for name, records in stages.items():
        file = run / "stages" / f"{name}.jsonl"
        file.parent.mkdir(parents=True)
        file.write_text("".join(map(to_line, records)))
    (run / "manifest.json").write_text("{}")
    return run


def test_a_run_is_exported(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    made = export(run, tmp_path / "sheet.csv", format="ranking")
    assert (made.rows, made.dropped) == (
        2,
        {
            "prompt not kept in the run": 1,
            "another model's text as well": 1,
            "a prompt's only response, nothing to rank": 1,
        },
    )
    samples = export(run, tmp_path / "samples.csv", "stages=sample", format="numerical")
    assert samples.rows == 1
    with pytest.raises(BadInput, match="expected stages named 'x', found 02-sample, 03-answer-m0"):
        export(run, tmp_path / "none.csv", "stages=x", format="numerical")


def test_later_turns_are_no_rivals(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    later = run / "stages" / "05-answer-m0-turn-2" / "responses.jsonl"
    later.parent.mkdir()
    later.write_text(to_line(Response("p0/M0/1", "p0", "m0 goes on", SampledBy("M0"))))
    for name, override in (("all", ()), ("m0", ("stages=answer-m0",))):
        made = export(run, tmp_path / f"{name}.csv", *override, format="numerical")
        assert "m0 says 0" in Path(made.path).read_text()
        assert "m0 goes on" not in Path(made.path).read_text()
    with pytest.raises(BadInput, match="expected stages named 'turn-2'"):
        export(run, tmp_path / "none.csv", "stages=turn-2", format="numerical")


def test_a_killed_run_is_exported_up_to_its_last_whole_record(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    answers = run / "stages" / "03-answer-m0" / "responses.jsonl"
    more = to_line(Response("a2", "p1", "one\u2028line é", SampledBy("M0"))).encode()
    whole = answers.read_bytes() + more
    answers.write_bytes(whole + more[: more.index("é".encode()) + 1])
    made = export(run, tmp_path / "sheet.jsonl", "stages=answer-m0", format="numerical")
    assert made.rows == 3
    answers.write_bytes(whole + b'{"id": "a3"}\n')
    with pytest.raises(BadInput, match=r"responses\.jsonl, line 4, field .prompt_id."):
        export(run, tmp_path / "other.jsonl", "stages=answer-m0", format="numerical")


@pytest.mark.shared
def test_pandalms_annotators_through_sheets(tmp_path: Path) -> None:
    """Three people's votes, filled in as ranks, come back with their order and their agreement."""
    file = shared_path("data/pandalm/testset-v1.json")
    sheet = tmp_path / "sheet.csv"
    made = export(f"pandalm:{file}", sheet, "limit=60", format="ranking")
    key = {}
    with Path(made.key).open() as lines:
        next(lines)
        for line in lines:
            item = json.loads(line)
            key[item["item"]] = (item["prompt"]["messages"][0]["content"], item["response"]["text"])
    pairs = read_judged_pairs(str(file), pandalm_pair)
    votes = {(pair.prompt, frozenset({pair.first.text, pair.second.text})): pair for pair in pairs}
    # Prompts with several pairs of answers cannot be told apart in one ranking: take the others.
    texts: dict[str, set[str]] = {}
    for prompt, text in key.values():
        texts.setdefault(prompt, set()).add(text)
    single = {p for p, said in texts.items() if len(said) == 2 and (p, frozenset(said)) in votes}
    assert len(single) >= 5

    def answer(who: int) -> Judged:
        def rank_of(row: dict[str, str]) -> Any:
            prompt, text = key[row["item"]]
            if prompt not in single:
                return ""
            pair = votes[prompt, frozenset(texts[prompt])]
            vote = pair.votes[who] if text == pair.first.text else 1 - pair.votes[who]
            return 1 if vote >= 0.5 else 2

        return rank_of

    sheets = [filled(sheet, f"annotator{who}", "rank", answer(who)) for who in range(3)]
    found = import_(*sheets, out=tmp_path / "groups.jsonl")
    groups = load(str(tmp_path / "groups.jsonl")).groups
    assert {g.prompt.text for g in groups} == single
    chosen = [votes[g.prompt.text, frozenset(r.text for r in g.responses)] for g in groups]
    for group, pair in zip(groups, chosen, strict=True):
        share = sum(pair.votes) / 3
        first = group.scores[0] if group.responses[0].text == pair.first.text else group.scores[1]
        assert first == pytest.approx(share)
    straight = {
        a.what: a.figure.value for a in agreement([p.votes for p in chosen], "012", "preferences")
    }
    assert figures(found)["equal ratings"] == pytest.approx(straight["equal ratings"])
