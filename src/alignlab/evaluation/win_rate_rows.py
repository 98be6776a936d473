"""Result rows of win rates: each model's answers against a baseline's, both orders judged.

Every win rate has an interval, the p-value of a paired randomisation test, and, where several
models are compared, the p-value that Holm's method adjusts for their number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from alignlab.evaluation.metrics.intervals import Interval
from alignlab.evaluation.metrics.multiple import holm
from alignlab.evaluation.metrics.significance import sign_flip_p
from alignlab.evaluation.metrics.win_rate import Outcome, WinRate, outcome, win_rate
from alignlab.evaluation.result_rows import Subject, by_group
from alignlab.types import EvalResult, Feedback, Prompt


def read_outcomes(judged: Sequence[Feedback], *, training_seed: int = 0) -> list[Outcome]:
    """Read verdicts on (model's answer, baseline's answer) as the model's outcomes."""
    return [outcome(feedback, model_is=0, seed=training_seed) for feedback in judged]


def comparison_rows(
    compared: Mapping[Subject, Sequence[Outcome]], prompts: Sequence[Prompt], *, seed: int = 0
) -> list[EvalResult]:
    """Return every model's win rates, and the overall p-values adjusted for their number."""
    rows = [
        row
        for subject, outcomes in compared.items()
        for row in win_rate_rows(subject, outcomes, prompts, seed=seed)
    ]
    known = {prompt.id: prompt.cluster for prompt in prompts}
    judged = {
        subject: [(o.value - 0.5, known[o.prompt_id]) for o in outcomes if o.value is not None]
        for subject, outcomes in compared.items()
    }
    judged = {subject: some for subject, some in judged.items() if some}
    values = [
        sign_flip_p([v for v, _ in some], prompts_N=[p for _, p in some], seed=seed)
        for some in judged.values()
    ]
    names = {"win_rate_p": values, "win_rate_p_holm": holm(values).tolist()}
    return rows + [
        subject.count(name, p, len(judged[subject]))
        for name, found in names.items()
        if name == "win_rate_p" or len(found) > 1
        for subject, p in zip(judged, found, strict=True)
    ]


def win_rate_rows(
    subject: Subject, outcomes: Sequence[Outcome], prompts: Sequence[Prompt], *, seed: int = 0
) -> list[EvalResult]:
    """Return the win rate, overall and by part, and the overall shares of wins, ties and losses.

    Outcomes of several training seeds may come together; a prompt's stay together.
    """
    prompt_of = {prompt.id: prompt for prompt in prompts}
    rows: list[EvalResult] = []
    for group, some in by_group(outcomes, lambda o: prompt_of[o.prompt_id]):
        clustered = [replace(o, prompt_id=prompt_of[o.prompt_id].cluster) for o in some]
        result = win_rate(clustered, seed=seed)
        rows.append(subject.row("win_rate", result.rate, unscored=result.unscored, group=group))
        if group is None:
            rows += _shares(subject, result)
    return rows


def _shares(subject: Subject, result: WinRate) -> list[EvalResult]:
    """Return the shares of wins, ties and losses among the judged comparisons."""
    judged = result.rate.n
    if judged == 0:
        return []
    parts = {"wins": result.wins, "ties": result.ties, "losses": result.losses}
    return [
        subject.row(name, Interval(count / judged, None, None, judged))
        for name, count in parts.items()
    ]
