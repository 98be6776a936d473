"""A reward model that reads principles: what each branch sees, resuming, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alignlab import progress, registry
from alignlab.commands.preflight import plan_study
from alignlab.commands.run import assemble, run
from alignlab.errors import BadInput
from alignlab.recipes import instructable_reward as recipe
from tests.recipes.kill_resume import contents, differences
from tests.recipes.reading import records, rows
from tests.recipes.small import SMALL

SETTINGS = (
    *SMALL, "prompts=10", "sample.n=4", "sample.temperature=1.0", "rollout.steps=2",
    "rollout.batch_size=4", "rollout.responses=2", "rollout.max_tokens=24",
    "reward_training.epochs=1",
)  # fmt: skip
POLICIES = {policy.name for policy in recipe.POLICIES.values()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("instructable") / "run"
    progress.use(progress.Silent())
    run("instructable_reward", *SETTINGS, f"out={out}")
    progress.use(None)
    return out


def test_policies_and_reward_models_are_measured_by_principle(finished: Path):
    found = rows(finished, benchmark="principles", metric="brief", group=None)
    assert {r["model"] for r in found} == POLICIES | {"M0", "M1"}
    models = {r["model"] for r in rows(finished, benchmark="instructability", metric="absent")}
    kinds = ("principles", "coin", "unread")
    assert models == {f"reward model ({kind})" for kind in kinds}


def test_a_reward_model_without_principles_cannot_follow_them(finished: Path):
    def figure(metric: str) -> float:
        (row,) = rows(
            finished, benchmark="instructability", metric=metric, model="reward model (unread)",
            group=None,
        )  # fmt: skip
        return row["value"]

    # Trained without, it sees them here for the first time; absent, order alone decides.
    assert 0 <= figure("absent") <= 1
    assert 0 <= figure("shown") <= 1


def test_labels_show_principles_but_those_of_the_unread_model(finished: Path):
    shown = records(finished, "*-labels-principles/groups.jsonl")
    coin = records(finished, "*-labels-coin/groups.jsonl")
    unread = records(finished, "*-labels-unread/groups.jsonl")
    texts = [[g["prompt"]["messages"][-1]["content"] for g in some] for some in (shown, coin)]
    assert texts[0] == texts[1]
    assert all("Judge by:" in text for text in texts[0])
    assert not any("Judge by:" in g["prompt"]["messages"][-1]["content"] for g in unread)
    assert [g["prompt"]["id"] for g in unread] == [g["prompt"]["id"] for g in shown]


@pytest.mark.heavy
def test_a_study_that_stopped_in_a_branch_ends_as_one_that_did_not(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def stop(*rest: Any, **how: Any) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "run"
    progress.use(progress.Silent())
    with monkeypatch.context() as patched:
        patched.setattr(recipe, "watched_rollout", stop)  # after the reward models
        with pytest.raises(KeyboardInterrupt):
            run("instructable_reward", *SETTINGS, f"out={out}")
    assert not (out / "summary.json").exists()
    run("instructable_reward", *SETTINGS, f"out={out}")
    progress.use(None)
    found = differences(contents(finished), contents(out))
    assert set(found) <= {"manifest.json"}  # its plan names the folder and the machine's speed


def plan(*settings: str) -> Any:
    known = registry.get("recipe", "instructable_reward")
    return plan_study(known, assemble(known, None, settings, {}))


def test_a_plan_knows_the_policies_and_a_run_their_reward_models(finished: Path):
    assert set(plan("branches=[all,coin]").models) == {
        "M0", "M1", "RL by principles", "RL by coin labels",
    }  # fmt: skip
    trained = {path.name[3:] for path in finished.glob("stages/[0-9]*-reward-model-*")}
    kinds = ("principles", "coin", "unread")
    assert trained == {f"reward-model-{kind}" for kind in kinds}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("branches=[every]",), "branch"),
        (("iterations=2",), "have no effect in instructable_reward"),
        (("by_principle=sandbox:oracle",), "expected a spec with {principle}"),
        (("steer=kind",), "principle"),
        (("reinforcement.name=dpo",), "expected a policy gradient"),
        (("principles=nowhere.txt",), "nowhere.txt"),
    ],
)
def test_refusals_name_the_setting(settings: tuple[str, ...], message: str):
    with pytest.raises(BadInput, match=message):
        plan(*settings)


def test_principles_that_do_not_fit_a_spec_are_refused(tmp_path: Path):
    file = tmp_path / "p.txt"
    file.write_text("brief, please ||| long\n")
    with pytest.raises(BadInput, match="expected principles without"):
        plan(f"principles={file}", "steer=brief")
