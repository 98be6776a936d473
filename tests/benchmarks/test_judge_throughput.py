"""The throughput benchmark of judging runs and tells what it should; never how fast."""

from __future__ import annotations

import json

import pytest

from tests.benchmarks.running import benchmark


@pytest.mark.slow
def test_quick() -> None:
    ran = benchmark("judge_throughput.py", "--quick", "--json", "--calls", "16", "--rounds", "1")
    assert ran.returncode == 0, ran.stderr[-2000:]
    rows = json.loads(ran.stdout)
    assert [row["side"] for row in rows] == ["bare client", "engine", "stage judge"]
    for row in rows:
        assert (row["calls"], row["concurrency"], row["rounds"]) == (16, 64, 1)
        low, high = row["ratio_range"]
        assert 0 < low <= row["ratio"] <= high
        assert row["per_s"] > 0 < row["cpu_ms"]
