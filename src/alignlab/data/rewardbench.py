"""RewardBench 1 and 2 and RM-Bench: good and bad answers to a prompt, by subset or domain.

`chosen` and `rejected` are texts (RewardBench, arXiv 2403.13787) or lists of texts (RewardBench 2,
arXiv 2506.01937; RM-Bench, arXiv 2410.16184): every chosen answer is better than every rejected
one. `alignlab evaluate reward_bench` and `rm_bench` compute the benchmarks' own metrics.
"""

from __future__ import annotations

from alignlab.data.build_records import UNKNOWN_WRITER, BuildResult, Origin, ResponseDraft, group
from alignlab.data.conversations import prompt_of
from alignlab.data.formats import row_format
from alignlab.data.options import Options
from alignlab.data.preference import preferred
from alignlab.data.rows import Row


def _looks(row: Row) -> bool:
    if all(isinstance(row.values.get(side), str) for side in ("chosen", "rejected")):
        return {"chosen_model", "rejected_model", "subset"} <= row.values.keys()
    sides = [row.values.get(side) for side in ("chosen", "rejected")]
    return all(isinstance(s, list) and s and all(isinstance(t, str) for t in s) for s in sides)


@row_format("rewardbench", columns=[("prompt", "chosen", "rejected")], looks=_looks)
def rewardbench(row: Row, options: Options) -> list[BuildResult]:
    """Good and bad answers to a prompt, one of each or several."""
    part = row.optional_text("domain") or row.optional_text("subset")
    origin = Origin(f"rewardbench/{part}" if part else "rewardbench")
    if isinstance(row.get("chosen"), str):
        return [preferred(row, origin)]
    chosen, rejected = row.texts("chosen"), row.texts("rejected")
    models = row.texts("models") if row.has("models") else []
    if len(models) != len(chosen) + len(rejected):
        models = [UNKNOWN_WRITER] * (len(chosen) + len(rejected))
    scores = [1.0] * len(chosen) + [0.0] * len(rejected)
    answers = map(ResponseDraft, (*chosen, *rejected), scores, models)
    return [group(prompt_of(row), tuple(answers), origin)]
