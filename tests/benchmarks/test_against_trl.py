"""The comparisons with TRL do the same work on both sides; how fast is never asked here."""

from __future__ import annotations

import json
from typing import Any

import pytest

from alignlab.context import resolve_model
from tests.benchmarks.running import benchmark

pytest.importorskip("trl", reason="trl is not installed (pip install alignlab[dev])")


def _rows(script: str) -> list[dict[str, Any]]:
    ran = benchmark(script, "--quick", "--json")
    assert ran.returncode == 0, ran.stderr[-2000:]
    rows: list[dict[str, Any]] = json.loads(ran.stdout)
    for row in rows:
        low, high = row["range"]
        assert 0 < low <= row["ratio"] <= high
        assert row["peak_ratio"] > 0
    return rows


@pytest.mark.heavy
def test_training_starts_from_the_same_loss() -> None:
    """The first step's loss, log-probabilities and gradient norm are TRL's."""
    pairs, lists = _rows("train_vs_trl.py")
    assert (pairs["data"], pairs["k"], pairs["dtype"], pairs["model"]) == (
        "tiny", 2, "float32", "tiny"
    )  # fmt: skip
    assert pairs["loss_diff"] < 1e-5
    assert pairs["grad_norm_diff"] < 1e-4
    assert lists["k"] == 4
    assert lists["loss_diff"] is None
    assert max(pairs["logps_diff"], lists["logps_diff"]) < 1e-3


@pytest.mark.heavy
def test_rollouts_are_alike() -> None:
    """As many tokens are drawn, and their scores are as good."""
    (row,) = _rows("rollout_vs_trl.py")
    assert (row["objective"], row["k"], row["dtype"], row["model"]) == (
        "grpo", 4, "float32", "tiny"
    )  # fmt: skip
    assert 0.7 < row["length_ratio"] < 1.4
    assert row["reward_diff"] < 0.3


@pytest.mark.heavy
def test_processes_one_at_a_time_take_the_same_steps() -> None:
    """Apart or side by side, the first step's loss is that of the same pairs."""
    model = resolve_model("sandbox:knows_all").path
    ran = benchmark(
        "train_vs_trl.py", "--folder", model, "--pairs", "sandbox", "-k", "2", "--dtype", "float32",
        "--prompts", "2", "--rounds", "2", "--trl-batch", "2", "--apart", "--json",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    (row,) = json.loads(ran.stdout)
    assert row["steps"] == 2
    assert row["loss_diff"] < 1e-5
    assert row["grad_norm_diff"] < 1e-4
