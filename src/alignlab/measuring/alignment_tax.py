"""Measure the alignment tax: losses on tasks that need no judge while preference rises.

The task here is the study's own closed-ended test questions: recall of what the reference answer
adds to the question (`metrics/recall.py`). Differences are paired by prompt, tested by a
randomisation test, and adjusted for the number of models (Holm). `alignlab compare` shows tasks of
other benchmarks (`alignlab evaluate lm_eval`) with win rates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from alignlab.answers.libraries import key_of
from alignlab.evaluation.metrics.intervals import bootstrap_mean
from alignlab.evaluation.metrics.multiple import holm
from alignlab.evaluation.metrics.recall import recall
from alignlab.evaluation.metrics.significance import Difference, difference
from alignlab.evaluation.result_rows import Subject
from alignlab.measuring.measure import StudyMeasurements
from alignlab.types import EvalResult

BENCHMARK = "closed_questions"


def recalled(measured: StudyMeasurements, model: str) -> dict[str, float]:
    """Return prompt -> recall of a model's response, for closed-ended prompts with a reference."""
    closed = [p for p in measured.held_out.prompts if p.query_type == "closed"]
    prompts = {p.id: (p.text, key) for p in closed if (key := key_of(p.reference or ""))}
    found: dict[str, float] = {}
    for response in measured.answers[model]:
        if response.prompt_id in prompts:
            share = recall(response.text, *prompts[response.prompt_id])
            if share is not None:
                found.setdefault(response.prompt_id, share)
    return found


def tax_rows(measured: Sequence[StudyMeasurements]) -> list[EvalResult]:
    """Compute every model's recall and its change from the baseline, for closed-ended prompts."""
    first = measured[0]
    seeds = tuple(m.seed for m in measured)
    found = {model: [recalled(m, model) for m in measured] for model in first.answers}
    cluster = {p.id: p.cluster for p in first.held_out.prompts}
    base = found.get(first.baseline, [])
    if not any(base):
        return []
    rows = [
        Subject(model, BENCHMARK, seeds=seeds).row(
            "recall",
            bootstrap_mean(
                [v for one in several for v in one.values()],
                prompts_N=[cluster[p] for one in several for p in one],
                seed=first.seed,
            ),
        )
        for model, several in found.items()
    ]
    changes = {
        Subject(model, BENCHMARK, first.baseline, seeds): _change(
            several, base, cluster, first.seed
        )
        for model, several in found.items()
        if model != first.baseline
    }
    tested = {subject: c.p for subject, c in changes.items() if c.p is not None}
    rows += [subject.row("recall_change", change.interval) for subject, change in changes.items()]
    adjusted = holm(list(tested.values()))
    return rows + [
        subject.count("recall_change_p_holm", float(p), changes[subject].interval.n)
        for subject, p in zip(tested, adjusted, strict=True)
    ]


def _change(
    own: Sequence[Mapping[str, float]],
    base: Sequence[Mapping[str, float]],
    cluster: Mapping[str, str],
    seed: int,
) -> Difference:
    """Return the model's recall minus the baseline's on prompts that both answered, by seed."""
    both = [
        (prompt, mine[prompt], theirs[prompt])
        for mine, theirs in zip(own, base, strict=True)
        for prompt in mine
        if prompt in theirs
    ]
    return difference(
        [mine for _, mine, _ in both],
        [theirs for _, _, theirs in both],
        prompts_N=[cluster[prompt] for prompt, _, _ in both],
        seed=seed,
    )
