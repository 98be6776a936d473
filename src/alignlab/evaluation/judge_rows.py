"""Result rows of a judge's agreement with reference scores.

Measured on a model's own samples (which a self-rewarding loop relies on) and on held-out ranked
groups; judges that look good on artificial responses of mixed quality can be near chance on a
model's own, so both are reported, as separate benchmarks.
"""

from __future__ import annotations

from collections.abc import Sequence

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.judge_quality import JudgeQuality, ScoredPrompt
from alignlab.evaluation.result_rows import Subject
from alignlab.types import Audit, EvalResult, Feedback, Response, Score

OWN_SAMPLES = "judge_own_samples"
HELD_OUT = "judge_held_out"


def scores_by_response(judged: Sequence[Feedback]) -> dict[str, float | None]:
    """Map response ids to scores, None where the source gave no score."""
    return {f.response_ids[0]: _score(f) for f in judged}


def scored_prompts(
    judged: Sequence[Feedback], reference: dict[str, float | None] | dict[str, float]
) -> list[ScoredPrompt]:
    """Join a judge's feedback with reference scores by response id, grouped by prompt.

    Raises:
        BadInput: a judged response that the reference does not know, or one judged twice.
    """
    rows: dict[str, list[tuple[float | None, float | None]]] = {}
    seen: set[str] = set()
    for feedback in judged:
        response = feedback.response_ids[0]
        if response in seen:
            raise BadInput(f"response {response!r}: expected one score from {feedback.source}")
        if response not in reference:
            raise BadInput(f"response {response!r}: expected a reference score, found none")
        seen.add(response)
        rows.setdefault(feedback.prompt_id, []).append((_score(feedback), reference[response]))
    return [
        ScoredPrompt(prompt, tuple(a for a, _ in pairs), tuple(b for _, b in pairs))
        for prompt, pairs in rows.items()
    ]


def quality_rows(subject: Subject, quality: JudgeQuality) -> list[EvalResult]:
    """Build one row per judge metric, and the counts of correct, tied and wrong pairs."""
    rows = [
        subject.row(name, figure, unscored=quality.unscored) for name, figure in quality.intervals()
    ]
    pairs = quality.pairs
    counts = {"pairs_correct": pairs.correct, "pairs_tied": pairs.tied, "pairs_wrong": pairs.wrong}
    return rows + [subject.count(name, float(n), pairs.total) for name, n in counts.items()]


def audits(
    judged: Sequence[Feedback], reference: Sequence[Feedback], responses: Sequence[Response]
) -> list[Audit]:
    """Pair a judge's reward with the gold score of every response that has one."""
    truth = scores_by_response(reference)
    writer = {r.id: r.sampler.model for r in responses}
    return [
        Audit(
            response_id=f.response_ids[0],
            model=writer.get(f.response_ids[0], ""),
            source=f.source,
            reward=_score(f),
            truth=known,
            prompt_id=f.prompt_id,
        )
        for f in judged
        if (known := truth.get(f.response_ids[0])) is not None
    ]


def _score(feedback: Feedback) -> float | None:
    return feedback.verdict.value if isinstance(feedback.verdict, Score) else None
