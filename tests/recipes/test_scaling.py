"""The scaling recipe's settings, and its sweep over base models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from alignlab import progress, registry
from alignlab.commands.preflight import plan_study
from alignlab.commands.run import assemble, run
from alignlab.context import resolve_model
from alignlab.errors import BadInput
from alignlab.measuring.measure import BranchResult, Judgement
from alignlab.recipes.scaling import ScalingConfig, _once, _sizes
from tests.recipes.small import SMALL
from tests.stages.making import prompt, rated, responses

TINY = (*SMALL, "propose.n=8", "sample.max_tokens=16", "judge.max_tokens=12")


@pytest.fixture
def shorter(tmp_path: Path) -> Path:
    """The sandbox's model with one layer less."""
    source, folder = Path(resolve_model("sandbox:knows_all").path), tmp_path / "shorter"
    shutil.copytree(source, folder)
    model = AutoModelForCausalLM.from_pretrained(source)
    model.model.layers = model.model.layers[:-1]
    model.config.num_hidden_layers -= 1
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = model.config.layer_types[:-1]
    model.save_pretrained(folder)
    return folder


def test_base_models_make_two_curves(shorter, tmp_path):
    progress.use(progress.Silent())
    out = tmp_path / "run"
    settings = ("along=parameters", f"models=[{shorter}]", "teacher=sandbox:strong", "iterations=1")
    run("scaling", *TINY, *settings, f"out={out}")
    progress.use(None)
    points = [json.loads(line) for line in next(out.rglob("scaling.jsonl")).open()]
    measured = {p["model"]: p for p in points if p["model"]}
    assert set(measured) == {"M1", "M2", "M1 of shorter", "M2 of shorter"}
    assert measured["M1"]["at"] > measured["M1 of shorter"]["at"] > 0
    assert {p["series"] for p in points} == {"before feedback", "after feedback"}
    assert {p["along"] for p in points} == {"parameters"}
    assert 'id="scaling"' in (out / "report.html").read_text()


def test_rounds_share_the_datas_prompts(tmp_path):
    progress.use(progress.Silent())
    settings = ("along=iterations", "teacher=sandbox:strong", "iterations=2", "prompts=7")
    run("scaling", *TINY, *settings, "propose.n=0", f"out={tmp_path / 'run'}")
    progress.use(None)
    drawn = []
    for number in (1, 2):
        (file,) = (tmp_path / f"run/stages/iteration-{number}").glob("*propose/prompts.jsonl")
        drawn.append({json.loads(line)["id"] for line in file.open()})
    first, second = drawn
    assert (len(first), len(second)) == (4, 3)
    assert not first & second


def test_models_of_one_size_are_refused():
    config = ScalingConfig(along="parameters", models=("sandbox:knows_all",))
    with pytest.raises(BadInput, match="different sizes"):
        _sizes(config)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"shares": (0.5, 1.0)}, "shares: has no effect"),
        ({"models": ("x",)}, "models: has no effect"),
        ({"equal": "steps"}, "equal: has no effect"),
        ({"along": "parameters"}, "expected one or more further models"),
        ({"along": "prompts", "shares": (1.0,)}, "two or more rising"),
        ({"along": "prompts", "shares": (1.0, 0.5)}, "two or more rising"),
        ({"along": "prompts", "shares": (0.5, 1.5)}, "two or more rising"),
        ({"along": "prompts", "shares": (0.0, 1.0)}, "two or more rising"),
    ],
)
def test_settings_that_make_no_sweep_are_refused(settings, says):
    with pytest.raises(BadInput, match=says):
        ScalingConfig(**settings)


def plan(*settings):
    recipe = registry.get("recipe", "scaling")
    return plan_study(recipe, assemble(recipe, None, [*TINY, *settings], {}))


def test_models_are_named_by_their_size(shorter):
    named = plan("along=prompts", "shares=[0.125,1]", "iterations=1").models
    assert list(named) == ["M0", "M1", "M2 on 12.5% of prompts", "M2 on 100% of prompts"]
    named = plan("along=parameters", f"models=[{shorter}]", "iterations=1").models
    own = ["M0 of shorter", "M1 of shorter", "M2 of shorter"]
    assert list(named) == ["M0", "M1", "M2", *own]


def test_the_check_counts_all_trainings():
    settings = ("iterations=2", "teacher=sandbox:strong", "critic.samples=1")
    for along, prompts in (("along=prompts", 4 + 8), ("along=iterations", 8)):
        shares = ["shares=[0.5,1]"] if along == "along=prompts" else []
        asked = {(c.what, c.by): c.number for c in plan(along, *shares, *settings).calls}
        assert asked["judgements", "sandbox:strong"] == prompts * 2 * 4


def test_a_judge_is_measured_once_on_the_largest_part():
    asked = prompt(0)
    (answer,) = responses(asked, "text")
    small, large = (Judgement("M1", "own", (), (rated(answer, 1.0),) * n) for n in (1, 3))
    held_out = Judgement("M1", "held-out", (), ())
    for order in ((small, held_out, large), (large, held_out, small)):
        kept = _once(BranchResult(judgements=order)).judgements
        assert set(map(id, kept)) == {id(large), id(held_out)}


def test_a_feedback_source_judges_in_a_teachers_place(tmp_path):
    progress.use(progress.Silent())
    out = tmp_path / "run"
    run(
        "scaling",
        *TINY,
        "along=prompts",
        "shares=[0.5,1]",
        "teacher=longer",
        "iterations=1",
        f"out={out}",
    )
    progress.use(None)
    (given,) = (out / "stages").glob("on-100-of-prompts/iteration-1/01-judge/feedback.jsonl")
    assert {json.loads(line)["source"] for line in given.open()} == {"longer"}


def test_a_teacher_that_judges_by_no_model_needs_no_other_judge_and_cannot_answer():
    assert ScalingConfig(teacher="verifier").teacher_specs == {}
    assert ScalingConfig(teacher="sandbox:strong").teacher_specs == {"teacher": "sandbox:strong"}
    spec = "reward_model:./rm"
    assert ScalingConfig(teacher=spec).teacher_specs == {"teacher": spec}
    teaching = registry.get("recipe", "teacher_demonstration")
    config = assemble(teaching, None, [*TINY, "teacher=longer"], {})
    with pytest.raises(BadInput, match="engine 'longer'"):
        plan_study(teaching, config)


def test_equal_steps_are_more_epochs_on_fewer_prompts(tmp_path):
    progress.use(progress.Silent())
    out = tmp_path / "run"
    run(
        "scaling", *TINY, "along=prompts", "shares=[0.5,1]", "teacher=longer", "iterations=1",
        "equal=steps", "preference.epochs=2", f"out={out}",
    )  # fmt: skip
    progress.use(None)
    epochs = {}
    for file in out.glob("stages/on-*/iteration-1/*-m2-*/config.json"):
        made = json.loads(file.read_text())
        if "objective" in made["config"]:  # the training, not the answers
            epochs[made["name"]] = made["config"]["config"]["epochs"]
    assert epochs == {"m2-on-50-of-prompts": 4, "m2-on-100-of-prompts": 2}
