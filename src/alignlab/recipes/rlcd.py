"""Train on pairs without a judge: contrast distillation, RLCD (arXiv 2307.12950).

M1 answers every prompt twice, once asked for a good and once for a bad answer by a text (affix)
with the prompt; the first is preferred to the second without any judgement, on the prompt without
the text. Rival: as many plain answers of M1 judged by a critic (RLAIF). Controls: the same pairs by
coin, SFT on the positive answers at equal trained responses, and the same pairs by the truth.
Two answers to a prompt are drawn for either kind of pair, whatever `sample.n` is. Departures: DPO
in place of a reward model and PPO; the texts are full sentences; a base model that
follows no instructions is taught them first from ranked responses (`taught`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

from alignlab.configs import NonNegativeInt
from alignlab.context import RunContext, resolve_model
from alignlab.errors import BadInput, refuse_unknown
from alignlab.measuring.changes import changes, values_by_prompt
from alignlab.measuring.measure import BranchResult, PerPromptMetric, StudyMeasurements
from alignlab.parallel import Branch
from alignlab.recipes.branches import run_all
from alignlab.recipes.controls import EQUAL_COMPUTE, NEGATIVE, POSITIVE
from alignlab.recipes.critic import CriticConfig, scored_answers
from alignlab.recipes.study import (
    Recipe,
    Study,
    WarmStart,
    answer_held_out,
    finish,
    preference_train,
    sft,
)
from alignlab.registry import register
from alignlab.stages.affix import AffixSettings, affix_lessons, contrast_pairs
from alignlab.stages.coin import by_coin
from alignlab.stages.judge import judge, scores
from alignlab.stages.pair import PairSettings, best_as_demonstrations, pair
from alignlab.stages.seed import seed
from alignlab.types import Count, PreferenceGroup, Prompt

CONTRAST, JUDGED = "contrast pairs", "judged pairs"


@dataclass(frozen=True)
class RLCDConfig(CriticConfig):
    """Settings of contrast distillation."""

    affix: AffixSettings = field(default_factory=AffixSettings)
    taught: NonNegativeInt = 0
    """Maximum number of the data's ranked groups whose best and worst responses teach M1 the two
    texts along with the demonstrations; 0 for a model that follows instructions already."""
    branches: tuple[str, ...] = ()
    """Branches to run, by name; empty runs all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.refuse_rounds("rlcd")
        refuse_unknown("branch", self.branches, BRANCHES)
        if self.pairs != PairSettings():
            raise BadInput("settings pairs: have no effect in rlcd; leave them out")
        if "truth" in self.branches and not self.measure.truth:
            raise BadInput("branch truth: expected a source of the truth: measure.truth=")

    @property
    def chosen(self) -> tuple[str, ...]:
        """Return the branches to run; without a source of the truth all but its own."""
        usual = [n for n in BRANCHES if self.measure.truth or n != "truth"]
        return tuple(n for n in BRANCHES if n in (self.branches or usual))

    @property
    def asks_critic(self) -> bool:
        """Return whether the critic is asked, which the branch of judged pairs alone does."""
        return "judged" in self.chosen


@dataclass(frozen=True)
class Contrast:
    """Prompts with M1's pairs of positive and negative answers, shared by the branches."""

    prompts: tuple[Prompt, ...]
    pairs: tuple[PreferenceGroup, ...]


def study(context: RunContext, config: RLCDConfig) -> StudyMeasurements:
    """Train M1, draw its contrast pairs, train every branch, and measure them."""
    begun = _start(context, config)
    start = begun.start
    prompts = start.feedback_prompts[: config.most_prompts or None]
    engine = context.engine(start.m1)
    pairs = contrast_pairs(context, engine, prompts, config.affix, config.sample)
    given = Contrast(tuple(prompts), tuple(pairs))
    branches = [Branch(n, _run, (begun.scope(n), given, n)) for n in config.chosen]
    first = answer_held_out(begun, start.m1) + _labels(begun, pairs, CONTRAST)
    result = reduce(BranchResult.__add__, run_all(begun, branches), first)
    measured = finish(begun, result, context.judge(config.measuring_judge, start.m1))
    values = values_by_prompt(measured.scored)
    twins = [(NAMES["contrast"], NAMES[n]) for n in ("judged", "coin", "sft")]
    apart = changes(values, twins, "score", "score_change")
    return replace(measured, values=(*measured.values, *apart))


def _start(context: RunContext, config: RLCDConfig) -> Study[RLCDConfig]:
    """Train M0 on demonstrations, and on demonstrations of the two texts where asked: M1.

    Raises:
        BadInput: the data lacks the ranked groups that are asked for.
    """
    corpus = seed(context, config.roles, config.corpus)
    m0 = replace(resolve_model(config.model), made="the base model")
    begun = Study(context, config, WarmStart(corpus, m0, m0, m0, corpus.prompts))
    groups = corpus.groups[: config.taught]
    if config.taught and not groups:
        raise BadInput(
            f"setting taught: expected ranked groups in {corpus.name}, found none; taught=0 for a "
            "model that follows instructions"
        )
    lessons, made = affix_lessons(groups, config.affix), "M0 tuned on demonstrations"
    if lessons:
        made += f" and on {len(lessons)} ranked responses after the two texts"
    with context.run.stage("affix-lessons") as stage:
        if not stage.done and config.taught:
            equal = len(groups) - len(lessons) // 2
            lost = {"all scores are equal": equal} if equal else {}
            stage.count([Count(stage.name, "groups", len(lessons) // 2, lost)])
    m1 = sft(begun, m0, [*corpus.demonstrations, *lessons], "M1", made)
    return replace(begun, start=replace(begun.start, baseline=m1, m1=m1))


def _run(study: Study[RLCDConfig], given: Contrast, name: str) -> BranchResult:
    return BRANCHES[name](study, given)


def prefer_positive(study: Study[RLCDConfig], given: Contrast) -> BranchResult:
    """Prefer the answer with the positive text, without a judge."""
    return _preferred(study, given.pairs, "contrast", "answers by affix")


def prefer_by_coin(study: Study[RLCDConfig], given: Contrast) -> BranchResult:
    """Prefer either answer of the same pairs by coin, the control."""
    seed = study.context.seed_for("coin")
    groups = [by_coin(pair, seed) for pair in given.pairs]
    return _preferred(study, groups, "coin", "the same pairs by coin")


def prefer_judged(study: Study[RLCDConfig], given: Contrast) -> BranchResult:
    """Prefer the better of two plain answers by the critic (RLAIF)."""
    two = study.using(sample=replace(study.config.sample, n=2))
    answered, feedback = scored_answers(two)
    asked, drawn = answered.prompts, answered.responses
    groups = pair(study.context, asked, drawn, feedback, study.config.pairs)
    labels = _labels(study, groups, JUDGED)
    how = f"two plain answers by {study.config.feedback}"
    return labels + _preferred(study, groups, "judged", how)


def prefer_by_truth(study: Study[RLCDConfig], given: Contrast) -> BranchResult:
    """Prefer the better answer of the same pairs by the truth, the positive control."""
    context, config = study.context, study.config
    truth = context.judge(config.measure.truth, study.start.m1)
    drawn = [r for group in given.pairs for r in group.responses]
    feedback = judge(context, truth, [g.prompt for g in given.pairs], drawn)
    groups = pair(context, given.prompts, drawn, feedback, config.pairs)
    return _preferred(study, groups, "truth", "the same pairs by the truth")


def imitate_positive(study: Study[RLCDConfig], given: Contrast) -> BranchResult:
    """Imitate the answers with the positive text, for as many responses as the pairs train."""
    config, shown = study.config, best_as_demonstrations(given.pairs)
    loop = replace(
        config.sft,
        epochs=2 * config.preference.epochs,  # a pair trains two responses
        batch_size=config.preference.batch_size,
    )
    made = f"M1 after SFT on {len(shown)} answers with the positive text, {loop.epochs} epochs"
    learned = sft(study.using(sft=loop), study.start.m1, shown, NAMES["sft"], made)
    return answer_held_out(study, learned)


def _preferred(
    study: Study[RLCDConfig], groups: Sequence[PreferenceGroup], branch: str, how: str
) -> BranchResult:
    """Train M1 on pairs by the study's objective, and answer the held-out prompts."""
    made = f"M1 after {study.config.preference_method} on {len(groups)} pairs, {how}"
    learned = preference_train(study, study.start.m1, groups, NAMES[branch], made)
    return answer_held_out(study, learned)


def _labels(study: Study[RLCDConfig], groups: Sequence[PreferenceGroup], name: str) -> BranchResult:
    """Measure pairs by the truth: accuracy of their order (ties half), and gap of scores."""
    context, config = study.context, study.config
    if not config.measure.truth or not groups:
        return BranchResult()
    truth = context.judge(config.measure.truth, study.start.m1)
    drawn = [r for group in groups for r in group.responses]
    asked = [group.prompt for group in groups]
    known = scores(judge(context, truth, asked, drawn, name=f"truth-of-{name.replace(' ', '-')}"))
    read = [g for g in groups if all(r.id in known for r in g.responses)]
    gaps = tuple(known[g.responses[0].id] - known[g.responses[1].id] for g in read)
    right = tuple((1.0 if gap > 0 else 0.5 if gap == 0 else 0.0) for gap in gaps)
    ids, lost = tuple(g.prompt.id for g in read), len(groups) - len(read)
    found = [
        PerPromptMetric(name, "pairs", metric, ids, values, unscored=lost)
        for metric, values in (("accuracy_ties_half", right), ("score_gap", gaps))
    ]
    return BranchResult(values=tuple(found))


NAMES = {
    "contrast": "contrast pairs, no judge",
    "judged": "pairs by the critic",
    "coin": "contrast pairs by coin",
    "sft": "positive answers imitated",
    "truth": "contrast pairs by the truth",
}
"""Branch -> name of its model."""
BRANCHES: Mapping[str, Callable[[Study[RLCDConfig], Contrast], BranchResult]] = {
    "contrast": prefer_positive,
    "judged": prefer_judged,
    "coin": prefer_by_coin,
    "sft": imitate_positive,
    "truth": prefer_by_truth,
}
"""Name -> branch."""


register("recipe", "rlcd")(
    Recipe(
        name="rlcd",
        config=RLCDConfig,
        question="Do pairs of answers that were asked to be good and bad, without a judge, teach "
        "as much as a critic's pairs?",
        study=study,
        controls={
            "pairs by coin": NEGATIVE,
            "answers imitated": EQUAL_COMPUTE,
            "by the truth": POSITIVE,
        },
        idle=("eft", "propose"),
        options={
            "Contrast without a judge": (NAMES["contrast"],),
            "A critic's pairs": (NAMES["judged"],),
        },
    )
)
