"""Every study runs to its report in seconds, with the models and figures it promises."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alignlab import progress, registry
from alignlab.commands.run import run
from alignlab.recipes.teacher_critic_grid import GridConfig
from tests.recipes.small import SMALL

TINY = (*SMALL, "propose.n=8", "sample.max_tokens=16", "judge.max_tokens=12")

GRID = (
    "sandbox:weak",
    "sandbox:strong",
)
STUDIES: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "self_rewarding": (("iterations=1",), {"M0", "SFT baseline", "M1", "M2"}),
    "self_rewarding winners": (
        ("iterations=1", "pairs.keep=winners", "judge.method=expected"),
        {"M0", "SFT baseline", "M1", "M2"},
    ),
    "self_refine": (
        ("traces=8",),
        {
            "M0",
            "M1",
            "R1",
            "R2",
            "R2 by coin",
            "R2 SFT on its refinements",
            "R2 on the teacher's refinements",
            "R2 on true pairs",
        },
    ),
    "teacher_reward": ((), {"M0", "M1", "M2 teacher reward"}),
    "teacher_demonstration": ((), {"M0", "M1", "M2 teacher demonstration"}),
    "compare": (
        ("iterations=1",),
        {
            "M0",
            "M1",
            "M2 self-reward (2 samples)",
            "M2 self-reward (expected score)",
            "teacher reward",
            "teacher demonstration",
            "SFT on strong teacher",
            "SFT on weak teacher",
            "weak SFT, then DPO by strong critic",
            "random judge",
        },
    ),
    "compare seeds": (
        ("iterations=1", "seeds=2", "branches=[teacher_demonstration]"),
        {"M0", "M1", "teacher demonstration"},
    ),
    "rl_free": (
        (
            "prompts=8",
            "branches=[few_shot,dpo,rloo]",
            "reward_training.epochs=1",
            "rollout={steps: 2, batch_size: 4, max_tokens: 16}",
            "divergence=4",
        ),
        {"M1", "few_shot", "dpo", "rloo"},
    ),
    "scaling": (
        ("along=prompts", "teacher=sandbox:strong", "shares=[0.5,1]", "iterations=1"),
        {"M0", "M1", "M2 on 50% of prompts", "M2 on 100% of prompts"},
    ),
    "scaling iterations": (("iterations=1",), {"M0", "M1", "M2"}),
    "teacher_critic_grid": (
        ("critics=[sandbox:strong]",),
        {"M0", "M1"}
        | {f"teacher {t}" for t in GRID}
        | {f"SFT on {t}" for t in GRID}
        | {f"SFT on {t} -> DPO by sandbox:strong" for t in GRID},
    ),
}

Finished = Callable[[str], Path]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A study's run directory, run when it is first asked for."""
    folder, done = tmp_path_factory.mktemp("studies"), {}

    def find(study: str) -> Path:
        if study not in done:
            progress.use(progress.Silent())
            out = folder / study.replace(" ", "-")
            report = run(study.split()[0], *TINY, *STUDIES[study][0], f"out={out}")
            progress.use(None)
            assert report == out / "report.html"
            done[study] = out
        return done[study]

    return find


def summary(path: Path) -> dict[str, Any]:
    return json.loads((path / "summary.json").read_text())


def rows(path: Path, **wanted: Any) -> list[dict[str, Any]]:
    """Summary rows with these values."""
    return [r for r in summary(path)["rows"] if all(r[k] == v for k, v in wanted.items())]


def metrics(path: Path, stage: str) -> list[dict[str, Any]]:
    """Lines of metrics of the one stage whose folder's name ends so."""
    (file,) = path.glob(f"stages/**/*-{stage}/metrics.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_ends_with_its_models_and_a_report(finished, study: str):
    out, models = finished(study), STUDIES[study][1]
    assert {r["model"] for r in rows(out, benchmark="score")} == models
    assert {r["model"] for r in rows(out, benchmark="head_to_head")} == models - {"M1"}
    assert set(json.loads((out / "study.json").read_text())["models"]) == models
    page = (out / "report.html").read_text()
    assert all(model.replace(">", "&gt;") in page or model in page for model in models)


@pytest.mark.parametrize("study", STUDIES)
def test_every_row_is_a_value_inside_its_interval(finished, study: str):
    for row in summary(finished(study))["rows"]:
        assert row["n"] >= 0
        assert row["unscored"] >= 0
        if row["value"] is None:
            assert row["low"] is row["high"] is None
            continue
        assert math.isfinite(row["value"])
        assert (row["low"] is None) == (row["high"] is None)
        if row["low"] is not None:
            assert row["low"] <= row["value"] <= row["high"], row


@pytest.mark.parametrize("study", STUDIES)
def test_scores_rest_on_every_held_out_answer(finished, study: str):
    seeds = summary(finished(study))["seeds"]
    for row in rows(finished(study), benchmark="score", metric="mean", group=None):
        assert row["n"] + row["unscored"] == 8 * len(seeds)


def test_all_recipes_are_tried():
    elsewhere = {
        "relevance_reward", "outcome_pairs", "alternating", "instructable_reward",
        "self_evolved_reward", "instructors", "offline_rl", "rlcd", "teacher_signals",
        "demonstrations", "hybrid", "multi_critique",
    }  # fmt: skip
    tried = {registry.get("recipe", study.split()[0]).name for study in STUDIES}
    assert tried | elsewhere == set(registry.names("recipe"))


def test_preference_metrics_carry_trls_names(finished):
    (line, *_) = metrics(finished("self_rewarding"), "m2")
    assert {"loss", "learning_rate", "grad_norm", "epoch", "step"} <= line.keys()
    assert {
        "rewards/chosen",
        "rewards/rejected",
        "rewards/accuracies",
        "rewards/margins",
        "logps/chosen",
        "logps/rejected",
    } <= line.keys()
    margin = line["rewards/chosen"] - line["rewards/rejected"]
    assert line["rewards/margins"] == pytest.approx(margin, abs=1e-4)


def test_winners_alone_are_imitated(finished):
    (line, *_) = metrics(finished("self_rewarding winners"), "m2")
    assert "rewards/chosen" not in line


def test_an_expected_score_is_one_number_without_samples(finished):
    (file,) = finished("self_rewarding winners").glob("stages/iteration-1/*-judge/feedback.jsonl")
    verdicts = [json.loads(line)["verdict"] for line in file.read_text().splitlines()]
    assert len(verdicts) == 8 * 4
    for verdict in verdicts:
        if verdict["kind"] == "score":
            assert 0 <= verdict["value"] <= 5


def test_seeds_are_pooled(finished):
    out = finished("compare seeds")
    assert summary(out)["seeds"] == [0, 1]
    (row,) = rows(out, model="M1", benchmark="score", metric="mean", group=None)
    assert row["seeds"] == [0, 1]
    first, second = ((out / "stages" / f"seed-{s}") for s in (0, 1))
    names = [sorted(p.name for p in folder.iterdir()) for folder in (first, second)]
    assert names[0] == names[1]
    (model,) = first.glob("*-m1/model/model.safetensors")
    assert model.read_bytes() != (second / model.relative_to(first)).read_bytes()


def test_a_judge_is_held_against_the_truth(finished):
    judges = {r["model"] for r in rows(finished("compare"), benchmark="judge_own_samples")}
    assert any("random" in judge for judge in judges)
    assert any("expected score" in judge for judge in judges)


def test_the_random_judge_scores_all_and_stays_on_the_scale(finished):
    (file,) = finished("compare").glob("stages/random_judge/*-judge/feedback.jsonl")
    said = [json.loads(line) for line in file.read_text().splitlines()]
    assert {f["source"] for f in said} == {"random"}
    assert len(said) == 8 * 4
    assert all(0 <= f["verdict"]["value"] <= 5 for f in said)


def test_counts_add_up(finished):
    out = finished("self_rewarding")
    counts = json.loads((out / "manifest.json").read_text())["counts"]
    (pairs,) = [c for c in counts if c["what"] == "groups" and c["stage"].endswith("-pair")]
    assert pairs["kept"] + sum(pairs["dropped"].values()) == 8
    (trained,) = [c for c in counts if c["stage"].endswith("-m2") and c["what"] == "groups"]
    assert trained["kept"] == pairs["kept"]


def test_a_finished_study_is_not_done_again(finished):
    out = finished("teacher_reward")
    before = {p: p.read_bytes() for p in (out / "stages").rglob("*.json*")}
    page = (out / "report.html").stat().st_mtime_ns
    progress.use(progress.Silent())
    run("teacher_reward", *TINY, out=str(out))
    progress.use(None)
    assert {p: p.read_bytes() for p in (out / "stages").rglob("*.json*")} == before
    assert (out / "report.html").stat().st_mtime_ns > page


def test_stages_are_named_as_in_the_first_release(finished):
    """A run of 0.1 is resumed by these names."""
    stages = finished("compare") / "stages"
    top = sorted(p.name for p in stages.iterdir() if p.name[:2].isdigit())
    assert top[:9] == [
        "01-seed", "02-sft-baseline", "03-eft-judge", "04-eft", "05-m1", "06-propose", "07-sample",
        "08-answer-m0", "09-answer-m1",
    ]  # fmt: skip
    assert [name[3:8] for name in top[9:19]] == ["score"] * 10
    assert [name[3:7] for name in top[19:28]] == ["duel"] * 9
    assert top[28:] == ["29-truth", "30-judge-examples", "31-results"]
    branches = {
        "self_reward_expected/iteration-1": [
            "01-judge", "02-pair", "03-judge-held-out-expected",
            "04-m2-self-reward-expected-score", "05-answer-m2-self-reward-expected-score",
        ],
        "teacher_demonstration": [
            "01-demonstrate", "02-pair", "03-teacher-demonstration",
            "04-answer-teacher-demonstration",
        ],
    }  # fmt: skip
    for branch, names in branches.items():
        assert sorted(p.name for p in (stages / branch).iterdir()) == names


def test_models_of_a_grid_are_named_without_their_folders():
    config = GridConfig(
        model="/models/base",
        teachers=("local:/models/a?dtype=float32", "sandbox:weak?judge_noise=1"),
        critics=("llm:openai:m@http://host/v1", "llm,samples=3:local:/models/b"),
    )
    assert list(config.labels.values()) == [
        "/models/base", "local:a?dtype=float32", "sandbox:weak?judge_noise=1",
        "llm:openai:m@http://host/v1", "llm,samples=3:local:b",
    ]  # fmt: skip
    same = replace(config, teachers=("local:/one/m",), critics=("local:/two/m",))
    assert list(same.labels) == list(same.labels.values())
