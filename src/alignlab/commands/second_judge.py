"""Judge a finished study's answers by a second judge: run directory, figures, report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignlab import configs
from alignlab.commands._support.job import open_run
from alignlab.commands._support.tables import Evaluated
from alignlab.commands.benchmark import as_json, rows_table
from alignlab.configs import Bounded, NonNegativeInt, Seed
from alignlab.context import Hardware
from alignlab.errors import RunFailed
from alignlab.measuring.second_judge import NAME, second_judge_rows
from alignlab.measuring.study_duels import StudyDuels, read_duels
from alignlab.report import write_report
from alignlab.runs import RunIdentity
from alignlab.types import EvalResult, StudyDescription


@dataclass(frozen=True)
class SecondJudgeSettings(Bounded):
    """Settings of judging a study again."""

    seed: Seed = 0
    """Seed of every random draw."""
    threads: NonNegativeInt = 0
    """Torch threads; 0 is one per core."""


def judge_again(run: Path, judge: str, out: Path, **settings: Any) -> Evaluated:
    """Judge a finished study's answers by a second judge, or resume.

    Raises:
        BadInput: an unfinished run or one without comparisons, or an unknown judge or setting.
        RunFailed: no verdict could be read.
    """
    chosen = configs.build(SecondJudgeSettings, settings)
    study = read_duels(run)
    # The verdicts name the study, wherever its folder is.
    identity = RunIdentity(NAME, {"judge": judge, "study": study.fingerprint()}, (chosen.seed,))
    with open_run(out, identity, Hardware(workers=1, threads=chosen.threads)) as context:
        rows = second_judge_rows(context, study, judge)
        context.run.describe(_described(study, run, judge))
        with context.run.stage("results") as stage:
            stage.write("results", EvalResult, rows)
        context.run.finish()
        report = write_report(out)
        if not any(row.n for row in rows if row.metric == "win_rate"):
            raise RunFailed(f"{NAME}: no verdict could be read (reasons in {report})")
    return Evaluated(as_json(rows), rows_table(NAME, rows), report)


def _described(study: StudyDuels, run: Path, judge: str) -> StudyDescription:
    """Describe the run for its report."""
    baseline = next(iter(study.verdicts))[1]
    models = {name: f"answers of {run}" for pair in study.verdicts for name in pair[::-1]}
    question = f"Do the win rates of {run} hold before a second judge?"
    return StudyDescription(NAME, question, baseline, models, judge=f"Judged by {judge}.")
