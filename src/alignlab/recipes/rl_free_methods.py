"""The methods that `rl_free` compares: from the same groups to a model and its measurement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from alignlab import registry
from alignlab.configs import build
from alignlab.errors import BadInput, unknown_name
from alignlab.feedback.rules import RandomJudge
from alignlab.objectives.base import Objective
from alignlab.objectives.rollout_batch import is_policy_gradient
from alignlab.protocols import FeedbackSource
from alignlab.recipes.study import Answered, Start, answers_of, trace
from alignlab.stages.answer import answer
from alignlab.stages.best_of import best_of
from alignlab.stages.divergence import divergence
from alignlab.stages.drift import watched_rollout
from alignlab.stages.held_out import held_out_values
from alignlab.stages.judge import judge
from alignlab.stages.lab import Lab
from alignlab.stages.measure import BranchResult
from alignlab.stages.pair import pair
from alignlab.stages.reward import learned_reward
from alignlab.stages.rollout import RolloutLesson
from alignlab.stages.rso import rso
from alignlab.stages.shots import FewShot
from alignlab.stages.train import TrainSpec, train
from alignlab.training.config import TrainConfig
from alignlab.training.record_kinds import Record, record_kind
from alignlab.training.rollout_config import RolloutConfig
from alignlab.types import (
    Checkpoint,
    CritiquedResponse,
    Demonstration,
    Feedback,
    PreferenceGroup,
)

if TYPE_CHECKING:
    from alignlab.recipes.rl_free import RLFreeConfig


@dataclass(frozen=True)
class Method:
    """How one branch learns, where that differs from its defaults."""

    objective: str = ""
    """An objective's name; empty is the branch's own."""
    options: dict[str, Any] = field(default_factory=dict)
    """The objective's options."""
    train: dict[str, Any] = field(default_factory=dict)
    """Settings of the training loop that differ from the study's."""
    reward: Literal["", "model", "feedback"] = ""
    """What a policy gradient maximises; empty is the study's `reward`."""


class Learner(NamedTuple):
    """A branch's objective and the settings of its loop."""

    objective: Any
    config: TrainConfig | RolloutConfig | None
    """None where nothing is trained."""
    reward: str = ""
    """What a policy gradient maximises: "model" or "feedback"."""


@dataclass(frozen=True)
class Given:
    """What every branch starts from."""

    start: Start
    answered: Answered
    """The responses that were scored, M1's or the data's."""
    feedback: tuple[Feedback, ...]
    groups: tuple[PreferenceGroup, ...]
    """The same in groups, best first."""
    reward_model: Checkpoint | None = None
    """Trained on the groups."""

    @property
    def words(self) -> dict[str, str]:
        """Response id -> what the critic said of it, where that is more than a number."""
        said = {f.response_ids[0]: (*f.raw, f.rationale)[0].strip() for f in self.feedback}
        return {response: text for response, text in said.items() if text}


PROMPTING = ("zero_shot", "few_shot")
"""Branches without training."""
USUAL = {"raft": "sft", "rso": "hinge", "random_scores": "dpo", "rloo_critic": "rloo"}
"""The objectives of branches that are not called by theirs."""
HOW = {
    "zero_shot": "the base model M0 as it is",
    "few_shot": "M0 with demonstrations in its prompt",
    "sft": "M1 after more of the same demonstrations",
    "raft": "best of n imitated, round after round",
    "rso": "pairs by rejection sampling",
    "random_scores": "the control: the same answers with random scores",
}


def method(config: RLFreeConfig, name: str) -> Learner:
    """The branch's objective and loop.

    Raises:
        BadInput: no such branch, or settings that it does not have or that change nothing.
    """
    chosen = build(Method, config.methods.get(name, {}))
    if name in PROMPTING:
        if name in config.methods:
            raise BadInput(f"setting methods.{name}: has no effect: nothing is trained")
        return Learner(None, None)
    objectives = set(registry.names("objective")) - {"reward_model"}
    wanted = chosen.objective or USUAL.get(name, name)
    if wanted not in objectives:
        raise unknown_name("branch", wanted, objectives | set(HOW) | set(config.methods))
    objective = build(registry.get("objective", wanted), chosen.options)
    if is_policy_gradient(objective):
        if name in ("raft", "rso", "random_scores"):
            raise BadInput(f"setting methods.{name}.objective: expected one over groups")
        usual = "feedback" if name == "rloo_critic" else config.reward
        loop = build(RolloutConfig, asdict(config.rollout), chosen.train)
        return Learner(objective, loop, chosen.reward or usual)
    if chosen.reward:
        raise BadInput(f"setting methods.{name}.reward: has no effect on {wanted}; leave it out")
    return Learner(objective, build(TrainConfig, asdict(config.preference), chosen.train))


def described(config: RLFreeConfig, name: str) -> str:
    """One line that says how the branch's model is made."""
    made = method(config, name)
    if name in PROMPTING or made.config is None:
        return HOW[name]
    loop, what = made.config, HOW.get(name, "M1 trained on the groups")
    if is_policy_gradient(made.objective):
        by = "a reward model of the groups" if made.reward == "model" else "the critic itself"
        what = f"M1 trained on its own answers, rewarded by {by}"
    return f"{what}: {made.objective!r}, learning rate {loop.lr:g}"


def trains_reward(config: RLFreeConfig, name: str) -> bool:
    """Whether a branch needs the reward model."""
    if is_policy_gradient(method(config, name).objective):
        return method(config, name).reward == "model"
    return config.groups == "data" and name in ("raft", "rso")


def run_method(lab: Lab, config: RLFreeConfig, given: Given, name: str) -> BranchResult:
    """Make a branch's model and let it answer."""
    if name in PROMPTING:
        return _prompted(lab, config, given, name)
    made = method(config, name)
    special: dict[str, Callable[..., Checkpoint]] = {
        "raft": _raft,
        "rso": _rso,
        "random_scores": _random_scores,
    }
    how = _policy_gradient if is_policy_gradient(made.objective) else special.get(name, _offline)
    learned = how(lab, config, given, name)
    return _measured(lab, config, given, learned, made.objective)


def _prompted(lab: Lab, config: RLFreeConfig, given: Given, name: str) -> BranchResult:
    base = lab.engine(replace(given.start.m0, name=name))
    if name == "few_shot":
        corpus = given.start.corpus
        base = FewShot(base, corpus.demonstrations[: config.shots], name)
    answers = answer(lab, base, given.start.corpus.test_prompts, config.sample)
    return BranchResult(answers={name: answers})


def _offline(lab: Lab, config: RLFreeConfig, given: Given, name: str) -> Checkpoint:
    """Train M1 on the groups, in the form that the objective takes."""
    return _learn(lab, config, given.start.m1, _records(given, config, name), name)


def _rso(lab: Lab, config: RLFreeConfig, given: Given, name: str) -> Checkpoint:
    """Train M1 on pairs that rejection sampling leaves of its scored answers."""
    groups: Sequence[PreferenceGroup] = given.groups
    if config.groups == "data":
        answered = answers_of(lab, config, given.start.m1, given.answered.prompts)
        groups = _grouped(lab, config, answered, _critic(lab, config, given))
    pairs = rso(lab, groups, config.rso, name="pairs")
    return _learn(lab, config, given.start.m1, pairs, name)


def _random_scores(lab: Lab, config: RLFreeConfig, given: Given, name: str) -> Checkpoint:
    """The control: the same responses, scored by chance."""
    groups = _grouped(lab, config, given.answered, RandomJudge())
    chance = replace(given, groups=tuple(groups))
    return _learn(lab, config, given.start.m1, _records(chance, config, name), name)


def _raft(lab: Lab, config: RLFreeConfig, given: Given, name: str) -> Checkpoint:
    """Imitate the best of n, each round with the newest model and its share of the prompts."""
    prompts, rounds = given.answered.prompts, config.raft_rounds
    model = given.start.m1
    for number in range(rounds):
        share, step = prompts[number::rounds], lab.scope(f"round-{number + 1}")
        if number == 0 and config.groups == "samples":
            answered, feedback = given.answered, given.feedback
        else:
            answered = answers_of(step, config, model, share)
            critic = _critic(step, config, given)
            feedback = tuple(judge(step, critic, share, answered.responses))
        best = best_of(step, share, answered.responses, feedback)
        called = name if number == rounds - 1 else f"{name} round {number + 1}"
        model = _learn(step, config, model, best, called, of=name)
    return model


def _policy_gradient(lab: Lab, config: RLFreeConfig, given: Given, name: str) -> Checkpoint:
    """Train M1 on its own answers, as it gives them."""
    made = method(config, name)
    assert isinstance(made.config, RolloutConfig)
    start = given.start
    if made.reward == "feedback":
        reward = lab.judge(config.feedback, start.m1)
    else:
        assert given.reward_model is not None
        reward = learned_reward(lab, given.reward_model)
    truth = lab.judge(config.measure.truth, start.m1) if config.measure.truth else None
    lesson = RolloutLesson(made.objective, made.config, config.lengths.max_prompt_tokens)
    prompts = given.answered.prompts
    learned = watched_rollout(lab, start.m1, prompts, reward, lesson, name=name, truth=truth)
    return learned.checkpoint


def _learn(
    lab: Lab,
    config: RLFreeConfig,
    parent: Checkpoint,
    records: Sequence[Record],
    name: str,
    *,
    of: str = "",
) -> Checkpoint:
    made = method(config, of or name)
    assert made.config is not None
    lesson = TrainSpec(made.objective, made.config, config.lengths)
    return train(lab, parent, records, lesson, name=name)


def _records(given: Given, config: RLFreeConfig, name: str) -> Sequence[Record]:
    """The groups in the form that an objective takes."""
    objective: Objective = method(config, name).objective
    kind = record_kind(objective)
    if kind is Demonstration:
        return given.start.corpus.demonstrations
    if kind is CritiquedResponse:
        return _commented(given, name)
    if objective.max_responses == 2:
        return [ends for g in given.groups if (ends := g.best_and_worst()) is not None]
    return given.groups


def _commented(given: Given, name: str) -> list[CritiquedResponse]:
    """Responses with what the critic said of them.

    Raises:
        BadInput: the critic gives numbers alone.
    """
    asked = {p.id: p for p in given.answered.prompts}
    said = given.words
    found = [
        CritiquedResponse(asked[r.prompt_id], r, said[r.id])
        for r in given.answered.responses
        if r.id in said
    ]
    if not found:
        raise BadInput(
            f"branch {name}: expected feedback in words, found numbers alone; take another critic "
            "(feedback=llm:...) or leave the branch out (branches=[...])"
        )
    return found


def _critic(lab: Lab, config: RLFreeConfig, given: Given) -> FeedbackSource:
    """Who scores new answers: the critic, or what was learned of the data's groups."""
    if config.groups == "samples":
        return lab.judge(config.feedback, given.start.m1)
    assert given.reward_model is not None
    return learned_reward(lab, given.reward_model)


def _grouped(
    lab: Lab, config: RLFreeConfig, answered: Answered, source: FeedbackSource
) -> list[PreferenceGroup]:
    feedback = judge(lab, source, answered.prompts, answered.responses)
    every = replace(config.pairs, keep="all")
    return pair(lab, answered.prompts, answered.responses, feedback, every)


def _measured(
    lab: Lab, config: RLFreeConfig, given: Given, learned: Checkpoint, objective: Objective
) -> BranchResult:
    """Answers, distance from M1, and accuracy on held-out groups where they are like the data's."""
    start = given.start
    result = trace(lab, config, start, learned)
    if config.divergence:
        prompts = start.corpus.test_prompts[: config.divergence]
        far = divergence(lab, learned, start.m1, prompts, config.sample.max_tokens)
        result += BranchResult(values=(far,))
    if config.groups == "data" and start.corpus.test_groups:
        groups = (given.groups, start.corpus.test_groups)
        models = (start.m1, learned)
        found = held_out_values(lab, objective, models, groups, config.lengths)
        result += BranchResult(values=found)
    return result
