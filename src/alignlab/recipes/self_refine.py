"""Train a model by self-refinement (SRT, arXiv 2406.07168).

M1 answers prompts, a teacher criticises and rewrites the answers, and M1 is trained on that trace:
R1. R1 then answers new prompts, criticises and rewrites its own answers; the refined answer
preferred over the first, by DPO, makes R2, and so on. Departures: critique and refinement are two
turns of their own, not one, and without the paper's template of weaknesses, score and suggestions;
the instruction data is imitated along with the trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from alignlab.configs import PositiveInt
from alignlab.context import RunContext
from alignlab.errors import BadInput
from alignlab.feedback.prompts import judge_prompt
from alignlab.measuring.measure import BranchResult, StudyMeasurements
from alignlab.measuring.refinement import gain
from alignlab.recipes.judging import SELF
from alignlab.recipes.study import (
    Answered,
    Recipe,
    Study,
    answer_held_out,
    answers_of,
    finish,
    first_answers,
    own_prompts,
    preference_train,
    sft,
    warm_start,
)
from alignlab.recipes.teacher import TeacherConfig
from alignlab.registry import register
from alignlab.stages.pair import demonstration_pairs
from alignlab.stages.self_refine import Refined, RefineSettings, refine_by
from alignlab.types import Prompt


@dataclass(frozen=True)
class SelfRefineConfig(TeacherConfig):
    """Settings of self-refinement training."""

    traces: PositiveInt = 500
    """Number of prompts whose answers the teacher criticises and refines, separate from the rounds'
    prompts."""
    refine: RefineSettings = field(default_factory=RefineSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pairs.keep == "all" or self.pairs.min_gap or self.pairs.rho is not None:
            raise BadInput(
                "settings pairs.keep=all, pairs.min_gap and pairs.rho: have no effect in "
                "self_refine: the refined answer is preferred to the first"
            )
        for name in (self.refine.critique_prompt, self.refine.refine_prompt):
            judge_prompt(name)


def study(context: RunContext, config: SelfRefineConfig) -> StudyMeasurements:
    """Train M1, R1 on the teacher's critiques and refinements, then R2, ... on its own."""
    begun = warm_start(context, replace(config, sample=replace(config.sample, n=1)))
    start = begun.start
    shown, *rounds = _prompts(begun)
    result, step = first_answers(begun), begun.scope("trace")
    given = answers_of(step, start.m1, shown)
    taught, better = _refined(step, given, config.teacher)
    lessons = [*start.corpus.demonstrations, *taught.lessons]
    made = f"M1 after SFT on human answers and on critiques and refinements of {config.teacher}"
    student = sft(step, start.m1, lessons, "R1", made)
    result += better + answer_held_out(step, student)
    for iteration, prompts in enumerate(rounds, start=1):
        step = begun.scope(f"iteration-{iteration}")
        given = answers_of(step, student, prompts)
        own, better = _refined(step, given, SELF)
        pairs = demonstration_pairs(
            step.context, given.prompts, own.responses, given.responses, source="refinement"
        )
        how = f"{config.preference_method}, its own refinements over its first answers"
        name, made = f"R{iteration + 1}", f"{student.name} after {how}"
        student = preference_train(step, student, pairs, name, made)
        result += better + answer_held_out(step, student)
    return finish(begun, result)


def _prompts(study: Study[SelfRefineConfig]) -> list[Sequence[Prompt]]:
    """Return the prompts for the teacher's refinements, then those of each round.

    Raises:
        BadInput: there are too few for every round to have one.
    """
    config = study.config
    n, rounds, traces = config.propose.n, config.iterations, config.traces
    found = own_prompts(study, study.start.m1, n=n and traces + n * rounds)
    size = (len(found) - traces) // rounds
    if size < 1:
        raise BadInput(
            f"setting traces: expected fewer than the {len(found)} prompts there are, so that "
            f"each of {rounds} rounds has some, found {traces}"
        )
    left = found[traces:]
    return [found[:traces], *(left[i * size : (i + 1) * size] for i in range(rounds))]


def _refined(
    study: Study[SelfRefineConfig], given: Answered, by: str
) -> tuple[Refined, BranchResult]:
    """Refine answers with a teacher or the student itself, and measure the gain."""
    context, config, student = study.context, study.config, given.student
    completer = context.engine(student) if by == SELF else context.completer(by)
    made = refine_by(context, completer, given.prompts, given.responses, config.refine)
    source = context.judge(config.measure.truth or config.measuring_judge, study.start.m1)
    name = student.name if by == SELF else f"{by} on {student.name}"
    found = gain(context, source, given.prompts, given.responses, made.responses, model=name)
    return made, BranchResult(values=(found,))


register("recipe", "self_refine")(
    Recipe(
        name="self_refine",
        config=SelfRefineConfig,
        question="Does a model get better by preferring its own refined answers to its first ones?",
        study=study,
    )
)
