"""Define the reward models of `self_evolved_reward`: settings, pairs, and rounds of a branch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from alignlab import registry, seeds
from alignlab.configs import Fraction, NonNegativeInt, PositiveInt
from alignlab.errors import BadInput, RunFailed, unknown_name
from alignlab.measuring.measure import BranchResult, PerPromptMetric
from alignlab.measuring.reward_pairs import Rewards, accuracy_change, label_figures, pair_accuracy
from alignlab.objectives.reward_model import RewardModel
from alignlab.objectives.rollout_batch import is_policy_gradient
from alignlab.recipes.judging import engine_of
from alignlab.recipes.study import ObjectiveSettings, Study, StudyConfig, answers_of
from alignlab.stages.eft import EFTSettings
from alignlab.stages.judge import judge, scores
from alignlab.stages.pair import PairSettings, pair
from alignlab.stages.pseudo_labels import KeepSettings, keep_sure
from alignlab.stages.train import train
from alignlab.training.config import TrainConfig
from alignlab.training.rollout_config import RolloutConfig
from alignlab.types import Checkpoint, Count, PreferenceGroup, Prompt

SEED_MODEL, FULL_MODEL = "RM0", "RM of all labels"
BRANCHES = {"own": "", "random": " by coin", "keep_all": " on all pairs", "full": ""}
"""Reward models to train after RM0 -> end of their names: on own labels of sure pairs, on labels of
these by coin, on own labels of all pairs, on all true labels."""
POLICIES = {
    "seed": "by RM0",
    "last": "by the last RM",
    "full": f"by the {FULL_MODEL}",
    "truth": "by the truth",
    "random": "by random scores",
    "sft": "SFT on the last RM's choices",
}
"""Policy -> its name: the policy gradient by a reward, or the imitation of the better responses of
all pairs at as many trained responses."""


@dataclass(frozen=True)
class SelfEvolvedRewardConfig(StudyConfig):
    """Settings of self-evolved reward learning."""

    groups: Literal["samples", "data"] = "samples"
    """Pairs: two answers of M1 to each prompt, or best and worst of the data's ranked groups."""
    labels: str = ""
    """Feedback source that labels M1's answers; empty is measure.truth."""
    labelled: Fraction = 0.15
    """Share of the pairs whose labels RM0 is trained on; the others' labels are hidden."""
    keep: KeepSettings = field(default_factory=KeepSettings)
    with_labelled: bool = False
    """Train every round on the labelled pairs too; off is the paper's, which trains on kept pairs
    alone."""
    iterations: PositiveInt = 4
    """Maximum number of rounds of pseudo-labels."""
    reward: ObjectiveSettings = field(
        default_factory=lambda: ObjectiveSettings("reward_model", {"centre": 0.01})
    )
    """Objective of reward models: reward.options.centre=0.01 keeps rewards near 0, without which
    keep.high and keep.low mean nothing."""
    reward_training: TrainConfig = field(default_factory=TrainConfig)
    """Training settings of each reward model."""
    policy: ObjectiveSettings = field(
        default_factory=lambda: ObjectiveSettings("rloo", {"kl_coef": 0.02})
    )
    """Policy gradient of the policies."""
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    """Settings of policy gradients."""
    branches: tuple[str, ...] = tuple(BRANCHES)
    """Reward models to train after RM0: own, random, keep_all, full."""
    policies: tuple[str, ...] = tuple(POLICIES)
    """Policies to train: seed, last, full (by these reward models), truth (measure.truth), random,
    sft; [] trains none."""
    prompts: NonNegativeInt | str | tuple[str, ...] = 0
    """Prompts that M1 and the policies answer: a source or several, as in `data`, or a number of
    the seed data's own; 0 is all."""
    eft: EFTSettings = field(default_factory=lambda: EFTSettings(targets="human"))
    """Without effect: M1 is not trained on judgements here."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for what, names, known in (
            ("branch", self.branches, BRANCHES), ("policy", self.policies, POLICIES),
        ):  # fmt: skip
            for name in names:
                if name not in known:
                    raise unknown_name(what, name, known)
        needed = {"last": "own", "sft": "own", "full": "full"}
        for name, branch in needed.items():
            if name in self.policies and branch not in self.branches:
                raise BadInput(f"setting policies: {name} needs branch {branch}; add it or leave "
                               f"{name} out")  # fmt: skip
        if self.pairs != PairSettings() or self.select.prompts:
            raise BadInput(
                "settings pairs and select.prompts: have no effect in self_evolved_reward, which "
                "keeps pairs by keep.*; leave them out"
            )
        if not 0 < self.labelled < 1:
            raise BadInput(f"setting labelled: expected between 0 and 1, found {self.labelled}")
        if self.groups == "data" and self.labels:
            raise BadInput(
                "setting labels: has no effect with groups=data, whose groups are ranked"
            )
        if registry.get("objective", self.reward.name) is not RewardModel:
            raise BadInput(f"setting reward.name: expected reward_model, found {self.reward.name}")
        if not is_policy_gradient(registry.get("objective", self.policy.name)):
            raise BadInput(
                f"setting policy.name: expected a policy gradient (rloo, ppo, grpo), found "
                f"{self.policy.name}"
            )
        for objective in (self.reward, self.policy):
            objective.build()

    @property
    def label_source(self) -> str:
        """Return the feedback source that labels M1's answers.

        Raises:
            BadInput: there is none.
        """
        if not (self.labels or self.measure.truth):
            raise BadInput(
                "setting labels: expected the feedback source that labels M1's answers, found "
                "none; name one, or groups=data for the ranked responses of the data"
            )
        return self.labels or self.measure.truth

    @property
    def teacher_specs(self) -> dict[str, str]:
        """Return the source of the labels, if it is a model other than M1."""
        return {"labels": self.labels} if ":" in engine_of(self.labels) else {}


@dataclass(frozen=True)
class RewardData:
    """Pairs, better response first, that all branches share."""

    labelled: tuple[PreferenceGroup, ...]
    pool: tuple[PreferenceGroup, ...]
    """Pairs whose order no branch but "full" may use, except to measure."""
    held_out: tuple[PreferenceGroup, ...]
    prompts: tuple[Prompt, ...]
    """Prompts that the policies answer."""


class RewardStart(NamedTuple):
    """RM0 with its rewards of the held-out pairs."""

    model: Checkpoint
    rewards: Rewards


SelfEvolved = Study[SelfEvolvedRewardConfig]


def reward_data(study: SelfEvolved) -> RewardData:
    """Return the pairs, split into labelled ones and the pool.

    Raises:
        BadInput: the data has no ranked groups for training or for testing.
        RunFailed: the labels leave too few pairs.
    """
    start, config = study.start, study.config
    corpus, prompts = start.corpus, start.prompts[: config.most_prompts or None]
    if config.groups == "data":
        found = _ordered(corpus.groups), _ordered(corpus.test_groups)
        for what, groups in zip(("ranked", "held-out ranked"), found, strict=True):
            if not groups:
                raise BadInput(f"groups=data: expected {what} responses in {corpus.name}, found "
                               "none")  # fmt: skip
        prompts = prompts or tuple({g.id: g.prompt for g in corpus.groups}.values())
    else:
        prompts = prompts or start.feedback_prompts
        found = _sampled(study, prompts), _sampled(study.scope("held-out"), corpus.test_prompts)
    pairs, held_out = found
    shuffled = sorted(pairs, key=lambda p: seeds.derive(study.context.seed_for("split"), p.id))
    n = round(config.labelled * len(shuffled))
    with study.context.run.stage("split") as stage:
        if not stage.done:
            stage.count([Count(stage.name, "labelled pairs", n),
                         Count(stage.name, "pairs without label", len(shuffled) - n),
                         Count(stage.name, "held-out pairs", len(held_out))])  # fmt: skip
    if not n or n == len(shuffled) or not held_out:
        raise RunFailed(
            f"labels leave {n} labelled pairs, {len(shuffled) - n} others and {len(held_out)} "
            "held-out ones (see counts.jsonl of the pair stages): take more prompts, another share "
            "labelled=, or a higher sample.temperature"
        )
    return RewardData(tuple(shuffled[:n]), tuple(shuffled[n:]), tuple(held_out), prompts)


def _ordered(groups: Sequence[PreferenceGroup]) -> list[PreferenceGroup]:
    """Return best and worst response of every group, one pair per prompt."""
    pairs = [both for group in groups if (both := group.best_and_worst()) is not None]
    return list({both.id: both for both in pairs}.values())


def _sampled(study: SelfEvolved, prompts: Sequence[Prompt]) -> list[PreferenceGroup]:
    """Sample two answers of M1 to each prompt, and order them by the source of the labels."""
    context, config, m1 = study.context, study.config, study.start.m1
    two = study.using(sample=replace(config.sample, n=2))
    answered = answers_of(two, m1, prompts)
    source = context.judge(config.label_source, m1)
    feedback = judge(context, source, answered.prompts, answered.responses)
    return pair(context, answered.prompts, answered.responses, feedback, PairSettings())


def evolve(study: SelfEvolved, given: RewardData, first: RewardStart, name: str) -> BranchResult:
    """Train the reward models of a branch; its last one is the last of the checkpoints."""
    config, model, end = study.config, first.model, BRANCHES[name]
    if name == "full":
        every = (*given.labelled, *given.pool)
        model = train_reward(study, study.start.m1, every, FULL_MODEL)
        return BranchResult((model,), values=_figures(study, given, first, model))
    settings = replace(config.keep, select="all") if name == "keep_all" else config.keep
    labels: Literal["model", "coin"] = "coin" if name == "random" else "model"
    pool: Sequence[PreferenceGroup] = given.pool
    before: Sequence[PreferenceGroup] = ()
    result = BranchResult((model,))
    for number in range(1, config.iterations + 1):
        step = study.scope(f"round-{number}")
        rewards = rewards_of(step, model, pool, "pool")
        kept = keep_sure(step.context, pool, rewards, settings, labels=labels)
        if not kept.groups:
            break
        learned = [*kept.groups, *before, *(given.labelled if config.with_labelled else ())]
        model = train_reward(step, model, learned, f"RM{number}{end}")
        result += BranchResult((model,), values=label_figures(model.name, pool, kept.groups))
        result += BranchResult(values=_figures(step, given, first, model))
        # With every pair kept, the pairs of the round before are those of this one.
        before, pool = () if name == "keep_all" else kept.groups, kept.rest
    return result


def train_reward(
    study: SelfEvolved, parent: Checkpoint, pairs: Sequence[PreferenceGroup], name: str
) -> Checkpoint:
    """Train a reward model on pairs, from M1 or from another reward model."""
    config = study.config
    spec = config.train_spec(config.reward.build(), config.reward_training)
    return train(study.context, parent, pairs, spec, name=name)


def rewards_of(
    study: SelfEvolved, model: Checkpoint, pairs: Sequence[PreferenceGroup], what: str
) -> Rewards:
    """Return a reward model's reward of every response of some pairs."""
    source = study.context.learned_reward(model)
    responses = [r for both in pairs for r in both.responses]
    asked = list({both.id: both.prompt for both in pairs}.values())
    return scores(judge(study.context, source, asked, responses, name=f"rewards-{what}"))


def _figures(
    study: SelfEvolved, given: RewardData, first: RewardStart, model: Checkpoint
) -> tuple[PerPromptMetric, ...]:
    """Return a reward model's figures on the held-out pairs, and its change from RM0."""
    rewards = rewards_of(study, model, given.held_out, "held-out")
    both = rewards, first.rewards
    change = accuracy_change(model.name, SEED_MODEL, given.held_out, both)
    return (*pair_accuracy(model.name, given.held_out, rewards), change)
