"""Plan a run before it starts, and raise every error that needs no model.

The study is run with a recording context (`alignlab.recording`): every teacher, critic, judge and
objective in the settings is built and the data are read, but no model is loaded and no request is
sent. Thus a missing key or an unknown judge is reported before hours of work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from alignlab import progress
from alignlab.configs import parse_overrides
from alignlab.context import RunContext, resolve_model
from alignlab.errors import BadInput, RunFailed
from alignlab.models.dtypes import device_of, resolve_dtype
from alignlab.models.facts import ModelFacts, model_facts
from alignlab.models.quant import require_bitsandbytes
from alignlab.plan import Calls, Memory, Plan, Price, StageTime, Used
from alignlab.recipes.study import Recipe, StudyConfig
from alignlab.recording import Recorder, RecordingRun, Work
from alignlab.specs import split
from alignlab.training.config import TrainConfig

ACTIVATIONS = 34
"""Bytes of activations that a transformer layer stores per position and hidden unit for the
backward pass in half precision, without attention scores (arXiv 2205.05198, section 4.1)."""

BATCH = 256
"""Number of samples that the local engine draws at once."""

DATA = {"groups": "ranked groups", "test_prompts": "held-out prompts",
        "test_groups": "held-out ranked groups"}  # fmt: skip
"""Kind of record in the seed stage -> its name in a plan, if different."""


def plan_study(recipe: Recipe, config: StudyConfig, *, gflops: float = 0.0) -> Plan:
    """Plan a study by running it with stand-ins.

    Args:
        gflops: throughput of this machine in GFLOP/s, for the estimate of time; 0 estimates none.

    Raises:
        BadInput: a part named in the settings cannot be built, the data are bad, or a step would
            have no input.
    """
    config.objective.build()
    for training in (config.sft, config.preference):
        if training.quant != "none":
            require_bitsandbytes(training.quant)
    template, out = config.chat_template or None, Path(config.out or f"runs/{recipe.name}")
    facts = model_facts(resolve_model(config.model).path, chat_template=template)
    recorder = Recorder(template)
    with TemporaryDirectory() as folder, progress.quiet():
        run = RecordingRun(Path(folder), recorder)
        context = RunContext(run, config.seed, config.hardware, template, recorder=recorder)
        try:
            measured = recipe.study(context, config)
        except RunFailed as error:  # it would fail so after hours
            raise BadInput(f"these settings leave a step without data: {error}") from None
    calls = _calls(recorder.work, config.seeds)
    return Plan(
        recipe=recipe.name,
        preset=config.preset,
        seeds=config.seeds,
        out=str(out),
        resumes=(out / "config.yaml").exists(),
        model=f"{facts.path}: {facts.kind}, {facts.parameters:,} parameters, "
        f"context of {facts.context:,} tokens",
        data=_used(recorder),
        models={model: measured.made.get(model, "") for model in measured.answers},
        calls=calls,
        memory=memory(facts, config),
        disk_gigabytes=_disk(recorder, config),
        stages=_times(recorder.work, gflops) if gflops else (),
        money=_money(calls),
    )


def memory(facts: ModelFacts, config: StudyConfig) -> tuple[Memory, ...]:
    """Estimate the memory of training (the larger of the two kinds) and of generation."""
    trained = [_training(facts, config, what) for what in ("sft", "preference")]
    return max(trained, key=lambda m: m.gigabytes), _generation(facts, config)


def _calls(work: Sequence[Work], seeds: int) -> tuple[Calls, ...]:
    """Sum the calls of one kind by model, over all seeds."""
    summed: dict[tuple[str, str], Calls] = {}
    for one in work:
        if one.what == "trained":
            continue
        new = summed.setdefault((one.what, one.by), Calls(one.what, one.by, 0, 0))
        tokens = None if one.tokens is None else (new.tokens or 0) + one.tokens * seeds
        summed[one.what, one.by] = replace(
            new,
            number=new.number + one.calls * seeds,
            tokens=tokens,
            read=new.read + one.read * seeds,
        )
    return tuple(summed.values())


def _times(work: Sequence[Work], gflops: float) -> tuple[StageTime, ...]:
    """Estimate the time of every stage from its operations and the machine's throughput."""
    seconds: dict[str, float] = {}
    for one in work:
        if one.operations:
            seconds[one.stage] = seconds.get(one.stage, 0.0) + one.operations / (gflops * 1e9)
    return tuple(StageTime(stage, taken) for stage, taken in seconds.items())


def _money(calls: Sequence[Calls]) -> tuple[Price, ...]:
    """Price the calls of every endpoint whose spec gives prices per million tokens."""
    dollars: dict[str, float] = {}
    for one in calls:
        prices = parse_overrides([o for o in split(one.by).options if o.startswith("usd_")])
        paid = one.read * float(prices.get("usd_per_million_prompt", 0))
        paid += (one.tokens or 0) * float(prices.get("usd_per_million_completion", 0))
        if prices:
            dollars[one.by] = dollars.get(one.by, 0.0) + paid / 1e6
    return tuple(Price(by, paid) for by, paid in dollars.items())


def _disk(recorder: Recorder, config: StudyConfig) -> float:
    """Estimate disk space: float32 weights of all models, the largest training's checkpoints."""
    sizes = [recorder.parameters(model.path) for model in recorder.trained] or [0]
    kept = max(c.keep_checkpoints if c.save_every else 0 for c in (config.sft, config.preference))
    return (4 * sum(sizes) * config.seeds + 12 * kept * max(sizes)) / 1e9


def _used(recorder: Recorder) -> tuple[Used, ...]:
    """Read how much of the data is used from the last counts of the seed stage."""
    stage = next(c.stage for c in recorder.counts if c.stage.endswith("-seed"))
    counts = [c for c in recorder.counts if c.stage == stage][-5:]
    return tuple(
        Used(DATA.get(c.what, c.what), c.kept, c.kept + sum(c.dropped.values())) for c in counts
    )


def _training(facts: ModelFacts, config: StudyConfig, what: str) -> Memory:
    """Estimate the memory of weights, gradients, Adam's moments and activations of one pass."""
    settings = config.sft if what == "sft" else config.preference
    half = _resolved(settings.dtype, config, facts) == "bfloat16"
    weights = facts.parameters * _weight_bytes(settings, half=half)
    trainable = facts.parameters
    if settings.lora is not None:
        # Two thin matrices for each of about seven square ones per layer.
        trainable = facts.layers * 7 * 2 * settings.lora.r * facts.hidden
    states = trainable * 12
    layers = 1 if settings.gradient_checkpointing else facts.layers
    kept = settings.token_budget * facts.hidden * layers * ACTIVATIONS * (1 if half else 2)
    total = (weights + states + kept) / 1e9
    return Memory(f"training ({what})", total, "weights, gradients, optimiser, activations")


def _resolved(dtype: str, config: StudyConfig, facts: ModelFacts) -> str:
    return resolve_dtype(dtype, device_of(config.hardware.device), facts.parameters)


def _weight_bytes(settings: TrainConfig, *, half: bool) -> float:
    """Return bytes per parameter: quantised weights, or float32 masters and working copy."""
    if settings.quant == "none":
        return 6 if half else 4
    return 0.52 if settings.quant == "nf4" else 1  # 4 bits, and 1/8 byte per 64 for the scales


def _generation(facts: ModelFacts, config: StudyConfig) -> Memory:
    """Estimate the memory of weights and of the key-value cache of a full batch at full length."""
    dtype = _resolved(config.hardware.dtype, config, facts)
    width = 4 if dtype == "float32" else 2
    length = min(facts.context, config.lengths.max_prompt_tokens + config.sample.max_tokens)
    cache = BATCH * length * facts.layers * 2 * facts.kv_width * width
    total = (facts.parameters * width + cache) / 1e9
    return Memory("generation", total, f"weights, {BATCH} samples of {length:,} tokens")
