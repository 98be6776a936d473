"""R3 and its ablations against GPT-4's scores, on answers of eight models to AlpacaEval.

    python benchmarks/r3_on_alpacaeval.py LISTWISE.jsonl --references BASELINE.jsonl \
        --labels QUERY_TYPES.jsonl [--encoder minilm] [--json]

Query types come from a classifier trained on the labels; references of closed-ended questions are
the leaderboard's baseline answers (nothing else is there: a stronger reference than R3 has in its
paper). Ranges of the terms are measured on the train split, figures on the test split. Printed per
variant: pairwise accuracy (ties half), Spearman within prompts, and Spearman between models over
mean scores, each with a 95% bootstrap interval over prompts; "longer wins" is the baseline.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from alignlab import seeds
from alignlab.data.sources import load
from alignlab.evaluation.metrics.correlation import spearman
from alignlab.evaluation.metrics.intervals import Interval
from alignlab.evaluation.metrics.judge_quality import ScoredPrompt, judge_quality
from alignlab.feedback.query_type_classifier import train_classifier
from alignlab.feedback.query_types import QueryTypes, query_types
from alignlab.feedback.r3 import R3, R3Options, Terms, measure_ranges
from alignlab.feedback.relevance import relevance_model
from alignlab.types import PreferenceGroup, Prompt, Response

DRAWS = 1000

VARIANTS = {
    "R3": R3Options(),
    "R3 without the branch": R3Options(branch=False),
    "R3 without relevance": R3Options(relevance=False),
    "R3 without the length incentive": R3Options(length=False),
    "R3 without the repetition penalty": R3Options(repetition=False),
    "relevance only": R3Options(length=False, repetition=False, branch=False),
    "length only": R3Options(relevance=False, repetition=False, branch=False),
}
"""Name -> the terms that are on."""


@dataclass(frozen=True)
class Figures:
    """One variant's agreement with the reference scores."""

    variant: str
    pairwise: Interval
    within_prompts: Interval
    between_models: float | None
    between_low: float
    between_high: float
    prompts: int
    unscored: int


def figures(
    variant: str, groups: Sequence[PreferenceGroup], scores: Sequence[Sequence[float | None]]
) -> Figures:
    """A variant's figures on groups whose responses it scored."""
    table = [
        ScoredPrompt(g.id, tuple(own), g.scores, g.prompt.cluster)
        for g, own in zip(groups, scores, strict=True)
    ]
    quality = judge_quality(table)
    low, middle, high = _between_models(groups, scores)
    unscored = sum(value is None for own in scores for value in own)
    return Figures(
        variant,
        quality.pairwise_accuracy_ties_half,
        quality.spearman_by_prompt,
        middle,
        low,
        high,
        len(groups),
        unscored,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("listwise", type=Path)
    parser.add_argument("--references", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    corpus = load(f"alpacaeval_listwise:{given.listwise}")
    answers = _references(given.references)
    model = relevance_model(given.encoder)
    types = train_classifier(load(f"prompts:{given.labels}").prompts, encoder=given.encoder)
    train, test = (
        [_referenced(g, answers) for g in groups] for groups in (corpus.groups, corpus.test_groups)
    )
    found = [_longer(test)]
    for name, options in VARIANTS.items():
        found += _of_variant(name, R3(model, options, _types(options, types)), train, test)
    if given.json:
        print(json.dumps([_plain(row) for row in found], indent=1))
        return
    print("| reward | pairwise, ties half | Spearman within prompts | between models | prompts |")
    print("|---|---|---|---|---|")
    for row in found:
        print(
            f"| {row.variant} | {_told(row.pairwise)} | {_told(row.within_prompts)} "
            f"| {row.between_models:.2f} [{row.between_low:.2f}, {row.between_high:.2f}] "
            f"| {row.prompts} |"
        )


def _of_variant(
    name: str, source: R3, train: Sequence[PreferenceGroup], test: Sequence[PreferenceGroup]
) -> list[Figures]:
    """A variant with raw terms and with terms in their ranges."""
    ranged = replace(source, ranges=measure_ranges(source, _items(train), 0))
    terms = ranged.terms(_items(test), 0)
    return [
        figures(f"{name}, {how}", test, _by_group(test, reward, terms))
        for how, reward in (("raw terms", source), ("terms in their ranges", ranged))
    ]


def _by_group(
    groups: Sequence[PreferenceGroup], source: R3, terms: Sequence[object]
) -> list[list[float | None]]:
    values = iter([source.reward(t) if isinstance(t, Terms) else None for t in terms])
    return [[next(values) for _ in group.responses] for group in groups]


def _longer(groups: Sequence[PreferenceGroup]) -> Figures:
    lengths = [[float(len(r.text)) for r in group.responses] for group in groups]
    return figures("the longer answer", groups, lengths)


def _types(options: R3Options, learned: QueryTypes) -> QueryTypes:
    return learned if options.branch else query_types("label")


def _items(groups: Sequence[PreferenceGroup]) -> list[tuple[Prompt, Sequence[Response]]]:
    return [(group.prompt, group.responses) for group in groups]


def _references(path: Path) -> dict[str, str]:
    import gzip

    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return {row["instruction"]: row["baseline_output"] for row in rows}


def _referenced(group: PreferenceGroup, answers: dict[str, str]) -> PreferenceGroup:
    reference = answers.get(group.prompt.text)
    return replace(group, prompt=replace(group.prompt, reference=reference))


def _between_models(
    groups: Sequence[PreferenceGroup], scores: Sequence[Sequence[float | None]]
) -> tuple[float, float | None, float]:
    """Spearman between models' mean scores and mean reference scores: low, value, high."""
    models = sorted({r.sampler.model for g in groups for r in g.responses})
    own_PM = np.full((len(groups), len(models)), np.nan)
    true_PM = own_PM.copy()
    for row, (group, values) in enumerate(zip(groups, scores, strict=True)):
        for response, value, truth in zip(group.responses, values, group.scores, strict=True):
            if value is not None:
                column = models.index(response.sampler.model)
                own_PM[row, column], true_PM[row, column] = value, truth
    rng = seeds.generator(0, "between models")
    drawn = []
    for _ in range(DRAWS):
        rows = rng.integers(0, len(groups), len(groups))
        drawn.append(_rank_agreement(own_PM[rows], true_PM[rows]))
    low, high = np.percentile([d for d in drawn if d is not None], [2.5, 97.5]).tolist()
    return low, _rank_agreement(own_PM, true_PM), high


def _rank_agreement(own_PM: np.ndarray, true_PM: np.ndarray) -> float | None:
    return spearman(np.nanmean(own_PM, axis=0), np.nanmean(true_PM, axis=0))


def _told(interval: Interval) -> str:
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _plain(row: Figures) -> dict[str, object]:
    return {
        "variant": row.variant,
        "pairwise": row.pairwise.value,
        "within_prompts": row.within_prompts.value,
        "between_models": row.between_models,
        "prompts": row.prompts,
        "unscored": row.unscored,
    }


if __name__ == "__main__":
    main()
