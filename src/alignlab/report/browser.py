"""Serialise the data of the example browser as JSON that cannot end its script element."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from alignlab.answers.libraries import reference_words
from alignlab.report.labels import group
from alignlab.types import (
    Critique,
    DisplayedAnswer,
    Example,
    Feedback,
    Preference,
    Prompt,
    Ranking,
    Score,
)

_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def embedded(examples: Sequence[Example], notes: Mapping[str, str], visible: Sequence[str]) -> str:
    """Serialise the examples for a `<script type="application/json">` element.

    Args:
        notes: model -> one line of description.
        visible: models whose answers are open initially.

    The script inserts texts of models and users as text nodes, never as markup.
    """
    data = {
        "notes": dict(notes),
        "visible": list(visible),
        "examples": [_example(e) for e in examples],
    }
    text = json.dumps(data, ensure_ascii=False, allow_nan=False)
    for character, escape in _UNSAFE.items():
        text = text.replace(character, escape)
    return text


def kinds(prompt: Prompt) -> list[str]:
    """Return the prompt's type and family, as the filter lists them."""
    found = [group(f"type:{prompt.query_type}")] if prompt.query_type else []
    family = prompt.source.rpartition("/")[2] if "/" in prompt.source else ""
    return [*found, family.replace("_", " ")] if family else found


def _example(example: Example) -> dict[str, object]:
    prompt = example.prompt
    return {
        "id": prompt.id,
        "kinds": kinds(prompt),
        "turns": [[m.role, m.content] for m in prompt.messages],
        "reference": reference_words(prompt.reference),
        "answers": [_answer(a) for a in example.answers],
    }


def _answer(answer: DisplayedAnswer) -> dict[str, object]:
    return {
        "model": answer.model,
        "text": answer.text,
        "feedback": [_feedback(f) for f in answer.feedback],
    }


def _feedback(feedback: Feedback) -> dict[str, object]:
    return {
        "source": feedback.source,
        "verdict": _verdict(feedback),
        "scored": isinstance(feedback.verdict, Score),
        "rationale": feedback.rationale,
        "raw": [text for text in feedback.raw if text and text != feedback.rationale],
    }


def _verdict(feedback: Feedback) -> str:
    """Return a verdict in a few words."""
    verdict = feedback.verdict
    if isinstance(verdict, Score):
        samples = [s for s in verdict.samples if s is not None]
        spread = f" (samples {', '.join(f'{s:g}' for s in samples)})" if len(samples) > 1 else ""
        return f"{verdict.value:.3g}{spread}"
    if isinstance(verdict, Preference):
        return "tie" if verdict.winner is None else ("preferred", "not preferred")[verdict.winner]
    if isinstance(verdict, Ranking):
        return "ranks " + ", ".join(str(rank + 1) for rank in verdict.ranks)
    return verdict.text if isinstance(verdict, Critique) else f"unscored: {verdict.reason}"
