"""Rollouts of an engine: its weights follow the trainer's, draws are committed, alarms ring."""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from alignlab.errors import BadInput
from alignlab.models.adapters import LoraConfig
from alignlab.objectives.grpo import GRPO
from alignlab.objectives.ppo import PPO
from alignlab.objectives.rloo import RLOO
from alignlab.training.drawn_rollouts import FILE
from alignlab.training.environment import Environment
from alignlab.training.mismatch import FILE as ALARM
from alignlab.training.rollout_config import RolloutConfig
from alignlab.training.rollouts import train_rollouts
from alignlab.training.trainer_state import TrainingCallbacks
from alignlab.types import Message, Prompt
from tests.models.helpers import tiny_lm
from tests.training.following import Follower
from tests.training.playing import sampler

SERVED = RolloutConfig(
    lr=3e-3, batch_size=3, steps=5, responses=3, max_tokens=6, save_every=2, seed=5, engine="vllm"
)
PROMPTS = [Prompt(f"p{i}", (Message("user", f"say {i}"),)) for i in range(6)]


def parity(groups, seed):
    """A reward of every response that differs within groups from the first step on."""
    return [tuple(float(sum(s.tokens) % 5) for s in g.samples) for g in groups]


def go(config: RolloutConfig, out: Path, engine: Any = None, objective: Any = None, **hooks: Any):
    return train_rollouts(
        tiny_lm(scale=1.0),
        objective or RLOO(),
        PROMPTS,
        config,
        out,
        environment=Environment(sampler(config), parity, engine),
        hooks=TrainingCallbacks(**hooks),
    )


def weights_of(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model/model.safetensors")


def lines_of(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith("time/")} for line in lines]


def rollouts_of(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / FILE).read_text().splitlines()]
    return [line for line in lines if "version" in line]


class Killed(Exception):
    pass


def killer(at: int):
    def kill(metrics: Any, step: int, total: int) -> None:
        if step == at:
            raise Killed

    return kill


def test_an_engine_that_follows_trains_as_the_local_sampler_does(tmp_path: Path) -> None:
    engine = Follower(SERVED)
    go(SERVED, tmp_path / "engine", engine)
    go(replace(SERVED, engine="local"), tmp_path / "local")
    assert engine.updates == [0, 1, 2, 3, 4]
    served, local = weights_of(tmp_path / "engine"), weights_of(tmp_path / "local")
    start = dict(tiny_lm(scale=1.0).model.named_parameters())
    assert max(float((local[n] - start[n].detach()).abs().max()) for n in local) > 1e-3
    for name, weight in local.items():
        assert torch.allclose(served[name], weight, atol=1e-5)
    for line in lines_of(tmp_path / "engine"):
        assert line["sampler/staleness"] == line["sampler/alarm"] == line["sampler/truncated"] == 0
        assert line["sampler/mismatch"] < 1e-5 < line["sampler/bound"]
        assert line["sampler/importance"] == pytest.approx(1, abs=1e-4)
    assert lines_of(tmp_path / "local")[0]["sampler/mismatch"] < 1e-5


def test_one_step_ahead_draws_by_the_weights_before_the_step(tmp_path: Path) -> None:
    config = replace(SERVED, ahead=1)
    engine = Follower(config)
    go(config, tmp_path, engine)
    rollouts = rollouts_of(tmp_path)
    versions = {r["step"]: r["version"] for r in rollouts}
    assert versions == {1: 0, 2: 0, 3: 1, 4: 2, 5: 3}
    assert all(r["staleness"] == r["step"] - 1 - r["version"] for r in rollouts)
    assert Counter(r["step"] for r in rollouts) == dict.fromkeys(range(1, 6), 3)
    lines = lines_of(tmp_path)
    assert [line["sampler/staleness"] for line in lines] == [0, 1, 1, 1, 1]
    # Equal weights are compared: no alarm, though the weights that drew are a step old.
    assert all(line["sampler/mismatch"] < 1e-5 for line in lines[:4])
    assert "sampler/mismatch" not in lines[4]  # nothing is drawn after the last step
    assert all(abs(line["sampler/importance"] - 1) > 1e-5 for line in lines[1:])


@pytest.mark.parametrize("ahead", [0, 1])
@pytest.mark.parametrize(
    "objective", [RLOO(), GRPO(), PPO()], ids=lambda objective: type(objective).__name__
)
def test_committed_rollouts_alone_give_the_same_run(
    tmp_path: Path, objective: Any, ahead: int
) -> None:
    config = replace(SERVED, ahead=ahead)
    go(config, tmp_path / "whole", Follower(config), objective)
    committed = (tmp_path / "whole" / FILE).read_bytes()
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / FILE).write_bytes(committed)
    silent = Follower(config, salt=1)
    go(config, tmp_path / "again", silent, objective)
    assert (silent.updates, silent.asked) == ([], 0)
    assert (tmp_path / "again" / FILE).read_bytes() == committed
    assert lines_of(tmp_path / "again") == lines_of(tmp_path / "whole")
    one, other = weights_of(tmp_path / "whole"), weights_of(tmp_path / "again")
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("ahead", [0, 1])
def test_a_killed_run_uses_what_was_committed_and_asks_for_the_rest(
    tmp_path: Path, ahead: int
) -> None:
    config = replace(SERVED, ahead=ahead)
    with pytest.raises(Killed):
        go(config, tmp_path, Follower(config), on_step=killer(3))  # after the checkpoint of step 2
    before = (tmp_path / FILE).read_bytes()
    assert {r["step"] for r in rollouts_of(tmp_path)} == set(range(1, 4 + ahead))
    half = before + b'{"step": 5, "refill": 0, "version"'  # killed in the middle of a line
    (tmp_path / FILE).write_bytes(half)

    restarted = Follower(config, salt=1)  # which draws something else
    result = go(config, tmp_path, restarted)
    assert result.trained.resumed_from == 2
    assert restarted.asked == 2 - ahead
    assert restarted.updates == ([4] if ahead else [3, 4]) or restarted.updates == [3]
    after = (tmp_path / FILE).read_bytes()
    assert after.startswith(before)
    asked = Counter((r["step"], r["prompt_id"]) for r in rollouts_of(tmp_path))
    assert len(asked) == 5 * 3
    assert set(asked.values()) == {1}
    assert result.rollouts == 5 * 3 * 3


def test_stale_weights_ring(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = replace(SERVED, lr=3e-2)
    with caplog.at_level(logging.WARNING):
        go(config, tmp_path, Follower(config, follows=False))
    assert [line["sampler/alarm"] for line in lines_of(tmp_path)] == [0, 1, 1, 1, 1]
    assert "step 2: the engine samples from another model" in caplog.text


def test_stale_weights_ring_one_step_ahead(tmp_path: Path) -> None:
    config = replace(SERVED, lr=3e-2, ahead=1)
    go(config, tmp_path, Follower(config, follows=False))
    assert [line.get("sampler/alarm") for line in lines_of(tmp_path)] == [0, 1, 1, 1, None]


def test_the_bound_is_the_trainers_own_rounding_measured_once(tmp_path: Path) -> None:
    config = replace(SERVED, steps=3, save_every=1)
    with pytest.raises(Killed):
        go(config, tmp_path / "one", Follower(config), on_step=killer(2))
    measured = json.loads((tmp_path / "one" / ALARM).read_text())
    assert 0 < measured["rounding"] < 0.1
    go(config, tmp_path / "one", Follower(config))
    bounds = {line["sampler/bound"] for line in lines_of(tmp_path / "one")}
    assert bounds == {1.5 * measured["rounding"]}
    # The same rounding, seen from the other side.
    go(replace(config, dtype="bfloat16"), tmp_path / "half", Follower(config))
    half = json.loads((tmp_path / "half" / ALARM).read_text())
    assert half["rounding"] == pytest.approx(measured["rounding"], rel=0.25)
    lines = lines_of(tmp_path / "half")
    assert all(0 < line["sampler/mismatch"] <= line["sampler/bound"] for line in lines)


def test_an_adapter_is_merged_before_it_is_sent(tmp_path: Path) -> None:
    config = replace(SERVED, lora=LoraConfig(r=2, dora=True), lr=3e-2)
    go(config, tmp_path, Follower(config))
    lines = lines_of(tmp_path)
    assert all(line["sampler/mismatch"] < 1e-4 for line in lines)
    assert lines[-1]["objective/kl"] > 1e-3


def test_refills_are_committed_too(tmp_path: Path) -> None:
    config = replace(SERVED, refills=1, batch_size=2, steps=3)

    def equal(groups, seed):
        return [(1.0,) * len(g.samples) for g in groups]

    engine = Follower(config)
    train_rollouts(
        tiny_lm(scale=1.0), GRPO(), PROMPTS, config, tmp_path,
        environment=Environment(sampler(config), equal, engine),
    )  # fmt: skip
    places = Counter((r["step"], r["refill"]) for r in rollouts_of(tmp_path))
    assert places == {(step, refill): 2 for step in (1, 2, 3) for refill in (0, 1)}


def test_rollouts_of_another_run_or_too_old_ones_are_refused(tmp_path: Path) -> None:
    config = replace(SERVED, ahead=1, save_every=0)
    go(config, tmp_path, Follower(config))
    with pytest.raises(BadInput, match="expected rollouts of this run"):
        go(replace(config, seed=6), tmp_path, Follower(config))
    lines = (tmp_path / FILE).read_text().splitlines(True)
    plain = json.loads(lines[1])
    lines[1] = json.dumps(plain | {"staleness": 2}) + "\n"
    (tmp_path / FILE).write_text("".join(lines))
    with pytest.raises(BadInput, match=r"line 5: expected 3 prompts of step 1, at most 1 steps"):
        go(config, tmp_path, Follower(config))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"engine": "local", "ahead": 1}, "ahead: has no effect with engine=local"),
        ({"engine": "local", "importance_cap": 3.0}, "importance_cap: has no effect"),
        ({"ahead": 1, "refills": 1}, "ahead: expected 0 with refills"),
        ({"quant": "nf4", "lora": LoraConfig()}, "engine: expected local with quant=nf4"),
    ],
)
def test_settings_that_cannot_hold_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        replace(SERVED, **settings)
