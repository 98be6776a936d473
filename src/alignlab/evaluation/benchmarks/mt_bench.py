"""MT-Bench: 80 questions of two turns, each turn rated 1 to 10 by a judge (arXiv 2306.05685).

Questions on mathematics, reasoning and coding are judged with a reference answer in the prompt. The
official judge prompts are read from a file (`prompts=`); with our own wording, without references,
or with scores of a feedback source, figures are not comparable with published ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from alignlab.ask_model import Ask, ask_model
from alignlab.configs import Bounded, PositiveInt
from alignlab.errors import BadInput
from alignlab.evaluation.question_files import fastchat_questions, fastchat_references
from alignlab.evaluation.task_files import keyed, read_rows
from alignlab.evaluation.task_rows import score_rows
from alignlab.evaluation.tasks import (
    BenchmarkInputs,
    Findings,
    ModelAnswers,
    Needs,
    Question,
    ask_question,
    asks_model,
    model_judge,
    score_judge,
    subject,
)
from alignlab.evaluation.templates import Template, own_template
from alignlab.registry import register
from alignlab.types import (
    EvalResult,
    Feedback,
    Prompt,
    Response,
    Sampling,
    Score,
    Unscored,
)
from alignlab.verdicts import parse_rating

NAME = "mt_bench"
WITH_REFERENCE = frozenset({"math", "reasoning", "coding"})
"""Categories judged with a reference answer in the prompt."""
TEMPERATURES = {"writing": 0.7, "roleplay": 0.7, "stem": 0.1, "humanities": 0.1}
"""Category -> sampling temperature of its answers; the others are greedy."""
LOW, HIGH = 1, 10
OFFICIAL = {
    (0, False): "single-v1",
    (0, True): "single-math-v1",
    (1, False): "single-v1-multi-turn",
    (1, True): "single-math-v1-multi-turn",
}
"""(Turn, with a reference) -> the official prompt's name; ours has underscores."""


@register("benchmark", NAME)
@dataclass(frozen=True)
class MTBench(Bounded):
    """First-turn, second-turn and average rating (1 to 10) on MT-Bench, whole and by category."""

    references: Path | None = None
    """File of reference answers (reference_answer/gpt-4.jsonl), one to each turn of every question
    on mathematics, reasoning and coding; without it those questions are judged as the others are.
    """
    prompts: Path | None = None
    """File of the official judge prompts (judge_prompts.jsonl); without it ours are used and
    figures are not comparable."""
    judge_tokens: PositiveInt = 2048
    """Most tokens of a judgement."""

    needs: ClassVar[Needs] = Needs(
        data="MT-Bench's question.jsonl "
        "(github.com/lm-sys/FastChat, fastchat/llm_judge/data/mt_bench)",
        judges=("model", "scores"),
        turns=2,
        sampling=Sampling(temperature=0.0, top_p=1.0, max_tokens=1024),
    )

    def questions(self, data: Path) -> list[Question]:
        """Read the 80 questions with their temperatures and, where given, their references.

        Raises:
            BadInput: a bad row, a question whose turns have no reference each, or a file of
                prompts that lacks one.
        """
        if self.prompts is not None:  # before a model answers
            for turn, with_reference in OFFICIAL:
                self._template(turn, with_reference)
        known = {} if self.references is None else fastchat_references(self.references)
        found = []
        for question in fastchat_questions(data, NAME):
            references: tuple[str, ...] = ()
            if self.references is not None and question.part in WITH_REFERENCE:
                references = known.get(question.id, ())
                turns = 1 + len(question.follow_ups)
                if len(references) < turns:  # before a judge is paid
                    raise BadInput(
                        f"{self.references}, question_id {question.id}: expected reference answers "
                        f"to {turns} turns, found {len(references)}"
                    )
            temperature = TEMPERATURES.get(question.part, 0.0)
            found.append(replace(question, references=references, temperature=temperature))
        if self.references is not None and not any(q.references for q in found):
            raise BadInput(f"{self.references}: expected references to questions of {data}")
        return found

    def measure(self, inputs: BenchmarkInputs) -> Findings:
        """Rate every turn of every model's answers."""
        rows: list[EvalResult] = []
        judgements: list[Feedback] = []
        official = self.prompts is not None and asks_model(inputs)
        comparable = official and self.references is not None
        for answers, answered in inputs.by_model():
            turns = [
                self._rate(inputs, answered, turn) + _unanswered(inputs, answers, turn)
                for turn in range(2)
            ]
            about = subject(inputs, answers.model, NAME)
            prompts = [q.prompt for q in inputs.questions]
            figures = {"mean": turns[0] + turns[1], "turn_1": turns[0], "turn_2": turns[1]}
            for metric, judged in figures.items():
                found = score_rows(about, judged, prompts, metric=metric, seed=inputs.seed)
                rows += [replace(row, comparable=comparable) for row in found]
            judgements += turns[0] + turns[1]
        return Findings(tuple(rows), tuple(judgements))

    def _rate(
        self,
        inputs: BenchmarkInputs,
        answered: Sequence[tuple[Question, tuple[Response, ...]]],
        turn: int,
    ) -> list[Feedback]:
        """Rate the answers to one turn, one feedback per question."""
        several = [(q, responses) for q, responses in answered if len(responses) > turn]
        if not asks_model(inputs):
            items = [
                (
                    Prompt(q.id, ask_question(q, responses[:turn]), q.prompt.source),
                    (responses[turn],),
                )
                for q, responses in several
            ]
            return score_judge(inputs).rate(items, inputs.seed)
        official = self.prompts is not None
        replies = ask_model(
            judge := model_judge(inputs),
            [
                Ask(
                    f"{responses[turn].id}|rate",
                    self._template(turn, bool(q.references)).fill(**_texts(q, responses, turn)),
                )
                for q, responses in several
            ],
            lambda text: parse_rating(text, low=LOW, high=HIGH, official=official),
            sampling=Sampling(0.0, 1.0, self.judge_tokens),
            seed=inputs.seed,
            unread="no readable rating",
        )
        return [
            Feedback(
                q.id,
                (responses[turn].id,),
                judge.name,
                reply.value if isinstance(reply.value, Unscored) else Score(reply.value),
                reply.text,
                (reply.text,),
            )
            for (q, responses), (reply,) in zip(several, replies, strict=True)
        ]

    def _template(self, turn: int, with_reference: bool) -> Template:
        name = OFFICIAL[turn, with_reference]
        if self.prompts is None:
            return own_template(f"mt_bench_{name.replace('-', '_')}")
        found = keyed(read_rows(self.prompts), "name", lambda row: row.text("name"))
        if name not in found:
            raise BadInput(f"{self.prompts}: expected the prompt {name!r}, found {sorted(found)}")
        row = found[name]
        system = row.maybe("system_prompt") or ""
        return Template(name, row.text("prompt_template"), system, official=True)


def rating(text: str, *, official: bool) -> Score | Unscored:
    """Read the rating in a judge's reply, by the official rule or by ours (`parse_rating`)."""
    found = parse_rating(text, low=LOW, high=HIGH, official=official)
    return Unscored("no readable rating") if found is None else Score(found)


def _texts(question: Question, responses: Sequence[Response], turn: int) -> dict[str, str]:
    """Return the texts for a prompt's places."""
    turns = (question.prompt.text, *question.follow_ups)
    texts = {"question": turns[0], "answer": responses[0].text}
    for i in range(turn + 1):
        texts |= {f"question_{i + 1}": turns[i], f"answer_{i + 1}": responses[i].text}
    for i, reference in enumerate(question.references[: turn + 1]):
        texts[f"ref_answer_{i + 1}"] = reference
    return texts


def _unanswered(inputs: BenchmarkInputs, answers: ModelAnswers, turn: int) -> list[Feedback]:
    return [
        Feedback(q.id, (f"{q.id}/{answers.model}/{turn}",), "", Unscored("no answer"))
        for q in inputs.questions
        if len(answers.turns.get(q.id, ())) <= turn
    ]
