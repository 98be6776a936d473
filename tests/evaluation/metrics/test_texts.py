from __future__ import annotations

import pytest

from alignlab.evaluation.metrics.length import lengths
from alignlab.evaluation.metrics.repetition import distinct, ngram_repetition
from alignlab.evaluation.metrics.self_bleu import self_bleu
from alignlab.evaluation.result_rows import Subject
from alignlab.evaluation.text_rows import text_rows
from alignlab.text import words
from alignlab.types import Message, Prompt, Response, SampledBy


def response(i: int, text: str, tokens: int, finish: str = "stop") -> Response:
    return Response(f"r{i}", f"p{i}", text, SampledBy("M1"), tokens, finish)  # type: ignore[arg-type]


def test_repetition_by_hand() -> None:
    assert words("It's a test.") == ["It", "'", "s", "a", "test", "."]
    assert ngram_repetition(["a", "b", "a", "b", "a", "b"], 2) == pytest.approx(1 - 2 / 5)
    assert ngram_repetition(["a", "b", "c", "d"], 4) == 0
    assert ngram_repetition(["a", "b"], 4) == 0
    assert ngram_repetition(["x"] * 10, 1) == pytest.approx(0.9)
    with pytest.raises(ValueError, match="n >= 1"):
        ngram_repetition(["a"], 0)


def test_distinct_over_all_texts() -> None:
    assert distinct([["a", "b"], ["a", "b", "c"]], 2) == pytest.approx(2 / 3)
    assert distinct([["a"]], 2) is None


def test_self_bleu_of_equal_and_unlike_texts() -> None:
    same = "the town lies by the sea and makes glass"
    assert self_bleu([same, same, same]) == pytest.approx(100)
    unlike = self_bleu([same, "wholly other words occur here instead of them"])
    assert unlike is not None
    assert unlike < 5
    assert self_bleu([same]) is None
    assert self_bleu(["a b", "a b"]) == pytest.approx(100)  # of the orders that two words have


def test_lengths_and_rows() -> None:
    some = [response(0, "one two", 3), response(1, "  ", 1), response(2, "a b c d", 6, "length")]
    measured = lengths(some)
    assert list(measured.tokens_N) == [3, 1, 6]
    assert list(measured.words_N) == [2, 0, 4]
    assert list(measured.characters_N) == [7, 2, 7]
    assert list(measured.empty_N) == [0, 1, 0]
    prompts = [Prompt(r.prompt_id, (Message("user", r.id),)) for r in some]
    rows = {r.metric: r for r in text_rows(Subject("M1", "text"), some, prompts)}
    assert rows["tokens"].value == pytest.approx(10 / 3)
    assert rows["empty_share"].value == pytest.approx(1 / 3)
    assert rows["cut_share"].value == pytest.approx(1 / 3)
    assert rows["distinct_2"].value == 1.0
    assert rows["repetition_4"].value == 0.0
    assert rows["words"].n == 3


def test_a_share_of_none_has_wilsons_interval() -> None:
    some = [response(i, f"words {i}", 3) for i in range(4)]
    prompts = [Prompt(r.prompt_id, (Message("user", r.id),)) for r in some]
    rows = {r.metric: r for r in text_rows(Subject("M1", "text"), some, prompts)}
    square = 1.959964**2  # 0 of 4: the upper bound is z² / (n + z²)
    assert (rows["empty_share"].value, rows["empty_share"].low) == (0.0, 0.0)
    assert rows["empty_share"].high == pytest.approx(square / (4 + square), abs=1e-5)


def test_shares_of_questions_and_of_repeated_sentences() -> None:
    texts = ["It is 4. Is it 4?", "Why? It is 4.", "It is 4. So. It is 4.", ""]
    some = [response(i, text, 3) for i, text in enumerate(texts)]
    prompts = [Prompt(r.prompt_id, (Message("user", r.id),)) for r in some]
    rows = {r.metric: r for r in text_rows(Subject("M1", "text"), some, prompts)}
    assert rows["question_share"].value == 1 / 4
    assert rows["repeated_share"].value == 1 / 4
