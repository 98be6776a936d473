"""Run a benchmark: generate answers, query the judge, and compute figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from alignlab import registry, seeds
from alignlab.configs import Bounded, Fraction, NonNegative, NonNegativeInt, PositiveInt, Seed
from alignlab.context import RunContext
from alignlab.errors import BadInput
from alignlab.evaluation.judge_checks import judge_checks, thought_rows
from alignlab.evaluation.tasks import (
    BenchmarkInputs,
    BenchmarkTask,
    Findings,
    Judge,
    JudgeKind,
    ModelAnswers,
    Needs,
    Question,
    value_of,
)
from alignlab.measuring.cached import CachedPairs, CachedScores, cached_model
from alignlab.measuring.entrants import Entrants, gather
from alignlab.measuring.prompt_values import FILE as PROMPT_VALUES
from alignlab.measuring.prompt_values import of_benchmark
from alignlab.models.locate import locate
from alignlab.records import fingerprint
from alignlab.types import (
    Corpus,
    Count,
    DisplayedAnswer,
    EvalResult,
    Example,
    Feedback,
    PromptValue,
    Response,
    Sampling,
    Unscored,
)


@dataclass(frozen=True)
class EvaluateSettings(Bounded):
    """Settings of a benchmark run."""

    seed: Seed = 0
    """Seed of every random draw."""
    limit: NonNegativeInt = 0
    """Number of questions (or ranked groups), drawn by the seed; 0 uses all. Figures on a part are
    not comparable."""
    temperature: NonNegative | None = None
    """Sampling temperature of answers; defaults to the benchmark's own."""
    top_p: Fraction | None = None
    """Nucleus mass of answers; defaults to the benchmark's own."""
    max_tokens: PositiveInt | None = None
    """Maximum number of tokens of an answer; defaults to the benchmark's own."""
    chunk: PositiveInt = 64
    """Number of questions answered, or judged, and written together."""
    examples: NonNegativeInt = 200
    """Maximum number of questions shown in the report: the worst and the best."""
    chat_template: str = ""
    """Chat template for models without one, or instead of their own: chatml, plain, zephyr, or a
    file."""
    device: str = "auto"
    """Device: "auto" uses a GPU if there is one; else "cpu", "cuda", "cuda:1", ..."""
    dtype: str = "auto"
    """Type of models: "float32", "bfloat16", or "auto" (bfloat16 from 10 million parameters on a
    GPU, or a CPU fast in it; else float32; see `alignlab doctor`)."""
    threads: NonNegativeInt = 0
    """Torch threads; 0 is one per core."""

    def sampling(self, default: Sampling) -> Sampling:
        """Return the benchmark's sampling, overridden by the settings."""
        given = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
        }
        changed: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
        return replace(default, **changed)


class MeasuredBenchmark(NamedTuple):
    """Figures of a benchmark, and the number of verdicts behind them."""

    rows: list[EvalResult]
    scored: int
    unscored: int


def evaluate(
    context: RunContext,
    task: BenchmarkTask,
    data: Any,
    field: Entrants,
    judge: str,
    settings: EvaluateSettings,
) -> MeasuredBenchmark:
    """Run a benchmark; every step is a stage of the run.

    Raises:
        BadInput: the data, the judge or a model does not fit the benchmark.
    """
    needs: Needs = task.needs
    if isinstance(data, Corpus) and settings.limit:
        data = _part(data, settings)
    questions = _drawn(task.questions(data), settings)
    judged_by = find_judge(context, judge, needs.judges, settings.chunk) if judge else None
    sampling = settings.sampling(needs.sampling)
    answers: list[ModelAnswers] = []
    baseline: ModelAnswers | None = None
    answering = bool(field.models or field.outputs) and needs.models != "itself"
    _refuse_idle(settings, answering, bool(field.models), needs)
    if answering:
        if settings.temperature is not None:
            questions = [replace(q, temperature=None) for q in questions]
        answers, baseline = gather(context, field, needs, questions, sampling, settings.chunk)
    inputs = BenchmarkInputs(
        questions=tuple(questions),
        answers=tuple(answers),
        baseline=baseline,
        judge=judged_by,
        seed=context.seed,
        corpus=data if isinstance(data, Corpus) else None,
        models=()
        if answering
        else tuple((m.name, str(locate(m.folder)) if m.folder else "") for m in field.models),
        cache=context.cache,
    )
    found = _findings(task, inputs, partial=bool(settings.limit))
    by = f"{judge} {fingerprint(repr(task))}".strip()  # options may change what a figure means
    values = of_benchmark(found.rows[0].benchmark, inputs, found.said, by) if found.rows else []
    rows = _write(context, inputs, found, values, settings.examples)
    unscored = sum(isinstance(f.verdict, Unscored) for f in found.said)
    return MeasuredBenchmark(rows, len(found.said) - unscored, unscored)


def _findings(task: BenchmarkTask, inputs: BenchmarkInputs, *, partial: bool) -> Findings:
    """Measure a task, and add checks of its judge and counts of thoughts taken off."""
    found: Findings = task.measure(inputs)
    rows = found.rows
    if partial:
        rows = tuple(r if r.comparable is None else _apart(r) for r in rows)
    # Not where the judge itself is measured, nor where the verdicts are not the judge's.
    if task.needs.models != "none" and not task.needs.judge_optional:
        rows = (*rows, *judge_checks(inputs, found.said))
    if rows:
        rows = (*rows, *thought_rows(inputs, rows[0].benchmark))
    return replace(found, rows=rows)


def find_judge(context: RunContext, spec: str, kinds: Sequence[JudgeKind], chunk: int) -> Judge:
    """Return the judge of a spec as one of the kinds accepted, with its verdicts cached.

    A feedback source (`longer`, `llm:openai:...`) compares or scores; an engine (`openai:MODEL`,
    `local:FOLDER`) gets the benchmark's own judge prompt.

    Raises:
        BadInput: no such judge, or one of another kind.
    """
    head = spec.partition(":")[0].partition(",")[0]
    is_engine = head in registry.names("engine") and "model" in kinds
    if head in registry.names("feedback"):
        try:
            if "pairs" in kinds:
                return CachedPairs(context, context.pair_judge(spec), chunk)
            if "scores" in kinds:
                return CachedScores(context, context.judge(spec), chunk)
        except BadInput:
            if not is_engine:  # a name may be that of a source and of an engine (sandbox)
                raise
    if is_engine:
        return cached_model(context, context.completer(spec), chunk)
    wanted = {
        "model": "a model (openai:MODEL@URL, local:FOLDER, ...)",
        "pairs": "a judge of pairs (pairwise:ENGINE, llm:ENGINE, longer, ...)",
        "scores": "a source of scores (llm:ENGINE, expected:ENGINE, longer, ...)",
    }
    raise BadInput(
        f"--judge: expected {' or '.join(wanted[kind] for kind in kinds)}, found {spec!r}"
    )


def _drawn(questions: Sequence[Question], settings: EvaluateSettings) -> list[Question]:
    """Return the questions to answer, in their order.

    Raises:
        BadInput: an id occurs twice.
    """
    twice = [key for key, n in Counter(q.id for q in questions).items() if n > 1]
    if twice:
        raise BadInput(f"question {twice[0]!r}: expected each id once, found it again")
    if not settings.limit:
        return list(questions)
    keys = {q.repeats or q.id for q in questions}
    ranked = sorted(keys, key=lambda key: seeds.derive(settings.seed, "limit", key))
    chosen = set(ranked[: settings.limit])
    return [q for q in questions if (q.repeats or q.id) in chosen]


def _refuse_idle(
    settings: EvaluateSettings, answering: bool, has_models: bool, needs: Needs
) -> None:
    """Refuse settings without effect.

    Raises:
        BadInput: a sampling setting is given, but no model answers.
    """
    idle = [] if answering and has_models else ["temperature", "top_p", "max_tokens"]
    if needs.models == "itself":
        idle.append("limit")
    for name in idle:
        if getattr(settings, name):
            raise BadInput(f"setting {name}: has no effect here; leave it out")


def _part(corpus: Corpus, settings: EvaluateSettings) -> Corpus:
    """Draw some of a corpus's ranked groups by the seed."""
    groups = [*corpus.groups, *corpus.test_groups]
    ranked = sorted(
        range(len(groups)), key=lambda i: seeds.derive(settings.seed, "limit", groups[i].id, i)
    )
    chosen = sorted(ranked[: settings.limit])
    return replace(corpus, groups=tuple(groups[i] for i in chosen), test_groups=())


def _apart(row: EvalResult) -> EvalResult:
    return replace(row, comparable=False)


def _write(
    context: RunContext,
    asked: BenchmarkInputs,
    found: Findings,
    values: Sequence[PromptValue],
    most: int,
) -> list[EvalResult]:
    """Write figures, examples and counts as the last stage."""
    with context.run.stage("results") as stage:
        if not stage.done:
            reasons = Counter(
                f.verdict.reason for f in found.said if isinstance(f.verdict, Unscored)
            )
            scored = len(found.said) - reasons.total()
            files = [
                Count(stage.name, f"answers of {a.model}", len(a.turns), dict(a.left_out))
                for a in asked.everyone
                if a.left_out
            ]
            stage.count([Count(stage.name, "verdicts", scored, dict(reasons)), *files])
            stage.write("examples", Example, _examples(asked, found.said, most))
            stage.write(PROMPT_VALUES, PromptValue, values)
            stage.write("results", EvalResult, found.rows)
        return stage.records("results", EvalResult).read()


def _examples(asked: BenchmarkInputs, verdicts: Sequence[Feedback], most: int) -> list[Example]:
    """Return the worst and the best questions with every entrant's answers."""
    by_response: dict[str, list[Feedback]] = {}
    for feedback in verdicts:
        by_response.setdefault(feedback.response_ids[0], []).append(feedback)
    found = []
    for question in asked.questions:
        answering = [a for a in asked.everyone if question.id in a.turns]
        shown = [_shown(a.model, question, a.turns[question.id], by_response) for a in answering]
        values = [
            value
            for answer in shown
            for feedback in answer.feedback
            if (value := value_of(feedback)) is not None
        ]
        if shown:
            worth = sum(values) / len(values) if values else None
            found.append((worth, Example(question.prompt, tuple(shown))))
    found.sort(key=lambda pair: (pair[0] is None, pair[0] or 0.0))
    examples = [example for _, example in found]
    if len(examples) <= most:
        return examples
    worst = (most + 1) // 2
    return examples[:worst] + examples[len(examples) - (most - worst) :]


def _shown(
    model: str,
    question: Question,
    responses: Sequence[Response],
    by_response: Mapping[str, list[Feedback]],
) -> DisplayedAnswer:
    parts = [responses[0].text]
    for asked, response in zip(question.follow_ups, responses[1:], strict=False):
        parts += [f"[{asked}]", response.text]
    feedback = [f for r in responses for f in by_response.get(r.id, ())]
    return DisplayedAnswer(model, "\n\n".join(parts), tuple(feedback))
