"""Judge a finished study's answers by a second judge."""

from __future__ import annotations

from pathlib import Path

from alignlab.commands._support.job import open_run
from alignlab.commands._support.tables import Evaluated
from alignlab.commands.benchmark import as_json, rows_table
from alignlab.context import Hardware
from alignlab.errors import RunFailed
from alignlab.measuring.second_judge import NAME, second_judge_rows
from alignlab.measuring.study_duels import StudyDuels, read_duels
from alignlab.records import fingerprint
from alignlab.report import write_report
from alignlab.runs import RunIdentity
from alignlab.types import EvalResult, StudyDescription


def second_judge(
    run: str | Path, judge: str, out: str | Path, *, seed: int = 0, threads: int = 0
) -> Evaluated:
    """Judge a finished study's answers by a second judge: win rates by both, and agreement.

    Args:
        run: run directory of a study.
        judge: feedback source from `alignlab list feedback`; of one that scores, the higher wins.
        out: run directory of the second judge's verdicts; the repeated command resumes.
        seed: seed of every random draw.
        threads: torch threads; 0 is one per core.

    Raises:
        BadInput: a run without comparisons, or an unknown judge.
        RunFailed: no verdict could be read.
    """
    study = read_duels(Path(run))
    answers = fingerprint([[answer.id, answer.text] for answer in study.answers.values()])
    identity = RunIdentity(NAME, {"judge": judge, "run": str(run), "answers": answers}, (seed,))
    with open_run(Path(out), identity, Hardware(workers=1, threads=threads)) as context:
        rows = second_judge_rows(context, study, judge)
        context.run.describe(_described(study, str(run), judge))
        with context.run.stage("results") as stage:
            stage.write("results", EvalResult, rows)
        context.run.finish()
        report = write_report(Path(out))
        if not any(row.n for row in rows if row.metric == "win_rate_second"):
            raise RunFailed(f"{NAME}: no verdict could be read (reasons in {report})")
    return Evaluated(as_json(rows), rows_table(NAME, rows), report)


def _described(study: StudyDuels, run: str, judge: str) -> StudyDescription:
    """Describe the run for its report."""
    models = {name: f"answers of {run}" for pair in study.verdicts for name in pair}
    question = f"Do the win rates of {run} hold before a second judge, {judge}?"
    return StudyDescription(NAME, question, "", models)
