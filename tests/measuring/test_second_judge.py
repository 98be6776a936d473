"""A finished study's answers before a second judge."""

import json
import shutil

import pytest

from alignlab.errors import BadInput
from alignlab.runs import Run, RunIdentity
from alignlab.types import (
    Feedback,
    Message,
    Preference,
    Prompt,
    Response,
    SampledBy,
    Unscored,
)

PROMPTS = [Prompt(f"p{i}", (Message("user", f"Question {i}"),), "test") for i in range(8)]


def study(path, seeds=("",), texts="word ", judge="j"):
    """A run of 8 prompts: by its judge M2 beats M1 on the first six; M2 writes longer on even."""
    of = Run.start(path, RunIdentity("study", {}, tuple(range(len(seeds)))))
    for seed in seeds:
        run = of.scope(seed) if seed else of
        with run.stage("seed") as stage:
            stage.write("test_prompts", Prompt, PROMPTS)
        for model in ("M1", "M2"):
            written = [texts * (1 + (model == "M2" and i % 2 == 0)) for i in range(8)]
            answers = [
                Response(f"{seed}{i}/{model}", f"p{i}", text, SampledBy(model))
                for i, text in enumerate(written)
            ]
            with run.stage(f"answer-{model.lower()}") as stage:
                stage.write("responses", Response, answers)
        verdicts = [Preference(int(i > 5)) for i in range(7)] + [Unscored("no score")]
        with run.stage("duel-m2") as stage:
            stage.write(
                "feedback",
                Feedback,
                [
                    Feedback(f"p{i}", (f"{seed}{i}/M2", f"{seed}{i}/M1"), judge, verdict)
                    for i, verdict in enumerate(verdicts)
                ],
            )
    of.finish()
    of.close()
    return path


def again(alignlab, run, out, judge="longer"):
    return alignlab("evaluate", "second_judge", "--run", run, "--judge", judge, "--out", out)


def judged(alignlab, run, out, judge="longer"):
    ended = alignlab(
        "evaluate", "second_judge", "--run", run, "--judge", judge, "--out", out, "--json"
    )
    assert ended.code == 0, ended.err
    (row,) = json.loads(ended.out)["rows"]
    return row


def test_win_rates_by_both_judges_and_their_agreement(tmp_path, alignlab):
    row = judged(alignlab, study(tmp_path / "run"), tmp_path / "second")
    assert (row["model"], row["against"], row["win_rate_first"]) == ("M2", "M1", 6 / 7)
    # Longer on four of eight, as long on the others, which are ties.
    assert row["win_rate"] == 0.75
    assert (row["n"], row["unscored"]) == (8, 0)
    assert (row["win_rate_first_n"], row["win_rate_first_unscored"]) == (7, 1)
    # Both prefer M2 on 0, 2 and 4; on 6 they differ; 1, 3 and 5 are ties of one; 7 has no verdict.
    assert row["same_verdict"] == pytest.approx(3 / 7)
    assert row["opposite_verdict"] == pytest.approx(1 / 7)


def test_the_studys_own_judge_is_no_second_one(tmp_path, alignlab, caplog):
    again(alignlab, study(tmp_path / "run"), tmp_path / "other")
    assert "judged the study too" not in caplog.text
    again(alignlab, study(tmp_path / "own", judge="score by longer"), tmp_path / "again")
    assert "score by longer judged the study too" in caplog.text


@pytest.mark.parametrize("judge", ["relevance:tfidf", "longer"])
def test_every_answer_is_scored_once_and_a_repeated_command_judges_nothing(
    judge, tmp_path, alignlab
):
    run, out = study(tmp_path / "run"), tmp_path / "second"
    first = judged(alignlab, run, out, judge)
    scored = [*out.glob("stages/*-score-*/feedback.jsonl")]
    assert sorted(len(f.read_text().splitlines()) for f in scored) == [8, 8]
    written = {
        file: file.stat().st_mtime_ns
        for file in (*scored, *out.glob("stages/*-duel-*/feedback.jsonl"))
    }
    assert judged(alignlab, run, out, judge) == first
    assert {file: file.stat().st_mtime_ns for file in written} == written


def test_seeds_are_judged_apart_and_reported_together(tmp_path, alignlab):
    run = study(tmp_path / "run", ("seed-0", "seed-1"))
    row = judged(alignlab, run, tmp_path / "second")
    assert (row["win_rate_first"], row["win_rate"], row["n"]) == (6 / 7, 0.75, 16)
    held_out = [*(tmp_path / "second").glob("stages/seed-*/01-seed/test_prompts.jsonl")]
    assert [len(f.read_text().splitlines()) for f in held_out] == [8, 8]
    assert "wall_seconds" in json.loads((tmp_path / "second/manifest.json").read_text())
    folders = {file.parent.parent.name for file in (tmp_path / "second").rglob("feedback.jsonl")}
    assert folders == {"seed-0", "seed-1"}


def refused(ended, why):
    assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err
    assert why in ended.err


def test_another_judge_or_a_changed_study_do_not_resume_and_a_moved_one_does(tmp_path, alignlab):
    run, out = study(tmp_path / "run"), tmp_path / "second"
    first = judged(alignlab, run, out)
    refused(again(alignlab, run, out, "random"), "judge")
    moved = run.rename(tmp_path / "elsewhere")
    assert judged(alignlab, moved, out) == first
    refused(again(alignlab, study(tmp_path / "run", texts="other "), out), "study")


def test_what_is_no_finished_study_is_refused(tmp_path, alignlab):
    run, out = study(tmp_path / "run"), tmp_path / "second"
    refused(again(alignlab, tmp_path / "none", out), "expected the run directory of a study")
    refused(again(alignlab, run, run / "stages" / "second"), "outside the study")
    judged(alignlab, run, tmp_path / "first")
    refused(again(alignlab, tmp_path / "first", out), "comparisons of the run's own answers")
    lines = [line for line in (run / "events.jsonl").read_text().splitlines() if line]
    (run / "events.jsonl").write_text("".join(f"{line}\n" for line in lines[:-1]))
    refused(again(alignlab, run, out), "expected a finished study")
    assert not out.exists()


def test_a_judge_that_fails_leaves_nothing(tmp_path, alignlab):
    source = tmp_path / "bad.py"
    source.write_text("def words(prompt, response):\n    return 'many'\n")
    ended = again(alignlab, study(tmp_path / "run"), tmp_path / "second", f"python:{source}:words")
    assert ended.code == 2
    assert not (tmp_path / "second").exists()


def test_a_run_without_comparisons_is_refused_and_nothing_written(tmp_path, alignlab):
    empty = tmp_path / "empty"
    none = Run.start(empty, RunIdentity("study", {}, (0,)))
    none.finish()
    none.close()
    out = tmp_path / "second"
    ended = alignlab("evaluate", "second_judge", "--run", empty, "--judge", "longer", "--out", out)
    assert ended.code == 2
    assert "expected a study's comparisons with its baseline, found none" in ended.err
    assert not out.exists()


def test_python_takes_a_function_as_the_second_judge(tmp_path, monkeypatch):
    import alignlab as al

    monkeypatch.chdir(tmp_path)
    run = study(tmp_path / "run")
    found = al.evaluate(
        "second_judge", run=run, judge=lambda prompt, response: len(response), out="second"
    )
    assert (found.folder / "report.html").exists()
    (row,) = found.rows
    assert row["win_rate"] == 0.75
    with pytest.raises(BadInput, match="judge"):
        al.evaluate("reread", scores="x", judge="longer")
    for unknown in ({"baseline": "M1"}, {"model": "M1"}, {"limit": 3}):
        with pytest.raises(BadInput, match=next(iter(unknown))):
            al.evaluate("second_judge", run=run, judge="longer", out="third", **unknown)
    for bad in ({"run": None}, {"run": 3}, {"seed": "x"}, {"seed": -1}, {"out": ""}):
        with pytest.raises(BadInput, match=next(iter(bad))):
            al.evaluate("second_judge", **{"run": run, "judge": "longer", "out": "third"} | bad)
    assert not (tmp_path / "third").exists()


def test_no_readable_verdict_fails(tmp_path, alignlab):
    run = study(tmp_path / "run")
    source = tmp_path / "none.py"
    source.write_text("def nothing(prompt, response):\n    return None\n")
    ended = alignlab(
        "evaluate", "second_judge", "--run", run, "--judge", f"python:{source}:nothing",
        "--out", tmp_path / "second",
    )  # fmt: skip
    assert ended.code == 1
    assert "no verdict could be read" in ended.err


def test_a_source_scores_the_held_out_answers_of_a_run(tmp_path, alignlab):
    run, out = study(tmp_path / "run"), tmp_path / "scored.jsonl"
    ended = alignlab(
        "judge", "--judge", "longer", "--responses", run, "--out", out, "limit=3"
    )  # fmt: skip
    assert ended.code == 0, ended.err
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    # Odd prompts have one text by both models, which is scored once.
    assert [(row["prompt"], row["score"]) for row in rows] == [
        ("Question 0", 1), ("Question 0", 2), ("Question 1", 1),
        ("Question 2", 1), ("Question 2", 2),
    ]  # fmt: skip


def test_a_run_directory_is_no_data(tmp_path, alignlab):
    run = study(tmp_path / "run")
    ended = alignlab("data", "check", run)
    assert ended.code == 2
    assert "found a run directory; name one of the files in its stages/" in ended.out


def test_scores_of_a_changed_run_are_not_those_of_the_old_one(tmp_path, alignlab):
    run, out = study(tmp_path / "run"), tmp_path / "scored.jsonl"
    scored = ("judge", "--judge", "longer", "--responses", run, "--out", out)
    assert alignlab(*scored).code == 0
    shutil.rmtree(run)
    study(run, texts="other ")
    out.unlink()
    refused(alignlab(*scored), "answers")
