"""Turns of RL by sentence and SFT on corrections: what each branch sees, resuming, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alignlab import progress, registry
from alignlab.commands.preflight import plan_study
from alignlab.commands.run import assemble, run
from alignlab.errors import BadInput
from alignlab.recipes import alternating as recipe
from alignlab.stages.clean import without_repeated
from alignlab.training.rollout_config import RolloutConfig
from tests.recipes.kill_resume import contents, differences
from tests.recipes.reading import records, rows
from tests.recipes.small import SMALL

SETTINGS = (
    *SMALL, "prompts=12", "corrections=8", "rollout.steps=2", "rollout.batch_size=4",
    "rollout.responses=2", "rollout.max_tokens=24", "correct_tokens=64",
)  # fmt: skip
MODELS = {
    "M0", "M1", "RL by sentence", "RL by sentence, corrected", "RL by response",
    "RL by response, corrected", "RL by random values", "M1, corrected", "more SFT",
    "SFT on references",
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alternating") / "run"
    progress.use(progress.Silent())
    run("alternating", *SETTINGS, f"out={out}")
    progress.use(None)
    return out


def test_every_model_is_measured_whole_and_by_sentence(finished: Path):
    for benchmark, metric in (("sentences", "sentence_value"), ("sentences", "sentences")):
        found = rows(finished, benchmark=benchmark, metric=metric, group=None)
        assert {r["model"] for r in found} == MODELS
    changes = rows(finished, benchmark="score", metric="change", against="RL by sentence")
    assert {r["model"] for r in changes} == {"RL by sentence, corrected"}
    pairs = {(r["model"], r["against"]) for r in rows(finished, metric="change", group=None)}
    assert ("RL by sentence", "RL by response") in pairs
    assert ("RL by sentence, corrected", "M1, corrected") in pairs


def test_values_of_sentences_are_those_of_the_answers(finished: Path):
    verdicts = records(finished, "*-sentences-m1/feedback.jsonl")
    counts = [len(f["verdict"]["samples"]) for f in verdicts if f["verdict"]["kind"] == "score"]
    (row,) = rows(finished, benchmark="sentences", metric="sentences", model="M1", group=None)
    assert row["value"] == pytest.approx(sum(counts) / len(counts))


def test_the_reward_lies_inside_by_sentence_and_at_the_end_by_response(finished: Path):
    lines = {
        name: records(finished, f"{name}/turn-1/[0-9][0-9]-rl-by-{by}/metrics.jsonl")
        for name, by in (
            ("sentences", "sentence"),
            ("response", "response"),
            ("random", "random-values"),
        )
    }
    assert all("completions/steps" in line for line in lines["sentences"] + lines["random"])
    assert not any("completions/steps" in line for line in lines["response"])

    first = {name: some[0]["objective/scores"] for name, some in lines.items()}
    assert first["sentences"] != first["random"]


def test_corrections_teach_the_policys_own_prompts(finished: Path):
    made = records(finished, "sentences/turn-1/*-correct/made.jsonl")
    asked = records(finished, "sentences/turn-1/*-sample/responses.jsonl")
    assert {r["prompt_id"] for r in made} <= {r["prompt_id"] for r in asked}
    assert len(asked) == 8
    assert all(r["id"].endswith("/refined") for r in made)


@pytest.mark.heavy
def test_a_study_that_stopped_in_a_branch_ends_as_one_that_did_not(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def stop(*rest: Any, **how: Any) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "run"
    progress.use(progress.Silent())
    with monkeypatch.context() as patched:
        patched.setattr(recipe, "sft", stop)  # after the first RL
        with pytest.raises(KeyboardInterrupt):
            run("alternating", *SETTINGS, f"out={out}")
    assert not (out / "summary.json").exists()
    run("alternating", *SETTINGS, f"out={out}")
    progress.use(None)
    found = differences(contents(finished), contents(out))
    assert set(found) <= {"manifest.json"}  # its plan names the folder and the machine's speed


def plan(*settings: str) -> Any:
    known = registry.get("recipe", "alternating")
    return plan_study(known, assemble(known, None, settings, {}))


def test_a_plan_knows_every_model_of_every_turn():
    models = set(plan("iterations=2", "branches=[sentences,corrections]").models)
    assert models == {
        "M0", "M1", "RL by sentence", "RL by sentence, corrected", "RL by sentence 2",
        "RL by sentence 2, corrected", "M1, corrected", "M1 turn 2, corrected",
    }  # fmt: skip


def test_the_twin_trains_as_many_responses():
    known = registry.get("recipe", "alternating")
    config = known.config(iterations=2, corrections=10, rollout=RolloutConfig(steps=3))
    # 3 steps of 32 prompts with 4 responses, and 10 corrections, in 2 turns.
    assert config.trained_responses(100) == 2 * (3 * 32 * 4 + 10 * config.sft.epochs)
    passes = known.config(rollout=RolloutConfig(epochs=2, updates=3))
    # 40 prompts are 2 steps a pass; 40 corrections, fewer than 400.
    assert passes.trained_responses(40) == 2 * 2 * 32 * 4 * 3 + 40 * passes.sft.epochs


def test_repeated_sentences_are_dropped_before_corrections():
    assert without_repeated("One. Two. ONE.  Two. Three.") == "One. Two. Three."
    assert without_repeated("1. A\n2. B\n") == "1. A\n2. B\n"
    assert without_repeated("") == ""


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("branches=[sentence]",), "branch"),
        (("gradient.name=dpo",), "expected a policy gradient"),
        (("steps.values=random",), "set by the branches"),
        (("sentences=longer",), "expected a judge of sentences"),
        (("measure.judge=auto", "measure.truth="), "expected the judge that measures"),
    ],
)
def test_refusals_name_the_setting(settings: tuple[str, ...], message: str):
    with pytest.raises(BadInput, match=message):
        plan(*settings)
