"""Relevant sentences: the share of an answer's sentences that help to answer (arXiv 2402.03469).

A judge reads the question and one sentence at a time: a sentence that only makes sense after the
one before it can count as irrelevant. The share is also given by the sentence's position, since
models trained to be long lose the thread late.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from alignlab.ask_model import Ask, Reply, ask_model
from alignlab.configs import Bounded, PositiveInt
from alignlab.evaluation.question_files import plain_questions
from alignlab.evaluation.task_rows import Measure, QuestionValue, not_comparable, one_row, part_rows
from alignlab.evaluation.tasks import (
    BenchmarkInputs,
    Findings,
    Needs,
    Question,
    model_judge,
    subject,
)
from alignlab.evaluation.templates import own_template
from alignlab.registry import register
from alignlab.text import sentences
from alignlab.types import EvalResult, Feedback, Response, Sampling, Score, Unscored, Verdict
from alignlab.verdicts import yes_or_no

NAME = "relevant_sentences"
RATIO = Measure("relevant_ratio", is_share=True)
"""Mean over answers of the share of relevant sentences."""
AT = Measure("relevant_share", is_share=True)
"""Share of relevant sentences, pooled over answers."""


class AnswerSentence(NamedTuple):
    """Sentence of an answer."""

    question: Question
    response: Response
    place: int
    """Position of the sentence; 1 is the first."""
    text: str


@register("benchmark", NAME)
@dataclass(frozen=True)
class RelevantSentences(Bounded):
    """Share of an answer's sentences that are relevant, overall and by the sentence's position."""

    places: PositiveInt = 10
    """Positions reported separately (`sentence:1`, ...); later sentences are pooled."""

    needs: ClassVar[Needs] = Needs(
        data="any file of prompts, rows of `prompt` (or `instruction`)",
        judges=("model",),
        sampling=Sampling(temperature=0.7, top_p=0.9, max_tokens=512),
    )

    def questions(self, data: Path) -> list[Question]:
        """Read the prompts."""
        return plain_questions(data, NAME)

    def measure(self, inputs: BenchmarkInputs) -> Findings:
        """Judge every sentence of every answer."""
        rows: list[EvalResult] = []
        judgements: list[Feedback] = []
        for answers, answered in inputs.by_model():
            pieces = [
                AnswerSentence(q, responses[-1], place, text)
                for q, responses in answered
                for place, text in enumerate(sentences(responses[-1].text), start=1)
            ]
            asks = [_ask(piece) for piece in pieces]
            judge = model_judge(inputs)
            sampling = Sampling(0.0, 1.0, 16)
            replies = ask_model(judge, asks, yes_or_no, sampling=sampling, seed=inputs.seed)
            found = [reply for (reply,) in replies]
            values = [None if reply.read is None else float(reply.read) for reply in found]
            judged = [_feedback(judge.name, turns[-1], pieces, found) for _, turns in answered]
            rows += self._rows(
                inputs, answers.model, judged, list(zip(pieces, values, strict=True))
            )
            judgements += judged
        return Findings(not_comparable(rows), tuple(judgements))

    def _rows(
        self,
        inputs: BenchmarkInputs,
        model: str,
        judged: Sequence[Feedback],
        values: Sequence[tuple[AnswerSentence, float | None]],
    ) -> list[EvalResult]:
        about, seed, prompts = subject(inputs, model, NAME), inputs.seed, inputs.prompts
        ratios = {f.prompt_id: f.verdict for f in judged}
        whole = []
        for question in inputs.questions:
            verdict = ratios.get(question.id)
            value = verdict.value if isinstance(verdict, Score) else None
            whole.append(QuestionValue(question.id, value))
        rows = part_rows(about, RATIO, whole, prompts, seed=seed)
        by_place: dict[str | None, list[QuestionValue]] = {None: []}
        for piece, value in values:
            last = piece.place > self.places
            place = f"sentence:{self.places + 1}+" if last else f"sentence:{piece.place}"
            for part in (None, place):
                by_place.setdefault(part, []).append(QuestionValue(piece.question.id, value))
        return rows + [
            one_row(about, AT, some, prompts, seed=seed, group=part)
            for part, some in sorted(by_place.items(), key=_place)
        ]


def _place(item: tuple[str | None, list[QuestionValue]]) -> int:
    name = item[0]
    return 0 if name is None else int(name.partition(":")[2].rstrip("+"))


def _ask(piece: AnswerSentence) -> Ask:
    template = own_template("relevant_sentence")
    messages = template.fill(question=piece.question.prompt.text, sentence=piece.text)
    return Ask(f"{piece.response.id}|{piece.place}", messages)


def _feedback(
    judge: str, response: Response, pieces: Sequence[AnswerSentence], found: Sequence[Reply[bool]]
) -> Feedback:
    """Build one answer's feedback: the share of relevant sentences among those with a verdict."""
    own = [(p, r) for p, r in zip(pieces, found, strict=True) if p.response.id == response.id]
    read = [(p, reply.read) for p, reply in own]
    known = [relevant for _, relevant in read if relevant is not None]
    verdict: Verdict
    if known:
        verdict = Score(sum(known) / len(known))
    else:
        verdict = Unscored("no sentence was judged" if own else "an answer without sentences")
    lines = [f"{p.place}. {_WORD[relevant]}: {p.text}" for p, relevant in read]
    raw = tuple(reply.text for _, reply in own)
    return Feedback(response.prompt_id, (response.id,), judge, verdict, "\n".join(lines), raw)


_WORD: Mapping[bool | None, str] = {True: "relevant", False: "irrelevant", None: "unread"}
