"""Count verdicts that could not be read and records that were dropped, by branch of a study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from alignlab.report.plan_table import SHARED, branch_of
from alignlab.report.run_data import words_of
from alignlab.viewer.filters import JudgementFilter
from alignlab.viewer.index import Index
from alignlab.viewer.training_data import counts

MOST = 4
"""Maximum number of stages, and of reasons, named per branch."""
VERDICTS = "verdicts"
"""Name of stages' counts of verdicts, of which the index holds every one."""


@dataclass
class Losses:
    """Verdicts and records of a branch, over all its stages and seeds."""

    branch: str
    asked: int = 0
    """Verdicts asked of judges."""
    by_stage: Counter[str] = field(default_factory=Counter)
    """Stage -> unscored verdicts."""
    by_reason: Counter[str] = field(default_factory=Counter)
    """Kind of record and reason -> dropped records."""
    models: Sequence[str] = ()

    @property
    def unscored(self) -> int:
        """Number of verdicts that could not be read."""
        return self.by_stage.total()

    @property
    def dropped(self) -> int:
        """Number of dropped records."""
        return self.by_reason.total()

    @property
    def unread(self) -> list[tuple[str, int, str]]:
        """Stages with the most unscored verdicts: words, number, address of the rows."""
        return [
            (
                words_of(stage, self.models),
                n,
                JudgementFilter(stage=stage, kind="unscored").address(),
            )
            for stage, n in self.by_stage.most_common(MOST)
        ]

    @property
    def reasons(self) -> list[tuple[str, int]]:
        """Most frequent reasons of dropped records, and the sum of all others."""
        found = self.by_reason.most_common(MOST)
        rest = self.dropped - sum(n for _, n in found)
        return [*found, *([("other reasons", rest)] if rest else [])]


def by_branch(index: Index, models: Iterable[str]) -> list[Losses]:
    """Return the losses of each branch; none where no verdict was asked and nothing counted.

    Args:
        models: models of the study, for the names of stages.
    """
    found: dict[str, Losses] = {}
    names = tuple(models)

    def of(stage: str) -> Losses:
        branch = branch_of(stage)
        return found.setdefault(branch, Losses(branch, models=names))

    for row in index.rows(
        "SELECT stage, count(*) AS n, sum(kind = 'unscored') AS lost FROM feedback GROUP BY stage"
    ):
        losses = of(row["stage"])
        losses.asked += row["n"]
        losses.by_stage += Counter({row["stage"]: row["lost"]})
    for stage, count in counts(index):
        if count["what"] != VERDICTS:
            reasons = {f"{count['what']}: {why}": n for why, n in count["dropped"].items()}
            of(stage).by_reason.update(reasons)
    return sorted(found.values(), key=lambda one: (one.branch != SHARED, one.branch))
