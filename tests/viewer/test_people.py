"""Ratings: what is stored, two annotators, two windows, blindness, figures."""

from __future__ import annotations

import json
import math
import shutil
from functools import partial
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.prediction_powered import powered_mean
from alignlab.evaluation.metrics.win_rate import Outcome, win_rate
from alignlab.report import write_report
from alignlab.report.run_data import read_run
from alignlab.viewer import people, rating
from alignlab.viewer.app import application
from alignlab.viewer.library import Library
from tests.viewer.a_run import TWO, build


@pytest.fixture
def library(tmp_path: Path) -> Library:
    build(tmp_path / "runs" / "one")
    return Library(tmp_path / "runs")


def make(library: Library, **given: object) -> people.RatingTask:
    body = {"form": "pair", "models": [TWO, "M1"], "number": 12, **given}
    return rating.create(library, library.run("one"), body)


def rate(
    library: Library, task: people.RatingTask, annotator: str, item: str, value: object
) -> dict:
    body = {"annotator": annotator, "item": item, "value": value}
    return rating.save(library, library.run("one"), task.name, body)


def test_items_are_blind_and_in_an_order_of_the_annotators_own(library: Library) -> None:
    task = make(library)
    anna = rating.items(library, library.run("one"), task.name, "anna")
    ben = rating.items(library, library.run("one"), task.name, "ben")
    shown = json.dumps(anna["items"])
    assert TWO not in shown
    assert "M1" not in shown
    assert [i["item"] for i in anna["items"]] != [i["item"] for i in ben["items"]]
    assert sorted(i["item"] for i in anna["items"]) == sorted(i["item"] for i in ben["items"])
    sides = [i["texts"][0].startswith("unique") for i in anna["items"]]
    assert 0 < sum(sides) < len(sides)


def test_a_choice_of_a_side_is_stored_as_the_response_it_showed(library: Library) -> None:
    task = make(library)
    run = library.run("one")
    for item in rating.items(library, run, task.name, "anna")["items"]:
        side = 0 if item["texts"][0].startswith("unique") else 1
        rate(library, task, "anna", item["item"], side)  # always M2's
    assert {r.value for r in people.ratings(run.path)} == {0}
    again = rating.items(library, run, task.name, "anna")["items"]
    assert all(i["texts"][i["value"]].startswith("unique") for i in again)


def test_the_last_rating_counts_and_nothing_is_overwritten(library: Library) -> None:
    task = make(library)
    item = task.items[0].item
    for value in (0, "tie", 1):
        rate(library, task, "anna", item, value)
    rate(library, task, "ben", item, "tie")
    run = library.run("one")
    found = {r.annotator: r.value for r in people.ratings(run.path)}
    assert found["ben"] == "tie"
    assert found["anna"] in (0, 1)
    assert len((run.path / "people" / "anna.jsonl").read_text().splitlines()) == 3


def test_a_skipped_item_is_no_rating(library: Library) -> None:
    task = make(library)
    rate(library, task, "anna", task.items[0].item, None)
    run = library.run("one")
    assert people.ratings(run.path) == []
    shown = rating.items(library, run, task.name, "anna")["items"]
    assert [i["item"] for i in shown if i["skipped"]] == [task.items[0].item]


@pytest.mark.parametrize(
    ("form", "models", "value"),
    [
        ("pair", [TWO, "M1"], 2), ("pair", [TWO, "M1"], True), ("pair", [TWO, "M1"], "A"),
        ("scale", [TWO], 6), ("scale", [TWO], 2.5), ("scale", [TWO], "3"),
        ("labels", [TWO], "fine"), ("text", [TWO], "  "),
        ("ranking", [TWO, "M1"], [1]), ("ranking", [TWO, "M1"], [0, 1]),
    ],
)  # fmt: skip
def test_values_of_another_form_are_refused(
    library: Library, form: str, models: list[str], value: object
) -> None:
    task = make(library, form=form, models=models)
    with pytest.raises(BadInput, match="expected a rating in the form"):
        rate(library, task, "anna", task.items[0].item, value)
    assert not (library.run("one").path / "people" / "anna.jsonl").exists()


@pytest.mark.parametrize(
    ("form", "models", "value"),
    [
        ("scale", [TWO], 3), ("labels", [TWO], "bad"), ("text", [TWO], "too short"),
        ("ranking", [TWO, "M1"], [2, 1]),
    ],
)  # fmt: skip
def test_every_form_is_read_back(
    library: Library, form: str, models: list[str], value: object
) -> None:
    task = make(library, form=form, models=models)
    run = library.run("one")
    first = rating.items(library, run, task.name, "anna")["items"][0]
    rate(library, task, "anna", first["item"], value)
    again = rating.items(library, run, task.name, "anna")["items"][0]
    assert again["value"] == value


def test_marked_passages_follow_the_response(library: Library) -> None:
    task = make(library)
    run = library.run("one")
    first = rating.items(library, run, task.name, "anna")["items"][0]
    side = next(i for i, text in enumerate(first["texts"]) if text.startswith("unique"))
    body = {"annotator": "anna", "item": first["item"], "value": 0, "spans": [[side, 0, 6]]}
    rating.save(library, run, task.name, body)
    assert people.ratings(run.path)[0].spans == ((0, 0, 6),)
    assert rating.items(library, run, task.name, "anna")["items"][0]["spans"] == [[side, 0, 6]]


@pytest.mark.parametrize("name", ["", "a/b", "../x", "results", "x" * 41, "ä"])
def test_names_that_are_no_file_names_are_refused(library: Library, name: str) -> None:
    task = make(library)
    with pytest.raises(BadInput, match="annotator"):
        rate(library, task, name, task.items[0].item, 0)


def test_the_win_rate_by_people_reaches_the_figures(library: Library) -> None:
    task = make(library)
    run = library.run("one")
    values = [0] * 8 + [1] * 3 + ["tie"]
    places = dict(
        people.order(task, "anna") and [(i.item, p) for i, p in people.order(task, "anna")]
    )
    for item, value in zip(task.items, values, strict=True):
        shown = value if value == "tie" else places[item.item].index(value)
        rate(library, task, "anna", item.item, shown)
    row = next(r for r in people.summary(run.path) if r.metric == "win_rate")
    expected = win_rate(
        [
            Outcome(item.cluster, {0: 1.0, 1: 0.0}.get(value, 0.5))
            for item, value in zip(task.items, values, strict=True)
        ]
    )
    assert (row.model, row.against, row.n) == (TWO, "M1", 12)
    assert row in read_run(run.path).results
    page = write_report(run.path).read_text()
    assert "Win rate against M1, by people" in page
    assert "How often people prefer" in page
    agreement = next(r for r in people.summary(run.path) if r.metric == "agreement")
    assert "Agreement with people" in page
    assert f"judge: judge J: {100 * agreement.value:.1f}%" in page
    assert (row.value, row.low, row.high) == (
        expected.rate.value, expected.rate.low, expected.rate.high,
    )  # fmt: skip


def test_a_random_task_corrects_the_judges_win_rate_when_it_is_done(library: Library) -> None:
    task = make(library, number=6)
    run = library.run("one")
    for number, (item, places) in enumerate(people.order(task, "anna")):
        assert not [r for r in people.summary(run.path) if r.metric == "win_rate_corrected"]
        rate(library, task, "anna", item.item, places.index(number % 2))
    row = next(r for r in people.summary(run.path) if r.metric == "win_rate_corrected")
    rated = {item.prompt: 1.0 - n % 2 for n, (item, _) in enumerate(people.order(task, "anna"))}
    verdicts = {f"p/{i}": v for i, v in enumerate([1.0] * 6 + [0.0] * 4 + [math.nan, 0.5])}
    expected = powered_mean(
        [*verdicts.values()], [rated.get(p, math.nan) for p in verdicts]
    ).corrected
    assert (row.model, row.n) == (TWO, 6)
    assert (row.value, row.low, row.high) == (expected.value, expected.low, expected.high)


def test_a_task_of_chosen_prompts_corrects_nothing(library: Library) -> None:
    task = make(library, filter={"model": TWO, "outcome": "loss"})
    for item in task.items:
        rate(library, task, "anna", item.item, 0)
    found = people.summary(library.run("one").path)
    assert {r.metric for r in found} == {"win_rate", "agreement"}


def test_agreement_with_the_judge_is_shown_after_ten(library: Library) -> None:
    task = make(library)
    shown = []
    for number, item in enumerate(task.items):
        shown.append(rate(library, task, "anna", item.item, 0)["agreement"])
        assert bool(shown[-1]) == (number + 1 >= 10)
    assert {row["partner"] for row in shown[-1]} == {"judge: judge J"}
    assert shown[-1][0]["n"] == 11  # one comparison is unscored


def test_a_rating_over_http(library: Library) -> None:
    client = TestClient(application(library, 8000), base_url="http://127.0.0.1:8000")
    made = client.post(
        "/run/one/people", json={"form": "pair", "models": [TWO, "M1"], "number": 3}
    ).json()
    assert made["items"] == 3
    task = f"/run/one/rate/{made['task']}"
    assert client.get(task).status_code == 200
    items = client.get(f"{task}/items?annotator=anna").json()["items"]
    body = {"annotator": "anna", "item": items[0]["item"], "value": "tie"}
    assert client.post(f"{task}/save", json=body).json()["answered"] == 1
    assert client.post(f"{task}/save", json={**body, "item": "x"}).status_code == 400
    assert client.post(f"{task}/save", content="{}").status_code == 400
    assert client.post(f"{task}/save", json=[1]).status_code == 400
    assert client.post("/run/one/rate/none/save", json=body).status_code == 404
    assert client.post("/run/one/people", json={"number": 0}).status_code == 400


def test_the_baseline_is_the_other_side_in_whatever_order_models_are_named(
    library: Library,
) -> None:
    assert make(library, models=["M1", TWO]).items[0].models == (TWO, "M1")


def test_a_task_of_a_filter_holds_its_prompts_only(library: Library) -> None:
    task = make(library, filter={"model": TWO, "outcome": "loss"})
    assert sorted(i.prompt for i in task.items) == [f"p/{i}" for i in (6, 7, 8, 9)]
    assert make(library, filter={"model": TWO, "outcome": "loss"}) == task


@pytest.mark.parametrize("linked", ["people", "people/anna.jsonl", "people/tasks"])
def test_a_link_out_of_the_run_is_not_written_through(
    library: Library, tmp_path: Path, linked: str
) -> None:
    task = make(library)
    run = library.run("one").path
    outside = tmp_path / "outside"
    shutil.copytree(run / "people", outside)
    if linked.endswith(".jsonl"):
        (outside / "anna.jsonl").write_text("")
        (run / linked).symlink_to(outside / "anna.jsonl")
    else:
        shutil.rmtree(run / linked)
        (run / linked).symlink_to(outside if linked == "people" else outside / "tasks")
    before = sorted((p, p.read_bytes()) for p in outside.rglob("*") if p.is_file())
    item = task.items[0].item
    writes = partial(make, library, number=3)
    if linked != "people/tasks":
        writes = partial(rate, library, task, "anna", item, 0)
    with pytest.raises(BadInput, match="link out of it"):
        writes()
    assert sorted((p, p.read_bytes()) for p in outside.rglob("*") if p.is_file()) == before


def test_items_on_which_judges_and_people_differ_come_first(library: Library) -> None:
    task = make(library)
    run = library.run("one")
    # The judge prefers M2 on prompt 0 and M1 on prompt 8; ben says M1 on both.
    by_prompt = {i.prompt: i.item for i in task.items}
    for prompt in ("p/0", "p/8"):
        item = by_prompt[prompt]
        shown = next(
            i for i in rating.items(library, run, task.name, "ben")["items"] if i["item"] == item
        )
        rate(library, task, "ben", item, int(shown["texts"][0].startswith("unique")))
    first = rating.items(library, run, task.name, "anna", "disagree")["items"][0]
    assert first["item"] == by_prompt["p/0"]
    with pytest.raises(BadInput, match="uncertain, disagree"):
        rating.items(library, run, task.name, "anna", "sideways")


def test_a_damaged_task_is_named(library: Library) -> None:
    run = library.run("one").path
    make(library)
    (run / "people" / "tasks" / "bad.json").write_text("{")
    with pytest.raises(BadInput, match=r"bad\.json: expected a task"):
        people.tasks(run)
