"""Settings of a recipe: preset under file under key=value."""

import pytest

from alignlab import registry
from alignlab.commands.run import assemble
from alignlab.errors import BadInput
from alignlab.recipes.relevance_reward import lesson_of

RECIPE = registry.get("recipe", "self_rewarding")


def made(*overrides, file=None):
    return assemble(RECIPE, file, overrides, {})


def test_the_sandbox_has_its_own_preset_and_key_value_wins():
    assert made().preset == "sandbox"
    assert made().objective.options == {"beta": 1.0}
    assert made("objective.options.beta=0.2").objective.options == {"beta": 0.2}


def test_presets_follow_the_models_size(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"x" * 1000)
    (tmp_path / "config.json").write_text("{}")
    assert made(f"model={tmp_path}").preset == "small"
    assert made("model=org/name").preset == "paper"
    assert made("model=org/name", "preset=poster").preference.lora.r == 16


def test_another_objective_does_not_take_the_presets_options():
    assert made("objective.name=slic").objective.options == {}
    made("objective.name=slic").objective.build()


def test_a_file_lies_between_preset_and_key_value(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("sft: {lr: 0.5}\npropose: {n: 7}\n")
    chosen = made("propose.n=8", file=file)
    assert (chosen.sft.lr, chosen.sft.epochs, chosen.propose.n) == (0.5, 3, 8)


def test_unknown_settings_name_the_nearest():
    with pytest.raises(BadInput, match=r"unknown setting 'propos'; did you mean 'propose'"):
        made("propos=1")


def test_r3s_preset_is_its_papers_ppo():
    recipe = registry.get("recipe", "relevance_reward")
    chosen = assemble(recipe, None, ("model=org/name", "preset=r3"), {})
    policy = lesson_of(chosen, "r3:ppo")
    assert (policy.objective.kl_target, policy.objective.kl_coef) == (6.0, 0.2)
    assert (policy.config.updates, policy.config.lr) == (4, 1e-5)
    assert policy.config.lora.targets == ("q_proj", "v_proj")


def test_settings_that_a_study_never_reads_are_named(caplog):
    words = ["propose.n=5", "objective.name=ipo", "eft.limit=3", "sft.lr=0.1"]
    assemble(registry.get("recipe", "alternating"), None, words, {})
    expected = "settings without effect in alternating: propose.n, objective.name, eft.limit"
    assert caplog.messages == [expected]
    caplog.clear()
    assemble(RECIPE, None, words, {})
    assert not caplog.messages


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (
            ["sft.schedule=constant", "sft.min_lr_ratio=0.5"],
            "setting sft.min_lr_ratio: has no effect with sft.schedule=constant; leave it out",
        ),
        (
            ["preference.save_every=0", "preference.keep_checkpoints=3"],
            "setting preference.keep_checkpoints: has no effect with preference.save_every=0",
        ),
    ],
)
def test_settings_that_another_makes_idle_are_refused(words, problem):
    with pytest.raises(BadInput, match=problem):
        made(*words)
    made(words[0])
