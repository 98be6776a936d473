"""Teacher demonstration: the teacher's own answer is preferred over the student's (document B)."""

from __future__ import annotations

from dataclasses import replace

from alignlab.recipes.rounds import Round
from alignlab.recipes.study import (
    Answered,
    Recipe,
    Start,
    StudyConfig,
    imitate,
    prefer,
    trace,
)
from alignlab.recipes.taught import TaughtConfig, models_with_teacher, rounds_with_teacher
from alignlab.registry import register
from alignlab.stages.judge import by_prompt
from alignlab.stages.lab import Lab
from alignlab.stages.measure import BranchResult, Measured
from alignlab.stages.pair import demonstration_pairs
from alignlab.stages.sample import sample
from alignlab.types import Checkpoint, Demonstration, Prompt

LABEL = "teacher demonstration"


def study(lab: Lab, config: TaughtConfig) -> Measured:
    """M0 -> M1 -> rounds of the teacher's answers preferred over the student's."""

    def learn(step: Lab, start: Start, given: Answered, name: str) -> BranchResult:
        return prefer_teacher(step, config, start, given, config.teacher, name)

    return rounds_with_teacher(lab, config, LABEL, learn, answers=1)


def prefer_teacher(
    lab: Lab,
    config: StudyConfig,
    start: Start,
    given: Answered,
    teacher: str,
    name: str,
) -> BranchResult:
    """The teacher's answer is chosen, the student's (its first) rejected."""
    once = replace(config.sample, n=1)
    chosen = sample(lab, lab.completer(teacher), given.prompts, once, name="demonstrate")
    rejected = [responses[0] for _, responses in by_prompt(given.prompts, given.responses)]
    groups = demonstration_pairs(lab, given.prompts, chosen, rejected)
    learned = prefer(lab, config, start, given.student, groups, name)
    return trace(lab, config, start, learned)


def imitate_teacher(
    lab: Lab,
    config: StudyConfig,
    start: Start,
    student: Checkpoint,
    prompts: list[Prompt],
    teacher: str,
    name: str,
) -> BranchResult:
    """SFT on the teacher's answers, the baseline that RLAIF has to beat (arXiv 2402.12366)."""
    once = replace(config.sample, n=1)
    answers = sample(lab, lab.completer(teacher), prompts, once, name="demonstrate")
    asked = {p.id: p for p in prompts}
    shown = [Demonstration(asked[r.prompt_id], r) for r in answers]
    learned = imitate(lab, config, student, shown, name)
    return trace(lab, config, start, learned)


def _models(config: TaughtConfig) -> dict[str, str]:
    how = f"{config.objective.name.upper()}, answers of {config.teacher} over the student's own"
    return models_with_teacher(config, LABEL, how)


def _rounds(config: TaughtConfig) -> tuple[Round, ...]:
    return (
        Round(
            config.propose.n,
            config.iterations,
            writes=config.propose.n > 0,
            teacher=config.teacher,
            samples=1,
        ),
    )


register("recipe", "teacher_demonstration")(
    Recipe(
        name="teacher_demonstration",
        config=TaughtConfig,
        question="Does a model get better by preferring a teacher's answers over its own?",
        study=study,
        models=_models,
        rounds=_rounds,
    )
)
