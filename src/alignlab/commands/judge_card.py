"""Run a judge card: data sets, run directory, figures, and its page, table and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.table import Table

from alignlab import configs
from alignlab.commands._support.job import open_run, setting_layers
from alignlab.commands._support.tables import Evaluated, empty_table
from alignlab.commands.benchmark import as_json
from alignlab.context import Hardware
from alignlab.errors import RunFailed
from alignlab.files import write_json, write_text
from alignlab.measuring import card_cache
from alignlab.measuring.card_sets import find_sets, read_set
from alignlab.measuring.card_table import by_set, markdown, notes, pooled_lines
from alignlab.measuring.judge_card import CardSettings, JudgeCard, measure_judge
from alignlab.records import to_dict
from alignlab.report import write_report
from alignlab.runs import RunIdentity
from alignlab.types import EvalResult, StudyDescription


def judge_card(
    judge: str,
    data: Sequence[str],
    out: Path,
    *overrides: str,
    config: str | Path | None = None,
    **settings: Any,
) -> Evaluated:
    """Implement `alignlab.judge_card` for a judge and data given by spec.

    Raises:
        BadInput: an unknown setting or judge, or data without compared answers.
        RunFailed: the work could not be finished; the same call resumes.
    """
    chosen = configs.build(CardSettings, *setting_layers(config, overrides, settings))
    found = find_sets(data)
    sets = [read_set(name, specs, chosen.n, chosen.seed) for name, specs in found.items()]
    known = card_cache.identity(judge)
    plain: dict[str, Any] = to_dict(chosen)
    plain.pop("threads")
    identity = RunIdentity(
        "judge_card",
        plain | {"judge": judge, "identity": known, "data": {k: list(v) for k, v in found.items()}},
        (chosen.seed,),
    )
    hardware = Hardware(workers=1, threads=chosen.threads)
    with open_run(out, identity, hardware, chosen.chat_template) as context:
        for one in sets:
            context.run.add_inputs(one.files)
        with context.run.stage("data") as stage:
            counts = [replace(c, what=f"{s.name}: {c.what}") for s in sets for c in s.counts]
            stage.count(counts)
        card = measure_judge(context, judge, known, sets, chosen)
        context.run.describe(_described(card))
        with context.run.stage("results") as stage:
            stage.write("results", EvalResult, card.rows)
        context.run.finish()
        plain_card = to_dict(card)
        write_json(out / card_cache.CARD, plain_card)
        write_text(out / "card.md", markdown(card))
        report = write_report(out)
        if not any(r.n for r in card.rows if r.model == card.name and r.metric == "agreement"):
            raise RunFailed(f"judge-card: no verdict could be read (reasons in {report})")
        card_cache.keep(plain_card)
    return Evaluated(as_json(card.rows), _table(card), report, notes(card))


def _described(card: JudgeCard) -> StudyDescription:
    """Describe the run for its report; the headline is the verdict."""
    models = {card.name: f"the judge, {card.judge}"}
    return StudyDescription(
        "judge_card", f"Is {card.name} fit to judge?", "", models, fitness=" ".join(notes(card))
    )


def _table(card: JudgeCard) -> Table:
    """Tabulate the sets; biases, calibration and cost stand below."""
    head, *lines = by_set(card)
    table = empty_table(f"judge card of {card.name}, seed {card.seed}", head)
    for line in lines:
        table.add_row(*line)
    table.caption = "\n".join(pooled_lines(card))
    table.caption_justify = "left"
    return table
