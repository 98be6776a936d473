"""Training on pairs by outcome: what each branch sees, its figures, resuming, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alignlab import progress, registry
from alignlab.answers.libraries import key_of
from alignlab.commands.preflight import plan_study
from alignlab.commands.run import assemble, run
from alignlab.errors import BadInput
from alignlab.recipes import outcome_pairs as recipe
from tests.recipes.kill_resume import contents, differences
from tests.recipes.reading import records, rows
from tests.recipes.small import SMALL

# M1 of so few steps answers too seldom without a fault: 3 points are right here.
SETTINGS = (
    *SMALL, "corpus.demonstrations=120", "corpus.test_prompts=28", "prompts=40",
    "sample.temperature=1.0", "iterations=1", "outcome=at_least,score=3:sandbox:oracle",
)  # fmt: skip
MODELS = {
    "M0", "M1", "M2 outcome pairs", "M2 outcome pairs without NLL", "M2 pairs by coin",
    "M2 SFT on right answers", "SFT on the key",
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("outcome") / "run"
    progress.use(progress.Silent())
    run("outcome_pairs", *SETTINGS, f"out={out}")
    progress.use(None)
    return out


def test_every_branch_is_measured_by_accuracy(finished: Path):
    figures = {r["model"]: r for r in rows(finished, benchmark="qa", metric="accuracy")}
    assert figures.keys() == MODELS
    changes = rows(finished, benchmark="qa", metric="accuracy_change")
    assert {r["model"] for r in changes if r["against"] == "M1"} == MODELS - {"M1"}
    for row in changes:
        difference = figures[row["model"]]["value"] - figures[row["against"]]["value"]
        assert row["value"] == pytest.approx(difference)
    twin = [r["model"] for r in changes if r["against"] == "M2 SFT on right answers"]
    assert twin == ["M2 outcome pairs"]
    assert {r["model"] for r in rows(finished, metric="win_rate", group=None)} == MODELS - {"M1"}


def test_accuracy_is_the_share_of_right_held_out_answers(finished: Path):
    verdicts = [f["verdict"]["value"] for f in records(finished, "*-score-m1/feedback.jsonl")]
    assert set(verdicts) <= {0.0, 1.0}
    (row,) = rows(finished, benchmark="qa", metric="accuracy", model="M1")
    assert (row["value"], row["n"]) == (sum(verdicts) / len(verdicts), len(verdicts))


def test_open_questions_are_left_out_and_counted(finished: Path):
    counts = {c["what"]: c for c in records(finished, "*-questions/counts.jsonl")}
    # 2 of the sandbox's 7 families of questions are closed.
    assert counts["held-out questions"]["kept"] == 8
    assert counts["held-out questions"]["dropped"] == {"open-ended question": 20}
    asked = records(finished, "[0-9]*-sample/responses.jsonl")
    assert len({r["prompt_id"] for r in asked}) == 40


def test_pairs_are_right_over_wrong_and_shared_by_all_branches(finished: Path):
    marks = {
        f["response_ids"][0]: f["verdict"]["value"]
        for f in records(finished, "[0-9]*-judge/feedback.jsonl")
    }
    groups = {
        name: records(finished, f"{name}/iteration-1/*-pair/groups.jsonl")
        for name in ("pairs", "without_nll", "coin", "sft")
    }
    ids = {n: [[r["id"] for r in g["responses"]] for g in some] for n, some in groups.items()}
    assert ids["pairs"]
    assert all((marks[a], marks[b]) == (1.0, 0.0) for a, b in ids["pairs"])
    assert ids["pairs"] == ids["without_nll"] == ids["sft"]
    asked = {n: [g["prompt"]["id"] for g in some] for n, some in groups.items()}
    assert asked["coin"] == asked["pairs"]
    assert ids["coin"] != ids["pairs"]
    (questions,) = [
        c for c in records(finished, "pairs/iteration-1/*-pair/counts.jsonl")
        if c["what"] == "questions"
    ]  # fmt: skip
    assert questions["kept"] + sum(questions["dropped"].values()) == 40


def test_imitation_trains_as_many_responses_as_pairs_do(finished: Path):
    steps = {
        name: records(finished, f"{name}/iteration-1/*-m2-*/trained.jsonl")[0]["steps"]
        for name in ("pairs", "coin", "sft")
    }
    assert steps["pairs"] == steps["coin"]
    assert steps["sft"] == 2 * steps["pairs"]  # of one response where a pair has two


def test_the_making_of_a_model_states_the_pairs_of_the_run(finished: Path):
    pairs = records(finished, "pairs/iteration-1/*-pair/groups.jsonl")
    models = json.loads((finished / "study.json").read_text())["models"]
    assert f" on {len(pairs)} pairs " in models["M2 outcome pairs"]


def test_the_checker_is_named_and_no_model_judges(finished: Path):
    study = json.loads((finished / "study.json").read_text())
    checker = "at_least,score=3:sandbox:oracle"
    assert study["judge"] == f"Judged by {checker}, which gives the true scores."
    assert not study.get("fitness")
    sources = {f["source"] for f in records(finished, "*-judge-examples/feedback.jsonl")}
    assert sources == {"sandbox:oracle >= 3"}


def test_a_study_that_stopped_in_a_branch_ends_as_one_that_did_not(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def stop(*rest: Any, **how: Any) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "run"
    progress.use(progress.Silent())
    with monkeypatch.context() as patched:
        patched.setattr(recipe, "sft", stop)  # the fourth branch
        with pytest.raises(KeyboardInterrupt):
            run("outcome_pairs", *SETTINGS, f"out={out}")
    assert not (out / "summary.json").exists()
    run("outcome_pairs", *SETTINGS, f"out={out}")
    progress.use(None)
    found = differences(contents(finished), contents(out))
    assert set(found) <= {"manifest.json"}  # its plan names the folder and the machine's speed


def plan(*settings: str) -> Any:
    known = registry.get("recipe", "outcome_pairs")
    return plan_study(known, assemble(known, None, settings, {}))


def test_a_plan_knows_every_model_of_every_round():
    models = plan("iterations=2", "branches=[pairs,sft]").models
    assert set(models) == {
        "M0", "M1", "M2 outcome pairs", "M3 outcome pairs", "M2 SFT on right answers",
        "M3 SFT on right answers",
    }  # fmt: skip


def test_a_base_model_learns_from_a_task_without_demonstrations():
    pytest.importorskip("reasoning_gym")
    data = "data=gym:chain_sum?n=60&test_share=0.3&max_terms=2"
    found = plan(data, "start=base", "outcome=verifier", "iterations=1")
    assert set(found.models) == MODELS - {"M0"}
    assert found.models["M1"] == "the base model as it is"


def test_keys_are_answers():
    assert key_of("#### 7") == "#### 7"
    assert key_of('{"gym": "chain_sum", "answer": "7", "metadata": "{}"}') == "7"
    assert key_of('{"instruction_id_list": ["x"], "kwargs": [{}]}') == ""


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("branches=[pair]",), "branch"),
        (("measure.judge=longer",), "measures by outcome=at_least"),
        (("pairs.min_gap=1",), "have no effect in a study by outcome"),
        (("objective.options.nll_weight=1",), "set nll_weight instead"),
        (("objective.name=ipo",), "nll_weight"),
        (("outcome=nobody", "measure.judge=auto"), "nobody"),
    ],
)
def test_refusals_name_the_setting(settings: tuple[str, ...], message: str):
    with pytest.raises(BadInput, match=message):
        plan(*settings)


def test_questions_without_references_are_refused(tmp_path: Path):
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"Question {i}?"}) + "\n" for i in range(9)))
    with pytest.raises(BadInput, match="with reference answers, found none of"):
        plan(f"data={file}?test_share=0.5", "start=base")
