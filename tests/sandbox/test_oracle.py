"""The oracle's five points on hand-made answers, on ideal ones, and on any text at all."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignlab import registry
from alignlab.errors import BadInput
from alignlab.sandbox.answers import LEVELS, ideal_answer, write_answer
from alignlab.sandbox.oracle import LABELS, Assessment, Oracle, assess
from alignlab.sandbox.questions import FAMILIES, draw_question, parse_question, phrase, prompt
from alignlab.sandbox.reading import CHATTER, FILLER
from alignlab.sandbox.truths import make_oracle
from alignlab.sandbox.world import BY_NAME, NAMES, world
from alignlab.seeds import generator
from alignlab.types import Feedback, Prompt, Response, SampledBy, Score, Unscored

A, B, C = world().entities[:3]


def true(attribute: str, town: str = A, form: int = 0) -> str:
    return BY_NAME[attribute].named[form].format(e=town, v=world().fact(town, attribute).value)


def false(attribute: str, town: str = A) -> str:
    right = world().fact(town, attribute).value
    wrong = next(v for v in BY_NAME[attribute].values if v != right)
    return BY_NAME[attribute].named[0].format(e=town, v=wrong)


def score(asked: str, answer: str) -> Assessment:
    question = parse_question(asked)
    assert question is not None
    return assess(asked, question, answer)


def lost(found: Assessment) -> set[str]:
    return {label for label, why in zip(LABELS, found.lost, strict=True) if why}


def fixed(text: str, asked: str = f"Tell me about {A}.") -> list[Feedback]:
    asked_prompt = prompt(asked)
    response = Response("r", asked_prompt.id, text, SampledBy("hand"))
    return Oracle().rate([(asked_prompt, [response])], seed=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_ideal_answers_get_all_points(family: str) -> None:
    for i in range(150):
        rng = generator(i, "ideal", family)
        question = draw_question(rng, family, world().entities)
        asked = phrase(rng, question)
        answer = ideal_answer(rng, asked, question)
        assert assess(asked, question, answer).score == 5, (asked, answer)
        assert len(answer.split()) <= 60


@pytest.mark.parametrize("family", FAMILIES)
def test_empty_echo_and_off_topic_get_at_most_one(family: str) -> None:
    for i in range(40):
        rng = generator(i, "bad", family)
        question = draw_question(rng, family, world().entities[3:])
        asked = phrase(rng, question)
        elsewhere = f"{true('food', A)}. {true('region', B)}. {true('music', C)}."
        for answer in ("", " \n", asked, f"{asked} {asked}", *FILLER, *CHATTER, elsewhere):
            assert assess(asked, question, answer).score <= 1, (asked, answer)


FOUR = f"{true('food')}. {true('region')}. {true('music')}. {true('craft')}."
TELL = f"Tell me about {A}."
FOOD = f"What is the food of {A}?"


@pytest.mark.parametrize(
    ("asked", "answer", "expected"),
    [
        (FOOD, f"{true('food')}.", set()),
        (FOOD, f"{false('food')}.", {"too little", "something false", "incomplete"}),
        (FOOD, f"{true('craft')}.", {"too little", "incomplete"}),
        (FOOD, f"{true('food')}. {true('craft')}.", {"incomplete"}),
        (FOOD, f"{true('food')}", {"unclear"}),
        (FOOD, f"{FOOD} {true('food')}.", {"unclear"}),
        (FOOD, f"{true('food')}. {true('food', form=1)}.", {"unclear"}),
        (FOOD, f"{true('food')}. {FILLER[0]}", {"incomplete"}),
        (FOOD, f"{true('food')}. What does {A} make?", {"incomplete"}),
        (FOOD, f"{true('food')}. Fish fish the of.", {"unclear"}),
        (FOOD, f"{true('food')}. {true('food', B)}.", {"incomplete"}),
        (FOOD, f"Yes, {true('food')}.", {"incomplete"}),
        (FOOD, "Its food is cold ice.", {"too little", "something false", "incomplete"}),
        (TELL, FOUR, set()),
        (TELL, FOUR + f" {false('colour')}.", {"something false"}),
        (TELL, f"{true('food')}.", {"too little", "incomplete"}),
        (TELL, f"{true('food')}. {true('music')}.", {"incomplete"}),
        (TELL, f"Welcome to {A}. " + FOUR, {"incomplete"}),
        (
            f"Describe {A} for a visitor.",
            f"Welcome to {A}. {true('region')}. {true('food')}. {true('festival')}.",
            set(),
        ),
        (f"Describe {A} for a visitor.", FOUR, {"incomplete"}),
        (
            f"List three facts about {A}.",
            f"1. {true('food')}.\n2. {true('craft')}.\n3. {true('music')}.",
            set(),
        ),
        (
            f"List three facts about {A}.",
            f"{true('food')}. {true('craft')}. {true('music')}.",
            {"incomplete"},
        ),
        (
            f"Compare {A} and {B}.",
            f"{true('food')}, while {true('food', B)}. {true('music')}, while {true('music', B)}.",
            set(),
        ),
        (f"Compare {A} and {B}.", f"{true('food')}, while {true('food', B)}.", {"incomplete"}),
        (
            f"Compare {A} and {B}.",
            f"{true('food')}. {true('music', B)}.",
            {"too little", "incomplete"},
        ),
    ],
)
def test_points_by_hand(asked: str, answer: str, expected: set[str]) -> None:
    found = score(asked, answer)
    assert lost(found) == expected, found.reasons
    assert found.score == 5 - len(expected)


def test_yes_and_no() -> None:
    right = f"Is it true that {true('music')}?"
    wrong = f"Is it true that {false('music')}?"
    assert score(right, f"Yes, {true('music', form=2)}.").score == 5
    assert score(wrong, f"No, {true('music')}.").score == 5
    assert lost(score(right, f"No, {true('music')}.")) == {"something false"}
    assert lost(score(wrong, f"Yes, {false('music')}.")) == {
        "too little",
        "something false",
        "incomplete",
    }
    assert lost(score(right, "Yes.")) == {"too little", "unclear", "incomplete"}
    assert lost(score(right, f"{true('music')}.")) == {"incomplete"}


def test_a_pronoun_means_the_town_named_last() -> None:
    food = world().fact(B, "food").value
    found = score(TELL, f"{FOUR} {true('region', B)}. Its food is {food}.")
    assert "something false" not in lost(found)
    assert f"not asked: the region of {B}" in found.reasons


def test_reasons_name_the_truth() -> None:
    found = score(FOOD, f"{false('food')}.")
    assert f"the food of {A} is {world().fact(A, 'food').value}, not" in found.reasons
    assert found.problems == "too little, something false, incomplete"
    assert score(FOOD, f"{true('food')}.").problems == "none"


@given(st.text(max_size=200), st.integers(0, 10**6))
def test_any_text_gets_a_score(text: str, seed: int) -> None:
    rng = generator(seed, "any")
    question = draw_question(rng, FAMILIES[seed % len(FAMILIES)], world().entities)
    asked = phrase(rng, question)
    for answer in (text, f"{true('food')}. {text}", f"1. {text}\n2. {text}"):
        assert 0 <= assess(asked, question, answer).score <= 5


@given(st.integers(0, 10**6), st.sampled_from(FAMILIES))
def test_adding_noise_never_helps_a_full_answer(seed: int, family: str) -> None:
    rng = generator(seed, "worse")
    question = draw_question(rng, family, world().entities)
    asked = phrase(rng, question)
    answer = ideal_answer(rng, asked, question)
    for worse in (f"{asked} {answer}", f"{answer} {CHATTER[0]}", answer[:-1], answer + answer):
        assert assess(asked, question, worse).score < 5


def test_levels_are_ordered() -> None:
    means = {}
    for level, noise in LEVELS.items():
        scores = []
        for i in range(350):
            rng = generator(i, level)
            question = draw_question(rng, FAMILIES[i % len(FAMILIES)], world().entities)
            asked = phrase(rng, question)
            scores.append(assess(asked, question, write_answer(rng, asked, question, noise)).score)
        means[level] = sum(scores) / len(scores)
    assert list(means) == sorted(means, key=lambda level: -means[level])
    assert means["strong"] >= 4.75
    assert 3.7 <= means["weak"] <= 4.2
    assert 3.4 <= means["human"] <= 3.9


def test_rate_is_a_feedback_source() -> None:
    (feedback,) = fixed(FOUR)
    assert feedback.verdict == Score(5.0, (5.0,))
    assert feedback.source == "sandbox:oracle"
    (unread,) = fixed(FOUR, asked="How are you?")
    assert isinstance(unread.verdict, Unscored)


def _pair() -> tuple[Prompt, Response, Response]:
    asked = prompt(TELL)
    good = Response("good", asked.id, FOUR, SampledBy("hand"))
    return asked, good, Response("bad", asked.id, "I like cake.", SampledBy("hand"))


def test_compare_is_symmetric() -> None:
    asked, good, bad = _pair()
    again = replace(good, id="again")
    verdicts = [
        f.verdict
        for f in Oracle().compare(
            [(asked, good, bad), (asked, bad, good), (asked, good, again)], seed=0
        )
    ]
    assert [v.winner for v in verdicts] == [0, 1, None]  # type: ignore[union-attr]


def test_noise_is_seeded_by_the_response() -> None:
    asked, good, _ = _pair()
    many = [replace(good, id=str(i)) for i in range(300)]
    noisy = make_oracle("oracle?noise=1.5")
    values = [f.verdict.value for f in noisy.rate([(asked, many)], seed=1)]  # type: ignore[union-attr]
    backwards = noisy.rate([(asked, many[::-1])], seed=1)
    assert values == [f.verdict.value for f in backwards][::-1]  # type: ignore[union-attr]
    assert len(set(values)) > 3
    assert all(0 <= v <= 5 and v == int(v) for v in values)
    assert values != [f.verdict.value for f in noisy.rate([(asked, many)], seed=2)]  # type: ignore[union-attr]


def test_specs() -> None:
    assert registry.get("feedback", "sandbox") is make_oracle
    assert make_oracle("oracle").name == "sandbox:oracle"
    assert make_oracle("oracle?noise=1.5").name == "sandbox:oracle?noise=1.5"
    for bad in ("orcale", "oracle?nose=1", "oracle?noise=-1", "oracle?noise=loud", "false?noise=1"):
        with pytest.raises(BadInput):
            make_oracle(bad)


def test_yes_or_no_truths_by_hand() -> None:
    asked = prompt(f"Tell me about {A}.")
    two = f"{true('region')}. {true('food')}."
    told = {
        "two truths": (two, 1, 0),  # incomplete, yet nothing false and the question answered
        "one truth": (f"{true('region')}.", 0, 0),
        "a falsehood": (f"{two} {false('festival')}.", 0, 1),
        "another town": (f"{true('region', B)}.", 0, 0),
        "nothing": ("I like cake.", 0, 0),
    }
    texts = [Response(k, asked.id, text, SampledBy("hand")) for k, (text, *_) in told.items()]
    for place, name in enumerate(("satisfied", "false"), start=1):
        source = make_oracle(name)
        found = {f.response_ids[0]: f.verdict for f in source.rate([(asked, texts)], 0)}
        assert found == {k: Score(float(v[place]), (float(v[place]),)) for k, v in told.items()}
        assert source.name == f"sandbox:{name}"


def test_every_attribute_is_used() -> None:
    assert set(NAMES) == set(BY_NAME)
