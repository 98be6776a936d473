"""Accuracy on prompts with reference answers: one attempt, k attempts, a majority, the best of n.

Answers are read and compared by `alignlab.answers`, as the feedback source `verifier` does. Data is
whatever `alignlab list data` reads with references: GSM8K, `gym:TASK`, IFEval, the sandbox. Figures
depend on the question's wording and on the reader of answers: they are compared between models, not
with a leaderboard's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

from alignlab.answers import AnswerOptions, CheckResult, check
from alignlab.configs import PositiveInt
from alignlab.errors import BadInput
from alignlab.evaluation.attempts import attempt_id, attempts, refuse_greedy
from alignlab.evaluation.corpus_prompts import held_out_or_all
from alignlab.evaluation.metrics.pass_at_k import majority, pass_at_k
from alignlab.evaluation.result_rows import Subject, prompt_groups
from alignlab.evaluation.task_rows import Measure, QuestionValue, one_row, part_rows
from alignlab.evaluation.tasks import (
    BenchmarkInputs,
    Findings,
    Needs,
    Question,
    score_judge,
    subject,
    value_of,
)
from alignlab.registry import register
from alignlab.types import (
    Corpus,
    EvalResult,
    Feedback,
    Message,
    Prompt,
    Response,
    Sampling,
    Score,
    Unscored,
)

NAME = "qa"


class _Attempt(NamedTuple):
    question: Question
    response: Response
    found: CheckResult


@register("benchmark", NAME)
@dataclass(frozen=True)
class QuestionAnswering(AnswerOptions):
    """Accuracy on prompts with reference answers: pass@k, majority, best of n by a scorer."""

    samples: PositiveInt = 1
    """Attempts at each question; one is greedy, several are sampled at temperature 0.7 unless
    `temperature` is set."""
    ask: str = ""
    """Text appended to every question, such as the form that the answer should have."""
    pattern: str = ""
    """Regular expression of extract=regex."""

    needs: ClassVar[Needs] = Needs(
        data="prompts with reference answers (gsm8k:FILE, gym:TASK, ifeval:FILE, rows of `prompt` "
        "and `reference`, ...); held-out prompts alone where the data holds some",
        corpus=True,
        judges=("scores",),
        judge_optional=True,
        sampling=Sampling(temperature=0.0, top_p=1.0, max_tokens=512),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.pattern) != (self.extract == "regex"):
            raise BadInput("setting pattern: expected it with extract=regex, and only there")

    def questions(self, data: Corpus) -> list[Question]:
        """Build a question for every attempt at every prompt that has a reference.

        Raises:
            BadInput: no prompt has a reference.
        """
        asked = [p for p in held_out_or_all(data) if p.reference]
        if not asked:
            raise BadInput(f"{data.name}: expected prompts with reference answers, found none")
        worded = [Question(self._worded(p), references=(p.reference or "",)) for p in asked]
        return [attempt for question in worded for attempt in attempts(question, self.samples)]

    def measure(self, inputs: BenchmarkInputs) -> Findings:
        """Check every answer.

        Raises:
            BadInput: a judge without several attempts, or several greedy ones.
        """
        if inputs.judge is not None and self.samples == 1:
            raise BadInput("evaluate qa: --judge has no effect with samples=1; set samples")
        found = Findings(())
        for answers, answered in inputs.by_model():
            made = [_Attempt(q, r[-1], self._check(q, r[-1])) for q, r in answered]
            refuse_greedy((attempt.response for attempt in made), self.samples)
            about = subject(inputs, answers.model, NAME)
            rows = self._single(about, made, inputs)
            if self.samples > 1:
                rows += self._several(about, made, inputs)
            found += Findings(tuple(rows), tuple(map(_feedback, made)))
        asked = [] if inputs.corpus is None else held_out_or_all(inputs.corpus)
        missing = sum(not p.reference for p in asked)
        if missing and inputs.answers:
            about = subject(inputs, inputs.answers[0].model, NAME)
            found += Findings((about.count("prompts_without_reference", float(missing), missing),))
        return found

    def _worded(self, prompt: Prompt) -> Prompt:
        if not self.ask:
            return prompt
        last = Message("user", f"{prompt.text}\n\n{self.ask}")
        return replace(prompt, messages=(*prompt.messages[:-1], last))

    def _check(self, question: Question, response: Response) -> CheckResult:
        return check(
            response.text, question.references[0], question.prompt.text, self,
            pattern=self.pattern, finish=response.finish,
        )  # fmt: skip

    def _single(
        self, about: Subject, made: Sequence[_Attempt], inputs: BenchmarkInputs
    ) -> list[EvalResult]:
        """Return accuracy, and shares of answers that were read and that were cut off."""
        scores = [a.found.score for a in made]
        right = [None if s is None else float(s >= 1) for s in scores]
        figures: dict[str, list[float | None]] = {"accuracy": right}
        if any(s not in (None, 0.0, 1.0) for s in scores):
            figures["mean_score"] = scores
        figures["answered"] = [float(a.found.answer is not None) for a in made]
        figures["cut_off"] = [float(a.response.finish == "length") for a in made]
        done = {a.question.id for a in made}
        lost = [QuestionValue(q.id, None) for q in inputs.questions if q.id not in done]
        groups = {g for q in inputs.questions for g in prompt_groups(q.prompt)[1:]}
        rows: list[EvalResult] = []
        for name, values in figures.items():
            measure = Measure(name, is_share=True)
            each = [QuestionValue(a.question.id, v) for a, v in zip(made, values, strict=True)]
            if name == "accuracy" and len(groups) > 1:
                rows += part_rows(about, measure, each + lost, inputs.prompts, seed=inputs.seed)
            else:
                rows.append(one_row(about, measure, each + lost, inputs.prompts, seed=inputs.seed))
        return rows

    def _several(
        self, about: Subject, made: Sequence[_Attempt], inputs: BenchmarkInputs
    ) -> list[EvalResult]:
        """Return pass@k, the majority's accuracy, and the best of n by the judge."""
        of: dict[str, list[_Attempt]] = {q.repeats: [] for q in inputs.questions}
        for attempt in made:
            of[attempt.question.repeats].append(attempt)
        n = self.samples
        by: dict[str, Callable[[Sequence[_Attempt]], float | None]] = {
            f"pass@{k}": lambda some, k=k: pass_at_k(n, sum(map(_is_right, some)), k)  # type: ignore[misc]
            for k in _powers(n)
        }
        by[f"majority@{n}"] = lambda some: majority(
            [a.found.key for a in some], [float(_is_right(a)) for a in some]
        )
        if inputs.judge is not None:
            scores = _judged(inputs, of.values())
            by[f"best_of_{n}"] = lambda some: _best(some, scores)
        first = {key: attempt_id(key, 1) for key in of}
        rows = []
        for name, value in by.items():
            values = []
            for key, some in of.items():
                whole = len(some) == n and all(a.found.score is not None for a in some)
                found = value(some) if whole else None
                if whole and found is None and name.startswith("majority"):
                    found = 0.0  # no attempt states an answer
                values.append(QuestionValue(first[key], found))
            measure = Measure(name, is_share=True)
            rows.append(one_row(about, measure, values, inputs.prompts, seed=inputs.seed))
        return rows


def _is_right(attempt: _Attempt) -> bool:
    return attempt.found.score is not None and attempt.found.score >= 1


def _powers(n: int) -> list[int]:
    """Return the powers of two up to n, and n."""
    return sorted({1 << i for i in range(n.bit_length()) if 1 << i <= n} | {n})


def _judged(inputs: BenchmarkInputs, groups: Any) -> Mapping[str, float | None]:
    """Return the judge's score of every response."""
    items = [(some[0].question.prompt, [a.response for a in some]) for some in groups if some]
    judged = score_judge(inputs).rate(items, inputs.seed)
    return {one.response_ids[0]: value_of(one) for one in judged}


def _best(some: Sequence[_Attempt], scores: Mapping[str, float | None]) -> float | None:
    """Return the accuracy of the attempt with the highest score; equal scores share."""
    scored = [(s, a) for a in some if (s := scores.get(a.response.id)) is not None]
    if not scored:
        return None
    top = max(s for s, _ in scored)
    first = [float(_is_right(a)) for s, a in scored if s == top]
    return sum(first) / len(first)


def _feedback(attempt: _Attempt) -> Feedback:
    found = attempt.found
    verdict = Unscored(found.reason) if found.score is None else Score(found.score)
    ids = (attempt.response.id,)
    rationale = found.reason or f"answer: {found.answer}"
    return Feedback(attempt.question.id, ids, "verifier", verdict, rationale)
