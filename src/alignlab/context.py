"""Context of a study's stages: run directory, seed, hardware, and models by spec."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, cast

import torch
import transformers

from alignlab import machine, registry, seeds
from alignlab.at_once import at_once, by_chunk
from alignlab.engine_pool import ENGINE_LOGS, EnginePool, PooledModel, pool_of_spec, stop_engines
from alignlab.feedback import specs as feedback_specs
from alignlab.feedback.reward_model import RewardSource
from alignlab.generation import engines
from alignlab.generation.deferred import DeferredEngine
from alignlab.generation.local import LocalEngine
from alignlab.generation.vllm_process import library_text
from alignlab.hardware import Hardware as Hardware
from alignlab.launched import is_launched, local_world_size
from alignlab.meter import metered
from alignlab.models import dtypes
from alignlab.models.heads import load_reward_model
from alignlab.models.load import LanguageModel, load
from alignlab.models.locate import locate
from alignlab.models.rewarders import ChatRewarder
from alignlab.protocols import Completer, FeedbackSource, PairJudge
from alignlab.recording import Recorder
from alignlab.runs import Run
from alignlab.training.conditioning import with_best_reward_prefix
from alignlab.training.config import TrainConfig, saves_adapter
from alignlab.training.student import load_student
from alignlab.training.tracking import Track
from alignlab.types import Checkpoint, Feedback, Prompt, Response


@dataclass(frozen=True)
class RunContext:
    """Scope of a run, seed and hardware; picklable for worker processes."""

    run: Run
    seed: int
    hardware: Hardware = field(default_factory=Hardware)
    chat_template: str | None = None
    """Chat template by name or file, for models without one, or instead of their own."""
    track: Track = "none"
    """Tracker of training metrics, in addition to the run's files."""
    merges: bool = False
    """Save trained adapters merged into whole models, for other tools; a study, whose next steps
    read adapters, saves them alone."""
    recorder: Recorder | None = None
    """Factory of stand-ins for a dry run; None for a real run."""

    def scope(self, name: str) -> RunContext:
        """Return a copy of the context that writes into a scope of the run."""
        return replace(self, run=self.run.scope(name))

    def seed_for(self, *purpose: object) -> int:
        """Derive a seed for one purpose within this run."""
        return seeds.derive(self.seed, *purpose)

    def title(self, doing: str) -> str:
        """Format the title of a progress bar."""
        return ": ".join((*self.run.scope_names, doing))

    @property
    def workers(self) -> int:
        """Number of processes for independent branches."""
        if is_launched() or self.recorder:
            return 1
        if self.hardware.workers:
            return self.hardware.workers
        return 1 if torch.cuda.is_available() else min(4, machine.cores())

    @property
    def threads(self) -> int:
        """Torch threads of this process: those set, or the cores that it may use."""
        return self.threads_of(1)

    def threads_of(self, branches: int) -> int:
        """Return torch threads of each process, where so many branches run at once.

        The load of the machine has no part in it, so that results are reproducible.
        """
        if self.hardware.threads:
            return self.hardware.threads
        processes = min(self.workers, branches) * local_world_size()
        usual = os.environ.get("OMP_NUM_THREADS", "")
        # torchrun sets it to 1 for processes that would otherwise take all cores each.
        most = int(usual) if usual.isdigit() and not is_launched() else machine.cores()
        return max(1, min(most, machine.cores()) // max(1, processes))

    @property
    def cache(self) -> Path:
        """Folder of cached judge calls, teacher calls and reference log-probabilities."""
        return self.run.path / "cache"

    def open(self, model: Checkpoint) -> LanguageModel:
        """Load a checkpoint for inference; the last three stay in memory."""
        lm = _open(model.path, self.hardware.device, self.hardware.dtype, self.chat_template)
        self._note_type(model.name, lm)
        return lm

    def load(self, model: Checkpoint) -> LanguageModel:
        """Load a private copy of a checkpoint in float32, to train or measure."""
        return _load(model.path, self.hardware.device, "float32", self.chat_template)

    def student(
        self, model: Checkpoint, config: TrainConfig, *, rewards: bool = False
    ) -> LanguageModel:
        """Load a private copy of a checkpoint for training, quantised by `config.quant`.

        Models kept for inference give their memory back first.

        Args:
            rewards: train rewards; a checkpoint that is a reward model keeps its scalar head.

        Raises:
            BadInput: quantised weights would have to be sharded.
        """
        _open.cache_clear()
        stop_engines()
        machine.give_back_memory()
        transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        lm = load_student(
            model.path,
            config,
            device=self.hardware.device,
            sharded=self.hardware.sharded,
            chat_template=self.chat_template,
            rewards=rewards,
            alone=self.saves_adapter(config),
        )
        if config.quant == "none":
            self._note_type(f"{model.name}, training", lm, config.dtype)
        return lm

    def saves_adapter(self, config: TrainConfig) -> bool:
        """Return True where a training saves its adapter alone."""
        return not self.merges and saves_adapter(config, sharded=self.hardware.sharded)

    def engine(self, model: Checkpoint) -> Completer:
        """Return the local engine of a checkpoint; responses carry the checkpoint's name.

        The model is loaded at the first request.
        """
        if self.recorder:
            return self.recorder.engine(model)
        if self.hardware.pools:
            return metered(EnginePool(self._pooled(model)))

        def load_engine() -> Completer:
            lm = self.open(model)
            return with_best_reward_prefix(LocalEngine(lm, name=model.name), lm.path)

        return metered(DeferredEngine(model.name, load_engine))

    def _pooled(self, model: Checkpoint, dtype: str = "auto") -> PooledModel:
        """Return the settings of a model's engines, which share the threads of this process."""
        hardware, kind = self.hardware, self.hardware.kind
        asked = hardware.dtype if dtype == "auto" else dtype
        used = dtypes.resolve_dtype(
            asked, dtypes.device_of(kind), dtypes.stored_parameters(locate(model.path))
        )
        vllm = hardware.vllm
        by = f"{kind} by {library_text(vllm.python)}" if vllm else kind
        self.run.note_type(model.name, used, by)
        threads = hardware.threads or max(1, self.threads // hardware.engines)
        return PooledModel(
            *(model.name, model.path, used, self.chat_template, kind),
            hardware.engines,
            threads,
            vllm=vllm,
            logs=str(self.run.path / ENGINE_LOGS) if vllm else "",
        )

    def completer(self, spec: str) -> Completer:
        """Return a completer by spec: local:FOLDER, openai:MODEL@URL, sandbox:strong, ..."""
        if self.recorder:
            return self.recorder.completer(spec)
        head, _, rest = spec.partition(":")
        pools = head == "local" and self.hardware.pools
        if pools and (pool := pool_of_spec(rest, self._pooled)):
            return metered(pool)
        with self._own_hardware():
            made = engines.completer(spec, cache_dir=self.cache)
        if isinstance(made, LocalEngine):
            self._note_type(made.name, made.lm)
        return metered(made)

    def judge(self, spec: str, itself: Checkpoint | None = None) -> FeedbackSource:
        """Return a feedback source by spec; `self` in it stands for the given checkpoint."""
        return cast(FeedbackSource, self._source(feedback_specs.judge, spec, itself))

    def pair_judge(self, spec: str, itself: Checkpoint | None = None) -> PairJudge:
        """Return a judge of pairs by spec; `self` in it stands for the given checkpoint."""
        return cast(PairJudge, self._source(feedback_specs.pair_judge, spec, itself))

    def _source(self, make: Callable[..., Any], spec: str, itself: Checkpoint | None) -> Any:
        engines_made: list[str] = []
        with self._own_hardware():
            judge = make(spec, make_completer=self._maker(itself, engines_made))
        self._record_files(judge)
        return self.recorder.source(spec) if self.recorder and not engines_made else judge

    def rater(self, spec: str) -> FeedbackSource:
        """Return a source of scores by spec; one that only compares gives shares of pairs won."""
        with self._own_hardware():
            rater = feedback_specs.rater(spec, make_completer=self.completer)
        self._record_files(rater)
        return rater

    def _record_files(self, source: object) -> None:
        """Record the files of code that a feedback source runs (python:FILE:FUNCTION)."""
        files = getattr(source, "files", {})
        if files and not self.recorder:
            self.run.add_inputs(files)

    def rate(
        self, source: FeedbackSource, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int
    ) -> list[Feedback]:
        """Return the feedback of a source, one per response.

        A local model is asked chunk by chunk, on all of its engines.
        """
        if self.recorder:
            return self.recorder.rate(source, items, seed)
        return by_chunk(lambda some: source.rate(some, seed), items, at_once(source))

    def compare(
        self, judge: PairJudge, items: Sequence[tuple[Prompt, Response, Response]], seed: int
    ) -> list[Feedback]:
        """Return the verdicts of a judge of pairs, one per item; as `rate`, chunk by chunk."""
        return by_chunk(lambda some: judge.compare(some, seed), items, at_once(judge))

    def learned_reward(self, model: Checkpoint) -> FeedbackSource:
        """Return a checkpoint with a scalar head as a feedback source of the checkpoint's name.

        The model is loaded at the first request.
        """
        if self.recorder:
            return self.recorder.source(model.name)

        @cache
        def rewarder() -> ChatRewarder:
            lm = load_reward_model(
                model.path,
                device=self.hardware.device,
                dtype=self.hardware.dtype,
                chat_template=self.chat_template,
            )
            return ChatRewarder(lm)

        return RewardSource(lambda items: rewarder()(items), model.name)

    def _note_type(self, name: str, lm: LanguageModel, dtype: str = "") -> None:
        """Record a model's type in the run."""
        used = str(lm.model.dtype).removeprefix("torch.")
        if dtype:
            used = dtypes.resolve_dtype(dtype, lm.device, lm.model.num_parameters())
        self.run.note_type(name, used, str(lm.device))

    def _own_hardware(self) -> AbstractContextManager[None]:
        """Let "auto" in specs mean the run's device and type."""
        return dtypes.by_default(self.hardware.device, self.hardware.dtype)

    def _maker(
        self, itself: Checkpoint | None, engines_made: list[str]
    ) -> Callable[[str], Completer]:
        """Return a factory of completers that appends the specs used to `engines_made`."""

        def make(spec: str) -> Completer:
            engines_made.append(spec)
            if spec == "self" and itself is not None:
                return self.engine(itself)
            return self.completer(spec)

        return make


def resolve_model(spec: str, name: str = "M0") -> Checkpoint:
    """Resolve a base model: hub id, folder, GGUF file, package:NAME, or sandbox:NAME."""
    kind, colon, rest = spec.partition(":")
    if colon and kind in registry.names("model"):
        return Checkpoint(name, str(registry.get("model", kind)(rest)))
    return Checkpoint(name, spec)


def _load(
    path: str, device: str, dtype: str, chat_template: str | None, deferred: bool = False
) -> LanguageModel:
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    return load(path, device=device, dtype=dtype, chat_template=chat_template, deferred=deferred)


_open = lru_cache(maxsize=3)(_load)
