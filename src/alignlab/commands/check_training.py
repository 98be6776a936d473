"""Validate a training by one objective, and diagnose whether it can succeed; train nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignlab.commands._support.train_setup import build_objective, choose, objective_class
from alignlab.commands.diagnose import ModelSample, diagnose_data, sampling
from alignlab.commands.train import TrainSettings, records_for, refuse_idle_settings
from alignlab.context import resolve_model
from alignlab.data.sources import load as load_data
from alignlab.errors import BadInput
from alignlab.finding import Finding
from alignlab.models.dtypes import device_of, resolve_dtype
from alignlab.models.facts import ModelFacts, model_facts
from alignlab.models.memory import (
    NF4_BYTES,
    PROCESS,
    TrainingShape,
    adapter_parameters,
    process_parts,
)
from alignlab.objectives.base import Objective
from alignlab.objectives.rollout_batch import is_policy_gradient
from alignlab.plan import Memory, listed
from alignlab.types import PreferenceGroup


@dataclass(frozen=True)
class TrainingCheck:
    """Training whose settings and data were validated, with diagnoses."""

    objective: str
    model: str
    """Model on one line."""
    data: str
    """Records to train on, and those left out, by reason."""
    memory: tuple[Memory, ...]
    """Memory of one process: of the training on GPUs, and of process 0 while it saves shards."""
    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        return "\n".join(
            [
                *listed("train", [self.objective]),
                *listed("model", [self.model]),
                *listed("data", [self.data]),
                *listed("memory", self.memory),
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
    processes: int = 1,
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
        processes: processes that share the weights (parallel=fsdp) in the estimate of memory.

    Raises:
        BadInput: any error that the training would raise before its first step.
    """
    if processes < 1:
        raise BadInput(f"processes: expected 1 or more, found {processes}")
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
    if sample:
        with sampling(chosen.hardware(), chosen.chat_template, chosen.seed) as context:
            asked = ModelSample(context, model, chosen.lengths, sample)
            found += asked.audited(learned, records)
            found += asked.off_policy([r for r in records if isinstance(r, PreferenceGroup)])
    left_out = ", ".join(f"{why} {n}" for why, n in tally.dropped.items())
    return TrainingCheck(
        objective=repr(learned),
        model=f"{facts.path}: {facts.kind}, {facts.parameters:,} parameters"
        + ", a plan alone: there are no weights" * bare,
        data=f"{tally.kept:,} {tally.what}" + f" ({left_out} left out)" * bool(left_out),
        memory=_memory(facts, chosen, processes),
        findings=tuple(found),
    )


def _memory(facts: ModelFacts, chosen: TrainSettings, processes: int) -> tuple[Memory, ...]:
    """Estimate the memory of one process on GPUs, and of process 0 while a result is saved."""
    if processes > 1 and chosen.quant != "none":
        raise BadInput("train: quant: quantised weights are not shared out; expected processes=1")
    dtype = resolve_dtype(chosen.dtype, device_of(chosen.device), facts.parameters)
    trainable = facts.parameters
    if chosen.lora is not None:
        trainable = adapter_parameters(facts, chosen.lora.r)
    frozen = {"nf4": NF4_BYTES, "int8": 1.0}.get(chosen.quant)
    shape = TrainingShape(
        trainable,
        chosen.token_budget,
        2 if dtype == "bfloat16" else 4,
        chosen.gradient_checkpointing,
        processes,
        frozen,
    )
    parts = process_parts(facts, shape)
    of = ", ".join(f"{what} {size / 1e9:.3g}" for what, size in parts.items() if size)
    what = "training, one process" if processes == 1 else f"training, each of {processes} processes"
    note = f"on a GPU, {dtype}, {shape.positions:,} tokens a pass: {of}"
    found = [Memory(what, sum(parts.values()) / 1e9, note)]
    if processes > 1:
        # Gathered float32 values, and their copy in the type of the file.
        whole = facts.parameters * (4 if chosen.save_dtype == "float32" else 6) + PROCESS
        found.append(Memory("saving, process 0", whole / 1e9, "on the CPU, the gathered model"))
    return tuple(found)
