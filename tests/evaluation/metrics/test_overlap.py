from __future__ import annotations

import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import corpus_bleu, corpus_chrf

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.intervals import NOTHING
from alignlab.evaluation.metrics.overlap import bleu, chrf
from alignlab.rouge import rouge_l

TEXTS = ["the cat sat on the mat today", "a dog runs very fast indeed there"]
REFERENCES = [["the cat sat on a mat today", "a cat on the mat"], ["the dog runs very fast indeed"]]
STREAMS = [[REFERENCES[0][0], REFERENCES[1][0]], [REFERENCES[0][1], None]]


def test_values_are_those_of_sacrebleu() -> None:
    assert bleu(TEXTS, REFERENCES).value == pytest.approx(corpus_bleu(TEXTS, STREAMS).score)
    assert chrf(TEXTS, REFERENCES).value == pytest.approx(corpus_chrf(TEXTS, STREAMS).score)


def test_bounds_come_from_whole_resampled_corpora() -> None:
    found = bleu(TEXTS, REFERENCES)
    alone = [
        corpus_bleu([t], [[r] for r in refs]).score
        for t, refs in zip(TEXTS, REFERENCES, strict=True)
    ]
    assert found.low == pytest.approx(min(alone))
    assert found.high is not None
    assert found.high == pytest.approx(max(*alone, found.value or 0))
    assert bleu([], []) == NOTHING
    same = chrf(TEXTS, [[t] for t in TEXTS])
    assert (same.value, same.low, same.high) == (100, 100, 100)


def test_prompts_stay_together() -> None:
    texts = ["a b c d e", "a b c d f", "x y z u v", "x y z u w"]
    known = [["a b c d e"]] * 2 + [["x y z u v"]] * 2
    joined = bleu(texts, known, prompts_N=["p", "p", "q", "q"])
    assert joined.value == pytest.approx(bleu(texts, known).value)
    assert joined.low == pytest.approx(joined.high)  # both prompts have the same counts


def test_rouge_l_takes_the_best_reference() -> None:
    # Longest common subsequence: 6 of 7 and 7 words.
    assert rouge_l(TEXTS, REFERENCES)[0] == pytest.approx(6 / 7)
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    plain = scorer.score(REFERENCES[1][0], TEXTS[1])["rougeL"].fmeasure
    assert rouge_l(TEXTS, REFERENCES, stemming=False)[1] == pytest.approx(plain)
    assert rouge_l(["running dogs"], [["run dog"]])[0] == 1
    assert rouge_l(["running dogs"], [["run dog"]], stemming=False)[0] == 0


@pytest.mark.parametrize(
    ("text", "reference", "value"),
    [
        ("今天天气很好", "今天天气不好", 5 / 6),
        ("今天 天气 很好", "今天天气很好", 1),
        ("Погода сегодня плохая", "Погода сегодня хорошая", 2 / 3),
        ("मौसम अच्छा है", "मौसम खराब है", 2 / 3),
        ("วันนี้", "วันนี้", 1),
        ("the weather", "今天天气很好", 0),
        ("der Bär lief weg", "der Bär lief weg", 1),
    ],
)
def test_rouge_l_of_other_scripts(text: str, reference: str, value: float) -> None:
    """rouge-score alone drops all letters but a to z, which makes every such figure 0."""
    assert rouge_l([text], [[reference]])[0] == pytest.approx(value)


@pytest.mark.parametrize("measure", [bleu, chrf, rouge_l])
def test_a_text_without_reference_is_refused(measure) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadInput, match="text 1: expected at least one reference"):
        measure(["a", "b"], [["a"], []])
    with pytest.raises(BadInput, match="references for 2 texts, found 1"):
        measure(["a", "b"], [["a"]])


@pytest.mark.parametrize("measure", [bleu, chrf])
def test_seed_0_decides_unless_asked(measure) -> None:  # type: ignore[no-untyped-def]
    known = [[f"{a} the town lies by the wide sea"] for a in "abcdefgh"]
    texts = [" ".join(known[i][0].split()[: 5 + i % 3]) + " now" * i for i in range(8)]
    assert measure(texts, known) == measure(texts, known, seed=0)
    assert measure(texts, known) != measure(texts, known, seed=1)
