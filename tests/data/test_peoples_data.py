"""Sets that people judged: fine-grained RLHF, WMT's MQM, Prometheus, HHH, XSTest."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from alignlab.data import load
from alignlab.data.finegrained_rlhf import IN_A_CIRCLE, votes_of
from alignlab.data.group_rows import UNKNOWN, UNREADABLE
from alignlab.data.judged_pairs import FIRST, SECOND, TIE
from alignlab.data.read import Faults, read_table
from alignlab.data.rows import Row
from alignlab.data.wmt_mqm import weight
from alignlab.errors import BadInput
from tests.conftest import shared_path
from tests.data.conftest import Write

FOUR = {f"prediction {n}": f"answer {n}" for n in range(1, 5)}
FINE = {"question": "When?", **FOUR, "gold": "Then."}


def test_finegrained_preferences_by_hand(write: Write) -> None:
    # 1 over all others, 2 level with 3, both over 4.
    ordered = {**FINE, "preference": [1, 1, 1, 0, 1, 1]}
    circle = {**FINE, "question": "Who?", "preference": [1, 2, 0, 1, 0, 0]}  # 1 > 2 > 3 > 1
    first, second = load(f"finegrained_rlhf:{write([ordered, circle])}").groups
    assert [r.text for r in first.responses] == [f"answer {n}" for n in (1, 2, 3, 4)]
    assert first.scores == pytest.approx((1, 0.5, 0.5, 0))
    assert first.prompt.reference == "Then."
    assert second.scores == pytest.approx((0.5, 0.5, 0.5, 0.5))
    count = load(f"{write([ordered, circle])}").counts[-1]
    assert count.changed == {IN_A_CIRCLE: 1}
    assert votes_of(Row("f", 1, circle)) == [FIRST, SECOND, TIE, FIRST, TIE, TIE]


def test_finegrained_errors_and_corrections(write: Write) -> None:
    said = {
        "errors": [
            {"error type": "Redundant", "start": 7, "end": 8},
            {"error type": "Irrelevant", "start": 0, "end": 6},
        ],
        "missing-info": [{"error type": "Missing-Answer", "passage_id": 1, "sentence_id": [1]}],
        "corrected-prediction": "right",
    }
    path = write([{**FINE, "preference": [0] * 6, "feedback": said, "passages": [["T", "It is."]]}])
    (comment,) = load(f"{path}?use=errors").commented
    assert comment.comment == 'Irrelevant: "answer"\nRedundant: "1"\nMissing: Answer'
    (right,) = load(f"{path}?use=corrections&passages=true").demonstrations
    assert (right.prompt.text, right.response.text) == ("When?\n\nIt is.", "right")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"preference": [1, 1]}, "field 'preference': expected 6, one per pair, found 2 pref"),
        ({"preference": [3] * 6}, r"field 'preference\[0\]': expected an integer from 0 to 2"),
        ({"prediction 2": None}, "field 'prediction 2': expected text, found null"),
        ({"passages": [3]}, r"field 'passages': expected lists of texts.*found \[3\]"),
        ({"passages": ["abc"]}, "field 'passages': expected lists of texts"),
        ({"passages": [["T", 3]]}, "field 'passages': expected lists of texts"),
        ({"passages": [[]]}, "field 'passages': expected lists of texts"),
    ],
)
def test_bad_finegrained(write: Write, change: dict[str, Any], says: str) -> None:
    path = write([{**FINE, "preference": [0] * 6, "passages": [], **change}])
    with pytest.raises(BadInput, match=says):
        load(f"finegrained_rlhf:{path}?passages=true")


def marks(system: str, rater: str, target: str, *found: tuple[str, str]) -> list[dict[str, str]]:
    row = {"system": system, "doc": "d", "seg_id": "1", "rater": rater, "source": '"A," he said.'}
    return [{**row, "target": target, "category": c, "severity": s} for c, s in found]


def test_mqm_by_hand(write: Write) -> None:
    rows = [
        # One rater: major and minor punctuation 5.1; the other: none. Mean 2.55.
        *marks("x", "r1", "<v>A</v>", ("Style/Awkward", "Major"), ("Fluency/Punctuation", "Minor")),
        *marks("x", "r2", "A", ("No-error", "No-error")),
        *marks("y", "r1", "B", ("Non-translation!", "Major")),
        *marks("z", "r1", "C", ("Fluency/Grammar", "Minor"), ("Fluency/Punctuation", "Major")),
    ]
    names = list(rows[0])
    lines = ["\t".join(names), *("\t".join(row[n] for n in names) for row in rows)]
    path = write("\n".join(lines) + "\n", "mqm.tsv")
    (group,) = load(f"{path}?instruction=Translate.").groups
    assert group.prompt.text == 'Translate.\n\n"A," he said.'
    assert [r.sampler.model for r in group.responses] == ["x", "z", "y"]
    assert [r.text for r in group.responses] == ["A", "C", "B"]
    assert group.scores == pytest.approx((-2.55, -6, -25))
    bad = write([{**rows[0], "severity": "Grave"}])
    with pytest.raises(BadInput, match="field 'severity': expected one of No-error, Neutral, Min"):
        load(f"wmt_mqm:{bad}")


def test_one_rater_twice_is_not_one_sum(write: Write) -> None:
    """The same sentence in two documents: a mean of two ratings, not their sum."""
    rows = marks("x", "r1", "A", ("Style/Awkward", "Major"))
    rows += [{**rows[0], "doc": "other", "severity": "Minor"}]
    rows += marks("y", "r1", "B", ("No-error", "No-error"))
    (group,) = load(f"wmt_mqm:{write(rows)}").groups
    assert group.scores == pytest.approx((0, -3))


def test_the_order_of_errors_makes_no_difference(write: Write) -> None:
    major, comma = ("Fluency/Grammar", "Minor"), ("Fluency/Punctuation", "Minor")
    rows = marks("x", "r1", "A", comma, comma, comma, major)
    rows += marks("y", "r1", "B", major, comma, comma, comma)
    (group,) = load(f"wmt_mqm:{write(rows)}").groups
    assert group.scores == (-1.3, -1.3)


def test_an_answer_with_an_unreadable_error_is_left_out(write: Write) -> None:
    rows = [
        *marks("x", "r1", "A", ("Style/Awkward", "Minor")),
        *marks("x", "r2", "<v>A</v>", ("Accuracy/Mistranslation", "Critical")),
        *marks("y", "r1", "B", ("Style/Awkward", "Major")),
        *marks("z", "r1", "C", ("No-error", "No-error")),
    ]
    corpus = load(f"wmt_mqm:{write(rows)}?bad=drop")
    assert [r.text for r in corpus.groups[0].responses] == ["C", "B"]
    count = corpus.counts[-1]
    assert (count.dropped, count.changed) == ({"bad record": 1}, {UNREADABLE: 1})
    # Whose error it is cannot be known: none of the prompt's answers has a sure score.
    unknown = [{**rows[1], "severity": "Major", "target": None}]
    count = load(f"wmt_mqm:{write([*rows[:1], *unknown, *rows[2:]])}?bad=drop").counts[-1]
    assert (count.kept, count.dropped) == (0, {"bad record": 1, UNKNOWN: 1})
    # Not even the prompt is known: the row alone is lost.
    other = [{**row, "source": "Other."} for row in rows[2:]]
    lost = [{**rows[0], "source": None}]
    count = load(f"wmt_mqm:{write([*rows[2:], *other, *lost])}?bad=drop").counts[-1]
    assert (count.kept, count.dropped) == (2, {"bad record": 1})


@pytest.mark.parametrize("tested", [1, 2])
def test_held_out_ratings_are_not_trained_on(write: Write, tested: int) -> None:
    rows = marks("x", "r1", "A", ("No-error", "No-error"))
    rows += marks("y", "r1", "B", ("Style/Awkward", "Major"))
    path = write(rows, "d/a_train.jsonl")
    write([{**row, "rater": "r2", "severity": "Minor"} for row in rows[:tested]], "d/b_test.jsonl")
    corpus = load(f"wmt_mqm:{path.parent}")
    assert corpus.groups == ()
    assert corpus.counts[-1].dropped["prompt is held out"] == 1
    # The held-out side has its own ratings alone; one answer is no group.
    assert [group.scores for group in corpus.test_groups] == ([(-1, -1)] if tested == 2 else [])


def test_tsv_quoted_and_not(write: Write) -> None:
    def rows(text: str) -> list[dict[str, Any]]:
        return [dict(r.values) for r in read_table(str(write(text, "t.tsv")), Faults()).rows]

    assert rows('a\tb\n"x ""y"""\tz\n') == [{"a": 'x "y"', "b": "z"}]
    assert rows('a\tb\n"Oh," he\tz\n') == [{"a": '"Oh," he', "b": "z"}]
    assert rows('a\tb\r\n"Oh," he\tz\r\n') == [{"a": '"Oh," he', "b": "z"}]
    stray = rows('a\tb\tc\n1\t"He left.\tx\n\n2\tThen came."\ty\n')
    assert [row["b"] for row in stray] == ['"He left.', 'Then came."']
    mixed = rows('a\tb\n"Yes."\tx\n"He left.\tx\nThen\tcame."\n')
    assert [row["a"] for row in mixed] == ['"Yes."', '"He left.', "Then"]
    assert rows('a\tb\n"two\nlines"\tz\n') == [{"a": "two\nlines", "b": "z"}]
    assert rows('a\n"two\nlines"\n') == [{"a": "two\nlines"}]
    with pytest.raises(BadInput, match=r"t\.tsv, line"):
        rows('a\tb\n"Oh," he\tz\tmore\n')
    with pytest.raises(BadInput, match="line 2: expected 2 fields"):
        rows("a\tb\none\n")


def shown(asked: str, answered: str, reference: str = "") -> str:
    middle = f"\n###Reference Answer (Score 5):\n{reference}\n" if reference else ""
    return (
        f"###Task Description:\nJudge.\n\n###The instruction to evaluate:\n{asked}\n\n"
        f"###Response to evaluate:\n{answered}\n{middle}\n"
        "###Score Rubrics:\n[Good?]\n\n###Feedback: "
    )


def test_prometheus_by_hand(write: Write) -> None:
    rows = [
        {"instruction": shown("Why?", text, "So."), "response_source": who, "gpt4_score": scores}
        for who, text, scores in (
            ("a", "No.", [1, 2, 3]),
            ("b", "Because\n###Notes:\nof it.", [5, 4, 4]),
        )
    ]
    (group,) = load(str(write(rows))).groups
    assert [r.sampler.model for r in group.responses] == ["b", "a"]
    assert group.responses[0].text == "Because\n###Notes:\nof it."
    assert group.scores == pytest.approx((13 / 3, 2))
    assert (group.prompt.text, group.prompt.reference) == ("Why?", "So.")
    repeated = [*rows, {**rows[0], "gpt4_score": [4]}]
    assert load(str(write(repeated))).groups[0].scores == pytest.approx((13 / 3, 3))
    with pytest.raises(BadInput, match="field 'gpt4_score': expected at least one score"):
        load(str(write([{**rows[0], "gpt4_score": []}])))
    with pytest.raises(BadInput, match="field 'instruction': expected a prompt with ###The"):
        load(str(write([{**rows[0], "instruction": "Why?"}])))


def test_hhh_in_both_forms(write: Write) -> None:
    plain = {"input": "Hi", "targets": {"choices": ["Go.", "Hello!"], "labels": [0, 1]}}
    (one,) = load(str(write([plain]))).groups
    assert [r.text for r in one.responses] == ["Hello!", "Go."]
    judged = {
        "source": "helpful",
        "chosen_instruction": shown("Hi", "Hello!"),
        "rejected_instruction": shown("Hi", "Go."),
    }
    (other,) = load(str(write([judged]))).groups
    assert [r.id for r in other.responses] == [r.id for r in one.responses]
    with pytest.raises(BadInput, match=r"field 'targets\.labels': expected 1 for one of two"):
        load(str(write([{**plain, "targets": {"choices": ["a", "b"], "labels": [1, 1]}}])))
    with pytest.raises(BadInput, match="the same instruction to evaluate"):
        load(str(write([{**judged, "rejected_instruction": shown("Ho", "Go.")}])))


def test_xstest_by_hand(write: Write) -> None:
    def row(kind: str, label: str, text: str) -> dict[str, str]:
        said = {"annotation_1": label, "annotation_2": label, "final_label": label}
        return {"id": "1", "type": kind, "prompt": "How?", "completion": text, **said}

    rows = [
        row("homonyms", "1_full_compliance", "a"),
        row("homonyms", "3_partial_refusal", "b"),
        row("contrast_homonyms", "2_full_refusal", "c"),
        row("contrast_homonyms", "1_full_compliance", "d"),
        row("contrast_homonyms", "3_partial_refusal", "e"),
    ]
    corpus = load(str(write(rows)))
    found = {each.response.text: each.desirable for each in corpus.labelled}
    assert found == {"a": True, "b": False, "c": True, "d": False}
    assert corpus.counts[-1].dropped == {"partial refusal of an unsafe prompt": 1}
    with pytest.raises(BadInput, match="field 'final_label': expected one of 1_full_compliance"):
        load(str(write([{**rows[0], "final_label": "maybe"}])))


@pytest.mark.shared
def test_finegrained_as_published() -> None:
    file = shared_path("data/finegrained_rlhf/qa_feedback_dev_feedback.json.gz")
    corpus = load(str(file))
    assert (corpus.name, len(corpus.groups)) == ("finegrained_rlhf", 500)
    assert corpus.counts[-1].changed == {IN_A_CIRCLE: 22}
    votes = [vote for row in read_table(str(file), Faults()).rows for vote in votes_of(row)]
    assert Counter(votes) == {FIRST: 1577, SECOND: 1039, TIE: 384}
    # Where an answer is preferred to every other one, it comes first.
    rows = json.loads(gzip.decompress(file.read_bytes()))
    best = {r["question"]: r["prediction 1"] for r in rows if r["preference"][:3] == [1, 1, 1]}
    firsts = {g.prompt.text: g.responses[0].text for g in corpus.groups}
    assert len(best) > 100
    assert all(firsts[question] == text for question, text in best.items())
    errors = sum(len(r["feedback"]["errors"]) for r in rows)
    said = load(f"{file}?use=errors").commented
    assert sum(c.comment.count(': "') for c in said) == errors == 1373
    written = sum(bool(r["feedback"]["corrected-prediction"].strip()) for r in rows)
    assert len(load(f"{file}?use=corrections").demonstrations) == written == 487


@pytest.mark.shared
def test_mqm_scores_are_the_published_ones() -> None:
    """Our weights give the segment means that WMT published, all 7,406 of them."""
    file = shared_path("data/wmt_mqm/mqm_ted_ende.tsv.gz")
    sums: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in read_table(str(file), Faults()).rows:
        sums[row.text("system"), row.text("seg_id")][row.text("rater")] += weight(row)  # type: ignore[assignment]
    found = {key: -sum(by.values()) / len(by) for key, by in sums.items()}
    published = shared_path("data/wmt_mqm/mqm_ted_ende.avg_seg_scores.tsv").read_text()
    known = [line.split() for line in published.splitlines()[1:]]
    scores = {
        (system.replace("ref-A", "ref"), segment): float(score)
        for system, score, segment in known
        if score != "None"
    }
    assert found.keys() == scores.keys()
    assert len(found) == 7406
    assert max(abs(found[key] - scores[key]) for key in found) < 1e-6
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        # An omission is marked in the source.
        sources = {
            re.sub("</?v>", "", row["source"])
            for row in csv.DictReader(lines, delimiter="\t", quoting=3)
        }
    count = load(str(file)).counts[-1]
    assert count.kept + sum(count.dropped.values()) == len(sources)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "layout", "kept", "dropped"),
    [
        ("prometheus_eval/vicuna_eval.json.gz", "prometheus", 80, {}),
        # Second turns: every model's own first answer is part of the prompt.
        (
            "prometheus_eval/mt_bench_eval.json.gz",
            "prometheus",
            2,
            {"fewer than two different responses": 316},
        ),
        ("prometheus_eval/hhh_alignment_eval.json.gz", "hhh", 221, {}),
    ],
)
def test_others_are_read_whole(name: str, layout: str, kept: int, dropped: dict[str, int]) -> None:
    path: Path = shared_path(f"data/{name}")
    corpus = load(str(path))
    count = corpus.counts[-1]
    assert (corpus.name, count.kept, count.dropped) == (layout, kept, dropped)
    if name.endswith("vicuna_eval.json.gz"):  # 320 gradings, each of an answer of its own
        rows = json.loads(gzip.decompress(path.read_bytes()))
        assert sum(len(g.responses) for g in corpus.groups) == len(rows) == 320


@pytest.mark.shared
@pytest.mark.parametrize("model", ["gpt4", "llama2new", "mistralinstruct"])
def test_xstest_recounted(model: str) -> None:
    path = shared_path(f"data/xstest/completions_{model}.csv")
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    unsafe = [r["final_label"][0] for r in rows if r["type"].startswith("contrast_")]
    safe = [r["final_label"][0] for r in rows if not r["type"].startswith("contrast_")]
    assert (len(safe), len(unsafe)) == (250, 200)
    corpus = load(str(path))
    assert sum(each.desirable for each in corpus.labelled) == safe.count("1") + unsafe.count("2")
    assert len(corpus.labelled) == 450 - unsafe.count("3")
