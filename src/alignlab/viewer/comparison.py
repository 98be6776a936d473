"""Compare two runs by their indexes: pair their models, and list the prompts that flipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignlab.errors import BadInput
from alignlab.measuring.paired import compare_by_prompt, models_of, read_values
from alignlab.records import fingerprint, to_dict, whole_records
from alignlab.report import labels
from alignlab.report.run_comparison import FlippedPrompt, Flips, paired_table
from alignlab.report.run_settings import read_settings
from alignlab.report.tables import ReportTable
from alignlab.types import Example
from alignlab.viewer.index import Index

Answers = dict[str, dict[tuple[str, int], dict[str, Any]]]
"""Model -> (prompt's cluster, seed) -> answer with its score and outcome."""

_ANSWERS = """
SELECT a.seed, a.model, a.score, a.outcome, p.text AS question, p.cluster, r.text,
    (SELECT f.source FROM feedback f WHERE f.seed = a.seed AND f.first = r.id AND f.kind = 'score'
        ORDER BY f.stage LIKE '%judge-examples', f.fid LIMIT 1) AS scored_by,
    d.source AS compared_by, b.text AS opponent
FROM answers a JOIN prompts p ON p.seed = a.seed AND p.id = a.prompt
JOIN responses r ON r.rid = a.rid
LEFT JOIN feedback d ON d.fid = (SELECT f.fid FROM feedback f WHERE f.seed = a.seed
    AND f.first = r.id AND f.kind = 'preference' ORDER BY f.fid LIMIT 1)
LEFT JOIN responses b ON b.seed = d.seed AND b.id = d.second
"""


@dataclass(frozen=True)
class Side:
    """One of two compared runs."""

    name: str
    path: Path
    index: Index


def paired(first: Side, second: Side, mapping: Mapping[str, str]) -> ReportTable | None:
    """Tabulate tested differences of figures that both runs hold; None if there are none."""
    named = [(first.name, first.path), (second.name, second.path)]
    return paired_table(compare_by_prompt(named, mapping))


def read_mapping(text: str) -> dict[str, str]:
    """Read `M2:dpo,M3:ipo` as model of the first run -> model of the second.

    A comma before which no model has a partner yet belongs to the name.

    Raises:
        BadInput: a model without a partner, or one named twice.
    """
    found: dict[str, str] = {}
    name = ""
    for part in text.split(",") if text.strip() else ():
        name = f"{name},{part}" if name else part
        own, colon, other = (piece.strip() for piece in name.rpartition(":"))
        if not colon:
            continue
        if not own or not other or own in found or other in found.values():
            raise BadInput(f"map: expected MODEL:MODEL, each once, found {text!r}")
        found[own], name = other, ""
    if name:
        raise BadInput(f"map: expected MODEL:MODEL, found {text!r}")
    return found


def pair_models(
    first: Side, second: Side, mapping: Mapping[str, str]
) -> tuple[list[tuple[str, str]], list[str]]:
    """Pair the models of two runs: as mapped, else by name, else the only ones.

    Returns:
        The pairs, and a sentence per run on its models without a partner.

    Raises:
        BadInput: a mapped model that its run does not hold.
    """
    held = [_models(first), _models(second)]
    for side, models, asked in ((first, held[0], mapping), (second, held[1], mapping.values())):
        for model in asked:
            if model not in models:
                raise BadInput(
                    f"map: {side.name}: expected one of {', '.join(models)}, found {model!r}"
                )
    taken = set(mapping.values())
    pairs = [(m, mapping.get(m, m)) for m in held[0]]
    pairs = [(m, o) for m, o in pairs if o in held[1] and (m in mapping or o not in taken)]
    if not pairs and not mapping and len(held[0]) == len(held[1]) == 1:
        pairs = [(held[0][0], held[1][0])]
    own, others = {m for m, _ in pairs}, {o for _, o in pairs}
    left = [[m for m in held[0] if m not in own], [m for m in held[1] if m not in others]]
    return pairs, [
        f"Only in {side.name}: {', '.join(models)}."
        for side, models in zip((first, second), left, strict=True)
        if models
    ]


def flips(first: Side, second: Side, pairs: Sequence[tuple[str, str]], *, most: int) -> list[Flips]:
    """List, for each pair of models, the prompts that one judge judged otherwise.

    Scores are compared where both runs have them of one judge that is neither run's own model, else
    outcomes against a baseline whose answer is the same in both; of runs whose answers were given
    to them, the values by prompt. The largest changes come first.

    Args:
        most: maximum number of prompts listed per pair.
    """
    mine, theirs = _answers(first), _answers(second)
    found = []
    for model, other in pairs:
        a, b = _by_prompt(mine.get(model, {}), theirs.get(other, {}))
        compared = _compared(a, b, "score", "scored_by")
        compared = compared or _compared(a, b, "outcome", "compared_by")
        if compared is None:
            a, b = (recorded_answers(s.path, m) for s, m in ((first, model), (second, other)))
            compared = recorded_values(first.path, second.path, model, other)
        if compared is None:
            continue
        by, values = compared
        changed = sorted(
            (key for key, (old, new) in values.items() if old != new),
            key=lambda key: (-abs(values[key][1] - values[key][0]), str(key)),
        )
        rows = [
            FlippedPrompt(a[key]["question"], a[key]["text"], b[key]["text"], *values[key])
            for key in [key for key in changed if key in a and key in b][:most]
        ]
        up = sum(values[key][1] > values[key][0] for key in changed)
        found.append(Flips(model, other, by, len(values), up, len(changed) - up, tuple(rows)))
    return found


def recorded_values(
    first: Path, second: Path, model: str, other: str
) -> tuple[str, dict[Any, tuple[float, float]]] | None:
    """Return the figure and both values of every prompt, of the first figure that both share."""
    own, theirs = read_values(first), read_values(second)
    for key in own:
        a, b = own[key].get(model, {}), theirs.get(key, {}).get(other, {})
        if shared := [prompt for prompt in a if prompt in b]:
            # A benchmark's judge is recorded with hashes of itself and of the baseline's answers.
            judge = key.by.partition(" ")[0]
            what = labels.metric(key.metric).lower()
            return f"{what} by {judge}" if judge else what, {p: (a[p], b[p]) for p in shared}
    return None


def recorded_answers(run: Path, model: str) -> dict[Any, dict[str, Any]]:
    """Return a model's answers among the run's recorded examples, by hash of the prompt."""
    return {
        fingerprint([to_dict(message) for message in example.prompt.messages]): {
            "question": example.prompt.text,
            "text": answer.text,
        }
        for file in sorted((run / "stages").rglob("examples.jsonl"))
        for example in whole_records(file, Example)
        for answer in example.answers
        if answer.model == model
    }


def _compared(
    a: Mapping[Any, dict[str, Any]], b: Mapping[Any, dict[str, Any]], value: str, by: str
) -> tuple[str, dict[Any, tuple[float, float]]] | None:
    """Return the judge and both values of every prompt that it judged in both runs."""
    shared = [
        key
        for key, one in a.items()
        if key in b
        and None not in (one[value], b[key][value])
        and one[by] == b[key][by]
        and (value == "score" or (one["opponent"] and one["opponent"] == b[key]["opponent"]))
    ]
    if not shared:
        return None
    what = "scores" if value == "score" else "outcomes"
    judge = str(a[shared[0]][by])
    return f"{what} by {judge}", {
        key: (a[key][value], b[key][value]) for key in shared if a[key][by] == judge
    }


def _by_prompt(
    a: dict[tuple[str, int], dict[str, Any]], b: dict[tuple[str, int], dict[str, Any]]
) -> tuple[dict[Any, dict[str, Any]], dict[Any, dict[str, Any]]]:
    """Key answers by prompt and seed, or by prompt alone if the runs share no seed."""
    if {seed for _, seed in a} & {seed for _, seed in b}:
        return dict(a), dict(b)
    first, second = ({key[0]: c[key] for key in sorted(c, reverse=True)} for c in (a, b))
    return first, second


def _models(side: Side) -> list[str]:
    answering = [row["model"] for row in side.index.rows("SELECT DISTINCT model FROM answers")]
    return list(dict.fromkeys([*models_of(side.path), *answering]))


def _answers(side: Side) -> Answers:
    """Read answers; a run's own scores of itself are left out, since no other run has them."""
    by_itself = str(read_settings(side.path).get("measure.judge", "")).rpartition(":")[2] == "self"
    found: Answers = {}
    for row in side.index.rows(_ANSWERS):
        plain = dict(row) | ({"score": None, "outcome": None} if by_itself else {})
        found.setdefault(row["model"], {})[(row["cluster"], row["seed"])] = plain
    return found
