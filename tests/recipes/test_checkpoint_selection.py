"""The best checkpoint by a judge is kept, on prompts that nothing else uses."""

import json

import pytest

from alignlab import progress
from alignlab.commands.run import run
from alignlab.errors import BadInput
from tests.recipes.small import SMALL

SELECT = ("select.prompts=6", "preference.validate_every=1", "preference.log_every=1")


def test_validation_values_are_recorded_and_prompts_kept_apart(tmp_path):
    progress.use(progress.Silent())
    run("teacher_reward", *SMALL, *SELECT, f"out={tmp_path / 'run'}")
    progress.use(None)
    trained = next(tmp_path.glob("run/stages/iteration-1/[0-9][0-9]-m2-*/trained.jsonl"))
    kept = json.loads(trained.read_text())
    assert 1 <= kept["best_step"] <= kept["steps"]
    assert 0 <= kept["best_value"] <= 5
    seed = next(tmp_path.glob("run/stages/*-seed/prompts.jsonl"))
    last = [json.loads(line)["id"] for line in seed.open()][-6:]
    used = next(tmp_path.glob("run/stages/iteration-1/*-propose/prompts.jsonl")).read_text()
    assert not any(prompt in used for prompt in last)


def test_one_without_the_other_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"select.prompts and preference.validate_every"):
        run("teacher_reward", *SMALL, "select.prompts=6", f"out={tmp_path / 'run'}")
