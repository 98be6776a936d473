"""Accuracy, pass@k, majority and best of n on prompts with references, by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alignlab.api.evaluating import evaluate
from alignlab.data import load
from alignlab.errors import BadInput
from alignlab.evaluation.benchmarks.qa import QuestionAnswering
from alignlab.evaluation.tasks import BenchmarkInputs, ModelAnswers
from alignlab.types import EvalResult, Feedback, Response, SampledBy, Sampling, Score
from tests.evaluation.asking import jsonl
from tests.generation.tiny import tiny

ROWS = [{"prompt": f"What is {n} and {n}?", "reference": str(2 * n)} for n in (1, 2, 3)]


@pytest.fixture
def corpus(tmp_path: Path) -> Any:
    return load(str(jsonl(tmp_path / "sums.jsonl", *ROWS)))


def figures(
    task: QuestionAnswering, corpus: Any, texts: dict[str, list[str]], judge: Any = None
) -> dict[str, EvalResult]:
    """Measure answers given by reference, in the order of the attempts."""
    questions = task.questions(corpus)
    left = {reference: list(several) for reference, several in texts.items()}
    drawn = SampledBy("m", Sampling(temperature=0.7 if task.samples > 1 else 0.0))
    turns = {}
    for q in questions:
        if several := left.get(q.references[0]):
            text = several.pop(0)
            finish = "length" if text.endswith("...") else "stop"
            answer = Response(f"{q.id}/m", q.id, text, drawn, finish=finish)  # type: ignore[arg-type]
            turns[q.id] = (answer,)
    inputs = BenchmarkInputs(
        tuple(questions), (ModelAnswers("m", turns),), None, judge, 0, corpus=corpus
    )
    return {r.metric: r for r in task.measure(inputs).rows if r.group is None}


def test_one_attempt(corpus: Any) -> None:
    found = figures(QuestionAnswering(), corpus, {"2": ["2"], "4": ["5"], "6": ["So 6 is..."]})
    assert {m: r.value for m, r in found.items()} == {
        "accuracy": pytest.approx(1 / 3),
        "answered": pytest.approx(2 / 3),
        "cut_off": pytest.approx(1 / 3),
    }
    assert (found["accuracy"].n, found["accuracy"].unscored) == (3, 0)
    strict = figures(QuestionAnswering(strict=True), corpus, {"2": ["2"], "4": ["?"]})["accuracy"]
    assert (strict.value, strict.n, strict.unscored) == (1, 1, 2)


def test_several_attempts(corpus: Any) -> None:
    texts = {"2": ["2", "2", "3", "4"], "4": ["5", "4", "", "5"], "6": ["1", "2", "3", "4"]}
    found = figures(QuestionAnswering(samples=4), corpus, texts)
    assert found["accuracy"].value == pytest.approx(3 / 12)
    assert found["pass@1"].value == pytest.approx(3 / 12)
    # 2 of 4 right: 1 - C(2,2)/C(4,2) = 5/6; 1 of 4: 1/2
    assert found["pass@2"].value == pytest.approx((5 / 6 + 1 / 2) / 3)
    assert found["pass@4"].value == pytest.approx(2 / 3)
    assert found["majority@4"].value == pytest.approx(1 / 3)
    assert found["pass@2"].n == 3
    assert found["accuracy"].n == 12


def test_intervals_take_the_attempts_at_a_question_as_one(corpus: Any) -> None:
    all_or_none = {"2": ["2"] * 4, "4": ["4"] * 4, "6": ["1"] * 4}
    several = figures(QuestionAnswering(samples=4), corpus, all_or_none)["accuracy"]
    one = figures(QuestionAnswering(), corpus, {k: v[:1] for k, v in all_or_none.items()})
    assert (several.low, several.high) == pytest.approx((one["accuracy"].low, one["accuracy"].high))


class ByLength:
    name = "by length"

    def rate(self, items: Any, seed: int) -> list[Feedback]:
        return [
            Feedback(p.id, (r.id,), self.name, Score(float(len(r.text))))
            for p, some in items
            for r in some
        ]


def test_best_of_n_by_a_scorer(corpus: Any) -> None:
    texts = {"2": ["2", "it is 2"], "4": ["4", "it is 5"], "6": ["6", "7"]}
    found = figures(QuestionAnswering(samples=2), corpus, texts, ByLength())
    assert found["best_of_2"].value == pytest.approx((1 + 0 + 0.5) / 3)  # the last is tied
    with pytest.raises(BadInput, match="--judge has no effect with samples=1"):
        figures(QuestionAnswering(), corpus, {"2": ["2"]}, ByLength())


def test_prompts_without_references_are_counted(tmp_path: Path) -> None:
    corpus = load(str(jsonl(tmp_path / "a.jsonl", *ROWS, {"prompt": "Why?", "reference": None})))
    found = figures(QuestionAnswering(), corpus, {"2": ["2"]})
    assert found["prompts_without_reference"].value == 1
    assert found["accuracy"].unscored == 2
    plain = load(str(jsonl(tmp_path / "b.jsonl", {"prompt": "Why?"})))
    with pytest.raises(BadInput, match="expected prompts with reference answers, found none"):
        QuestionAnswering().questions(plain)


def test_the_question_is_worded(corpus: Any) -> None:
    (first, *_) = QuestionAnswering(ask="End with the number.").questions(corpus)
    assert first.prompt.text == "What is 1 and 1?\n\nEnd with the number."
    with pytest.raises(BadInput, match="pattern: expected it with extract=regex"):
        QuestionAnswering(extract="regex")


def test_as_a_command_with_samples_and_a_limit(tmp_path: Path) -> None:
    from alignlab.models.load import save

    save(tiny(), tmp_path / "tiny")
    data = jsonl(tmp_path / "sums.jsonl", *ROWS)
    out = tmp_path / "run"
    given: dict[str, Any] = {"data": data, "out": out, "samples": 3, "limit": 2, "max_tokens": 4}
    found = evaluate("qa", str(tmp_path / "tiny"), judge="longer", **given)
    (row,) = found.rows
    assert row["n"] == 6  # 2 questions, 3 attempts each
    assert {"accuracy", "pass@1", "pass@2", "pass@3", "majority@3", "best_of_3"} <= row.keys()
    again = evaluate("qa", str(tmp_path / "tiny"), judge="longer", **given)
    assert again.rows == found.rows
    greedy = {**given, "out": tmp_path / "greedy", "temperature": 0}
    with pytest.raises(BadInput, match="samples: expected a temperature above 0 with 3 attempts"):
        evaluate("qa", str(tmp_path / "tiny"), **greedy)


def test_answers_in_a_file(tmp_path: Path) -> None:
    data = jsonl(tmp_path / "sums.jsonl", *ROWS)
    answers = [{"prompt": r["prompt"], "output": f"<think>9</think>{r['reference']}"} for r in ROWS]
    file = jsonl(tmp_path / "answers.jsonl", *answers)
    found = evaluate("qa", outputs=str(file), data=data, out=tmp_path / "run")
    assert found.rows[0]["accuracy"] == 1
    assert json.loads(json.dumps(found.rows[0]))["thoughts_removed"] == 3
