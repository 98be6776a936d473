"""EFT: agreement with the humans' order, readable targets, balance, and the fallback on ranks."""

import json

import pytest

from alignlab.feedback.model_judge import ModelJudge
from alignlab.feedback.prompts import judge_prompt
from alignlab.generation.scripted import ScriptedEngine
from alignlab.stages.eft import EFTSettings, build_eft
from alignlab.types import PreferenceGroup
from tests.stages.making import lab, prompt, responses

SETTINGS = EFTSettings(targets="judged", balance=100.0)


def judged_by(answers):
    """A judge that answers by the response's text: text -> one answer per sample."""

    def answer(request, sample):
        shown = request.messages[-1].content
        key = next(text for text in answers if f"<response>{text}</response>" in shown)
        return answers[key][sample % len(answers[key])]

    return ModelJudge(
        ScriptedEngine(answer, name="baseline"), judge_prompt("short_score"), samples=2
    )


def group(n, *texts):
    asked = prompt(n)
    drawn = tuple(responses(asked, *texts, by=f"human{n}"))
    return PreferenceGroup(asked, drawn, tuple(float(-i) for i in range(len(texts))), "humans")


def counted(path):
    lines = [json.loads(line) for f in path.rglob("counts.jsonl") for line in f.open()]
    return next(line for line in lines if line["what"] == "eft")


def test_agreeing_judgements_become_targets(tmp_path):
    answers = {"best": ["Fine. Score: 5", "Good. Score: 4"], "worst": ["Bad. Score: 1"]}
    made = build_eft(lab(tmp_path), judged_by(answers), [group(0, "best", "worst")], SETTINGS)
    texts = {d.prompt.messages[0].content.count("best"): d.response.text for d in made}
    assert {d.task for d in made} == {"eft"}
    # Means are 4.5 and 1: of two samples equally near to the mean the first is taken.
    assert sorted(texts.values()) == ["Bad. Score: 1", "Fine. Score: 5"]
    assert all("Rate this answer" in d.prompt.text for d in made)


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({"best": ["Score: 1"], "worst": ["Score: 5"]}, "judged in another order than the humans'"),
        ({"best": ["Score: 3"], "worst": ["Score: 3"]}, "judged equal"),
        ({"best": ["I like it"], "worst": ["Score: 3"]}, "judgement unreadable"),
    ],
)
def test_disagreeing_groups_are_dropped_by_reason(tmp_path, answers, reason):
    with_good = {**answers, "x": ["Score: 4"], "y": ["Score: 2"]}
    groups = [group(0, "best", "worst"), group(1, "x", "y")]
    made = build_eft(lab(tmp_path), judged_by(with_good), groups, SETTINGS)
    assert len(made) == 2
    assert counted(tmp_path)["dropped"] == {reason: 2}


def test_ties_inside_an_agreeing_order_are_kept(tmp_path):
    answers = {"a": ["Score: 4"], "b": ["Score: 4"], "c": ["Score: 0"]}
    made = build_eft(lab(tmp_path), judged_by(answers), [group(0, "a", "b", "c")], SETTINGS)
    assert len(made) == 3


def test_an_over_represented_score_is_thinned(tmp_path):
    answers = {f"t{i}": [f"Score: {4 if i % 2 == 0 else i % 4}"] for i in range(40)}
    groups = [group(i, f"t{i}", f"t{i + 1}") for i in range(0, 40, 2)]
    settings = EFTSettings(targets="judged", balance=1.0)
    made = build_eft(lab(tmp_path), judged_by(answers), groups, settings)
    scores = [d.response.text for d in made]
    # 20 fours, 10 ones, 10 threes: the median count is 10, so ten fours go.
    assert {s: scores.count(s) for s in set(scores)} == {
        "Score: 4": 10,
        "Score: 1": 10,
        "Score: 3": 10,
    }
    assert counted(tmp_path)["dropped"] == {"score over-represented": 10}


def test_which_examples_are_thinned_is_drawn_from_the_seed(tmp_path):
    answers = {f"t{i}": [f"Score: {4 if i % 2 == 0 else i % 4}"] for i in range(40)}
    groups = [group(i, f"t{i}", f"t{i + 1}") for i in range(0, 40, 2)]
    settings = EFTSettings(targets="judged", balance=1.0)

    def kept(name, seed):
        made = build_eft(lab(tmp_path / name, seed), judged_by(answers), groups, settings)
        return [d.id for d in made]

    first = kept("first", 0)
    assert kept("again", 0) == first
    others = [kept(f"seed {seed}", seed) for seed in (1, 2)]
    assert len({frozenset(ids) for ids in (first, *others)}) == 3


def test_auto_falls_back_on_ranks_and_says_so(tmp_path):
    answers = {"a": ["mumble"], "b": ["mumble"], "c": ["mumble"]}
    settings = EFTSettings(minimum=1, balance=100.0)
    made = build_eft(lab(tmp_path), judged_by(answers), [group(0, "a", "b", "c")], settings)
    assert sorted(d.response.text for d in made) == ["Score: 0", "Score: 2", "Score: 5"]
    assert counted(tmp_path)["changed"] == {"target from human ranks": 3}
    assert counted(tmp_path)["dropped"] == {}


def test_human_scores_on_the_judges_scale_are_taken_as_they_are(tmp_path):
    asked = group(0, "a", "b", "c")
    scored = PreferenceGroup(asked.prompt, asked.responses, (4.6, 3.2, 3.2), "humans")
    settings = EFTSettings(targets="human", balance=100.0)
    made = build_eft(lab(tmp_path), judged_by({}), [scored], settings)
    assert sorted(d.response.text for d in made) == ["Score: 3", "Score: 3", "Score: 5"]
    assert counted(tmp_path)["changed"] == {"target from human scores": 3}


def test_judged_never_falls_back(tmp_path):
    made = build_eft(
        lab(tmp_path), judged_by({"a": ["x"], "b": ["x"]}), [group(0, "a", "b")], SETTINGS
    )
    assert made == []
    assert counted(tmp_path)["dropped"] == {"judgement unreadable": 2}


def test_the_limit_is_kept(tmp_path):
    answers = {"a": ["Score: 5"], "b": ["Score: 0"]}
    settings = EFTSettings(targets="judged", limit=1, balance=100.0)
    made = build_eft(lab(tmp_path), judged_by(answers), [group(0, "a", "b")], settings)
    assert len(made) == 1
    assert counted(tmp_path)["dropped"] == {"over the limit of 1": 1}
