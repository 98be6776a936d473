"""Measure reward models on labelled pairs, and the labels that they gave to pairs themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from alignlab.measuring.held_out import LONGER, outcome_of
from alignlab.measuring.measure import PerPromptMetric
from alignlab.stages.pseudo_labels import pair_key, sigmoid
from alignlab.types import PreferenceGroup

HELD_OUT = "reward_model"
PSEUDO_LABELS = "pseudo_labels"
SIMILAR = 0.1
"""Largest difference of two responses' numbers of words, as a share of the longer one's, by which
they count as equally long."""

Rewards = Mapping[str, float]
"""Response id -> reward."""


def similar_length(pair: PreferenceGroup) -> bool:
    """Return whether a pair's responses have about the same number of words."""
    short, long = sorted(len(response.text.split()) for response in pair.responses)
    return long - short <= SIMILAR * long


def pair_accuracy(
    model: str, pairs: Sequence[PreferenceGroup], rewards: Rewards
) -> tuple[PerPromptMetric, ...]:
    """Compute a reward model's figures on pairs whose first response is the better one.

    Returns:
        Accuracy (equal rewards are half a win), accuracy on pairs of similar length, and the Brier
        score of sigmoid(r_w - r_l); pairs without a reward of both responses are unscored.
    """
    read = [pair for pair in pairs if all(r.id in rewards for r in pair.responses)]
    margins = [rewards[a.id] - rewards[b.id] for a, b in (pair.responses for pair in read)]
    alike = [(pair, m) for pair, m in zip(read, margins, strict=True) if similar_length(pair)]
    lost = len(pairs) - len(read)
    return (
        _metric(model, HELD_OUT, "accuracy", read, map(outcome_of, margins), lost),
        _metric(model, HELD_OUT, "accuracy_similar_length", [p for p, _ in alike],
                (outcome_of(m) for _, m in alike)),
        _metric(model, HELD_OUT, "brier", read, ((1 - sigmoid(m)) ** 2 for m in margins), lost),
    )  # fmt: skip


def longer_wins(pairs: Sequence[PreferenceGroup]) -> PerPromptMetric:
    """Compute the accuracy of the guess that the longer response, in characters, is better."""
    lengths = {r.id: float(len(r.text)) for pair in pairs for r in pair.responses}
    return pair_accuracy(LONGER, pairs, lengths)[0]


def accuracy_change(
    model: str, against: str, pairs: Sequence[PreferenceGroup], both: tuple[Rewards, Rewards]
) -> PerPromptMetric:
    """Compute the difference of two reward models' outcomes, pair by pair.

    Args:
        both: rewards by the model, and by the model that it is held against.
    """
    read = [p for p in pairs if all(r.id in rewards for rewards in both for r in p.responses)]
    ahead = [
        outcome_of(own[a.id] - own[b.id]) - outcome_of(other[a.id] - other[b.id])
        for own, other in [both]
        for a, b in (pair.responses for pair in read)
    ]
    found = _metric(model, HELD_OUT, "accuracy_change", read, ahead, len(pairs) - len(read))
    return replace(found, against=against)


def rival_changes(
    known: Sequence[PerPromptMetric], rivals: Iterable[tuple[str, str]]
) -> list[PerPromptMetric]:
    """Compute differences of accuracy on the pairs that both of two reward models scored.

    Args:
        known: figures of reward models; those that are no accuracy are left out.
        rivals: reward model, and the one that it is held against; without figures of both, none.
    """
    won = {
        m.model: dict(zip(m.prompt_ids, m.values, strict=True))
        for m in known
        if (m.benchmark, m.metric) == (HELD_OUT, "accuracy")
    }
    found = []
    for model, other in rivals:
        both = [p for p in won.get(model, {}) if p in won.get(other, {})]
        if both:
            apart = tuple(won[model][p] - won[other][p] for p in both)
            found.append(
                PerPromptMetric(model, HELD_OUT, "accuracy_change", tuple(both), apart, other)
            )
    return found


def label_figures(
    model: str, pool: Sequence[PreferenceGroup], kept: Sequence[PreferenceGroup]
) -> tuple[PerPromptMetric, ...]:
    """Compute the kept share of a pool, and the share of right labels among the kept pairs.

    Args:
        model: the reward model that is trained on the kept pairs.
        pool: pairs in the order of their true labels.
        kept: pairs of the pool as they were labelled.
    """
    known = {pair_key(pair): pair.responses[0].id for pair in pool}
    chosen = {pair_key(pair) for pair in kept}
    alike = [pair for pair in kept if similar_length(pair)]

    def right(pairs: Sequence[PreferenceGroup]) -> list[float]:
        return [float(p.responses[0].id == known[pair_key(p)]) for p in pairs]

    shares = (float(pair_key(pair) in chosen) for pair in pool)
    return (
        _metric(model, PSEUDO_LABELS, "kept", pool, shares),
        _metric(model, PSEUDO_LABELS, "accuracy", kept, right(kept)),
        _metric(model, PSEUDO_LABELS, "accuracy_similar_length", alike, right(alike)),
    )


def _metric(
    model: str,
    benchmark: str,
    metric: str,
    pairs: Sequence[PreferenceGroup],
    values: Iterable[float],
    unscored: int = 0,
) -> PerPromptMetric:
    """Return values by pair; pairs of one prompt are resampled together."""
    ids = tuple(pair.prompt.cluster for pair in pairs)
    return PerPromptMetric(model, benchmark, metric, ids, tuple(values), unscored=unscored)
