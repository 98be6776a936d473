"""Presets: the one that applies, and those that extend another."""

from __future__ import annotations

import pytest

from alignlab import configs, registry
from alignlab.commands.run import assemble
from alignlab.recipes.preset import preset_for


@pytest.mark.parametrize("name", registry.names("recipe"))
def test_every_recipe_takes_the_quick_preset(name: str) -> None:
    recipe = registry.get("recipe", name)
    usual = assemble(recipe, None, ["model=sandbox:knows_all"], {})
    quick = assemble(recipe, None, ["model=sandbox:knows_all", "preset=quick"], {})
    assert (usual.preset, quick.preset) == ("sandbox", "quick")
    assert quick.measure == usual.measure
    assert quick.objective == usual.objective
    assert 0 < quick.corpus.test_prompts < usual.corpus.test_prompts


def test_a_preset_extends_another_one() -> None:
    keys = {"corpus", "measure", "rollout", "prompts"}
    sandbox, quick = (
        preset_for("sandbox:knows_all", name, "dpo", keys).settings for name in ("sandbox", "quick")
    )
    assert "extends" not in quick
    changed = {key for key in configs.dotted(quick) if key not in configs.dotted(sandbox)}
    assert changed == {"prompts"}
    assert quick["measure"] == sandbox["measure"]
    assert quick["rollout"]["lr"] == sandbox["rollout"]["lr"]
    assert quick["rollout"]["steps"] < sandbox["rollout"]["steps"]
