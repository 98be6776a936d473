"""Reinforcement learning from checked answers and from a function of one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import alignlab as al
from alignlab import progress
from alignlab.errors import BadInput
from alignlab.models.load import save
from alignlab.records import read_records
from alignlab.stages.rollout import RolledOut
from tests.models.helpers import tiny_lm

QUICK: dict[str, Any] = {
    "lr": 1e-3, "batch_size": 4, "responses": 4, "max_tokens": 6, "steps": 3, "save_every": 2,
    "threads": 1, "device": "cpu",
}  # fmt: skip
REWARD = """
def vowels(response, reference):
    return sum(response.count(v) for v in "aeiou") / (1 + len(response)) + 0 * int(reference)

def broken(responses):
    return [1.0 / len(text.strip("")) if False else missing for text in responses]
"""


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    progress.use(progress.Silent())
    yield
    progress.use(None)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save(tiny_lm(scale=1.0), tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture
def sums(tmp_path: Path) -> str:
    rows = [{"prompt": f"{n} + {n}?", "reference": str(2 * n)} for n in range(1, 12)]
    rows.append({"prompt": "Why?", "reference": ""})
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def rolled(run: Any) -> RolledOut:
    (one,) = read_records(Path(run.model.path).with_name("trained.jsonl"), RolledOut)
    return one


def test_the_verifier_is_a_reward(model: str, sums: str, tmp_path: Path) -> None:
    run = al.train("rloo", model, sums, reward="verifier", out=tmp_path / "run", **QUICK)
    done = rolled(run)
    # The prompt without a reference is left out of training and counted: 4 of 12 x 4 responses.
    assert (done.steps, done.rollouts, done.unscored) == (3, 48, 4)


def test_tasks_of_a_gym(model: str, tmp_path: Path) -> None:
    pytest.importorskip("reasoning_gym")
    given = {"reward": "verifier", "out": tmp_path / "run"}
    run = al.train("grpo", model, "gym:chain_sum?n=12&seed=1", **given, **QUICK)
    assert rolled(run).unscored == 0
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["inputs"]["gym:chain_sum"].startswith("reasoning-gym ")


def test_a_function_is_a_reward_and_its_file_an_input(
    model: str, sums: str, tmp_path: Path
) -> None:
    file = tmp_path / "rewards.py"
    file.write_text(REWARD.replace("int(reference)", "len(reference or '')"))
    out = tmp_path / "run"
    spec = f"python:{file}:vowels"
    run = al.train("grpo", model, sums, reward=spec, out=out, **QUICK)
    assert rolled(run).unscored == 0
    assert str(file) in json.loads((out / "manifest.json").read_text())["inputs"]
    file.write_text(REWARD + "\n# changed")
    with pytest.raises(BadInput, match=r"rewards\.py: changed since this run was started"):
        al.train("grpo", model, sums, reward=spec, out=out, **QUICK)
    with pytest.raises(BadInput, match=r"rewards\.py, line 6, broken, .* found NameError"):
        al.train(
            "grpo", model, sums, reward=f"python:{file}:broken", out=tmp_path / "other", **QUICK
        )


def test_a_function_goes_in_as_it_is(model: str, sums: str, tmp_path: Path) -> None:
    def brief(response: str) -> float:
        return -float(len(response))

    run = al.train("rloo", model, sums, reward=brief, out=tmp_path / "run", **QUICK)
    assert rolled(run).unscored == 0
