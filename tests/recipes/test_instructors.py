"""Training on an instructor's questions: what each branch sees, its figures, resuming, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alignlab import progress, registry
from alignlab.commands.preflight import plan_study
from alignlab.commands.run import assemble, run
from alignlab.errors import BadInput
from alignlab.recipes import instructors as recipe
from tests.recipes.kill_resume import contents, differences
from tests.recipes.reading import records, rows
from tests.recipes.small import SMALL

# M1 of so few steps answers too seldom without a fault: 3 points are right here.
SETTINGS = (
    *SMALL, "corpus.demonstrations=120", "corpus.test_prompts=28", "prompts=40", "new=12",
    "outcome=at_least,score=3:sandbox:oracle", "check=at_least,score=4:sandbox:oracle",
    "instruct.answer_tokens=40", "instruct.question_tokens=40",
)  # fmt: skip
MODELS = {"M0", "M1", *(f"M2 {end}" for end in recipe.BRANCHES.values())}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("instructors") / "run"
    progress.use(progress.Silent())
    run("instructors", *SETTINGS, f"out={out}")
    progress.use(None)
    return out


def test_every_branch_is_measured_on_held_out_and_on_training_questions(finished: Path):
    accuracies = {r["model"]: r for r in rows(finished, benchmark="qa", metric="accuracy")}
    assert accuracies.keys() == MODELS
    training = {r["model"] for r in rows(finished, benchmark="training_questions")}
    assert training == MODELS - {"M0"}
    rivals = {
        r["against"]
        for r in rows(finished, benchmark="qa", metric="accuracy_change", model="M2 from errors")
    }
    assert rivals == MODELS - {"M0", "M2 from errors"}


def test_errors_are_shown_as_often_as_new_items_are_needed(finished: Path):
    marks = records(finished, "[0-9]*-judge/feedback.jsonl")
    wrong = {f["prompt_id"] for f in marks if f["verdict"]["value"] == 0.0}
    times = -(-12 // len(wrong)) + 1
    made = records(finished, "error/iteration-1/*-instruct/counts.jsonl")[0]
    assert made["kept"] + sum(made["dropped"].values()) == times * len(wrong)


def test_items_are_checked_and_at_most_new(finished: Path):
    for name in ("error", "contrast", "mimic", "random"):
        right = records(finished, f"{name}/iteration-1/*-checked/demonstrations.jsonl")
        assert right
        marks = {
            f["response_ids"][0]: f["verdict"]["value"]
            for f in records(finished, f"{name}/iteration-1/*-check/feedback.jsonl")
        }
        assert all(marks[d["response"]["id"]] == 1.0 for d in right)
        (trained,) = records(finished, f"{name}/iteration-1/[0-9][0-9]-m2-*/counts.jsonl")
        assert trained["kept"] == min(12, len(right))
        (share,) = rows(finished, benchmark="instructor", model=f"M2 {recipe.BRANCHES[name]}")
        asked = records(finished, f"{name}/iteration-1/*-leaks/prompts.jsonl")
        assert share["value"] == pytest.approx(len(right) / len(asked))


def test_the_key_is_as_many_references(finished: Path):
    (trained,) = records(finished, "key/iteration-1/[0-9][0-9]-m2-*/counts.jsonl")
    assert trained["kept"] == 12


@pytest.mark.heavy
def test_a_study_that_stopped_in_a_branch_ends_as_one_that_did_not(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def stop(*rest: Any, **how: Any) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "run"
    progress.use(progress.Silent())
    with monkeypatch.context() as patched:
        patched.setattr(recipe, "checked_answers", stop)
        with pytest.raises(KeyboardInterrupt):
            run("instructors", *SETTINGS, f"out={out}")
    assert not (out / "summary.json").exists()
    run("instructors", *SETTINGS, f"out={out}")
    progress.use(None)
    found = differences(contents(finished), contents(out))
    assert set(found) <= {"manifest.json"}  # its plan names the folder and the machine's speed


def plan(*settings: str) -> Any:
    known = registry.get("recipe", "instructors")
    return plan_study(known, assemble(known, None, settings, {}))


def test_a_plan_knows_every_model_of_every_round():
    models = plan("iterations=2", "branches=[error,key]").models
    assert set(models) == {
        "M0", "M1", "M2 from errors", "M3 from errors", "M2 SFT on the key", "M3 SFT on the key",
    }  # fmt: skip


def test_agreement_asks_for_further_answers():
    settings = (*SETTINGS, "branches=[error]", "instruct.agreement=3")
    tokens = []
    for check in ("none", "agreement"):
        calls = plan(*settings, f"check={check}").calls
        tokens.append(
            sum(c.number for c in calls if c.by == "sandbox:strong" and c.what == "answers")
        )
    assert tokens[1] == 4 * tokens[0] > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("branches=[errors]",), "unknown branch 'errors'"),
        (("measure.judge=longer",), "measures by outcome="),
        (("pairs.min_gap=1",), "have no effect in a study by outcome"),
        (("new=0",), "setting new: expected 1 or more"),
        (("instructor=nobody:x",), "unknown engine 'nobody'"),
        (("check=nothing",), "nothing"),
    ],
)
def test_refusals_name_the_setting(settings: tuple[str, ...], message: str):
    with pytest.raises(BadInput, match=message):
        plan(*settings)
