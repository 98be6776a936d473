"""Measure: held-out answers are scored and compared, and judges are held against the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from alignlab import progress, seeds
from alignlab.feedback.conversion import JudgeByScore
from alignlab.protocols import FeedbackSource, PairJudge
from alignlab.stages.judge import by_prompt, judge
from alignlab.stages.lab import Lab
from alignlab.stages.limits import at_least
from alignlab.stages.train import slug
from alignlab.types import Checkpoint, Feedback, PreferenceGroup, Prompt, Response


@dataclass(frozen=True)
class MeasureSettings:
    """Who measures."""

    judge: str = "expected:self"
    """Feedback source that scores held-out answers; `self` is the study's own M1."""
    pair_judge: str = ""
    """Judge of answers against the baseline's, both orders; empty: the higher score wins."""
    truth: str = ""
    """Feedback source taken as the truth about sampled responses; empty: none is known."""
    examples: int = 40
    """Prompts whose answers the report shows side by side."""

    def __post_init__(self) -> None:
        at_least("measure", self, examples=0)


@dataclass(frozen=True)
class Judgement:
    """What one judge said of some responses, and what is to be compared with it."""

    judge: str
    """The judge as the report names it: "M1, 3 samples"."""
    where: str
    """"own" (the responses its model wrote in the study) or "held-out" (ranked groups)."""
    responses: tuple[Response, ...]
    feedback: tuple[Feedback, ...]


@dataclass(frozen=True)
class Values:
    """One figure of a model before it is averaged over prompts and seeds."""

    model: str
    benchmark: str
    metric: str
    prompt_ids: tuple[str, ...]
    """The prompt of every value; what shares a prompt is resampled together."""
    values: tuple[float, ...]
    against: str | None = None
    """The other side of a comparison."""
    unscored: int = 0


@dataclass(frozen=True)
class Scale:
    """Which models of a study stand where on its scaling curves."""

    along: str
    """What grows: iterations, prompts or parameters."""
    at: Mapping[str, float]
    """Model -> how much of it, above 0."""
    series: Mapping[str, str]
    """Model -> the curve that it belongs to."""


@dataclass(frozen=True)
class BranchResult:
    """What a branch of a study leaves to be measured."""

    checkpoints: tuple[Checkpoint, ...] = ()
    answers: Mapping[str, Sequence[Response]] = field(default_factory=dict)
    """Checkpoint name -> its answers to the held-out prompts."""
    judgements: tuple[Judgement, ...] = ()
    prompts: tuple[Prompt, ...] = ()
    """The prompts whose responses were judged."""
    values: tuple[Values, ...] = ()
    """Figures that a branch measured itself."""

    def __add__(self, other: BranchResult) -> BranchResult:
        return BranchResult(
            self.checkpoints + other.checkpoints,
            {**self.answers, **other.answers},
            self.judgements + other.judgements,
            tuple({p.id: p for p in self.prompts + other.prompts}.values()),
            self.values + other.values,
        )


@dataclass(frozen=True)
class HeldOut:
    """What the models and judges of a study are measured on."""

    prompts: tuple[Prompt, ...]
    groups: tuple[PreferenceGroup, ...]
    """Ranked groups on which judges are measured."""


@dataclass(frozen=True)
class Measured:
    """One seed's verdicts, from which all figures are computed."""

    seed: int
    baseline: str
    held_out: HeldOut
    answers: Mapping[str, Sequence[Response]]
    scored: Mapping[str, Sequence[Feedback]]
    """Model -> feedback on its answers, in prompt order."""
    duels: Mapping[str, Sequence[Feedback]]
    """Model -> verdicts on its answers (index 0) against the baseline's."""
    judgements: tuple[Judgement, ...]
    truths: Mapping[str, Feedback]
    """Response id -> the truth about a judged response."""
    examples: tuple[Prompt, ...]
    """A drawn choice of prompts, whose answers the report shows."""
    said: Mapping[str, Feedback]
    """Response id -> what the study's own judge said of an answer to an example."""
    values: tuple[Values, ...] = ()
    """Figures that branches measured themselves."""
    by_itself: bool = False
    """The scores are the study's own M1's, another judge in every run."""
    scale: Scale | None = None
    """Where the models of a sweep stand; None where nothing is swept."""


def measure(
    lab: Lab,
    settings: MeasureSettings,
    held_out: HeldOut,
    result: BranchResult,
    itself: Checkpoint,
    own_judge: FeedbackSource,
) -> Measured:
    """Score every model's answers, compare them with the baseline's, and find the truths.

    Args:
        itself: the baseline, M1, which `self` stands for in the settings' judges.
        own_judge: the study's own judge, whose reasons are shown beside the scores.
    """
    prompts, baseline = held_out.prompts, itself.name
    source = lab.judge(settings.judge, itself)
    scored = {m: _score(lab, source, prompts, m, a) for m, a in result.answers.items()}
    pairs: PairJudge
    if settings.pair_judge:
        pairs = lab.pair_judge(settings.pair_judge, itself)
    else:
        pairs = JudgeByScore(_Known(source.name, scored))
    examples = _drawn(prompts, settings.examples, lab.seed)
    base = result.answers[baseline]
    duels = {
        m: _duel(lab, pairs, prompts, m, a, base)
        for m, a in result.answers.items()
        if m != baseline
    }
    return Measured(
        seed=lab.seed,
        baseline=baseline,
        held_out=held_out,
        answers=result.answers,
        scored=scored,
        duels=duels,
        judgements=result.judgements,
        truths=_truths(lab, settings, result, itself),
        examples=examples,
        said=_said(lab, own_judge, examples, result),
        values=result.values,
        by_itself=settings.judge.rpartition(":")[2] == "self",
    )


class _Known:
    """A source that repeats what was said before, so that no answer is judged (or paid) twice."""

    def __init__(self, name: str, scored: Mapping[str, Sequence[Feedback]]) -> None:
        self.name = name
        self._said = {f.response_ids[0]: f for several in scored.values() for f in several}

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        return [self._said[response.id] for _, responses in items for response in responses]


def _score(
    lab: Lab,
    source: FeedbackSource,
    prompts: Sequence[Prompt],
    model: str,
    answers: Sequence[Response],
) -> list[Feedback]:
    with lab.run.stage(f"score-{slug(model)}", inputs={"by": source.name}) as stage:
        file = stage.records("feedback", Feedback)
        if "all" not in file.units:
            with progress.task(lab.title(f"{source.name} scores {model}"), 1):
                items = by_prompt(prompts, answers)
                file.append("all", source.rate(items, lab.seed_for("score")))
        return file.read()


def _duel(
    lab: Lab,
    judge: PairJudge,
    prompts: Sequence[Prompt],
    model: str,
    answers: Sequence[Response],
    base: Sequence[Response],
) -> list[Feedback]:
    with lab.run.stage(f"duel-{slug(model)}", inputs={"by": judge.name}) as stage:
        file = stage.records("feedback", Feedback)
        if "all" not in file.units:
            with progress.task(lab.title(f"{judge.name} compares {model}"), 1):
                own = {r.prompt_id: r for r in answers}
                other = {r.prompt_id: r for r in base}
                both = [p for p in prompts if p.id in own and p.id in other]
                items = [(p, own[p.id], other[p.id]) for p in both]
                file.append("all", judge.compare(items, lab.seed_for("duel")))
        return file.read()


def _truths(
    lab: Lab,
    settings: MeasureSettings,
    result: BranchResult,
    itself: Checkpoint,
) -> dict[str, Feedback]:
    """Truths about the models' own responses, from the source named."""
    if not settings.truth:
        return {}
    source = lab.judge(settings.truth, itself)
    with lab.run.stage("truth", inputs={"by": source.name}) as stage:
        file = stage.records("feedback", Feedback)
        if "all" not in file.units:
            own = [j for j in result.judgements if j.where == "own"]
            responses = list({r.id: r for j in own for r in j.responses}.values())
            known = {p.id: p for p in result.prompts}
            with progress.task(lab.title("the truth about judged responses"), 1):
                items = by_prompt(list(known.values()), responses)
                file.append("all", source.rate(items, lab.seed_for("truth")))
        return {f.response_ids[0]: f for f in file.read()}


def _drawn(prompts: Sequence[Prompt], most: int, seed: int) -> tuple[Prompt, ...]:
    return tuple(sorted(prompts, key=lambda p: seeds.derive(seed, "examples", p.id))[:most])


def _said(
    lab: Lab, judge_: FeedbackSource, examples: Sequence[Prompt], result: BranchResult
) -> dict[str, Feedback]:
    """What the study's own judge says of every model's answers to the examples."""
    answers = [r for several in result.answers.values() for r in several]
    feedback = judge(lab, judge_, examples, answers, name="judge-examples")
    return {f.response_ids[0]: f for f in feedback}
