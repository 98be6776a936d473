"""Judge a finished study's answers by a second judge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignlab.api.folders import place_for, writing
from alignlab.errors import BadInput

if TYPE_CHECKING:
    from alignlab.commands._support.tables import Evaluated


def second_judge(
    run: str | Path,
    judge: str,
    out: str | Path,
    *,
    seed: int = 0,
    threads: int = 0,
    repair: bool = False,
) -> Evaluated:
    """Judge a finished study's answers by a second judge: win rates by both, and agreement.

    Args:
        run: run directory of a study.
        judge: feedback source from `alignlab list feedback`; of one that scores, the higher wins.
        out: run directory of the second judge's verdicts; the repeated command resumes.
        seed: seed of every random draw.
        threads: torch threads; 0 is one per core.
        repair: compute the damaged stages of the run in `out` again.

    Raises:
        BadInput: an unfinished run or one without comparisons, `out` inside it, an unknown judge.
        RunFailed: no verdict could be read.
    """
    from alignlab.commands.second_judge import judge_again

    study, place = _folder("run", run), place_for(_folder("out", out), "")
    if study.resolve() in (place.resolve(), *place.resolve().parents):
        raise BadInput(f"out: expected a folder outside the study {study}, found {place}")
    with writing(place, repair=repair):
        return judge_again(study, judge, place, seed=seed, threads=threads)


def _folder(name: str, given: Any) -> Path:
    if not isinstance(given, str | Path) or not str(given):
        raise BadInput(f"{name}: expected a folder, found {given!r}")
    return Path(given)
