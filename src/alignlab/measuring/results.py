"""Compute figures with intervals, and examples, from the measurements of one or several seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from alignlab.context import RunContext
from alignlab.evaluation.judge_rows import (
    HELD_OUT,
    OWN_SAMPLES,
    audits,
    quality_rows,
    scored_prompts,
    scores_by_response,
)
from alignlab.evaluation.metrics.intervals import bootstrap_mean
from alignlab.evaluation.metrics.judge_quality import judge_quality
from alignlab.evaluation.result_rows import Subject
from alignlab.evaluation.task_rows import score_rows
from alignlab.evaluation.text_rows import text_rows
from alignlab.evaluation.win_rate_rows import comparison_rows, read_outcomes
from alignlab.measuring.alignment_tax import tax_rows
from alignlab.measuring.measure import HeldOut, PerPromptMetric, StudyMeasurements
from alignlab.measuring.prompt_values import FILE as PROMPT_VALUES
from alignlab.measuring.prompt_values import of_study
from alignlab.measuring.scaling_fit import scaled
from alignlab.types import (
    Audit,
    DisplayedAnswer,
    EvalResult,
    Example,
    Prompt,
    PromptValue,
    ScalePoint,
)


def results(context: RunContext, measured: Sequence[StudyMeasurements]) -> list[EvalResult]:
    """Compute all figures of a study, pooled over its seeds with intervals over prompts."""
    with context.run.stage("results") as stage:
        file = stage.records("results", EvalResult)
        if "all" not in file.units:
            rows = _score_rows(measured) + _comparison_rows(measured) + _text_rows(measured)
            rows += _judge_rows(measured) + _value_rows(measured) + tax_rows(measured)
            growth = scaled(measured)
            stage.write("scaling", ScalePoint, growth.points)
            stage.write(PROMPT_VALUES, PromptValue, of_study(measured))
            stage.write("audit", Audit, [a for m in measured for a in _audits(m)])
            stage.write("examples", Example, _examples(measured[0]))
            file.append("all", rows + growth.rows)
        return file.read()


def _subject(
    measured: Sequence[StudyMeasurements], model: str, benchmark: str, against: str | None = None
) -> Subject:
    return Subject(model, benchmark, against, tuple(m.seed for m in measured))


def _score_rows(measured: Sequence[StudyMeasurements]) -> list[EvalResult]:
    return [
        row
        for model in measured[0].scored
        for row in score_rows(
            _subject(measured, model, "score"),
            [f for m in measured for f in m.scored[model]],
            measured[0].held_out.prompts,
        )
    ]


def _comparison_rows(measured: Sequence[StudyMeasurements]) -> list[EvalResult]:
    compared = {
        _subject(measured, model, "head_to_head", measured[0].baseline): [
            o for m in measured for o in read_outcomes(m.comparisons[model], training_seed=m.seed)
        ]
        for model in measured[0].comparisons
    }
    return comparison_rows(compared, measured[0].held_out.prompts)


def _text_rows(measured: Sequence[StudyMeasurements]) -> list[EvalResult]:
    return [
        row
        for model in measured[0].answers
        for row in text_rows(
            _subject(measured, model, "text"),
            [r for m in measured for r in m.answers[model]],
            measured[0].held_out.prompts,
        )
    ]


def _judge_rows(measured: Sequence[StudyMeasurements]) -> list[EvalResult]:
    """Compute every judge's figures on its own responses and on held-out ranked groups."""
    ranked: dict[str, float | None] = {
        r.id: s
        for g in measured[0].held_out.groups
        for r, s in zip(g.responses, g.scores, strict=True)
    }
    cluster = _clusters(measured[0].held_out)
    rows: list[EvalResult] = []
    for judge, where in dict.fromkeys((j.judge, j.where) for j in measured[0].judgements):
        own = where == "own"
        scored = [
            replace(
                prompt, prompt_id=f"{m.seed}/{prompt.prompt_id}", cluster=cluster(prompt.prompt_id)
            )
            for m in measured
            for j in m.judgements
            if (j.judge, j.where) == (judge, where) and (m.gold or not own)
            for prompt in scored_prompts(
                j.feedback, scores_by_response(list(m.gold.values())) if own else ranked
            )
        ]
        if scored:
            subject = _subject(measured, judge, OWN_SAMPLES if own else HELD_OUT)
            rows += quality_rows(subject, judge_quality(scored))
    return rows


def _clusters(held_out: HeldOut) -> Callable[[str], str]:
    """Return the cluster of a prompt id; an unknown id is its own cluster."""
    prompts = (*held_out.prompts, *(group.prompt for group in held_out.groups))
    known = {prompt.id: prompt.cluster for prompt in prompts}
    return lambda prompt_id: known.get(prompt_id, prompt_id)


def _value_rows(measured: Sequence[StudyMeasurements]) -> list[EvalResult]:
    """Compute the means of the figures measured by branches, over all seeds."""
    cluster = _clusters(measured[0].held_out)
    found: dict[tuple[str, str, str, str | None], list[PerPromptMetric]] = {}
    for m in measured:
        for v in m.values:
            found.setdefault((v.model, v.benchmark, v.metric, v.against), []).append(v)
    return [
        _subject(measured, model, benchmark, against).row(
            metric,
            bootstrap_mean(
                [value for v in several for value in v.values],
                prompts_N=[cluster(prompt) for v in several for prompt in v.prompt_ids],
                seed=measured[0].seed,
                is_share=several[0].is_share,
            ),
            unscored=sum(v.unscored for v in several),
        )
        for (model, benchmark, metric, against), several in found.items()
    ]


def _audits(measured: StudyMeasurements) -> list[Audit]:
    gold = list(measured.gold.values())
    return [
        replace(audit, source=j.judge)
        for j in measured.judgements
        if j.where == "own"
        for audit in audits(j.feedback, gold, j.responses)
    ]


def _examples(measured: StudyMeasurements) -> list[Example]:
    """Return the example prompts with every model's answer and the feedback on it."""
    return [
        Example(prompt, tuple(_shown(measured, prompt, model) for model in measured.answers))
        for prompt in measured.examples
    ]


def _shown(measured: StudyMeasurements, prompt: Prompt, model: str) -> DisplayedAnswer:
    answer = next((r for r in measured.answers[model] if r.prompt_id == prompt.id), None)
    if answer is None:  # the model failed to answer, which its stage counted
        return DisplayedAnswer(model, "")
    feedback = [f for f in measured.scored[model] if f.prompt_id == prompt.id]
    feedback += [f for f in measured.comparisons.get(model, ()) if f.prompt_id == prompt.id]
    feedback += [measured.said[answer.id]]
    return DisplayedAnswer(model, answer.text, tuple(feedback))
