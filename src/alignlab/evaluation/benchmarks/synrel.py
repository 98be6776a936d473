"""SynRel: accuracy with which a source of scores prefers a relevant answer (arXiv 2402.03469).

"Please tell me about ENTITY" for entities of PopQA. The relevant answer is the entity's passage in
the data, or a model's own answer; the off-topic one is that of another entity, drawn by the seed.
Both are fluent and alike in length, so that only relevance differs. The authors' answers were
written by a model and are not in the data: figures are not comparable with theirs. Answers about
another entity are easy to recognise; a source that fails is useless, one that passes may still be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from alignlab import seeds
from alignlab.errors import BadInput
from alignlab.evaluation.result_rows import Subject
from alignlab.evaluation.task_files import BenchmarkRow, read_rows
from alignlab.evaluation.task_rows import Measure, QuestionValue, not_comparable, one_row
from alignlab.evaluation.tasks import (
    BenchmarkInputs,
    Findings,
    Needs,
    Question,
    score_judge,
    value_of,
)
from alignlab.registry import register
from alignlab.types import (
    EvalResult,
    Feedback,
    Message,
    Prompt,
    Response,
    SampledBy,
    Sampling,
)

NAME = "synrel"
PASSAGES = "passages"
"""Name of the answers' writer where they are passages."""
ACCURACY = Measure("accuracy", is_share=True)
"""Share of entities whose relevant answer scores higher; ties are wrong."""
TIES = Measure("ties", is_share=True)


@register("benchmark", NAME)
@dataclass(frozen=True)
class SynRel:
    """Share of relevant answers that a source of scores puts above off-topic ones."""

    entities: int = 200
    """Entities taken, drawn by the seed; 0 takes all."""

    needs: ClassVar[Needs] = Needs(
        data="PopQA with passages, rows of `subj` and `paragraphs` "
        "(huggingface.co/datasets/akariasai/PopQA; passages from Wikipedia)",
        judges=("scores",),
        models="allowed",
        sampling=Sampling(temperature=0.7, top_p=0.9, max_tokens=256),
    )

    def __post_init__(self) -> None:
        if self.entities == 1 or self.entities < 0:
            raise BadInput(f"entities: expected 0 or at least 2, found {self.entities}")

    def questions(self, data: Path) -> list[Question]:
        """Read one question per entity that has a passage."""
        found: dict[str, Question] = {}
        for row in read_rows(data):
            entity = row.text("subj")
            passage = _passage(row, entity)
            if passage is not None and entity not in found:
                prompt = Prompt(
                    id=entity,
                    messages=(Message("user", f"Please tell me about {entity}"),),
                    source=f"{NAME}/{row.maybe('prop') or 'entity'}",
                    reference=passage,
                )
                found[entity] = Question(prompt, references=(passage,))
        if len(found) < 2:
            raise BadInput(f"{data}: expected two entities with passages, found {len(found)}")
        ranked = sorted(found, key=lambda entity: seeds.derive(NAME, entity))
        return [found[entity] for entity in ranked[: self.entities or None]]

    def measure(self, inputs: BenchmarkInputs) -> Findings:
        """Score every entity's answer and another's."""
        written = {
            a.model: {q.id: responses[-1].text for q, responses in some}
            for a, some in inputs.by_model()
        }
        if not written:
            written = {PASSAGES: {q.id: q.references[0] for q in inputs.questions}}
        rows: list[EvalResult] = []
        judgements: list[Feedback] = []
        for model, texts in written.items():
            if len(texts) < 2:
                raise BadInput(f"{model}: expected answers about two entities, found {len(texts)}")
            judged = self._judged(inputs, model, texts)
            rows += _rows(inputs, model, judged)
            judgements += judged
        return Findings(not_comparable(rows), tuple(judgements))

    def _judged(self, inputs: BenchmarkInputs, model: str, texts: dict[str, str]) -> list[Feedback]:
        """Score the relevant and the off-topic answer of each entity, in turn."""
        order = list(texts)
        seeds.generator(inputs.seed, NAME, "off-topic").shuffle(order)
        # Every entity gets the answer of the next one in the drawn order.
        other = dict(zip(order, [*order[1:], order[0]], strict=True))
        items = [
            (
                q.prompt,
                [
                    Response(f"{q.id}/{model}/{kind}", q.id, texts[about], SampledBy(model))
                    for kind, about in (("relevant", q.id), ("off-topic", other[q.id]))
                ],
            )
            for q in inputs.questions
            if q.id in texts
        ]
        return score_judge(inputs).rate(items, inputs.seed)


def _rows(inputs: BenchmarkInputs, model: str, judged: Sequence[Feedback]) -> list[EvalResult]:
    right: list[QuestionValue] = []
    tied: list[QuestionValue] = []
    for on, off in zip(judged[::2], judged[1::2], strict=True):
        a, b = value_of(on), value_of(off)
        scored = a is not None and b is not None
        right.append(QuestionValue(on.prompt_id, float(a > b) if scored else None))  # type: ignore[operator]
        tied.append(QuestionValue(on.prompt_id, float(a == b) if scored else None))
    source = score_judge(inputs).name
    name = source if model == PASSAGES else f"{source} on {model}"
    about = Subject(name, NAME)
    return [
        one_row(about, ACCURACY, right, inputs.prompts, seed=inputs.seed),
        one_row(about, TIES, tied, inputs.prompts, seed=inputs.seed),
    ]


def _passage(row: BenchmarkRow, entity: str) -> str | None:
    """Return the text about the entity itself; None where the row has none."""
    known = row.values.get("paragraphs") not in (None, "")
    for paragraph in row.objects("paragraphs") if known else []:
        about = BenchmarkRow(row.file, row.line, paragraph)
        text = (about.maybe("text") or "").strip()
        if about.maybe("title") == entity and text:
            return text
    return None
