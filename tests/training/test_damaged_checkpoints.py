"""Checkpoints that a kill, a disk or a hand has damaged: an earlier one, or one clear line."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alignlab.checkpoint_files import newest_whole
from alignlab.errors import BadInput
from alignlab.objectives.dpo import DPO
from alignlab.objectives.ppo import PPO
from alignlab.objectives.reward_model import RewardModel
from alignlab.objectives.rloo import RLOO
from alignlab.objectives.sft import SFT
from alignlab.training.config import TrainConfig
from alignlab.training.loop import train
from alignlab.training.rollout_samples import FILE as SAMPLES
from tests.models.helpers import random_groups, tiny_lm
from tests.training.test_loop import Killed, assert_equal_weights, lines_of, weights_of
from tests.training.test_rollouts import QUICK as ROLLOUTS
from tests.training.test_rollouts import go

CONFIG = TrainConfig(lr=1e-3, epochs=2, batch_size=4, log_every=1, save_every=2, seed=5)
STATE = "checkpoint-4/training_state"


def empty(file: Path) -> None:
    file.write_bytes(b"")


def half(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def remove(file: Path) -> None:
    file.unlink()


def half_of_a_line(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b'{"step": 6, "lo')


Damage = Callable[[Path], None]


def killed(out: Path, objective: Any = None, **settings: Any) -> None:
    """Train for five of eight steps, with checkpoints at the second and the fourth."""

    def kill(metrics: Any, step: int, total: int) -> None:
        if step == 5:
            raise Killed

    with pytest.raises(Killed):
        resumed(out, objective, on_step=kill, **settings)


def resumed(out: Path, objective: Any = None, on_step: Any = None, **settings: Any) -> Any:
    validate = settings.pop("validate", None)
    objective, config = objective or DPO(), replace(CONFIG, **settings)
    groups = random_groups(14, (objective.max_responses or 2,))
    return train(tiny_lm(), objective, groups, config, out, on_step=on_step, validate=validate)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[dict[str, Any]]]:
    out = tmp_path_factory.mktemp("whole")
    return resumed(out), lines_of(out)


@pytest.mark.parametrize("damage", [empty, half, flip, remove])
@pytest.mark.parametrize("name", [f"{STATE}.safetensors", f"{STATE}.json"])
def test_the_checkpoint_before_a_damaged_one_is_resumed(
    tmp_path: Path, whole: Any, name: str, damage: Damage, caplog: pytest.LogCaptureFixture
) -> None:
    killed(tmp_path)
    damage(tmp_path / name)
    with caplog.at_level(logging.WARNING):
        result = resumed(tmp_path)
    assert (result.resumed_from, len(result.damaged)) == (2, 1)
    assert f"{tmp_path / name}: expected" in caplog.text
    assert "resuming from checkpoint-2 instead" in caplog.text
    assert_equal_weights(weights_of(whole[0]), weights_of(result))
    assert lines_of(tmp_path) == whole[1]


@pytest.mark.parametrize("objective", [SFT(), RewardModel()], ids=["sft", "reward model"])
def test_every_training_falls_back(tmp_path: Path, objective: Any) -> None:
    killed(tmp_path / "a", objective)
    half(tmp_path / "a" / f"{STATE}.safetensors")
    result, other = resumed(tmp_path / "a", objective), resumed(tmp_path / "b", objective)
    assert (result.resumed_from, len(result.damaged)) == (2, 1)
    assert_equal_weights(weights_of(other), weights_of(result))


@pytest.mark.parametrize("objective", [PPO(), RLOO()], ids=["ppo", "rloo"])
@pytest.mark.parametrize("name", [f"{STATE}.safetensors", f"{STATE}.json", SAMPLES])
def test_rollouts_fall_back(tmp_path: Path, objective: Any, name: str) -> None:
    def kill(metrics: Any, step: int, total: int) -> None:
        if step == 5:
            raise Killed

    config = replace(ROLLOUTS, steps=6)
    with pytest.raises(Killed):
        go(objective, config, tmp_path / "a", on_step=kill)
    half(tmp_path / "a" / name)
    result, other = (go(objective, config, tmp_path / each) for each in "ab")
    assert (result.trained.resumed_from, len(result.trained.damaged)) == (2, 1)
    assert_equal_weights(weights_of(other.trained), weights_of(result.trained))
    assert lines_of(tmp_path / "a") == lines_of(tmp_path / "b")
    assert (tmp_path / "a" / SAMPLES).read_text() == (tmp_path / "b" / SAMPLES).read_text()


@pytest.mark.parametrize(
    ("damage", "step"), [(half, 2), (half_of_a_line, 4), (lambda file: None, 4)]
)
def test_lines_of_metrics_that_are_lost_are_computed_again(
    tmp_path: Path, whole: Any, damage: Damage, step: int
) -> None:
    killed(tmp_path)
    damage(tmp_path / "metrics.jsonl")
    assert resumed(tmp_path).resumed_from == step
    assert lines_of(tmp_path) == whole[1]


@pytest.mark.parametrize("damage", [empty, half, flip, remove])
def test_a_training_without_a_whole_checkpoint_is_not_begun_again(
    tmp_path: Path, damage: Damage
) -> None:
    killed(tmp_path)
    for file in tmp_path.glob("checkpoint-*/training_state.safetensors"):
        damage(file)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadInput, match=r"checkpoint-4/training_state.*no earlier checkpoint"):
        resumed(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
    remove_all = [tmp_path / "metrics.jsonl", *tmp_path.glob("checkpoint-*/*.json")]
    for file in remove_all:
        file.unlink()
    with pytest.raises(BadInput, match="no earlier checkpoint is whole"):
        resumed(tmp_path)


def test_lost_best_weights_are_no_weights_to_end_with(tmp_path: Path) -> None:
    killed(tmp_path, validate=lambda lm: 1.0, validate_every=3)
    assert newest_whole(tmp_path).path == tmp_path / "checkpoint-4"
    (tmp_path / "best.safetensors").unlink()
    result = resumed(tmp_path, validate=lambda lm: 1.0, validate_every=3)
    assert (result.resumed_from, result.best_step) == (2, 3)


def test_checkpoints_of_earlier_versions_are_held_against_their_lengths(tmp_path: Path) -> None:
    killed(tmp_path)
    for file in tmp_path.glob("checkpoint-*/training_state.json"):
        state = json.loads(file.read_text())
        file.write_text(json.dumps({k: v for k, v in state.items()
                                    if k not in ("files", "logs", "sha256")}))  # fmt: skip
    half(tmp_path / f"{STATE}.safetensors")
    assert resumed(tmp_path).resumed_from == 2
