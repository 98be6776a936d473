"""Train a reward model on its own confident labels (SER, arXiv 2411.00418).

A share of the pairs is labelled: RM0. Each round labels the other pairs with the newest reward
model, keeps those that it is sure of, and trains it further on them and on those of the round
before: RM1, RM2, ... Controls: RM0 itself, a reward model of all labels, the same rounds with
labels by coin, and with every pair kept. Policies are then trained from M1 by each reward.
Departures: the loss is the log-sigmoid of the authors' code, not the paper's hinge; rounds end when
no pair passes, not by held-out accuracy, which is reported for every round; policies are trained
by RLOO on standardised rewards.
"""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from functools import reduce

from alignlab.configs import build
from alignlab.context import RunContext
from alignlab.errors import BadInput
from alignlab.feedback.rules import RandomJudge
from alignlab.feedback.standardised import Standardised
from alignlab.measuring.measure import BranchResult, StudyMeasurements
from alignlab.measuring.overoptimization import watched_rollout
from alignlab.measuring.reward_pairs import longer_wins, pair_accuracy, rival_changes
from alignlab.parallel import Branch
from alignlab.protocols import FeedbackSource
from alignlab.recipes.branches import run_all
from alignlab.recipes.controls import EQUAL_COMPUTE, NEGATIVE, POSITIVE
from alignlab.recipes.reward_rounds import (
    FULL_MODEL,
    POLICIES,
    SEED_MODEL,
    RewardData,
    RewardStart,
    SelfEvolved,
    SelfEvolvedRewardConfig,
    evolve,
    reward_data,
    rewards_of,
    train_reward,
)
from alignlab.recipes.study import Recipe, answer_held_out, finish, imitation_start, sft
from alignlab.registry import register
from alignlab.stages.judge import judge, scores
from alignlab.stages.pair import best_as_demonstrations
from alignlab.stages.pseudo_labels import keep_sure
from alignlab.training.config import TrainConfig
from alignlab.types import Checkpoint


def study(context: RunContext, config: SelfEvolvedRewardConfig) -> StudyMeasurements:
    """Train RM0, its branches, and a policy by each reward; measure them."""
    begun = imitation_start(context, config, from_groups=config.groups == "data")
    given = reward_data(begun)
    model = train_reward(begun, begun.start.m1, given.labelled, SEED_MODEL)
    first = RewardStart(model, rewards_of(begun, model, given.held_out, "held-out"))
    known = (
        *pair_accuracy(SEED_MODEL, given.held_out, first.rewards),
        longer_wins(given.held_out),
    )
    result = answer_held_out(begun, begun.start.m1) + BranchResult(values=known)
    branches = [Branch(n, evolve, (begun.scope(n), given, first, n)) for n in config.branches]
    evolved = dict(zip(config.branches, run_all(begun, branches, used_later=True), strict=True))
    result = reduce(BranchResult.__add__, evolved.values(), result)
    own = [f"RM{number}" for number in range(1, config.iterations + 1)]
    rivals = [
        (n, rival) for n in own for rival in (f"{n} by coin", f"{n} on all pairs", FULL_MODEL)
    ]
    result += BranchResult(values=tuple(rival_changes(result.values, rivals)))
    models = {"seed": model}
    models |= {
        name: evolved[branch].checkpoints[-1]
        for name, branch in {"last": "own", "sft": "own", "full": "full"}.items()
        if branch in evolved
    }
    policies = [
        Branch(n, train_policy, (begun.scope(f"policy-{n}"), given, n, models.get(n)))
        for n in config.policies
    ]
    result = reduce(BranchResult.__add__, run_all(begun, policies), result)
    return finish(begun, result, context.judge(config.measuring_judge, begun.start.m1))


def train_policy(
    study: SelfEvolved, given: RewardData, name: str, model: Checkpoint | None
) -> BranchResult:
    """Train M1 towards one reward, or on its choices, and sample its held-out answers."""
    context, config, m1 = study.context, study.config, study.start.m1
    if name == "sft":
        assert model is not None
        return answer_held_out(study, _imitate_choices(study, given, model))
    objective = config.policy.build()
    title = f"{config.policy.name.upper()} {POLICIES[name]}"
    learned = watched_rollout(
        context,
        m1,
        given.prompts,
        _reward_of(study, given, name, model),
        config.rollout_spec(objective, config.rollout),
        name=title,
        made=f"M1 by {config.policy.name} on the standardised reward {POLICIES[name]}, learning "
        f"rate {config.rollout.lr:g}",
        truth=context.judge(config.measure.truth, m1) if config.measure.truth else None,
    )
    return answer_held_out(study, learned.checkpoint)


def _reward_of(
    study: SelfEvolved, given: RewardData, name: str, model: Checkpoint | None
) -> FeedbackSource:
    """Return a policy's reward, standardised over the responses of all pairs."""
    context, config = study.context, study.config
    source: FeedbackSource = RandomJudge()
    if model is not None:
        source = context.learned_reward(model)
    elif name == "truth" and not config.measure.truth:
        raise BadInput("setting policies: truth needs measure.truth, a source of gold scores")
    elif name == "truth":
        source = context.judge(config.measure.truth, study.start.m1)
    every = (*given.labelled, *given.pool)
    asked = [both.prompt for both in every]
    responses = [r for both in every for r in both.responses]
    known = scores(judge(context, source, asked, responses, name="reward-scale"))
    return source if context.recorder else Standardised.on(source, list(known.values()))


def _imitate_choices(study: SelfEvolved, given: RewardData, model: Checkpoint) -> Checkpoint:
    """Imitate the response of every pair with the higher reward, at a policy's responses."""
    config = study.config
    every = (*given.labelled, *given.pool)
    every_pair = replace(config.keep, select="all")
    chosen = keep_sure(study.context, every, rewards_of(study, model, every, "all"), every_pair)
    shown = best_as_demonstrations(chosen.groups)
    loop = config.rollout
    steps = loop.steps or loop.epochs * math.ceil(len(given.prompts) / loop.batch_size)
    trained = steps * loop.batch_size * loop.responses * loop.updates
    epochs = max(1, round(trained / max(1, len(shown))))
    made = f"M1 after SFT on the {len(shown)} responses that {model.name} prefers, {epochs} epochs"
    settings = build(TrainConfig, asdict(config.sft), {"epochs": epochs})
    return sft(study.using(sft=settings), study.start.m1, shown, POLICIES["sft"], made)


register("recipe", "self_evolved_reward")(
    Recipe(
        name="self_evolved_reward",
        config=SelfEvolvedRewardConfig,
        question="Does a reward model that learns from its own sure labels of pairs come near one "
        "that has all labels, and does a policy gain by it?",
        study=study,
        controls={
            "by random scores": NEGATIVE,
            "RM's choices": EQUAL_COMPUTE,
            "by the truth": POSITIVE,
        },
        idle=("eft", "propose", "objective", "preference"),
        options={
            "The evolved reward": (POLICIES["last"],),
            "The seed reward": (POLICIES["seed"],),
        },
    )
)
