"""A teacher's kinds of feedback: equal tokens, what each branch learns from, resuming, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alignlab import progress, registry
from alignlab.commands.preflight import plan_study
from alignlab.commands.run import assemble, run
from alignlab.errors import BadInput
from alignlab.recipes import signal_branches
from alignlab.recipes.signals import KINDS, MODELS
from tests.recipes.kill_resume import contents, differences
from tests.recipes.reading import rows
from tests.recipes.small import SMALL

BUDGET = 1200
SETTINGS = (
    *SMALL, "prompts=40", "stand_in=12", "critique_tokens=24", f"budget.tokens={BUDGET}",
    "budget.pilot=2", "rounds=2", "sample.temperature=1.0", "good=3",
)  # fmt: skip
ALL = {"M1", "teacher's stand-in", *MODELS.values()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("signals") / "run"
    progress.use(progress.Silent())
    run("teacher_signals", *SETTINGS, f"out={out}")
    progress.use(None)
    return out


def records(out: Path, pattern: str) -> list[dict[str, Any]]:
    files = sorted(out.glob(f"stages/{pattern}"))
    assert files, pattern
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def bought(out: Path, metric: str) -> dict[str, float]:
    return {r["model"]: r["value"] for r in rows(out, benchmark="teacher", metric=metric)}


def test_every_branch_is_measured_against_own_answers(finished: Path):
    means = {r["model"] for r in rows(finished, benchmark="score", metric="mean", group=None)}
    assert means == ALL
    apart = {r["model"] for r in rows(finished, metric="score_change")}
    assert apart == set(MODELS.values()) - {MODELS["own"]}


def test_kinds_of_feedback_take_equal_tokens(finished: Path):
    tokens, prompts = (bought(finished, f"teacher_{what}") for what in ("tokens", "prompts"))
    for name in KINDS:
        model = MODELS[name]
        assert tokens[model] <= 1.3 * BUDGET
        # All prompts were bought, or the next one would have been too much on average.
        each = tokens[model] / prompts[model]
        assert prompts[model] == 40 or tokens[model] + each > 0.7 * BUDGET
    assert prompts[MODELS["demonstrations"]] > prompts[MODELS["labels"]]
    assert prompts[MODELS["labels"]] > prompts[MODELS["scores"]]
    assert {tokens[MODELS[name]] for name in ("random", "own", "truth")} == {0}


def test_tokens_are_those_of_the_texts(finished: Path):
    from alignlab.context import resolve_model
    from alignlab.feedback.prompts import judge_prompt
    from alignlab.models.load import load

    tokenizer = load(resolve_model("sandbox:knows_all").path, device="cpu").tokenizer
    answers = {r["id"]: r["text"] for r in records(finished, "[0-9]*-sample/responses.jsonl")}
    asked = {p["id"]: p["messages"][-1]["content"]
             for p in records(finished, "[0-9]*-seed/prompts.jsonl")}  # fmt: skip
    shown, total = judge_prompt("short_score").template, 0
    for f in records(finished, "labels/*/[0-9]*-label/feedback.jsonl"):
        read = shown.replace("{prompt}", asked[f["prompt_id"]])
        read = read.replace("{response}", answers[f["response_ids"][0]])
        for text in (read, *f["raw"]):
            total += len(tokenizer.encode(text, add_special_tokens=False))
    assert bought(finished, "teacher_tokens")[MODELS["labels"]] == total


def test_labels_are_of_first_answers_and_logits_of_the_newest_model(finished: Path):
    labelled = records(finished, "labels/*/[0-9]*-label/feedback.jsonl")
    assert all(f["response_ids"][0].endswith(".0") for f in labelled)
    verdicts = [f["verdict"] for f in labelled]
    assert {v["value"] for v in verdicts if v["kind"] == "score"} == {0.0, 1.0}
    drawn = records(finished, "logits/round-2/[0-9]*-sample/responses.jsonl")
    assert {r["sampler"]["model"] for r in drawn} == {"teacher's logits, round 1"}
    firsts = records(finished, "logits/round-1/[0-9]*/trained.jsonl")
    assert firsts[0]["steps"] >= 1


@pytest.mark.heavy
def test_a_study_that_stopped_in_a_branch_ends_as_one_that_did_not(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def stop(*rest: Any, **how: Any) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "run"
    progress.use(progress.Silent())
    with monkeypatch.context() as patched:
        patched.setattr(signal_branches, "pairs_of_verdicts", stop)  # after the comparisons
        with pytest.raises(KeyboardInterrupt):
            run("teacher_signals", *SETTINGS, f"out={out}")
    assert not (out / "summary.json").exists()
    run("teacher_signals", *SETTINGS, f"out={out}")
    progress.use(None)
    apart = set(differences(contents(finished), contents(out)))
    # The teacher's folder is an option of the objective, and so in the stage's settings.
    assert {name for name in apart if "logits" not in name} <= {"manifest.json"}
    assert not any(name.endswith("safetensors") for name in apart)


def plan(*settings: str) -> Any:
    known = registry.get("recipe", "teacher_signals")
    return plan_study(known, assemble(known, None, settings, {}))


def test_a_plan_knows_every_model():
    found = plan("rounds=2")
    assert set(found.models) == ALL
    assert MODELS["logits"] not in plan("stand_in=0").models
    assert MODELS["truth"] not in plan("measure.truth=").models


def test_a_teacher_with_logits_needs_no_stand_in():
    found = plan("logits_teacher=" + sandbox("knows_all"), "branches=[logits]").models
    assert set(found) >= {"M1", "teacher of logits", MODELS["logits"]}
    assert "teacher's stand-in" not in found


def sandbox(name: str) -> str:
    from alignlab.context import resolve_model

    return resolve_model(f"sandbox:{name}").path


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("branches=[words]",), "branch"),
        (("iterations=2",), "have no effect in teacher_signals"),
        (("least=1", "branches=[scores]"), "least: has no effect without branch truth"),
        (("pairs.rho=0.2",), "have no effect in teacher_signals"),
        (("branches=[logits]", "stand_in=0"), "expected a teacher with logits"),
        (("budget.tokens=10",), "enough for the logits on one answer"),
        (("budget.tokens=10", "branches=[scores]"), r"budget\.tokens: expected at least"),
        (("ranking_prompt=nothing",), "nothing"),
        (("sample.n=1",), "expected 2 answers or more"),
        (("branches=[truth]", "measure.truth="), "expected a source of the truth"),
    ],
)
def test_refusals_name_the_setting(settings: tuple[str, ...], message: str):
    with pytest.raises(BadInput, match=message):
        plan(*settings)


def test_logits_of_another_tokenizer_are_refused_before_anything_runs(tmp_path: Path):
    from alignlab.models.load import save
    from tests.models.helpers import tiny_lm

    save(tiny_lm(), tmp_path / "other")
    with pytest.raises(BadInput, match="expected the student's tokenizer"):
        plan(f"logits_teacher={tmp_path / 'other'}")
