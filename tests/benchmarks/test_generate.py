"""The generation benchmark runs and tells what it should; how fast is never asked here."""

from __future__ import annotations

import json

import pytest

from tests.benchmarks.running import benchmark


@pytest.mark.heavy
def test_quick() -> None:
    """Three processes start, which takes seconds."""
    ran = benchmark("generate.py", "--quick", "--json", "--dtype", "float32")
    assert ran.returncode == 0, ran.stderr[-2000:]
    (row,) = json.loads(ran.stdout)
    assert (row["data"], row["k"], row["dtype"], row["model"]) == (
        "uf prompts", 4, "float32", "tiny"
    )  # fmt: skip
    assert row["against"] == "transformers"
    assert row["tokens"] == 4 * 4 * 8
    low, high = row["range"]
    assert 0 < low <= row["ratio"] <= high
    assert row["ours_per_s"] > 0 < row["theirs_per_s"]
    assert row["peak_ratio"] > 0
    assert row["rounds"] == 2
    assert "transformers: transformers" in row["versions"]


def test_vllm_needs_an_interpreter() -> None:
    ran = benchmark("generate.py", "--quick", "--against", "vllm")
    assert ran.returncode != 0
    assert "--vllm" in ran.stderr
