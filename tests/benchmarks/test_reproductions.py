"""The ledger of reproductions: what is kept of a run, verdicts by hand, and the page as printed."""

from __future__ import annotations

import csv
import gzip
import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from alignlab import registry
from alignlab.commands.run import assemble
from alignlab.data.sources import load
from alignlab.errors import BadInput
from alignlab.evaluation.metrics.intervals import Interval
from alignlab.records import to_dict, to_line
from alignlab.runs import write_json
from alignlab.types import Feedback, Preference, Score, StudyDescription
from tests.benchmarks.test_scripts import script
from tests.conftest import ROOT

kept = script("kept_runs")
ledger = script("reproductions")


def finished_run(path: Path, scopes: tuple[str, ...] = ("seed-0", "seed-1")) -> Path:
    """M1 scores 1 and M2 scores 2 on three prompts; M2 wins, ties, and has no verdict."""
    path.mkdir()
    study = StudyDescription("compare", "?", "M1", {"M1": "", "M2": "how"})
    write_json(path / "study.json", to_dict(study))
    groups = (None, "type:open", "family:list")
    means = {"benchmark": "score", "metric": "mean"}
    rows = [a_row(2, 1, 3) | means | {"group": group} for group in groups]
    write_json(path / "summary.json", {"recipe": "compare", "rows": rows})
    manifest = {
        "recipe": "compare", "command": "alignlab run compare out=/home/me/x", "seeds": [0, 1],
        "created": "", "wall_seconds": 60, "sha256": "", "versions": {"torch": "2"},
        "machine": {"system": "mine"},
    }  # fmt: skip
    write_json(path / "manifest.json", manifest)
    for scope in scopes:
        for name, verdicts in {
            "01-score-m1": [Score(1.0)] * 3,
            "02-score-m2": [Score(2.0)] * 3,
            "03-duel-m2": [Preference(0), Preference(None), None],
        }.items():
            file = path / "stages" / scope / name / "feedback.jsonl"
            file.parent.mkdir(parents=True)
            found = [Feedback(f"p{i}", ("a",), "judge", v) for i, v in enumerate(verdicts) if v]
            file.write_text("".join(map(to_line, found)))
    return path


def test_what_is_kept_holds_figures_and_no_paths(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    kept.keep(finished_run(tmp_path / "run"), folder, "abc1234")
    run = kept.read(folder)
    assert run.manifest["command"] == "alignlab run compare out=runs/kept"
    assert "machine" not in run.manifest
    assert run.manifest["commit"] == "abc1234"
    assert run.score_table("M2").tolist() == [[2, 2, 2], [2, 2, 2]]
    outcomes = run.outcome_table("M2")
    assert outcomes[0, :2].tolist() == [1, 0.5]
    assert np.isnan(outcomes[0, 2])
    assert run.row("M2", "score", "mean")["value"] == 2
    assert [row["group"] for row in run.rows] == [None, "type:open"]
    with pytest.raises(BadInput, match="M3"):
        run.score_table("M3")


def test_a_run_of_one_seed_is_kept(tmp_path: Path) -> None:
    kept.keep(finished_run(tmp_path / "run", (".",)), tmp_path / "kept", "abc1234")
    assert kept.read(tmp_path / "kept").score_table("M1").shape == (1, 3)


def test_a_benchmarks_run_is_kept_without_values(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run", ())
    with pytest.raises(BadInput, match="expected scores of the study's models, found none"):
        kept.keep(run, tmp_path / "kept", "abc1234")
    manifest = json.loads((run / "manifest.json").read_text())
    write_json(run / "manifest.json", manifest | {"recipe": "xstest"})
    kept.keep(run, tmp_path / "kept", "abc1234")
    assert kept.read(tmp_path / "kept").row("M2", "score", "mean")["value"] == 2
    assert kept.read(tmp_path / "kept").prompts == []


def test_seeds_of_several_runs_are_pooled(tmp_path: Path) -> None:
    for name in ("one", "two"):
        kept.keep(finished_run(tmp_path / f"run-{name}", (".",)), tmp_path / name, "abc1234")
    one, two = (kept.read(tmp_path / name) for name in ("one", "two"))
    shuffled = replace(two, prompts=two.prompts[::-1], outcomes={"M2": {"0": "?1="}})
    run = kept.pool([one, shuffled])
    assert run.score_table("M2").tolist() == [[2, 2, 2], [2, 2, 2]]
    assert run.outcome_table("M2")[:, :2].tolist() == [[1, 0.5], [0.5, 1]]
    with pytest.raises(BadInput, match="test prompts"):
        kept.pool([one, replace(two, prompts=["p0", "p1", "p3"])])
    asked = {"run": ["one", "two"], "model": "M2", "over": "M1", "of": "score", "expect": "more"}
    (figure,) = ledger.figures({"real": [asked]}, "real", {"one": one, "two": two})
    assert (figure.run, figure.n, figure.verdict) == ("one+two", "3 prompts x 2 seeds", "held")


def test_studies_with_one_seed_are_listed_until_a_second_is_kept(tmp_path: Path) -> None:
    kept.keep(finished_run(tmp_path / "run", (".",)), tmp_path / "kept", "abc1234")
    one = kept.read(tmp_path / "kept")
    single = replace(one, manifest=one.manifest | {"seeds": [0], "wall_seconds": 120})
    evaluation = single.manifest | {"command": "alignlab evaluate second_judge out=runs/judge"}
    runs = {"once": single, "judged": replace(single, manifest=evaluation), "twice": one}
    claim = {"id": "A1", "real": [{"run": name} for name in (*runs, ["once", "twice"])]}
    listed = ledger.seeds_table([claim], runs)
    assert listed.splitlines()[2:] == ["| `once` | A1 | 2 |", "| all 1 | | 2 |"]
    runs["once_1"] = single
    assert ledger.seeds_table([claim], runs).endswith("| all 0 | | 0 |")


def test_options_that_end_in_out_are_no_folder(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    manifest = json.loads((run / "manifest.json").read_text())
    command = "alignlab run compare 'rollout={steps: 3, lr: 1e-5}' out=/home/me/x"
    write_json(run / "manifest.json", manifest | {"command": command})
    kept.keep(run, tmp_path / "kept", "abc1234")
    shown = kept.read(tmp_path / "kept").manifest["command"]
    assert shown == "alignlab run compare 'rollout={steps: 3, lr: 1e-5}' out=runs/kept"


def test_posts_are_written_once_each(tmp_path: Path) -> None:
    rows = [(post, "short", system) for post in ("One post.\nTL;DR:\n", "Two.") for system in "ab"]
    with gzip.open(tmp_path / "samples.csv.gz", "wt", newline="") as file:
        csv.writer(file).writerows([("context", "ref_text", "sample"), *rows])
    found = script("tldr_posts").posts(tmp_path / "samples.csv.gz")
    assert found == ({"One post.\nTL;DR:": "short", "Two.": "short"}, 0)


def test_posts_without_a_summary_are_counted_and_those_with_two_refused(tmp_path: Path) -> None:
    posts, file = script("tldr_posts").posts, tmp_path / "samples.csv"
    file.write_text("\ufeffcontext,ref_text\nOne.,short\n ,short\nTwo.,\nOne., short\n")
    assert posts(file) == ({"One.": "short"}, 2)
    file.write_text("context,ref_text\nOne.,short\nTwo.,x\nOne.,other\n")
    with pytest.raises(BadInput, match=r"line 4, field 'ref_text': expected .* at line 2"):
        posts(file)
    file.write_text("context,text\nOne.,short\n")
    with pytest.raises(BadInput, match="line 2, field 'ref_text': expected text, found no such"):
        posts(file)


def test_rated_samples_are_written_as_lists_that_a_reward_model_reads(tmp_path: Path) -> None:
    samples, out = tmp_path / "samples.jsonl", tmp_path / "lists.jsonl"
    rated = {"instruction": "Hi", "outputs": ["a", "b", "c"], "pref_vs_ref": [1.9, 1, None]}
    samples.write_text(json.dumps(rated) + "\n")
    lists, unrated = script("best_of_16").lists(samples)
    assert unrated == 1
    out.write_text("".join(json.dumps(row) + "\n" for row in lists))
    [group] = load(f"alpacaeval_listwise:{out}").groups
    assert [response.text for response in group.responses] == ["a", "b"]
    assert group.scores == (1.9, 1.0)
    for wrong in ([1.9, 1], [1.9, 0.5, 1], [True, 1, 1]):
        samples.write_text(json.dumps(rated | {"pref_vs_ref": wrong}) + "\n")
        with pytest.raises(BadInput, match="field 'pref_vs_ref': expected 3 numbers from 1 to 2"):
            script("best_of_16").lists(samples)


def test_the_commands_of_kept_runs_are_commands() -> None:
    studies = 0
    for manifest in sorted((ROOT / "docs/runs").glob("*/manifest.json")):
        _, command, recipe, *settings = shlex.split(json.loads(manifest.read_text())["command"])
        if command == "run":
            assemble(registry.get("recipe", recipe), None, settings, {})  # refuses what is unknown
            studies += 1
    assert studies > 30


def test_the_commands_of_studies_not_run_are_commands() -> None:
    studies = 0
    for study in ledger.read_claims(ledger.CLAIMS)["studies"].values():
        for words in map(shlex.split, study["command"].split("; ")):
            if words[:2] == ["alignlab", "run"]:
                assemble(registry.get("recipe", words[2]), None, words[3:], {})
                studies += 1
            elif words[:2] == ["alignlab", "evaluate"]:
                assert words[2] in registry.names("benchmark")
            else:
                assert (words[0], (ROOT / words[1]).exists()) == ("python", True)
    assert studies >= 5


def test_a_claim_without_figures_says_why() -> None:
    for claims in ledger.read_claims(ledger.CLAIMS)["documents"].values():
        for claim in claims:
            assert claim.get("real") or "study" in claim, claim["id"]
            assert claim.get("sandbox") or "sandbox_note" in claim, claim["id"]


def test_a_run_without_a_commit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="commit"):
        kept.keep(finished_run(tmp_path / "run"), tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_a_run_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="finished run"):
        kept.keep(tmp_path, tmp_path / "kept", "abc1234")


@pytest.mark.parametrize("commit", ["not a hash", "abc123", "a" * 41])
def test_a_commit_is_hexadecimal(tmp_path: Path, commit: str) -> None:
    with pytest.raises(BadInput, match="7 to 40 hexadecimal digits"):
        kept.keep(finished_run(tmp_path / "run"), tmp_path / "kept", commit)


def test_nothing_is_written_until_all_is_computed(tmp_path: Path) -> None:
    run, folder = finished_run(tmp_path / "run"), tmp_path / "kept"
    with pytest.raises(BadInput, match=r"nofile\.jsonl"):
        kept.keep(run, folder, "abc1234", "nofile.jsonl")
    assert not folder.exists()
    kept.keep(run, folder, "abc1234")
    before = {file.name: file.read_text() for file in folder.iterdir()}
    manifest = json.loads((run / "manifest.json").read_text())
    write_json(run / "manifest.json", manifest | {"recipe": "other"})
    with pytest.raises(BadInput, match="01-seed"):
        kept.keep(run, folder, "abc1234", "sandbox")
    assert {file.name: file.read_text() for file in folder.iterdir()} == before
    with pytest.raises(BadInput, match="kept files alone"):
        kept.keep(run, run, "abc1234")


def test_a_run_that_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    run, folder = finished_run(tmp_path / "run"), tmp_path / "kept"
    manifest = json.loads((run / "manifest.json").read_text())
    write_json(run / "manifest.json", {k: v for k, v in manifest.items() if k != "wall_seconds"})
    with pytest.raises(BadInput, match="field 'wall_seconds': expected a finite number"):
        kept.keep(run, folder, "abc1234")
    write_json(run / "manifest.json", manifest)
    shutil.copytree(run / "stages/seed-1/01-score-m1", run / "stages/seed-1/09-score-m1")
    with pytest.raises(BadInput, match="expected one stage of this name"):
        kept.keep(run, folder, "abc1234")
    assert not folder.exists()


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("manifest.json", None, "expected a readable file"),
        ("summary.json", "{", "expected JSON"),
        ("summary.json", '{"rows": [{"model": "M2"}]}', "field 'rows\\[0\\].benchmark'"),
        ("values.json", "[]", "expected an object"),
        ("values.json", '"M2": {"0": [2,2]', "field 'scores.M2.0': expected 3 scores"),
        ("values.json", '"M2": {"0": "1=x"', "field 'outcomes.M2.0': expected 3 outcomes"),
    ],
)
def test_a_kept_run_that_is_broken_is_refused(
    tmp_path: Path, name: str, change: str | None, says: str
) -> None:
    kept.keep(finished_run(tmp_path / "run"), tmp_path / "kept", "abc1234")
    file = tmp_path / "kept" / name
    if change is None:
        file.unlink()
    elif change.startswith('"M2"'):
        old = '"M2": {"0":"1=?"' if "=" in change else '"M2": {"0":[2,2,2]'
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, change))
    else:
        file.write_text(change)
    with pytest.raises(BadInput, match=says):
        kept.read(tmp_path / "kept")


FIGURE = {"run": "kept", "model": "M2", "over": "M1", "of": "score", "expect": "more"}
ROW = {"run": "kept", "row": ["M2", "b", "m"], "unit": "pairs", "expect": "more"}


def claims_file(path: Path, **figure: object) -> Path:
    """Write claims that ask for one figure; fields of None are left out."""
    asked = {name: value for name, value in figure.items() if value is not None}
    claim = {"id": "A1", "claim": "better", "source": "x", "published": "none", "real": [asked]}
    known = {"documents": {"A": [claim]}, "controls": {}, "studies": {}}
    write_json(path / "claims.yaml", known)
    return path / "claims.yaml"


@pytest.mark.parametrize(
    ("figure", "says"),
    [
        (FIGURE | {"expect": "mor"}, "'expect': expected more, less or same, found 'mor'"),
        (FIGURE | {"expect": None}, "'expect': expected more, less or same, found no such field"),
        (FIGURE | {"model": None, "modle": "M2"}, "'modle': expected one of run, expect, model, "
         "over, of, row, unit, over_row, label, no_effect, found another field"),
        (FIGURE | {"of": "scores"}, "'of': expected score, found 'scores'"),
        (FIGURE | {"run": ["a", "a"]}, "'run': expected a run or a list of different ones, found "
         "['a', 'a']"),
        (ROW | {"over": "M1"}, "'over': expected one of run, expect, row, unit, over_row, label, "
         "no_effect, found another field"),
        (ROW | {"row": ["M2", "b"]}, "'row': expected [model, benchmark, metric] or [..., against]"
         ", found ['M2', 'b']"),
    ],
)  # fmt: skip
def test_a_figure_that_is_not_understood_is_refused(
    tmp_path: Path, figure: dict[str, object], says: str
) -> None:
    file = claims_file(tmp_path, **figure)
    with pytest.raises(BadInput, match=f"^{re.escape(f'claims.yaml, A1, field {says}')}$"):
        ledger.read_claims(file)


def test_claims_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "claims.yaml"
    with pytest.raises(BadInput, match="expected a readable file"):
        ledger.read_claims(file)
    file.write_text("documents: {\n")
    with pytest.raises(BadInput, match=r"claims\.yaml, line \d+: expected YAML"):
        ledger.read_claims(file)
    file.write_text("documents: {}\ncontrols: {}\nstudies: {}\nclaims: []\n")
    with pytest.raises(BadInput, match="field 'claims': expected one of documents, controls, s"):
        ledger.read_claims(file)
    for control, says in (
        ("chance: []", "field 'chance': expected one of random, equal, positive, found another"),
        ("random: [{run: a, model: M2, off: M1}]", "field 'off': expected one of run, model, over"),
    ):
        file.write_text(f"documents: {{}}\ncontrols: {{sums: {{{control}}}}}\nstudies: {{}}\n")
        with pytest.raises(BadInput, match=f"controls of sums, {says}"):
            ledger.read_claims(file)


def test_controls_of_a_study_win_lose_or_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "RUNS", tmp_path / "runs")
    kept.keep(finished_run(tmp_path / "run"), tmp_path / "runs" / "kept", "abc1234")
    better = {"run": "kept", "model": "M2", "over": "M1", "of": "score"}
    worse = better | {"model": "M1", "over": "M2"}
    file = claims_file(tmp_path, **FIGURE)
    controls = {"sums": {"random": [worse], "positive": [worse, better]}, "bare": {}}
    write_json(file, json.loads(file.read_text()) | {"controls": controls})
    monkeypatch.setattr(ledger, "CLAIMS", file)
    _, _, sums, bare, every = dict(ledger.tables())["controls"].splitlines()
    lost = "`kept`, M1 - M2: -1.000 [-1.000, -1.000], 3 prompts x 2 seeds: **loses**"
    won = "`kept`, M2 - M1: +1.000 [+1.000, +1.000], 3 prompts x 2 seeds: **wins**"
    assert sums == f"| sums | {lost} | none | {lost}<br>{won} |"
    assert bare == "| bare | none | none | none |"
    assert every == "| all 2 | loses 1, none 1 | none 2 | wins 1, none 1 |"
    unknown = {"a": {"equal": [better | {"run": "no"}]}}
    write_json(file, json.loads(file.read_text()) | {"controls": unknown})
    with pytest.raises(BadInput, match="expected runs in runs, found no"):
        dict(ledger.tables())


def test_a_run_that_is_not_kept_or_has_no_verdict_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "RUNS", tmp_path / "runs")
    kept.keep(finished_run(tmp_path / "run"), tmp_path / "runs" / "kept", "abc1234")
    monkeypatch.setattr(ledger, "CLAIMS", claims_file(tmp_path, **FIGURE))
    assert "`kept`, M2 - M1: +1.000" in dict(ledger.tables())["A"]
    monkeypatch.setattr(ledger, "CLAIMS", claims_file(tmp_path, **FIGURE | {"run": "none"}))
    with pytest.raises(BadInput, match="expected runs in runs, found no"):
        dict(ledger.tables())
    (tmp_path / "runs" / "begun").mkdir()
    with pytest.raises(BadInput, match=r"begun/values\.json: expected a readable file"):
        dict(ledger.tables())
    run = kept.read(tmp_path / "runs" / "kept")
    silent = replace(run, scores=run.scores | {"M2": {"0": [None] * 3, "1": [None] * 3}})
    with pytest.raises(BadInput, match="expected verdicts on M2 - M1, found none"):
        ledger.measure(silent, FIGURE)
    one = replace(run, scores=run.scores | {"M1": {"0": [1.0] * 3}})
    with pytest.raises(BadInput, match="expected seeds of 'M2' for 'M1', found others"):
        ledger.measure(one, FIGURE)


@pytest.mark.parametrize(
    ("low", "high", "expect", "verdict"),
    [
        (0.01, 0.1, "more", "held"),
        (0.01, 0.1, "less", "failed"),
        (-0.1, -0.01, "more", "failed"),
        (-0.1, -0.01, "less", "held"),
        (-0.1, 0.1, "more", "undecided"),
        (-0.04, 0.04, "same", "held"),
        (0.01, 0.04, "same", "held"),  # apart, yet within the margin
        (0.01, 0.06, "same", "failed"),
        (-0.01, 0.06, "same", "undecided"),
    ],
)
def test_verdicts(low: float, high: float, expect: str, verdict: str) -> None:
    apart = Interval((low + high) / 2, low, high, 9)
    figure = ledger.Figure("run", "M2", apart, apart, 0.01, "9 prompts", 3, expect)
    assert figure.verdict == verdict


def test_the_error_adds_prompts_and_seeds() -> None:
    # Means over seeds 1, 0, 0.5: variance 0.25 of 3; means over prompts 1/3 and 2/3: 1/18 of 2.
    interval, error = ledger.crossed(np.array([[1, 0, 0], [1, 0, 1.0]]))
    assert interval.value == pytest.approx(0.5)
    assert error == pytest.approx((0.25 / 3 + 1 / 18 / 2) ** 0.5)


def test_a_figure_without_an_interval_decides_nothing() -> None:
    shown = Interval(0.4, None, None, 1)
    figure = ledger.Figure("run", "M2", shown, shown, float("nan"), "1 seed", 1, "more")
    assert figure.cell() == "`run`, M2: +0.400, 1 seed"
    assert figure.verdict_cell() == "undecided (one seed)"


def a_row(value: float, low: float, high: float, against: str | None = None) -> dict[str, object]:
    """Return a row of a summary."""
    return {
        "model": "M2", "benchmark": "b", "metric": "m", "against": against, "group": None,
        "value": value, "low": low, "high": high, "n": 9, "unscored": 0, "seeds": [0],
    }  # fmt: skip


def test_a_share_of_preferences_is_compared_with_one_half_and_the_model_named() -> None:
    rows = [a_row(0.9, 0.8, 1.0), a_row(0.55, 0.45, 0.65, "M1")]
    run = kept.KeptRun("run", {}, rows, (), frozenset(), {}, {})
    asked = {"row": ["M2", "b", "m", "M1"], "unit": "answers", "expect": "more"}
    assert ledger.measure(run, asked).verdict == "held"
    half = ledger.measure(run, asked | {"no_effect": 0.5})
    assert half.verdict == "undecided"
    assert half.cell() == "`run`, M2 m: 0.550 [0.450, 0.650], 9 answers"
    with pytest.raises(BadInput, match="expected a row"):
        run.row("M2", "b", "m", "M3")


def test_undecided_names_the_detectable_difference() -> None:
    apart = Interval(0.0, -0.02, 0.02, 9)
    figure = ledger.Figure("run", "M2 - M1", apart, apart, 0.01, "9 prompts", 1, "more")
    # (1.960 + 0.842) * 0.01
    assert figure.verdict_cell() == "undecided (one seed); detectable 0.028"
    assert figure.cell() == "`run`, M2 - M1: +0.000 [-0.020, +0.020], 9 prompts"


def test_the_page_is_what_the_script_prints() -> None:
    page = ledger.PAGE.read_text()
    assert ledger.filled(page, dict(ledger.tables())) == page


def test_runs_hold_no_paths_of_a_machine() -> None:
    files = [file for file in ledger.RUNS.rglob("*") if file.is_file()]
    for file in files:
        text = file.read_text()
        assert not re.search(r"[\"= ]/[a-z]+/", text), file
        assert json.loads(text)
    assert sum(file.stat().st_size for file in files) < 5e6


def test_kept_runs_name_no_folder_of_a_machine():
    command = "alignlab run x model=/a/b/m strong=local:/a/b/q?x=1 url=http://h:80/v1 out=runs/x"
    command += """ 'test=["gym:a?n=3","/a/b/c.jsonl.gz?limit=2"]'"""
    assert kept.without_folders("x --run /a/b/study --judge rm:/c/m") == (
        "x --run runs/study --judge rm:MODELS/m"
    )
    assert kept.without_folders("x --model M1=/a/b/r3/stages/02-m1/model --model q=/a/m") == (
        "x --model M1=runs/r3/stages/02-m1/model --model q=MODELS/m"
    )
    assert kept.without_folders(command) == (
        "alignlab run x model=MODELS/m strong=local:MODELS/q?x=1 url=http://h:80/v1 out=runs/x"
        """ 'test=["gym:a?n=3","DATA/c.jsonl.gz?limit=2"]'"""
    )
