"""Train one model with one objective on existing data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, NamedTuple

from alignlab import seeds
from alignlab.commands._support.train_setup import (
    Surroundings,
    choose,
    drops_bad,
    laboratory,
    loop_of,
    made_objective,
    objective_class,
    parent_of,
    refuse_idle,
)
from alignlab.commands._support.trained import NAME, Trained, left_by
from alignlab.commands.rollout import rollout
from alignlab.data.sources import load as load_data
from alignlab.errors import BadInput
from alignlab.measuring.held_out import held_out
from alignlab.objectives.base import Objective
from alignlab.objectives.rollout_batch import PolicyGradient, is_policy_gradient
from alignlab.stages.train import LengthSettings, TrainSpec
from alignlab.stages.train import train as train_stage
from alignlab.training.config import TrainConfig
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
class TrainSettings(Surroundings, TrainConfig):
    """Settings of a training, in addition to those of the loop."""

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
) -> Trained:
    """Train a model, or resume the training where it stopped.

    Args:
        objective: a name from `alignlab list objectives`, or an instance.
        overrides: "key=value" strings, as on the command line.
        model: the model to start from: hub id, local folder, or sandbox:NAME.
        data: FORMAT:PATH or PATH; held-out groups come with it (`?test_share=0.1`).
        out: run directory.
        reward: feedback source that scores the model's own responses, for an objective that learns
            from these (ppo, rloo, ...); then `data` gives the prompts.
        config: a YAML file of settings, under the overrides.
        settings: settings by keyword; nested mappings for nested settings.

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
    made: Objective = made_objective(objective, chosen.objective)
    _refuse_idle(chosen, given)
    corpus = load_data(data)
    records, taken = _records(made, corpus, chosen.pairs, seed=chosen.seed)
    identity = {"model": model, "data": data, "learns": repr(made)}
    with laboratory(chosen, chosen.seed, out, identity) as lab:
        run = lab.run
        run.add_inputs(corpus.files)
        with run.stage("data", inputs={"data": data}) as stage:
            stage.count([*corpus.counts, taken])
        parent = parent_of(lab, model, chosen.adapter)
        lesson = TrainSpec(
            made, loop_of(TrainConfig, chosen), chosen.lengths, drops_bad(data), chosen.save_dtype
        )
        trained = train_stage(lab, parent, records, lesson, name=NAME)
        rows: Sequence[EvalResult] = ()
        if corpus.test_groups:
            groups = corpus.groups, corpus.test_groups
            rows = held_out(lab, made, (parent, trained), groups, chosen.lengths)
        run.finish()
        return left_by(run, trained, rows)


def _refuse_idle(chosen: TrainSettings, given: Mapping[str, Any]) -> None:
    """Refuse settings that were set but have no effect."""
    refuse_idle(
        given,
        (
            ("min_lr_ratio", chosen.schedule == "constant", "with schedule=constant"),
            ("keep_checkpoints", not chosen.save_every, "with save_every=0"),
            ("validate_every", bool(chosen.validate_every),
             "here: held-out groups choose no model"),
        ),
    )  # fmt: skip
    if chosen.lengths.max_response_tokens > chosen.token_budget:
        raise BadInput(
            f"setting lengths.max_response_tokens: expected at most token_budget "
            f"({chosen.token_budget}), found {chosen.lengths.max_response_tokens}: a response "
            "would be longer than the budget of a pass"
        )


class _Taken(NamedTuple):
    """Records for the objective, and the count of those left out."""

    records: list[Record]
    tally: Count


def _records(objective: Objective, corpus: Corpus, pairs: str, *, seed: int = 0) -> _Taken:
    """Convert the data to the records of the objective.

    For objectives that learn from an order, groups of equal scores are left out; equal scores
    within a group are ordered at random by the seed, for objectives that take a whole list.

    Raises:
        BadInput: no record is left, or groups are too large and `pairs` is not set.
    """
    kind = record_kind(objective)
    held: dict[type, Sequence[Record]] = {
        Demonstration: corpus.demonstrations,
        PreferenceGroup: corpus.groups,
        UnpairedPreference: corpus.labelled,
        CritiquedResponse: corpus.commented,
    }
    found = list(held[kind] or (corpus.groups if kind is UnpairedPreference else ()))
    if not found:
        has = ", ".join(f"{len(v)} {KINDS[k]}" for k, v in held.items() if v)
        has = has or (f"{len(corpus.prompts)} prompts alone" if corpus.prompts else "no records")
        one = kind is PreferenceGroup and bool(corpus.demonstrations)
        why = " (a group needs 2 responses or more to a prompt; these have 1)" if one else ""
        raise BadInput(
            f"{corpus.name}: {type(objective).__name__} learns from {KINDS[kind]}; the data has "
            f"{has}{why}"
        )
    pairwise = kind is PreferenceGroup and objective.max_responses == 2
    groups = [r for r in found if isinstance(r, PreferenceGroup)] if pairwise else []
    large = next((g for g in groups if len(g.responses) > 2), None)
    if large is None:
        if pairs:
            raise BadInput(
                f"setting pairs: has no effect: {type(objective).__name__} takes the groups of "
                "this data as they are"
            )
        ranked = kind is PreferenceGroup and objective.min_responses > 1
        ordered = [_untied(r, seed) if ranked else r for r in found if not (ranked and _is_tied(r))]
        tied = len(found) - len(ordered)
        dropped = {"all scores equal": tied} if tied else {}
        return _Taken(ordered, Count("data", KINDS[kind], len(ordered), dropped))
    if not pairs:
        raise BadInput(
            f"group {large.id}: {type(objective).__name__} expects 2 responses, found "
            f"{len(large.responses)}; choose with pairs=best_worst or pairs=all"
        )
    made = [_pairs(group, pairs) for group in groups]
    equal = sum(not some for some in made)
    changed = {"group to pairs": len(groups) - equal}
    taken: list[Record] = [pair for some in made for pair in some]
    dropped = {"all scores equal": equal} if equal else {}
    return _Taken(taken, Count("data", "pairs", len(taken), dropped, changed))


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
    if which == "best_worst":
        ends = group.best_and_worst()
        return [] if ends is None else [ends]
    numbered = zip(group.responses, group.scores, strict=True)
    return [
        PreferenceGroup(group.prompt, (better, worse), (high, low), group.source)
        for (better, high), (worse, low) in combinations(numbered, 2)
        if high > low
    ]
