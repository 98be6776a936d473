"""Markdown tables hold the summary's figures, whole rows only."""

import json

import pytest

from alignlab.errors import BadInput
from alignlab.records import to_line
from alignlab.report import markdown
from alignlab.types import Drift


def row(model, benchmark, metric, value, low=None, high=None, **more):
    return {
        "model": model, "benchmark": benchmark, "metric": metric, "value": value,
        "low": low, "high": high, "n": 400, "unscored": 3, **more,
    }  # fmt: skip


def run_with(path, rows, drifts=()):
    """Write a run directory that holds these figures."""
    (path / "manifest.json").write_text('{"recipe": "compare_feedback"}')
    files = {"01-results/results.jsonl": map(json.dumps, rows)}
    files["seed-0/ppo/01-drift-ppo/drift.jsonl"] = (to_line(drift).strip() for drift in drifts)
    for name, lines in files.items():
        file = path / "stages" / name
        file.parent.mkdir(parents=True)
        file.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_tables_hold_the_figures(tmp_path):
    rows = [
        row("M1", "score", "mean", 3.5, 3.4, 3.6),
        row("M1", "score", "mean", 1.0, 0.9, 1.1, group="type:open"),
        row("M2", "score", "mean", None),
        row("M2", "head_to_head", "win_rate", 0.5551, 0.51, 0.6),
        row("M1, 3 samples", "judge_own_samples", "spearman", 0.25, 0.2, 0.3),
        row("M1, 3 samples", "judge_own_samples", "pairwise_accuracy", 0.5, 0.4, 0.6),
    ]
    text = markdown(run_with(tmp_path, rows))
    assert "| M1 | 3.50 [3.40, 3.60] | - | 400 | 3 |" in text
    assert "| M2 | - | 0.555 [0.510, 0.600] | 400 | 3 |" in text
    assert "| M1, 3 samples | own samples | 0.500 [0.400, 0.600] | - | 0.250 [0.200" in text
    assert "1.00" not in text


def test_divergence_best_of_n_and_policies_have_their_tables(tmp_path):
    rows = [
        row("M1", "score", "mean", 3.5, 3.4, 3.6),
        row("dpo", "score", "mean", 3.9, 3.8, 4.0),
        row("dpo", "divergence", "kl", 1.26, 1.0, 1.5, against="M1"),
        row("best of 2", "best_of_n", "true score", 4.0, 3.9, 4.1),
        row("best of 2", "best_of_n", "kl_bound", 0.1931, 0.1931, 0.1931),
    ]
    drifts = [Drift("ppo", i, float(i), None, 0.5 * i, 128) for i in range(1, 9)]
    text = markdown(run_with(tmp_path, rows, drifts))
    assert "| 4-gram repetition | KL (nats) |" in text
    assert "| dpo | 3.90 [3.80, 4.00] | - | 400 | 3 | - | - | 1.3 |" in text
    assert "| best of 2 | 4.00 [3.90, 4.10] | 0.19 | 400 |" in text
    assert "| ppo | 1 to 2 | 1.50 | - | 0.75 | 256 |" in text
    assert "| ppo | 7 to 8 | 7.50 | - | 3.75 | 256 |" in text


def test_an_unfinished_run_is_refused(tmp_path):
    with pytest.raises(BadInput, match="finished run"):
        markdown(run_with(tmp_path, []))
