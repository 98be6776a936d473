"""Write values by prompt, so that another run can be compared prompt by prompt.

Written are scores by a judge that other runs can use, recall, and verdicts against a baseline that
is identified by the fingerprint of its answers. A study's win rates are against its own M1, and its
`self` judge is its own model; neither is comparable across runs, so neither is written.
"""

from __future__ import annotations

from collections.abc import Sequence

from alignlab.evaluation.tasks import BenchmarkInputs, ModelAnswers, value_of
from alignlab.measuring.alignment_tax import recalled
from alignlab.measuring.measure import StudyMeasurements
from alignlab.measuring.paired import FILE as FILE
from alignlab.records import fingerprint, to_dict
from alignlab.types import Feedback, Prompt, PromptValue, Score

JUDGED = "judged"
"""Metric of `alignlab evaluate`: the judge's verdict on an answer, as a number."""


def of_study(measured: Sequence[StudyMeasurements]) -> list[PromptValue]:
    """Return the scores and recall of every model of every seed."""
    found: list[PromptValue] = []
    for m in measured:
        words = {p.id: _words(p) for p in m.held_out.prompts}
        for model, feedback in m.scored.items():
            found += [
                PromptValue(
                    model, "score", "mean", words[f.prompt_id], f.verdict.value, f.source,
                    seed=m.seed,
                )
                for f in feedback
                if isinstance(f.verdict, Score) and not m.self_judged
            ]  # fmt: skip
        for model in m.answers:
            found += [
                PromptValue(model, "closed_questions", "recall", words[p], value, seed=m.seed)
                for p, value in recalled(m, model).items()
            ]
    return found


def of_benchmark(
    benchmark: str, asked: BenchmarkInputs, verdicts: Sequence[Feedback], judge: str
) -> list[PromptValue]:
    """Return the mean verdict on every model's answer to every question."""
    by_response: dict[str, list[float]] = {}
    for feedback in verdicts:
        if (value := value_of(feedback)) is not None:
            by_response.setdefault(feedback.response_ids[0], []).append(value)
    words = {q.id: _words(q.prompt) for q in asked.questions}
    against = asked.baseline.model if asked.baseline else None
    by = judge if asked.baseline is None else f"{judge} {_texts(asked.baseline)}"
    return [
        PromptValue(
            answers.model, benchmark, JUDGED, words[question], sum(values) / len(values), by,
            against, asked.seed,
        )
        for answers in asked.answers
        for question, turns in answers.turns.items()
        if question in words and (values := [v for r in turns for v in by_response.get(r.id, ())])
    ]  # fmt: skip


def _texts(answers: ModelAnswers) -> str:
    """Return a fingerprint of the baseline's answers, which identifies the baseline."""
    return fingerprint({q: [r.text for r in turns] for q, turns in sorted(answers.turns.items())})


def _words(prompt: Prompt) -> str:
    return fingerprint([to_dict(message) for message in prompt.messages])
