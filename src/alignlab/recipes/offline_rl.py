"""Learn from logged answers and their scores alone: return-conditioned training and its rivals.

M1 answers prompts several times and a critic scores the answers once. A model is trained on all of
them, each after the bin of its score, and sampled from the best bin (upside-down reinforcement
learning, arXiv 1912.02877; Decision Transformer, arXiv 2106.01345; Quark, arXiv 2205.13636). Rivals
on the same log: the best share of all answers imitated (the paper's %BC), the best of n imitated,
best over worst by DPO, and the best of n drawn at sampling time. Controls: all answers imitated
(SFT at equal compute), shuffled scores, and the best of n by the truth. Departures: an answer is
one action with one return; bins are texts; no further samples are drawn (Quark draws some).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Annotated, NamedTuple

from pydantic import Field

from alignlab import seeds
from alignlab.configs import NonNegative
from alignlab.context import RunContext
from alignlab.errors import BadInput, RunFailed, refuse_unknown
from alignlab.measuring.best_of_n import best_of_values
from alignlab.measuring.changes import changes, values_by_prompt
from alignlab.measuring.measure import BranchResult, Judgement, StudyMeasurements
from alignlab.objectives.reward_conditioned import RewardConditioned
from alignlab.objectives.sft import SFT
from alignlab.parallel import Branch
from alignlab.recipes.branches import run_all
from alignlab.recipes.controls import EQUAL_COMPUTE, NEGATIVE, POSITIVE
from alignlab.recipes.critic import CriticConfig, scored_answers
from alignlab.recipes.study import (
    Answered,
    Recipe,
    Study,
    answer_held_out,
    finish,
    imitation_start,
    preference_train,
)
from alignlab.registry import register
from alignlab.stages.best_of import best_of
from alignlab.stages.judge import by_prompt, judge, scores
from alignlab.stages.pair import pair
from alignlab.stages.sample import answer, sample
from alignlab.stages.train import train
from alignlab.training.conditioning import AtBin
from alignlab.training.record_kinds import Record
from alignlab.types import (
    Checkpoint,
    Count,
    Demonstration,
    Feedback,
    PreferenceGroup,
)

TWIN = "all imitated"
"""Model of the control at equal compute, with which all others are compared."""


@dataclass(frozen=True)
class OfflineRLConfig(CriticConfig):
    """Settings of learning from logged answers and their scores."""

    bins: Annotated[int, Field(ge=2)] = 4
    """Number of bins of scores, of about equally many answers each."""
    top_share: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Share of all answers, the best ones, that the branch `top` imitates."""
    least: float | None = None
    """Lowest score of a best answer that is imitated, such as 1 with a checker, whose best of all
    wrong answers is wrong; none imitates the best answer to every prompt."""
    imitation_lr: NonNegative = 0.0
    """Learning rate of branches trained by likelihood; 0 is `sft.lr`."""
    branches: tuple[str, ...] = ()
    """Branches to run, by name; empty runs all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.refuse_rounds("offline_rl")
        refuse_unknown("branch", self.branches, BRANCHES)
        if self.sample.n < 2:
            raise BadInput("setting sample.n: expected 2 answers or more to a prompt, found 1")
        if self.pairs.keep != "best_worst":
            raise BadInput("setting pairs.keep: expected best_worst in offline_rl; leave it out")
        if "truth" in self.branches and not self.measure.truth:
            raise BadInput("branch truth: expected a source of the truth: measure.truth=")
        if self.least is not None and not {"best_of_n", "truth"} & set(self.chosen):
            raise BadInput(
                "setting least: has no effect without branch best_of_n or truth; leave it out"
            )

    @property
    def chosen(self) -> tuple[str, ...]:
        """Return the branches to run; without a source of the truth all but its own."""
        usual = [n for n in BRANCHES if self.measure.truth or n != "truth"]
        return tuple(n for n in BRANCHES if n in (self.branches or usual))


@dataclass(frozen=True)
class Logged:
    """M1's answers with their scores, the only data of all branches."""

    answered: Answered
    feedback: tuple[Feedback, ...]
    groups: tuple[PreferenceGroup, ...]
    """All scored answers by prompt, best first."""

    def epochs(self, config: OfflineRLConfig, responses: int) -> int:
        """Return the passes over so many responses that train about as many as the pairs do."""
        budget = 2 * config.preference.epochs * len(self.groups)  # a pair trains two responses
        return max(1, round(budget / responses))


class Imitation(NamedTuple):
    """Training by likelihood: the next model's name, and what it learns from."""

    name: str
    how: str
    records: Sequence[Record]
    responses: int
    """Number of responses in the records."""
    objective: RewardConditioned | SFT = SFT()


def study(context: RunContext, config: OfflineRLConfig) -> StudyMeasurements:
    """Train M1, log its scored answers, train every branch on the log, and measure them."""
    begun = imitation_start(context, config)
    answered, feedback = scored_answers(begun)
    logged = Logged(answered, feedback, tuple(_log(begun, answered, feedback)))
    branches = [Branch(n, _run, (begun.scope(n), logged, n)) for n in config.chosen]
    result = reduce(BranchResult.__add__, run_all(begun, branches), _first(begun, logged))
    measured = finish(begun, result, context.judge(config.measuring_judge, begun.start.m1))
    best = best_of_values(feedback, list(measured.gold.values()))
    values = values_by_prompt(measured.scored)
    twins = [(model, TWIN) for model in values if model != TWIN]
    apart = changes(values, twins, "score", "score_change")
    return replace(measured, values=(*measured.values, *best, *apart))


def _first(study: Study[OfflineRLConfig], logged: Logged) -> BranchResult:
    """Measure M1, and its critic on the logged answers."""
    given = logged.answered
    judgement = Judgement("critic on M1", "own", given.responses, logged.feedback)
    judged = BranchResult(judgements=(judgement,), prompts=given.prompts)
    return answer_held_out(study, study.start.m1) + judged


def _log(
    study: Study[OfflineRLConfig], answered: Answered, feedback: Sequence[Feedback]
) -> list[PreferenceGroup]:
    """Group all scored answers by prompt, equal scores and texts included.

    Raises:
        RunFailed: no prompt has two scored answers.
    """
    known, source = scores(feedback), feedback[0].source if feedback else ""
    asked = by_prompt(answered.prompts, answered.responses)
    groups: list[PreferenceGroup] = []
    with study.context.run.stage("log") as stage:
        for prompt, several in asked:
            rated = sorted((r for r in several if r.id in known), key=lambda r: -known[r.id])
            if len(rated) > 1:
                values = tuple(known[r.id] for r in rated)
                groups.append(PreferenceGroup(prompt, tuple(rated), values, source))
        lost = len(asked) - len(groups)
        if not stage.done:
            reasons = {"fewer than two scored responses": lost} if lost else {}
            stage.count([Count(stage.name, "prompts", len(groups), reasons)])
    if not groups:
        raise RunFailed("no prompt has two scored answers (see counts.jsonl of the judge stage)")
    return groups


def _run(study: Study[OfflineRLConfig], logged: Logged, name: str) -> BranchResult:
    return BRANCHES[name](study, logged)


def return_conditioned(study: Study[OfflineRLConfig], logged: Logged) -> BranchResult:
    """Train on all answers given the bins of their scores, and sample from each bin."""
    learned = _conditioned(study, logged, "return-conditioned", "their scores")
    result, context, count = answer_held_out(study, learned), study.context, study.config.bins
    prompts = study.start.corpus.test_prompts
    for number in range(1, count):
        name = f"return-conditioned, bin {number} of {count}"
        engine = AtBin(context.engine(learned), number, count, name)
        answers = answer(context, engine, prompts, study.config.sample)
        made = f"the same model, sampled from bin {number} (1 is the worst)"
        result += BranchResult(answers={name: answers}, made={name: made})
    return result


def shuffled_returns(study: Study[OfflineRLConfig], logged: Logged) -> BranchResult:
    """Train on all answers with their scores dealt out at random, the control."""
    dealt = shuffled_scores(logged.groups, study.context.seed_for("shuffled returns"))
    random = replace(logged, groups=tuple(dealt))
    learned = _conditioned(study, random, "shuffled returns", "scores dealt out at random")
    return answer_held_out(study, learned)


def shuffled_scores(groups: Sequence[PreferenceGroup], seed: int) -> list[PreferenceGroup]:
    """Deal the scores of all groups out at random; each group stays best first."""
    every = [s for group in groups for s in group.scores]
    left = iter([every[i] for i in seeds.generator(seed).permutation(len(every))])
    found = []
    for group in groups:
        dealt = sorted(((next(left), r) for r in group.responses), key=lambda pair: -pair[0])
        values, responses = zip(*dealt, strict=True)
        found.append(replace(group, responses=responses, scores=values, source="shuffled"))
    return found


def top_answers(study: Study[OfflineRLConfig], logged: Logged) -> BranchResult:
    """Imitate the best share of all answers, whatever their prompts (%BC)."""
    share, every = study.config.top_share, _demonstrations(logged)
    known, seed = scores(logged.feedback), study.context.seed_for("ties")
    every.sort(key=lambda d: (-known[d.response.id], seeds.derive(seed, d.response.id)))
    best = every[: max(1, round(share * len(every)))]
    return _imitated(study, logged, best, (f"best {share:.0%} imitated", "the best of all answers"))


def all_answers(study: Study[OfflineRLConfig], logged: Logged) -> BranchResult:
    """Imitate all answers, the control at equal compute."""
    return _imitated(study, logged, _demonstrations(logged), (TWIN, "all its answers"))


def best_of_n(study: Study[OfflineRLConfig], logged: Logged) -> BranchResult:
    """Imitate the best answer to every prompt by the critic."""
    given, n = logged.answered, study.config.sample.n
    best = best_of(
        study.context, given.prompts, given.responses, logged.feedback, least=study.config.least
    )
    how = "the best answer to a prompt" + _at_least(study)
    return _imitated(study, logged, best, (f"best of {n} imitated", how))


def best_by_truth(study: Study[OfflineRLConfig], logged: Logged) -> BranchResult:
    """Imitate the best answer to every prompt by the truth, the positive control."""
    given, n, context = logged.answered, study.config.sample.n, study.context
    truth = context.judge(study.config.measure.truth, study.start.m1)
    feedback = judge(context, truth, given.prompts, given.responses)
    best = best_of(context, given.prompts, given.responses, feedback, least=study.config.least)
    name, how = f"best of {n} by the truth imitated", "the truly best answer to a prompt"
    return _imitated(study, logged, best, (name, how + _at_least(study)))


def _at_least(study: Study[OfflineRLConfig]) -> str:
    least = study.config.least
    return "" if least is None else f", where it scores {least:g} or more"


def preferences(study: Study[OfflineRLConfig], logged: Logged) -> BranchResult:
    """Prefer the best answer to the worst by the study's objective."""
    given, config, m1 = logged.answered, study.config, study.start.m1
    groups = pair(study.context, given.prompts, given.responses, logged.feedback, config.pairs)
    method = config.preference_method
    made = f"M1 after {method} on {len(groups)} pairs, {config.preference.epochs} epochs"
    learned = preference_train(study, m1, groups, f"best over worst by {method}", made)
    return answer_held_out(study, learned)


def best_at_sampling(study: Study[OfflineRLConfig], logged: Logged) -> BranchResult:
    """Draw n answers of M1 to every held-out prompt, and keep the best by the critic."""
    context, config, m1 = study.context, study.config, study.start.m1
    prompts, n = study.start.corpus.test_prompts, config.sample.n
    drawn = sample(context, context.engine(m1), prompts, config.sample, purpose="best at sampling")
    critic = context.judge(config.feedback, m1)
    feedback = judge(context, critic, prompts, drawn)
    kept = [d.response for d in best_of(context, prompts, drawn, feedback)]
    name = f"best of {n} at sampling"
    made = f"no training: the best of {n} answers of M1 to every prompt by the critic"
    return BranchResult(answers={name: kept}, made={name: made})


def _demonstrations(logged: Logged) -> list[Demonstration]:
    return [Demonstration(g.prompt, r) for g in logged.groups for r in g.responses]


def _conditioned(study: Study[OfflineRLConfig], logged: Logged, name: str, by: str) -> Checkpoint:
    """Train on all answers, each after the bin of its score."""
    bins, responses = study.config.bins, sum(len(g.responses) for g in logged.groups)
    how = f"all its answers, each after one of {bins} bins of {by}"
    what = Imitation(name, how, logged.groups, responses, RewardConditioned(bins=bins))
    return _by_likelihood(study, logged, what)


def _imitated(
    study: Study[OfflineRLConfig],
    logged: Logged,
    shown: Sequence[Demonstration],
    called: tuple[str, str],
) -> BranchResult:
    """Imitate demonstrations, and answer the held-out prompts."""
    name, how = called
    learned = _by_likelihood(study, logged, Imitation(name, how, shown, len(shown)))
    return answer_held_out(study, learned)


def _by_likelihood(study: Study[OfflineRLConfig], logged: Logged, what: Imitation) -> Checkpoint:
    """Train M1 by likelihood for about as many responses as the pairs do."""
    config, m1 = study.config, study.start.m1
    loop = replace(
        config.sft,
        lr=config.imitation_lr or config.sft.lr,
        epochs=logged.epochs(config, what.responses),
        batch_size=config.preference.batch_size,
    )
    spec = config.train_spec(what.objective, loop)
    made = f"M1 after SFT on {what.how} ({what.responses}), {loop.epochs} epochs"
    return train(study.context, m1, what.records, spec, name=what.name, made=made)


BRANCHES: Mapping[str, Callable[[Study[OfflineRLConfig], Logged], BranchResult]] = {
    "returns": return_conditioned,
    "top": top_answers,
    "best_of_n": best_of_n,
    "preferences": preferences,
    "best_at_sampling": best_at_sampling,
    "all": all_answers,
    "shuffled": shuffled_returns,
    "truth": best_by_truth,
}
"""Name -> branch."""


register("recipe", "offline_rl")(
    Recipe(
        name="offline_rl",
        config=OfflineRLConfig,
        question="Does a model that is trained on returns and asked for the best one beat "
        "preferring, imitating or drawing the best answer?",
        study=study,
        controls={
            "shuffled returns": NEGATIVE,
            "all imitated": EQUAL_COMPUTE,
            "by the truth imitated": POSITIVE,
        },
        idle=("eft", "propose"),
        options={
            "Return-conditioned": ("return-conditioned",),
            "Best answers imitated": ("best ",),
        },
    )
)
