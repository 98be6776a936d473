"""Teacher reward: an external model judges the student's answers, then preference training.

The LLM-guided counterpart of self-reward for small models (document B): the same M1, prompts and
samples; only the judge is another.
"""

from __future__ import annotations

from dataclasses import dataclass

from alignlab.recipes.rounds import Round
from alignlab.recipes.study import (
    Answered,
    Recipe,
    Start,
    StudyConfig,
    answers_of,
    finish,
    own_prompts,
    prefer,
    trace,
    tune,
)
from alignlab.registry import register
from alignlab.stages.judge import judge
from alignlab.stages.judges import model_judge
from alignlab.stages.lab import Lab
from alignlab.stages.measure import BranchResult, Judgement, Measured
from alignlab.stages.pair import pair
from alignlab.types import Prompt


@dataclass(frozen=True)
class TeacherRewardConfig(StudyConfig):
    """Settings of training on a teacher's judgements."""

    teacher: str = "sandbox:strong"
    """The judge: local:FOLDER, openai:MODEL@URL, sandbox:strong, ..."""
    iterations: int = 1
    """Rounds of feedback and preference training."""


def study(lab: Lab, config: TeacherRewardConfig) -> Measured:
    """M0 -> M1 -> rounds of samples judged by the teacher."""
    start = tune(lab, config)
    result = trace(lab, config, start, start.m0) + trace(lab, config, start, start.m1)
    student = start.m1
    earlier: list[Prompt] = []
    for iteration in range(1, config.iterations + 1):
        step = lab.scope(f"iteration-{iteration}")
        prompts = own_prompts(step, config, start, student, earlier)
        earlier.extend(prompts)
        name = f"M{iteration + 1} teacher reward"
        given = answers_of(step, config, student, prompts)
        learned = reward(step, config, start, given, config.teacher, name)
        student, result = learned.checkpoints[-1], result + learned
    return finish(lab, config, start, result)


def reward(
    lab: Lab,
    config: StudyConfig,
    start: Start,
    given: Answered,
    teacher: str,
    name: str,
) -> BranchResult:
    """One round: the teacher judges what the student answered, and the student learns."""
    critic = model_judge(lab.completer(teacher), config.critic)
    feedback = judge(lab, critic, given.prompts, given.responses)
    groups = pair(lab, given.prompts, given.responses, feedback, config.pairs)
    learned = prefer(lab, config, start, given.student, groups, name)
    label = f"{teacher} on {given.student.name}"
    said = Judgement(label, "own", given.responses, tuple(feedback))
    judged = BranchResult(judgements=(said,), prompts=given.prompts)
    return judged + trace(lab, config, start, learned)


def _models(config: TeacherRewardConfig) -> dict[str, str]:
    named = {"M0": "the base model", "M1": "M0 tuned on human answers and judgements"}
    for t in range(1, config.iterations + 1):
        named[f"M{t + 1} teacher reward"] = (
            f"{config.objective.name.upper()} on the student's answers judged by {config.teacher}"
        )
    return named


def _rounds(config: TeacherRewardConfig) -> tuple[Round, ...]:
    return (
        Round(
            config.propose.n,
            config.iterations,
            writes=config.propose.n > 0,
            samples=config.sample.n,
            critic=config.teacher,
            judging=config.critic,
        ),
    )


register("recipe", "teacher_reward")(
    Recipe(
        name="teacher_reward",
        config=TeacherRewardConfig,
        question="Does a model get better by training on a teacher's judgements of its answers?",
        study=study,
        models=_models,
        rounds=_rounds,
    )
)
