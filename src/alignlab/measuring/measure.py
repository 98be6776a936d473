"""Measure a study: score and compare held-out answers, and collect gold scores for its judges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from alignlab import seeds
from alignlab.configs import Bounded, NonNegativeInt
from alignlab.context import RunContext
from alignlab.feedback.conversion import JudgeByScore, KnownFeedback
from alignlab.protocols import FeedbackSource, PairJudge
from alignlab.runs import slug
from alignlab.stages.compare import compare_items
from alignlab.stages.judge import by_prompt, judge, rate_items
from alignlab.types import Checkpoint, Feedback, PreferenceGroup, Prompt, Response


@dataclass(frozen=True)
class MeasureSettings(Bounded):
    """Feedback sources that measure a study."""

    judge: str = "auto"
    """Feedback source that scores held-out answers; `self` is the study's own M1. "auto" is M1's
    expected score, in studies without a teacher; a study with one names its judge."""
    pair_judge: str = ""
    """Judge that compares answers with the baseline's in both orders; empty: the higher score
    wins."""
    truth: str = ""
    """Feedback source of gold scores of sampled responses; empty: none."""
    card: str = ""
    """Folder of the measuring judge's card (`alignlab judge-card`); empty looks for one by the
    judge's identity. The headline states its verdict."""
    examples: NonNegativeInt = 40
    """Number of prompts whose answers the report shows."""


@dataclass(frozen=True)
class Judgement:
    """Feedback of one judge on some responses."""

    judge: str
    """Name of the judge in the report: "M1, 3 samples"."""
    where: str
    """Origin of the responses: "own" (written by its model in the study) or "held-out" (ranked
    groups)."""
    responses: tuple[Response, ...]
    feedback: tuple[Feedback, ...]


@dataclass(frozen=True)
class PerPromptMetric:
    """Figure of a model by prompt, before averaging over prompts and seeds."""

    model: str
    benchmark: str
    metric: str
    prompt_ids: tuple[str, ...]
    """The prompt of every value; values of one prompt are resampled together."""
    values: tuple[float, ...]
    against: str | None = None
    """Other side of a comparison."""
    unscored: int = 0

    @property
    def is_share(self) -> bool:
        """Return True for a share of outcomes (accuracies, shares kept), no difference of two."""
        return self.against is None and self.metric.startswith(("accuracy", "kept"))


@dataclass(frozen=True)
class SweepAxis:
    """Positions of a study's models on its scaling curves."""

    along: str
    """Size that grows: iterations, prompts or parameters."""
    at: Mapping[str, float]
    """Model -> its size, above 0."""
    series: Mapping[str, str]
    """Model -> its curve."""


@dataclass(frozen=True)
class BranchResult:
    """Result of a branch of a study, to be measured."""

    checkpoints: tuple[Checkpoint, ...] = ()
    answers: Mapping[str, Sequence[Response]] = field(default_factory=dict)
    """Checkpoint name -> its answers to the held-out prompts."""
    judgements: tuple[Judgement, ...] = ()
    prompts: tuple[Prompt, ...] = ()
    """Prompts of the judged responses."""
    values: tuple[PerPromptMetric, ...] = ()
    """Figures measured by the branch itself."""
    made: Mapping[str, str] = field(default_factory=dict)
    """Model -> its making, in one line."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Branch that had nothing to train on -> the reason."""

    def __add__(self, other: BranchResult) -> BranchResult:
        return BranchResult(
            self.checkpoints + other.checkpoints,
            {**self.answers, **other.answers},
            self.judgements + other.judgements,
            tuple({p.id: p for p in self.prompts + other.prompts}.values()),
            self.values + other.values,
            {**self.made, **other.made},
            {**self.left_out, **other.left_out},
        )


@dataclass(frozen=True)
class HeldOut:
    """Prompts and groups on which models and judges of a study are measured."""

    prompts: tuple[Prompt, ...]
    groups: tuple[PreferenceGroup, ...]
    """Ranked groups on which judges are measured."""


@dataclass(frozen=True)
class StudyMeasurements:
    """Verdicts of one seed, from which all figures are computed."""

    seed: int
    baseline: str
    held_out: HeldOut
    answers: Mapping[str, Sequence[Response]]
    scored: Mapping[str, Sequence[Feedback]]
    """Model -> feedback on its answers, in prompt order."""
    comparisons: Mapping[str, Sequence[Feedback]]
    """Model -> verdicts on its answers (index 0) against the baseline's."""
    judgements: tuple[Judgement, ...]
    gold: Mapping[str, Feedback]
    """Response id -> gold score of a judged response."""
    examples: tuple[Prompt, ...]
    """Randomly chosen prompts whose answers the report shows."""
    said: Mapping[str, Feedback]
    """Response id -> verdict of the study's own judge on an answer to an example."""
    values: tuple[PerPromptMetric, ...] = ()
    """Figures measured by branches themselves."""
    self_judged: bool = False
    """True if the scores are the study's own M1's, a different judge in every run."""
    scale: SweepAxis | None = None
    """Sizes of the models of a sweep; None without a sweep."""
    made: Mapping[str, str] = field(default_factory=dict)
    """Model -> its making, in one line."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Branch that had nothing to train on -> the reason."""


def measure(
    context: RunContext,
    settings: MeasureSettings,
    held_out: HeldOut,
    result: BranchResult,
    itself: Checkpoint,
    own_judge: FeedbackSource,
) -> StudyMeasurements:
    """Score every model's answers, compare them with the baseline's, and collect gold scores.

    Args:
        itself: the baseline M1, meant by `self` in the settings' judges.
        own_judge: the study's own judge, whose reasons are shown with the scores.
    """
    prompts, baseline = held_out.prompts, itself.name
    source = context.judge(settings.judge, itself)
    scored = {m: _score(context, source, prompts, m, a) for m, a in result.answers.items()}
    pairs: PairJudge = JudgeByScore(KnownFeedback(source.name, chain(*scored.values())))
    if settings.pair_judge:
        pairs = context.pair_judge(settings.pair_judge, itself)
    examples = _drawn(prompts, settings.examples, context.seed)
    base = result.answers[baseline]
    others = {m: a for m, a in result.answers.items() if m != baseline}
    comparisons = {m: _compare(context, pairs, prompts, m, a, base) for m, a in others.items()}
    return StudyMeasurements(
        seed=context.seed,
        baseline=baseline,
        held_out=held_out,
        answers=result.answers,
        scored=scored,
        comparisons=comparisons,
        judgements=result.judgements,
        gold=_gold(context, settings, result, itself),
        examples=examples,
        said=_said(context, own_judge, examples, result),
        values=result.values,
        made=result.made,
        left_out=result.left_out,
        self_judged=settings.judge.rpartition(":")[2] == "self",
    )


def _score(
    context: RunContext,
    source: FeedbackSource,
    prompts: Sequence[Prompt],
    model: str,
    answers: Sequence[Response],
) -> list[Feedback]:
    items = by_prompt(prompts, answers)
    with context.run.stage(f"score-{slug(model)}", inputs={"by": source.name}) as stage:
        seed, title = context.seed_for("score"), f"{source.name} scores {model}"
        return rate_items(context, stage, source, items, seed, title)


def _compare(
    context: RunContext,
    judge: PairJudge,
    prompts: Sequence[Prompt],
    model: str,
    answers: Sequence[Response],
    base: Sequence[Response],
) -> list[Feedback]:
    own = {r.prompt_id: r for r in answers}
    other = {r.prompt_id: r for r in base}
    both = [p for p in prompts if p.id in own and p.id in other]
    items = [(p, own[p.id], other[p.id]) for p in both]
    with context.run.stage(f"duel-{slug(model)}", inputs={"by": judge.name}) as stage:
        seed, title = context.seed_for("duel"), f"{judge.name} compares {model}"
        return compare_items(context, stage, judge, items, seed, title)


def _gold(
    context: RunContext, settings: MeasureSettings, result: BranchResult, itself: Checkpoint
) -> dict[str, Feedback]:
    """Return gold scores of the models' own responses by the source."""
    if not settings.truth:
        return {}
    source = context.judge(settings.truth, itself)
    own = [j for j in result.judgements if j.where == "own"]
    responses = list({r.id: r for j in own for r in j.responses}.values())
    items = by_prompt(result.prompts, responses)
    with context.run.stage("truth", inputs={"by": source.name}) as stage:
        seed, title = context.seed_for("truth"), "the truth about judged responses"
        feedback = rate_items(context, stage, source, items, seed, title)
        return {f.response_ids[0]: f for f in feedback}


def _drawn(prompts: Sequence[Prompt], most: int, seed: int) -> tuple[Prompt, ...]:
    return tuple(sorted(prompts, key=lambda p: seeds.derive(seed, "examples", p.id))[:most])


def _said(
    context: RunContext, judge_: FeedbackSource, examples: Sequence[Prompt], result: BranchResult
) -> dict[str, Feedback]:
    """Return the own judge's verdicts on every model's answers to the examples."""
    answers = [r for several in result.answers.values() for r in several]
    feedback = judge(context, judge_, examples, answers, name="judge-examples")
    return {f.response_ids[0]: f for f in feedback}
