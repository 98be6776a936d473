"""Plan a run before it starts, and raise every error that needs no model.

The study is run with a recording context (`alignlab.recording`): every teacher, critic, judge and
objective in the settings is built and the data are read, but no model is loaded and no request is
sent. Thus a missing key or an unknown judge is reported before hours of work.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from alignlab import machine, progress
from alignlab.cluster.placement import Node
from alignlab.commands._support.measured_speed import PlannedModel, SampleTexts, cache_file
from alignlab.commands._support.placed import layout_of
from alignlab.commands._support.sampling_memory import sampling_memory
from alignlab.commands._support.training_memory import training_memory
from alignlab.configs import parse_overrides
from alignlab.context import RunContext, resolve_model
from alignlab.errors import BadInput, RunFailed
from alignlab.measuring.measure import StudyMeasurements
from alignlab.models.dtypes import device_of, resolve_dtype
from alignlab.models.facts import ModelFacts, model_facts
from alignlab.models.load import tokenizer_of
from alignlab.models.locate import HUB_SMALL_FILES, locate
from alignlab.models.memory import adapter_parameters, reading_bytes
from alignlab.models.quant import require_bitsandbytes
from alignlab.plan import Calls, Memory, Plan, Price, StageTime, Time, Used, duration
from alignlab.recipes.study import Recipe, StudyConfig
from alignlab.recording import BATCH, STUDENT, Recorder, RecordingRun, is_stand_in
from alignlab.runs import Run
from alignlab.specs import split
from alignlab.speed import Speed, elapsed, seconds
from alignlab.training.config import TrainConfig, saves_adapter
from alignlab.training.rollout_config import RolloutConfig
from alignlab.work import CHARACTERS, Lengths, Trained, Work

DATA = {"groups": "ranked groups", "test_prompts": "held-out prompts",
        "test_groups": "held-out ranked groups"}  # fmt: skip
"""Kind of record in the seed stage -> its name in a plan, if different."""


Speeds = Callable[
    [Mapping[PlannedModel, SampleTexts], RunContext, int], Mapping[PlannedModel, Speed]
]
"""Function that returns the speed of each model of a plan in a process of so many threads."""


def plan_study(
    recipe: Recipe,
    config: StudyConfig,
    *,
    speeds: Speeds | None = None,
    nodes: Sequence[Node] = (),
    fits: Callable[[TrainConfig], None] | None = None,
) -> Plan:
    """Plan a study by running it with stand-ins.

    Args:
        speeds: returns the speeds of the study's models, for the estimate of time; None estimates
            none.
        nodes: nodes of the cluster that runs it; empty for this machine's processes.
        fits: function that refuses settings of a training which this machine cannot do; it is
            called with those of every training of the study.

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
    known: dict[Any, Any] = {}
    tokens_of, added = model_tokenizer(config)
    recorder, measured = _recorded(recipe, config, Lengths(template=added), known)
    if fits is not None:
        for loop in _loops(recorder):
            fits(loop)
    calls = _calls(recorder.work, config.seeds)
    plan = Plan(
        recipe=recipe.name,
        preset=config.preset,
        seeds=config.seeds,
        out=str(out),
        resumes=(out / "config.yaml").exists(),
        model=f"{config.model}: {facts.kind}, {facts.parameters:,} parameters, "
        f"context of {facts.context:,} tokens",
        data=_used(recorder),
        models=recipe.described({m: measured.made.get(m, "") for m in measured.answers}),
        calls=calls,
        memory=memory(facts, config, _judged(recorder), recorder.sizes),
        disk_gigabytes=_disk(recorder, config),
        money=_money(calls),
    )
    if speeds is not None:
        typical = typical_lengths(recorder.examples, tokens_of, added)
        again, _ = _recorded(recipe, config, typical, known)
        plan = _timed(plan, config, recorder, again, speeds, nodes)
    if not nodes:
        return plan
    layout = layout_of(config.hardware, nodes, plan.memory)
    return replace(plan, places=tuple(layout.lines(_most_tasks(recorder, config))))


def _most_tasks(recorder: Recorder, config: StudyConfig) -> int:
    """Return the number of tasks that the largest group of branches comes to, over all seeds."""
    return max((len(group) for group in recorder.branches), default=1) * config.seeds


def _loops(recorder: Recorder) -> tuple[TrainConfig, ...]:
    """Return the different settings of the trainings of a study."""
    found: list[TrainConfig] = []
    for size in recorder.sizes:
        if size.loop is not None and size.loop not in found:
            found.append(size.loop)
    return tuple(found)


def _judged(recorder: Recorder) -> int:
    """Return the tokens of the longest judge prompts."""
    judged = [
        one.read / one.calls
        for one in recorder.work
        if one.model and one.calls and not one.tokens and one.by == STUDENT
    ]
    return round(max(judged, default=0))


def _recorded(
    recipe: Recipe, config: StudyConfig, lengths: Lengths, known: dict[Any, Any]
) -> tuple[Recorder, StudyMeasurements]:
    """Run a study with stand-ins.

    Args:
        known: data that an earlier call has read.
    """
    recorder = Recorder(config.chat_template or None, lengths, known)
    with TemporaryDirectory() as folder, progress.quiet():
        context = _context(RecordingRun(Path(folder), recorder), config, recorder)
        try:
            return recorder, recipe.study(context, config)
        except RunFailed as error:  # it would fail so after hours
            raise BadInput(f"these settings leave a step without data: {error}") from None


def _context(run: Run, config: StudyConfig, recorder: Recorder | None) -> RunContext:
    template = config.chat_template or None
    return RunContext(run, config.seed, config.hardware, template, recorder=recorder)


def _timed(
    plan: Plan,
    config: StudyConfig,
    recorder: Recorder,
    again: Recorder,
    speeds: Speeds,
    nodes: Sequence[Node],
) -> Plan:
    """Add the predicted time.

    Args:
        recorder: dry run with the longest texts that the settings allow.
        again: dry run with texts of typical length.
    """
    with TemporaryDirectory() as folder:
        context = _context(Run(Path(folder)), config, None)
        threads = context.threads_of(_most_tasks(recorder, config))
        speed = speeds(_models(recorder, config), context, threads)
        # On a CPU, processes beyond its cores take turns.
        on_gpu = config.hardware.kind == "cuda"
        workers = context.workers if on_gpu else min(context.workers, machine.cores())
    likely, most = (_stage_seconds(r.work, speed) for r in (again, recorder))
    stages = tuple(StageTime(stage, taken, most[stage]) for stage, taken in likely.items())
    facts = model_facts(
        resolve_model(config.model).path, chat_template=config.chat_template or None
    )
    needed = memory(facts, config, _judged(again), again.sizes)
    if nodes:  # as fast as this machine, and all seeds at once
        workers = layout_of(config.hardware, nodes, needed).at_once(_most_tasks(recorder, config))
        total, bound = (_total(r, speed, workers, config.seeds) for r in (again, recorder))
    else:
        total, bound = (_total(r, speed, workers) * config.seeds for r in (again, recorder))
    rough = not all(one.measured for one in speed.values())
    busy = 1.0 if nodes else _busy(workers)
    basis = _basis(speed.values()) + ("; vLLM's is not known" if config.hardware.vllm else "")
    time = Time(total, bound, basis, busy, rough)
    return replace(plan, stages=stages, time=time, memory=needed)


def model_tokenizer(config: StudyConfig) -> tuple[Callable[[str], int], int]:
    """Return a count of the base model's tokens of a text, and those that its template adds."""
    folder = locate(resolve_model(config.model).path, files=HUB_SMALL_FILES)
    tokenizer = tokenizer_of(folder, config.chat_template or None).tokenizer

    def tokens_of(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    asked = [{"role": "user", "content": "Hello"}]
    text = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    return tokens_of, tokens_of(text) - tokens_of("Hello")


def typical_lengths(
    examples: Sequence[tuple[str, str]], tokens_of: Callable[[str], int], template: int = 0
) -> Lengths:
    """Measure characters per token, and tokens of a prompt and an answer, on the study's texts.

    Stand-ins for answers that models will write say nothing about answers' lengths; where there
    is no other text, an answer is taken to be half as long as the settings allow.

    Args:
        template: tokens that the chat template adds to a prompt.
    """
    if not examples:
        return Lengths(template=template)
    asked = [prompt for prompt, _ in examples]
    said = [answer for _, answer in examples if not is_stand_in(answer)]
    prompts, answers = sum(map(tokens_of, asked)), sum(map(tokens_of, said))
    characters = sum(map(len, asked + said)) / max(1, prompts + answers)
    answer = max(1, answers / len(said)) if said else 0.0
    return Lengths(characters, answer, max(1, prompts / len(asked)), template)


def _models(recorder: Recorder, config: StudyConfig) -> dict[PlannedModel, SampleTexts]:
    """Return the models that compute on this machine, with the texts to measure each on."""
    trained = {one.model for one in recorder.work if one.compute.train}
    found = {}
    for one in recorder.work:
        if one.model:
            asked = _asked(one)
            learns = asked.by == STUDENT and one.model in trained
            found[asked] = SampleTexts(recorder.examples, config.preference if learns else None)
    return found


def _asked(work: Work) -> PlannedModel:
    return PlannedModel(work.by if work.by.startswith("local:") else STUDENT, work.model)


def _stage_seconds(work: Sequence[Work], speed: Mapping[PlannedModel, Speed]) -> dict[str, float]:
    """Sum the seconds of every stage."""
    found: dict[str, float] = {}
    for one in work:
        if one.model:
            taken = seconds(one.compute, speed[_asked(one)])
            found[one.stage] = found.get(one.stage, 0.0) + taken
    return found


def _total(
    recorder: Recorder, speed: Mapping[PlannedModel, Speed], workers: int, seeds: int = 1
) -> float:
    """Return the seconds of seeds that run side by side, whose branches share the processes."""
    branches: dict[str, float] = {}
    for one in recorder.work:
        taken = seconds(one.compute, speed[_asked(one)]) if one.model else 0.0
        branches[one.branch] = branches.get(one.branch, 0.0) + taken
    total = branches.get("", 0.0) * math.ceil(seeds / workers)
    for number, names in enumerate(recorder.branches, 1):
        order = [f"{number}/{name}" for name in names]
        known = [name for name in order if name in branches for _ in range(seeds)]
        total += elapsed(branches, known, workers)
    return total


def _basis(speeds: Collection[Speed]) -> str:
    """Describe the origin of the speeds."""
    if all(speed.measured for speed in speeds):
        cost = sum(speed.cost for speed in speeds)
        return f"speeds measured here once, in {duration(cost)}; kept in {cache_file()}"
    return "roughly, from the throughput of matrix products; `alignlab check` measures"


def _busy(workers: int) -> float:
    """Return how many processes would want each core, this run's included."""
    return max(1.0, (os.getloadavg()[0] + workers) / (os.cpu_count() or 1))


def memory(
    facts: ModelFacts,
    config: StudyConfig,
    judged: int,
    trainings: Sequence[Trained] = (),
) -> tuple[Memory, ...]:
    """Estimate the peak memory of processes that train (the largest kind), sample and judge.

    Args:
        facts: shape of the base model.
        config: settings of the study.
        judged: tokens of a judge prompt; 0 if the study's models judge nothing in one pass.
        trainings: sizes of the study's trainings; empty stands for `sft` and `preference` whose
            passes fill the token budget.
    """
    # The models of a study are saved in float32 or as adapters, and each is the next one's start.
    first = _saves_adapter(config.sft, config)
    of_study = facts if first else replace(facts, stored="float32")
    trained = [
        training_memory(
            of_study,
            size.loop,
            half=_resolved(size.loop.dtype, config, facts) == "bfloat16",
            step=size.largest,
            group=size.group,
            what=_kind(size.loop, config),
            alone=_saves_adapter(size.loop, config),
            rewards=size.loop == getattr(config, "reward_training", None),
        )
        for size in trainings or [Trained(0, loop=s) for s in (config.sft, config.preference)]
    ]
    width = _asked_width(config, facts)
    found = [max(trained, key=lambda m: m.gigabytes), sampling_memory(facts, config, width)]
    if judged and not config.hardware.vllm:
        size = reading_bytes(facts, positions=BATCH * judged, width=width)
        found.append(
            Memory("judging", size / 1e9, f"weights, {BATCH} prompts of {judged:,} tokens")
        )
    return tuple(found)


def _kind(loop: TrainConfig, config: StudyConfig) -> str:
    """Name a training by the setting that it comes from."""
    if isinstance(loop, RolloutConfig):
        return "rollouts"
    return "preference" if loop == config.preference and loop != config.sft else "sft"


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
    return tuple(one for one in summed.values() if one.number)


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
    """Estimate disk space: float32 weights, the largest training's checkpoints, texts drawn."""
    sizes, trainable = [0], [0]
    for model in recorder.trained:
        facts, loop = recorder.facts(model.path), recorder.loops.get(model)
        lora = None if loop is None else loop.lora
        trainable.append(facts.parameters if lora is None else adapter_parameters(facts, lora.r))
        alone = loop is not None and _saves_adapter(loop, config)
        sizes.append(trainable[-1] if alone else facts.parameters)
    kept = max(c.keep_checkpoints if c.save_every else 0 for c in (config.sft, config.preference))
    # A text is stored where it is drawn, and again in pairs or with its judgement.
    texts = 2 * CHARACTERS * sum(one.tokens or 0 for one in recorder.work)
    return ((4 * sum(sizes) + texts) * config.seeds + 12 * kept * max(trainable)) / 1e9


def _saves_adapter(loop: TrainConfig, config: StudyConfig) -> bool:
    return saves_adapter(loop, sharded=config.hardware.sharded)


def _used(recorder: Recorder) -> tuple[Used, ...]:
    """Read how much of the data is used from the last counts of the seed stage."""
    stage = next(c.stage for c in recorder.counts if c.stage.endswith("-seed"))
    counts = [c for c in recorder.counts if c.stage == stage][-5:]
    return tuple(
        Used(DATA.get(c.what, c.what), c.kept, c.kept + sum(c.dropped.values())) for c in counts
    )


def _resolved(dtype: str, config: StudyConfig, facts: ModelFacts) -> str:
    return resolve_dtype(dtype, device_of(config.hardware.device), facts.parameters)


def _asked_width(config: StudyConfig, facts: ModelFacts) -> int:
    """Return the bytes of a number in models that answer and judge."""
    return 4 if _resolved(config.hardware.dtype, config, facts) == "float32" else 2
