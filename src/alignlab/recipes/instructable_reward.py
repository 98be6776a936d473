"""Train one reward model that follows the principles it is shown (SALMON, arXiv 2310.05910).

M1 answers prompts; pairs of its answers are labelled by random principles, some negated, and a
reward model learns the labels with the principles in the prompt. Policies are then trained against
it under sets of principles that only text tells apart: all, all with one more that steers, all with
that one negated. Controls: labels by coin, a reward model without principles in its prompts, SFT
for as many trained responses, and the gold scores as the reward, the positive control.
Departures: principles rate one answer at a time; the reward model reads principles before the
answer; its pre-training on public pairs and the rules for refusals and languages are left out; the
policy gradient is a setting.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Literal, NamedTuple

from alignlab.context import RunContext
from alignlab.errors import BadInput, RunFailed, refuse_unknown, unknown_name
from alignlab.feedback.principled import Principled
from alignlab.feedback.principles import Principle, read_negated
from alignlab.measuring.instructability import differing_pairs, instructability
from alignlab.measuring.measure import BranchResult, PerPromptMetric, StudyMeasurements
from alignlab.measuring.overoptimization import watched_rollout
from alignlab.objectives.reward_model import RewardModel
from alignlab.objectives.rollout_batch import is_policy_gradient
from alignlab.parallel import Branch
from alignlab.protocols import FeedbackSource
from alignlab.recipes.branches import run_all
from alignlab.recipes.contrasts import score_changes
from alignlab.recipes.controls import EQUAL_COMPUTE, NEGATIVE, POSITIVE
from alignlab.recipes.study import (
    Answered,
    ObjectiveSettings,
    Recipe,
    Study,
    StudyConfig,
    answer_held_out,
    answers_of,
    finish,
    first_answers,
    imitation_start,
    sft,
)
from alignlab.registry import get, register
from alignlab.runs import slug
from alignlab.sandbox.points import FILE as SANDBOX_PRINCIPLES
from alignlab.stages.judge import judge
from alignlab.stages.principle_labels import (
    Compared,
    PrincipleSettings,
    compare_by_principles,
    label_by_principles,
)
from alignlab.stages.train import train
from alignlab.training.config import TrainConfig
from alignlab.training.rollout_config import RolloutConfig
from alignlab.types import Checkpoint, Score

PLACE = "{principle}"
SANDBOX = "sandbox"


@dataclass(frozen=True)
class InstructableRewardConfig(StudyConfig):
    """Settings of a reward model that reads principles."""

    principles: str = SANDBOX
    """File of principles, one a line as "principle ||| its negation", without , : & =; "sandbox" is
    the offline world's."""
    by_principle: str = "sandbox:points?principle={principle}"
    """Feedback source that scores an answer by one principle, with its place {principle}:
    principles,text={principle},samples=1:ENGINE."""
    gold_principle: str = ""
    """Source of gold scores by one principle; empty measures no principles."""
    steer: str = "brief"
    """Principle that the steered policies' reward shows, or its negation; others leave it out."""
    labelling: PrincipleSettings = field(default_factory=PrincipleSettings)
    reward_training: TrainConfig = field(default_factory=TrainConfig)
    """Settings of training reward models."""
    centre: float = 0.01
    """Weight of centring rewards at 0."""
    reinforcement: ObjectiveSettings = field(default_factory=lambda: ObjectiveSettings("rloo"))
    """Policy gradient that maximises the reward."""
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    """Settings of policy gradients."""
    branches: tuple[str, ...] = ()
    """Policies to train, by name; empty trains all."""
    iterations: int = 1
    """Number of rounds: one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_unknown("branch", self.branches, POLICIES)
        self.refuse_rounds("instructable_reward")
        for setting in ("by_principle", "gold_principle"):
            spec = getattr(self, setting)
            if spec and PLACE not in spec:
                raise BadInput(f"setting {setting}: expected a spec with {PLACE}, found {spec}")
        if not is_policy_gradient(get("objective", self.reinforcement.name)):
            raise BadInput(
                f"setting reinforcement.name: expected a policy gradient (ppo, rloo), found "
                f"{self.reinforcement.name}"
            )
        known = [principle.text for principle in self.shown_principles()]
        if self.steer not in known:
            raise unknown_name("principle", self.steer, known)

    def shown_principles(self) -> list[Principle]:
        """Read the principles.

        Raises:
            BadInput: the file cannot be read, or a principle does not fit a spec.
        """
        path = SANDBOX_PRINCIPLES if self.principles == SANDBOX else Path(self.principles)
        found = read_negated(path)
        for principle in found:
            if any(mark in principle.text for mark in ",:&="):
                raise BadInput(
                    f"{path}: expected principles without , : & =, found {principle.text!r}"
                )
        return found

    @property
    def teacher_specs(self) -> dict[str, str]:
        """Return the source of labels by its setting."""
        return {"by_principle": self.by_principle}


class PolicyBranch(NamedTuple):
    """Policy trained against a reward model under a set of principles."""

    name: str
    reward_model: Literal["principles", "coin", "unread", ""] = "principles"
    """Reward model by its labels; empty for none."""
    steered: int = 0
    """1 shows the steering principle too, -1 its negation."""


POLICIES: Mapping[str, PolicyBranch] = {
    "all": PolicyBranch("RL by principles"),
    "steered": PolicyBranch("RL by principles, steered", steered=1),
    "opposed": PolicyBranch("RL by principles, opposed", steered=-1),
    "coin": PolicyBranch("RL by coin labels", "coin"),
    "unread": PolicyBranch("RL without principles", "unread"),
    "truth": PolicyBranch("RL by the truth", ""),
    "sft": PolicyBranch("more SFT", ""),
}
"""Name -> policy."""


@dataclass(frozen=True)
class PolicyInputs:
    """Principles and reward models shared by all policies."""

    principles: tuple[Principle, ...]
    reward_models: Mapping[str, Checkpoint]


def study(context: RunContext, config: InstructableRewardConfig) -> StudyMeasurements:
    """Train reward models on labels by principles, then policies, and measure both."""
    begun = imitation_start(context, config)
    start = begun.start
    asked = start.feedback_prompts[: config.most_prompts or None]
    begun = replace(begun, start=replace(start, prompts=asked))
    principles = tuple(config.shown_principles())
    chosen = {n: p for n, p in POLICIES.items() if n in (config.branches or POLICIES)}
    models = _reward_models(begun, principles, {p.reward_model for p in chosen.values()})
    given = PolicyInputs(principles, models)
    branches = [Branch(n, run_policy, (begun.scope(n), given, n)) for n in chosen]
    result = reduce(BranchResult.__add__, run_all(begun, branches), first_answers(begun))
    if config.gold_principle:
        result += BranchResult(values=tuple(_by_principle(begun, given, result)))
        result += BranchResult(values=tuple(_instructable(begun, given)))
    measured = finish(begun, result, context.judge(config.measuring_judge, begun.start.m1))
    names, m1 = {n: p.name for n, p in chosen.items()}, measured.baseline
    pairs = [(name, m1) for name in measured.scored if name != m1]
    pairs += [(names["all"], names[n]) for n in ("coin", "unread") if {"all", n} <= names.keys()]
    return replace(measured, values=(*measured.values, *score_changes(measured, pairs)))


def _reward_models(
    study: Study[InstructableRewardConfig], principles: tuple[Principle, ...], wanted: set[str]
) -> dict[str, Checkpoint]:
    """Label pairs of M1's answers, and train a reward model on each kind of labels."""
    context, config, m1 = study.context, study.config, study.start.m1
    answered = answers_of(study, m1, study.start.prompts)
    sources = [context.judge(config.by_principle.replace(PLACE, p.text), m1) for p in principles]
    compared = compare_by_principles(
        context, sources, answered.prompts, answered.responses, config.labelling.unit
    )
    kinds = [k for k in ("principles", "coin", "unread") if k in wanted]
    return {kind: _reward_model(study, principles, compared, kind) for kind in kinds}


def _reward_model(
    study: Study[InstructableRewardConfig],
    principles: tuple[Principle, ...],
    compared: list[Compared],
    kind: str,
) -> Checkpoint:
    """Train a reward model on labels of one kind.

    Raises:
        RunFailed: the principles tell no two answers apart.
    """
    context, config, m1 = study.context, study.config, study.start.m1
    groups = label_by_principles(
        context,
        principles,
        compared,
        config.labelling,
        labels="coin" if kind == "coin" else "principles",
        shown=kind != "unread",
        name=f"labels-{kind}",
    )
    if not groups:
        raise RunFailed(
            f"{config.by_principle} tells no two answers of {m1.name} apart (see counts.jsonl of "
            "the labels' stage): raise sample.n or sample.temperature"
        )
    spec = config.train_spec(RewardModel(centre=config.centre), config.reward_training)
    name = f"reward model ({kind})"
    made = f"{m1.name} as a reward model of {len(groups)} labels"
    return train(context, m1, groups, spec, name=name, made=made)


def run_policy(
    study: Study[InstructableRewardConfig], given: PolicyInputs, branch: str
) -> BranchResult:
    """Train a policy, and sample its held-out answers."""
    context, config, m1 = study.context, study.config, study.start.m1
    policy = POLICIES[branch]
    if branch == "sft":
        return answer_held_out(study, _more_sft(study, policy.name))
    learned = watched_rollout(
        context,
        m1,
        study.start.prompts,
        _reward(study, given, policy),
        config.rollout_spec(config.reinforcement.build(), config.rollout),
        name=policy.name,
        made=f"M1 by {config.reinforcement.name.upper()}: {policy.name}",
        truth=context.judge(config.measure.truth, m1) if config.measure.truth else None,
    )
    return answer_held_out(study, learned.checkpoint)


def _reward(
    study: Study[InstructableRewardConfig], given: PolicyInputs, policy: PolicyBranch
) -> FeedbackSource:
    """Return the reward of a policy: a reward model with its principles, or the gold scores."""
    context, config = study.context, study.config
    if not policy.reward_model:
        spec = config.measure.truth or config.measuring_judge
        return context.judge(spec, study.start.m1)
    source = context.learned_reward(given.reward_models[policy.reward_model])
    if policy.reward_model == "unread":
        return source
    texts = [p.text for p in given.principles if p.text != config.steer]
    (steering,) = [p for p in given.principles if p.text == config.steer]
    if policy.steered:
        texts.append(steering.text if policy.steered > 0 else steering.negated)
    return Principled(source, texts)


def _more_sft(study: Study[InstructableRewardConfig], name: str) -> Checkpoint:
    """Imitate the demonstrations further, for as many trained responses as a policy takes."""
    loop, shown = study.config.rollout, study.start.corpus.demonstrations
    steps = loop.steps or math.ceil(len(study.start.prompts) / loop.batch_size) * loop.epochs
    drawn = steps * loop.batch_size * loop.responses * loop.updates
    epochs = max(1, math.ceil(drawn / len(shown)))
    longer = study.using(sft=replace(study.config.sft, epochs=epochs))
    made = f"M1 after {epochs} more epochs of SFT on {len(shown)} demonstrations"
    return sft(longer, study.start.m1, shown, name, made)


def _gold(study: Study[InstructableRewardConfig], given: PolicyInputs) -> list[FeedbackSource]:
    """Return the source of gold scores by each principle."""
    spec, m1 = study.config.gold_principle, study.start.m1
    return [study.context.judge(spec.replace(PLACE, p.text), m1) for p in given.principles]


def _by_principle(
    study: Study[InstructableRewardConfig], given: PolicyInputs, result: BranchResult
) -> list[PerPromptMetric]:
    """Compute each model's gold score by each principle."""
    context, tests, found = study.context, study.start.corpus.test_prompts, []
    for number, source in enumerate(_gold(study, given), start=1):
        text = given.principles[number - 1].text
        for model, answers in result.answers.items():
            stage = f"principle-{number}-{slug(model)}"
            rated = judge(context, source, tests, answers, name=stage)
            read = {f.prompt_id: f.verdict.value for f in rated if isinstance(f.verdict, Score)}
            lost = len(rated) - len(read)
            found.append(
                PerPromptMetric(
                    model, "principles", text, tuple(read), tuple(read.values()), unscored=lost
                )
            )
    return found


def _instructable(
    study: Study[InstructableRewardConfig], given: PolicyInputs
) -> list[PerPromptMetric]:
    """Measure the reward models on M1's answers to held-out prompts."""
    context, m1 = study.context, study.start.m1
    step = study.scope("instructability")
    answered: Answered = answers_of(step, m1, study.start.corpus.test_prompts)
    pairs = differing_pairs(step.context, _gold(study, given), answered.prompts, answered.responses)
    found = []
    for model in given.reward_models.values():
        inner = step.scope(slug(model.name))
        source = context.learned_reward(model)
        found += instructability(inner.context, source, given.principles, pairs, model=model.name)
    return found


register("recipe", "instructable_reward")(
    Recipe(
        name="instructable_reward",
        config=InstructableRewardConfig,
        question="Does a reward model follow the principles that it is shown, and does editing "
        "them steer a policy without new labels?",
        study=study,
        controls={
            "by coin labels": NEGATIVE,
            "more SFT": EQUAL_COMPUTE,
            "by the truth": POSITIVE,
        },
        idle=("eft", "propose", "objective", "preference"),
        options={
            "Principles": ("RL by principles",),
            "Coin labels": ("coin labels",),
        },
    )
)
