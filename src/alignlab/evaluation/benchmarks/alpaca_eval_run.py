"""AlpacaEval 1 and 2 on a model: a judge's preference between its answer and the baseline's.

The judge names the better answer by one token; the preference is the probability it gives to the
model's token among the two (arXiv 2404.04475). The official prompt (`prompt=`, the file
alpaca_eval_clf.txt of the package alpaca_eval) is asked in one order, which the instruction decides
as in the published annotations. Our own wording is asked in both orders and averaged, and is not
comparable with the public leaderboard. AlpacaEval 1 counts each preference as a win or a loss.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from alignlab.ask_model import Ask, ask_model
from alignlab.errors import BadInput
from alignlab.evaluation.annotation_files import Annotation
from alignlab.evaluation.benchmarks.alpaca_eval import NAME, AlpacaEval
from alignlab.evaluation.question_files import single
from alignlab.evaluation.task_files import read_rows
from alignlab.evaluation.tasks import (
    BenchmarkInputs,
    Findings,
    Needs,
    Question,
    asks_model,
    model_judge,
    pair_judge,
    value_of,
)
from alignlab.evaluation.templates import Template, own_template
from alignlab.evaluation.token_preferences import (
    FIRST,
    SECOND,
    preference_of_tokens,
    switched,
)
from alignlab.files import read_text
from alignlab.protocols import ChoiceScorer
from alignlab.registry import register
from alignlab.types import (
    CompletionRequest,
    EvalResult,
    Feedback,
    Message,
    Response,
    Sampling,
    Score,
    Unscored,
    Verdict,
)
from alignlab.verdicts import LEAST_MASS, parse_token

LETTERS = ("A", "B")
"""What our own prompt calls the first and the second answer."""
_TURN = re.compile(r"<\|im_start\|>(system|user)\n(.*?)<\|im_end\|>", re.DOTALL)


class AnswerPair(NamedTuple):
    """One instruction with the two answers that are compared."""

    question: Question
    own: Response
    base: Response


class ShownPair(NamedTuple):
    """A pair in one order of presentation."""

    pair: AnswerPair
    is_switched: bool
    """Whether the model's answer is shown first."""


@register("benchmark", NAME)
@dataclass(frozen=True)
class AlpacaEvalRun:
    """AlpacaEval on a model: preference over the baseline by a judge, plain, length-controlled."""

    version: Literal[1, 2] = 2
    """2 averages preferences; 1 counts each as a win or a loss."""
    prompt: Path | None = None
    """The official prompt, alpaca_eval_clf.txt; without it ours is used and figures are not
    comparable."""
    difficulty: Path | None = None
    """CSV of instruction difficulties; with `gamed` adds the length-controlled win rate."""
    gamed: Path | None = None
    """CSV of the gamed baselines, for the fit of the length-controlled win rate."""

    needs: ClassVar[Needs] = Needs(
        data="AlpacaEval's 805 instructions with the baseline's answers, alpaca_eval.json or "
        "alpaca_eval_gpt4_baseline.json (huggingface.co/datasets/tatsu-lab/alpaca_eval)",
        judges=("model", "pairs"),
        baseline="needed",
        sampling=Sampling(temperature=0.7, top_p=1.0, max_tokens=2048),
    )

    def __post_init__(self) -> None:
        if (self.difficulty is None) != (self.gamed is None):
            raise BadInput("alpaca_eval: expected difficulty= and gamed= together or neither")

    def questions(self, data: Path) -> list[Question]:
        """The instructions; an instruction's id is its position, as in the difficulties."""
        found = []
        for number, row in enumerate(read_rows(data)):
            baseline = row.maybe("baseline_output") or row.maybe("output")
            question = single(
                row, NAME, row.text("instruction"), key=str(number), baseline=baseline
            )
            found.append(replace(question, prompt=replace(question.prompt, id=str(number))))
        return found

    def measure(self, asked: BenchmarkInputs) -> Findings:
        """Ask for the preference on every instruction."""
        if asked.baseline is None:
            raise BadInput("--baseline is missing: whom the models are compared with")
        if self.prompt is not None and not asks_model(asked):
            raise BadInput("alpaca_eval: prompt= has no effect with a judge of pairs")
        found = Findings(())
        for answers in asked.answers:
            pairs = [
                AnswerPair(q, own, base)
                for q in asked.questions
                if (own := answers.last(q)) and (base := asked.baseline.last(q))
            ]
            said = self._judged(asked, pairs)
            found += Findings(tuple(self._rows(asked, answers.model, pairs, said)), tuple(said))
        return found

    def _rows(
        self,
        asked: BenchmarkInputs,
        model: str,
        pairs: Sequence[AnswerPair],
        said: Sequence[Feedback],
    ) -> list[EvalResult]:
        values = {f.prompt_id: self._counted(value_of(f)) for f in said}
        annotations = [
            Annotation(
                model=model,
                row=row,
                instruction_id=int(pair.question.id),
                length_baseline=len(pair.base.text),
                length_model=len(pair.own.text),
                preference=None if (v := values[pair.question.id]) is None else 1 + v,
            )
            for row, pair in enumerate(pairs)
        ]
        if not annotations:
            raise BadInput(f"{model}: expected answers to the baseline's instructions, found none")
        files = AlpacaEval(difficulty=self.difficulty, gamed=self.gamed)
        (result,) = files.of({model: annotations}, Path(NAME))
        # The leaderboard divides by its 805 instructions, however many were asked.
        mean_length = sum(a.length_model for a in annotations) // len(annotations)
        result = replace(result, avg_length=mean_length)
        left_out = len(asked.questions) - len(pairs)
        comparable = self.prompt is not None and not left_out
        baseline = asked.baseline.model if asked.baseline else None
        return [
            replace(row, unscored=row.unscored + left_out, comparable=comparable)
            for row in result.rows(baseline)
        ]

    def _counted(self, value: float | None) -> float | None:
        if value is None or self.version == 2 or value == 0.5:
            return value
        return float(value > 0.5)

    def _judged(self, asked: BenchmarkInputs, pairs: Sequence[AnswerPair]) -> list[Feedback]:
        """A verdict per pair; equal answers are a draw that nobody is asked about."""
        differ = [p for p in pairs if p.own.text != p.base.text]
        if asks_model(asked):
            judged = self._asked(asked, differ)
        else:
            items = [(p.question.prompt, p.own, p.base) for p in differ]
            judged = pair_judge(asked).compare(items, asked.seed)
        by_prompt = {f.prompt_id: f for f in judged}
        return [
            by_prompt.get(p.question.id)
            or Feedback(p.question.id, (p.own.id, p.base.id), "equal answers", Score(0.5))
            for p in pairs
        ]

    def _asked(self, asked: BenchmarkInputs, pairs: Sequence[AnswerPair]) -> list[Feedback]:
        """The judge's preference, in the official order or averaged over both."""
        template = own_template("alpaca_eval") if self.prompt is None else official(self.prompt)
        shown = [
            ShownPair(pair, order)
            for pair in pairs
            for order in (
                (switched(pair.question.prompt.text),) if template.official else (False, True)
            )
        ]
        found = _preferences(asked, template, shown)
        each = 1 if template.official else 2
        name = f"{model_judge(asked).name} ({template.name})"
        return [
            _feedback(name, pair, found[i * each : (i + 1) * each]) for i, pair in enumerate(pairs)
        ]


def official(path: Path) -> Template:
    """The prompt of the package alpaca_eval, with its chat markers read as turns.

    Raises:
        BadInput: the file has no user turn, or lacks a place for an answer.
    """
    turns = dict(_TURN.findall(read_text(path)))
    places = ("{instruction}", "{output_1}", "{output_2}")
    if "user" not in turns or not all(p in turns["user"] for p in places):
        raise BadInput(f"{path}: expected a user turn with {', '.join(places)}, found none")
    return Template(path.stem, turns["user"].strip(), turns.get("system", "").strip(), True)


class Preferred(NamedTuple):
    """What was read in one order."""

    value: float | None
    """Probability that the model's answer is preferred; None is unreadable."""
    raw: str
    why: str = ""


def _preferences(
    asked: BenchmarkInputs, template: Template, shown: Sequence[ShownPair]
) -> list[Preferred]:
    judge = model_judge(asked)
    choices = (FIRST, SECOND) if template.official else LETTERS
    asks = [
        Ask(f"{one.pair.own.id}|{'switched' if one.is_switched else 'shown'}", _fill(template, one))
        for one in shown
    ]
    sampling = Sampling(temperature=0.0, top_p=1.0, max_tokens=4)
    if isinstance(judge, ChoiceScorer):
        requests = [CompletionRequest(*ask, sampling, asked.seed) for ask in asks]
        weighed = judge.choice_logprobs(requests, choices)
        return [
            _weigh(one, choices, logprobs) for one, logprobs in zip(shown, weighed, strict=True)
        ]
    replies = ask_model(
        judge,
        asks,
        lambda text: parse_token(text, choices),
        sampling=sampling,
        seed=asked.seed,
        unread="the judge named neither answer",
    )
    return [
        Preferred(None, reply.text, reply.value.reason)
        if isinstance(reply.value, Unscored)
        else Preferred(float((reply.value == choices[0]) == one.is_switched), reply.text)
        for one, (reply,) in zip(shown, replies, strict=True)
    ]


def _fill(template: Template, shown: ShownPair) -> tuple[Message, ...]:
    first, second = shown.pair.base.text, shown.pair.own.text
    if shown.is_switched:
        first, second = second, first
    return template.fill(
        instruction=shown.pair.question.prompt.text, output_1=first, output_2=second
    )


def _weigh(shown: ShownPair, choices: tuple[str, str], logprobs: Sequence[float]) -> Preferred:
    raw = ", ".join(f"{c}: {math.exp(x):.3g}" for c, x in zip(choices, logprobs, strict=True))
    if any(math.isnan(x) for x in logprobs):
        return Preferred(None, raw, "the model gave no probabilities for its choices")
    tokens = dict(zip((FIRST, SECOND), logprobs, strict=True))
    found = preference_of_tokens(tokens, is_switched=shown.is_switched)
    if found is None:
        return Preferred(None, raw, "neither choice is likely enough to be listed")
    if sum(map(math.exp, logprobs)) < LEAST_MASS:
        # Not the leaderboard's rule, which prefers by whatever is left of the probability.
        return Preferred(None, raw, f"the choices hold less than {LEAST_MASS:g} of probability")
    return Preferred(found - 1, raw)


def _feedback(name: str, pair: AnswerPair, found: Sequence[Preferred]) -> Feedback:
    values = [p.value for p in found if p.value is not None]
    verdict: Verdict
    if len(values) < len(found):
        verdict = Unscored(next(p.why for p in found if p.value is None))
    else:
        verdict = Score(sum(values) / len(values), tuple(values))
    raw = tuple(p.raw for p in found)
    return Feedback(pair.question.id, (pair.own.id, pair.base.id), name, verdict, raw=raw)
