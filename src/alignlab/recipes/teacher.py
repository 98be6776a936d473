"""Train with one teacher that judges the student's answers or demonstrates its own.

Two recipes: `teacher_reward` (an external model judges the student's answers, then preference
training) and `teacher_demonstration` (the teacher's answer is preferred to the student's). M1,
prompts and samples are those of self-rewarding; only the feedback differs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from alignlab.context import RunContext
from alignlab.errors import BadInput
from alignlab.measuring.measure import BranchResult, Judgement, StudyMeasurements
from alignlab.recipes.judging import SELF, engine_of, is_engine
from alignlab.recipes.self_rewarding import AnswersOf, answers_to_own_prompts
from alignlab.recipes.study import (
    Answered,
    Recipe,
    Study,
    StudyConfig,
    answer_held_out,
    finish,
    first_answers,
    preference_train,
    sft,
    warm_start,
)
from alignlab.registry import register
from alignlab.stages.demonstrate import warn_of_cut_off
from alignlab.stages.judge import by_prompt, judge
from alignlab.stages.judges import model_judge
from alignlab.stages.pair import demonstration_pairs, pair
from alignlab.stages.sample import sample
from alignlab.types import Checkpoint, Demonstration, Prompt

Learn = Callable[[Study[StudyConfig], Answered, str, str], BranchResult]
"""Function (study, the student's answers, the teacher's spec, the next model's name) -> result."""


@dataclass(frozen=True)
class TeacherConfig(StudyConfig):
    """Settings of training with a teacher."""

    teacher: str = "sandbox:strong"
    """Judge or demonstrator: local:FOLDER, openai:MODEL@URL, sandbox:strong, ...; a judge may also
    be a feedback source: verifier, reward_model:FOLDER, python:FILE:FUNCTION, ..."""
    iterations: int = 1
    """Number of rounds of feedback and preference training."""

    @property
    def teacher_specs(self) -> dict[str, str]:
        """Return the teacher by its setting; none if it is the model itself, or no model."""
        is_teacher = is_engine(self.teacher) or ":" in engine_of(self.teacher)
        return {"teacher": self.teacher} if is_teacher and self.teacher != SELF else {}


def study_reward(context: RunContext, config: TeacherConfig) -> StudyMeasurements:
    """Train M1, then run rounds of samples judged by the teacher."""
    begun = warm_start(context, config)
    result, answers = first_answers(begun), answers_to_own_prompts()
    return finish(begun, result + teacher_rounds(begun, answers, reward, " teacher reward"))


def study_demonstration(context: RunContext, config: TeacherConfig) -> StudyMeasurements:
    """Train M1, then run rounds of the teacher's answers preferred to the student's.

    Raises:
        BadInput: a rule over scores, which these pairs lack.
    """
    if config.pairs.min_gap or config.pairs.rho is not None:
        raise BadInput(
            "settings pairs.min_gap and pairs.rho: have no effect in teacher_demonstration: the "
            "teacher's answer is preferred to the student's"
        )
    begun = warm_start(context, replace(config, sample=replace(config.sample, n=1)))
    result, answers = first_answers(begun), answers_to_own_prompts()
    label = " teacher demonstration"
    return finish(begun, result + teacher_rounds(begun, answers, prefer_teacher, label))


def teacher_rounds(
    study: Study[TeacherConfig], answers: AnswersOf, learn: Learn, label: str
) -> BranchResult:
    """Run rounds from M1: the student answers, the teacher gives feedback, the student is trained.

    Args:
        label: suffix of the models' names: "M2 LABEL", "M3 LABEL", ...
    """
    student, result = study.start.m1, BranchResult()
    for iteration in range(1, study.config.iterations + 1):
        step = study.scope(f"iteration-{iteration}")
        given = answers(step, student, iteration)
        learned = learn(step, given, study.config.teacher, f"M{iteration + 1}{label}")
        student, result = learned.checkpoints[-1], result + learned
    return result


def reward(study: Study[StudyConfig], given: Answered, teacher: str, name: str) -> BranchResult:
    """Train the student on the judgements of its answers by a teacher, or by a feedback source."""
    context, config, student = study.context, study.config, given.student
    critic = (
        model_judge(context.completer(teacher), config.critic)
        if is_engine(teacher)
        else context.judge(teacher, student)
    )
    feedback = judge(context, critic, given.prompts, given.responses)
    groups = pair(context, given.prompts, given.responses, feedback, config.pairs)
    how = f"{config.preference_method} on its answers, judged by {teacher}"
    learned = preference_train(study, student, groups, name, f"{student.name} after {how}")
    judgement = Judgement(f"{teacher} on {student.name}", "own", given.responses, tuple(feedback))
    judged = BranchResult(judgements=(judgement,), prompts=given.prompts)
    return judged + answer_held_out(study, learned)


def prefer_teacher(
    study: Study[StudyConfig], given: Answered, teacher: str, name: str
) -> BranchResult:
    """Train the student to prefer the teacher's answer to its own first one."""
    student = given.student
    chosen = demonstrate(study, given.prompts, teacher)
    rejected = [responses[0] for _, responses in by_prompt(given.prompts, given.responses)]
    groups = demonstration_pairs(
        study.context, given.prompts, [d.response for d in chosen], rejected
    )
    how = f"{study.config.preference_method}, answers of {teacher} over its own"
    learned = preference_train(study, student, groups, name, f"{student.name} after {how}")
    return answer_held_out(study, learned)


def sft_on_teacher(
    study: Study[StudyConfig],
    student: Checkpoint,
    prompts: Sequence[Prompt],
    teacher: str,
    name: str,
) -> BranchResult:
    """Imitate the teacher's answers, the baseline of RLAIF (arXiv 2402.12366)."""
    shown = demonstrate(study, prompts, teacher)
    made = f"{student.name} after SFT on answers of {teacher}"
    return answer_held_out(study, sft(study, student, shown, name, made))


def demonstrate(
    study: Study[StudyConfig], prompts: Sequence[Prompt], teacher: str
) -> list[Demonstration]:
    """Sample the teacher's answer to every prompt once; warn of those that were cut off."""
    context, once = study.context, replace(study.config.sample, n=1)
    answers = sample(context, context.completer(teacher), prompts, once, name="demonstrate")
    warn_of_cut_off(context, answers, teacher)
    asked = {p.id: p for p in prompts}
    return [Demonstration(asked[r.prompt_id], r) for r in answers]


register("recipe", "teacher_reward")(
    Recipe(
        name="teacher_reward",
        config=TeacherConfig,
        question="Does a model get better by training on a teacher's judgements of its answers?",
        study=study_reward,
    )
)
register("recipe", "teacher_demonstration")(
    Recipe(
        name="teacher_demonstration",
        config=TeacherConfig,
        question="Does a model get better by preferring a teacher's answers over its own?",
        study=study_demonstration,
    )
)
