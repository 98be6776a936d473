"""Train one model with one objective on existing data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, NamedTuple

from alignlab import seeds
from alignlab.commands._support.job import part_of
from alignlab.commands._support.prompts_and_responses import left_out
from alignlab.commands._support.train_setup import (
    DataUsed,
    TrainSetup,
    build_objective,
    check_token_budget,
    choose,
    objective_class,
    open_training,
    refuse_idle,
)
from alignlab.commands._support.trained import NAME, TrainOutput, collect_result
from alignlab.commands.rollout import rollout
from alignlab.data.sources import load as load_data
from alignlab.errors import BadInput
from alignlab.measuring.held_out import held_out
from alignlab.objectives.base import Objective
from alignlab.objectives.rollout_batch import PolicyGradient, is_policy_gradient
from alignlab.specs import drops_bad
from alignlab.stages.train import TrainSpec
from alignlab.stages.train import train as train_stage
from alignlab.training.config import LengthSettings, TrainConfig
from alignlab.training.ranks import main_process_only
from alignlab.training.record_kinds import KINDS, Record, record_kind
from alignlab.types import (
    Corpus,
    Count,
    CritiquedResponse,
    Demonstration,
    EvalResult,
    PreferenceGroup,
    UnpairedPreference,
)


@dataclass(frozen=True)
class TrainSettings(TrainSetup, TrainConfig):
    """Settings of a training: setup, training loop and records."""

    objective: dict[str, Any] = field(default_factory=dict)
    """Options of the objective, e.g. objective.beta=0.3."""
    lengths: LengthSettings = field(default_factory=LengthSettings)
    pairs: Literal["", "best_worst", "all"] = ""
    """Pairs that a pairwise objective forms from larger groups; empty refuses larger groups."""


@main_process_only
def train(
    objective: str | Objective | PolicyGradient,
    *overrides: str,
    model: str,
    data: str,
    out: str | Path,
    reward: str = "",
    config: str | Path | None = None,
    **settings: Any,
) -> TrainOutput:
    """Implement `alignlab.train` for a model and data given by spec.

    Raises:
        BadInput: unknown objective or setting, settings without effect, or data that does not fit.
        RunFailed: the loss is not finite.
    """
    cls = objective_class(objective)
    if is_policy_gradient(cls):
        return rollout(
            objective, *overrides, model=model, data=data, reward=reward, out=out, config=config,
            **settings,
        )  # fmt: skip
    if reward:
        raise BadInput(f"train: reward: has no effect: {cls.__name__} learns from given responses")
    chosen, given = choose(TrainSettings, config, overrides, settings)
    learned: Objective = build_objective(objective, chosen.objective)
    refuse_idle_settings(chosen, given)
    corpus = load_data(data)
    records, tally = records_for(learned, corpus, chosen.pairs, seed=chosen.seed)
    identity = {"model": model, "data": data, "learns": repr(learned)}
    used = DataUsed(corpus, tally)
    with open_training(chosen, chosen.seed, out, identity, used) as (context, parent):
        loop = part_of(TrainConfig, chosen)
        spec = TrainSpec(learned, loop, chosen.lengths, drops_bad(data), chosen.save_dtype)
        trained = train_stage(context, parent, records, spec, name=NAME)
        rows: Sequence[EvalResult] = ()
        if corpus.test_groups:
            groups = corpus.groups, corpus.test_groups
            rows = held_out(context, learned, (parent, trained), groups, chosen.lengths)
        context.run.finish()
        return collect_result(context.run, trained, rows)


def refuse_idle_settings(chosen: TrainSettings, given: Mapping[str, Any]) -> None:
    """Refuse settings that were set but have no effect."""
    validates = bool(chosen.validate_every)
    refuse_idle(
        chosen, given, ("validate_every", validates, "here: held-out groups choose no model")
    )
    longest = chosen.lengths.max_response_tokens
    check_token_budget("lengths.max_response_tokens", longest, chosen.token_budget)


class Taken(NamedTuple):
    """Records for the objective, and the count of those left out."""

    records: list[Record]
    tally: Count


def records_for(objective: Objective, corpus: Corpus, pairs: str, *, seed: int = 0) -> Taken:
    """Convert the data to the records of the objective.

    For objectives that learn from an order, groups of equal scores are left out; equal scores
    within a group are ordered at random by the seed, for objectives that take a whole list.

    Raises:
        BadInput: no record is left, or groups are too large and `pairs` is not set.
    """
    kind, name = record_kind(objective), type(objective).__name__
    found = _of_kind(kind, corpus, name)
    groups = [r for r in found if isinstance(r, PreferenceGroup)]
    pairwise = kind is PreferenceGroup and objective.max_responses == 2
    large = next((g for g in groups if pairwise and len(g.responses) > 2), None)
    if large is not None:
        if not pairs:
            raise BadInput(
                f"group {large.id}: {name} expects 2 responses, found {len(large.responses)}; "
                "choose with pairs=best_worst or pairs=all"
            )
        return _as_pairs(groups, pairs)
    if pairs:
        raise BadInput(
            f"setting pairs: has no effect: {name} takes the groups of this data as they are"
        )
    ranked = kind is PreferenceGroup and objective.min_responses > 1
    ordered = [_untied(r, seed) if ranked else r for r in found if not (ranked and _is_tied(r))]
    tied = len(found) - len(ordered)
    dropped = {"all scores equal": tied} if tied else {}
    return Taken(ordered, Count("data", KINDS[kind], len(ordered), dropped))


def _of_kind(kind: type, corpus: Corpus, objective: str) -> list[Record]:
    """Return the data's records of one kind.

    Raises:
        BadInput: there are none.
    """
    held: dict[type, Sequence[Record]] = {
        Demonstration: corpus.demonstrations,
        PreferenceGroup: corpus.groups,
        UnpairedPreference: corpus.labelled,
        CritiquedResponse: corpus.commented,
    }
    found = list(held[kind] or (corpus.groups if kind is UnpairedPreference else ()))
    if not found:
        has = ", ".join(f"{len(v)} {KINDS[k]}" for k, v in held.items() if v)
        none = f"no records{left_out(corpus)}"
        has = has or (f"{len(corpus.prompts)} prompts alone" if corpus.prompts else none)
        one = kind is PreferenceGroup and bool(corpus.demonstrations)
        why = " (a group needs 2 responses or more to a prompt; these have 1)" if one else ""
        raise BadInput(
            f"{corpus.name}: {objective} learns from {KINDS[kind]}; the data has {has}{why}"
        )
    return found


def _as_pairs(groups: Sequence[PreferenceGroup], which: str) -> Taken:
    """Convert groups to pairs, and count those without any."""
    of_groups = [_pairs(group, which) for group in groups]
    equal = sum(not some for some in of_groups)
    taken: list[Record] = [pair for some in of_groups for pair in some]
    dropped = {"all scores equal": equal} if equal else {}
    changed = {"group to pairs": len(groups) - equal}
    return Taken(taken, Count("data", "pairs", len(taken), dropped, changed))


def _is_tied(record: Record) -> bool:
    return isinstance(record, PreferenceGroup) and record.best_and_worst() is None


def _untied(record: Record, seed: int) -> Record:
    """Shuffle a group's equal scores, so that the order of the data is not learned."""
    if not isinstance(record, PreferenceGroup) or len(set(record.scores)) == len(record.scores):
        return record
    drawn = [seeds.derive(seed, "ties", response.id) for response in record.responses]
    places = sorted(range(len(drawn)), key=lambda i: (-record.scores[i], drawn[i]))
    return replace(
        record,
        responses=tuple(record.responses[i] for i in places),
        scores=tuple(record.scores[i] for i in places),
    )


def _pairs(group: PreferenceGroup, which: str) -> list[PreferenceGroup]:
    """Return a group's pairs of a better and a worse response."""
    if which == "best_worst" or len(group.responses) == 2:
        ends = group.best_and_worst()
        return [] if ends is None else [ends]
    numbered = zip(group.responses, group.scores, strict=True)
    return [
        PreferenceGroup(group.prompt, (better, worse), (high, low), group.source)
        for (better, high), (worse, low) in combinations(numbered, 2)
        if high > low
    ]
