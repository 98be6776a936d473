"""Teacher reward: an external model judges the student's answers, then preference training.

The LLM-guided counterpart of self-reward for small models (document B): the same M1, prompts and
samples; only the judge is another.
"""

from __future__ import annotations

from dataclasses import dataclass

from alignlab.recipes.study import (
    Recipe,
    Start,
    StudyConfig,
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
from alignlab.stages.sample import sample
from alignlab.types import Checkpoint, Prompt


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
        learned = reward(step, config, start, student, prompts, config.teacher, name)
        student, result = learned.checkpoints[-1], result + learned
    return finish(lab, config, start, result)


def reward(
    lab: Lab,
    config: StudyConfig,
    start: Start,
    student: Checkpoint,
    prompts: list[Prompt],
    teacher: str,
    name: str,
) -> BranchResult:
    """One round: the student answers, the teacher judges, the student learns."""
    responses = sample(lab, lab.engine(student), prompts, config.sample)
    feedback = judge(lab, model_judge(lab.completer(teacher), config.judge), prompts, responses)
    groups = pair(lab, prompts, responses, feedback, config.pairs)
    learned = prefer(lab, config, student, groups, name)
    said = Judgement(f"{teacher} on {student.name}", "own", tuple(responses), tuple(feedback))
    judged = BranchResult(judgements=(said,), prompts=tuple(prompts))
    return judged + trace(lab, config, start, learned)


def _models(config: TeacherRewardConfig) -> dict[str, str]:
    named = {"M0": "the base model", "M1": "M0 tuned on human answers and judgements"}
    for t in range(1, config.iterations + 1):
        named[f"M{t + 1} teacher reward"] = (
            f"{config.objective.name.upper()} on the student's answers judged by {config.teacher}"
        )
    return named


register("recipe", "teacher_reward")(
    Recipe(
        name="teacher_reward",
        config=TeacherRewardConfig,
        question="Does a model get better by training on a teacher's judgements of its answers?",
        study=study,
        models=_models,
    )
)
