"""Pages: slices recomputed from the files, filters, security, hostile text."""

from __future__ import annotations

import html
import json
import re
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.intervals import bootstrap_mean
from alignlab.evaluation.metrics.win_rate import Outcome, win_rate
from alignlab.records import read_records
from alignlab.report.run_settings import flat
from alignlab.runs import Run
from alignlab.types import Count, Feedback, Preference, Prompt
from alignlab.viewer import losses, pages, run_list
from alignlab.viewer.app import application
from alignlab.viewer.comparison import read_mapping
from alignlab.viewer.filters import AnswerFilter, words
from alignlab.viewer.library import Library, check_pattern
from alignlab.viewer.losses import Losses
from alignlab.viewer.slices import slice_mean
from alignlab.viewer.words import differences
from tests.viewer.a_run import HOST, HOSTILE, TWO, build


def text_of(client: TestClient, address: str) -> str:
    reply = client.get(address)
    assert reply.status_code == 200, reply.text
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", reply.text)))


def test_a_slices_win_rate_is_that_of_its_rows_in_the_files(library: Library, folder: Path) -> None:
    found = pages.held_out(library, library.run("one"), {"model": TWO, "part": "type:open"})[
        "slice"
    ]
    run = folder / "one"
    prompts = {
        p.id: p
        for p in read_records(next(run.glob("stages/*-seed/test_prompts.jsonl")), Prompt)
        if p.query_type == "open"
    }
    verdicts = [
        f
        for f in read_records(next(run.glob("stages/*duel*/feedback.jsonl")), Feedback)
        if f.prompt_id in prompts
    ]
    outcomes = [
        Outcome(
            prompts[f.prompt_id].cluster,
            {0: 1.0, 1: 0.0, None: 0.5}[f.verdict.winner]
            if isinstance(f.verdict, Preference)
            else None,
        )
        for f in verdicts
    ]
    assert found.rows == 6
    assert found.wins == win_rate(outcomes)
    assert (found.wins.wins, found.wins.losses, found.wins.unscored) == (3, 2, 1)


@pytest.mark.parametrize(
    ("query", "prompts"),
    [
        ({"outcome": "win"}, [0, 1, 2, 3, 4, 5]),
        ({"outcome": "loss"}, [6, 7, 8, 9]),
        ({"outcome": "loss", "flag": "longer"}, [6, 7, 8, 9]),
        ({"flag": "shorter"}, [0, 1, 2, 3]),
        ({"outcome": "tie"}, [11]),
        ({"outcome": "unscored"}, [1, 10]),
        ({"flag": "cut"}, [3]),
        ({"q": "unique7"}, [7]),
        ({"q": "unique[78]", "regex": "1"}, [7, 8]),
        ({"q": '"words of the"', "part": "family:family_2"}, [2, 5, 8, 11]),
        ({"q": 'Question 4" OR'}, []),
        ({"q": "unique1", "part": "family:family%"}, []),
        ({"sort": "-tokens", "outcome": "win"}, [5, 4, 3, 2, 1, 0]),
    ],
)
def test_filters(library: Library, query: dict[str, str], prompts: list[int]) -> None:
    found = pages.held_out(library, library.run("one"), {"model": TWO, **query})
    keys = [row.prompt for row in found["rows"]]
    assert (keys if "sort" in query else sorted(keys, key=lambda k: int(k[2:]))) == [
        f"p/{i}" for i in prompts
    ]
    assert found["slice"].rows == len(prompts)


def test_a_number_of_the_overview_leads_to_exactly_its_rows(
    library: Library, client: TestClient
) -> None:
    found = pages.overview(library, library.run("one"))
    for outcome, n in (("win", 6), ("tie", 1), ("loss", 4)):
        link = found["table"][0]["links"][outcome]
        assert f"{n} answers of {TWO}" in text_of(client, f"/run/one/{link}")


def test_an_address_holds_the_whole_state() -> None:
    asked = AnswerFilter(q="a b", model=TWO, outcome="loss", page=3)
    query = dict(part.split("=") for part in asked.address(page=3).lstrip("?").split("&"))
    from urllib.parse import unquote_plus

    read = AnswerFilter.parse({k: unquote_plus(v) for k, v in query.items()})
    assert read == asked
    assert AnswerFilter().address() == "?"


@pytest.mark.parametrize(
    "query",
    [{"page": "0"}, {"page": "x"}, {"colour": "red"}, {"q": "x" * 401}, {"q": "(", "regex": "1"}],
)
def test_a_bad_address_is_refused(client: TestClient, query: dict[str, str]) -> None:
    assert client.get("/run/one/answers", params=query).status_code == 400


@pytest.mark.parametrize(
    "address",
    [
        "answers?outcome=wins", "answers?flag=short", "answers?sort=length", "answers?part=kind:x",
        "judgements?sort=worst", "data?show=wrong", "data?sort=x",
    ],
)  # fmt: skip
def test_a_filter_that_does_not_exist_never_shows_all_rows(
    client: TestClient, address: str
) -> None:
    reply = client.get(f"/run/one/{address}")
    assert reply.status_code == 400
    assert "expected one of" in reply.text


def test_judgements_most_wrong_first_and_the_confusion_leads_to_its_rows(library: Library) -> None:
    run = library.run("one")
    found = pages.judged(library, run, {"sort": "-error", "kind": "score"})
    errors = [abs(row["error"]) for row in found["rows"]]
    assert errors == sorted(errors, reverse=True)
    assert found["slice"].error.value == pytest.approx(16 / 11)
    assert found["slice"].bias.value == pytest.approx(
        (-3 - 1 + 0 + 1 + 2 - 3 - 2 - 1 + 0 + 1 + 2) / 11
    )
    for (read, truth), n in found["cells"].items():
        rows = pages.judged(library, run, {"read": str(read), "truth": str(truth)})
        assert rows["slice"].rows == n
    unread = pages.judged(library, run, {"kind": "unscored"})
    assert {row["reason"] for row in unread["rows"]} == {"no score in any sample", "refused"}


def test_a_judgement_shows_every_reply_and_what_was_read(library: Library) -> None:
    run = library.run("one")
    first = pages.judged(library, run, {"kind": "score"})["rows"][0]
    found = pages.judgement(library, run, first["fid"])
    assert found is not None
    assert found["row"]["raw"] == ["Score: 3", "2"]
    assert found["row"]["samples"] == [0.0, 2.0]
    assert pages.judgement(library, run, 10**6) is None


def test_training_data_says_what_is_inverted_and_dropped(library: Library) -> None:
    run = library.run("one")
    found = pages.data(library, run, {"stage": "branch/01-pair"})
    assert (found["slice"].rows, found["slice"].inverted.value) == (4, 0.5)
    assert len(pages.data(library, run, {"show": "inverted"})["rows"]) == 2
    assert pages.data(library, run, {"stage": "01-seed"})["dropped"][0]["dropped"] == {
        "too long": 2
    }


def test_costs_and_losses_by_branch(library: Library, client: TestClient) -> None:
    found = pages.overview(library, library.run("one"))
    costs = found["costs"]
    cells = {n: [c.value for c in row] for n, row in zip(costs.names, costs.rows, strict=True)}
    assert costs.columns[:4] == ("Calls", "Prompt tokens", "Tokens", "Money")
    assert cells["branch"][:4] == ["5", "100", "10", "$0.25"]
    assert cells["shared by all"][:4] == ["0", "0", "0", "$0.00"]
    shared, branch = found["losses"]
    assert (branch.branch, branch.asked, branch.unscored) == ("branch", 0, 0)
    assert branch.reasons == [("groups: equal scores", 3)]
    # 12 scores and 12 comparisons, one of each unscored; 2 prompts dropped.
    assert (shared.asked, shared.unscored, shared.dropped) == (24, 2, 2)
    assert shared.reasons == [("prompts: too long", 2)]
    for _, number, address in shared.unread:
        rows = client.get(f"/run/one/judgements{address}").text
        assert number == 1
        assert rows.count('href="/run/one/judgements/') == 1
    shown = client.get("/run/one/").text
    assert "Cost by branch" in shown
    assert "equal scores 3" in shown


def test_other_reasons_are_added_up() -> None:
    reasons = Counter({f"r{i}": 10 - i for i in range(6)})
    assert Losses("b", by_reason=reasons).reasons == [
        ("r0", 10), ("r1", 9), ("r2", 8), ("r3", 7), ("other reasons", 11),
    ]  # fmt: skip


def test_chunks_of_a_stage_count_until_its_own_counts_are_there(tmp_path: Path) -> None:
    path = build(tmp_path / "one", n=4, done=False)
    run = Run(path)
    lost = [Count("x", "lost", 0, {"no answer": 2})]
    with suppress(KeyboardInterrupt), run.scope("late").stage("revise") as stage:
        stage.write("lost", Count, lost)
        raise KeyboardInterrupt
    library = Library(tmp_path)
    assert ("late", 2) in [
        (one.branch, one.dropped) for one in losses.by_branch(library.index("one"), ())
    ]
    with Run(path).scope("late").stage("revise") as stage:
        stage.count([Count("x", "revisions", 2, {"no answer": 2, "equal": 1})])
    late = next(x for x in losses.by_branch(library.index("one"), ()) if x.branch == "late")
    assert late.reasons == [("revisions: no answer", 2), ("revisions: equal", 1)]


def test_states_and_settings_of_the_list(library: Library, client: TestClient) -> None:
    rows = {row["run"].key: row for row in run_list.runs(library, {})["rows"]}
    assert rows["one"]["run"].state == "done"
    assert rows["two"]["run"].state == "running"
    assert len(run_list.runs(library, {"q": "beta=0.1"})["rows"]) == 3
    assert len(run_list.runs(library, {"q": "beta=0.3"})["rows"]) == 0
    having = run_list.runs(library, {"q": "beta="})
    assert (len(having["rows"]), having["changing"]) == (3, ["beta"])
    assert "branch/02-m2-3-samples" in text_of(client, "/run/two/")


def test_a_page_leads_through_its_list(library: Library) -> None:
    run = library.run("one")
    query = {"model": TWO, "outcome": "loss"}
    found = pages.answer(library, run, 0, "p/7", query)
    assert found is not None
    assert (found["before"], found["after"], found["place"], found["total"]) == (
        (0, "p/6"), (0, "p/8"), 2, 4,
    )  # fmt: skip
    assert pages.answer(library, run, 0, "p/none", query) is None


def test_comparison_lists_the_prompts_that_flipped(
    folder: Path, library: Library, tmp_path: Path
) -> None:
    found = pages.compare(library, {"a": "one", "b": "two", "map": f"{TWO}:{TWO}"})
    assert (found["flips"].shared, found["flips"].up, found["flips"].down) == (11, 0, 0)
    assert found["settings"] is None
    build(tmp_path / "one")
    build(tmp_path / "other", shift=1)
    other = Library(tmp_path)
    found = pages.compare(other, {"a": "one", "b": "other"})
    flips = found["flips"]
    # Scores of 0 to 5 in turns, each one more, and 5 becomes 0; prompt 1 is unscored.
    assert (flips.model, flips.shared, flips.up, flips.down) == (TWO, 11, 9, 2)
    largest = {row.question: (row.old, row.new, row.before) for row in flips.rows[:2]}
    assert largest == {
        f"Question {i}?": (5.0, 0.0, f"unique{i} words of the second") for i in (5, 11)
    }
    assert found["settings"].names == ("beta",)
    assert [cell.value for cell in found["settings"].rows[0]] == ["0.1", "0.2"]
    client = TestClient(application(other, 8000), base_url=f"http://{HOST}")
    text = text_of(client, "/compare?a=one&b=other")
    assert "11 of 11 prompts differ, 9 higher and 2 lower (scores by judge J)" in text
    assert client.get("/compare?a=one&b=other&map=M9:M1").status_code == 400


def test_scores_of_a_runs_own_model_are_not_compared(tmp_path: Path) -> None:
    for name, shift in (("one", 0), ("other", 1)):
        path = build(tmp_path / name, shift=shift) / "config.yaml"
        path.write_text(path.read_text() + "measure:\n  judge: expected:self\n")
    assert pages.compare(Library(tmp_path), {"a": "one", "b": "other"})["flips"] is None


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("", {}),
        ("M2:dpo, M3:ipo", {"M2": "dpo", "M3": "ipo"}),
        ("weak SFT, then DPO:dpo", {"weak SFT, then DPO": "dpo"}),
    ],
)
def test_models_of_other_names_are_paired(text: str, pairs: dict[str, str]) -> None:
    assert read_mapping(text) == pairs


@pytest.mark.parametrize("text", ["M2", "M2:", ":dpo", "M2:a,M2:b", "M2:a,M3:a", "M2:a,M3"])
def test_a_mapping_that_pairs_nothing_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="MODEL:MODEL"):
        read_mapping(text)


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="expected a run directory or a folder of them"):
        Library(tmp_path)
    with pytest.raises(BadInput, match="expected a folder of runs"):
        Library(tmp_path / "none")


def test_a_single_run_is_a_library_too(folder: Path) -> None:
    assert list(Library(folder / "one").paths()) == ["one"]


def test_figures_of_large_slices_agree_with_the_bootstrap() -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    values = rng.integers(0, 6, 5000).astype(float)
    prompts = rng.integers(0, 2500, 5000)
    fast = slice_mean(list(values), list(prompts))
    slow = bootstrap_mean(values, prompts_N=list(prompts))
    assert fast.value == pytest.approx(slow.value)
    assert (fast.low, fast.high) == pytest.approx((slow.low, slow.high), abs=0.01)


def test_words_that_differ_are_marked() -> None:
    left, right = differences("one two three", "one 2 three")
    assert [(p.text, p.differs) for p in left] == [
        ("one ", False),
        ("two", True),
        (" three", False),
    ]
    assert "".join(p.text for p in right) == "one 2 three"
    assert differences("a", "x " * 5000)[1][0].differs is False


def test_searches_are_quoted() -> None:
    assert words('a "b c" OR*') == '"a" "b c" "OR*"'
    assert words('"') == ""


def test_slow_patterns_end() -> None:
    check_pattern("(a+)+$")
    with pytest.raises(BadInput, match="regular expression"):
        check_pattern("(")


def test_a_pattern_that_takes_too_long_is_refused_and_hides_no_row(tmp_path: Path) -> None:
    build(tmp_path / "one")
    library = Library(tmp_path)
    with pytest.raises(BadInput, match="takes too long"):
        library.index("one").rows("SELECT matches(?, ?)", ("(a|aa)+$", "a" * 5000 + "b"))
    assert library.index("one").one("SELECT matches('A+$', 'aa')") == 1


def test_nested_settings_by_dotted_name() -> None:
    assert dict(flat({"a": {"b": 1, "c": {"d": []}}})) == {"a.b": 1, "a.c.d": []}
    assert json.dumps(HOSTILE)


@pytest.mark.parametrize(
    ("form", "start"), [("csv", "model,"), ("markdown", "**"), ("latex", "\\")]
)
def test_every_figure_is_exported(client: TestClient, form: str, start: str) -> None:
    found = client.get(f"/run/one/export/{form}")
    assert found.text.startswith(start)
    assert "attachment" in found.headers["content-disposition"]
    assert client.get("/run/one/export/exe").status_code == 404
    assert client.get("/run/none/export/csv").status_code == 404


def test_runs_are_sorted_by_numbers_as_numbers(tmp_path: Path) -> None:
    for shift in (0, 8, 99):
        build(tmp_path / f"run-{shift}", n=4, shift=shift)  # beta: 0.1, 0.9, 10
    library = Library(tmp_path)
    for sort, order in (("beta", [0, 8, 99]), ("-beta", [99, 8, 0])):
        found = run_list.runs(library, {"sort": sort})
        assert [row["run"].name for row in found["rows"]] == [f"run-{s}" for s in order]
    assert found["changing"] == ["beta"]


def test_a_damaged_run_is_named_and_hides_no_other(tmp_path: Path) -> None:
    run, other = build(tmp_path / "one"), build(tmp_path / "two")
    file = next(run.glob("stages/*/status.json"))
    file.write_text('{"state": "do')
    client = TestClient(application(Library(tmp_path), 8000), base_url=f"http://{HOST}")
    listed = text_of(client, "/")
    assert f"{run}: expected a run's files, found a damaged one" in listed
    assert f"{other.name} " in listed
    reply = client.get(f"/run/{run.name}/")
    assert (reply.status_code, "found a damaged one" in html.unescape(reply.text)) == (400, True)
