"""Judge card: agreement with people, guesses on the same pairs, biases, cost, and a verdict.

Pairs of several data sets are judged, then drawn answers under attack, then drawn pairs again. All
calls are cached in the run, so that a killed card resumes. `card_verdict` states the rules.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from alignlab.configs import Bounded, NonNegativeInt, PositiveInt, Seed
from alignlab.context import RunContext
from alignlab.errors import BadInput
from alignlab.evaluation.result_rows import Subject
from alignlab.feedback.conversion import JudgeByScore
from alignlab.generation.cache import AnswerCache
from alignlab.measuring.cached import CachedPairs, CachedScores
from alignlab.measuring.card_figures import (
    COIN,
    GUESSES,
    NAME,
    Valued,
    agreement_rows,
    bias_rows,
    calibration_rows,
    guess_rows,
    single_order,
)
from alignlab.measuring.card_sets import KNOWN, CardSet
from alignlab.measuring.card_verdict import CardVerdict, verdict_of
from alignlab.measuring.judge_audit import (
    Judged,
    injection_rows,
    judge_pairs,
    own_side_rows,
    repetition_rows,
)
from alignlab.protocols import FeedbackSource, PairJudge
from alignlab.runs import slug
from alignlab.types import EvalResult, Feedback, Prompt, Response, Score, Usage

INJECTION = "injection"
"""Benchmark of the rows on attacked answers."""
LOG_ODDS = ("reward_model", "implicit_reward")
"""Sources whose differences of scores are log-odds."""


@dataclass(frozen=True)
class CardSettings(Bounded):
    """Settings of a judge card."""

    n: NonNegativeInt = 100
    """Pairs of each set, drawn by the seed, one per prompt before any prompt gives a second; 0 uses
    all."""
    attacked: NonNegativeInt = 20
    """Answers judged under each attack, drawn by the seed; 0 skips injection."""
    repeated: NonNegativeInt = 20
    """Pairs judged twice, drawn by the seed; 0 skips repetition."""
    own: str = ""
    """Writer that the judge may favour, by its name in the data; empty: the one that has the name
    of the judge's own model, if any."""
    seed: Seed = 0
    """Seed of every random draw."""
    chunk: PositiveInt = 16
    """Pairs judged, and written, together."""
    chat_template: str = ""
    """File with a chat template, for a model without one."""
    threads: NonNegativeInt = 0
    """Torch threads; 0 is one per core."""


@dataclass(frozen=True)
class CardCost:
    """Cost of 1,000 compared pairs: both orders, or two scores."""

    seconds: float
    """Wall-clock seconds on the machine of the card."""
    calls: float
    """Calls of the model."""
    prompt_tokens: float
    """Tokens read by calls that generate; calls that only read probabilities are not counted."""
    tokens: float
    """Tokens generated."""
    usd: float | None
    """Dollars by the engine's prices; None without prices."""


@dataclass(frozen=True)
class SetSummary:
    """Data set of a card."""

    name: str
    judged_by: str
    pairs: int
    """Pairs judged."""
    available: int
    """Pairs in the data."""
    files: Mapping[str, str]
    """File -> SHA-256."""


@dataclass(frozen=True)
class JudgeCard:
    """Figures of a judge with the verdict by the stated rules."""

    judge: str
    """Spec of the judge."""
    name: str
    """Name of the judge in the rows."""
    identity: str
    """Digest of spec and weights (`card_cache.identity`)."""
    verdict: CardVerdict
    sets: tuple[SetSummary, ...]
    absent: tuple[str, ...]
    """Known sets that were not given."""
    not_measured: tuple[str, ...]
    """Parts that were left out, with the reason."""
    cost: CardCost
    seed: int
    rows: tuple[EvalResult, ...] = field(default=())
    """Figures: group None is pooled over the sets by people, else the set's name or the attack."""


class RememberedScores:
    """Source of scores that rates each response once per seed, and remembers the scores."""

    def __init__(self, source: FeedbackSource) -> None:
        self._source = source
        self.name = source.name
        self._known: dict[tuple[int, str], Feedback] = {}

    @property
    def scores(self) -> dict[str, float]:
        """Return response id -> score, of the responses that have one."""
        return {
            key: f.verdict.value
            for (_, key), f in reversed(self._known.items())
            if isinstance(f.verdict, Score)
        }

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        """Return the feedback on every response; only those not yet rated are passed on."""
        new = {
            (seed, r.id): (prompt, (r,))
            for prompt, responses in items
            for r in responses
            if (seed, r.id) not in self._known
        }
        if new:
            found = self._source.rate(list(new.values()), seed)
            self._known |= dict(zip(new, found, strict=True))
        return [self._known[seed, r.id] for _, responses in items for r in responses]


def measure_judge(
    context: RunContext, spec: str, identity: str, sets: Sequence[CardSet], settings: CardSettings
) -> JudgeCard:
    """Judge all sets, and compute figures, cost and verdict.

    Raises:
        BadInput: no such judge, or a side that wrote none of the answers.
    """
    judge, remembered = _judge(context, spec, settings.chunk)
    settings = replace(settings, own=settings.own or own_writer(spec, sets))
    odds = spec.partition(":")[0] in LOG_ODDS
    rows = card_rows(judge, sets, settings, remembered, odds=odds)
    by = "people" if any(one.by_people for one in sets) else sets[0].judged_by
    given = [one.name for one in sets]
    return JudgeCard(
        spec,
        judge.name,
        identity,
        verdict_of(rows, judge.name, by),
        tuple(SetSummary(s.name, s.judged_by, len(s.pairs), s.available, s.files) for s in sets),
        tuple(name for name in KNOWN if name not in given),
        _not_measured(settings, rows),
        _cost(context),
        settings.seed,
        tuple(rows),
    )


def own_writer(spec: str, sets: Sequence[CardSet]) -> str:
    """Return the writer of some answers that has the name of a judge's model; empty for none."""
    rest = spec.split(":", 2)[-1].partition("@")[0].partition("?")[0]
    writers = {r.sampler.model for s in sets for p in s.pairs for r in (p.first, p.second)}
    return next((w for w in sorted(writers) if slug(w) == slug(Path(rest).name)), "")


def card_rows(
    judge: PairJudge,
    sets: Sequence[CardSet],
    settings: CardSettings,
    remembered: RememberedScores | None = None,
    *,
    odds: bool = False,
) -> list[EvalResult]:
    """Judge all pairs and compute a card's figures.

    Args:
        remembered: the scores behind the verdicts, of a judge that scores.
        odds: True if differences of scores are log-odds.

    Raises:
        BadInput: a side that wrote none of the answers.
    """
    seed = settings.seed
    judged = {one.name: judge_pairs(judge, one.pairs, seed) for one in sets}
    pooled = [one for one in sets if one.by_people] or list(sets)
    about = Subject(judge.name, NAME, against="human verdicts")
    together = [j for one in pooled for j in judged[one.name]]
    identities = [value for one in pooled for value in one.identity]
    rows = _agreement(judge.name, together, identities, seed)
    rows += bias_rows(about, together, seed)
    rows += _single_order(judge.name, together, seed)
    scores = None if remembered is None else remembered.scores
    rows += calibration_rows(about, together, scores, seed, odds=odds)
    if settings.own:
        everything = [j for several in judged.values() for j in several]
        own = own_side_rows(about, everything, settings.own, seed)
        if not own[0].n + own[0].unscored:
            raise BadInput(f"own={settings.own}: expected a writer of some of the data's responses")
        rows += own
    rows += repetition_rows(about, judge, together, settings.repeated, seed)
    for one in sets:
        mine = judged[one.name]
        rows += _agreement(judge.name, mine, one.identity, seed, one.name)
        rows += bias_rows(about, mine, seed, one.name)
    injection = replace(about, benchmark=INJECTION)
    return rows + injection_rows(injection, judge, together, settings.attacked, seed)


def _judge(context: RunContext, spec: str, chunk: int) -> tuple[PairJudge, RememberedScores | None]:
    """Return the judge as one of pairs with cached calls; of a judge that scores, its scores."""
    judge = context.pair_judge(spec)
    if not isinstance(judge, JudgeByScore):
        return CachedPairs(context, judge, chunk), None
    remembered = RememberedScores(CachedScores(context, judge.source, 2 * chunk))
    return JudgeByScore(remembered, name=judge.source.name), remembered


def _agreement(
    name: str,
    judged: Sequence[Judged],
    identity: Sequence[float | None],
    seed: int,
    group: str | None = None,
) -> list[EvalResult]:
    valued: Valued = [(one.pair, one.value) for one in judged]
    return [
        *agreement_rows(name, valued, seed, group),
        *guess_rows(name, valued, identity, seed, group),
    ]


def _single_order(name: str, judged: Sequence[Judged], seed: int) -> list[EvalResult]:
    """Compute accuracy, and the lead over chance, of the first order alone."""
    valued = single_order(judged)
    if not valued:
        return []
    rows = [
        *agreement_rows(name, valued, seed)[:1],
        *guess_rows(name, valued, [None] * len(valued), seed),
    ]
    wanted = {"accuracy", GUESSES[COIN]}
    return [
        replace(row, metric=f"single_order_{row.metric}")
        for row in rows
        if row.model == name and row.metric in wanted
    ]


def _not_measured(settings: CardSettings, rows: Sequence[EvalResult]) -> tuple[str, ...]:
    """Name the parts left out, with the reason."""
    metrics = {row.metric for row in rows}
    missing = {
        "position: responses are scored one by one": "consistent" not in metrics,
        "own side: the data holds no answers of the judge's model (own=WRITER)": not settings.own,
        "injection: attacked=0": not settings.attacked,
        "repetition: repeated=0": not settings.repeated,
    }
    return tuple(why for why, is_missing in missing.items() if is_missing)


def _cost(context: RunContext) -> CardCost:
    """Add up the judge's stages, earlier sessions included, per 1,000 pairs."""
    seconds, usage, pairs = 0.0, Usage(), 0.0
    for commits in sorted((context.run.path / "stages").glob("*-judge/commits.jsonl")):
        records = sum(1 for _ in (commits.parent / "feedback.jsonl").open("rb"))
        for line in map(json.loads, commits.read_text().splitlines()):
            seconds += line["seconds"]
            usage += Usage(**line["usage"])
        with (commits.parent / "feedback.jsonl").open() as file:
            ids = len(json.loads(file.readline())["response_ids"])
        pairs += records * ids / 2
    each = 1000 / pairs if pairs else 0.0
    return CardCost(
        round(seconds * each, 1),
        round(usage.calls * each, 1),
        round(usage.prompt_tokens * each, 1),
        round(usage.tokens * each, 1),
        _dollars(context.cache, each),
    )


def _dollars(cache: Path, each: float) -> float | None:
    """Return the dollars of endpoints with prices; None if there are none."""
    file = cache / "calls.sqlite"
    if not file.is_file():
        return None
    answers = AnswerCache(file)
    try:
        usd = sum(account["usd"] for account in answers.account().values())
    finally:
        answers.close()
    return round(usd * each, 4) if usd else None
