"""A study by LoRA keeps adapters, and its records are those of a study that kept merged models."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import equal

from alignlab import registry
from alignlab.commands._support.training_memory import training_memory
from alignlab.commands.export import export
from alignlab.commands.preflight import plan_study
from alignlab.commands.run import assemble, run
from alignlab.integrity import damages
from alignlab.models.load import load
from alignlab.run_models import final_model, models_of
from alignlab.sandbox import checkpoint_path
from alignlab.training.config import TrainConfig
from tests.recipes import kill_resume
from tests.recipes.small import SMALL

LORA = (
    *SMALL,
    "branches=[dpo,rloo]",
    "reward=model",
    "reward_training.epochs=1",
    "groups=data",
    "divergence=4",
    "measure.judge=longer",
    "rollout={steps: 2, batch_size: 4, max_tokens: 16, lora: {r: 2}}",
    *(f"{part}.lora.r=2" for part in ("sft", "preference", "reward_training")),
)
TRAINED = {"m1", "reward-model", "dpo/dpo", "rloo/rloo"}


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("alone") / "run"
    run("compare_objectives", *LORA, f"out={out}")
    return out


@pytest.fixture(scope="module")
def merging(tmp_path_factory) -> Path:
    """The same study, whose trainings merge."""
    out = tmp_path_factory.mktemp("merged") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("alignlab.context.saves_adapter", lambda config, sharded: False)
        run("compare_objectives", *LORA, f"out={out}")
    return out


def records(run: Path) -> dict[str, bytes]:
    found = kill_resume.contents(run)
    del found["manifest.json"]  # its costs
    # The cache of the reference is named by its weights, in the type that they are held in.
    named = {re.sub(r"reference/\w+", "reference/x", name): found[name] for name in found}
    return {name: held for name, held in named.items() if not name.endswith(".safetensors")}


def test_records_are_those_of_merged_models(study, merging):
    assert kill_resume.differences(records(merging), records(study)) == ()


def test_models_are_adapters_alone(study, merging):
    assert {model.name for model in models_of(study)} == TRAINED
    for model in models_of(study):
        assert {f.name for f in model.folder.glob("*.safetensors")} == {"adapter_model.safetensors"}
        assert not (model.folder.parent / "adapter").exists()
        whole = merging / model.folder.parent.relative_to(study)
        one, other = (
            load_file(folder / "adapter_model.safetensors")
            for folder in (model.folder, whole / "adapter")
        )
        assert one.keys() == other.keys()
        assert all(equal(one[name], other[name]) for name in one)
    sizes = [sum(f.stat().st_size for f in r.rglob("*.safetensors")) for r in (study, merging)]
    assert sizes[0] < sizes[1] / 4


def test_a_branch_is_exported_merged(study, merging, tmp_path):
    (place,) = [m.folder for m in models_of(study) if m.name == "dpo/dpo"]
    export(str(place.parent), tmp_path / "out")
    expected = load(merging / place.relative_to(study)).model.state_dict()
    found = load(tmp_path / "out").model.state_dict()
    assert all(equal(weight, expected[name]) for name, weight in found.items())
    card = (tmp_path / "out/README.md").read_text()
    assert "knows_all" in card  # the base, through both trainings
    (reward,) = [m.folder for m in models_of(study) if m.name == "reward-model"]
    export(str(reward), tmp_path / "reward")
    assert "Classification" in (tmp_path / "reward/config.json").read_text()


@pytest.mark.slow
def test_weights_that_nobody_keeps_leave_a_whole_study(tmp_path, study):
    out = tmp_path / "run"
    run("compare_objectives", *LORA, f"out={out}", "keep_weights=false")
    assert not list(out.rglob("*.safetensors"))
    assert not list(damages(out))
    assert records(out) == records(study)
    run("compare_objectives", *LORA, f"out={out}", "keep_weights=false")  # resumed


def test_one_branch_is_the_final_model_of_its_study(tmp_path):
    out = tmp_path / "run"
    run("compare_objectives", *LORA, "branches=[dpo]", "reward=feedback", f"out={out}")
    assert final_model(out).parent.name.endswith("dpo")
    assert load(out).path == str(final_model(out))


def test_disk_and_memory_are_planned_for_adapters():
    recipe = registry.get("recipe", "compare_objectives")

    def planned(*settings):
        return plan_study(recipe, assemble(recipe, None, [*LORA, *settings], {}))

    whole, alone = planned("sft.lora=null"), planned()
    parameters = sum(
        tensor.numel()
        for tensor in load_file(checkpoint_path("knows_all") / "model.safetensors").values()
    )
    ratio = (whole.disk_gigabytes - alone.disk_gigabytes) * 1e9 / parameters
    # M1 in float32, and its optimiser's states in two checkpoints, less a hundredth for adapters.
    assert ratio == pytest.approx(4 + 12 * 2, rel=0.1)


def test_an_adapter_saved_alone_is_not_merged_in_memory():
    from alignlab.models.adapters import LoraConfig
    from tests.commands.test_training_memory import FACTS

    config = TrainConfig(batch_size=1, token_budget=64, lora=LoraConfig(r=8))
    large = 10**9
    facts = FACTS.__class__(**{**vars(FACTS), "parameters": large, "stored": "float32"})
    options = {"half": True, "step": 0, "group": 0, "what": "dpo"}
    merged, alone = (
        training_memory(facts, config, **options, alone=alone) for alone in (False, True)
    )
    assert (merged.of, merged.gigabytes) == ("saving the merged model", 12.45)
    assert (alone.of, alone.gigabytes) == ("loading the model that it starts from", 6.45)
    reward = training_memory(facts, config, **options, alone=True, rewards=True)
    assert reward.gigabytes == 8.45


@pytest.mark.heavy
def test_a_study_killed_ten_times_equals_one_left_alone(tmp_path):
    fine = (*LORA, *kill_resume.FINE)
    kill_resume.finish(("compare_objectives", *fine), tmp_path / "whole")
    outcome = kill_resume.kill_and_compare(
        tmp_path / "whole", tmp_path / "run", ("compare_objectives", *fine), kills=10, seed=1
    )
    assert outcome.differences == ()
    assert outcome.kills >= 6
    assert records(tmp_path / "run").keys() == records(tmp_path / "whole").keys()


def test_the_settings_of_a_stage_do_not_name_how_it_is_saved(study, merging):
    """Studies of earlier versions, which saved merged models, can be resumed."""
    for model in models_of(study):
        stage = model.folder.parent.relative_to(study)
        one, other = (json.loads((r / stage / "config.json").read_text()) for r in (study, merging))
        assert one == other
