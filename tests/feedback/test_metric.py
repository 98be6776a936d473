"""Scores by overlap with the prompt's reference."""

import pytest
from sacrebleu import sentence_bleu, sentence_chrf

from alignlab.errors import BadInput
from alignlab.feedback.metric import MetricScore, make_metric
from alignlab.types import Message, Preference, Prompt, Response, SampledBy, Score, Unscored

REFERENCE = "The goods cost less than 20 euros."
TEXTS = ("The goods cost under 20 euros.", "Ships.", REFERENCE, "")


def prompt(reference: str | None) -> Prompt:
    return Prompt("p", (Message("user", "Translate: Die Ware hat unter 20 Euro gekostet."),),
                  reference=reference)  # fmt: skip


def responses(*texts: str) -> list[Response]:
    return [Response(f"r{i}", "p", text, SampledBy("m")) for i, text in enumerate(texts)]


def values(metric: MetricScore, *texts: str, reference: str | None = REFERENCE) -> list[float]:
    found = metric.rate([(prompt(reference), responses(*texts))], 0)
    assert all(isinstance(f.verdict, Score) for f in found)
    return [f.verdict.value for f in found]  # type: ignore[union-attr]


def test_rouge_l_by_hand():
    # 5 of the text's 6 words in order, 7 words in the reference: P = 5/6, R = 5/7.
    by_hand = 2 * (5 / 6) * (5 / 7) / (5 / 6 + 5 / 7)
    assert values(MetricScore("rouge_l"), *TEXTS) == pytest.approx([by_hand, 0, 1, 0])


def test_chrf_and_bleu_are_sacrebleu_s_of_one_text():
    chrf = [sentence_chrf(text, [REFERENCE]).score / 100 for text in TEXTS]
    bleu = [
        sentence_bleu(text, [REFERENCE], use_effective_order=True).score / 100 for text in TEXTS
    ]
    assert values(MetricScore("chrf"), *TEXTS) == pytest.approx(chrf)
    assert values(MetricScore("bleu"), *TEXTS) == pytest.approx(bleu)
    assert 0 < bleu[0] < 1
    assert values(MetricScore("bleu"), REFERENCE) == [1.0]


def test_a_tokeniser_for_scripts_without_spaces():
    text, reference = "货物不到二十欧元。", "货物价格不到二十欧元。"
    words = values(make_metric("bleu", options={}), text, reference=reference)
    characters = values(
        make_metric("bleu", options={"tokenize": "char"}), text, reference=reference
    )
    assert words[0] < 0.3 < characters[0]


def test_thoughts_are_not_compared():
    thought, bare = values(MetricScore("chrf"), f"<think>Hm.</think>{REFERENCE}", REFERENCE)
    assert thought == bare == pytest.approx(1)


@pytest.mark.parametrize("reference", [None, "", "  "])
def test_without_a_reference_there_is_no_score(reference):
    (found,) = MetricScore("chrf").rate([(prompt(reference), responses("Hi."))], 0)
    assert found.verdict == Unscored("the prompt has no reference")


def test_the_nearer_text_wins_and_equals_tie():
    first, second = responses(*TEXTS[:2])
    judge = MetricScore("chrf")
    items = [
        (prompt(REFERENCE), *pair) for pair in [(first, second), (second, first), (first, first)]
    ]
    found = [f.verdict for f in judge.compare(items, 0)]
    assert found == [Preference(0), Preference(1), Preference(None)]


@pytest.mark.parametrize(
    ("rest", "options", "said"),
    [
        ("", {}, "expected one of chrf, bleu, rouge_l, found ''"),
        ("chrF++", {}, "found 'chrF++'"),
        ("chrf", {"tokenize": "char"}, "expected tokenize for bleu alone, found 'chrf'"),
        ("bleu", {"tokenize": "words"}, "tokenize: expected none, zh, 13a"),
    ],
)
def test_what_is_no_metric_is_refused(rest, options, said):
    with pytest.raises(BadInput, match=said.replace("+", r"\+")):
        make_metric(rest, options=options)
