"""What a text shows."""

import time

import pytest

from alignlab.text import shortened, trimmed, words


@pytest.mark.parametrize(
    "text",
    ["", " \n\t\r", "\x00", "\u200b\u200d\u2060", "\ufeff", "\u00a0\u2003\u3000", "\u2800",
     "\u3164", "\u00ad", "\ufe0f", "\U000e0001", "\x1b\x7f\x9f", "\u2028\u2029", "\u202e"],
)  # fmt: skip
def test_nothing_is_shown(text):
    assert trimmed(text) == ""
    assert trimmed(f"{text}a{text}b{text}") == f"a{text}b"


@pytest.mark.parametrize("text", ["0", ".", "👍", "é", "中", "नि", "\ue000", "❤️x"])
def test_something_is_shown(text):
    assert trimmed(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "It's $3.88,\nor 2_000!?",
        "naïve — 50% «oui»…",
        "नमस्ते दुनिया",
        "e\u0301a 中文。",
        "👍🏽 ok\u200d",
    ],
)
def test_words_are_those_of_nltk(text):
    tokenize = pytest.importorskip("nltk.tokenize", reason="needs nltk")
    assert words(text) == tokenize.wordpunct_tokenize(text)


def test_long_runs_take_no_time():
    start = time.process_time()
    trimmed("a" + " " * 1_000_000 + "b")
    assert time.process_time() - start < 1


def test_a_long_name_keeps_its_start_and_its_end():
    assert shortened("SFT on a-model -> DPO by strong", 31) == "SFT on a-model -> DPO by strong"
    assert shortened("SFT on a-model -> DPO by strong", 15) == "SFT on … strong"
    assert shortened("abcdef", 4) == "a…ef"
