"""Teacher reward: an external model judges the student's answers, then preference training.

The LLM-guided counterpart of self-reward for small models (document B): the same M1, prompts and
samples; only the judge is another.
"""

from __future__ import annotations

from alignlab.recipes.rounds import Round
from alignlab.recipes.study import (
    Answered,
    Recipe,
    Start,
    StudyConfig,
    prefer,
    trace,
)
from alignlab.recipes.taught import TaughtConfig, models_with_teacher, rounds_with_teacher
from alignlab.registry import register
from alignlab.stages.judge import judge
from alignlab.stages.judges import model_judge
from alignlab.stages.lab import Lab
from alignlab.stages.measure import BranchResult, Judgement, Measured
from alignlab.stages.pair import pair

LABEL = "teacher reward"


def study(lab: Lab, config: TaughtConfig) -> Measured:
    """M0 -> M1 -> rounds of samples judged by the teacher."""

    def learn(step: Lab, start: Start, given: Answered, name: str) -> BranchResult:
        return reward(step, config, start, given, config.teacher, name)

    return rounds_with_teacher(lab, config, LABEL, learn, answers=config.sample.n)


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


def _models(config: TaughtConfig) -> dict[str, str]:
    how = f"{config.objective.name.upper()} on the student's answers judged by {config.teacher}"
    return models_with_teacher(config, LABEL, how)


def _rounds(config: TaughtConfig) -> tuple[Round, ...]:
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
        config=TaughtConfig,
        question="Does a model get better by training on a teacher's judgements of its answers?",
        study=study,
        models=_models,
        rounds=_rounds,
    )
)
