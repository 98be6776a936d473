"""Arena-Hard: answers to hard prompts against a baseline's, with style control (arXiv 2406.11939).

On a model, both orders are judged; after the plain adjusted win rate comes one with the effect of
length, headers, bold runs and lists removed (`metrics.style_control`). The official judge weighs
five verdicts in a wording of its own: these figures are not comparable with its table.

The official judge's own files (`model_judgment/JUDGE/MODEL.jsonl`, v0.1 and v2.0) are measured as
published: two games a prompt (or one), the baseline first in the first; a verdict of "significantly
better" counts as three battles, a tie as one half; a prompt with a game without verdict is left
out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from alignlab.evaluation.duels import duel_findings, duels
from alignlab.evaluation.metrics.intervals import Interval, bootstrap_ratio
from alignlab.evaluation.metrics.style_control import Battle, style_controlled
from alignlab.evaluation.question_files import fastchat_questions
from alignlab.evaluation.result_rows import Subject
from alignlab.evaluation.task_files import BenchmarkRow, read_rows
from alignlab.evaluation.tasks import BenchmarkInputs, Findings, Needs, Question, subject, value_of
from alignlab.registry import register
from alignlab.types import EvalResult, Sampling

NAME = "arena_hard"
BASELINE = "the baseline"
"""Name of the other side in files that do not give it (v0.1)."""


WEIGHT = 3
"""Battles that a verdict of "significantly better" counts as."""
VERDICTS = {
    "A>>B": (1.0, WEIGHT), "A>B": (1.0, 1), "A=B": (0.5, 1), "A<B": (0.0, 1), "A<<B": (0.0, WEIGHT),
    "B<<A": (1.0, WEIGHT), "B<A": (1.0, 1), "B=A": (0.5, 1), "B>A": (0.0, 1), "B>>A": (0.0, WEIGHT),
}  # fmt: skip
"""Verdict -> (outcome of A, number of battles)."""


@register("benchmark", NAME)
@dataclass(frozen=True)
class ArenaHard:
    """Win rate against a baseline on hard prompts, plain and with style removed."""

    style_control: bool = True
    """Also fit the win rate without the effect of length and markdown."""

    needs: ClassVar[Needs] = Needs(
        data="Arena-Hard's question.jsonl (github.com/lmarena/arena-hard-auto, data/); "
        "any file of `{id, prompt, category}` will do",
        judges=("pairs",),
        baseline="needed",
        sampling=Sampling(temperature=0.0, top_p=1.0, max_tokens=4096),
    )

    def questions(self, data: Path) -> list[Question]:
        """Read the prompts, by category."""
        return fastchat_questions(data, NAME)

    def measure(self, inputs: BenchmarkInputs) -> Findings:
        """Compare every model with the baseline, then remove the effect of style."""
        fought = duels(inputs)
        found = duel_findings(inputs, NAME, fought, comparable=False)
        if not self.style_control:
            return found
        texts = {
            r.id: r.text
            for a in (*inputs.answers, *((inputs.baseline,) if inputs.baseline else ()))
            for several in a.turns.values()
            for r in several
        }
        model_of = {r.id: a.model for a in inputs.answers for s in a.turns.values() for r in s}
        cluster = {q.id: q.prompt.cluster for q in inputs.questions}
        battles = []
        for feedback in fought.said:
            own, other = feedback.response_ids
            value = value_of(feedback)
            if value is not None:
                battles.append(
                    Battle(
                        model_of[own], cluster[feedback.prompt_id], texts[own], texts[other], value
                    )
                )
        fitted = style_controlled(battles, seed=inputs.seed)
        rows = []
        for model, rate in fitted.win_rates.items():
            about = subject(inputs, model, NAME)
            unscored = sum(o.value is None for o in fought.outcomes[model])
            rows.append(about.row("style_controlled_win_rate", rate, unscored=unscored))
            rows += [
                about.count(f"style_weight_{feature}", weight, rate.n)
                for feature, weight in fitted.weights.items()
            ]
        controlled = tuple(replace(row, comparable=False) for row in rows)
        return Findings(found.rows + controlled, found.said)


class JudgedGames(NamedTuple):
    """Both games on one prompt."""

    prompt: str
    part: str | None
    score: float | None
    """Share of the model's battles won, ties half; None where a game has no verdict."""
    battles: int


def judgement_rows(path: Path, *, seed: int = 0) -> list[EvalResult]:
    """Measure every model of a file of judgements: win rate over the baseline, overall and by part.

    Raises:
        BadInput: a bad row, a verdict of another form, or a prompt judged twice by one judge.
    """
    models: dict[Subject, list[JudgedGames]] = {}
    seen: set[tuple[str, ...]] = set()
    for row in read_rows(path):
        about = Subject(row.text("model"), NAME, against=row.maybe("baseline") or BASELINE)
        prompt = row.key("uid", "question_id")
        once = (about.model, row.maybe("judge") or "", prompt)
        if once in seen:
            raise row.bad("uid", "each prompt once for a judge", prompt)
        seen.add(once)
        models.setdefault(about, []).append(_judged(row, prompt))
    rows = []
    for about, judged in models.items():
        parts = sorted({one.part for one in judged if one.part is not None})
        for part in (None, *(parts if len(parts) > 1 else ())):
            some = [one for one in judged if part in (None, one.part)]
            scored = [(o.score, o.battles, o.prompt) for o in some if o.score is not None]
            won, battles, prompts = zip(*scored, strict=True) if scored else ((), (), ())
            rate = bootstrap_ratio(won, battles, prompts_N=prompts, seed=seed, is_share=True)
            rate = Interval(rate.value, rate.low, rate.high, len(scored))
            group = None if part is None else f"family:{part}"
            rows.append(about.row("win_rate", rate, unscored=len(some) - len(scored), group=group))
    return rows


def _judged(row: BenchmarkRow, prompt: str) -> JudgedGames:
    games = row.values.get("games")
    if not isinstance(games, list) or len(games) not in (1, 2):
        raise row.bad("games", "one or two games", games)
    part = row.maybe("subcategory") or row.maybe("category")
    verdicts = [_verdict(row, number, game) for number, game in enumerate(games)]
    score, battles = 0.0, 0
    for number, verdict in enumerate(verdicts):
        if verdict is None:
            return JudgedGames(prompt, part, None, 0)
        share, weight = VERDICTS[verdict]
        # The baseline is A in the first game, the model in the second.
        score += weight * (share if number else 1 - share)
        battles += weight
    return JudgedGames(prompt, part, score, battles)


def _verdict(row: BenchmarkRow, number: int, game: Any) -> str | None:
    """Read a game's verdict; None where the judge gave none."""
    if game is not None and not isinstance(game, dict):
        raise row.bad(f"games[{number}]", "an object or null", game)
    verdict = (game or {}).get("score")
    if verdict is not None and not (isinstance(verdict, str) and verdict in VERDICTS):
        raise row.bad(f"games[{number}].score", "a verdict such as A>B", verdict)
    return verdict
