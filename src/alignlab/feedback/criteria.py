"""Judge of several criteria, each rated on its own (aspects of UltraFeedback, arXiv 2310.01377).

The aspects are those of section 2.3, worded here. The score is the weighted mean of the criteria's
scores. Where one criterion cannot be read the response is Unscored, since a mean over the others
would measure a different quantity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from alignlab.at_once import at_once
from alignlab.configs import PositiveInt, build
from alignlab.errors import BadInput
from alignlab.feedback.model_judge import ModelJudge, ModelJudgeOptions
from alignlab.protocols import Completer, MakeCompleter, flatten
from alignlab.registry import register
from alignlab.types import Feedback, Prompt, Response, Score, Unscored, Verdict


@dataclass(frozen=True)
class Criterion:
    """Criterion that a response is rated on."""

    name: str
    about: str
    """Meaning of the criterion, as shown to the judge."""
    weight: float = 1.0
    """Weight in the mean, relative to the other criteria."""


DEFAULT = (
    Criterion(
        "instructions",
        "Instruction following: the response does what was asked, in the form that was asked for, "
        "and leaves no part of the request out.",
    ),
    Criterion(
        "truth",
        "Truthfulness: what the response states is correct and does not contradict the question "
        "or itself; nothing is made up.",
    ),
    Criterion(
        "honesty",
        "Honesty: the response is as sure as it has reason to be, and says what it does not know.",
    ),
    Criterion(
        "help",
        "Helpfulness: a person with this question gets from the response what they need, clearly "
        "and without ballast.",
    ),
)


class CriteriaJudge:
    """Judge that rates each criterion with a model and takes the weighted mean."""

    def __init__(
        self,
        completer: Completer,
        criteria: Sequence[Criterion] = DEFAULT,
        *,
        options: ModelJudgeOptions | None = None,
    ) -> None:
        """Set up a judge.

        Raises:
            BadInput: no criteria, two of one name, or weights that are not above 0.
        """
        names = [criterion.name for criterion in criteria]
        if not criteria or len(set(names)) < len(names) or min(c.weight for c in criteria) <= 0:
            raise BadInput(
                "criteria: expected at least one, each with a name of its own and a weight above 0"
            )
        chosen = options or CriteriaOptions()
        self.criteria = tuple(criteria)
        self.name = f"{completer.name} as judge ({', '.join(names)}; {chosen.samples} samples)"
        self.at_once = at_once(completer)
        self._judges = [_judge(completer, criterion, chosen) for criterion in criteria]

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        """Return one feedback per response; its samples are the criteria's scores, in order."""
        by_criterion = [judge.rate(items, seed) for judge in self._judges]
        return [
            self._feedback(prompt, response, found)
            for (prompt, response), *found in zip(flatten(items), *by_criterion, strict=True)
        ]

    def _feedback(self, prompt: Prompt, response: Response, found: Sequence[Feedback]) -> Feedback:
        values = tuple(f.verdict.value if isinstance(f.verdict, Score) else None for f in found)
        parts = [
            f"{c.name}: {'unread' if v is None else f'{v:g}'}"
            for c, v in zip(self.criteria, values, strict=True)
        ]
        verdict: Verdict
        unread = [c.name for c, v in zip(self.criteria, values, strict=True) if v is None]
        if unread:
            verdict = Unscored(f"no readable score for {', '.join(unread)}")
        else:
            weights = [criterion.weight for criterion in self.criteria]
            total = sum(w * (v or 0.0) for w, v in zip(weights, values, strict=True))
            verdict = Score(total / sum(weights), values)
        raw = tuple(text for f in found for text in f.raw)
        return Feedback(prompt.id, (response.id,), self.name, verdict, "; ".join(parts), raw)


@dataclass(frozen=True)
class CriteriaOptions(ModelJudgeOptions):
    """Options of `criteria,`."""

    prompt: str = "criterion"
    """Judge prompt with the place {criterion}, by its file's name or by path."""
    samples: PositiveInt = 1
    """Judgements drawn per response and criterion."""
    file: str = ""
    """YAML list of criteria, each with name, about and weight; empty takes four of our own."""


@register("feedback", "criteria", options=CriteriaOptions)
def make_criteria_judge(
    rest: str, *, make_completer: MakeCompleter, options: dict[str, Any]
) -> CriteriaJudge:
    """`criteria[,file=PATH]:ENGINE`: a score for each criterion, weighed into one."""
    chosen = build(CriteriaOptions, options)
    criteria = read_criteria(Path(chosen.file)) if chosen.file else DEFAULT
    return CriteriaJudge(make_completer(rest), criteria, options=chosen)


def read_criteria(path: Path) -> list[Criterion]:
    """The criteria in a YAML file.

    Raises:
        BadInput: no such file, or something else in it.
    """
    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        why = str(error).splitlines()[0]
        raise BadInput(f"{path}: expected a YAML list of criteria, found: {why}") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadInput(f"{path}: expected a YAML list of criteria (name, about, weight)")
    return [build(Criterion, row) for row in rows]


def _judge(completer: Completer, criterion: Criterion, chosen: ModelJudgeOptions) -> ModelJudge:
    return chosen.judge(
        completer,
        details=lambda prompt, seed: {"criterion": criterion.about},
        key=f"judge|{criterion.name}",
    )
