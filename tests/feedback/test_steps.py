"""Judgements by sentence as rewards inside the response, and the judges that give them."""

from __future__ import annotations

import pytest

from alignlab.errors import BadInput
from alignlab.feedback.graded import GradedSentences, read_values
from alignlab.feedback.rules import LengthJudge
from alignlab.feedback.specs import judge
from alignlab.feedback.steps import SentenceSteps, StepOptions
from alignlab.generation.scripted import ScriptedEngine
from alignlab.records import from_dict, to_dict
from alignlab.text import sentence_ends, sentences
from alignlab.types import Feedback, Message, Prompt, Response, SampledBy, Score, Unscored

TEXT = "One is here.  Mr. Two is there! \nThree"
ENDS = (12, 31, 38)
ASKED = Prompt("p", (Message("user", "Who?"),), reference="Three.")
ITEMS = [(ASKED, (Response("r", "p", TEXT, SampledBy("m")),))]


class Fixed:
    """Judge of sentences with given values."""

    name, by_sentence = "fixed", True

    def __init__(self, *values):
        self.values = values

    def rate(self, items, seed):
        known = [v for v in self.values if v is not None]
        score = Score(sum(known) / len(known), self.values)
        return [Feedback(p.id, (r.id,), self.name, score) for p, rs in items for r in rs]


def one(source, seed=0):
    (feedback,) = source.rate(ITEMS, seed)
    return feedback


def values(feedback):
    return [step.value for step in feedback.steps]


def test_sentences_end_where_their_text_does():
    assert sentences(TEXT) == ["One is here.", "Mr. Two is there!", "Three"]
    assert tuple(sentence_ends(TEXT)) == ENDS
    assert [TEXT[:end].strip()[-1] for end in ENDS] == [".", "!", "e"]
    assert sentence_ends("  \n") == []


def test_each_sentence_is_rewarded_by_its_value_less_the_neutral_one():
    found = one(SentenceSteps(Fixed(1.0, 0.5, 0.25)))
    assert [step.end for step in found.steps] == list(ENDS)
    assert values(found) == [0.5, 0.0, -0.25]
    assert found.verdict == Score(0.25, (1.0, 0.5, 0.25))
    assert from_dict(Feedback, to_dict(found)) == found


def test_a_mean_does_not_pay_for_more_sentences():
    found = one(SentenceSteps(Fixed(1.0, 1.0, 0.25), StepOptions(offset=0.25, total="mean")))
    assert values(found) == [0.25, 0.25, 0.0]
    assert found.verdict.value == 0.5


def test_the_same_total_may_lie_at_the_end():
    found = one(SentenceSteps(Fixed(1.0, 0.5, 0.25), StepOptions(at="end")))
    assert found.steps is None
    assert found.verdict == Score(0.25, (1.0, 0.5, 0.25))


def test_random_values_ignore_the_judge_and_follow_the_seed():
    options = StepOptions(values="random")
    found = [one(SentenceSteps(Fixed(*v), options), seed) for v, seed in
             [((1.0, 1.0, 1.0), 0), ((0.0, 0.0, 0.0), 0), ((0.0, 0.0, 0.0), 1)]]  # fmt: skip
    assert values(found[0]) == values(found[1]) != values(found[2])
    assert all(-0.5 <= v <= 0.5 for v in values(found[0]))


def test_an_unread_sentence_leaves_the_response_unscored():
    found = one(SentenceSteps(Fixed(1.0, None, 0.0)))
    assert isinstance(found.verdict, Unscored)
    assert found.steps is None
    assert "steps" not in to_dict(found)


def test_judges_of_whole_responses_are_refused():
    with pytest.raises(BadInput, match=r"expected a judge of sentences .*found longer"):
        SentenceSteps(LengthJudge())


@pytest.mark.parametrize(
    ("reply", "read"),
    [
        ("1: 0.5\n2: 1.0\n\n3: 0\n", (0.5, 1.0, 0.0)),
        ("1. 0.5\n2) 1\n3: 0.0", (0.5, 1.0, 0.0)),
        ("1: 0.5\n2: 1.0", None),
        ("1: 0.5\n3: 1.0\n2: 0.1", None),
        ("1: 0.5\n2: 1.5\n3: 0.1", None),
        ("Here:\n1: 0.5\n2: 1.0\n3: 0.1", None),
        ("1: 0.5\n2: 1.0\n3: 0.1\n4: 1.0", None),
        ("", None),
    ],
)
def test_graded_values_are_read_one_a_sentence_or_not_at_all(reply, read):
    assert read_values(reply, 3) == read


def test_the_teacher_sees_numbered_sentences_and_the_reference():
    completer = ScriptedEngine(lambda request, sample: "1: 1.0\n2: 0.5\n3: 0.0")
    source = GradedSentences(completer)
    shown = source.prompt.render(
        ASKED, ITEMS[0][1][0], sentence="1: One is here.", reference="Three."
    )[0].content
    assert "<reference>\nThree.\n</reference>" in shown
    assert "1: One is here." in shown
    found = one(SentenceSteps(source))
    assert values(found) == [0.5, 0.0, -0.5]
    assert values(one(judge("steps,offset=1:graded:x", make_completer=lambda spec: completer))) == [
        0.0, -0.5, -1.0,
    ]  # fmt: skip
