"""Self-evolved reward learning: what each reward model sees, its figures, resuming, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alignlab import progress, registry
from alignlab.commands.preflight import plan_study
from alignlab.commands.run import assemble, run
from alignlab.errors import BadInput
from alignlab.recipes import reward_rounds
from alignlab.recipes import self_evolved_reward as recipe
from tests.recipes.kill_resume import contents, differences
from tests.recipes.reading import records, rows
from tests.recipes.small import SMALL

SETTINGS = (
    *SMALL, "prompts=40", "corpus.test_prompts=28", "sample.temperature=1.0", "iterations=2",
    "labelled=0.3", "reward_training.epochs=1", "keep.gap=0.2", "reward_training.save_every=0",
    "rollout={steps: 2, batch_size: 4, max_tokens: 16, lr: 1.0e-4}",
)  # fmt: skip
REWARDS = {
    "RM0", "RM1", "RM2", "RM1 by coin", "RM2 by coin", "RM1 on all pairs", "RM2 on all pairs",
    "RM of all labels",
}  # fmt: skip
POLICIES = {
    "M1", "RLOO by RM0", "RLOO by the last RM", "RLOO by the RM of all labels",
    "RLOO by the truth", "RLOO by random scores", "SFT on the last RM's choices",
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evolved") / "run"
    progress.use(progress.Silent())
    run("self_evolved_reward", *SETTINGS, f"out={out}")
    progress.use(None)
    return out


def best(groups: list[dict[str, Any]]) -> dict[frozenset[str], str]:
    return {frozenset(r["id"] for r in g["responses"]): g["responses"][0]["id"] for g in groups}


def test_every_reward_model_and_policy_is_measured(finished: Path):
    assert {r["model"] for r in rows(finished, benchmark="score", group=None)} == POLICIES
    accuracies = rows(finished, benchmark="reward_model", metric="accuracy")
    # The second round of an own branch may keep no pair.
    assert REWARDS - {"RM2", "RM2 by coin"} <= {r["model"] for r in accuracies}
    assert {r["model"] for r in accuracies} <= REWARDS | {"longer wins"}
    known = {r["model"]: r["value"] for r in accuracies}
    changes = rows(finished, benchmark="reward_model", metric="accuracy_change")
    for row in changes:
        assert row["value"] == pytest.approx(known[row["model"]] - known[row["against"]])
    rivals = {r["against"] for r in changes if r["model"] == "RM1"}
    assert rivals == {"RM0", "RM1 by coin", "RM1 on all pairs", "RM of all labels"}


def test_labels_of_the_pool_are_the_reward_models_own(finished: Path):
    kept = records(finished, "own/round-1/*-keep/groups.jsonl")
    values = {
        f["response_ids"][0]: f["verdict"]["value"]
        for f in records(finished, "own/round-1/*-rewards-pool/feedback.jsonl")
    }
    assert kept
    for group in kept:
        one, other = (values[r["id"]] for r in group["responses"])
        assert one > other
    (state,) = records(finished, "own/round-1/*-keep/state.jsonl")
    split = {c["what"]: c["kept"] for c in records(finished, "*-split/counts.jsonl")}
    assert state["pool"] == split["pairs without label"] == len(values) / 2
    assert split["labelled pairs"] == round(0.3 * sum(list(split.values())[:2]))
    (share,) = rows(finished, benchmark="pseudo_labels", metric="kept", model="RM1")
    assert share["value"] == pytest.approx(len(kept) / state["pool"])
    (right,) = rows(finished, benchmark="pseudo_labels", metric="accuracy", model="RM1")
    assert right["value"] == pytest.approx(state["right"] / len(kept))


def test_the_coin_keeps_the_pairs_of_the_first_round(finished: Path):
    own, coin = (best(records(finished, f"{n}/round-1/*-keep/groups.jsonl"))
                 for n in ("own", "random"))  # fmt: skip
    assert own.keys() == coin.keys()


def test_a_round_is_trained_on_its_pairs_and_those_of_the_round_before(finished: Path):
    (stage,) = finished.glob("stages/own/round-1/*-rm1")
    trained = json.loads((stage / "counts.jsonl").read_text().splitlines()[0])
    assert trained["kept"] == len(records(finished, "own/round-1/*-keep/groups.jsonl"))
    every = records(finished, "full/*-rm-of-all-labels/counts.jsonl")[0]
    split = {c["what"]: c["kept"] for c in records(finished, "*-split/counts.jsonl")}
    assert every["kept"] == split["labelled pairs"] + split["pairs without label"]


def test_a_round_goes_on_from_the_reward_model_before(finished: Path):
    import torch
    from safetensors.torch import load_file

    def head(pattern: str) -> torch.Tensor:
        (file,) = finished.glob(f"stages/{pattern}/model/model.safetensors")
        return load_file(file)["score.weight"]

    first, second = head("*-rm0"), head("own/round-1/*-rm1")
    fresh = head("full/*-rm-of-all-labels")
    assert torch.nn.functional.cosine_similarity(first, second).item() > 0.9
    assert torch.nn.functional.cosine_similarity(first, fresh).item() < 0.9


@pytest.mark.heavy
def test_a_study_that_stopped_in_a_branch_ends_as_one_that_did_not(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def stop(*rest: Any, **how: Any) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "run"
    progress.use(progress.Silent())
    for module, name in ((reward_rounds, "accuracy_change"), (recipe, "watched_rollout")):
        with monkeypatch.context() as patched:  # in a round, and in a policy
            patched.setattr(module, name, stop)
            with pytest.raises(KeyboardInterrupt):
                run("self_evolved_reward", *SETTINGS, f"out={out}")
        assert not (out / "summary.json").exists()
    run("self_evolved_reward", *SETTINGS, f"out={out}")
    progress.use(None)
    found = differences(contents(finished), contents(out))
    assert set(found) <= {"manifest.json"}  # its plan names the folder and the machine's speed


def plan(*settings: str) -> Any:
    known = registry.get("recipe", "self_evolved_reward")
    return plan_study(known, assemble(known, None, settings, {}))


def test_a_plan_knows_every_policy():
    assert set(plan(*SETTINGS).models) == POLICIES
    assert set(plan(*SETTINGS, "policies=[]").models) == {"M1"}


def test_ranked_groups_of_the_data_are_pairs():
    found = plan(*SETTINGS, "groups=data", "corpus.groups=20", "policies=[seed]")
    assert set(found.models) == {"M1", "RLOO by RM0"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("branches=[mine]",), "unknown branch 'mine'"),
        (("policies=[teacher]",), "unknown policy 'teacher'"),
        (("branches=[full]", "policies=[last]"), "last needs branch own"),
        (("labelled=1",), "setting labelled: expected between 0 and 1"),
        (("pairs.min_gap=1",), "have no effect in self_evolved_reward"),
        (("groups=data", "labels=longer"), "setting labels: has no effect with groups=data"),
        (("reward.name=dpo", "reward.options={}"), "setting reward.name: expected reward_model"),
        (("policy.name=dpo", "policy.options={}"), "setting policy.name: expected a policy grad"),
        (("measure.truth=", "measure.judge=longer"), "setting labels: expected the feedback"),
        (("labels=sandbox:oracle", "measure.truth="), "truth needs measure.truth"),
        (("keep.low=0.6",), "keep.low and keep.high"),
    ],
)
def test_refusals_name_the_setting(settings: tuple[str, ...], message: str):
    with pytest.raises(BadInput, match=message):
        plan(*SMALL, *settings)
