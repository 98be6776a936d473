"""RLCD: what is asked with the texts, what each branch learns from, resuming, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alignlab import progress, registry
from alignlab.commands.preflight import plan_study
from alignlab.commands.run import assemble, run
from alignlab.errors import BadInput
from alignlab.recipes import rlcd as recipe
from tests.recipes.kill_resume import contents, differences
from tests.recipes.reading import records, rows
from tests.recipes.small import SMALL

SETTINGS = (*SMALL, "prompts=12", "taught=12", "sample.temperature=1.0")
MODELS = {"M1", *recipe.NAMES.values()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rlcd") / "run"
    progress.use(progress.Silent())
    run("rlcd", *SETTINGS, f"out={out}")
    progress.use(None)
    return out


def test_every_branch_is_measured(finished: Path):
    means = {r["model"] for r in rows(finished, benchmark="score", metric="mean", group=None)}
    assert means == MODELS
    against = {r["against"] for r in rows(finished, metric="score_change")}
    assert against == {recipe.NAMES[n] for n in ("judged", "coin", "sft")}


def test_pairs_are_positive_over_negative_on_the_plain_prompt(finished: Path):
    asked = {p["id"]: p for p in records(finished, "[0-9]*-seed/prompts.jsonl")}
    positive, negative = (
        {r["id"] for r in records(finished, f"[0-9]*-sample-{how}/responses.jsonl")}
        for how in ("positive", "negative")
    )
    assert len(positive) == len(negative) == 12
    groups = records(finished, "[0-9]*-pair/groups.jsonl")
    for group in groups:
        better, worse = group["responses"]
        assert better["id"] in positive
        assert worse["id"] in negative
        assert group["prompt"]["messages"] == asked[group["prompt"]["id"]]["messages"]
    (count,) = records(finished, "[0-9]*-pair/counts.jsonl")
    assert count["kept"] == len(groups)
    assert count["kept"] + sum(count["dropped"].values()) == 12


def test_labels_are_measured_by_the_truth(finished: Path):
    scores = {
        f["response_ids"][0]: f["verdict"]["value"]
        for f in records(finished, "[0-9]*-truth-of-contrast-pairs/feedback.jsonl")
    }
    gaps = [
        scores[g["responses"][0]["id"]] - scores[g["responses"][1]["id"]]
        for g in records(finished, "[0-9]*-pair/groups.jsonl")
    ]
    (gap,) = rows(finished, model="contrast pairs", metric="score_gap")
    (right,) = rows(finished, model="contrast pairs", metric="accuracy_ties_half")
    assert gap["value"] == pytest.approx(sum(gaps) / len(gaps))
    known = [1.0 if g > 0 else 0.5 if g == 0 else 0.0 for g in gaps]
    assert right["value"] == pytest.approx(sum(known) / len(known))


def test_m1_is_taught_the_texts_and_the_twin_trains_as_much(finished: Path):
    (lessons,) = records(finished, "[0-9]*-affix-lessons/counts.jsonl")
    (trained,) = records(finished, "[0-9][0-9]-m1/counts.jsonl")
    assert trained["kept"] == 24 + 2 * lessons["kept"]
    pairs = len(records(finished, "[0-9]*-pair/groups.jsonl"))
    # A batch of 16 holds all: one step per pass, and a pass of pairs trains two responses.
    assert pairs <= 16
    steps = {
        name: records(finished, f"{name}/[0-9]*/trained.jsonl")[0]["steps"]
        for name in ("contrast", "coin", "sft")
    }
    assert steps == {"contrast": 1, "coin": 1, "sft": 2}


def test_a_study_that_stopped_in_a_branch_ends_as_one_that_did_not(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def stop(*rest: Any, **how: Any) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "run"
    progress.use(progress.Silent())
    with monkeypatch.context() as patched:
        patched.setattr(recipe, "by_coin", stop)  # the third branch
        with pytest.raises(KeyboardInterrupt):
            run("rlcd", *SETTINGS, f"out={out}")
    assert not (out / "summary.json").exists()
    run("rlcd", *SETTINGS, f"out={out}")
    progress.use(None)
    assert set(differences(contents(finished), contents(out))) <= {"manifest.json"}


def plan(*settings: str) -> Any:
    known = registry.get("recipe", "rlcd")
    return plan_study(known, assemble(known, None, settings, {}))


def test_a_plan_knows_every_model_and_asks_no_critic_without_its_branch():
    assert set(plan().models) == MODELS
    found = plan("branches=[contrast,coin]", "feedback=llm:openai:nobody@http://127.0.0.1:9")
    assert set(found.models) == {"M1", recipe.NAMES["contrast"], recipe.NAMES["coin"]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("branches=[pairs]",), "branch"),
        (("iterations=2",), "have no effect in rlcd"),
        (("pairs.min_gap=1",), "have no effect in rlcd"),
        (("affix.positive=x", "affix.negative=x"), "two different texts"),
        (("affix.positive=",), "two different texts"),
        (("branches=[truth]", "measure.truth="), "expected a source of the truth"),
    ],
)
def test_refusals_name_the_setting(settings: tuple[str, ...], message: str):
    with pytest.raises(BadInput, match=message):
        plan(*settings)
