from __future__ import annotations

from collections.abc import Sequence

import pytest

from alignlab import registry
from alignlab.errors import BadInput
from alignlab.evaluation.benchmarks.head_to_head import (
    HeadToHead,
    comparison_rows,
    read_outcomes,
    win_rate_rows,
)
from alignlab.evaluation.benchmarks.reward_modelling import (
    OWN_SAMPLES,
    JudgeOnGroups,
    audits,
    own_sample_rows,
)
from alignlab.evaluation.benchmarks.score import MeanScore
from alignlab.evaluation.benchmarks.text_stats import TextStatistics
from alignlab.evaluation.metrics.win_rate import Outcome
from alignlab.evaluation.result_rows import Subject, prompt_groups
from alignlab.types import (
    EvalResult,
    Feedback,
    Message,
    Preference,
    PreferenceGroup,
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


def test_head_to_head_as_a_whole_and_by_part() -> None:
    rows = HeadToHead(PROMPTS, ByLength(), "M1").score(RESPONSES, seed=0)
    whole = pick(rows, "win_rate")
    assert (whole.n, whole.unscored, whole.against, whole.model) == (35, 5, "M1", "M2")
    assert whole.value == pytest.approx((20 + 2.5) / 35)
    assert pick(rows, "win_rate", "type:open").value == 1.0
    assert pick(rows, "win_rate", "type:closed").value == pytest.approx(2.5 / 15)
    assert pick(rows, "win_rate", "family:tell").n == 20
    assert [pick(rows, m).value for m in ("wins", "ties", "losses")] == [20 / 35, 5 / 35, 10 / 35]


def test_swapping_the_baseline_mirrors_the_win_rate() -> None:
    one = HeadToHead(PROMPTS, ByLength(), "M1").score(RESPONSES, seed=0)
    other = HeadToHead(PROMPTS, ByLength(), "M2").score(RESPONSES, seed=0)
    assert (pick(one, "win_rate").value or 0) + (pick(other, "win_rate").value or 0) == 1


def test_seeds_pool_into_one_row() -> None:
    judged = ByLength().compare(
        list(zip(PROMPTS, RESPONSES["M2"], RESPONSES["M1"], strict=True)), 0
    )
    pooled = [o for seed in (0, 1) for o in read_outcomes(judged, training_seed=seed)]
    subject = Subject("M2", "head_to_head", against="M1", seeds=(0, 1))
    row = pick(win_rate_rows(subject, pooled, PROMPTS), "win_rate")
    assert (row.n, row.unscored, row.seeds) == (70, 10, (0, 1))
    alone = pick(win_rate_rows(subject, read_outcomes(judged), PROMPTS), "win_rate")
    assert (row.value, row.low) == (pytest.approx(alone.value), pytest.approx(alone.low))


def test_missing_answers_and_baselines_are_named() -> None:
    bench = HeadToHead(PROMPTS, ByLength(), "M0")
    with pytest.raises(BadInput, match="baseline 'M0', found \\['M1', 'M2'\\]"):
        bench.score(RESPONSES, seed=0)
    with pytest.raises(BadInput, match=r"responses of M1: .* found none for 'p39' and 0 more"):
        HeadToHead(PROMPTS, ByLength(), "M1").score({"M1": RESPONSES["M1"][:39]}, seed=0)


def test_mean_score_leaves_unscored_out() -> None:
    rows = [r for r in MeanScore(PROMPTS, ByLength()).score(RESPONSES, seed=0) if r.model == "M2"]
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
    items = [(p, [a, b]) for p, a, b in zip(PROMPTS, *RESPONSES.values(), strict=True)]
    judged = ByLength().rate(items, 0)
    rows = own_sample_rows(Subject("by length", OWN_SAMPLES), judged, reference)
    assert pick(rows, "pairwise_accuracy").unscored == 5
    total = sum(pick(rows, f"pairs_{k}").value or 0 for k in ("correct", "tied", "wrong"))
    assert total == pick(rows, "pairwise_accuracy").n
    found = audits(judged, reference, RESPONSES["M1"] + RESPONSES["M2"])
    assert len(found) == 80
    assert sum(a.reward is None for a in found) == 5
    assert {a.model for a in found} == {"M1", "M2"}
    with pytest.raises(BadInput, match="expected a reference score, found none"):
        own_sample_rows(Subject("j", OWN_SAMPLES), judged, reference[:3])
    with pytest.raises(BadInput, match="expected one score"):
        own_sample_rows(Subject("j", OWN_SAMPLES), judged + judged[:1], reference)


def test_judge_on_held_out_groups() -> None:
    groups = tuple(
        PreferenceGroup(p, (a, b), (1.0, 0.0), "humans")
        for p, a, b in zip(PROMPTS, RESPONSES["M2"], RESPONSES["M1"], strict=True)
    )
    rows = JudgeOnGroups(groups).measure(ByLength(), seed=0)
    assert pick(rows, "pairwise_accuracy").value == pytest.approx(20 / 35)
    assert pick(rows, "pairwise_accuracy_ties_half").value == pytest.approx(22.5 / 35)


def test_benchmarks_are_registered() -> None:
    assert registry.get("benchmark", "head_to_head") is HeadToHead
    assert registry.get("benchmark", "text") is TextStatistics
    rows = TextStatistics(PROMPTS).score(RESPONSES, seed=0)
    assert {r.model for r in rows} == {"M1", "M2"}


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
