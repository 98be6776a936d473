"""Markdown tables hold the summary's figures, whole rows only."""

import json

import pytest

from alignlab.errors import BadInput
from alignlab.report import markdown


def row(model, benchmark, metric, value, low=None, high=None, **more):
    return {
        "model": model, "benchmark": benchmark, "metric": metric, "value": value,
        "low": low, "high": high, "n": 400, "unscored": 3, **more,
    }  # fmt: skip


def test_tables_hold_the_figures(tmp_path):
    rows = [
        row("M1", "score", "mean", 3.5, 3.4, 3.6),
        row("M1", "score", "mean", 1.0, 0.9, 1.1, group="type:open"),
        row("M2", "score", "mean", None),
        row("M2", "head_to_head", "win_rate", 0.5551, 0.51, 0.6),
        row("M1, 3 samples", "judge_own_samples", "spearman", 0.25, 0.2, 0.3),
        row("M1, 3 samples", "judge_own_samples", "pairwise_accuracy", 0.5, 0.4, 0.6),
    ]
    (tmp_path / "summary.json").write_text(json.dumps({"rows": rows}))
    text = markdown(tmp_path)
    assert "| M1 | 3.50 [3.40, 3.60] | - | 400 | 3 |" in text
    assert "| M2 | - | 0.555 [0.510, 0.600] | 400 | 3 |" in text
    assert "| M1, 3 samples | own samples | 0.500 [0.400, 0.600] | - | 0.250 [0.200" in text
    assert "1.00" not in text


def test_an_unfinished_run_is_refused(tmp_path):
    with pytest.raises(BadInput, match="finished run"):
        markdown(tmp_path)
