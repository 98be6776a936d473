from __future__ import annotations

import json
from pathlib import Path

import pytest

from alignlab.errors import BadInput
from alignlab.report.run_data import label_of, read_run, shown
from alignlab.report.training_curves import counts, spending, total
from alignlab.types import Count


def test_the_top_scope_is_shown_and_the_rest_kept_apart(run_dir: Path) -> None:
    run = read_run(run_dir)
    assert {r.model for r in run.results if r.metric == "win_rate"} == {
        "M2", "M3", "teacher reward", "teacher demonstration", "random judge", "length reward",
    }  # fmt: skip
    assert sorted(run.other_results) == [f"seed-{s}/07-evaluate" for s in (0, 1, 2)]
    assert all(row.n == 400 for rows in run.other_results.values() for row in rows)


def test_shown_rule() -> None:
    nested = {"seed-0/07-evaluate": 1, "self_reward/02-evaluate": 2}
    assert shown(nested) == nested
    assert shown({**nested, "03-evaluate": 3}) == {"03-evaluate": 3}
    assert shown({**nested, "summary/01-all": 4}) == {"summary/01-all": 4}


def test_labels_drop_seeds_and_numbers() -> None:
    assert label_of("seed-2/04-m1") == "m1"
    assert label_of("seed-0/self_reward/02-judge") == "self_reward / judge"
    assert label_of("03-evaluate") == "evaluate"
    assert label_of("seed/name") == "seed / name"


def test_time_counts_sessions_not_the_pause_between(run_dir: Path) -> None:
    run = read_run(run_dir)
    assert run.wall_seconds == pytest.approx(60 + 151)
    assert run.finished


def test_spending_adds_up_over_seeds(run_dir: Path) -> None:
    run = read_run(run_dir)
    spent = {s.label: s for s in spending(run)}
    assert spent["sample"].runs == 3
    assert spent["sample"].usage.calls == 1200
    assert spent["sample"].seconds == pytest.approx(3 * 11)
    assert total(list(spent.values())).usage.calls == 2400
    assert spent["evaluate"].bar == 100.0
    assert spent["seed"].bar == pytest.approx(100 * 5 / 23, abs=0.01)


def test_a_line_cut_by_a_kill_is_left_out(run_dir: Path) -> None:
    before = read_run(run_dir)
    stage = run_dir / "stages/summary/01-evaluate"
    with (stage / "results.jsonl").open("a") as file:
        file.write('{"model": "M9", "bench')
    with pytest.raises(BadInput, match=r"results.jsonl, line 116: .* found half a line;.*--repair"):
        read_run(run_dir)
    (stage / "status.json").write_text('{"state": "running"}')
    assert read_run(run_dir).results == before.results


def test_bad_records_name_file_line_and_field(run_dir: Path) -> None:
    path = run_dir / "stages/summary/01-evaluate/results.jsonl"
    lines = path.read_text().splitlines()
    record = json.loads(lines[2])
    lines[2] = json.dumps({**record, "n": "many"})
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(BadInput, match=r"results.jsonl, line 3, field 'n': .* found many"):
        read_run(run_dir)


def test_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="expected a run directory"):
        read_run(tmp_path)


def test_a_run_that_has_only_begun(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"recipe": "self_rewarding"}')
    run = read_run(tmp_path)
    assert run.results == ()
    assert not run.finished
    assert run.study.recipe == "self_rewarding"


def test_counts_add_up_over_seeds() -> None:
    by_stage = {
        "seed-0/05-pair": [Count("x", "pairs", 3, {"equal": 2}), Count("x", "prompts", 9)],
        "seed-1/05-pair": [Count("x", "pairs", 4, {"equal": 1, "unscored": 5})],
    }
    assert counts(by_stage) == (
        Count("pair", "pairs", 7, {"equal": 3, "unscored": 5}),
        Count("pair", "prompts", 9),
    )


def test_models_are_described_without_folders(run_dir):
    file = run_dir / "study.json"
    study = json.loads(file.read_text())
    study["models"] = {"M2": "M1 after SFT on answers of local:/a/b/model"}
    file.write_text(json.dumps(study))
    assert read_run(run_dir).study.models == {"M2": "M1 after SFT on answers of local:model"}
