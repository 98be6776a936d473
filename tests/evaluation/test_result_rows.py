from __future__ import annotations

from collections.abc import Sequence

import pytest

from alignlab.errors import BadInput
from alignlab.evaluation.judge_rows import (
    OWN_SAMPLES,
    audits,
    quality_rows,
    scored_prompts,
    scores_by_response,
)
from alignlab.evaluation.metrics.judge_quality import judge_quality
from alignlab.evaluation.metrics.win_rate import Outcome
from alignlab.evaluation.result_rows import Subject, prompt_groups
from alignlab.evaluation.task_rows import Measure, QuestionValue, part_rows, score_rows
from alignlab.evaluation.text_rows import text_rows
from alignlab.evaluation.win_rate_rows import comparison_rows, read_outcomes, win_rate_rows
from alignlab.types import (
    EvalResult,
    Feedback,
    Message,
    Preference,
    Prompt,
    Response,
    SampledBy,
    Score,
    Unscored,
)

PROMPTS = tuple(
    Prompt(
        f"p{i}",
        (Message("user", f"question {i}"),),
        source=f"sandbox/{('tell', 'list')[i % 2]}",
        query_type=("open", "closed")[i % 2],  # type: ignore[arg-type]
    )
    for i in range(40)
)


class ByLength:
    """The longer answer is better and its length is its score; "?" cannot be judged."""

    name = "by length"

    def compare(
        self, items: Sequence[tuple[Prompt, Response, Response]], seed: int
    ) -> list[Feedback]:
        return [self._pair(*item) for item in items]

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        return [
            Feedback(p.id, (r.id,), self.name, self._score(r)) for p, some in items for r in some
        ]

    def _score(self, response: Response) -> Score | Unscored:
        return Unscored("unreadable") if response.text == "?" else Score(float(len(response.text)))

    def _pair(self, prompt: Prompt, a: Response, b: Response) -> Feedback:
        ids = (a.id, b.id)
        if "?" in (a.text, b.text):
            return Feedback(prompt.id, ids, self.name, Unscored("unreadable"))
        if len(a.text) == len(b.text):
            return Feedback(prompt.id, ids, self.name, Preference(None))
        return Feedback(prompt.id, ids, self.name, Preference(int(len(a.text) < len(b.text))))  # type: ignore[arg-type]


def answers(model: str, texts: Sequence[str]) -> list[Response]:
    return [
        Response(f"{model}-{p.id}", p.id, text, SampledBy(model), len(text))
        for p, text in zip(PROMPTS, texts, strict=True)
    ]


def pick(rows: Sequence[EvalResult], metric: str, group: str | None = None) -> EvalResult:
    return next(r for r in rows if r.metric == metric and r.group == group)


RESPONSES = {
    "M1": answers("M1", ["bb"] * 40),
    # longer on the 20 even (open) prompts; shorter, equal or unreadable on the odd ones
    "M2": answers("M2", ["ccc", "a", "ccc", "bb", "ccc", "?", "ccc", "a"] * 5),
}


def judged(first: str, second: str) -> list[Feedback]:
    return ByLength().compare(
        list(zip(PROMPTS, RESPONSES[first], RESPONSES[second], strict=True)), 0
    )


def rated(*models: str) -> list[Feedback]:
    items = [(p, some) for p, *some in zip(PROMPTS, *(RESPONSES[m] for m in models), strict=True)]
    return ByLength().rate(items, 0)


def win_rates(first: str, second: str) -> list[EvalResult]:
    subject = Subject(first, "head_to_head", against=second)
    return comparison_rows({subject: read_outcomes(judged(first, second))}, PROMPTS)


def test_win_rates_as_a_whole_and_by_part() -> None:
    rows = win_rates("M2", "M1")
    whole = pick(rows, "win_rate")
    assert (whole.n, whole.unscored, whole.against, whole.model) == (35, 5, "M1", "M2")
    assert whole.value == pytest.approx((20 + 2.5) / 35)
    assert pick(rows, "win_rate", "type:open").value == 1.0
    assert pick(rows, "win_rate", "type:closed").value == pytest.approx(2.5 / 15)
    assert pick(rows, "win_rate", "family:tell").n == 20
    assert [pick(rows, m).value for m in ("wins", "ties", "losses")] == [20 / 35, 5 / 35, 10 / 35]


def test_swapping_the_sides_mirrors_the_win_rate() -> None:
    one, other = pick(win_rates("M2", "M1"), "win_rate"), pick(win_rates("M1", "M2"), "win_rate")
    assert (one.value or 0) + (other.value or 0) == 1


def test_seeds_pool_into_one_row() -> None:
    verdicts = judged("M2", "M1")
    pooled = [o for seed in (0, 1) for o in read_outcomes(verdicts, training_seed=seed)]
    subject = Subject("M2", "head_to_head", against="M1", seeds=(0, 1))
    row = pick(win_rate_rows(subject, pooled, PROMPTS), "win_rate")
    assert (row.n, row.unscored, row.seeds) == (70, 10, (0, 1))
    alone = pick(win_rate_rows(subject, read_outcomes(verdicts), PROMPTS), "win_rate")
    assert (row.value, row.low) == (pytest.approx(alone.value), pytest.approx(alone.low))


def test_mean_score_leaves_unscored_out() -> None:
    rows = score_rows(Subject("M2", "score"), rated("M2"), PROMPTS)
    whole = pick(rows, "mean")
    assert whole.value == pytest.approx((20 * 3 + 10 * 1 + 5 * 2) / 35)
    assert (whole.n, whole.unscored) == (35, 5)
    assert pick(rows, "mean", "family:tell").value == 3.0


def test_groups_of_a_prompt() -> None:
    assert prompt_groups(PROMPTS[0]) == (None, "type:open", "family:tell")
    assert prompt_groups(Prompt("x", (Message("user", "?"),), source="oasst")) == (None,)


def test_judge_on_own_samples_and_audits() -> None:
    reference = [
        Feedback(r.prompt_id, (r.id,), "oracle", Score(float(i % 3)))
        for i, r in enumerate(RESPONSES["M2"] + RESPONSES["M1"])
    ]
    known, verdicts = scores_by_response(reference), rated("M1", "M2")
    quality = judge_quality(scored_prompts(verdicts, known))
    rows = quality_rows(Subject("by length", OWN_SAMPLES), quality)
    assert pick(rows, "pairwise_accuracy").unscored == 5
    total = sum(pick(rows, f"pairs_{k}").value or 0 for k in ("correct", "tied", "wrong"))
    assert total == pick(rows, "pairwise_accuracy").n
    found = audits(verdicts, reference, RESPONSES["M1"] + RESPONSES["M2"])
    assert len(found) == 80
    assert sum(a.reward is None for a in found) == 5
    assert {a.model for a in found} == {"M1", "M2"}
    with pytest.raises(BadInput, match="expected a reference score, found none"):
        scored_prompts(verdicts, scores_by_response(reference[:3]))
    with pytest.raises(BadInput, match="expected one score"):
        scored_prompts(verdicts + verdicts[:1], known)


TWICE = tuple(Prompt(f"{p.id}/{k}", p.messages, p.source) for p in PROMPTS[:8] for k in range(5))
"""Eight prompts under five ids each, as pairs of one prompt have."""


def test_ids_of_one_conversation_are_one_cluster() -> None:
    """Every figure has the interval of 8 prompts, not that of 40."""
    about, one = Subject("M", "b", "other"), PROMPTS[:8]
    value = {p.id: float(i % 4 > 0) for i, p in enumerate(one)}
    shares = [value[p.id.partition("/")[0]] for p in TWICE]
    alone = [QuestionValue(p.id, value[p.id]) for p in one]
    several = [QuestionValue(p.id, v) for p, v in zip(TWICE, shares, strict=True)]

    def same(rows: Sequence[EvalResult], others: Sequence[EvalResult], metric: str) -> None:
        a, b = pick(rows, metric), pick(others, metric)
        assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high)), metric
        assert (a.n, b.n) == (8, 40)

    for measure in (Measure("share", is_share=True), Measure("mean")):
        same(
            part_rows(about, measure, alone, {p.id: p for p in one}, seed=0),
            part_rows(about, measure, several, {p.id: p for p in TWICE}, seed=0),
            measure.name,
        )
    outcomes = [Outcome(v.prompt_id, v.value) for v in alone]
    repeated = [Outcome(v.prompt_id, v.value) for v in several]
    single, pooled = (
        comparison_rows({about: outcomes}, one),
        comparison_rows({about: repeated}, TWICE),
    )
    same(single, pooled, "win_rate")
    assert pick(single, "win_rate_p").value == pick(pooled, "win_rate_p").value == 74 / 256
    feedback = [Feedback(p.id, ("r",), "j", Score(v)) for p, v in zip(TWICE, shares, strict=True)]
    first = [f for f in feedback if f.prompt_id.endswith("/0")]
    ids = [p for p in TWICE if p.id.endswith("/0")]
    same(score_rows(about, first, ids), score_rows(about, feedback, TWICE), "mean")
    texts = [
        Response(p.id, p.id, "a" * int(v), SampledBy("M"))
        for p, v in zip(TWICE, shares, strict=True)
    ]
    short = [r for r in texts if r.id.endswith("/0")]
    same(text_rows(about, short, ids), text_rows(about, texts, TWICE), "words")


def test_p_values_are_adjusted_for_the_number_of_models() -> None:
    def outcomes(wins: int, unscored: int = 0) -> list[Outcome]:
        values = [float(i < wins) for i in range(40 - unscored)] + [None] * unscored
        return [Outcome(p.id, v) for p, v in zip(PROMPTS, values, strict=True)]

    one, two, none = (Subject(m, "duel", "M0") for m in ("M1", "M2", "M3"))
    compared = {one: outcomes(30), two: outcomes(20), none: outcomes(0, 40)}
    rows = {(r.model, r.metric): r for r in comparison_rows(compared, PROMPTS) if r.group is None}
    p = rows["M1", "win_rate_p"]
    # Two-sided sign test of 30 of 40.
    assert p.value == pytest.approx(0.0022, abs=0.0015)
    assert (p.n, p.against, p.low) == (40, "M0", None)
    assert rows["M2", "win_rate_p"].value == 1
    assert rows["M1", "win_rate_p_holm"].value == pytest.approx(2 * (p.value or 0))
    assert ("M3", "win_rate_p") not in rows
    alone = comparison_rows({one: outcomes(30)}, PROMPTS)
    assert "win_rate_p_holm" not in {r.metric for r in alone}
