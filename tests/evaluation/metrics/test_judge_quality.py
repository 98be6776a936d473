from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.judge_quality import ScoredPrompt, judge_quality
from alignlab.evaluation.metrics.poster import poster_quality
from alignlab.seeds import generator

HAND = [
    # reference pairs that differ: 5-3 correct, 5-1 correct, 3-1 tied
    ScoredPrompt("a", (5.0, 2.0, 2.0), (5.0, 3.0, 1.0)),
    # 4-2 wrong; the third response has no readable score
    ScoredPrompt("b", (1.0, 5.0, None), (4.0, 2.0, 5.0)),
    # all reference scores tied: no pair; order agrees
    ScoredPrompt("c", (3.0, 3.0, 3.0), (2.0, 2.0, 2.0)),
]


def test_pairs_by_hand() -> None:
    found = judge_quality(HAND)
    assert (found.pairs.correct, found.pairs.tied, found.pairs.wrong) == (2, 1, 1)
    assert found.pairwise_accuracy.value == pytest.approx(2 / 4)
    assert found.pairwise_accuracy_ties_half.value == pytest.approx(2.5 / 4)
    assert found.pairwise_accuracy_untied.value == pytest.approx(2 / 3)
    assert found.pairwise_accuracy_untied.n == 3
    assert (found.unscored, found.unreferenced) == (1, 0)


def test_five_best_and_its_chance_by_hand() -> None:
    found = judge_quality(HAND)
    # top score 5 was given twice: in a it holds the top reference, in b (top 5, unread) it does not
    assert found.five_best.value == pytest.approx(1 / 2)
    assert found.five_best_chance.value == pytest.approx((1 / 3 + 1 / 3) / 2)
    assert judge_quality(HAND, top=3.0).five_best.value == pytest.approx(1.0)
    assert judge_quality(HAND, top=4.0).five_best.value is None


def test_the_chance_of_five_best_knows_ties_and_missing_references() -> None:
    # Of three responses two hold the prompt's top reference, and one has no reference.
    tied = ScoredPrompt("a", (5.0, 1.0, 2.0), (4.0, 4.0, None))
    assert judge_quality([tied]).five_best_chance.value == pytest.approx(2 / 3)
    # The top of each prompt counts, not that of all.
    low = ScoredPrompt("b", (5.0, 1.0), (2.0, 1.0))
    found = judge_quality([tied, low])
    assert found.five_best.value == 1.0
    assert found.five_best_chance.value == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_single_responses_have_no_order_to_match() -> None:
    alone = ScoredPrompt("x", (3.0,), (4.0,))
    found = judge_quality([*HAND, alone])
    assert found.exact_match.n == 2
    assert (found.unscored, found.unreferenced) == (1, 0)
    missing = judge_quality([ScoredPrompt("a", (1.0, None, None), (None, 1.0, 2.0))])
    assert (missing.unscored, missing.unreferenced) == (2, 1)


def test_exact_match_needs_every_score() -> None:
    found = judge_quality(HAND)
    # a: the judge ties what the reference orders; b: not fully scored; c agrees
    assert found.exact_match.value == pytest.approx(1 / 2)
    assert found.exact_match.n == 2


def test_correlations_by_hand() -> None:
    found = judge_quality(HAND)
    # a: ranks 3, 1.5, 1.5 against 3, 2, 1: rho = 1.5 / sqrt(1.5 * 2); b: -1; c undefined
    assert found.spearman_by_prompt.value == pytest.approx((1.5 / math.sqrt(3) - 1) / 2)
    assert found.spearman_by_prompt.n == 2
    # a: 2 concordant of 3, one tied in the judge: 2 / sqrt(2 * 3)
    assert found.kendall_tau_by_prompt.value == pytest.approx((2 / math.sqrt(6) - 1) / 2)
    assert found.spearman.n == 8


def test_a_perfect_judge_a_reversed_one_and_an_indifferent_one() -> None:
    reference = [(1.0, 2.0, 3.0, 4.0), (4.0, 3.0, 1.0, 2.0)]
    perfect = judge_quality([ScoredPrompt(str(i), r, r) for i, r in enumerate(reference)])
    for name, figure in perfect.intervals():
        if not name.endswith("chance"):
            assert figure.value == pytest.approx(1.0), name
    turned = [ScoredPrompt(str(i), tuple(-x for x in r), r) for i, r in enumerate(reference)]
    reversed_ = judge_quality(turned)
    assert reversed_.pairwise_accuracy.value == 0
    assert reversed_.kendall_tau.value == pytest.approx(-1)
    flat = judge_quality([ScoredPrompt(str(i), (3.0,) * 4, r) for i, r in enumerate(reference)])
    assert flat.pairwise_accuracy.value == 0
    assert flat.pairwise_accuracy_ties_half.value == 0.5
    assert flat.pairwise_accuracy_untied.value is None
    assert flat.spearman.value is None
    assert flat.five_best.value == flat.five_best_chance.value == 0.25


def test_nothing_readable_is_nothing_measured() -> None:
    found = judge_quality([ScoredPrompt("a", (None, None), (1.0, 2.0))])
    assert all(figure.value is None for _, figure in found.intervals())
    assert found.unscored == 2
    assert judge_quality([]).pairs.total == 0


def test_mistakes_are_named() -> None:
    with pytest.raises(BadInput, match="prompt 'a': expected a reference score for each of 2"):
        ScoredPrompt("a", (1.0, 2.0), (1.0,))
    with pytest.raises(BadInput, match="prompt 'a': expected once, found 2 times"):
        judge_quality([ScoredPrompt(key, (1.0,), (1.0,)) for key in "baca"])


score = st.one_of(st.none(), st.integers(0, 5).map(float))
rows = st.lists(st.tuples(score, score), min_size=1, max_size=5)


@settings(deadline=None)
@given(st.lists(rows, min_size=1, max_size=6), st.randoms())
def test_the_order_of_responses_plays_no_part(prompts, random) -> None:  # type: ignore[no-untyped-def]
    def measured(mixed: bool):  # type: ignore[no-untyped-def]
        built = []
        for i, pairs in enumerate(prompts):
            some = list(pairs)
            if mixed:
                random.shuffle(some)
            built.append(ScoredPrompt(str(i), *map(tuple, zip(*some, strict=True))))
        return judge_quality(built)

    one, other = measured(False), measured(True)
    assert one.pairs == other.pairs
    for (name, a), (_, b) in zip(one.intervals(), other.intervals(), strict=True):
        assert a.n == b.n, name
        assert a.value == pytest.approx(b.value), name


def test_the_posters_columns_by_hand() -> None:
    prompts = [
        ScoredPrompt("a", (5.0, 4.0), (5.0, 3.0)),
        ScoredPrompt("b", (5.0, None), (4.0, None)),
        ScoredPrompt("c", (2.0, 1.0), (2.0, 1.0)),
    ]
    found = poster_quality(prompts)
    assert found.poster_pairwise_accuracy == pytest.approx(4 / 6)  # two unreadable ones are "equal"
    assert found.poster_five_best == pytest.approx(1 / 2)
    assert found.poster_exact_match == pytest.approx(1 / 3)
    assert (found.scores, found.fives, found.prompts) == (6, 2, 3)
    # -1, 0, 1 against 0, 1, 2: an unreadable score is a number below all others there.
    ordered = poster_quality([ScoredPrompt("a", (None, 0.0, 1.0), (0.0, 1.0, 2.0))])
    assert ordered.poster_spearman == ordered.poster_kendall_tau == pytest.approx(1.0)
    unlike = poster_quality([*prompts, ScoredPrompt("d", (1.0,), (1.0,))])
    assert unlike.poster_pairwise_accuracy == pytest.approx(5 / 7)
    assert unlike.poster_exact_match == pytest.approx(2 / 4)
    with pytest.raises(BadInput, match="found none"):
        poster_quality([])


def test_prompts_of_one_cluster_are_resampled_together() -> None:
    rng = generator("clusters")
    once = [
        ScoredPrompt(
            f"p{i}",
            tuple(float(v) for v in rng.integers(0, 6, 4)),
            tuple(float(v) for v in rng.integers(0, 6, 4)),
        )
        for i in range(60)
    ]
    thrice = [replace(p, prompt_id=f"{s}/{p.prompt_id}", cluster=p.prompt_id)
              for s in range(3) for p in once]  # fmt: skip
    one, three = judge_quality(once), judge_quality(thrice)
    for (name, a), (_, b) in zip(one.intervals(), three.intervals(), strict=True):
        assert b.n == 3 * a.n, name
        for side in ("value", "low", "high"):
            # repeated items change a mid-rank correlation by a rounding error only
            assert getattr(b, side) == pytest.approx(getattr(a, side), abs=2e-3), (name, side)


def test_prompts_in_the_same_order_bound_no_correlation() -> None:
    same = [ScoredPrompt(str(i), (1.0, 2.0, 3.0), (1.0, 2.0, 3.0)) for i in range(12)]
    one = ScoredPrompt("other", (1.0, 2.0, 3.0), (1.0, 3.0, 2.0))
    for name in ("spearman", "spearman_by_prompt", "kendall_tau", "kendall_tau_by_prompt"):
        alike, varied = (getattr(judge_quality(some), name) for some in (same, [*same, one]))
        assert (alike.value, alike.low, alike.high) == (pytest.approx(1), None, None), name
        assert varied.low < varied.value <= varied.high, name
