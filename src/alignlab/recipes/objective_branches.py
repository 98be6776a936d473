"""Define the branches of `compare_objectives`: from shared groups to models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from alignlab import registry
from alignlab.configs import NonNegativeInt, PositiveInt, build, refuse_one_of_two
from alignlab.errors import BadInput, unknown_name
from alignlab.feedback.rules import RandomJudge
from alignlab.measuring.overoptimization import watched_rollout
from alignlab.objectives.rollout_batch import is_policy_gradient
from alignlab.protocols import FeedbackSource
from alignlab.recipes.critic import CriticConfig
from alignlab.recipes.judging import engine_of
from alignlab.recipes.objective_inputs import ObjectiveInputs
from alignlab.recipes.study import Answered, Study, answers_of
from alignlab.recipes.tuning import TuneSettings
from alignlab.stages.best_of import best_of
from alignlab.stages.checkpoint_selection import scores_by_prompt
from alignlab.stages.judge import judge
from alignlab.stages.pair import pair
from alignlab.stages.rso import RSOSettings, rso
from alignlab.stages.train import train
from alignlab.training.config import TrainConfig
from alignlab.training.record_kinds import Record, record_kind
from alignlab.training.rollout_config import RolloutConfig
from alignlab.types import (
    Checkpoint,
    Demonstration,
    PreferenceGroup,
)


@dataclass(frozen=True)
class CompareObjectivesConfig(CriticConfig):
    """Settings of the comparison of objectives."""

    groups: Literal["samples", "data"] = "samples"
    """Groups to train on: M1's scored answers, or the ranked responses of the data."""
    branches: tuple[str, ...] = ()
    """Branches to compare: objectives, names in `methods`, and zero_shot, few_shot, raft, rso,
    rloo_critic, random_scores; empty is all that the feedback allows."""
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Branch -> its objective, options, reward, and train, which overrides `preference` (of a
    policy gradient: `rollout`): methods.dpo.train.lr=1e-4."""
    reward: Literal["model", "feedback"] = "model"
    """Reward of policy gradients: a reward model trained on the groups, or the critic."""
    reward_training: TrainConfig = field(default_factory=TrainConfig)
    """Training settings of the reward model, which starts from M1."""
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    """Settings of policy gradients."""
    dev_prompts: NonNegativeInt = 0
    """Number of the data's own prompts, used for nothing else, on which a policy gradient's best
    checkpoint is selected by mean reward, every `rollout.validate_every` steps; 0 keeps the
    last."""
    rso: RSOSettings = field(default_factory=RSOSettings)
    raft_rounds: PositiveInt = 3
    """Number of rounds of best of n; each answers its share of the prompts with the newest
    model."""
    shots: PositiveInt = 2
    """Number of demonstrations in a few-shot prompt."""
    tune: TuneSettings = field(default_factory=TuneSettings)
    """Search of the learning rate; it replaces those of `preference`, `rollout` and `methods`,
    the preset's included."""
    divergence: NonNegativeInt = 128
    """Number of test prompts on which each model's KL divergence from M1 is measured; 0 measures
    none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.refuse_rounds("compare_objectives")
        if self.pairs.rho is not None:
            raise BadInput("setting pairs.rho: has no effect in compare_objectives; leave it out")
        if len(set(self.branches)) < len(self.branches):
            raise BadInput(f"setting branches: expected different names, found {self.branches}")
        for name in (*self.branches, *self.methods):
            learner(self, name)
        loops = [learner(self, name).config for name in self.chosen]
        every = [loop.validate_every for loop in loops if isinstance(loop, RolloutConfig)]
        refuse_one_of_two(
            ("dev_prompts", self.dev_prompts), ("rollout.validate_every", max(every, default=0))
        )

    @property
    def teacher_specs(self) -> dict[str, str]:
        """Return the critic, if it is asked, and rewards of their own that ask a model."""
        rewards = {
            f"methods.{name}.reward": str(method.get("reward", ""))
            for name, method in self.methods.items()
            if name in self.chosen
        }
        asked = {k: v for k, v in rewards.items() if ":" in engine_of(v)}
        return {**super().teacher_specs, **asked}

    @property
    def asks_critic(self) -> bool:
        """Return whether the critic scores M1's answers, which groups of the data replace."""
        return self.groups == "samples"

    @property
    def chosen(self) -> tuple[str, ...]:
        """Return the branches to run."""
        if self.branches:
            return self.branches
        samples = self.groups == "samples"
        return tuple(n for n, b in BRANCHES.items() if samples or not b.needs_critic)


@dataclass(frozen=True)
class Method:
    """Settings of one branch that override the study's."""

    objective: str = ""
    """Name of an objective; empty is the branch's own."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the objective."""
    train: dict[str, Any] = field(default_factory=dict)
    """Settings of the training loop that override the study's."""
    reward: str = ""
    """Reward of a policy gradient: "model", "feedback" (the critic), or a feedback source of its
    own such as random, the control; empty is the study's `reward`."""


class Learner(NamedTuple):
    """Objective of a branch with the settings of its training loop."""

    objective: Any
    config: TrainConfig | RolloutConfig | None
    """Settings of the training loop; None if nothing is trained."""
    reward: str = ""
    """Reward of a policy gradient: "model", "feedback", or a feedback source."""


class Comparison(NamedTuple):
    """One branch under way: the study, the inputs shared by all branches, and the branch's name."""

    study: Study[CompareObjectivesConfig]
    given: ObjectiveInputs
    name: str

    @property
    def learner(self) -> Learner:
        """Return the branch's objective and loop settings."""
        return learner(self.study.config, self.name)

    def scope(self, name: str) -> Comparison:
        """Return the branch with a nested scope of the run to write into."""
        return self._replace(study=self.study.scope(name))

    def overriding(self, part: Literal["options", "train"], **values: Any) -> Comparison:
        """Return the branch with other values of its options or of its training loop."""
        methods = self.study.config.methods
        own = methods.get(self.name, {})
        changed = {**own, part: {**own.get(part, {}), **values}}
        return self._replace(study=self.study.using(methods={**methods, self.name: changed}))

    def critic(self) -> FeedbackSource:
        """Return the scorer of new answers: the critic, or the data's reward model."""
        context, config = self.study.context, self.study.config
        if config.groups == "samples":
            return context.judge(config.feedback, self.study.start.m1)
        assert self.given.reward_model is not None
        return context.learned_reward(self.given.reward_model)

    def records(self, groups: Sequence[PreferenceGroup]) -> Sequence[Record]:
        """Convert groups to the records of the branch's objective."""
        demonstrations = self.study.start.corpus.demonstrations
        return self.given.records(self.learner.objective, groups, demonstrations, self.name)

    def train(self, parent: Checkpoint, records: Sequence[Record], called: str = "") -> Checkpoint:
        """Train the parent by the branch's objective."""
        config, chosen = self.study.config, self.learner
        assert chosen.config is not None
        spec = config.train_spec(chosen.objective, chosen.config)
        how = described(config, self.name)
        context = self.study.context
        return train(context, parent, records, spec, name=called or self.name, made=how)


class Kind(NamedTuple):
    """Kind of branch: how its model is trained, and its objective if not named as the branch."""

    learn: Callable[[Comparison], Checkpoint] | None
    """Training function; None if nothing is trained."""
    objective: str = ""
    how: str = "M1 trained on the groups"
    needs_critic: bool = False
    """True if the branch needs comments or scores of a critic, which the data's own groups lack."""
    over_groups: bool = False
    """True if its objective is trained on groups, so cannot be a policy gradient."""
    options: Mapping[str, Any] = MappingProxyType({})
    """Objective options that override the objective's defaults; `methods` overrides them."""


def learner(config: CompareObjectivesConfig, name: str) -> Learner:
    """Return a branch's objective and loop settings.

    Raises:
        BadInput: no such branch, or settings that are unknown or without effect.
    """
    chosen, kind = build(Method, config.methods.get(name, {})), BRANCHES.get(name, OTHER)
    if kind.learn is None:
        if name in config.methods:
            raise BadInput(f"setting methods.{name}: has no effect: nothing is trained")
        return Learner(None, None)
    # A teacher's logits are no scores of a critic.
    objectives = set(registry.names("objective")) - {"reward_model", "distill"}
    wanted = chosen.objective or kind.objective or name
    if wanted not in objectives:
        raise unknown_name("branch", wanted, objectives | set(BRANCHES) | set(config.methods))
    known = registry.get("objective", wanted)
    if kind.over_groups and is_policy_gradient(known):
        raise BadInput(f"setting methods.{name}.objective: expected one over groups")
    usual_options = kind.options if wanted == (kind.objective or name) else {}
    objective = build(known, usual_options, chosen.options)
    if is_policy_gradient(objective):
        usual = "feedback" if kind.needs_critic else config.reward
        loop = build(RolloutConfig, asdict(config.rollout), chosen.train)
        return Learner(objective, loop, chosen.reward or usual)
    if chosen.reward:
        raise BadInput(f"setting methods.{name}.reward: has no effect on {wanted}; leave it out")
    return Learner(objective, build(TrainConfig, asdict(config.preference), chosen.train))


def described(config: CompareObjectivesConfig, name: str) -> str:
    """Describe in one line how the branch's model is trained."""
    chosen, kind = learner(config, name), BRANCHES.get(name, OTHER)
    what = kind.how
    if chosen.config is None:
        return what
    if kind.learn is _offline and record_kind(chosen.objective) is Demonstration:
        what = BRANCHES["sft"].how
    if is_policy_gradient(chosen.objective):
        known = {"model": "a reward model of the groups", "feedback": "the critic itself"}
        by = known.get(chosen.reward, chosen.reward)
        what = f"M1 trained on its own answers, rewarded by {by}"
    own = build(Method, config.methods.get(name, {})).train
    further = "".join(f", {key} {value}" for key, value in own.items() if key != "lr")
    return f"{what}: {chosen.objective!r}, learning rate {chosen.config.lr:g}{further}"


def trains_reward(config: CompareObjectivesConfig, name: str) -> bool:
    """Return whether a branch needs the reward model."""
    if is_policy_gradient(learner(config, name).objective):
        return learner(config, name).reward == "model"
    return config.groups == "data" and name in ("raft", "rso")


def training_of(branch: Comparison) -> Callable[[Comparison], Checkpoint] | None:
    """Return the function that trains a branch's model; None if nothing is trained."""
    learn = BRANCHES.get(branch.name, OTHER).learn
    if learn is None:
        return None
    return _policy_gradient if is_policy_gradient(branch.learner.objective) else learn


def _offline(branch: Comparison) -> Checkpoint:
    """Train M1 on the groups, converted to the records of the objective."""
    return branch.train(branch.study.start.m1, branch.records(branch.given.groups))


def _rso(branch: Comparison) -> Checkpoint:
    """Train M1 on pairs accepted by rejection sampling among its scored answers."""
    study, groups = branch.study, branch.given.groups
    if study.config.groups == "data":
        answered = answers_of(study, study.start.m1, branch.given.answered.prompts)
        groups = tuple(_grouped(study, answered, branch.critic()))
    pairs = rso(study.context, groups, study.config.rso, name="pairs")
    return branch.train(study.start.m1, pairs)


def _random_scores(branch: Comparison) -> Checkpoint:
    """Train on M1's responses with random scores as the control."""
    groups = _grouped(branch.study, branch.given.answered, RandomJudge())
    return branch.train(branch.study.start.m1, branch.records(groups))


def _raft(branch: Comparison) -> Checkpoint:
    """Imitate the best of n; each round uses the newest model and its share of the prompts."""
    study, given = branch.study, branch.given
    prompts, rounds, model = given.answered.prompts, study.config.raft_rounds, study.start.m1
    for number in range(rounds):
        share, step = prompts[number::rounds], branch.scope(f"round-{number + 1}")
        if number == 0 and study.config.groups == "samples":
            answered, feedback = given.answered, given.feedback
        else:
            answered = answers_of(step.study, model, share)
            critic = step.critic()
            feedback = tuple(judge(step.study.context, critic, share, answered.responses))
        best = best_of(step.study.context, share, answered.responses, feedback)
        last = number == rounds - 1
        model = step.train(model, best, "" if last else f"{branch.name} round {number + 1}")
    return model


def _policy_gradient(branch: Comparison) -> Checkpoint:
    """Train M1 by policy gradient on its own answers, generated during training."""
    study, chosen = branch.study, branch.learner
    context, config, m1 = study.context, study.config, study.start.m1
    assert isinstance(chosen.config, RolloutConfig)
    if chosen.reward == "model":
        assert branch.given.reward_model is not None
        reward = context.learned_reward(branch.given.reward_model)
    else:
        source = config.feedback if chosen.reward == "feedback" else chosen.reward
        reward = context.judge(source, m1)
    validate = None
    if chosen.config.validate_every:
        validate = scores_by_prompt(context, reward, branch.given.dev, config.sample)
    learned = watched_rollout(
        context,
        m1,
        branch.given.answered.prompts,
        reward,
        config.rollout_spec(chosen.objective, chosen.config),
        name=branch.name,
        made=described(config, branch.name),
        truth=context.judge(config.measure.truth, m1) if config.measure.truth else None,
        validate=validate,
    )
    return learned.checkpoint


def _grouped(
    study: Study[CompareObjectivesConfig], answered: Answered, source: FeedbackSource
) -> list[PreferenceGroup]:
    """Score answers, and group all scored responses by prompt."""
    prompts, responses = answered.prompts, answered.responses
    feedback = judge(study.context, source, prompts, responses)
    every = replace(study.config.pairs, keep="all")
    return pair(study.context, prompts, responses, feedback, every)


OTHER = Kind(_offline)
"""Branch of the study's own `methods`, or an objective that is not listed below."""
BRANCHES: dict[str, Kind] = {
    "zero_shot": Kind(None, how="the base model M0 as it is"),
    "few_shot": Kind(None, how="M0 with demonstrations in its prompt"),
    "sft": Kind(_offline, how="M1 after more of the same demonstrations"),
    "preferred_ft": OTHER,
    "raft": Kind(_raft, "sft", "best of n imitated, round after round", over_groups=True),
    "reward_conditioned": OTHER,
    "joint_feedback": Kind(_offline, needs_critic=True),
    **dict.fromkeys(("dpo", "ld_dpo", "wpo", "ipo", "hinge", "slic"), OTHER),
    "rso": Kind(_rso, "hinge", "pairs by rejection sampling", over_groups=True),
    **dict.fromkeys(("kto", "orpo", "simpo", "cpo", "rrhf"), OTHER),
    # A comparison that speaks of PRO takes the loss of its authors' code.
    "pro": Kind(_offline, options={"weights": "authors"}),
    "dpo_pro": OTHER,
    **dict.fromkeys(("ppo", "reinforce", "rloo", "grpo"), OTHER),
    "rloo_critic": Kind(_offline, "rloo", needs_critic=True),
    "random_scores": Kind(
        _random_scores, "dpo", "the same answers with random scores", over_groups=True
    ),
}
"""Name -> branch, in the order of the report."""
