"""Self-BLEU of several answers to a prompt, by hand and on a model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alignlab.api.evaluating import evaluate
from alignlab.data import load
from alignlab.errors import BadInput
from alignlab.evaluation.benchmarks.diversity import Diversity
from alignlab.evaluation.metrics.self_bleu import self_bleu
from alignlab.evaluation.tasks import BenchmarkInputs, ModelAnswers
from alignlab.models.load import save
from alignlab.types import EvalResult, Response, SampledBy, Sampling
from tests.evaluation.asking import jsonl
from tests.generation.tiny import tiny

ROWS = [
    {"prompt": "Tell me a story.", "query_type": "open"},
    {"prompt": "Name a colour.", "query_type": "closed"},
]
STORIES = ["once upon a time there was a king", "a dog ran over the hill at night"]


def figures(
    tmp_path: Path, texts: dict[str, list[str]], temperature: float = 0.7
) -> dict[tuple[str, str | None], EvalResult]:
    task = Diversity(samples=2)
    questions = task.questions(load(str(jsonl(tmp_path / "prompts.jsonl", *ROWS))))
    left = {prompt: list(several) for prompt, several in texts.items()}
    drawn = SampledBy("m", Sampling(temperature=temperature))
    turns = {
        q.id: (Response(f"{q.id}/m", q.id, left[q.prompt.text].pop(0), drawn),)
        for q in questions
        if left[q.prompt.text]
    }
    inputs = BenchmarkInputs(tuple(questions), (ModelAnswers("m", turns),), None, None, 0)
    return {(r.metric, r.group): r for r in task.measure(inputs).rows}


def test_by_query_type(tmp_path: Path) -> None:
    found = figures(tmp_path, {"Tell me a story.": STORIES, "Name a colour.": ["red", "red"]})
    stories = self_bleu(STORIES)
    assert stories is not None
    assert stories < 10
    assert found["self_bleu", "type:closed"].value == pytest.approx(100)
    assert found["self_bleu", "type:open"].value == pytest.approx(stories)
    assert found["self_bleu", None].value == pytest.approx((100 + stories) / 2)
    assert found["different_share", None].value == pytest.approx(0.75)
    assert found["self_bleu", None].n == 2


def test_a_prompt_without_all_its_answers_is_unscored(tmp_path: Path) -> None:
    found = figures(tmp_path, {"Tell me a story.": STORIES, "Name a colour.": ["red"]})
    whole = found["self_bleu", None]
    assert (whole.n, whole.unscored) == (1, 1)


def test_greedy_answers_are_refused(tmp_path: Path) -> None:
    texts = {"Tell me a story.": STORIES, "Name a colour.": ["red", "red"]}
    with pytest.raises(BadInput, match="temperature above 0"):
        figures(tmp_path, texts, temperature=0)


def test_one_answer_is_refused() -> None:
    with pytest.raises(BadInput, match="samples: expected 2 or more, found 1"):
        Diversity(samples=1)


def test_on_a_model(tmp_path: Path) -> None:
    save(tiny(), tmp_path / "tiny")
    data = jsonl(tmp_path / "prompts.jsonl", *ROWS)
    run = tmp_path / "run"
    evaluate("diversity", str(tmp_path / "tiny"), data=str(data), out=run, samples=3, max_tokens=6)
    rows = json.loads((run / "summary.json").read_text())["rows"]
    values = {(r["metric"], r["group"]): r["value"] for r in rows}
    assert 0 <= values["self_bleu", None] <= 100
    assert ("self_bleu", "type:open") in values
    greedy = tmp_path / "greedy"
    with pytest.raises(BadInput, match="temperature above 0 with 3 attempts"):
        evaluate("diversity", str(tmp_path / "tiny"), data=str(data), out=greedy, samples=3,
                 temperature=0)  # fmt: skip
    assert not greedy.exists()
