"""Offline RL: what each branch learns from, what is asked of bins, resuming, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alignlab import progress, registry
from alignlab.commands.preflight import plan_study
from alignlab.commands.run import assemble, run
from alignlab.errors import BadInput
from alignlab.recipes import offline_rl as recipe
from alignlab.types import PreferenceGroup
from tests.recipes.kill_resume import contents, differences
from tests.recipes.reading import records, rows
from tests.recipes.small import SMALL
from tests.stages.making import prompt, responses

SETTINGS = (*SMALL, "prompts=12", "sample.temperature=1.0", "bins=2", "preference.epochs=2")
MODELS = {
    "M1", "return-conditioned", "return-conditioned, bin 1 of 2", "best 25% imitated",
    "best of 4 imitated", "best over worst by DPO", "best of 4 at sampling", "all imitated",
    "shuffled returns", "best of 4 by the truth imitated",
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("offline") / "run"
    progress.use(progress.Silent())
    run("offline_rl", *SETTINGS, f"out={out}")
    progress.use(None)
    return out


def test_every_branch_is_compared_with_m1_and_with_the_twin(finished: Path):
    means = {r["model"]: r["value"] for r in rows(finished, benchmark="score", metric="mean")
             if r["group"] is None}  # fmt: skip
    assert means.keys() == MODELS
    assert {r["model"] for r in rows(finished, metric="win_rate", group=None)} == MODELS - {"M1"}
    apart = rows(finished, metric="score_change", against="all imitated")
    assert {r["model"] for r in apart} == MODELS - {"all imitated"}
    for row in apart:
        assert row["value"] == pytest.approx(means[row["model"]] - means["all imitated"])


def test_bins_are_those_asked_for(finished: Path):
    (folder,) = finished.glob("stages/returns/*-return-conditioned/model")
    assert len(json.loads((folder / "reward_bins.json").read_text())["edges"]) == 1
    best, worst = (
        {r["prompt_id"]: r["text"] for r in records(finished, f"returns/*-answer-{name}/{FILE}")}
        for name in ("return-conditioned", "return-conditioned-bin-1-of-2")
    )
    assert best.keys() == worst.keys()
    assert best != worst


FILE = "responses.jsonl"


def test_branches_learn_from_their_shares_of_one_log(finished: Path):
    marks = {
        f["response_ids"][0]: f["verdict"]["value"]
        for f in records(finished, "[0-9]*-judge/feedback.jsonl")
    }
    assert len(marks) == 48
    stages = {
        "return-conditioned": 48, "shuffled-returns": 48, "all-imitated": 48,
        "best-25-imitated": 12,
    }  # fmt: skip
    for stage, kept in stages.items():
        assert records(finished, f"*/[0-9][0-9]-{stage}/counts.jsonl")[0]["kept"] == kept
    best = records(finished, "best_of_n/*-best-of-n/demonstrations.jsonl")
    assert len(best) == 12
    for one in best:
        of_prompt = [v for r, v in marks.items() if r.startswith(one["prompt"]["id"] + "/")]
        assert marks[one["response"]["id"]] == max(of_prompt)


def test_equal_compute_is_equal_trained_responses(finished: Path):
    steps = {
        name: records(finished, f"{name}/*/trained.jsonl")[0]["steps"]
        for name in ("returns", "all", "top", "best_of_n")
    }
    # 2 passes over 12 pairs train 48 responses: one pass over 48, four over 12 in batches of 16.
    assert steps == {"returns": 3, "all": 3, "top": 4, "best_of_n": 4}


def test_best_at_sampling_is_the_critics_best_of_fresh_answers(finished: Path):
    kept = records(finished, "best_at_sampling/*-best-of-n/demonstrations.jsonl")
    marks = {
        f["response_ids"][0]: f["verdict"]["value"]
        for f in records(finished, "best_at_sampling/*-judge/feedback.jsonl")
    }
    assert len(kept) == 8
    assert len(marks) == 32
    means = {r["model"]: r["value"] for r in rows(finished, benchmark="score", metric="mean")
             if r["group"] is None}  # fmt: skip
    assert means["best of 4 at sampling"] >= means["M1"]


def test_shuffled_scores_are_the_same_scores_best_first():
    groups = []
    for n in range(40):
        asked = prompt(n)
        values = (4.0 + n, 2.0 + n, float(n))
        groups.append(PreferenceGroup(asked, tuple(responses(asked, "a", "b", "c")), values, "j"))
    dealt = recipe.shuffled_scores(groups, seed=3)
    assert sorted(s for g in dealt for s in g.scores) == sorted(s for g in groups for s in g.scores)
    assert all(list(g.scores) == sorted(g.scores, reverse=True) for g in dealt)
    assert [set(g.responses) for g in dealt] == [set(g.responses) for g in groups]
    kept = sum(g.responses[0] is h.responses[0] for g, h in zip(groups, dealt, strict=True))
    assert 4 <= kept <= 24  # a third of 40 by chance
    assert recipe.shuffled_scores(groups, seed=3) == dealt != recipe.shuffled_scores(groups, seed=4)


def test_a_study_that_stopped_in_a_branch_ends_as_one_that_did_not(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def stop(*rest: Any, **how: Any) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "run"
    progress.use(progress.Silent())
    with monkeypatch.context() as patched:
        patched.setattr(recipe, "preference_train", stop)  # the fourth branch
        with pytest.raises(KeyboardInterrupt):
            run("offline_rl", *SETTINGS, f"out={out}")
    assert not (out / "summary.json").exists()
    run("offline_rl", *SETTINGS, f"out={out}")
    progress.use(None)
    assert set(differences(contents(finished), contents(out))) <= {"manifest.json"}


def plan(*settings: str) -> Any:
    known = registry.get("recipe", "offline_rl")
    return plan_study(known, assemble(known, None, settings, {}))


def test_a_plan_knows_every_model():
    assert set(plan("bins=2").models) == MODELS
    assert set(plan("branches=[returns,all]", "bins=3").models) == {
        "M1", "return-conditioned", "return-conditioned, bin 1 of 3",
        "return-conditioned, bin 2 of 3", "all imitated",
    }  # fmt: skip
    assert "best of 4 by the truth imitated" not in plan("measure.truth=").models


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("branches=[return]",), "branch"),
        (("iterations=2",), "have no effect in offline_rl"),
        (("least=1", "branches=[returns,all]"), "least: has no effect without branch best_of_n"),
        (("pairs.keep=winners",), "expected best_worst in offline_rl"),
        (("bins=1",), "bins"),
        (("sample.n=1",), "expected 2 answers or more"),
        (("top_share=1",), "top_share"),
        (("branches=[truth]", "measure.truth="), "expected a source of the truth"),
    ],
)
def test_refusals_name_the_setting(settings: tuple[str, ...], message: str):
    with pytest.raises(BadInput, match=message):
        plan(*settings)
