"""Compare: which feedback works for this model? Every branch from the same M1 and prompts.

Self-reward (sampled and expected scores), a teacher's judgements, a teacher's demonstrations by
DPO and by SFT, a weak teacher with a strong critic, and a random judge as the control
(documents A, B and E).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import reduce

from alignlab.errors import unknown_name
from alignlab.feedback.rules import RandomJudge
from alignlab.parallel import Branch, run_branches
from alignlab.recipes.rounds import Round
from alignlab.recipes.self_rewarding import improve
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
from alignlab.recipes.teacher_demonstration import imitate_teacher, prefer_teacher
from alignlab.recipes.teacher_reward import reward
from alignlab.registry import register
from alignlab.stages.judge import judge
from alignlab.stages.judges import JudgeSettings
from alignlab.stages.lab import Lab
from alignlab.stages.measure import BranchResult, Judgement, Measured
from alignlab.stages.pair import pair
from alignlab.types import Checkpoint, Prompt


@dataclass(frozen=True)
class CompareConfig(StudyConfig):
    """Settings of the comparison."""

    strong: str = "sandbox:strong"
    """The strong teacher and critic."""
    weak: str = "sandbox:weak"
    """The weak teacher."""
    expected: JudgeSettings = field(default_factory=lambda: JudgeSettings(method="expected"))
    """How the second self-reward branch reads the model's score."""
    branches: tuple[str, ...] = ()
    """Branches to run, by name; empty runs all."""


@dataclass(frozen=True)
class Shared:
    """What every branch starts from."""

    config: CompareConfig
    start: Start
    rounds: tuple[tuple[Prompt, ...], ...]
    """The prompts of each iteration, the same for every branch."""
    answered: Answered
    """M1's answers to the first iteration's prompts."""

    def answers(self, lab: Lab, model: Checkpoint, iteration: int) -> Answered:
        """A model's answers in an iteration; M1's were given once, for every branch."""
        if iteration == 1:
            return self.answered
        return answers_of(lab, self.config, model, self.rounds[iteration - 1])

    @property
    def first(self) -> list[Prompt]:
        return list(self.rounds[0])


def study(lab: Lab, config: CompareConfig) -> Measured:
    """M0 -> M1 -> every branch -> their measurement."""
    start = tune(lab, config)
    total = replace(config.propose, n=config.propose.n * config.iterations)
    prompts = own_prompts(lab, replace(config, propose=total), start, start.m1, ())
    size = max(1, len(prompts) // config.iterations)
    rounds = tuple(tuple(prompts[i * size : (i + 1) * size]) for i in range(config.iterations))
    shared = Shared(config, start, rounds, answers_of(lab, config, start.m1, rounds[0]))
    chosen = [name for name in BRANCHES if _chosen(config, name)]
    branches = [Branch(name, _run, (lab.scope(name), shared, name)) for name in chosen]
    results = run_branches(branches, lab.workers, lab.threads)
    base = trace(lab, config, start, start.m0) + trace(lab, config, start, start.m1)
    return finish(lab, config, start, reduce(BranchResult.__add__, results, base))


def _sampled(config: CompareConfig) -> JudgeSettings:
    """How the branch of sampled judgements reads them, whatever the study's own judge does."""
    return replace(config.judge, method="samples")


def _run(lab: Lab, shared: Shared, name: str) -> BranchResult:
    return BRANCHES[name](lab, shared)


def self_reward_samples(lab: Lab, shared: Shared) -> BranchResult:
    """Self-reward, the mean of sampled judgements."""
    config = shared.config
    label = f" self-reward ({config.judge.samples} samples)"
    return improve(lab, config, shared.start, shared.answers, _sampled(config), label)


def self_reward_expected(lab: Lab, shared: Shared) -> BranchResult:
    """Self-reward, the expected score."""
    config = shared.config
    label = " self-reward (expected score)"
    return improve(lab, config, shared.start, shared.answers, config.expected, label)


def teacher_reward(lab: Lab, shared: Shared) -> BranchResult:
    """DPO on the student's answers, judged by the strong teacher."""
    config, start = shared.config, shared.start
    return reward(lab, config, start, shared.answered, config.strong, "teacher reward")


def teacher_demonstration(lab: Lab, shared: Shared) -> BranchResult:
    """DPO, the strong teacher's answer over the student's."""
    config, start = shared.config, shared.start
    name = "teacher demonstration"
    return prefer_teacher(lab, config, start, shared.answered, config.strong, name)


def sft_strong(lab: Lab, shared: Shared) -> BranchResult:
    """SFT on the strong teacher's answers."""
    config, start = shared.config, shared.start
    name = "SFT on strong teacher"
    return imitate_teacher(lab, config, start, start.m1, shared.first, config.strong, name)


def sft_weak_then_dpo(lab: Lab, shared: Shared) -> BranchResult:
    """SFT on the weak teacher's answers, then DPO by the strong critic."""
    config, start = shared.config, shared.start
    name = "SFT on weak teacher"
    tuned = imitate_teacher(lab, config, start, start.m1, shared.first, config.weak, name)
    student = tuned.checkpoints[-1]
    critic = lab.scope("critic")
    name = "weak SFT, then DPO by strong critic"
    given = answers_of(critic, config, student, shared.first)
    return tuned + reward(critic, config, start, given, config.strong, name)


def random_judge(lab: Lab, shared: Shared) -> BranchResult:
    """The control: DPO on scores that mean nothing."""
    config, start, given = shared.config, shared.start, shared.answered
    feedback = judge(lab, RandomJudge(), given.prompts, given.responses)
    groups = pair(lab, given.prompts, given.responses, feedback, config.pairs)
    learned = prefer(lab, config, start, start.m1, groups, "random judge")
    said = Judgement("random on M1", "own", given.responses, tuple(feedback))
    judged = BranchResult(judgements=(said,), prompts=given.prompts)
    return judged + trace(lab, config, start, learned)


BRANCHES: dict[str, Callable[[Lab, Shared], BranchResult]] = {
    "self_reward_samples": self_reward_samples,
    "self_reward_expected": self_reward_expected,
    "sft_weak_then_dpo": sft_weak_then_dpo,
    "teacher_reward": teacher_reward,
    "random_judge": random_judge,
    "teacher_demonstration": teacher_demonstration,
    "sft_strong": sft_strong,
}
"""Name -> branch, the longest first so that two workers finish together."""


def _models(config: CompareConfig) -> dict[str, str]:
    how, strong, weak = config.objective.name.upper(), config.strong, config.weak
    named = {"M0": "the base model", "M1": "M0 tuned on human answers and judgements (IFT + EFT)"}
    reads = {
        "self_reward_samples": f"{config.judge.samples} samples",
        "self_reward_expected": "expected score",
    }
    for t in range(1, config.iterations + 1):
        for branch, read in reads.items():
            if _chosen(config, branch):
                name = f"M{t + 1} self-reward ({read})"
                named[name] = f"{how} on own answers it judged by {read}"
    others = (
        ("teacher_reward", "teacher reward", f"M1 after {how} on its answers judged by {strong}"),
        (
            "teacher_demonstration",
            "teacher demonstration",
            f"M1 after {how}, answers of {strong} over its own",
        ),
        ("sft_strong", "SFT on strong teacher", f"M1 after SFT on answers of {strong}"),
        ("sft_weak_then_dpo", "SFT on weak teacher", f"M1 after SFT on answers of {weak}"),
        (
            "sft_weak_then_dpo",
            "weak SFT, then DPO by strong critic",
            f"that model after {how} judged by {strong}",
        ),
        (
            "random_judge",
            "random judge",
            f"the control: M1 after {how} on its answers with random scores",
        ),
    )
    return named | {name: made for branch, name, made in others if _chosen(config, branch)}


def _chosen(config: CompareConfig, branch: str) -> bool:
    return not config.branches or branch in config.branches


def _rounds(config: CompareConfig) -> tuple[Round, ...]:
    for name in config.branches:
        if name not in BRANCHES:
            raise unknown_name("branch", name, BRANCHES)
    n, k, judging = config.propose.n, config.sample.n, config.critic
    own = {
        "self_reward_samples": _sampled(config),
        "self_reward_expected": config.expected,
    }
    others = {
        "sft_weak_then_dpo": Round(
            n, teacher=config.weak, samples=k, critic=config.strong, judging=judging
        ),
        "teacher_reward": Round(n, samples=k, critic=config.strong, judging=judging),
        "random_judge": Round(n, samples=k),
        "teacher_demonstration": Round(n, teacher=config.strong, samples=1),
        "sft_strong": Round(n, teacher=config.strong),
    }
    rounds = {
        name: Round(n, config.iterations, samples=k, critic="self", judging=how, held_out=True)
        for name, how in own.items()
    } | others
    chosen = [r for name, r in rounds.items() if _chosen(config, name)]
    return (Round(n * config.iterations, writes=n > 0), *chosen)


register("recipe", "compare")(
    Recipe(
        name="compare",
        config=CompareConfig,
        question="Which feedback makes this model better: its own, a teacher's judgement, or a "
        "teacher's answers?",
        study=study,
        models=_models,
        rounds=_rounds,
    )
)
