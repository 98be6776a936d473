"""AlpacaEval 1 and 2 on a model: a judge's preference between its answer and the baseline's.

The judge names the better answer by one token; the preference is the probability it gives to the
model's token among the two (arXiv 2404.04475). Where an endpoint gives no log-probabilities, or
gives the two tokens less than a tenth of the probability, the judge is asked for its verdict in
words, which counts 1 or 0 (a tie one half); the row `whole_verdicts` counts these judgements. The
official prompt (`prompt=`, the file alpaca_eval_clf.txt of the package alpaca_eval) is shown in one
order, which the instruction decides as in the published annotations. Our own wording is shown in
both orders and averaged. Figures with our wording, or with whole verdicts, are not comparable with
the public leaderboard. AlpacaEval 1 counts each preference as a win or a loss.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from alignlab.ask_model import Ask, ask_model
from alignlab.configs import Bounded, PositiveInt
from alignlab.errors import BadInput
from alignlab.evaluation.annotation_files import (
    FIRST,
    SECOND,
    Annotation,
    preference_of_tokens,
    read_difficulty,
    read_gamed,
    switched,
)
from alignlab.evaluation.benchmarks.alpaca_eval import NAME, AlpacaEval
from alignlab.evaluation.question_files import asked_text, single
from alignlab.evaluation.task_files import read_rows
from alignlab.evaluation.tasks import (
    BenchmarkInputs,
    Findings,
    Needs,
    Question,
    asks_model,
    model_judge,
    pair_judge,
    subject,
    value_of,
)
from alignlab.evaluation.templates import Template, own_template
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
from alignlab.verdicts import LEAST_MASS, parse_token, parse_winner

LETTERS = ("A", "B")
"""Names of the first and the second answer in our own prompt."""
WHOLE = "whole verdicts"
_TURN = re.compile(r"<\|im_start\|>(system|user)\n(.*?)<\|im_end\|>", re.DOTALL)


class AnswerPair(NamedTuple):
    """Instruction with the two answers to compare."""

    question: Question
    own: Response
    base: Response


class ShownPair(NamedTuple):
    """Pair of answers in one order of presentation."""

    pair: AnswerPair
    is_switched: bool
    """True where the model's answer is shown first."""


class Preferred(NamedTuple):
    """Preference of the judge in one order."""

    value: float | None
    """Probability that the model's answer is preferred; None is unreadable."""
    raw: str
    why: str = ""
    is_whole: bool = False
    """True where read from a verdict in words, not from probabilities."""


@register("benchmark", NAME)
@dataclass(frozen=True)
class AlpacaEvalRun(Bounded):
    """AlpacaEval on a model: preference over the baseline by a judge, plain, length-controlled."""

    version: Literal[1, 2] = 2
    """Version: 2 averages preferences; 1 counts each as a win or a loss."""
    prompt: Path | None = None
    """Official prompt, alpaca_eval_clf.txt; without it ours is used: not comparable."""
    difficulty: Path | None = None
    """CSV of instruction difficulties; with `gamed` adds the length-controlled win rate."""
    gamed: Path | None = None
    """CSV of the gamed baselines, for the fit of the length-controlled win rate."""
    judge_tokens: PositiveInt = 1024
    """Most tokens of a verdict in words, requested where the judge gives no probabilities."""

    needs: ClassVar[Needs] = Needs(
        data="AlpacaEval's 805 instructions with the baseline's answers, alpaca_eval.json or "
        "alpaca_eval_gpt4_baseline.json (huggingface.co/datasets/tatsu-lab/alpaca_eval)",
        judges=("model", "pairs"),
        baseline="needed",
        sampling=Sampling(temperature=0.7, top_p=1.0, max_tokens=2048),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.difficulty is None) != (self.gamed is None):
            raise BadInput("alpaca_eval: expected difficulty= and gamed= together or neither")

    def questions(self, data: Path) -> list[Question]:
        """Read the instructions; an instruction's id is its position, as in the difficulties."""
        found = []
        if self.prompt is not None:  # before a model answers
            official(self.prompt)
        if self.gamed is not None:
            read_gamed(self.gamed)
        for number, row in enumerate(read_rows(data)):
            baseline = row.maybe("baseline_output") or row.maybe("output")
            question = single(
                row, NAME, asked_text(row, "instruction"), key=str(number), baseline=baseline
            )
            found.append(replace(question, prompt=replace(question.prompt, id=str(number))))
        if self.difficulty is not None:  # before a judge is paid
            known = read_difficulty(self.difficulty)
            missing = next((q.id for q in found if int(q.id) not in known), None)
            if missing is not None:
                raise BadInput(
                    f"{self.difficulty}: expected a difficulty for instruction {missing}"
                )
        return found

    def measure(self, inputs: BenchmarkInputs) -> Findings:
        """Judge the preference on every instruction."""
        if inputs.baseline is None:
            raise BadInput("--baseline is missing: whom the models are compared with")
        if self.prompt is not None and not asks_model(inputs):
            raise BadInput("alpaca_eval: prompt= has no effect with a judge of pairs")
        found = Findings(())
        for answers in inputs.answers:
            pairs = [
                AnswerPair(q, own, base)
                for q in inputs.questions
                if (own := answers.last(q)) and (base := inputs.baseline.last(q))
            ]
            judgements = self._judged(inputs, pairs)
            found += Findings(
                tuple(self._rows(inputs, answers.model, pairs, judgements)), tuple(judgements)
            )
        return found

    def _rows(
        self,
        inputs: BenchmarkInputs,
        model: str,
        pairs: Sequence[AnswerPair],
        judgements: Sequence[Feedback],
    ) -> list[EvalResult]:
        values = {f.prompt_id: self._counted(value_of(f)) for f in judgements}
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
        left_out = len(inputs.questions) - len(pairs)
        whole = sum(f.source.endswith(WHOLE) for f in judgements)
        comparable = self.prompt is not None and not left_out and not whole
        about = subject(inputs, model, NAME)
        rows = result.rows(about.against)
        if whole:
            rows.append(about.count("whole_verdicts", float(whole), len(judgements)))
        return [
            replace(row, unscored=row.unscored + left_out, comparable=comparable) for row in rows
        ]

    def _counted(self, value: float | None) -> float | None:
        if value is None or self.version == 2 or value == 0.5:
            return value
        return float(value > 0.5)

    def _judged(self, inputs: BenchmarkInputs, pairs: Sequence[AnswerPair]) -> list[Feedback]:
        """Judge every pair; equal answers are a draw without a judgement."""
        differ = [p for p in pairs if p.own.text != p.base.text]
        if asks_model(inputs):
            judged = self._asked(inputs, differ)
        else:
            items = [(p.question.prompt, p.own, p.base) for p in differ]
            judged = pair_judge(inputs).compare(items, inputs.seed)
        by_prompt = {f.prompt_id: f for f in judged}
        return [
            by_prompt.get(p.question.id)
            or Feedback(p.question.id, (p.own.id, p.base.id), "equal answers", Score(0.5))
            for p in pairs
        ]

    def _asked(self, inputs: BenchmarkInputs, pairs: Sequence[AnswerPair]) -> list[Feedback]:
        """Judge pairs in the official order, or in both and averaged."""
        template = own_template("alpaca_eval") if self.prompt is None else official(self.prompt)
        shown = [
            ShownPair(pair, order)
            for pair in pairs
            for order in (
                (switched(pair.question.prompt.text),) if template.official else (False, True)
            )
        ]
        found = self._preferences(inputs, template, shown)
        each = 1 if template.official else 2
        name = f"{model_judge(inputs).name} ({template.name})"
        return [
            _feedback(name, pair, found[i * each : (i + 1) * each]) for i, pair in enumerate(pairs)
        ]

    def _preferences(
        self, inputs: BenchmarkInputs, template: Template, shown: Sequence[ShownPair]
    ) -> list[Preferred]:
        """Compare two choices' probabilities; request whole verdicts where they are missing."""
        judge = model_judge(inputs)
        choices = (FIRST, SECOND) if template.official else LETTERS
        asks = [
            Ask(f"{s.pair.own.id}|{'switched' if s.is_switched else 'shown'}", _fill(template, s))
            for s in shown
        ]
        sampling = Sampling(temperature=0.0, top_p=1.0, max_tokens=self.judge_tokens)
        found: list[Preferred | None] = [None] * len(shown)
        if isinstance(judge, ChoiceScorer):
            requests = [CompletionRequest(*ask, sampling, inputs.seed) for ask in asks]
            weighed = judge.choice_logprobs(requests, choices)
            found = [_weigh(one, choices, x) for one, x in zip(shown, weighed, strict=True)]
        open_ = [i for i, one in enumerate(found) if one is None]
        replies = ask_model(
            judge,
            [asks[i] for i in open_],
            _first_in_official_words if template.official else _first_in_our_words,
            sampling=sampling,
            seed=inputs.seed,
            unread="the judge named neither answer",
        )
        for i, (reply,) in zip(open_, replies, strict=True):
            found[i] = _whole(shown[i], reply.value, reply.text)
        return [one for one in found if one is not None]


def official(path: Path) -> Template:
    """Read the prompt of the package alpaca_eval, with its chat markers as turns.

    Raises:
        BadInput: the file has no user turn, or lacks a place for an answer.
    """
    turns = dict(_TURN.findall(read_text(path)))
    places = ("{instruction}", "{output_1}", "{output_2}")
    if "user" not in turns or not all(p in turns["user"] for p in places):
        raise BadInput(f"{path}: expected a user turn with {', '.join(places)}, found none")
    return Template(path.stem, turns["user"].strip(), turns.get("system", "").strip(), True)


def _fill(template: Template, shown: ShownPair) -> tuple[Message, ...]:
    first, second = shown.pair.base.text, shown.pair.own.text
    if shown.is_switched:
        first, second = second, first
    return template.fill(
        instruction=shown.pair.question.prompt.text, output_1=first, output_2=second
    )


def _weigh(
    shown: ShownPair, choices: tuple[str, str], logprobs: Sequence[float]
) -> Preferred | None:
    """Return the preference from the choices' probabilities; None where they are too low."""
    # NaN: the endpoint gave none. Both choices together must be likely enough to compare.
    if not sum(map(math.exp, logprobs)) >= LEAST_MASS:
        return None
    raw = ", ".join(f"{c}: {math.exp(x):.3g}" for c, x in zip(choices, logprobs, strict=True))
    tokens = dict(zip((FIRST, SECOND), logprobs, strict=True))
    found = preference_of_tokens(tokens, is_switched=shown.is_switched)
    return None if found is None else Preferred(found - 1, raw)


def _first_in_official_words(text: str) -> float | None:
    named = parse_token(text, (FIRST, SECOND))
    return None if named is None else float(named == FIRST)


def _first_in_our_words(text: str) -> float | None:
    named = parse_winner(text)
    return None if named is None else {"a": 1.0, "b": 0.0, "tie": 0.5}[named]


def _whole(shown: ShownPair, first: float | Unscored, text: str) -> Preferred:
    """Convert a verdict in words, 1 where the first answer shown is better, to the model's side."""
    if isinstance(first, Unscored):
        return Preferred(None, text, first.reason, True)
    return Preferred(first if shown.is_switched else 1 - first, text, is_whole=True)


def _feedback(name: str, pair: AnswerPair, found: Sequence[Preferred]) -> Feedback:
    values = [p.value for p in found if p.value is not None]
    verdict: Verdict
    if len(values) < len(found):
        verdict = Unscored(next(p.why for p in found if p.value is None))
    else:
        verdict = Score(sum(values) / len(values), tuple(values))
    raw = tuple(p.raw for p in found)
    if any(p.is_whole for p in found):
        name = f"{name}, {WHOLE}"
    return Feedback(pair.question.id, (pair.own.id, pair.base.id), name, verdict, raw=raw)
