"""Teacher demonstration: the teacher's own answer is preferred over the student's (document B)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from alignlab.recipes.rounds import Round
from alignlab.recipes.study import (
    Answered,
    Recipe,
    Start,
    StudyConfig,
    answers_of,
    finish,
    imitate,
    own_prompts,
    prefer,
    trace,
    tune,
)
from alignlab.registry import register
from alignlab.stages.judge import by_prompt
from alignlab.stages.lab import Lab
from alignlab.stages.measure import BranchResult, Measured
from alignlab.stages.pair import demonstration_pairs
from alignlab.stages.sample import sample
from alignlab.types import Checkpoint, Demonstration, Prompt


@dataclass(frozen=True)
class TeacherDemonstrationConfig(StudyConfig):
    """Settings of training on a teacher's answers."""

    teacher: str = "sandbox:strong"
    """Who demonstrates: local:FOLDER, openai:MODEL@URL, sandbox:strong, ..."""
    iterations: int = 1
    """Rounds of demonstrations and preference training."""


def study(lab: Lab, config: TeacherDemonstrationConfig) -> Measured:
    """M0 -> M1 -> rounds of the teacher's answers preferred over the student's."""
    start = tune(lab, config)
    result = trace(lab, config, start, start.m0) + trace(lab, config, start, start.m1)
    student = start.m1
    earlier: list[Prompt] = []
    for iteration in range(1, config.iterations + 1):
        step = lab.scope(f"iteration-{iteration}")
        prompts = own_prompts(step, config, start, student, earlier)
        earlier.extend(prompts)
        name = f"M{iteration + 1} teacher demonstration"
        once = replace(config, sample=replace(config.sample, n=1))
        given = answers_of(step, once, student, prompts)
        learned = prefer_teacher(step, config, start, given, config.teacher, name)
        student, result = learned.checkpoints[-1], result + learned
    return finish(lab, config, start, result)


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


def _models(config: TeacherDemonstrationConfig) -> dict[str, str]:
    named = {"M0": "the base model", "M1": "M0 tuned on human answers and judgements"}
    for t in range(1, config.iterations + 1):
        named[f"M{t + 1} teacher demonstration"] = (
            f"{config.objective.name.upper()}, answers of {config.teacher} over the student's own"
        )
    return named


def _rounds(config: TeacherDemonstrationConfig) -> tuple[Round, ...]:
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
        config=TeacherDemonstrationConfig,
        question="Does a model get better by preferring a teacher's answers over its own?",
        study=study,
        models=_models,
        rounds=_rounds,
    )
)
