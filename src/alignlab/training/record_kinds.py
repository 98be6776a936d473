"""Select the records that an objective learns from, and tokenise them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from alignlab.errors import BadInput
from alignlab.models.load import LanguageModel
from alignlab.models.packed import TokenGroup
from alignlab.objectives.base import CommentedLogps, LabelledLogps, Objective, input_of
from alignlab.objectives.reward_conditioned import RewardConditioned
from alignlab.training.conditioning import RewardBins, conditioned_texts, fit_bins
from alignlab.training.config import LengthSettings
from alignlab.training.token_groups import (
    Prepared,
    Texts,
    commented_texts,
    labelled_texts,
    texts_of,
    tokenised,
    with_mismatched,
)
from alignlab.types import CritiquedResponse, Demonstration, PreferenceGroup, UnpairedPreference

Record = Demonstration | PreferenceGroup | UnpairedPreference | CritiquedResponse

KINDS: dict[type, str] = {
    Demonstration: "demonstrations",
    PreferenceGroup: "preference groups",
    UnpairedPreference: "labelled responses",
    CritiquedResponse: "responses with feedback in words",
}
"""Record type -> name in messages."""


def record_kind(objective: Objective) -> type[Record]:
    """Return the type of record that an objective learns from."""
    if input_of(objective) is LabelledLogps:
        return UnpairedPreference
    if input_of(objective) is CommentedLogps:
        return CritiquedResponse
    one_response = objective.max_responses == 1 and not isinstance(objective, RewardConditioned)
    return Demonstration if one_response else PreferenceGroup


def prepare_for(
    lm: LanguageModel,
    objective: Objective,
    records: Sequence[Record],
    *,
    seed: int,
    drop_bad: bool = False,
    **lengths: Any,
) -> Prepared:
    """Tokenise records as an objective takes them.

    For an objective over labelled responses, a preference group becomes its best response as
    desirable and its worst as undesirable.

    Args:
        seed: seed by which prompts are paired with other prompts' responses, if needed.
        drop_bad: drop and count records that the chat template refuses or that hold it already.
        lengths: settings of `LengthSettings`: max_prompt_tokens, max_response_tokens, too_long.

    Raises:
        BadInput: records of another type than the objective learns from, no record left, or
            labelled responses with only one label.
    """
    kind = record_kind(objective)
    grouped = (
        [r for r in records if isinstance(r, PreferenceGroup)] if kind is UnpairedPreference else []
    )
    given = records
    if grouped:
        records = [r for each in records for r in _as_labelled(each)]
    texts = _texts(objective, records)
    groups, tally = tokenised(lm, texts, LengthSettings(**lengths), drop_bad)
    if grouped:
        equal = sum(g.best_and_worst() is None for g in grouped)
        tally = replace(
            tally,
            dropped={**tally.dropped, **({"all scores equal": equal} if equal else {})},
            changed={**tally.changed, "group to two labelled responses": len(grouped) - equal},
        )
    hard = 0 if getattr(objective, "soft_labels", False) else sum(map(_is_soft, given))
    if hard:
        tally = replace(tally, changed={**tally.changed, "probability of the order not used": hard})
    if not groups:
        reasons = ", ".join(f"{why} {n}" for why, n in tally.dropped.items()) or "there was none"
        raise BadInput(
            f"train: no record is left to train on ({reasons}); lengths are set by "
            "lengths.max_prompt_tokens, lengths.max_response_tokens and lengths.too_long"
        )
    if kind is UnpairedPreference:
        _refuse_one_label(groups)
        groups = with_mismatched(groups, seed=seed)
    return Prepared(groups, tally)


def _is_soft(record: Record) -> bool:
    return isinstance(record, PreferenceGroup) and record.probability is not None


def _refuse_one_label(groups: Sequence[TokenGroup]) -> None:
    """Refuse labels that are all equal, from which KTO learns no comparison."""
    labels = {group.scores[0] > 0 for group in groups}
    if len(labels) == 1:
        found = "desirable" if labels.pop() else "undesirable"
        raise BadInput(
            f"train: expected desirable and undesirable responses, found {len(groups)} that are "
            f"all {found}; sft imitates desirable ones alone"
        )


def reward_bins(objective: RewardConditioned, records: Sequence[Record]) -> RewardBins:
    """Fit bins to the scores of preference groups."""
    scores = [s for r in records if isinstance(r, PreferenceGroup) for s in r.scores]
    return fit_bins(scores, objective.bins)


def _texts(objective: Objective, records: Sequence[Record]) -> list[Texts]:
    """Return records as untokenised groups; refuse other types than the objective's."""
    kind = record_kind(objective)
    # A demonstration is a group of one response, which the loop refuses where it is too few.
    fitting = (kind, Demonstration) if kind is PreferenceGroup else (kind,)
    for record in records:
        if not isinstance(record, fitting):
            raise BadInput(
                f"train: {type(objective).__name__} learns from {KINDS[kind]}, found "
                f"{KINDS[type(record)]}"
            )
    if kind is UnpairedPreference:
        return labelled_texts([r for r in records if isinstance(r, UnpairedPreference)])
    if kind is CritiquedResponse:
        return commented_texts([r for r in records if isinstance(r, CritiquedResponse)])
    if isinstance(objective, RewardConditioned):
        groups = [r for r in records if isinstance(r, PreferenceGroup)]
        return conditioned_texts(groups, reward_bins(objective, groups))
    return [texts_of(r) for r in records if isinstance(r, Demonstration | PreferenceGroup)]


def _as_labelled(record: Record) -> Sequence[Record]:
    """Return a group's best and worst response as labelled; none where all scores are equal."""
    if not isinstance(record, PreferenceGroup):
        return [record]
    ends = record.best_and_worst()
    if ends is None:
        return []
    best, worst = ends.responses
    return [
        UnpairedPreference(record.prompt, best, True),
        UnpairedPreference(record.prompt, worst, False),
    ]
