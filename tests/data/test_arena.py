"""Votes of Chatbot Arena and MT-Bench: turns, ties, contexts and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from alignlab.data import load
from alignlab.errors import BadInput
from alignlab.types import Corpus, PreferenceGroup
from tests.data.conftest import Write


def said(*texts: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]


def row(a: list[dict[str, str]], b: list[dict[str, str]], **more: Any) -> dict[str, Any]:
    both = {"conversation_a": a, "conversation_b": b}
    return {"model_a": "x", "model_b": "y", "winner": "model_b", **both, **more}


def read(write: Write, *rows: dict[str, Any]) -> Corpus:
    return load(str(write(list(rows))))


def texts(found: PreferenceGroup) -> list[tuple[str, str, float]]:
    answers = zip(found.responses, found.scores, strict=True)
    return [(r.text, r.sampler.model, score) for r, score in answers]  # type: ignore[union-attr]


def test_the_judged_turn_ends_the_conversation(write: Write) -> None:
    two = said("Q", "A", "Q2", "A2"), said("Q", "B", "Q2", "B2")
    corpus = read(write, row(*two, turn=1), row(*two, turn=2))
    (first,) = corpus.groups
    assert (first.prompt.text, texts(first)) == ("Q", [("B", "y", 1.0), ("A", "x", 0.0)])
    assert corpus.counts[-1].dropped == {"contexts differ": 1}


@pytest.mark.parametrize("named", ["tie", "tie (bothbad)"])
def test_ties_score_alike(write: Write, named: str) -> None:
    (found,) = read(write, row(said("Q", "A"), said("Q", "B"), winner=named)).groups
    assert found.scores == (0.5, 0.5)
    assert found.source == "people"


@pytest.mark.parametrize("judge", ["gpt4_pair", ["gpt-4", "pair"]])
def test_votes_of_a_model_are_no_peoples(write: Write, judge: Any) -> None:
    (found,) = read(write, row(said("Q", "A"), said("Q", "B"), judge=judge)).groups
    assert found.source == "gpt-4"


@pytest.mark.parametrize("more", [{"winner": "A"}, {"winner": None}, {"turn": "two"}, {"turn": 2}])
def test_what_is_no_vote_is_refused(write: Write, more: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=f"line 1, field '{next(iter(more))}'"):
        load(f"arena:{write([row(said('Q', 'A'), said('Q', 'B'), **more)])}")


PLAIN = {
    **{"model_a": "x", "model_b": "y", "prompt": ["Q", "Q2"]},
    **{"response_a": ["A", "A2"], "response_b": ["A", "B2"]},
    **{"winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0},
}


def test_lists_of_turns_are_conversations(write: Write) -> None:
    as_text = {**PLAIN, **{k: json.dumps(v) for k, v in PLAIN.items() if isinstance(v, list)}}
    lacking = {**PLAIN, "prompt": ["R"], "response_a": [None], "response_b": ["B"]}
    corpus = read(write, PLAIN, {**as_text, "model_a": "z"}, lacking)
    (found,) = corpus.groups
    assert [m.content for m in found.prompt.messages] == ["Q", "A", "Q2"]
    assert [text for text, *_ in texts(found)] == ["A2", "B2"]
    assert corpus.counts[-1].dropped["fewer than two different responses"] == 1


@pytest.mark.parametrize("more", [{"winner_tie": 1}, {"winner_model_a": 0}, {"response_b": ["B"]}])
def test_votes_and_turns_must_fit(write: Write, more: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="line 1"):
        read(write, {**PLAIN, **more})


def test_a_conversation_without_an_answer_is_dropped_and_counted(write: Write) -> None:
    corpus = read(
        write, row(said("Q", "A"), said("Q", "B"), turn=1), row(said("Q"), said("Q", "B"), turn=1)
    )
    assert len(corpus.groups) == 1
    assert sum(corpus.counts[-1].dropped.values()) == 1
