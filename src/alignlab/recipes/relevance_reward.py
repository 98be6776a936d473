"""Align a model without preference data by R3 and policy gradients (arXiv 2402.03469).

M0 is tuned on demonstrations: M1. M1 is trained on its own answers, rewarded for relevance to the
question (or the reference), for length if the question is open-ended, and for the absence of
repetition. R3 is compared with its ablations, one per term, with gold scores as the reward if there
are any, and with other sources (a reward model, say), alone and together with R3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import reduce
from typing import Any

from alignlab.configs import NonNegativeInt, PositiveInt, build, refuse_one_of_two
from alignlab.context import RunContext
from alignlab.errors import BadInput, unknown_name
from alignlab.evaluation.metrics.correlation import spearman
from alignlab.feedback.ensemble import Ensemble, EnsembleOptions, Member
from alignlab.feedback.query_types import query_types
from alignlab.feedback.r3 import R3, R3Options, measure_ranges
from alignlab.feedback.r3_ranges import write_ranges
from alignlab.feedback.relevance import relevance_model
from alignlab.measuring.measure import BranchResult, PerPromptMetric, StudyMeasurements
from alignlab.measuring.overoptimization import watched_rollout
from alignlab.objectives.rollout_batch import is_policy_gradient
from alignlab.parallel import Branch
from alignlab.protocols import FeedbackSource
from alignlab.recipes.branches import run_all
from alignlab.recipes.judging import engine_of
from alignlab.recipes.study import (
    Answered,
    Recipe,
    Study,
    StudyConfig,
    answer_held_out,
    answers_of,
    finish,
    imitation_start,
)
from alignlab.registry import get, register
from alignlab.runs import slug
from alignlab.stages.checkpoint_selection import scores_by_prompt
from alignlab.stages.judge import by_prompt
from alignlab.stages.rollout import RolloutLesson
from alignlab.training.rollout_config import RolloutConfig
from alignlab.types import Prompt, Response

REWARDS = {
    "r3": R3Options(),
    "no_branch": R3Options(branch=False),
    "random_types": R3Options(types="random"),
    "no_repetition": R3Options(repetition=False),
    "no_length": R3Options(length=False),
    "relevance": R3Options(length=False, repetition=False, branch=False),
    "length": R3Options(relevance=False, repetition=False, branch=False),
    "relevance_length": R3Options(repetition=False, branch=False),
}
"""Rewards to maximise: R3, and the paper's ablations."""
TRUTH = "truth"
"""Branch whose reward is the gold score (`measure.truth`): the upper bound for any reward."""
BOTH = "+"
"""Sign between the names of rewards whose mean is maximised."""


@dataclass(frozen=True)
class Policy:
    """Settings of one policy gradient that override the study's."""

    options: dict[str, Any] = field(default_factory=dict)
    """Options of the objective."""
    train: dict[str, Any] = field(default_factory=dict)
    """Settings of its training loop, over `rollout`."""


@dataclass(frozen=True)
class RelevanceRewardConfig(StudyConfig):
    """Settings of the study of R3."""

    encoder: str = "minilm"
    """Relevance model: minilm, tfidf, or an encoder's folder or hub id."""
    types: str = "label"
    """Source of R3's query types: label (the data's) or a classifier's folder."""
    rewards: tuple[str, ...] = (
        "relevance:rloo", "length:rloo", "relevance_length:rloo", "no_branch:rloo",
        "random_types:rloo", "r3:rloo", "r3:ppo",
    )  # fmt: skip
    """Branches REWARD:OBJECTIVE: the reward and the policy gradient that maximises it. r3+rm is the
    mean of two rewards, each scaled over the responses to a prompt."""
    sources: dict[str, str] = field(default_factory=dict)
    """Further rewards by name, such as sources.rm=reward_model:FOLDER for the branch rm:rloo."""
    policies: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Objective -> its options, and train: policies.rloo.options.kl_coef=0.05."""
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    """Settings of policy gradients."""
    prompts: NonNegativeInt | str | tuple[str, ...] = 0
    """Prompts that the policies answer: a source or several, as in `data`, or a number of the seed
    data's own; 0 is all that remain."""
    ranged: bool = True
    """Map R3's terms from their range on M1's samples to [0, 1]; off uses raw terms, which suit
    only Contriever."""
    range_prompts: PositiveInt = 100
    """Number of prompts whose samples determine the terms' ranges."""
    dev_prompts: NonNegativeInt = 0
    """Number of prompts on which the best checkpoint is selected by mean reward, every
    `rollout.validate_every` steps; 0 keeps the last."""
    iterations: int = 1
    """Number of rounds: one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.refuse_rounds("relevance_reward")
        refuse_one_of_two(
            ("dev_prompts", self.dev_prompts),
            ("rollout.validate_every", self.rollout.validate_every),
        )
        if not self.rewards or len(set(self.rewards)) < len(self.rewards):
            found = ", ".join(self.rewards) or "none"
            raise BadInput(
                f"setting rewards: expected different names (REWARD:OBJECTIVE), found {found}"
            )
        for branch in self.rewards:
            lesson_of(self, branch)
        taken = [part for branch in self.rewards for part in _parts(branch)]
        for name, spec in self.sources.items():
            if not spec:
                raise BadInput(f"setting sources.{name}: expected a feedback source, found none")
            if name in {*REWARDS, TRUTH}:
                raise BadInput(f"setting sources.{name}: expected a name of its own, not {name!r}")
            if name not in taken:
                raise BadInput(f"setting sources.{name}: expected a branch of it in rewards")

    @property
    def teacher_specs(self) -> dict[str, str]:
        """Return the sources of further rewards that are models."""
        asked = {f"sources.{name}": spec for name, spec in self.sources.items()}
        return {k: spec for k, spec in asked.items() if ":" in engine_of(spec)}


@dataclass(frozen=True)
class RelevanceInputs:
    """Prompts and answers shared by all branches."""

    train: tuple[Prompt, ...]
    dev: tuple[Prompt, ...]
    samples: Answered
    """M1's answers, which determine the ranges of the terms."""


def study(context: RunContext, config: RelevanceRewardConfig) -> StudyMeasurements:
    """Train M1, then one policy per reward, and measure them."""
    begun = imitation_start(context, config)
    m1, tests = begun.start.m1, begun.start.corpus.test_prompts
    given = _given(begun)
    branches = [
        Branch(name, run_reward, (begun.scope(slug(name)), given, name)) for name in config.rewards
    ]
    result = reduce(BranchResult.__add__, run_all(begun, branches), answer_held_out(begun, m1))
    result += BranchResult(values=tuple(_copied(tests, result)))
    return finish(begun, result, context.judge(config.measuring_judge, m1))


def run_reward(
    study: Study[RelevanceRewardConfig], given: RelevanceInputs, branch: str
) -> BranchResult:
    """Train M1 towards one reward, and sample its held-out answers."""
    context, config, m1 = study.context, study.config, study.start.m1
    name = label(branch)
    reward = _reward(study, given, branch)
    truth = context.judge(config.measure.truth, m1) if config.measure.truth else None
    validate = scores_by_prompt(context, reward, given.dev, config.sample) if given.dev else None
    lesson = lesson_of(config, branch)
    learned = watched_rollout(
        context,
        m1,
        given.train,
        reward,
        lesson,
        name=name,
        made=_described(config, branch),
        truth=truth,
        validate=validate,
    )
    result = answer_held_out(study, learned.checkpoint)
    both = [
        (d.reward, d.truth) for d in learned.drift if d.reward is not None and d.truth is not None
    ]
    agreement = spearman(*zip(*both, strict=True)) if len(both) > 2 else None
    if agreement is None:
        return result
    # arXiv 2402.03469, section 4: does the true reward rise with the one that is maximised?
    value = PerPromptMetric(name, "drift", "monotonicity", (f"seed {context.seed}",), (agreement,))
    return result + BranchResult(values=(value,))


def label(branch: str) -> str:
    """Return a branch's name in the report: "r3:ppo" -> "r3 by ppo"."""
    reward, _, objective = branch.partition(":")
    return f"{reward} by {objective}"


def _given(study: Study[RelevanceRewardConfig]) -> RelevanceInputs:
    """Split the data's prompts into training and validation."""
    config, start = study.config, study.start
    known = start.feedback_prompts
    most = len(known) - config.dev_prompts
    if most < max(1, config.most_prompts):
        raise BadInput(
            f"settings prompts and dev_prompts: expected at most the data's {len(known)} prompts "
            f"together, found {config.most_prompts} and {config.dev_prompts}"
        )
    train = known[: config.most_prompts or most]
    dev = known[len(known) - config.dev_prompts :]
    asked = train[: config.range_prompts] if config.ranged else ()
    return RelevanceInputs(train, dev, answers_of(study, start.m1, asked))


def _reward(
    study: Study[RelevanceRewardConfig], given: RelevanceInputs, branch: str
) -> FeedbackSource:
    """Build the reward of a branch: one source, or the mean of several.

    Raises:
        BadInput: gold scores are to be maximised, but there is no source of them.
    """
    sources = [_source(study, given, name) for name in _parts(branch)]
    if len(sources) == 1:
        return sources[0]
    return Ensemble([Member(source) for source in sources], EnsembleOptions(normalise="prompt"))


def _source(
    study: Study[RelevanceRewardConfig], given: RelevanceInputs, name: str
) -> FeedbackSource:
    """Build one reward; R3's terms are mapped from their ranges on M1's samples."""
    context, config = study.context, study.config
    if name in {TRUTH, *config.sources}:
        spec = config.measure.truth if name == TRUTH else config.sources[name]
        if not spec:
            raise BadInput("branch truth: expected measure.truth, a source of the truth")
        return context.judge(spec, study.start.m1)
    options = _options(config, name)
    if context.recorder:
        return context.recorder.source(name)
    types = query_types(options.types, context.completer)
    source = R3(relevance_model(config.encoder), options, types)
    if not config.ranged:
        return source
    with context.run.stage("ranges", config=options) as stage:
        items = by_prompt(given.samples.prompts, given.samples.responses)
        ranges = measure_ranges(source, items, context.seed)
        write_ranges(stage.path / "r3_ranges.json", ranges)
    return replace(source, ranges=ranges)


def _parts(branch: str) -> list[str]:
    return branch.partition(":")[0].split(BOTH)


def _options(config: RelevanceRewardConfig, name: str) -> R3Options:
    options = replace(REWARDS[name], max_response_tokens=config.rollout.max_tokens)
    if options.branch and options.types == "label":
        options = replace(options, types=config.types)
    return options


def lesson_of(config: RelevanceRewardConfig, branch: str) -> RolloutLesson:
    """Return a branch's objective and loop settings.

    Raises:
        BadInput: no such reward, or an objective that does not learn from rollouts.
    """
    names, objective = _parts(branch), branch.partition(":")[2]
    if not objective:
        raise BadInput(f"setting rewards: expected REWARD:OBJECTIVE (r3:rloo), found {branch!r}")
    known = {*REWARDS, TRUTH, *config.sources}
    if unknown := [name for name in names if name not in known]:
        raise unknown_name("reward", unknown[0], known)
    if sum(name in REWARDS for name in names) > 1 or len(set(names)) < len(names):
        raise BadInput(f"branch {branch}: expected different rewards, one of them R3's at most")
    objective_class = get("objective", objective)
    if not is_policy_gradient(objective_class):
        raise BadInput(
            f"branch {branch}: expected a policy gradient (ppo, rloo), found {objective}"
        )
    policy = build(Policy, config.policies.get(objective, {}))
    loop = build(RolloutConfig, asdict(config.rollout), policy.train)
    return config.rollout_spec(build(objective_class, policy.options), loop)


def _copied(prompts: Sequence[Prompt], result: BranchResult) -> list[PerPromptMetric]:
    """Compute the share of answers that repeat the question, which maximises relevance alone."""
    asked = {p.id: _plain(p.text) for p in prompts}

    def copies(response: Response) -> float:
        return float(asked[response.prompt_id] in _plain(response.text))

    return [
        PerPromptMetric(
            model,
            "text",
            "copied_question",
            tuple(r.prompt_id for r in answers),
            tuple(copies(r) for r in answers),
        )
        for model, answers in result.answers.items()
    ]


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _described(config: RelevanceRewardConfig, branch: str) -> str:
    """Describe in one line how a branch's policy is trained."""
    rewards = [_named(config, name) for name in _parts(branch)]
    what = rewards[0] if len(rewards) == 1 else f"the mean of {' and '.join(rewards)}"
    rate = lesson_of(config, branch).config.lr
    return f"M1 by {branch.partition(':')[2]} on {what}, learning rate {rate:g}"


def _named(config: RelevanceRewardConfig, name: str) -> str:
    if name in config.sources:
        return config.sources[name]
    return "the truth" if name == TRUTH else f"R3 with {_changed(REWARDS[name])}"


def _changed(options: R3Options) -> str:
    usual = R3Options()
    changed = [k for k, v in vars(options).items() if v != getattr(usual, k)]
    if not changed:
        return "every term"
    return ", ".join(
        f"{key} {'off' if getattr(options, key) is False else getattr(options, key)}"
        for key in changed
    )


register("recipe", "relevance_reward")(
    Recipe(
        name="relevance_reward",
        config=RelevanceRewardConfig,
        question="Can a reward that reads relevance, length and repetition alone align a model "
        "without preference data?",
        study=study,
        idle=("eft", "propose", "objective", "preference"),
    )
)
