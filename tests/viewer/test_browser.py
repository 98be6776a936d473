"""Stories in a real browser: from a question to its rows, rating by keyboard, live updates."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import alignlab as al
from alignlab.evaluation.metrics.win_rate import Outcome, win_rate
from alignlab.report import write_report
from alignlab.viewer import people
from tests.viewer.a_run import HOSTILE, TWO

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright").expect
Site = tuple[str, Path]


def rows(page: Any) -> int:
    """Return the number of body rows of the last table, once the page is loaded."""
    page.wait_for_load_state("load")
    return page.locator("table >> nth=-1").locator("tbody tr").count()


def test_from_a_figure_to_its_rows_to_an_answer_and_back(page: Any, site: Site) -> None:
    page.goto(f"{site[0]}/")
    page.click("table a:text-is('one')")
    losses = page.locator("table.rows >> nth=0").locator("tbody tr td >> nth=5")
    number = int(losses.inner_text())
    losses.locator("a").click()
    assert rows(page) == number == 10
    page.locator("tbody a >> nth=0").click()
    expect(page.locator("article.card")).to_have_count(2)
    assert "1 of 10" in page.inner_text("nav.pager")
    page.wait_for_load_state("load")
    page.keyboard.press("j")
    page.wait_for_selector("text=2 of 10")
    deep = page.url
    page.goto("about:blank")
    page.goto(deep)
    assert "2 of 10" in page.inner_text("nav.pager")
    assert page.locator("mark").count() > 0


def test_a_slices_interval_is_that_of_its_rows_in_the_files(page: Any, site: Site) -> None:
    page.goto(f"{site[0]}/run/one/")
    page.locator("table.rows >> nth=0").locator("tbody tr td >> nth=2").locator("a").click()
    page.wait_for_selector(".slice")
    (file,) = (site[1] / "one" / "stages").rglob("*duel-m2/feedback.jsonl")
    outcomes = []
    for line in file.read_text().splitlines():
        record = json.loads(line)
        value = {0: 1.0, 1: 0.0, None: 0.5}[record["verdict"].get("winner")]
        scored = record["verdict"]["kind"] == "preference"
        outcomes.append(Outcome(record["prompt_id"], value if scored else None, 0))
    found = win_rate(outcomes).rate
    assert (found.n, rows(page)) == (23, 24)
    value, low, high = (f"{100 * v:.1f}" for v in (found.value, found.low, found.high))
    assert f"Win rate {value}% [{low}, {high}], n 23" in page.inner_text(".slice")


def test_where_it_loses_and_is_shorter(page: Any, site: Site) -> None:
    page.goto(f"{site[0]}/run/one/answers")
    page.select_option("select[name=model]", TWO)
    page.wait_for_url("**model=**")
    page.select_option("select[name=flag]", "shorter")
    page.wait_for_url("**flag=shorter**")
    assert rows(page) == 4
    assert "4 answers" in page.inner_text(".slice")


def test_most_wrong_unreadable_and_spread(page: Any, site: Site) -> None:
    page.goto(f"{site[0]}/run/one/judgements")
    page.click("summary:has-text('Calibration')")
    page.click(".forest a:text-is('read 5')")
    page.wait_for_url("**read=5**")
    assert "Score 5, gold any" in page.inner_text(".slice")
    page.goto(f"{site[0]}/run/one/judgements")
    page.click("text=Most wrong")
    assert page.locator("table.rows tbody tr >> nth=0").locator("td >> nth=4").inner_text() == "-3"
    page.click("text=Unreadable")
    assert rows(page) == 2
    page.locator("tbody a >> nth=0").click()
    page.wait_for_selector("text=Unscored: no score in any sample")
    page.go_back()
    page.click("text=Samples spread")
    page.locator("table.rows tbody a >> nth=0").click()
    expect(page.locator("ol.raw li")).to_have_count(2)


def test_what_a_model_trained_on_and_what_is_inverted(page: Any, site: Site) -> None:
    page.goto(f"{site[0]}/run/one/data")
    found = page.locator("select[name=stage] option", has_text=TWO)
    page.select_option("select[name=stage]", found.get_attribute("value"))
    page.wait_for_url("**stage=**")
    expect(page.locator("article.pair")).to_have_count(4)
    page.select_option("select[name=show]", "inverted")
    page.wait_for_url("**show=inverted**")
    expect(page.locator("article.pair")).to_have_count(2)
    page.goto(f"{site[0]}/run/one/training")
    assert page.locator("polyline").count() >= 1


def test_from_an_alarm_to_the_samples_of_a_step(page: Any, site: Site) -> None:
    page.goto(f"{site[0]}/run/rlhf/training")
    assert "the reward rose" in page.inner_text(".warnings")
    page.click(".warnings a")
    page.wait_for_selector("text=/^Step 10 · Reward 1/")
    page.wait_for_load_state("load")  # keys work once the script is there
    page.keyboard.press("k")
    page.wait_for_selector("text=/^Step 9 · Reward 0.9/")
    page.wait_for_load_state("load")
    page.locator("input[type=range]").fill("2")
    page.wait_for_selector("text=/^Step 2 · Reward 0.2/")
    assert "unscored" in page.inner_text("#samples article")
    assert f"{HOSTILE} at 2" in page.inner_text("#samples article")
    assert page.evaluate("window.hacked") is None


def test_which_of_twelve_runs_had_a_setting(page: Any, site: Site) -> None:
    page.goto(f"{site[0]}/")
    assert rows(page) == 12
    page.fill("input[type=search]", "beta=0.3")
    page.keyboard.press("Enter")
    page.wait_for_url("**beta**")
    assert rows(page) == 1
    assert "sweep-1" in page.inner_text("tbody")
    assert page.inner_text("tbody td >> nth=-1") == "0.3"
    page.goto(f"{site[0]}/")
    page.fill("input[type=search]", "beta=0.1")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=beta**")
    assert rows(page) == 3
    page.check("input.pick >> nth=0")
    page.check("input.pick >> nth=1")
    page.click("#compare")
    page.wait_for_selector("text=Settings that differ")


def test_a_run_under_way_is_alive_and_reloads(page: Any, site: Site) -> None:
    page.goto(f"{site[0]}/run/two/training")
    page.wait_for_timeout(2500)  # the first poll fixes the version
    metrics = next((site[1] / "two").rglob("metrics.jsonl"))
    with metrics.open("a") as file:
        file.write('{"step": 3, "loss": 0.4}\n')
    three = re.compile(r"^\S+ \S+ \S+$")  # points of the curve
    expect(page.locator("polyline").first).to_have_attribute("points", three, timeout=60_000)
    page.goto(f"{site[0]}/run/two/")
    assert "running" in page.inner_text(".kicker")
    assert "is under way" in page.inner_text(".warning >> nth=0")
    assert page.locator(".tree li", has_text="left").all_inner_texts() == ["left branch/03-answer"]


def test_ten_items_by_keyboard_a_reload_in_the_middle_and_a_second_annotator(
    page: Any, site: Site
) -> None:
    page.goto(f"{site[0]}/run/one/people")
    page.fill("#new input[name=number]", "10")
    with page.expect_navigation():
        page.click("#new button")
    page.wait_for_selector("form.begin")
    run = site[1] / "one"
    for annotator, key in (("anna", "a"), ("ben", "b")):
        page.goto(f"{site[0]}/run/one/people")
        page.fill("form.begin input[name=annotator]", annotator)
        page.click("form.begin button")
        page.wait_for_selector("article.card")
        for number in range(10):
            progress = page.locator("#progress")
            expect(progress).to_contain_text(f"; {number} rated", timeout=60_000)
            if number == 5:
                page.wait_for_selector("text=saved")
                page.reload()
                page.wait_for_selector("article.card")
                assert "; 5 rated" in page.inner_text("#progress")
            page.keyboard.press(key)
        page.wait_for_selector("text=All done")
        page.wait_for_selector("#agreement >> text=judge J")
    found = people.ratings(run)
    assert sum(r.annotator == "anna" for r in found) == 10
    assert sum(r.annotator == "ben" for r in found) == 10
    by_item: dict[str, set[Any]] = {}
    for rating in found:
        by_item.setdefault(rating.item, set()).add((rating.annotator, rating.value))
    assert all(len(values) == 2 for values in by_item.values())


def test_only_the_fields_of_the_form_are_shown(page: Any, site: Site) -> None:
    page.goto(f"{site[0]}/run/one/people")
    for form, shown in (("scale", "scale"), ("labels", "labels"), ("pair", "")):
        page.select_option("#new select[name=form]", form)
        for name in ("scale", "labels"):
            assert page.locator(f"#new input[name={name}]").is_visible() == (name == shown)


def test_typing_a_comment_rates_nothing(page: Any, site: Site) -> None:
    page.goto(f"{site[0]}/run/one/people")
    if page.locator("form.begin").count() == 0:
        page.click("#new button")
        page.wait_for_selector("form.begin")
    page.goto(f"{site[0]}{page.locator('form.begin').first.get_attribute('action')}?annotator=cleo")
    page.wait_for_selector("article.card")
    page.keyboard.press("c")
    page.keyboard.type("a bad tie, 1 of 2")
    page.keyboard.press("Escape")
    page.wait_for_selector("text=saved")
    assert "; 0 rated" in page.inner_text("#progress")
    lines = (site[1] / "one" / "people" / "cleo.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["comment"] == "a bad tie, 1 of 2"


PAGES = (
    "", "answers", "judgements", "judgements/1", "data", "training", "people", "files",
    "answers/0/p/0",
)  # fmt: skip


def test_hostile_text_executes_nothing(page: Any, site: Site) -> None:
    for name in PAGES:
        page.goto(f"{site[0]}/run/bad/{name}")
        assert page.evaluate("window.hacked") is None
    page.goto(f"{site[0]}/run/bad/answers/0/p/0")
    assert HOSTILE in page.inner_text("article.card >> nth=1")


@pytest.mark.parametrize(
    ("width", "theme"),
    [
        (1280, "light"),
        (390, "dark"),
        pytest.param(1280, "dark", marks=pytest.mark.heavy),
        pytest.param(390, "light", marks=pytest.mark.heavy),
    ],
)
def test_accessibility(browser: Any, site: Site, theme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe")
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=theme, bypass_csp=True
    )
    opened = context.new_page()
    found = []
    report = write_report(site[1] / "one").as_uri()
    compared = al.compare(site[1] / "one", site[1] / "two", out=site[1] / "c.html").report.as_uri()
    opened.goto(f"{site[0]}/run/one/people")
    with opened.expect_navigation():
        opened.click("#new button")
    opened.wait_for_selector("form.begin")
    rated = f"{opened.locator('form.begin').first.get_attribute('action')}?annotator=axe"
    addresses = (
        "/",
        rated,
        *(f"/run/one/{name}" for name in PAGES),
        "/compare?a=one&b=two",
        "/run/rlhf/training",
    )
    for name in (report, compared, *(f"{site[0]}{address}" for address in addresses)):
        opened.goto(name)
        opened.wait_for_load_state("networkidle")
        for fault in axe.Axe().run(opened).response["violations"]:
            if fault["impact"] in ("serious", "critical"):
                nodes = [re.sub(r"\s+", " ", n["html"])[:120] for n in fault["nodes"][:3]]
                found.append((name, fault["id"], nodes))
    context.close()
    assert found == []
