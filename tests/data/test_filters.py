from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from alignlab.data.filters import FilterConfig, filter_prompts
from alignlab.data.similarity import Match, SimilarityIndex, lcs_length, rouge_l
from alignlab.errors import BadInput
from alignlab.types import Message, Prompt

WORDS = st.lists(st.sampled_from(["a", "b", "c", "The", "cat's", "ü", "9-to-5", "."]), max_size=80)


def prompts(*texts: str) -> list[Prompt]:
    return [Prompt(str(n), (Message("user", text),)) for n, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("one", "other", "length"),
    [
        ("", "", 0),
        ("abc", "", 0),
        ("abc", "abc", 3),
        ("abc", "cba", 1),
        ("abcbdab", "bdcaba", 4),
        ("aaaa", "aa", 2),
        ("xaxbxc", "abc", 3),
    ],
)
def test_lcs_by_hand(one: str, other: str, length: int) -> None:
    assert lcs_length(list(one), list(other)) == length
    assert lcs_length(list(other), list(one)) == length


@given(WORDS, WORDS)
def test_rouge_l_is_that_of_rouge_score(one: list[str], other: list[str]) -> None:
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    theirs = scorer.score(" ".join(one), " ".join(other))["rougeL"].fmeasure
    assert rouge_l(" ".join(one), " ".join(other)) == theirs


@given(st.lists(WORDS, min_size=1, max_size=8), WORDS, st.sampled_from([0.1, 0.5, 0.7, 1.0]))
def test_nearest_is_the_first_maximum(
    known: list[list[str]], new: list[str], threshold: float
) -> None:
    texts = [" ".join(words) for words in known]
    scores = [rouge_l(text, " ".join(new)) for text in texts]
    best = max(scores)
    found = SimilarityIndex(texts).nearest(" ".join(new), threshold)
    assert found == (Match(scores.index(best), best) if best >= threshold else None)


def test_400_against_1500_takes_seconds() -> None:
    draw = np.random.Generator(np.random.Philox(1))
    vocabulary = [f"w{n}" for n in range(300)]
    texts = [" ".join(draw.choice(vocabulary, 15)) for _ in range(1900)]
    start = time.process_time()
    done = filter_prompts(prompts(*texts[:400]), prompts(*texts[400:]))
    assert time.process_time() - start < 5
    assert done.count.kept == 400


def test_reasons_and_account() -> None:
    known = prompts("What is the capital of France?")
    new = prompts(
        "what is  the capital of France",  # the same but for case, space and end
        "What is the capital city of France?",  # 6 of 6 and 7 words: F = 12/13
        "Draw a picture of a cat.",
        "Why so?",
        " ",
        "word " * 151,
        "Name three rivers in Asia.",
        "Please name three rivers in Asia.",  # like the one just kept: F = 10/11
        "Explain the word picturesque to me.",  # holds no barred word
    )
    done = filter_prompts(new, known)
    assert [p.text for p in done.kept] == [
        "Name three rivers in Asia.",
        "Explain the word picturesque to me.",
    ]
    assert done.count.what == "new prompts"
    assert done.count.kept == 2
    assert done.count.dropped == {
        "duplicate": 1,
        "similar to a known prompt": 2,
        "barred keyword": 1,
        "too short": 1,
        "empty": 1,
        "too long": 1,
    }
    details = {refused.reason: refused.detail for refused in done.refused}
    assert details["barred keyword"] == "draw"
    assert details["similar to a known prompt"] == "0.91: Name three rivers in Asia."


def test_limits_are_inclusive_and_filters_can_be_off() -> None:
    config = FilterConfig(min_words=2, max_words=3, keywords=(), max_similarity=1.1)
    done = filter_prompts(prompts("draw it", "one two three", "two three one", "x"), [], config)
    assert len(done.kept) == 3
    strict = FilterConfig(max_similarity=1.0, min_words=1)
    assert len(filter_prompts(prompts("a b", "b a", "a, b"), [], strict).kept) == 2


def test_nothing_in_nothing_out() -> None:
    done = filter_prompts([], [])
    assert (done.kept, done.count.kept, done.count.dropped) == ((), 0, {})


def test_bad_settings() -> None:
    with pytest.raises(BadInput, match="max_similarity"):
        FilterConfig(max_similarity=0)
    with pytest.raises(BadInput, match="min_words"):
        FilterConfig(min_words=5, max_words=3)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Name three rivers", "too short"),  # the authors drop three words and fewer
        ("Name three long rivers", ""),
        ("word " * 150, ""),
        ("word " * 151, "too long"),
        ("Write a program that sorts numbers.", "barred beginning"),
        ("write a  Program that sorts numbers.", "barred beginning"),
        ("Please write a program that sorts.", ""),
        ("- Name three long rivers", "starts with punctuation or outside ASCII"),
        ("“Why?” What does this mean?", "starts with punctuation or outside ASCII"),
        ("Élan is a word: what kind?", "starts with punctuation or outside ASCII"),
        ("\u200b\u200b", "empty"),
        ("Go to the old market hall.", "barred keyword"),
    ],
)
def test_the_authors_rules(text: str, reason: str) -> None:
    done = filter_prompts(prompts(text), [])
    assert done.count.dropped == ({reason: 1} if reason else {})


def test_other_scripts_and_programs_on_demand() -> None:
    config = FilterConfig(barred_starts=(), plain_start=False, min_words=1)
    done = filter_prompts(prompts("Écris un poème.", "Write a program in C."), [], config)
    assert len(done.kept) == 2


def test_similarity_of_exactly_the_threshold_is_a_repetition() -> None:
    # 7 of 10 words in common: F = 0.7, and the paper keeps what is below.
    known, new = "a b c d e f g h i j", "a b c d e f g x y z"
    assert rouge_l(known, new) == pytest.approx(0.7)
    assert not filter_prompts(prompts(new), prompts(known)).kept
    assert filter_prompts(prompts(new), prompts(known), FilterConfig(max_similarity=0.71)).kept


def test_repetitions_among_the_new_ones_without_similarity() -> None:
    config = FilterConfig(max_similarity=2)
    done = filter_prompts(prompts("Name a big river.", "name a  BIG river"), [], config)
    assert done.count.dropped == {"duplicate": 1}
