"""Pair a critic's own critiques of an answer, by the meta judge, by revisions, by the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from alignlab.feedback.critique_units import Unit
from alignlab.feedback.teachers import Criticised
from alignlab.measuring.critique_truth import f1
from alignlab.recipes.critique_branches import (
    CritiquePairs,
    MultiCritiqueConfig,
    answered_once,
    critic_by,
    critique_prompt,
    meta_critic,
    model_of,
    reviser,
)
from alignlab.recipes.study import Answered, Study
from alignlab.stages.critiques import Named, classify, criticise, severity, units_of
from alignlab.stages.pair import pair
from alignlab.stages.revisions import validated_pairs
from alignlab.stages.sample import sample
from alignlab.types import (
    Checkpoint,
    Feedback,
    PreferenceGroup,
    Prompt,
    Response,
    Score,
    Unscored,
)

UNVALUED = Unscored("no readable critique, or none that was judged")


@dataclass(frozen=True)
class OwnCritiques:
    """Critiques by one critic, several of each answer."""

    answered: Answered
    """M1's answers."""
    requests: tuple[Prompt, ...]
    """Prompts that ask for the critiques."""
    written: tuple[Response, ...]
    """The critiques."""
    criticised: Mapping[str, Criticised]
    """Critique id -> the answer and the text of the critique."""
    units: Named
    """Critique id -> the faults that it names."""


def critique_pairs(
    study: Study[MultiCritiqueConfig], model: Checkpoint, prompts: Sequence[Prompt]
) -> CritiquePairs:
    """Let a critic criticise M1's answers several times, and pair its critiques of each."""
    context, config = study.context, study.config
    own = _own_critiques(study, model, prompts)
    judged = _paired(study, own, _severities(study, own), "judged")
    settings = config.critiques
    validated = validated_pairs(
        context,
        [reviser(study, spec, settings.temperature) for spec in config.revisers],
        context.judge(config.validator, study.start.m1),
        judged,
        own.criticised,
        revisions=settings.revisions,
    )
    true: list[PreferenceGroup] = []
    if config.truth_critic:
        true = _paired(study, own, _truths(study, own), "true")
    return CritiquePairs(tuple(judged), tuple(validated), tuple(true))


def _own_critiques(
    study: Study[MultiCritiqueConfig], model: Checkpoint, prompts: Sequence[Prompt]
) -> OwnCritiques:
    """Sample M1's answers, and several critiques of each by the critic."""
    context, config = study.context, study.config
    answered = answered_once(study, prompts)
    engine = context.engine(model)
    critic, asked = critic_by(study, engine), {p.id: p for p in prompts}
    requests = [critique_prompt(critic, asked[r.prompt_id], r) for r in answered.responses]
    of = {p.id: r for p, r in zip(requests, answered.responses, strict=True)}
    drawn = replace(config.sample, max_tokens=config.critiques.critique_tokens)
    written = sample(context, engine, requests, drawn, name="critiques")
    units = units_of(context, {c.id: c.text for c in written}, name="own")
    criticised = {
        c.id: Criticised(asked[of[c.prompt_id].prompt_id], of[c.prompt_id], c.text) for c in written
    }
    return OwnCritiques(answered, tuple(requests), tuple(written), criticised, units)


def _severities(study: Study[MultiCritiqueConfig], own: OwnCritiques) -> dict[str, float]:
    """Return each readable critique's score by the meta judge's classes."""
    named: dict[str, list[Unit]] = {}
    for key, units in own.units.items():
        named.setdefault(own.criticised[key].response.id, []).extend(units)
    given = own.answered
    judged = classify(study.context, meta_critic(study), given.prompts, given.responses, named)
    return {
        key: severity(units, judged[response])
        for key, units in own.units.items()
        if (response := own.criticised[key].response.id) in judged
    }


def _truths(study: Study[MultiCritiqueConfig], own: OwnCritiques) -> dict[str, float]:
    """Return each readable critique's F1 by the true faults."""
    teacher = critic_by(study, model_of(study, study.config.truth_critic))
    given = own.answered
    true = criticise(study.context, teacher, given.prompts, given.responses, name="truth")
    return {
        key: f1(units, true[response])
        for key, units in own.units.items()
        if (response := own.criticised[key].response.id) in true
    }


def _paired(
    study: Study[MultiCritiqueConfig], own: OwnCritiques, values: Mapping[str, float], name: str
) -> list[PreferenceGroup]:
    """Pair the best and the worst critique of each answer by some values."""
    if study.context.recorder:  # stand-ins have equal values, which form no pair
        values = {c.id: -float(n) for n, c in enumerate(own.written)}
    feedback = [
        Feedback(
            c.prompt_id,
            (c.id,),
            name,
            Score(value, (value,)) if (value := values.get(c.id)) is not None else UNVALUED,
        )
        for c in own.written
    ]
    settings = study.config.pairs
    return pair(study.context, own.requests, own.written, feedback, settings, name=f"pair-{name}")
