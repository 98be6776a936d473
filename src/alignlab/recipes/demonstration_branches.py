"""Define the branches of `demonstrations`: one round of each, from a model to the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, NamedTuple

from alignlab import registry
from alignlab.configs import Fraction, NonNegativeInt, PositiveInt
from alignlab.errors import BadInput, NothingToLearn, refuse_unknown
from alignlab.measuring.overoptimization import watched_rollout
from alignlab.objectives.rollout_batch import is_policy_gradient
from alignlab.protocols import FeedbackSource
from alignlab.recipes.study import ObjectiveSettings, Study, StudyConfig, answers_of, sft
from alignlab.stages.demonstrate import references_as_demonstrations
from alignlab.stages.pair import PairSettings, demonstration_pairs
from alignlab.stages.train import train
from alignlab.training.config import TrainConfig
from alignlab.training.rollout_config import RolloutConfig
from alignlab.types import Checkpoint, Demonstration, PreferenceGroup, Response

Labels = Literal["origin", "coin"]


@dataclass(frozen=True)
class DemonstrationsConfig(StudyConfig):
    """Settings of learning from demonstrations."""

    shown: Literal["responses", "references"] = "responses"
    """Demonstrations to learn from: the data's responses, or the reference answers to the same
    prompts."""
    bad: Fraction = 0.0
    """Share of the demonstrations whose response is another prompt's, for M1 and all branches."""
    mixed: bool = True
    """SPIN trains on the pairs of the last two rounds (the authors' code), or of the last only."""
    chunks: PositiveInt = 5
    """Number of parts of the demonstrations in a round of IRFT; the newest model answers each."""
    policy: ObjectiveSettings = field(
        default_factory=lambda: ObjectiveSettings("rloo", {"kl_coef": 0.05})
    )
    """Policy gradient of RFT and of the truth, with the paper's weight of the KL."""
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    """Settings of the policy gradient, in each round."""
    reward_training: TrainConfig = field(default_factory=TrainConfig)
    """Training settings of RFT's reward models, which start from M1."""
    probes: NonNegativeInt = 100
    """Number of held-out prompts of which M1's answers are scored, to see whether a learned reward
    orders them too; 0 sees none."""
    divergence: NonNegativeInt = 128
    """Number of held-out prompts on which each model's KL from M1 is measured; 0 measures none."""
    branches: tuple[str, ...] = ()
    """Branches to run, by name; empty runs all that the data and the judges allow."""

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_unknown("branch", self.branches, BRANCHES)
        if "key" in self.branches and self.shown == "references":
            raise BadInput("branch key: has no effect with shown=references; leave it out")
        if self.pairs != PairSettings() or self.select.prompts:
            raise BadInput(
                "settings pairs and select.prompts: have no effect in demonstrations, which "
                "prefers demonstrations to own answers; leave them out"
            )
        if not is_policy_gradient(registry.get("objective", self.policy.name)):
            raise BadInput(
                f"setting policy.name: expected a policy gradient (rloo), found {self.policy.name}"
            )
        self.policy.build()


@dataclass(frozen=True)
class DemonstrationInputs:
    """Demonstrations and M1's answers to their prompts, shared by all branches."""

    shown: tuple[Demonstration, ...]
    first: tuple[Response, ...]
    """M1's answer to each demonstration's prompt."""
    probes: tuple[PreferenceGroup, ...]
    """M1's answers to held-out prompts, ordered by their gold scores."""


class Round(NamedTuple):
    """One round of a branch: its study, inputs, number, and the name of the next model."""

    study: Study[DemonstrationsConfig]
    given: DemonstrationInputs
    number: int
    name: str
    earlier: tuple[tuple[PreferenceGroup, ...], ...] = ()
    """Pairs of every earlier round."""

    def part(self, name: str, shown: Sequence[Demonstration]) -> Round:
        """Return the round on a part of the demonstrations, in a scope of its own."""
        given = replace(self.given, shown=tuple(shown))
        return self._replace(study=self.study.scope(name), given=given)

    def pairs(self, model: Checkpoint, labels: Labels) -> tuple[PreferenceGroup, ...]:
        """Sample the model's own answers, and prefer the demonstrations to them.

        Raises:
            NothingToLearn: no own answer differs from its demonstration.
        """
        study, shown = self.study, self.given.shown
        prompts, own = [d.prompt for d in shown], self.given.first
        if model != study.start.m1:
            own = answers_of(once(study), model, prompts).responses
        responses = [d.response for d in shown]
        groups = demonstration_pairs(
            study.context, prompts, responses, own, whole=True, labels=labels
        )
        if not groups:
            raise NothingToLearn(
                f"{self.name}: no own answer is whole and differs from its demonstration (see "
                "counts.jsonl of the pair stage): raise sample.max_tokens or sample.temperature"
            )
        return tuple(groups)

    def prefer(self, model: Checkpoint, groups: Sequence[PreferenceGroup], name: str) -> Checkpoint:
        """Train the model by the study's objective, relative to itself."""
        config = self.study.config
        spec = config.train_spec(config.objective.build(), config.preference)
        made = f"{model.name} after {config.preference_method}, demonstrations over own answers"
        return train(self.study.context, model, groups, spec, name=name, made=made)


class Learned(NamedTuple):
    """Result of a round: its model, its pairs, and the model whose reward it has learned."""

    model: Checkpoint
    pairs: tuple[PreferenceGroup, ...] = ()
    reward: Checkpoint | None = None
    """Reward model, or the model itself if its log-ratio to M1 is the reward; None without one."""


Learn = Callable[[Round, Checkpoint], Learned]


def once(study: Study[DemonstrationsConfig]) -> Study[DemonstrationsConfig]:
    """Return the study with one sampled answer per prompt."""
    return study.using(sample=replace(study.config.sample, n=1))


def spin(step: Round, model: Checkpoint, *, labels: Labels = "origin") -> Learned:
    """Prefer all demonstrations to the model's own answers; pairs of the last round may join."""
    groups = step.pairs(model, labels)
    joined = step.earlier[-1] if step.study.config.mixed and step.earlier else ()
    learned = step.prefer(model, [*groups, *joined], step.name)
    return Learned(learned, groups, learned)


def irft(step: Round, model: Checkpoint) -> Learned:
    """Prefer one part of the demonstrations after the other, each answered by the newest model."""
    parts, shown = step.study.config.chunks, step.given.shown
    if parts > len(shown):
        raise BadInput(
            f"setting chunks: expected at most the data's {len(shown)} demonstrations, found "
            f"{parts}"
        )
    for number in range(parts):
        part = step.part(f"part-{number + 1}", shown[number::parts])
        last = number == parts - 1
        name = step.name if last else f"{step.name} part {number + 1}"
        model = part.prefer(model, part.pairs(model, "origin"), name)
    return Learned(model, (), model)


def rft(step: Round, model: Checkpoint) -> Learned:
    """Learn a reward by which demonstrations beat own answers, and raise it by policy gradient."""
    study = step.study
    context, config, m1 = study.context, study.config, study.start.m1
    groups = step.pairs(model, "origin")
    every = [group for some in (*step.earlier, groups) for group in some]
    spec = config.train_spec(registry.get("objective", "reward_model")(), config.reward_training)
    reward = train(context, m1, every, spec, name=f"reward model of {step.name}")
    learned = _raised(step, model, context.learned_reward(reward), reward.name)
    return Learned(learned, groups, reward)


def raise_truth(step: Round, model: Checkpoint) -> Learned:
    """Raise the gold score itself by the same policy gradient: the upper bound for any reward.

    Raises:
        BadInput: there is no source of gold scores.
    """
    if not step.study.config.measure.truth:
        raise BadInput("branch truth: expected measure.truth, a source of the truth, found none")
    source = step.study.context.judge(step.study.config.measure.truth, step.study.start.m1)
    return Learned(_raised(step, model, source, "the truth"))


def _raised(step: Round, model: Checkpoint, reward: FeedbackSource, what: str) -> Checkpoint:
    """Train the model by policy gradient on its own answers to the demonstrations' prompts."""
    study = step.study
    context, config = study.context, study.config
    truth = config.measure.truth
    return watched_rollout(
        context,
        model,
        [d.prompt for d in step.given.shown],
        reward,
        config.rollout_spec(config.policy.build(), config.rollout),
        name=step.name,
        made=f"{model.name} by {config.policy.name} on {what}",
        truth=context.judge(truth, study.start.m1) if truth else None,
    ).checkpoint


def imitate_longer(step: Round, model: Checkpoint) -> Learned:
    """Imitate the demonstrations, for as many trained responses as SPIN trains on pairs."""
    config = step.study.config
    doubled = 2 if config.mixed and step.number > 1 else 1
    loop = replace(
        config.sft,
        epochs=2 * doubled * config.preference.epochs,  # a pair trains two responses
        batch_size=config.preference.batch_size,
    )
    study, made = step.study.using(sft=loop), f"{model.name} after SFT, {loop.epochs} epochs"
    return Learned(sft(study, model, step.given.shown, step.name, made))


def imitate_references(step: Round, model: Checkpoint) -> Learned:
    """Imitate the reference answers to the demonstrations' prompts.

    Raises:
        BadInput: the data has no reference answers.
    """
    shown = references_as_demonstrations(step.given.shown)
    made = f"{model.name} after SFT on the data's references"
    return Learned(sft(step.study, model, shown, step.name, made))


BRANCHES: Mapping[str, tuple[Learn, str]] = {
    "sft": (imitate_longer, "longer SFT"),
    "spin": (spin, "SPIN"),
    "irft": (irft, "IRFT"),
    "rft": (rft, "RFT"),
    "coin": (partial(spin, labels="coin"), "pairs by coin"),
    "key": (imitate_references, "SFT on references"),
    "truth": (raise_truth, "policy gradient on the truth"),
}
"""Name -> training of a round, and the end of its models' names."""
