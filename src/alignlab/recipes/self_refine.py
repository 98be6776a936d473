"""Train a model by self-refinement (SRT, arXiv 2406.07168).

M1 answers prompts, a teacher criticises and rewrites the answers, and M1 is trained on that trace:
R1. R1 then answers new prompts, criticises and rewrites its own answers; the refined answer
preferred over the first, by DPO, makes R2, and so on. `refine.style=one` is the paper's single
reply of weaknesses, score, suggestions and the improved response. Departures: by default critique
and refinement are two turns, and the instruction data is imitated along with the trace
(`refine.ift`); `refine.keep=better` drops pairs whose refinement scores no higher. Controls of the
first round: the same pairs by coin, SFT on the refinements, the teacher's refinements as pairs, and
pairs of R1's answers by the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from alignlab.configs import PositiveInt
from alignlab.context import RunContext
from alignlab.errors import BadInput, NothingToLearn, refuse_unknown
from alignlab.measuring.measure import BranchResult, StudyMeasurements
from alignlab.measuring.refinement import gain
from alignlab.recipes.branches import or_left_out
from alignlab.recipes.controls import EQUAL_COMPUTE, NEGATIVE, POSITIVE
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
from alignlab.stages.coin import by_coin
from alignlab.stages.judge import judge
from alignlab.stages.judges import model_judge
from alignlab.stages.pair import best_as_demonstrations, demonstration_pairs, pair
from alignlab.stages.self_refine import (
    Refined,
    RefineSettings,
    better_refinements,
    refine_by,
)
from alignlab.types import Checkpoint, PreferenceGroup, Prompt, Response

CONTROLS = {
    "coin": "R2 by coin",
    "imitate": "R2 SFT on its refinements",
    "teacher": "R2 on the teacher's refinements",
    "truth": "R2 on true pairs",
}
"""Control of the first round -> its model."""
CONTROL_SAMPLES = 4
"""Answers to a prompt of which the truly best and worst form a pair of the positive control."""


@dataclass(frozen=True)
class SelfRefineConfig(TeacherConfig):
    """Settings of self-refinement training."""

    traces: PositiveInt = 500
    """Number of prompts whose answers the teacher criticises and refines, separate from the rounds'
    prompts."""
    refine: RefineSettings = field(default_factory=RefineSettings)
    controls: tuple[str, ...] = tuple(CONTROLS)
    """Models trained from R1 as controls of R2: coin (the same pairs, either response preferred by
    chance), imitate (SFT on the refinements, as many trained responses), teacher (the teacher's
    refinements over R1's answers), truth (the truly best of R1's answers over the worst, where
    measure.truth is known: the positive control); [] trains none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_unknown("control", self.controls, CONTROLS)
        if self.pairs.keep == "all" or self.pairs.min_gap or self.pairs.rho is not None:
            raise BadInput(
                "settings pairs.keep=all, pairs.min_gap and pairs.rho: have no effect in "
                "self_refine: the refined answer is preferred to the first"
            )

    @property
    def chosen_controls(self) -> tuple[str, ...]:
        """Return the controls to train; without a source of the truth all but its own."""
        return tuple(c for c in self.controls if self.measure.truth or c != "truth")


def study(context: RunContext, config: SelfRefineConfig) -> StudyMeasurements:
    """Train M1, R1 on the teacher's critiques and refinements, then R2, ... on its own."""
    begun = warm_start(context, replace(config, sample=replace(config.sample, n=1)))
    start = begun.start
    shown, *rounds = _prompts(begun)
    result, step = first_answers(begun), begun.scope("trace")
    given = answers_of(step, start.m1, shown)
    taught, better = _refined(step, given, config.teacher)
    human = start.corpus.demonstrations
    lessons = [*human[: round(config.refine.ift * len(human))], *taught.lessons]
    made = f"M1 after SFT on human answers and on critiques and refinements of {config.teacher}"
    student = sft(step, start.m1, lessons, "R1", made)
    result += better + answer_held_out(step, student)
    for iteration, prompts in enumerate(rounds, start=1):
        step = begun.scope(f"iteration-{iteration}")
        given = answers_of(step, student, prompts)
        own, better = _refined(step, given, SELF)
        pairs = _pairs(step, given, own)
        for control in config.chosen_controls if iteration == 1 else ():
            scope = step.scope(control)
            result += or_left_out(CONTROLS[control], _control, scope, given, pairs, control)
        result += better
        trained = or_left_out(f"R{iteration + 1}", _round, step, student, pairs, iteration)
        result += trained
        if trained.left_out:
            break
        student = trained.checkpoints[-1]
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


def _pairs(
    study: Study[SelfRefineConfig], given: Answered, refined: Refined
) -> list[PreferenceGroup]:
    """Prefer refinements to first answers, those that pass the gate."""
    better = _gated(study, given, refined.responses)
    return demonstration_pairs(
        study.context, given.prompts, better, given.responses, source="refinement"
    )


def _round(
    study: Study[SelfRefineConfig],
    student: Checkpoint,
    pairs: list[PreferenceGroup],
    iteration: int,
) -> BranchResult:
    """Train on a round's pairs, and sample the model's held-out answers."""
    how = f"{study.config.preference_method}, its own refinements over its first answers"
    name, made = f"R{iteration + 1}", f"{student.name} after {how}"
    return answer_held_out(study, preference_train(study, student, pairs, name, made))


def _control(
    study: Study[SelfRefineConfig], given: Answered, pairs: list[PreferenceGroup], name: str
) -> BranchResult:
    """Train a control of the first round from R1, and sample its held-out answers."""
    config, student, result = study.config, given.student, BranchResult()
    title, made = CONTROLS[name], f"R1 after {config.preference_method} on "
    if name == "imitate":
        if not pairs:
            raise NothingToLearn(
                f"{title}: no refinement passes the gate (refine.keep, refine.gate)"
            )
        shown = best_as_demonstrations(pairs)
        # A pair trains two responses.
        loop = replace(config.sft, epochs=2 * config.preference.epochs)
        made = f"R1 after SFT on {len(shown)} of its refinements, {loop.epochs} epochs"
        return answer_held_out(study, sft(study.using(sft=loop), student, shown, title, made))
    if name == "coin":
        seed = study.context.seed_for("coin")
        pairs = [by_coin(both, seed) for both in pairs]
        made += "the same pairs, preferred by coin"
    elif name == "truth":
        pairs = _true_pairs(study, given)
        made += f"the truly best of {CONTROL_SAMPLES} of its answers over the worst"
    else:
        taught, result = _refined(study, given, config.teacher)
        pairs = _pairs(study, given, taught)
        made += f"refinements of {config.teacher} over its first answers"
    model = preference_train(study, student, pairs, title, made)
    return result + answer_held_out(study, model)


def _true_pairs(study: Study[SelfRefineConfig], given: Answered) -> list[PreferenceGroup]:
    """Prefer the truly best of several answers of the student to the worst."""
    context, drawn = study.context, replace(study.config.sample, n=CONTROL_SAMPLES)
    several = answers_of(study.using(sample=drawn), given.student, given.prompts)
    truth = context.judge(study.config.measure.truth, study.start.m1)
    feedback = judge(context, truth, several.prompts, several.responses)
    return pair(context, several.prompts, several.responses, feedback, study.config.pairs)


def _gated(
    study: Study[SelfRefineConfig], given: Answered, refined: Sequence[Response]
) -> Sequence[Response]:
    """Return the refinements whose pairs are trained on."""
    context, config = study.context, study.config
    if config.refine.keep == "all":
        return refined
    own = config.refine.gate == SELF
    engine = context.engine(given.student)
    source = (
        model_judge(engine, config.judge)
        if own
        else context.judge(config.refine.gate, given.student)
    )
    return better_refinements(context, source, given.prompts, given.responses, refined)


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
        controls={
            "R2 by coin": NEGATIVE,
            "SFT on its refinements": EQUAL_COMPUTE,
            "on true pairs": POSITIVE,
        },
    )
)
