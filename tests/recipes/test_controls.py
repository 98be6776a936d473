"""Controls of every study, marked as such with what they must do."""

from __future__ import annotations

import pytest

from alignlab import registry
from alignlab.commands.preflight import plan_study
from alignlab.commands.run import assemble
from alignlab.recipes.controls import EQUAL_COMPUTE, NEGATIVE, POSITIVE, with_roles

WITHOUT = {
    "relevance_reward", "scaling", "self_rewarding", "teacher_critic_grid",
    "teacher_demonstration", "teacher_reward",
}  # fmt: skip
"""Studies whose controls are a model that other studies train, or a baseline."""
RANDOM_ALONE = {"compare_feedback", "compare_objectives"}


@pytest.mark.parametrize("name", sorted({*registry.names("recipe")} - WITHOUT))
def test_every_control_is_a_model_of_the_study(name: str) -> None:
    recipe = registry.get("recipe", name)
    settings = ["model=sandbox:knows_all", "preset=quick", "data=sandbox"]
    models = plan_study(recipe, assemble(recipe, None, settings, {})).models
    roles = {NEGATIVE} if name in RANDOM_ALONE else {NEGATIVE, POSITIVE, EQUAL_COMPUTE}
    assert {*recipe.controls.values()} == roles
    for role in roles:
        assert any(made.startswith(f"{role}: ") for made in models.values())
    assert "M1" not in {m for m, made in models.items() if made.startswith("control")}


def test_a_role_is_written_once() -> None:
    controls = {"by coin": NEGATIVE}
    once = with_roles({"M2 by coin": "M1 after DPO", "M2": "M1 after DPO"}, controls)
    assert once == {"M2 by coin": f"{NEGATIVE}: M1 after DPO", "M2": "M1 after DPO"}
    assert with_roles(once, controls) == once
