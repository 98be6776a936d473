"""Validate a training by one objective, and diagnose whether it can succeed; train nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignlab.commands._support.train_setup import build_objective, choose, objective_class
from alignlab.commands._support.training_memory import process_memory, training_memory
from alignlab.commands.diagnose import ModelSample, diagnose_data, sampling
from alignlab.commands.train import TrainSettings, records_for, refuse_idle_settings
from alignlab.context import resolve_model
from alignlab.data.sources import load as load_data
from alignlab.errors import BadInput
from alignlab.finding import Finding
from alignlab.models.dtypes import device_of, resolve_dtype
from alignlab.models.facts import ModelFacts, model_facts
from alignlab.models.packed import TokenGroup
from alignlab.objectives.base import Objective
from alignlab.objectives.rollout_batch import is_policy_gradient
from alignlab.plan import Memory, listed
from alignlab.types import PreferenceGroup
from alignlab.work import largest_step


@dataclass(frozen=True)
class TrainingCheck:
    """Training whose settings and data were validated, with diagnoses."""

    objective: str
    model: str
    """Model on one line."""
    data: str
    """Records to train on, and those left out, by reason."""
    findings: tuple[Finding, ...]
    memory: Memory | None = None
    """Memory of the training; None where no model was loaded to tokenise records."""
    processes: tuple[Memory, ...] = ()
    """Memory of one process of a training on GPUs, and of the one that saves."""

    def __str__(self) -> str:
        return "\n".join(
            [
                *listed("train", [self.objective]),
                *listed("model", [self.model]),
                *listed("data", [self.data]),
                *listed("memory", [*([self.memory] if self.memory else []), *self.processes]),
                *listed("success", self.findings),
            ]
        )


def check_training(
    objective: Any,
    *overrides: str,
    model: str,
    data: str,
    config: str | Path | None = None,
    sample: int = 0,
    processes: int = 0,
) -> TrainingCheck:
    """Check settings, data and model of a training, and diagnose them.

    Args:
        objective: name of an objective, or an instance.
        overrides: "key=value" strings, as of `alignlab train`.
        model: spec of the model to start from.
        data: spec of the data.
        config: a YAML file of settings, under the overrides.
        sample: number of pairs that the model is asked about; 0 loads no model, and needs neither
            its weights nor its tokenizer.
        processes: estimate the memory of one of so many processes on GPUs that share the weights
            (parallel=fsdp); 1 is a single GPU, 0 estimates none.

    Raises:
        BadInput: any error that the training would raise before its first step.
    """
    if processes < 0:
        raise BadInput(f"processes: expected 0 or more, found {processes}")
    if is_policy_gradient(objective_class(objective)):
        raise BadInput(
            f"check {objective}: expected an objective over given responses, found one over "
            "rollouts, whose responses do not exist yet; `alignlab data check` reads its prompts"
        )
    chosen, given = choose(TrainSettings, config, overrides, {})
    learned: Objective = build_objective(objective, chosen.objective)
    refuse_idle_settings(chosen, given)
    corpus = load_data(data)
    records, tally = records_for(learned, corpus, chosen.pairs, seed=chosen.seed)
    path = resolve_model(model).path
    bare = sample == 0 and Path(path).is_dir() and not any(Path(path).glob("*.safetensors"))
    facts = model_facts(path, chat_template=chosen.chat_template or None, shape_only=bare)
    found = diagnose_data(corpus)
    memory = None
    if sample:
        with sampling(chosen.hardware(), chosen.chat_template, chosen.seed) as context:
            asked = ModelSample(context, model, chosen.lengths, sample)
            found += asked.audited(learned, records)
            groups = asked.prepared(learned, records).groups
            memory = _memory(facts, chosen, groups, len(records))
            found += asked.off_policy([r for r in records if isinstance(r, PreferenceGroup)])
    left_out = ", ".join(f"{why} {n}" for why, n in tally.dropped.items())
    return TrainingCheck(
        objective=repr(learned),
        model=f"{facts.path}: {facts.kind}, {facts.parameters:,} parameters"
        + ", a plan alone: there are no weights" * bare,
        data=f"{tally.kept:,} {tally.what}" + f" ({left_out} left out)" * bool(left_out),
        findings=tuple(found),
        memory=memory,
        processes=_processes(facts, chosen, processes) if processes else (),
    )


def _processes(facts: ModelFacts, chosen: TrainSettings, processes: int) -> tuple[Memory, ...]:
    dtype = resolve_dtype(chosen.dtype, device_of(chosen.device), facts.parameters)
    return process_memory(
        facts,
        chosen,
        half=dtype == "bfloat16",
        processes=processes,
    )


def _memory(
    facts: ModelFacts, settings: TrainSettings, groups: Sequence[TokenGroup], records: int
) -> Memory | None:
    """Estimate the memory of a training on so many groups like these; None without any."""
    if not groups:
        return None
    tokens = [group.tokens for group in groups]
    dtype = resolve_dtype(settings.dtype, device_of(settings.device), facts.parameters)
    return training_memory(
        facts,
        settings,
        half=dtype == "bfloat16",
        step=largest_step(tokens, min(settings.batch_size, records)),
        group=sum(tokens) // len(tokens),
        what="one pass",
    )
