"""Texts that ask for good and bad responses: their places, lessons of them, and the coin."""

from alignlab.stages.affix import AffixSettings, affix_lessons
from alignlab.stages.coin import by_coin
from alignlab.types import Message, PreferenceGroup, Prompt
from tests.stages.making import prompt, responses

AFFIX = AffixSettings("Well.", "Badly.")


def turns(asked):
    return [(m.role, m.content) for m in asked.messages]


def test_places_of_the_texts():
    talk = (Message("system", "S"), Message("user", "A"), Message("assistant", "B"),
            Message("user", "C"))  # fmt: skip
    asked = Prompt("p", talk)
    good, bad = AFFIX.positively(asked), AFFIX.negatively(asked)
    assert turns(good) == [*turns(asked)[:-1], ("user", "C\nWell.")]
    assert turns(bad) == [*turns(asked)[:-1], ("user", "C\nBadly.")]
    assert good.id == bad.id == "p"
    system = AffixSettings("Well.", "Badly.", place="system")
    assert turns(system.negatively(asked)) == [("system", "Badly."), *turns(asked)]
    nothing = AffixSettings("Well.", "")
    assert nothing.negatively(asked) == asked


def group(n, *scores):
    asked = prompt(n)
    texts = [f"answer {i}" for i in range(len(scores))]
    return PreferenceGroup(asked, tuple(responses(asked, *texts)), scores, "people")


def test_lessons_are_the_best_and_the_worst_of_a_group():
    lessons = affix_lessons([group(0, 3.0, 2.0, 1.0), group(1, 1.0, 1.0)], AFFIX)
    assert [(d.prompt.text, d.response.text) for d in lessons] == [
        ("What is question 0?\nWell.", "answer 0"),
        ("What is question 0?\nBadly.", "answer 2"),
    ]
    assert all(d.response.prompt_id == d.prompt.id for d in lessons)
    assert len({d.prompt.id for d in lessons}) == 2


def test_a_coin_is_fair_and_keeps_the_pairs():
    groups = [group(n, 1.0, 0.0) for n in range(200)]
    tossed = [by_coin(each, seed=1) for each in groups]
    assert [set(g.responses) for g in tossed] == [set(g.responses) for g in groups]
    assert {g.scores for g in tossed} == {(1.0, 0.0)}
    kept = sum(g.responses == h.responses for g, h in zip(groups, tossed, strict=True))
    assert 70 < kept < 130
    assert tossed == [by_coin(each, seed=1) for each in groups]
    assert tossed != [by_coin(each, seed=2) for each in groups]
