"""Write the model card of an exported model, from the records of its runs alone.

The front matter follows the hub's format; a field that no record gives is left out, and the text
lists what is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from alignlab.report import labels
from alignlab.report.lineage import Lineage, TrainingStep
from alignlab.report.run_data import RunData
from alignlab.types import EvalResult

_LEFT_OUT = ("wins", "losses", "ties", "distinct_2", "repetition_4")
"""Metrics of studies that a card does not show."""
_SETTINGS = (
    "lr", "schedule", "warmup_ratio", "epochs", "batch_size", "weight_decay", "dtype", "dropout",
    "lora", "quant", "neftune_alpha",
)  # fmt: skip
"""Settings of a training that a card shows."""


@dataclass(frozen=True)
class ExportedModel:
    """Facts on the exported files."""

    name: str
    kind: str
    """Architecture name in transformers."""
    parameters: int
    dtype: str
    end_of_turn: str
    """Text of the token that ends an answer."""
    licence: str
    """Licence of the base model, or the one given; empty where unknown."""
    is_reward_model: bool = False


def model_card(model: ExportedModel, lineage: Lineage, *, evaluations: Sequence[RunData]) -> str:
    """Return the card as Markdown with a YAML header.

    Args:
        model: facts on the exported files.
        lineage: base model and trainings.
        evaluations: further runs with figures of the model, under its name there.
    """
    figures = _figures(lineage, evaluations, model.name)
    parts = [
        _header(model, lineage),
        f"# {model.name}\n\n{_summary(model, lineage)}",
        _training(lineage.steps),
        _figure_table(figures, lineage),
        _unknown(model, lineage, figures),
        _use(model),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


@dataclass(frozen=True)
class _Figure:
    row: EvalResult
    judge: str


def _header(model: ExportedModel, lineage: Lineage) -> str:
    task = "text-classification" if model.is_reward_model else "text-generation"
    fields: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": task}
    if model.licence:
        fields["license"] = model.licence
    if _is_hub_id(lineage.base):
        fields["base_model"] = lineage.base
    fields["tags"] = ["alignlab"]
    return f"---\n{yaml.safe_dump(fields, sort_keys=False).strip()}\n---"


def _summary(model: ExportedModel, lineage: Lineage) -> str:
    kind = "A reward model" if model.is_reward_model else "A language model"
    size = f"{kind} ({model.kind}, {model.parameters:,} parameters, {model.dtype})"
    if not lineage.steps:
        origin = f" made from {_shown(lineage.base)}" if lineage.base else ""
        return f"{size}{origin}. No record of a training lies with it."
    version = lineage.steps[-1].run.manifest.versions.get("alignlab", "")
    return (
        f"{size}, trained from {_shown(lineage.base) or 'a base model that no record names'} "
        f"with alignlab {version}".rstrip()
        + ". This card is made from the records of its runs."
    )


def _training(steps: Sequence[TrainingStep]) -> str:
    if not steps:
        return ""
    lines = ["## Training", "", "| model | training | data | steps | tokens | seed |"]
    lines.append("|---|---|---|---|---|---|")
    for step in steps:
        best = f" (best of {step.steps}: step {step.best_step})" if step.best_step else ""
        count = f"{step.best_step or step.steps or '–'}{best}"
        tokens = f"{step.tokens:,}" if step.tokens else "–"
        shown = step.run.path.name if step.run.manifest.recipe == "train" else step.name
        cells = (shown, step.made or "–", _shown(step.data), count, tokens, step.seed)
        lines.append(_row(cells))
    lines += ["", "Settings of the last training:", "", "```yaml"]
    lines += [yaml.safe_dump(_settings(steps[-1]), sort_keys=False).strip(), "```"]
    counts = [_count(c.what, c.kept, {**c.dropped, **c.changed}) for c in steps[-1].counts]
    if counts:
        lines += ["", "Records of the last training: " + "; ".join(counts) + "."]
    files = {
        Path(name).name: str(digest)[:12]
        for step in steps
        for name, digest in step.run.manifest.inputs.items()
    }
    if files:
        named = ", ".join(f"{name} ({digest})" for name, digest in files.items())
        lines += ["", f"Files read, with the start of their SHA-256: {named}."]
    return "\n".join(lines)


def _settings(step: TrainingStep) -> dict[str, Any]:
    """Return the settings of a training that change what is learned."""
    config = step.settings.get("config") or {}
    shown: dict[str, Any] = {}
    if step.settings.get("objective"):
        shown["objective"] = step.settings["objective"]
    shown |= {key: config[key] for key in _SETTINGS if config.get(key) not in (None, "none", 0.0)}
    if step.settings.get("lengths"):
        shown["lengths"] = step.settings["lengths"]
    return shown


def _figures(lineage: Lineage, evaluations: Sequence[RunData], name: str) -> list[_Figure]:
    """Return the model's figures on whole benchmarks, with the judge of each."""
    found: list[_Figure] = []
    named = [(evaluation, name) for evaluation in evaluations]
    if lineage.steps:
        named.insert(0, (lineage.steps[-1].run, lineage.steps[-1].name))
    for run, model in named:
        config = _config(run)
        for row in run.results:
            whole = row.group is None and row.value is not None
            hidden = row.metric in _LEFT_OUT or row.metric.endswith(("_p", "_p_holm"))
            if row.model == model and whole and not hidden:
                found.append(_Figure(row, _judge(row, config)))
    return found


def _judge(row: EvalResult, config: Mapping[str, Any]) -> str:
    """Return the judge of a figure by the run's settings; empty where there is none."""
    measure = config.get("measure")
    if isinstance(measure, dict):
        scores = str(measure.get("judge") or "")
        pairs = str(measure.get("pair_judge") or "") or scores
        judge = {"score": scores, "head_to_head": pairs}.get(row.benchmark, "")
        own = judge.rpartition(":")[2] == "self"
        return f"{judge} (M1 of the same study)" if own else judge
    judged = row.benchmark not in ("text", "held_out_preferences", "closed_questions")
    return str(config.get("judge") or "") if judged else ""


def _figure_table(figures: Sequence[_Figure], lineage: Lineage) -> str:
    if not figures:
        return "## Figures\n\nNone were measured in its runs."
    heads = ("benchmark", "metric", "value", "95% interval", "n", "unscored", "judge")
    lines = ["## Figures", "", _row(heads), "|" + "---|" * len(heads)]
    for figure in figures:
        row = figure.row
        against = f" against {row.against}" if row.against else ""
        lines.append(
            _row(
                (
                    labels.benchmark(row.benchmark),
                    labels.metric(row.metric) + against,
                    labels.number(row.value, row.metric),
                    labels.bounds(row) or "–",
                    str(row.n),
                    str(row.unscored),
                    _without_address(figure.judge) or "–",
                )
            )
        )
    seeds = lineage.steps[-1].run.manifest.seeds if lineage.steps else ()
    if len(seeds) > 1:
        pooled = ", ".join(map(str, seeds))
        lines += ["", f"Figures pool the seeds {pooled}; these weights are of one of them."]
    else:
        lines += ["", "Intervals are over prompts, of one training; another seed was not tried."]
    return "\n".join(lines)


def _unknown(model: ExportedModel, lineage: Lineage, figures: Sequence[_Figure]) -> str:
    lines = []
    if not model.licence:
        lines.append("The licence of the base model, and so of this one.")
    if not lineage.base:
        lines.append("The base model and its training.")
    else:
        lines.append(f"The data that {_shown(lineage.base)} was trained on.")
    if lineage.steps:
        lines.append("The licence of the training data, which no record holds.")
    judges = sorted({_without_address(f.judge) for f in figures if f.judge})
    if judges:
        lines.append(f"Agreement of the judge with people: {', '.join(judges)}.")
    lines.append("Anything that the table does not name, such as safety, bias and other languages.")
    return "\n".join(["## Not known", "", *(f"- {line}" for line in lines)])


def _use(model: ExportedModel) -> str:
    if model.is_reward_model:
        return ""
    return (
        "## Use\n\nThe tokenizer holds the chat template of the training; answers end with "
        f"`{model.end_of_turn}`, at which `generate` stops.\n\n"
        "```python\nfrom transformers import pipeline\n\n"
        'chat = pipeline("text-generation", "FOLDER")\n'
        'print(chat([{"role": "user", "content": "Hello"}], max_new_tokens=256))\n```'
    )


def _config(run: RunData) -> Mapping[str, Any]:
    try:
        found = yaml.safe_load(run.config)
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}


def _count(what: str, kept: int, reasons: Mapping[str, int]) -> str:
    why = ", ".join(f"{reason} {number}" for reason, number in reasons.items())
    return f"{kept} {what}" + (f" ({why})" if why else "")


def _shown(spec: str) -> str:
    """Return a spec without the folders of the machine that it was used on."""
    kind, colon, rest = spec.partition(":")
    if colon and "/" in rest:
        return f"{kind}:{Path(rest).name}"
    return spec if _is_hub_id(spec) else Path(spec).name or spec


def _is_hub_id(spec: str) -> bool:
    return spec.count("/") == 1 and not spec.startswith((".", "/", "~")) and not Path(spec).exists()


def _without_address(judge: str) -> str:
    """Return a judge's spec without the address of its server."""
    return judge.partition("@")[0]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|").replace("\n", " ") for cell in cells) + " |"
