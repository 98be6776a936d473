"""Train one model towards one objective, on data that is there already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from alignlab import configs, registry
from alignlab.data.specs import load as load_data
from alignlab.errors import BadInput
from alignlab.models import adapters
from alignlab.models.load import fingerprint, save
from alignlab.models.load import load as load_model
from alignlab.objectives.base import Objective
from alignlab.records import read_records, to_dict
from alignlab.runs import Run, RunIdentity
from alignlab.stages.held_out import held_out
from alignlab.stages.lab import Hardware, Lab, resolve_model
from alignlab.stages.train import LengthSettings, Lesson
from alignlab.stages.train import train as train_stage
from alignlab.training.config import TrainConfig
from alignlab.training.records import KINDS, Record, record_kind
from alignlab.types import (
    Checkpoint,
    Commented,
    Corpus,
    Count,
    Demonstration,
    EvalResult,
    Labelled,
    PreferenceGroup,
)

NAME = "model"
"""What the run calls the trained model."""


@dataclass(frozen=True)
class TrainSettings(TrainConfig):
    """Settings of a training: those of the loop, and these."""

    objective: dict[str, Any] = field(default_factory=dict)
    """The objective's options, e.g. objective.beta=0.3."""
    lengths: LengthSettings = field(default_factory=LengthSettings)
    pairs: Literal["", "best_worst", "all"] = ""
    """Which pairs a pairwise objective takes of larger groups; empty refuses such groups."""
    adapter: str = ""
    """Folder or hub id of a PEFT adapter that is merged into the model first."""
    chat_template: str = ""
    """File with a chat template, for a model that comes without one."""
    device: str = "auto"
    """"auto" takes a GPU where there is one; else "cpu", "cuda", "cuda:1", ..."""
    threads: int = 0
    """Torch threads; 0 is one per core."""

    def loop(self) -> TrainConfig:
        """The settings of the loop alone."""
        return TrainConfig(**{f.name: getattr(self, f.name) for f in fields(TrainConfig)})


@dataclass(frozen=True)
class Trained:
    """What a training left."""

    model: Checkpoint
    metrics: str
    """File of the training's metrics, one JSON line per `log_every` steps."""
    counts: tuple[Count, ...]
    """What was kept, dropped and changed on the way from data to tokens."""
    held_out: tuple[EvalResult, ...]
    """Preference accuracy on the data's held-out groups; empty where there are none."""

    def __str__(self) -> str:
        lines = [f"model: {self.model.path}", f"metrics: {self.metrics}"]
        lines += [_count_line(c) for c in self.counts if c.dropped or c.changed]
        return "\n".join(lines + [_figure_line(row) for row in self.held_out])


def train(
    objective: str | Objective,
    *overrides: str,
    model: str,
    data: str,
    out: str | Path,
    config: str | Path | None = None,
    **settings: Any,
) -> Trained:
    """Train a model, or resume the training where it stopped.

    Args:
        objective: a name from `alignlab list objectives`, or an objective itself.
        overrides: "key=value" strings, as on the command line.
        model: the model to start from: hub id, local folder, or sandbox:NAME.
        data: FORMAT:PATH or PATH; held-out groups come with it (`?test_share=0.1`).
        out: run directory.
        config: a YAML file of settings, under the overrides.
        settings: the same as overrides, nested mappings for nested settings.

    Raises:
        BadInput: unknown objective or setting, settings without effect, or data that does not fit.
        RunFailed: the loss is not finite.
    """
    layers: list[Mapping[str, Any]] = [configs.read_yaml(Path(config))] if config else []
    layers += [configs.parse_overrides(overrides), settings]
    chosen = configs.build(TrainSettings, *layers)
    made = _objective(objective, chosen)
    _refuse_idle(chosen, {key for layer in layers for key in layer})
    corpus = load_data(data)
    records, taken = _records(made, corpus, chosen.pairs)
    identity = to_dict(chosen) | {"model": model, "data": data, "learns": repr(made)}
    identity.pop("threads")
    run = Run.start(Path(out), RunIdentity("train", identity, (chosen.seed,)))
    try:
        run.add_inputs(corpus.files)
        hardware = Hardware(chosen.device, workers=1, threads=chosen.threads)
        lab = Lab(run, chosen.seed, hardware, chosen.chat_template or None)
        torch.set_num_threads(lab.threads)
        with run.stage("data", inputs={"data": data}) as stage:
            stage.count([*corpus.counts, taken])
        parent = resolve_model(model)
        if chosen.adapter:
            parent = _with_adapter(lab, parent, chosen.adapter)
        lesson = Lesson(made, chosen.loop(), chosen.lengths)
        trained = train_stage(lab, parent, records, lesson, name=NAME)
        rows: Sequence[EvalResult] = ()
        if corpus.test_groups:
            groups = corpus.groups, corpus.test_groups
            rows = held_out(lab, made, (parent, trained), groups, chosen.lengths)
        run.finish()
        metrics = Path(trained.path).with_name("metrics.jsonl")
        return Trained(trained, str(metrics), _counts(run), tuple(rows))
    finally:
        run.close()


def _objective(objective: str | Objective, chosen: TrainSettings) -> Objective:
    if isinstance(objective, str):
        made: Objective = configs.build(registry.get("objective", objective), chosen.objective)
        return made
    if chosen.objective:
        raise BadInput("setting objective: has no effect beside an objective that is given whole")
    return objective


def _refuse_idle(chosen: TrainSettings, given: set[str]) -> None:
    """Refuse settings that were given and change nothing."""
    for key, idle, why in (
        ("min_lr_ratio", chosen.schedule == "constant", "with schedule=constant"),
        ("keep_checkpoints", not chosen.save_every, "with save_every=0"),
        ("validate_every", bool(chosen.validate_every), "here: held-out groups choose no model"),
    ):
        if key in given and idle:
            raise BadInput(f"setting {key}: has no effect {why}; leave it out")
    if chosen.lengths.max_response_tokens > chosen.token_budget:
        raise BadInput(
            f"setting lengths.max_response_tokens: expected at most token_budget "
            f"({chosen.token_budget}), found {chosen.lengths.max_response_tokens}: a response "
            "would be longer than the budget of a pass"
        )


class _Taken(NamedTuple):
    """What the objective learns from, and how it was made of the data's records."""

    records: list[Record]
    tally: Count


def _records(objective: Objective, corpus: Corpus, pairs: str) -> _Taken:
    """The records of the data that the objective learns from.

    Raises:
        BadInput: there is none, or groups are too large and nothing says which pairs to take.
    """
    kind = record_kind(objective)
    held: dict[type, Sequence[Record]] = {
        Demonstration: corpus.demonstrations,
        PreferenceGroup: corpus.groups,
        Labelled: corpus.labelled,
        Commented: corpus.commented,
    }
    found = list(held[kind] or (corpus.groups if kind is Labelled else ()))
    if not found:
        has = ", ".join(f"{len(v)} {KINDS[k]}" for k, v in held.items() if v) or "no records"
        one = kind is PreferenceGroup and bool(corpus.demonstrations)
        why = " (a group needs 2 responses or more to a prompt; these have 1)" if one else ""
        raise BadInput(
            f"{corpus.name}: {type(objective).__name__} learns from {KINDS[kind]}; the data has "
            f"{has}{why}"
        )
    pairwise = kind is PreferenceGroup and objective.max_responses == 2
    groups = [r for r in found if isinstance(r, PreferenceGroup)] if pairwise else []
    large = next((g for g in groups if len(g.responses) > 2), None)
    if large is None:
        if pairs:
            raise BadInput(
                f"setting pairs: has no effect: {type(objective).__name__} takes the groups of "
                "this data as they are"
            )
        return _Taken(found, Count("data", KINDS[kind], len(found)))
    if not pairs:
        raise BadInput(
            f"group {large.id}: {type(objective).__name__} expects 2 responses, found "
            f"{len(large.responses)}; choose with pairs=best_worst or pairs=all"
        )
    made = [_pairs(group, pairs) for group in groups]
    equal = sum(not some for some in made)
    changed = {"group to pairs": len(groups) - equal}
    taken: list[Record] = [pair for some in made for pair in some]
    dropped = {"all scores equal": equal} if equal else {}
    return _Taken(taken, Count("data", "pairs", len(taken), dropped, changed))


def _pairs(group: PreferenceGroup, which: str) -> list[PreferenceGroup]:
    """A group's pairs of a better and a worse response."""
    if which == "best_worst":
        ends = group.best_and_worst()
        return [] if ends is None else [ends]
    numbered = zip(group.responses, group.scores, strict=True)
    return [
        PreferenceGroup(group.prompt, (better, worse), (high, low), group.source)
        for (better, high), (worse, low) in combinations(numbered, 2)
        if high > low
    ]


def _with_adapter(lab: Lab, parent: Checkpoint, adapter: str) -> Checkpoint:
    """The model with an adapter merged, as a checkpoint of the run."""
    inputs = {"model": parent.path, "adapter": adapter}
    with lab.run.stage("merged", inputs=inputs) as stage:
        folder = stage.path / "model"
        if not stage.done:
            device = None if lab.hardware.device == "auto" else lab.hardware.device
            lm = load_model(
                parent.path,
                dtype="float32",
                device=device,
                adapter=adapter,
                chat_template=lab.chat_template,
            )
            save(adapters.merged(lm), folder)
        return Checkpoint("merged", str(folder), parent.name, fingerprint=fingerprint(folder))


def _counts(run: Run) -> tuple[Count, ...]:
    files = sorted((run.path / "stages").rglob("counts.jsonl"))
    return tuple(count for file in files for count in read_records(file, Count))


def _count_line(count: Count) -> str:
    left_out = [f"{why} {n}" for why, n in (*count.dropped.items(), *count.changed.items())]
    return f"{count.stage}: {count.kept} {count.what} kept; {', '.join(left_out)}"


def _figure_line(row: EvalResult) -> str:
    value = "not measured" if row.value is None else f"{row.value:.3f}"
    bounds = "" if row.low is None else f" [{row.low:.3f}, {row.high:.3f}]"
    against = f" against {row.against}" if row.against else ""
    return f"held-out {row.metric}, {row.model}{against}: {value}{bounds}, n {row.n}"
