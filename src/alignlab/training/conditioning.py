"""Condition responses on their rewards: bins of scores, and a prefix that names the bin.

The prefix starts the assistant's turn: a sampler requests the best bin, or another one, by the
`prefix` of a request.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from alignlab.at_once import at_once
from alignlab.errors import BadInput
from alignlab.protocols import ChoiceScorer, Completer
from alignlab.training.token_groups import Texts
from alignlab.types import Completion, CompletionRequest, PreferenceGroup

FILE = "reward_bins.json"
"""Name of the file of bins in a model's folder."""


@dataclass(frozen=True)
class RewardBins:
    """Bins of scores; bin 1 is the worst."""

    edges: tuple[float, ...]
    """Increasing bounds between bins; a score equal to an edge is in the bin above it."""

    @property
    def count(self) -> int:
        """Return the number of bins."""
        return len(self.edges) + 1

    @property
    def best(self) -> str:
        """Return the prefix of the best bin."""
        return self._name(self.count)

    def prefix(self, score: float) -> str:
        """Return the prefix of a response with this score."""
        return self._name(1 + int(np.searchsorted(self.edges, score, side="right")))

    def _name(self, number: int) -> str:
        return bin_prefix(number, self.count)

    def save(self, folder: str | Path) -> None:
        """Write the bins into a model's folder."""
        (Path(folder) / FILE).write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")


def bin_prefix(number: int, count: int) -> str:
    """Return the prefix of one of `count` bins; 1 is the worst."""
    return f"[reward {number} of {count}]\n"


def fit_bins(scores: Sequence[float], bins: int) -> RewardBins:
    """Fit bins of about equally many scores; equal scores share a bin.

    Raises:
        BadInput: fewer different scores than bins.
    """
    levels = np.unique(np.asarray(scores, dtype=np.float64))
    if len(levels) < bins:
        raise BadInput(
            f"reward_conditioned: bins: expected at most the {len(levels)} different scores of the "
            f"data, found {bins}"
        )
    if len(levels) == bins:
        return RewardBins(tuple(levels[1:].tolist()))
    cuts = np.quantile(scores, np.arange(1, bins) / bins, method="higher").tolist()
    edges = (levels[0], *cuts)
    if any(a >= b for a, b in pairwise(edges)):
        raise BadInput(
            f"reward_conditioned: bins: the scores are too unevenly spread for {bins} bins; "
            "take fewer"
        )
    return RewardBins(tuple(cuts))


def most_bins(scores: Sequence[float], wanted: int) -> int:
    """Return the largest number of bins that the scores can fill, from `wanted` down to 2."""
    for bins in range(wanted, 2, -1):
        with suppress(BadInput):
            return fit_bins(scores, bins).count
    return 2


def load_bins(folder: str | Path) -> RewardBins:
    """Load the bins of a reward-conditioned model.

    Raises:
        BadInput: the model is not reward-conditioned.
    """
    file = Path(folder) / FILE
    if not file.is_file():
        raise BadInput(f"{folder}: expected a reward-conditioned model with {FILE}, found none")
    return RewardBins(tuple(json.loads(file.read_text(encoding="utf-8"))["edges"]))


def conditioned_texts(groups: Sequence[PreferenceGroup], bins: RewardBins) -> list[Texts]:
    """Return every response of every group with the prefix of its score's bin."""
    return [
        Texts(r.id, g.prompt.messages, (r.text,), (score,), prefix=bins.prefix(score))
        for g in groups
        for r, score in zip(g.responses, g.scores, strict=True)
    ]


class BestBin:
    """Completer of a reward-conditioned model that requests the best bin.

    Log-probabilities of choices are computed without the prefix: they serve judgements, which
    training did not condition.
    """

    def __init__(self, completer: Completer, bins: RewardBins) -> None:
        self._completer, self._bins = completer, bins
        self.name = completer.name

    def complete(self, requests: Sequence[CompletionRequest]) -> list[tuple[Completion, ...]]:
        """Complete each request after the best bin's prefix, or that of the bin it names."""
        count = self._bins.count
        known = tuple(bin_prefix(number, count) for number in range(1, count + 1))
        best = self._bins.best
        asked = [
            r if r.prefix.startswith(known) else replace(r, prefix=best + r.prefix)
            for r in requests
        ]
        return self._completer.complete(asked)

    def choice_logprobs(
        self, requests: Sequence[CompletionRequest], choices: Sequence[str]
    ) -> list[tuple[float, ...]]:
        """Compute the log-probability in nats of each choice, without the prefix."""
        if not isinstance(self._completer, ChoiceScorer):
            raise BadInput(f"{self.name}: expected log-probabilities, which it does not give")
        return self._completer.choice_logprobs(requests, choices)


class AtBin:
    """Completer of a reward-conditioned model that requests one of its bins.

    Args:
        completer: engine of the model.
        number: the bin; 1 is the worst.
        count: number of bins of the model.
        name: identity of the model with this request.
    """

    def __init__(self, completer: Completer, number: int, count: int, name: str) -> None:
        self._completer, self._prefix, self.name = completer, bin_prefix(number, count), name
        self.at_once = at_once(completer)

    def complete(self, requests: Sequence[CompletionRequest]) -> list[tuple[Completion, ...]]:
        """Complete each request after the bin's prefix."""
        asked = [replace(r, prefix=self._prefix + r.prefix) for r in requests]
        return self._completer.complete(asked)


def with_best_reward_prefix(completer: Completer, folder: str | Path) -> Completer:
    """Wrap a completer to request the best bin if the folder's model is reward-conditioned."""
    if not (Path(folder) / FILE).is_file():
        return completer
    return BestBin(completer, load_bins(folder))
