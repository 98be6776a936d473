"""Compare sources of feedback, all from one M1 and its prompts: which improves the model most?

Self-reward (sampled and expected scores), a teacher's judgements, a teacher's demonstrations by
DPO and by SFT, a weak teacher with a strong critic, and a random judge as the control
(documents A, B and E).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import reduce

from alignlab.context import RunContext
from alignlab.errors import refuse_unknown
from alignlab.feedback.rules import RandomJudge
from alignlab.measuring.measure import BranchResult, Judgement, StudyMeasurements
from alignlab.parallel import Branch
from alignlab.recipes.branches import run_all
from alignlab.recipes.controls import NEGATIVE
from alignlab.recipes.self_rewarding import improve
from alignlab.recipes.study import (
    Answered,
    Recipe,
    Study,
    StudyConfig,
    answer_held_out,
    answers_of,
    finish,
    first_answers,
    preference_train,
    prompts_of_rounds,
    warm_start,
)
from alignlab.recipes.teacher import prefer_teacher, reward, sft_on_teacher
from alignlab.registry import register
from alignlab.stages.judge import judge
from alignlab.stages.judges import JudgeSettings
from alignlab.stages.pair import pair
from alignlab.types import Checkpoint, Prompt


@dataclass(frozen=True)
class CompareConfig(StudyConfig):
    """Settings of the comparison of feedback sources."""

    strong: str = "sandbox:strong"
    """Strong teacher and critic."""
    weak: str = "sandbox:weak"
    """Weak teacher."""
    expected: JudgeSettings = field(default_factory=lambda: JudgeSettings(method="expected"))
    """Judge settings of the second self-reward branch."""
    branches: tuple[str, ...] = ()
    """Branches to run, by name; empty runs all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_unknown("branch", self.branches, BRANCHES)

    @property
    def chosen(self) -> tuple[str, ...]:
        """Return the branches to run, in the order of `BRANCHES`."""
        return tuple(n for n in BRANCHES if not self.branches or n in self.branches)

    @property
    def teacher_specs(self) -> dict[str, str]:
        """Return the teachers that the chosen branches ask, by their settings."""
        asks = {"strong": TEACHER_BRANCHES, "weak": frozenset({"sft_weak_then_dpo"})}
        return {k: getattr(self, k) for k, those in asks.items() if those & set(self.chosen)}


@dataclass(frozen=True)
class FeedbackInputs:
    """Prompts and answers shared by all branches."""

    rounds: tuple[tuple[Prompt, ...], ...]
    """Prompts of each iteration."""
    answered: Answered
    """M1's answers to the first iteration's prompts."""

    def answers(self, study: Study[StudyConfig], model: Checkpoint, iteration: int) -> Answered:
        """Return a model's answers in an iteration; M1's are sampled once for all branches."""
        if iteration == 1:
            return self.answered
        return answers_of(study, model, self.rounds[iteration - 1])


def study(context: RunContext, config: CompareConfig) -> StudyMeasurements:
    """Train M1 and every branch, and measure them."""
    begun = warm_start(context, config)
    rounds = tuple(prompts_of_rounds(begun))
    given = FeedbackInputs(rounds, answers_of(begun, begun.start.m1, rounds[0]))
    branches = [Branch(name, _run, (begun.scope(name), given, name)) for name in config.chosen]
    results = run_all(begun, branches)
    return finish(begun, reduce(BranchResult.__add__, results, first_answers(begun)))


def _run(study: Study[CompareConfig], given: FeedbackInputs, name: str) -> BranchResult:
    return BRANCHES[name](study, given)


def self_reward_samples(study: Study[CompareConfig], given: FeedbackInputs) -> BranchResult:
    """Train on self-rewards by the mean of sampled judgements, whatever `judge.method` is."""
    sampled = replace(study.config.judge, method="samples")
    return improve(study, given.answers, sampled, f" self-reward ({sampled.samples} samples)")


def self_reward_expected(study: Study[CompareConfig], given: FeedbackInputs) -> BranchResult:
    """Train on self-rewards by the expected score."""
    return improve(study, given.answers, study.config.expected, " self-reward (expected score)")


def teacher_reward(study: Study[CompareConfig], given: FeedbackInputs) -> BranchResult:
    """Train on the student's answers, judged by the strong teacher."""
    return reward(study, given.answered, study.config.strong, "teacher reward")


def teacher_demonstration(study: Study[CompareConfig], given: FeedbackInputs) -> BranchResult:
    """Train to prefer the strong teacher's answer to the student's."""
    return prefer_teacher(study, given.answered, study.config.strong, "teacher demonstration")


def sft_strong(study: Study[CompareConfig], given: FeedbackInputs) -> BranchResult:
    """Imitate the strong teacher's answers."""
    m1, strong = study.start.m1, study.config.strong
    return sft_on_teacher(study, m1, given.rounds[0], strong, "SFT on strong teacher")


def sft_weak_then_dpo(study: Study[CompareConfig], given: FeedbackInputs) -> BranchResult:
    """Imitate the weak teacher's answers, then train on the strong critic's judgements."""
    prompts, weak = given.rounds[0], study.config.weak
    tuned = sft_on_teacher(study, study.start.m1, prompts, weak, "SFT on weak teacher")
    critic = study.scope("critic")
    answered = answers_of(critic, tuned.checkpoints[-1], prompts)
    name = "weak SFT, then DPO by strong critic"
    return tuned + reward(critic, answered, study.config.strong, name)


def random_judge(study: Study[CompareConfig], given: FeedbackInputs) -> BranchResult:
    """Train on random scores as the control."""
    context, config, answered = study.context, study.config, given.answered
    feedback = judge(context, RandomJudge(), answered.prompts, answered.responses)
    groups = pair(context, answered.prompts, answered.responses, feedback, config.pairs)
    made = f"M1 after {config.preference_method} on its answers with random scores"
    learned = preference_train(study, study.start.m1, groups, "random judge", made)
    judgement = Judgement("random on M1", "own", answered.responses, tuple(feedback))
    judged = BranchResult(judgements=(judgement,), prompts=answered.prompts)
    return judged + answer_held_out(study, learned)


BRANCHES: dict[str, Callable[[Study[CompareConfig], FeedbackInputs], BranchResult]] = {
    "self_reward_samples": self_reward_samples,
    "self_reward_expected": self_reward_expected,
    "sft_weak_then_dpo": sft_weak_then_dpo,
    "teacher_reward": teacher_reward,
    "random_judge": random_judge,
    "teacher_demonstration": teacher_demonstration,
    "sft_strong": sft_strong,
}
"""Name -> branch; the longest first, so that two workers finish at about one time."""
TEACHER_BRANCHES = frozenset(
    {"sft_weak_then_dpo", "teacher_reward", "teacher_demonstration", "sft_strong"}
)
"""Branches that ask the strong teacher."""


register("recipe", "compare_feedback", old=("compare",))(
    Recipe(
        name="compare_feedback",
        config=CompareConfig,
        question="Which feedback makes this model better: its own, a teacher's judgement, or a "
        "teacher's answers?",
        study=study,
        controls={"random judge": NEGATIVE},
        options={
            "Its own judgement": (" self-reward",),
            "A teacher's judgement": ("teacher reward", "then DPO by strong critic"),
            "A teacher's answers": ("teacher demonstration", "SFT on "),
        },
    )
)
