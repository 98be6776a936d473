"""Self-refinement: what is imitated, what it gained, and settings without effect."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from alignlab import registry
from alignlab.commands.preflight import plan_study
from alignlab.commands.run import assemble
from alignlab.errors import BadInput
from alignlab.feedback.rules import LengthJudge
from alignlab.generation.scripted import ScriptedEngine
from alignlab.measuring.refinement import gain
from alignlab.recipes.self_refine import CONTROLS, SelfRefineConfig
from alignlab.stages.self_refine import RefineSettings, better_refinements, refine_by
from tests.stages.making import context, prompt, responses

PROMPTS = [prompt(n) for n in range(3)]
FIRST = [r for p in PROMPTS for r in responses(p, "one two")]


def engine(request, sample):
    """Criticises everything but the last, and adds two words to what it rewrites."""
    asked = request.messages[0].content
    if "question 2" in asked:
        return ""
    return "one two three four" if "<critique>" in asked else "Too short."


def test_critiques_and_refinements_are_imitated_and_their_gain_is_counted(tmp_path: Path) -> None:
    here = context(tmp_path)
    settings = RefineSettings(temperature=0.3, critique_tokens=9, refined_tokens=8)
    seen = []

    def watched(request, sample):
        seen.append(request)
        return engine(request, sample)

    found = refine_by(here, ScriptedEngine(watched), PROMPTS, FIRST, settings)
    assert [d.task for d in found.lessons] == ["critique", "refine"] * 2
    assert [r.prompt_id for r in found.responses] == ["p0", "p1"]
    limits = {(r.sampling.temperature, r.sampling.max_tokens) for r in seen}
    assert limits == {(0.3, 9), (0.3, 8)}
    gained = gain(here, LengthJudge(), PROMPTS, FIRST, found.responses, model="M")
    assert (gained.model, gained.benchmark, gained.metric) == ("M", "refinement", "gain")
    assert gained.prompt_ids == ("p0", "p1")
    assert gained.values == (2.0, 2.0)
    assert gained.unscored == 1
    lost = [json.loads(line) for f in tmp_path.rglob("counts.jsonl") for line in f.open()]
    assert {"an empty critique": 1} in [count["dropped"] for count in lost]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("pairs.keep=all", "have no effect in self_refine"),
        ("pairs.min_gap=1", "have no effect in self_refine"),
        ("traces=0", "setting traces: expected 1 or more"),
        ("refine.critique_prompt=nope", "unknown judge prompt 'nope'"),
        ("refine.refined_tokens=0", "setting refine.refined_tokens: expected 1 or more"),
        ("refine.review_prompt=nope", "unknown judge prompt 'nope'"),
        ("refine.fields=[score]", "refine.fields: has no effect with refine.style=two"),
        ("refine={style: one, fields: [praise]}", "unknown field of a review 'praise'"),
        ("refine.gate=longer", "refine.gate: has no effect with refine.keep=all"),
        ("refine.ift=2", "setting refine.ift"),
        ("controls=[dice]", "unknown control 'dice'"),
    ],
)
def test_settings_without_sense_are_refused(given: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        assemble(registry.get("recipe", "self_refine"), None, [given], {})


def test_winners_are_imitated() -> None:
    recipe = registry.get("recipe", "self_refine")
    config = assemble(recipe, None, ["pairs.keep=winners", "iterations=2", "controls=[]"], {})
    assert isinstance(config, SelfRefineConfig)
    assert config.refine.critique_prompt == "short_critique"  # of the sandbox's preset
    models = plan_study(recipe, config).models
    assert list(models) == ["M0", "M1", "R1", "R2", "R3"]
    assert "SFT on" in models["R2"]


def reviews(request, sample):
    """Writes reviews of all but the last question's response."""
    if "question 2" in request.messages[0].content:
        return "It is fine."
    return "Score: 1\nImproved response: one two three"


def test_one_reply_is_imitated_whole_and_its_last_field_is_the_refinement(tmp_path: Path) -> None:
    here = context(tmp_path)
    settings = RefineSettings(style="one", fields=("score",), critique_tokens=9, refined_tokens=8)
    found = refine_by(here, ScriptedEngine(reviews), PROMPTS, FIRST, settings)
    assert [r.text for r in found.responses] == ["one two three"] * 2
    assert [r.id for r in found.responses] == ["p0/M1/0/refined", "p1/M1/0/refined"]
    (lesson, _) = found.lessons
    assert (lesson.task, lesson.response.text) == ("refine", reviews_text())
    assert "Score, Improved response" in lesson.prompt.text
    (counts,) = tmp_path.glob("stages/*-review/counts.jsonl")
    (count,) = [json.loads(line) for line in counts.open()]
    assert (count["kept"], count["dropped"]) == (2, {"no review in the form asked for": 1})


def reviews_text() -> str:
    return "Score: 1\nImproved response: one two three"


def test_a_gate_keeps_refinements_that_score_higher(tmp_path: Path) -> None:
    texts = ["one two three", "four five", "six"]  # longer, as long, shorter
    refined = [replace(r, id=f"{r.id}/refined", text=t) for r, t in zip(FIRST, texts, strict=True)]
    kept = better_refinements(context(tmp_path), LengthJudge(), PROMPTS, FIRST, refined)
    assert [r.text for r in kept] == ["one two three"]
    (counts,) = tmp_path.glob("stages/*-gate/counts.jsonl")
    (count,) = [json.loads(line) for line in counts.open()]
    assert count["dropped"] == {"the refinement is not better": 2}


def test_a_plan_of_gated_reviews_in_one_reply() -> None:
    recipe = registry.get("recipe", "self_refine")
    given = ["refine.style=one", "refine.keep=better", "refine.gate=sandbox:oracle"]
    plan = plan_study(recipe, assemble(recipe, None, given, {}))
    assert list(plan.models) == ["M0", "M1", "R1", *CONTROLS.values(), "R2"]
