"""Win rates of a study, corrected by ratings of some of its answers."""

import json

import pytest

from alignlab.errors import BadInput
from alignlab.measuring.people import corrected_win_rates
from alignlab.records import to_line
from alignlab.runs import Run, RunIdentity
from alignlab.types import Feedback, Message, Preference, Prompt, Response, SampledBy, Score


def answer(model, i, text):
    return Response(f"{i}/{model}", f"p{i}", text, SampledBy(model))


@pytest.fixture
def run(tmp_path):
    """A run of 8 prompts: by its judge M2 beats M1 on the first six."""
    path = tmp_path / "run"
    of = Run.start(path, RunIdentity("study", {}, (0,)))
    asked = [Prompt(f"p{i}", (Message("user", f"Question {i}"),), "test") for i in range(8)]
    with of.stage("seed") as stage:
        stage.write("test_prompts", Prompt, asked)
    texts = {"M2": "better {}", "M1": "worse {}"}
    for model, text in texts.items():
        with of.stage(f"answer-{model.lower()}") as stage:
            stage.write("responses", Response, [answer(model, i, text.format(i)) for i in range(8)])
    with of.stage("duel-m2") as stage:
        judged = [
            Feedback(f"p{i}", (f"{i}/M2", f"{i}/M1"), "j", Preference(int(i > 5))) for i in range(8)
        ]
        stage.write("feedback", Feedback, judged)
    of.finish()
    of.close()
    return path


def ratings(path, *rows):
    lines = [to_line(Feedback("p", (key,), "anna", Score(float(v)))) for key, v in rows]
    path.write_text("".join(lines))
    return path


def test_the_rates_by_judge_people_and_both(run, tmp_path, alignlab):
    people = [("0/M2", 5), ("0/M1", 1), ("1/M2", 5), ("1/M1", 1), ("6/M2", 1), ("6/M1", 5)]
    people += [("7/M2", 2), ("7/M1", 3), ("2/M2", 5)]  # the last pair has one side only
    file = ratings(tmp_path / "people.jsonl", *people)
    found = {r.metric: r for r in corrected_win_rates(run, file)}
    assert found["win_rate"].value == 0.75
    assert (found["win_rate_by_people"].value, found["win_rate_by_people"].n) == (0.5, 4)
    # cov = 1/3, var of all = 3/14, n/N = 1: w = (1/3) / (3/7) = 7/9; the others win all.
    weight = found["weight_of_judge"]
    assert (weight.value, weight.n) == (pytest.approx(7 / 9), 4)
    assert found["win_rate_corrected"].value == pytest.approx(0.5 + 7 / 9 * 0.5)
    ended = alignlab("evaluate", "win_rates", "--run", run, "--people", file, "--json")
    (row,) = json.loads(ended.out)["rows"]
    assert row["model"] == "M2"
    assert row["win_rate_corrected"] == found["win_rate_corrected"].value


def test_labels_on_every_pair_are_peoples_own_rate(run, tmp_path):
    people = [(f"{i}/{m}", 1 + (m == "M2")) for i in range(8) for m in ("M2", "M1")]
    found = {r.metric: r for r in corrected_win_rates(run, ratings(tmp_path / "p.jsonl", *people))}
    assert found["win_rate_corrected"].value == found["win_rate_by_people"].value == 1.0
    assert found["weight_of_judge"].value == 0


def test_ratings_of_other_answers_are_refused(run, tmp_path):
    with pytest.raises(BadInput, match="ratings of both answers of a pair"):
        corrected_win_rates(run, ratings(tmp_path / "p.jsonl", ("x", 1)))
    empty = tmp_path / "empty"
    none = Run.start(empty, RunIdentity("study", {}, (0,)))
    none.finish()
    none.close()
    with pytest.raises(BadInput, match="expected a study's comparisons"):
        corrected_win_rates(empty, ratings(tmp_path / "q.jsonl", ("x", 1)))
