"""Critics of merged critiques and of pairs: equal data, shared pairs, resuming, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alignlab import progress, registry
from alignlab.commands.preflight import plan_study
from alignlab.commands.run import assemble, run
from alignlab.errors import BadInput
from alignlab.recipes import critique_branches as branches
from tests.recipes.kill_resume import contents, differences
from tests.recipes.reading import records, rows
from tests.recipes.small import SMALL

CRITICS = ("sandbox:strong?judge_noise=2&invents=0.05", "sandbox:weak?judge_noise=1&invents=0.3")
CHOSEN = f'critics=["{CRITICS[0]}", "{CRITICS[1]}"]'
SETTINGS = (
    *SMALL, CHOSEN, "prompts=32", "criticised=20", "sft.epochs=4",
    "sft.lr=0.002", "sample.temperature=1.0", "critiques.critique_tokens=16",
    "critiques.revisions=1",
)  # fmt: skip
MODELS = {
    "M1", *CRITICS, "the truth", "the commonest fault, always", "critics, merged",
    "critics, units of most critics",
    "critics, all units", "critics, units kept by coin",
    *(f"C1 {label}" for label in branches.TAUGHT.values()),
    *(f"C2 {label}" for label in branches.PREFERRED.values()),
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("multi_critique") / "run"
    progress.use(progress.Silent())
    run("multi_critique", *SETTINGS, f"out={out}")
    progress.use(None)
    return out


def test_every_critic_is_measured_by_faults_and_by_revisions(finished: Path) -> None:
    assert {r["model"] for r in rows(finished, benchmark="score", metric="mean")} == MODELS
    for metric in ("precision", "recall", "f1", "faulty_or_not", "f1_by_response"):
        found = rows(finished, benchmark="critique", metric=metric, group=None)
        assert {r["model"] for r in found} == MODELS - {"M1"}
    for benchmark, metric in (("critique", "f1_change"), ("score", "change")):
        pairs = {
            (r["model"], r["against"]) for r in rows(finished, benchmark=benchmark, metric=metric)
        }
        assert {("critics, merged", CRITICS[0]), ("C1 merged", "C1 best single critic"),
                ("C2 validated pairs", "C2 judged pairs")} <= pairs  # fmt: skip


def test_the_truth_finds_all_faults_and_its_revisions_are_better(finished: Path) -> None:
    for metric in ("precision", "recall", "f1", "f1_by_response"):
        (row,) = rows(finished, benchmark="critique", metric=metric, model="the truth", group=None)
        assert row["value"] == 1.0
    score = {r["model"]: r["value"] for r in rows(finished, benchmark="score", metric="mean")}
    assert score["the truth"] > score["M1"]


def test_all_critiques_are_of_the_same_answers(finished: Path) -> None:
    found = json.loads((finished / "study.json").read_text())["models"]
    for label in branches.TAUGHT.values():
        assert "M1 after SFT on 20 critiques" in found[f"C1 {label}"]


def test_branches_of_pairs_differ_by_the_labels_alone(finished: Path) -> None:
    judged = records(finished, "pairs/*-pair-judged/groups.jsonl")
    validated = records(finished, "pairs/*-validated/groups.jsonl")
    assert validated
    assert {g["prompt"]["id"] for g in validated} <= {g["prompt"]["id"] for g in judged}
    answers = records(finished, "pairs/*-sample/responses.jsonl")
    assert len(answers) == 12
    assert all(g["prompt"]["id"].removesuffix("/critique") in {r["id"] for r in answers}
               for g in judged)  # fmt: skip


@pytest.mark.heavy
def test_a_study_that_stopped_ends_as_one_that_did_not(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*rest: Any, **how: Any) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "run"
    progress.use(progress.Silent())
    with monkeypatch.context() as patched:
        patched.setattr("alignlab.recipes.critique_pairs.validated_pairs", stop)
        with pytest.raises(KeyboardInterrupt):
            run("multi_critique", *SETTINGS, f"out={out}")
    assert not (out / "summary.json").exists()
    run("multi_critique", *SETTINGS, f"out={out}")
    progress.use(None)
    found = differences(contents(finished), contents(out))
    assert set(found) <= {"manifest.json"}  # its plan names the folder and the machine's speed


def plan(*settings: str) -> Any:
    known = registry.get("recipe", "multi_critique")
    return plan_study(known, assemble(known, None, settings, {}))


def test_a_plan_knows_every_model() -> None:
    assert set(plan(CHOSEN).models) == MODELS


def test_branches_without_the_truth() -> None:
    known = registry.get("recipe", "multi_critique")
    config = assemble(known, None, ["truth_critic="], {})
    assert "truth" not in config.chosen(branches.TAUGHT)
    assert "pair_truth" not in config.chosen(branches.PREFERRED)
    some = assemble(known, None, ["branches=[merged,validated]"], {})
    assert (some.chosen(branches.TAUGHT), some.chosen(branches.PREFERRED)) == (
        ("merged",), ("validated",),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("branches=[mixed]",), "branch 'mixed'"),
        (("branches=[validated]",), "expected merged, from which"),
        (("branches=[merged,truth]", "truth_critic="), "branch truth: expected truth_critic"),
        (("critics=[sandbox:weak]",), "critics: expected two or more"),
        (("critics=[sandbox:weak,sandbox:weak]",), "critics: expected two or more different"),
        (("revisers=[]",), "revisers: expected one model"),
        (("sample.n=1",), "sample.n: expected 2 critiques"),
        (("iterations=2",), "have no effect in multi_critique"),
        (("critiques.meta_prompt=refine",), "expected a template with {faults}"),
        (("critiques.critique_prompt=nope",), "unknown judge prompt 'nope'"),
        (("prompts=300", "criticised=300"), "criticised: expected fewer than the 300 prompts"),
        (("measure.judge=auto", "measure.truth="), "expected the judge that measures"),
    ],
)
def test_refusals_name_the_setting(settings: tuple[str, ...], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        plan(*settings)


def test_a_setting_may_need_one_of_the_preset():
    """The preset of the sandbox names the critic whose critiques are the truth."""
    config = assemble(registry.get("recipe", "multi_critique"), None, ["branches=[truth]"], {})
    assert config.truth_critic.startswith("sandbox:")
    with pytest.raises(BadInput, match="branch truth: expected truth_critic"):
        assemble(
            registry.get("recipe", "multi_critique"),
            None,
            ["branches=[truth]", "truth_critic="],
            {},
        )
    with pytest.raises(BadInput, match="setting preset: expected auto, sandbox"):
        assemble(registry.get("recipe", "multi_critique"), None, ["preset=tiny"], {})
