"""Labels by the kind of prompt: whose labels each branch sees, its figures, resuming, refusals."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alignlab import progress, registry
from alignlab.commands.preflight import plan_study
from alignlab.commands.run import assemble, run
from alignlab.errors import BadInput
from alignlab.recipes import hybrid as recipe
from alignlab.recipes.hybrid import HybridInputs
from alignlab.recipes.study import Answered
from alignlab.types import Checkpoint, Unscored
from tests.recipes.kill_resume import contents, differences
from tests.recipes.reading import records, rows
from tests.recipes.small import SMALL
from tests.stages.making import prompt, rated, responses

# M1 of so few steps answers too seldom without a fault: 3 points are right here.
SETTINGS = (
    *SMALL, "corpus.demonstrations=120", "corpus.test_prompts=14", "prompts=42",
    "sample.temperature=1.0", "outcome=at_least,score=3:sandbox:oracle",
    "refine.critique_tokens=24", "refine.refined_tokens=24",
)  # fmt: skip
TITLES = {title for name, (_, title) in recipe.BRANCHES.items() if name != "key"}
MODELS = {"M0", "M1", *(f"M2 {title}" for title in TITLES)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("hybrid") / "run"
    progress.use(progress.Silent())
    run("hybrid", *SETTINGS, f"out={out}")
    progress.use(None)
    return out


def scores(out: Path, pattern: str) -> dict[str, float | None]:
    return {f["response_ids"][0]: f["verdict"].get("value") for f in records(out, pattern)}


def test_every_model_is_measured_by_preference_and_by_satisfaction(finished: Path):
    for benchmark in ("satisfied", "right", "harmful"):
        found = rows(finished, benchmark=benchmark, metric="share")
        assert {r["model"] for r in found} == MODELS
        # 2 of the sandbox's 7 families of questions are closed.
        assert {r["n"] + r["unscored"] for r in found} == {4 if benchmark == "right" else 14}
        changed = rows(finished, benchmark=benchmark, metric="share_change")
        assert {(r["model"], r["against"]) for r in changed} == {(m, "M1") for m in MODELS - {"M1"}}
    preferred = rows(finished, benchmark="ai_preference", metric="preferred")
    assert {(r["model"], r["against"]) for r in preferred} == {(m, "M1") for m in MODELS - {"M1"}}


def test_shares_are_means_of_the_verdicts(finished: Path):
    marks = scores(finished, "*-satisfied-m1/feedback.jsonl")
    (row,) = rows(finished, benchmark="satisfied", metric="share", model="M1")
    assert row["value"] == pytest.approx(sum(v or 0 for v in marks.values()) / 14)


def test_each_prompt_is_labelled_by_its_route(finished: Path):
    kinds = {p["id"]: p["query_type"] for p in records(finished, "01-seed/prompts.jsonl")}
    checked = scores(finished, "*-check/feedback.jsonl")
    judged = scores(finished, "[0-9]*-judge/feedback.jsonl")
    routed = scores(finished, "hybrid/*-judge/feedback.jsonl")
    for key, value in routed.items():
        of = checked if kinds[key.rsplit("/", 2)[0]] == "closed" else judged
        assert value == of[key]
    alone = records(finished, "checker/*-judge/feedback.jsonl")
    reasons = Counter(f["verdict"].get("reason") for f in alone if "value" not in f["verdict"])
    assert reasons == {"no route for open-ended prompts": 4 * 30}


def test_pairs_follow_the_labels_and_the_coin_keeps_them(finished: Path):
    def pairs(name: str) -> list[list[str]]:
        groups = records(finished, f"{name}/*-pair/groups.jsonl")
        return [[r["id"] for r in g["responses"]] for g in groups]

    judged = scores(finished, "[0-9]*-judge/feedback.jsonl")
    assert all(judged[a] > judged[b] for a, b in pairs("basic"))  # type: ignore[operator]
    assert pairs("coin") == pairs("hybrid") == pairs("sft") == pairs("red_team")
    assert len(pairs("checker")) < len(pairs("hybrid"))
    checked = scores(finished, "*-check/feedback.jsonl")
    assert all((checked[a], checked[b]) == (1.0, 0.0) for a, b in pairs("checker"))
    steps = {
        n: records(finished, f"{n}/*-m2-*/trained.jsonl")[0]["steps"]
        for n in ("hybrid", "coin", "sft")
    }
    assert steps["coin"] == steps["hybrid"]
    assert steps["sft"] == 2 * steps["hybrid"]  # of one response where a pair has two


def test_attacks_are_measured_and_counted(finished: Path):
    (row,) = rows(finished, benchmark="red_team", metric="attack_success")
    found = records(finished, "red_team/red-team/*-instruct-filtered/prompts.jsonl")
    assert (row["model"], row["n"] + row["unscored"]) == ("M1", len(found))
    pairs = records(finished, "red_team/red-team/*-red-team/groups.jsonl")
    (mended,) = rows(finished, benchmark="red_team", metric="mended")
    assert mended["value"] == pytest.approx(len(pairs) / mended["n"])
    (count,) = records(finished, "red_team/[0-9][0-9]-m2-routed-labels-and-red-team/counts.jsonl")
    routed = records(finished, "red_team/*-pair/groups.jsonl")
    assert count["kept"] + sum(count["dropped"].values()) == len(routed) + len(pairs)


def test_answers_that_are_all_right_are_ordered_by_the_judge():
    asked = [prompt(n) for n in range(3)]
    given = [r for p in asked for r in responses(p, "a", "b")]
    right = (1, 1, 1, 0, 0, 0)
    checked = [rated(r, float(v)) for r, v in zip(given, right, strict=True)]
    judged = [rated(r, float(v)) for r, v in zip(given, (2, 5, 2, 5, 2, 5), strict=True)]
    inputs = HybridInputs(
        Answered(Checkpoint("M1", ""), tuple(asked), tuple(given)),
        tuple(checked), tuple(judged), {},
    )  # fmt: skip
    kinds: Any = {"p0": "closed", "p1": "closed", "p2": "closed"}
    found = recipe._ordered_where_right(inputs, checked, kinds)
    assert [f.verdict.value for f in found] == [2, 5, 1, 0, 0, 0]  # type: ignore[union-attr]
    kinds = {"p0": "open", "p1": "closed", "p2": Unscored("?")}
    assert recipe._ordered_where_right(inputs, checked, kinds) == checked


@pytest.mark.heavy
def test_a_study_that_stopped_in_a_branch_ends_as_one_that_did_not(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def stop(*rest: Any, **how: Any) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "run"
    progress.use(progress.Silent())
    with monkeypatch.context() as patched:
        patched.setattr(recipe, "sft", stop)  # the seventh branch
        with pytest.raises(KeyboardInterrupt):
            run("hybrid", *SETTINGS, f"out={out}")
    assert not (out / "summary.json").exists()
    run("hybrid", *SETTINGS, f"out={out}")
    progress.use(None)
    found = differences(contents(finished), contents(out))
    assert set(found) <= {"manifest.json"}  # its plan names the folder and the machine's speed


def plan(*settings: str) -> Any:
    known = registry.get("recipe", "hybrid")
    return plan_study(known, assemble(known, None, settings, {}))


def test_a_plan_knows_every_model_and_the_teachers_calls():
    found = plan("prompts=40")
    assert set(found.models) == MODELS
    asked = {(call.by, call.what) for call in found.calls}
    assert ("sandbox:strong", "refinements") in asked
    less = plan("harm=", "measure.truth=", "measure.judge=longer").models
    without = {"M2 routed labels and red team", "M2 true labels"}
    assert set(less) == MODELS - without | {"M2 SFT on the key"}


def test_types_of_a_model_are_measured_against_the_labels(tmp_path: Path):
    out = tmp_path / "run"
    progress.use(progress.Silent())
    run("hybrid", *SETTINGS, "types=llm:sandbox:strong", "branches=[hybrid]", f"out={out}")
    progress.use(None)
    (row,) = rows(out, benchmark="routing", metric="accuracy")
    assert (row["model"], row["value"], row["n"]) == ("the router", 1.0, 42)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("branches=[hybrd]",), "branch 'hybrd'; did you mean 'hybrid'"),
        (("branches=[red_team]", "harm="), "branch red_team: expected harm"),
        (("branches=[truth]", "measure.truth="), "branch truth: expected measure.truth"),
        (("pairs.min_gap=1",), "have no effect in hybrid"),
        (("iterations=2",), "have no effect in hybrid"),
        (("types=random",), "random is branch random_types"),
        (("ai_judge=nobody",), "nobody"),
        (("satisfied=sandbox:satisfid",), "satisfid"),
    ],
)
def test_refusals_name_the_setting(settings: tuple[str, ...], message: str):
    with pytest.raises(BadInput, match=message):
        plan(*settings)


def test_a_judge_must_be_named_where_the_ai_judge_is_another_model():
    with pytest.raises(BadInput, match=r"setting measure\.judge: expected the judge"):
        plan("measure.judge=auto", "ai_judge=llm:sandbox:strong")


def test_references_are_imitated_where_the_truth_has_no_source(tmp_path: Path):
    config = recipe.HybridConfig()
    assert {"key", "truth"} & {*config.chosen} == {"key"}
    known = replace(config, measure=replace(config.measure, truth="verifier"))
    assert {"key", "truth"} & {*known.chosen} == {"truth"}
    out = tmp_path / "run"
    progress.use(progress.Silent())
    run("hybrid", *SETTINGS, "branches=[key]", f"out={out}")
    progress.use(None)
    (counted,) = {r["model"] for r in rows(out, benchmark="right")} - {"M0", "M1"}
    assert counted == "M2 SFT on the key"
    (manifest,) = [
        json.loads(file.read_text())
        for file in out.glob("stages/key/*-m2-*/config.json")
        if "objective" in json.loads(file.read_text())["config"]
    ]
    assert manifest["inputs"]["records"] == "12"  # 2 of 7 families of 42 questions are closed
