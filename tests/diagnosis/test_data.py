"""Diagnoses of data alone, on data made to be bad and on data made to be good."""

from __future__ import annotations

from dataclasses import replace

from alignlab.diagnosis.labels import duplicates, labels, overlap
from alignlab.diagnosis.leakage import leakage
from alignlab.types import Corpus, Count, UnpairedPreference
from tests.diagnosis.build import corpus, pair, prompt, response, sentence, shown


def by_length(share: int) -> Corpus:
    """100 pairs, of which the longer response is the better one in `share`."""
    texts = [(sentence(i, 12), sentence(i + 1, 6)) for i in range(100)]
    pairs = [(long, short) if i < share else (short, long) for i, (long, short) in enumerate(texts)]
    return corpus([pair(i, *both) for i, both in enumerate(pairs)])


def by_format(share: int) -> Corpus:
    """100 pairs of equal length, of which the listed response is the better one in `share`."""
    plain = [sentence(i, 8) for i in range(100)]
    lists = ["- " + text[:-2] for text in plain]
    pairs = [(a, b) if i < share else (b, a) for i, (a, b) in enumerate(zip(lists, plain))]  # noqa: B905
    return corpus([pair(i, *both) for i, both in enumerate(pairs)])


def test_length_that_decides_is_found():
    length, _ = leakage(by_length(80))
    # Wilson's interval of 80 of 100 by hand: [0.711, 0.867].
    assert (length.about, length.level, length.value) == ("length", "warn", 0.8)
    assert "better one in 80% [71, 87] of 100 pairs" in length.text
    shorter, _ = leakage(by_length(15))
    assert (shorter.level, shorter.value) == ("warn", 0.15)


def test_length_that_does_not_decide_is_fine():
    length, marks = leakage(by_length(55))
    assert (length.level, length.value) == ("ok", 0.55)
    assert (marks.level, marks.value) == ("ok", 0.5)
    assert "differ in 0 of 100 pairs" in marks.text


def test_format_that_decides_is_found_at_equal_length():
    length, marks = leakage(by_format(85))
    assert length.text == "all 100 pairs are equally long"
    assert (marks.about, marks.level, marks.value) == ("format", "warn", 0.85)
    _, fine = leakage(by_format(50))
    assert fine.level == "ok"


def test_few_pairs_give_no_figure_and_labels_are_paired():
    few = corpus([pair(i, "a longer one", "short") for i in range(39)])
    assert [f.level for f in leakage(few)] == ["skipped", "skipped"]
    assert leakage(Corpus("none")) == []
    texts = [(sentence(i, 12), True) for i in range(50)] + [
        (sentence(i, 5), False) for i in range(50)
    ]
    labelled = tuple(
        UnpairedPreference(prompt(i), response(prompt(i), "a", text), good)
        for i, (text, good) in enumerate(texts)
    )
    length, _ = leakage(Corpus("kto", labelled=labelled))
    assert (length.level, length.value) == ("warn", 1.0)
    assert "50 pairs of a desirable and an undesirable response" in length.text


def test_opposite_labels_are_counted_and_their_rate_estimated():
    groups = [pair(i, f"good {i}", f"bad {i}") for i in range(100)]
    again = [pair(i, f"bad {i}", f"good {i}") for i in range(4)]
    counts = (Count("data", "records", 104, {"duplicate": 16, "tie": 7}),)
    (noisy,) = labels(replace(corpus([*groups, *again]), counts=counts))
    assert (noisy.level, noisy.value) == ("warn", 0.04)
    # 4 of 20 repeated comparisons differ: 2e(1 - e) = 0.2, e = (1 - sqrt(0.6)) / 2 = 0.113.
    assert noisy.text == (
        "4 of 100 comparisons occur with opposite labels; 7 ties; of 20 repeated ones about 11% of "
        "labels are flipped"
    )
    (fine,) = labels(corpus(groups))
    assert (fine.level, fine.value) == ("ok", 0.0)
    assert labels(Corpus("none")) == []


def test_a_response_with_both_labels_is_noise():
    asked = prompt(1)
    both = tuple(
        UnpairedPreference(asked, response(asked, name, "the same"), good)
        for name, good in (("a", True), ("b", False))
    )
    (found,) = labels(Corpus("kto", labelled=both))
    assert (found.level, found.value) == ("warn", 1.0)


def test_repetitions_are_found():
    good = tuple(shown(i, f"answer {i}") for i in range(90))
    counts = (Count("data", "records", 90, {"duplicate": 10}),)
    (bad,) = duplicates(Corpus("d", demonstrations=good, counts=counts))
    assert (bad.level, bad.value) == ("warn", 0.1)
    assert bad.text == "10 repeated records left out, 0% of prompts occur again"
    (fine,) = duplicates(Corpus("d", demonstrations=good))
    assert (fine.level, fine.value) == ("ok", 0.0)
    refusals = tuple(shown(i, "I cannot help\nwith that.") for i in range(5))
    (boiler,) = duplicates(Corpus("d", demonstrations=(*good, *refusals)))
    assert boiler.level == "warn"
    assert "5 responses are 'I cannot help with that.'" in boiler.text


def test_held_out_prompts_among_training_ones_are_found():
    text = "Explain why the sky is blue at noon and red in the evening"
    trained = tuple(shown(i, "answer", asked) for i, asked in enumerate([text + "!", "Why rain?"]))
    (bad,) = overlap(Corpus("d", demonstrations=trained, test_prompts=(prompt(9, text),)))
    assert (bad.level, bad.value) == ("warn", 0.5)
    assert "1 of 2 training prompts overlap held-out ones (same as a held-out prompt 1)" in bad.text
    (fine,) = overlap(Corpus("d", demonstrations=trained, test_prompts=(prompt(9, "Why snow?"),)))
    assert (fine.level, fine.value) == ("ok", 0.0)
    assert overlap(Corpus("d", demonstrations=trained)) == []
