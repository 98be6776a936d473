"""Measure scaling: do scores rise with more feedback?

One thing grows: rounds of feedback, the prompts of each round, or the base model; all else is
fixed. Scores are fitted by a line in the logarithm of the size, with intervals over prompts and
seeds. Along prompts the smaller trainings use the first part of the larger ones' prompts and
answers. M1, trained without feedback, is the first point of the curve along iterations and not part
of the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Literal

from alignlab.context import RunContext, resolve_model
from alignlab.errors import BadInput
from alignlab.measuring.measure import BranchResult, Judgement, StudyMeasurements, SweepAxis
from alignlab.models.facts import model_facts
from alignlab.parallel import Branch
from alignlab.recipes.branches import run_all
from alignlab.recipes.judging import SELF
from alignlab.recipes.self_rewarding import AnswersOf, answers_to_own_prompts, improve
from alignlab.recipes.study import (
    Answered,
    Recipe,
    Study,
    StudyConfig,
    answers_of,
    finish,
    first_answers,
    prompts_of_rounds,
    warm_start,
)
from alignlab.recipes.teacher import TeacherConfig, reward, teacher_rounds
from alignlab.registry import register
from alignlab.runs import slug
from alignlab.types import Checkpoint, Prompt

SHARES = (0.25, 0.5, 1.0)


@dataclass(frozen=True)
class ScalingConfig(TeacherConfig):
    """Settings of the sweep."""

    along: Literal["iterations", "prompts", "parameters"] = "iterations"
    """Size that grows: rounds of feedback, prompts of a round, or the base model."""
    iterations: int = 2
    """Rounds of feedback and preference training; 2 ends with M3."""
    teacher: str = SELF
    """Judge of the student's answers: self, a teacher (openai:MODEL@URL, sandbox:strong), or a
    feedback source (verifier, reward_model:FOLDER, ...)."""
    shares: tuple[float, ...] = ()
    """Shares of the prompts trained on (along=prompts); empty is a quarter, half and all."""
    equal: Literal["epochs", "steps"] = "epochs"
    """Equal amount of training on each share of the prompts (along=prompts): "epochs", so that
    fewer prompts are fewer steps, or "steps": the smaller a share, the more epochs."""
    models: tuple[str, ...] = ()
    """Base models after `model` (along=parameters)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shares and self.along != "prompts":
            raise BadInput(f"setting shares: has no effect with along={self.along}; leave it out")
        if self.equal != "epochs" and self.along != "prompts":
            raise BadInput(f"setting equal: has no effect with along={self.along}; leave it out")
        if self.models and self.along != "parameters":
            raise BadInput(f"setting models: has no effect with along={self.along}; leave it out")
        if self.along == "parameters" and not self.models:
            raise BadInput("setting models: expected one or more further models, found none")
        parts = self.parts
        if (
            len(parts) < 2
            or sorted(set(parts)) != list(parts)
            or not 0 < parts[0] <= parts[-1] <= 1
        ):
            raise BadInput(
                f"setting shares: expected two or more rising parts above 0 up to 1, found {parts}"
            )

    @property
    def parts(self) -> tuple[float, ...]:
        """Return the shares of the prompts in rising order."""
        return self.shares or SHARES

    @property
    def bases(self) -> tuple[str, ...]:
        """Return the base models in the order given."""
        return (self.model, *self.models)


@dataclass(frozen=True)
class Sweep:
    """Results of the trainings of a sweep, and the sizes of their models."""

    result: BranchResult
    at: Mapping[str, float]
    """Model -> its size."""
    series: Mapping[str, str]
    """Model -> its curve."""


def study(context: RunContext, config: ScalingConfig) -> StudyMeasurements:
    """Train M1, then the models of every size, and measure them."""
    begun = warm_start(context, config)
    base = first_answers(begun)
    sweeps = {"iterations": along_iterations, "prompts": along_prompts}
    swept = sweeps.get(config.along, along_parameters)(begun)
    measured = finish(begun, _once(base + swept.result))
    return replace(measured, scale=SweepAxis(config.along, swept.at, swept.series))


def along_iterations(study: Study[ScalingConfig]) -> Sweep:
    """Run one chain of rounds; M1 has size 1, M2 has size 2."""
    at = {f"M{t}": float(t) for t in range(1, study.config.iterations + 2)}
    result = _rounds(study, answers_to_own_prompts(), "")
    return Sweep(result, at, dict.fromkeys(at, "score"))


def along_prompts(study: Study[ScalingConfig]) -> Sweep:
    """Run the rounds on shares of the prompts, each from M1.

    Raises:
        BadInput: two shares give an equal number of prompts.
    """
    config, rounds = study.config, range(1, study.config.iterations + 1)
    prompts = tuple(prompts_of_rounds(study))
    size = len(prompts[0])
    sizes = [max(1, round(part * size)) for part in config.parts]
    if len(set(sizes)) < len(sizes):
        raise BadInput(
            f"setting shares: expected different numbers of the {size} prompts, found {sizes}"
        )
    answered = answers_of(study, study.start.m1, prompts[0])
    parts = {
        f" on {100 * share:g}% of prompts": _Part(prompts, answered, n, share)
        for share, n in zip(config.parts, sizes, strict=True)
    }
    branches = [
        Branch(label, _on_part, (study.scope(slug(label)), part, label))
        for label, part in parts.items()
    ]
    branches.reverse()  # the longest first, so that workers end together
    results = reversed(run_all(study, branches, needed=True))
    models = [(f"M{t + 1}{label}", part, t) for label, part in parts.items() for t in rounds]
    at = {name: float(part.size) for name, part, _ in models}
    series = {
        name: "score" if config.iterations == 1 else f"after round {t}" for name, _, t in models
    }
    return Sweep(reduce(BranchResult.__add__, results), at, series)


def along_parameters(study: Study[ScalingConfig]) -> Sweep:
    """Run the study for every base model: one curve before feedback, one after it."""
    config = study.config
    sizes, labels = _sizes(config), _model_labels(config)
    own = _rounds(study, answers_to_own_prompts(), "")
    branches = [
        Branch(label, _of_model, (study.scope(slug(label)).using(model=spec), label))
        for spec, label in zip(config.models, labels[1:], strict=True)
    ]
    results = run_all(study, branches, needed=True)
    last, at, series = config.iterations + 1, {}, {}
    for label, size in zip(labels, sizes, strict=True):
        for t, curve in ((1, "before feedback"), (last, "after feedback")):
            at[f"M{t}{label}"], series[f"M{t}{label}"] = float(size), curve
    return Sweep(reduce(BranchResult.__add__, results, own), at, series)


@dataclass(frozen=True)
class _Part:
    """Share of the prompts, for one training."""

    prompts: tuple[tuple[Prompt, ...], ...]
    """Prompts of each round."""
    answered: Answered
    """M1's answers to all of the first round's prompts."""
    size: int
    share: float

    def answers(self, study: Study[StudyConfig], model: Checkpoint, iteration: int) -> Answered:
        """Return a model's answers to its share of a round's prompts."""
        chosen = self.prompts[iteration - 1][: self.size]
        if iteration > 1:
            return answers_of(study, model, chosen)
        known = {p.id for p in chosen}
        responses = tuple(r for r in self.answered.responses if r.prompt_id in known)
        return Answered(model, chosen, responses)


def _on_part(study: Study[ScalingConfig], part: _Part, label: str) -> BranchResult:
    return _rounds(_as_long(study, part.share), part.answers, label)


def _as_long(study: Study[ScalingConfig], share: float) -> Study[ScalingConfig]:
    """Return the study whose trainings on a share take as many steps as those on all prompts."""
    config = study.config
    if config.equal == "epochs" or share == 1:
        return study
    sft, preference = (
        replace(settings, epochs=max(1, round(settings.epochs / share)))
        for settings in (config.sft, config.preference)
    )
    return replace(study, config=replace(config, sft=sft, preference=preference))


def _of_model(study: Study[ScalingConfig], label: str) -> BranchResult:
    """Run the study with another base model, whose name marks its models."""
    begun = warm_start(study.context, study.config)
    m0, m1 = (replace(m, name=m.name + label) for m in (begun.start.m0, begun.start.m1))
    begun = replace(begun, start=replace(begun.start, m0=m0, m1=m1))
    return first_answers(begun) + _rounds(begun, answers_to_own_prompts(), label)


def _rounds(study: Study[ScalingConfig], answers: AnswersOf, label: str) -> BranchResult:
    """Run rounds of feedback from M1, by the model itself or by a teacher."""
    if study.config.teacher == SELF:
        return improve(study, answers, study.config.judge, label)
    return teacher_rounds(study, answers, reward, label)


def _once(result: BranchResult) -> BranchResult:
    """Merge a judge's judgements, since M1's on all prompts include those on a share."""
    kept: dict[tuple[str, str], Judgement] = {}
    for judged in result.judgements:
        known = kept.setdefault((judged.judge, judged.where), judged)
        if len(judged.feedback) > len(known.feedback):
            kept[judged.judge, judged.where] = judged
    return replace(result, judgements=tuple(kept.values()))


def _sizes(config: ScalingConfig) -> list[int]:
    """Return the base models' numbers of parameters, in the order given.

    Raises:
        BadInput: two base models have an equal number.
    """
    template = config.chat_template or None
    sizes = [
        model_facts(resolve_model(spec).path, chat_template=template).parameters
        for spec in config.bases
    ]
    if len(set(sizes)) < len(sizes):
        raise BadInput(
            f"setting models: expected base models of different sizes, found {sizes} parameters"
        )
    return sizes


def _model_labels(config: ScalingConfig) -> list[str]:
    """Return the suffix of each base model's model names; the first one's is empty."""
    names = [spec.rstrip("/").rpartition("/")[2] for spec in config.models]
    alike = len(set(names)) < len(names)
    return [
        "",
        *(f" of {spec if alike else n}" for spec, n in zip(config.models, names, strict=True)),
    ]


register("recipe", "scaling")(
    Recipe(
        name="scaling",
        config=ScalingConfig,
        question="How does feedback pay as there is more of it: rounds, prompts, or parameters?",
        study=study,
    )
)
