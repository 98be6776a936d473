"""Measure how fast this machine reads, samples and trains with a study's own models.

A few decoding steps at two batch sizes, one judgement of several answers, and three steps of the
trainer on the study's own texts, some seconds for each model of 100 million parameters. Results are
kept for each machine, model and type in `speeds.json` of the user's cache folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch

from alignlab import machine, progress
from alignlab.context import RunContext
from alignlab.feedback.prompts import judge_prompt
from alignlab.files import cache_folder, read_json, write_json
from alignlab.generation import engines
from alignlab.generation.local import LocalEngine
from alignlab.models.chat_template import encode_prompt
from alignlab.models.dtypes import device_of, resolve_dtype, throughput
from alignlab.models.facts import ModelFacts, model_facts
from alignlab.models.load import LanguageModel
from alignlab.models.memory import adapter_parameters, linear_parameters
from alignlab.models.packed import TokenGroup
from alignlab.recording import STUDENT
from alignlab.speed import Speed, from_throughput
from alignlab.training.config import TrainConfig
from alignlab.types import (
    Checkpoint,
    CompletionRequest,
    Message,
    Prompt,
    Response,
    SampledBy,
    Sampling,
)
from alignlab.work import apart

FEW, MANY = 8, 64
"""Rows of the two decoding batches."""
STEPS = 8
"""Decoding steps measured at each batch size."""
JUDGED = 4
"""Answers judged to one prompt, which share the judge prompt's beginning."""
TRAINED = 2048
"""Most tokens of the measured training step."""
MEASURED_AS = 2
"""Version of what the coefficients mean; kept ones of another are measured again."""

Clock = Callable[[], float]


class SampleTexts(NamedTuple):
    """Prompts and answers of the study's data, and training settings, to measure with."""

    examples: Sequence[tuple[str, str]]
    """Prompt and answer."""
    training: TrainConfig | None
    """Settings of the training; None for a model that is only asked."""


class PlannedModel(NamedTuple):
    """Model of a plan: the spec by which it is called, and its folder."""

    by: str
    """`STUDENT`, or the spec of a local teacher or judge."""
    folder: str


def speeds(
    models: Mapping[PlannedModel, SampleTexts], context: RunContext, threads: int, *, measure: bool
) -> dict[PlannedModel, Speed]:
    """Return the speed of every model: kept, else measured, else from matrix products.

    Args:
        threads: threads of each process of the study.
        measure: measure a model whose speed is not kept.
    """
    file, found = cache_file(), dict[PlannedModel, Speed]()
    kept = read_json(file) if file.exists() else {}
    for asked, texts in models.items():
        facts = model_facts(asked.folder, chat_template=context.chat_template)
        key = _key(facts, asked, texts, context, threads)
        if key not in kept and not (measure and _measurable(facts, texts)):
            gflops = process_gflops(context, facts.parameters, threads)
            lora = texts.training and texts.training.lora
            trained = adapter_parameters(facts, lora.r) if lora else None
            found[asked] = from_throughput(linear_parameters(facts), gflops, trained)
            continue
        if key not in kept:
            with progress.task(f"measuring {Path(asked.folder).name}", 1):
                kept[key] = asdict(_measured(asked, texts, context, threads))
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, kept)
        found[asked] = Speed(**kept[key])
    return found


def cache_file() -> Path:
    """Return the file of measured speeds, in the cache folder."""
    return cache_folder() / "speeds.json"


def _measurable(facts: ModelFacts, texts: SampleTexts) -> bool:
    """Return True for a model whose weights are here and fit into the free memory."""
    training = texts.training
    needed = facts.parameters * (4 if training is None else 24 if training.lora is None else 8)
    here = any(Path(facts.path).glob("*.safetensors"))
    return here and needed + 2e9 < machine.free_memory()


def process_gflops(context: RunContext, parameters: int, threads: int) -> float:
    """Return the throughput of large matrix products in a process, in GFLOP/s.

    Args:
        parameters: parameters of the model, which decide its type.
        threads: threads of the process.
    """
    if context.hardware.kind != "cpu":
        return _gpu_gflops(context.hardware.kind)
    dtype = resolve_dtype(context.hardware.dtype, device_of(context.hardware.device), parameters)
    known = throughput()
    return known.get(dtype, known["float32"]) * threads


@cache
def _gpu_gflops(device: str) -> float:
    """Measure the throughput of large matrix products on a GPU, in GFLOP/s."""
    a, b = (torch.randn(4096, 4096, device=device, dtype=torch.bfloat16) for _ in range(2))

    def taken() -> float:
        began = time.perf_counter()
        torch.mm(a, b)
        torch.cuda.synchronize()
        return time.perf_counter() - began

    return 2 * 4096**3 / min(taken() for _ in range(5)) / 1e9


def _key(
    facts: ModelFacts, asked: PlannedModel, texts: SampleTexts, context: RunContext, threads: int
) -> str:
    """Return a digest of all that a speed depends on: machine, shape of the model, settings."""
    gpu = torch.cuda.get_device_name() if context.hardware.kind == "cuda" else ""
    training = None if texts.training is None else _compute_settings(texts.training)
    of = [
        *(platform.machine(), machine.processor(), os.cpu_count(), gpu, torch.__version__),
        *astuple(replace(facts, path="")),
        *(context.hardware.device, context.hardware.dtype, threads, training),
        *("" if asked.by == STUDENT else asked.by, MEASURED_AS),
    ]
    return hashlib.sha256(json.dumps(of, default=str).encode()).hexdigest()[:24]


def _compute_settings(training: TrainConfig) -> list[Any]:
    lora = None if training.lora is None else training.lora.r
    return [training.dtype, lora, training.quant, training.gradient_checkpointing]


def _measured(asked: PlannedModel, texts: SampleTexts, context: RunContext, threads: int) -> Speed:
    """Load a model and measure its speed."""
    clock, began = _clock(context, threads), time.perf_counter()
    with _threads(threads):
        start = clock()
        engine = _engine(asked, context)
        load = clock() - start
        speed = replace(sampling_speed(engine, texts.examples, clock), load=load)
        if texts.training is not None:
            student = context.student(Checkpoint("student", asked.folder), texts.training)
            train, update = training_speed(student, texts, clock)
            speed = replace(speed, train=train, update=update)
    return replace(speed, cost=time.perf_counter() - began)


def _engine(asked: PlannedModel, context: RunContext) -> LocalEngine:
    if asked.by == STUDENT:
        return LocalEngine(context.open(Checkpoint("student", asked.folder)))
    engine = engines.completer(asked.by)
    assert isinstance(engine, LocalEngine)
    return engine


def _clock(context: RunContext, threads: int) -> Clock:
    """Return processor time where one thread computes: other programs do not disturb it."""
    alone = context.hardware.kind == "cpu" and threads == 1
    return time.process_time if alone else time.perf_counter


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Set the number of torch's threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def sampling_speed(engine: LocalEngine, examples: Sequence[tuple[str, str]], clock: Clock) -> Speed:
    """Measure reading by a judgement, and decoding at two batch sizes."""
    prompts = [prompt for prompt, _ in examples] or ["Hello."]

    def drawn(rows: int, steps: int) -> float:
        sampling = Sampling(1.0, 1.0, steps, max(1, rows // 16))
        asked = [
            CompletionRequest(str(i), (Message("user", prompts[i % len(prompts)]),), sampling, 0)
            for i in range(min(rows, 16))
        ]
        start = clock()
        engine.complete(asked)
        return clock() - start

    drawn(FEW, 2)  # kernels are compiled per shape
    few, many = (max(0.0, drawn(rows, STEPS + 1) - drawn(rows, 1)) / STEPS for rows in (FEW, MANY))
    step, draw = line(FEW, few, MANY, many)
    return Speed(read=_reading(engine, examples, clock), step=step, draw=draw)


def line(x0: float, y0: float, x1: float, y1: float) -> tuple[float, float]:
    """Return intercept and slope of the line through two points, neither below 0."""
    slope = max(0.0, (y1 - y0) / (x1 - x0))
    return max(0.0, y1 - slope * x1), slope


def _reading(engine: LocalEngine, examples: Sequence[tuple[str, str]], clock: Clock) -> float:
    """Measure the seconds per prompt token of judging answers, a common start counted once."""
    rubric = judge_prompt("additive_five_point")
    asked = [
        CompletionRequest(
            f"{p}.{k}",
            rubric.render(
                Prompt(str(p), (Message("user", prompt),)),
                Response(str(k), str(p), f"{answer} {k}", SampledBy("data")),
            ),
            Sampling(1.0, 1.0, 1, 1),
            0,
        )
        for p, (prompt, answer) in enumerate((list(examples) or [("Hello.", "Hello.")])[:2])
        for k in range(JUDGED)
    ]
    tokens = sum(map(len, apart([encode_prompt(engine.lm, one.messages) for one in asked])))
    engine.choice_logprobs(asked[:1], ("1", "2"))
    start = clock()
    engine.choice_logprobs(asked, ("1", "2", "3", "4", "5"))
    return (clock() - start) / tokens


def training_speed(lm: LanguageModel, texts: SampleTexts, clock: Clock) -> tuple[float, float]:
    """Measure the seconds per training token and per update, by a large and a small step."""
    # Importing the loop takes seconds, which commands that train nothing need not wait for.
    from alignlab.objectives.sft import SFT
    from alignlab.training.distributed import SINGLE_PROCESS
    from alignlab.training.metrics import MetricSums
    from alignlab.training.trainer_state import begin, step_runner, with_dtype

    assert texts.training is not None
    groups = _groups(lm, texts.examples)
    with TemporaryDirectory() as folder:
        config = replace(texts.training, token_budget=TRAINED)
        lm, _ = begin(lm, config, Path(folder), SINGLE_PROCESS)
        config = with_dtype(config, lm, SINGLE_PROCESS)
        where = Path(folder), SINGLE_PROCESS, lm
        with step_runner(lm.model, SFT(), config, *where) as runner:

            def stepped(some: Sequence[TokenGroup]) -> float:
                start = clock()
                runner.step(0, some, None, 1e-9, MetricSums())
                return clock() - start

            stepped(groups)
            large, small = stepped(groups), stepped(groups[:1])
    tokens = sum(group.tokens for group in groups)
    update, train = line(groups[0].tokens, small, tokens, large)
    return train, update


def _groups(lm: LanguageModel, examples: Sequence[tuple[str, str]]) -> list[TokenGroup]:
    """Tokenise examples until a training step is full; at least two."""
    groups: list[TokenGroup] = []
    for number, (prompt, answer) in enumerate([*examples, *[("Hello.", "Hello, you.")] * 2]):
        read = tuple(encode_prompt(lm, (Message("user", prompt),)))
        ids = lm.tokenizer(answer or ".", add_special_tokens=False)["input_ids"]
        groups.append(TokenGroup(str(number), read[-256:], (tuple(ids[:256]),)))
        if len(groups) > 1 and sum(group.tokens for group in groups) >= TRAINED:
            break
    return sorted(groups, key=lambda group: group.tokens)
