"""Alignment without RL: every objective on the same groups, one table (thesis; document C).

M0 is tuned on demonstrations: M1. M1 answers prompts several times, a critic scores the answers
once, and every method learns from these same groups, beside prompting, more imitation, and policy
gradients whose reward model learned from the same groups. With `groups=data` the groups are those
of the data instead, and held-out preference accuracy is measured beside its guesses.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any, Literal

from alignlab.errors import BadInput
from alignlab.parallel import Branch, run_branches
from alignlab.recipes.rl_free_methods import (
    Given,
    described,
    method,
    run_method,
    trains_reward,
)
from alignlab.recipes.rounds import Round
from alignlab.recipes.study import (
    Answered,
    Recipe,
    Start,
    StudyConfig,
    answers_of,
    imitate,
    trace,
)
from alignlab.registry import get, register
from alignlab.stages.best_of import best_of_values
from alignlab.stages.eft import EFTSettings
from alignlab.stages.judge import judge
from alignlab.stages.lab import Lab, resolve_model
from alignlab.stages.limits import at_least
from alignlab.stages.measure import BranchResult, HeldOut, Judgement, Measured, measure
from alignlab.stages.pair import pair
from alignlab.stages.reward import learned_reward
from alignlab.stages.rso import RSOSettings
from alignlab.stages.seed import seed
from alignlab.stages.train import TrainSpec, slug, train
from alignlab.training.config import TrainConfig
from alignlab.training.rollout_config import RolloutConfig
from alignlab.types import Feedback, PreferenceGroup, Prompt, Response, Score

BRANCHES = (
    "zero_shot", "few_shot", "sft", "preferred_ft", "raft", "reward_conditioned", "joint_feedback",
    "dpo", "ipo", "hinge", "slic", "rso", "kto", "orpo", "simpo", "cpo", "rrhf", "pro", "dpo_pro",
    "ppo", "reinforce", "rloo", "grpo", "rloo_critic", "random_scores",
)  # fmt: skip
OF_A_CRITIC = ("joint_feedback", "rloo_critic")
"""Branches that the data's own groups cannot feed: they need a critic who speaks."""
REWARD_MODEL = "reward model"


@dataclass(frozen=True)
class RLFreeConfig(StudyConfig):
    """Settings of the comparison of objectives."""

    feedback: str = "llm:self"
    """Critic of M1's answers, a feedback source: llm:openai:MODEL@URL, reward_model:FOLDER, ..."""
    groups: Literal["samples", "data"] = "samples"
    """What is learned from: M1's scored answers, or the ranked responses of the data."""
    prompts: int = 400
    """Prompts of the data's own that M1 answers (of its demonstrations, where it has no others);
    0 is all."""
    branches: tuple[str, ...] = ()
    """What is compared: objectives, names in `methods`, and zero_shot, few_shot, raft, rso,
    rloo_critic, random_scores; empty is all that the feedback allows."""
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Branch -> objective, options of it, reward, and train, which changes `preference` (of a
    policy gradient `rollout`): methods.dpo.train.lr=1e-4."""
    reward: Literal["model", "feedback"] = "model"
    """What policy gradients maximise: a reward model trained on the groups, or the critic."""
    reward_training: TrainConfig = field(default_factory=TrainConfig)
    """How that reward model is trained, from M1."""
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    """How policy gradients train."""
    rso: RSOSettings = field(default_factory=RSOSettings)
    raft_rounds: int = 3
    """Rounds of best of n; each answers its share of the prompts with the newest model."""
    shots: int = 2
    """Demonstrations in a few-shot prompt."""
    divergence: int = 128
    """Test prompts on which each model's KL divergence from M1 is measured; 0 measures none."""
    iterations: int = 1
    """There is one round."""
    eft: EFTSettings = field(default_factory=lambda: EFTSettings(targets="human"))
    """Without effect: M1 learns no judgements here."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("", self, prompts=0, raft_rounds=1, shots=1, divergence=0)
        if self.iterations != 1 or self.select.prompts:
            raise BadInput(
                "settings iterations and select.prompts: have no effect in rl_free; leave them out"
            )
        if len(set(self.branches)) < len(self.branches):
            raise BadInput(f"setting branches: expected different names, found {self.branches}")
        for name in (*self.branches, *self.methods):
            method(self, name)

    @property
    def needs_demonstrations(self) -> bool:
        """Ranked responses hold some: the best ones."""
        return self.groups == "samples"

    @property
    def chosen(self) -> tuple[str, ...]:
        """The branches to run."""
        if self.branches:
            return self.branches
        return tuple(b for b in BRANCHES if self.groups == "samples" or b not in OF_A_CRITIC)


def study(lab: Lab, config: RLFreeConfig) -> Measured:
    """M0 -> M1 -> groups -> every branch -> their measurement."""
    from_data = config.groups == "data"
    corpus = seed(lab, config.data, config.corpus, from_groups=from_data)
    m0 = resolve_model(config.model)
    m1 = imitate(lab, config, m0, corpus.demonstrations, "M1")
    start = Start(corpus, m0, m1, m1, corpus.prompts)
    given = of_data(start) if from_data else of_samples(lab, config, start)
    chosen = [n for n in config.chosen if config.branches or n != "joint_feedback" or given.words]
    if any(trains_reward(config, name) for name in chosen):
        given = _with_reward_model(lab, config, given)
    branches = [
        Branch(name, run_method, (lab.scope(slug(name)), config, given, name)) for name in chosen
    ]
    results = run_branches(branches, lab.workers, lab.threads)
    result = reduce(BranchResult.__add__, results, trace(lab, config, start, m1))
    # Guesses about held-out groups are the same in every branch.
    once = {(v.model, v.metric, v.against): v for v in result.values}
    return _finish(lab, config, given, replace(result, values=tuple(once.values())))


def of_samples(lab: Lab, config: RLFreeConfig, start: Start) -> Given:
    """M1's answers, scored by the critic, in groups."""
    known = start.prompts or tuple(d.prompt for d in start.corpus.demonstrations)
    answered = answers_of(lab, config, start.m1, known[: config.prompts or None])
    critic = lab.judge(config.feedback, start.m1)
    feedback = judge(lab, critic, answered.prompts, answered.responses)
    every = replace(config.pairs, keep="all")
    groups = pair(lab, answered.prompts, answered.responses, feedback, every)
    return Given(start, answered, tuple(feedback), tuple(groups))


def of_data(start: Start) -> Given:
    """The data's own groups, as if their writers' responses were M1's.

    Raises:
        BadInput: the data has none.
    """
    groups = start.corpus.groups
    if not groups:
        raise BadInput(f"groups=data: expected ranked responses in {start.corpus.name}, found none")
    feedback = [
        Feedback(g.prompt.id, (r.id,), g.source, Score(s, (s,)))
        for g in groups
        for r, s in zip(g.responses, g.scores, strict=True)
    ]
    answered = Answered(start.m1, tuple(_prompts(groups)), tuple(_responses(groups)))
    return Given(start, answered, tuple(feedback), groups)


def _with_reward_model(lab: Lab, config: RLFreeConfig, given: Given) -> Given:
    """A reward model trained on the groups, from M1."""
    lesson = TrainSpec(get("objective", "reward_model")(), config.reward_training, config.lengths)
    model = train(lab, given.start.m1, given.groups, lesson, name=REWARD_MODEL)
    return replace(given, reward_model=model)


def _finish(lab: Lab, config: RLFreeConfig, given: Given, result: BranchResult) -> Measured:
    """Measure answers where somebody can judge them, the critic, and the reward model."""
    start, from_data = given.start, config.groups == "data"
    held_out = HeldOut(start.corpus.test_prompts, start.corpus.test_groups)
    if not from_data:
        said = Judgement("critic on M1", "own", given.answered.responses, given.feedback)
        result += BranchResult(judgements=(said,), prompts=given.answered.prompts)
    if given.reward_model is not None and held_out.groups:
        result += BranchResult(judgements=(_of_held_out(lab, given),))
    spec = config.measure.judge or ("" if from_data else config.feedback)
    if not spec:
        return Measured(
            lab.seed, "M1", held_out, result.answers, {}, {}, result.judgements, {}, (), {},
            result.values,
        )  # fmt: skip
    settings = replace(config.measure, judge=spec)
    measured = measure(lab, settings, held_out, result, start.m1, lab.judge(spec, start.m1))
    truths = list(measured.truths.values())
    best = () if from_data else best_of_values(given.feedback, truths)
    return replace(measured, values=(*measured.values, *best))


def _of_held_out(lab: Lab, given: Given) -> Judgement:
    """The reward model's scores of the held-out groups."""
    assert given.reward_model is not None
    groups = given.start.corpus.test_groups
    responses = _responses(groups)
    source = learned_reward(lab, given.reward_model)
    feedback = judge(lab, source, _prompts(groups), responses, name="judge-held-out")
    return Judgement(REWARD_MODEL, "held-out", tuple(responses), tuple(feedback))


def _prompts(groups: tuple[PreferenceGroup, ...]) -> list[Prompt]:
    return list({g.prompt.id: g.prompt for g in groups}.values())


def _responses(groups: tuple[PreferenceGroup, ...]) -> list[Response]:
    return [r for g in groups for r in g.responses]


def _models(config: RLFreeConfig) -> dict[str, str]:
    return {"M1": "M0 tuned on demonstrations"} | {
        name: described(config, name) for name in config.chosen
    }


def _rounds(config: RLFreeConfig) -> tuple[Round, ...]:
    if config.groups == "data":
        return ()
    k = config.sample.n
    first = Round(config.prompts, samples=k, source=config.feedback)
    later = "raft" in config.chosen and config.raft_rounds > 1
    share = config.prompts * (config.raft_rounds - 1) // config.raft_rounds
    return (first, Round(share, samples=k, source=config.feedback)) if later else (first,)


register("recipe", "rl_free")(
    Recipe(
        name="rl_free",
        config=RLFreeConfig,
        question="Which objective makes most of the same scored answers, and does it take "
        "reinforcement learning?",
        study=study,
        models=_models,
        rounds=_rounds,
    )
)
