"""Ensembles by hand: mean, minimum, doubt, weights, scales, and what one source cannot say."""

import pytest

from alignlab.errors import BadInput
from alignlab.feedback.ensemble import Ensemble, EnsembleOptions, Member
from alignlab.feedback.specs import judge
from alignlab.types import Feedback, Score, Unscored
from tests.feedback.worlds import prompt, response, says


class Says:
    """Gives the scores in turn; None is unscored."""

    def __init__(self, name, *scores):
        self.name, self._scores = name, scores

    def rate(self, items, seed):
        asked = [(p, r) for p, several in items for r in several]
        return [
            Feedback(p.id, (r.id,), self.name, Unscored("lost") if s is None else Score(s))
            for (p, r), s in zip(asked, self._scores, strict=True)
        ]


ITEMS = [
    (prompt("p"), [response("1", "a"), response("2", "b")]),
    (prompt("q"), [response("3", "c", of="q"), response("4", "d", of="q")]),
]


def values(options, *sources):
    members = [s if isinstance(s, Member) else Member(s) for s in sources]
    return [f.verdict.value for f in Ensemble(members, options).rate(ITEMS, seed=0)]


ONE, OTHER = Says("one", 1.0, 2.0, 3.0, 5.0), Says("other", 3.0, 0.0, 3.0, 1.0)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (EnsembleOptions(), [2, 1, 3, 3]),
        (EnsembleOptions("minimum"), [1, 0, 3, 1]),
        (EnsembleOptions("penalised"), [1, 0, 3, 1]),
        (EnsembleOptions("penalised", penalty=0.5), [1.5, 0.5, 3, 2]),
        (EnsembleOptions("penalised", penalty=0.0), [2, 1, 3, 3]),
    ],
)
def test_by_hand(options, wanted):
    assert values(options, ONE, OTHER) == pytest.approx(wanted)


def test_weights():
    options = EnsembleOptions("weighted")
    assert values(options, Member(ONE, 3), Member(OTHER)) == pytest.approx([1.5, 1.5, 3, 4])


def test_order_of_the_sources_changes_nothing():
    for how in ("mean", "minimum", "penalised"):
        assert values(EnsembleOptions(how), ONE, OTHER) == values(EnsembleOptions(how), OTHER, ONE)


def test_scales_do_not_count_once_normalised():
    large = Says("large", *(1000 + 100 * s for s in (1.0, 2.0, 3.0, 5.0)))
    for normalise in ("prompt", "call"):
        options = EnsembleOptions(normalise=normalise)
        same = values(options, ONE, ONE)
        assert values(options, ONE, large) == pytest.approx(same)
    assert values(EnsembleOptions(normalise="prompt"), ONE, ONE) == pytest.approx([-1, 1, -1, 1])
    flat = Says("flat", 2.0, 2.0, 2.0, 2.0)
    assert values(EnsembleOptions(normalise="call"), flat, flat) == [0, 0, 0, 0]


def test_a_source_that_says_nothing_leaves_the_response_unscored():
    gap = Says("gap", 1.0, None, 3.0, 5.0)
    for normalise in ("none", "prompt", "call"):
        made = Ensemble([Member(gap), Member(OTHER)], EnsembleOptions(normalise=normalise))
        verdicts = [f.verdict for f in made.rate(ITEMS, seed=0)]
        assert verdicts[1] == Unscored("gap: lost")
        assert all(isinstance(v, Score) for i, v in enumerate(verdicts) if i != 1)


def test_each_source_is_kept_in_the_samples():
    (first, *_) = Ensemble([Member(ONE), Member(OTHER)]).rate(ITEMS, seed=0)
    assert first.verdict.samples == (1.0, 3.0)


def spec(text):
    return judge(text, make_completer=lambda s: says(s))


def test_by_spec():
    made = spec("ensemble,how=weighted,normalise=prompt:2*longer|random")
    assert made.name == "ensemble (weighted, prompt): 2*longer | random"
    nested = spec("ensemble,how=minimum:llm,samples=1:strong|sandbox:oracle?noise=1.5")
    assert "judge as judge" in nested.name
    assert "oracle" in nested.name


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ensemble:longer", "2 sources or more"),
        ("ensemble:2*longer|random", "only there"),
        ("ensemble,how=weighted:longer|random", "only there"),
        ("ensemble,how=weighted:0*longer|0*random", "above 0"),
        ("ensemble,penalty=2:longer|random", "only with how=penalised"),
        ("ensemble,how=penalised,penalty=-1:longer|random", "0 or more"),
        ("ensemble,how=most:longer|random", "how"),
        ("ensemble:longer|nobody", "unknown feedback"),
        ("ensemble:longer|pairwise:strong", "source of scores"),
    ],
)
def test_what_makes_no_ensemble_is_refused(text, why):
    with pytest.raises(BadInput, match=why):
        spec(text)


@pytest.mark.parametrize("normalise", ["prompt", "call"])
def test_equal_scores_become_0_where_their_std_is_a_rounding_error(normalise):
    """The std of three scores of 0.1 is 1e-17: divided by it, they would be -1 and rule."""
    items = [(prompt("p"), [response(str(i), "a") for i in range(3)])]
    members = [Member(Says("flat", 0.1, 0.1, 0.1)), Member(Says("one", 0.0, 1.0, 2.0))]
    options = EnsembleOptions(how="minimum", normalise=normalise)
    found = [f.verdict.value for f in Ensemble(members, options).rate(items, seed=0)]
    assert found == pytest.approx([-(1.5**0.5), 0.0, 0.0])
