"""Read the comparisons of a finished study: every model's held-out answers with the baseline's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from alignlab.errors import BadInput
from alignlab.integrity import refuse_damage
from alignlab.records import fingerprint, to_dict, whole_records
from alignlab.redo import events, is_finished
from alignlab.types import Feedback, Prompt, Response

Pair = tuple[Prompt, Response, Response]
Verdicts = dict[tuple[str, str], list[Feedback]]
"""(Model, baseline) -> verdict on each of its answers with the baseline's."""


@dataclass(frozen=True)
class StudyDuels:
    """Verdicts of a study's measuring judge on pairs of answers."""

    by_seed: Mapping[str, Verdicts]
    """Scope of a training seed ("seed-1"; empty in a run of one seed) -> verdicts."""
    answers: Mapping[str, Response]
    """Answers by id."""
    prompts: Mapping[str, Prompt]
    """Held-out prompts by id."""

    @property
    def verdicts(self) -> Verdicts:
        """Return the verdicts of all training seeds together."""
        found: Verdicts = {}
        for verdicts in self.by_seed.values():
            for models, judged in verdicts.items():
                found.setdefault(models, []).extend(judged)
        return found

    @property
    def judges(self) -> set[str]:
        """Return the names of the judges that gave the verdicts."""
        return {judged.source for several in self.verdicts.values() for judged in several}

    def fingerprint(self) -> str:
        """Return a hash of the verdicts and of the answers that they compare."""
        judged = [
            [scope, to_dict(one), [self.answers[key].text for key in one.response_ids]]
            for scope, verdicts in self.by_seed.items()
            for several in verdicts.values()
            for one in several
        ]
        return fingerprint(judged)

    def pair(self, judged: Feedback) -> Pair:
        """Return the prompt and both answers of a verdict."""
        first, second = judged.response_ids
        return self.prompts[judged.prompt_id], self.answers[first], self.answers[second]


def read_duels(run: Path) -> StudyDuels:
    """Read the comparisons of a finished study.

    Raises:
        BadInput: no run, an unfinished or a damaged one, one without comparisons, or one that lacks
            the answers compared, such as a second judge's.
    """
    if not (run / "manifest.json").is_file():
        raise BadInput(f"{run}: expected the run directory of a study, found none")
    refuse_damage(run)
    if not is_finished(events(run)):
        raise BadInput(f"{run}: expected a finished study, found one that still has to be resumed")
    answers = {r.id: r for file in _files(run, "responses") for r in whole_records(file, Response)}
    prompts = {p.id: p for file in _files(run, "test_prompts") for p in whole_records(file, Prompt)}
    by_seed: dict[str, Verdicts] = {}
    for file in _files(run, "feedback"):
        if "-duel-" in file.parent.name:
            top = file.relative_to(run / "stages").parts[0]
            verdicts = by_seed.setdefault(top if top.startswith("seed-") else "", {})
            for one in whole_records(file, Feedback):
                if one.prompt_id not in prompts or not set(one.response_ids) <= answers.keys():
                    raise BadInput(
                        f"{file}: expected comparisons of the run's own answers, found others"
                    )
                own, other = (answers[key].sampler.model for key in one.response_ids)
                verdicts.setdefault((own, other), []).append(one)
    if not by_seed:
        raise BadInput(f"{run}: expected a study's comparisons with its baseline, found none")
    return StudyDuels(by_seed, answers, prompts)


def _files(run: Path, name: str) -> list[Path]:
    return sorted((run / "stages").rglob(f"{name}.jsonl"))
