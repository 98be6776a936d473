"""Context of a study's stages: run directory, seed, hardware, and models by spec."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
import transformers

from alignlab import registry, seeds
from alignlab.configs import Bounded, NonNegativeInt
from alignlab.errors import BadInput
from alignlab.feedback import specs as feedback_specs
from alignlab.feedback.reward_model import RewardSource
from alignlab.generation import engines
from alignlab.generation.local import LocalEngine
from alignlab.launched import is_launched, local_world_size
from alignlab.meter import metered
from alignlab.models.heads import load_reward_model
from alignlab.models.load import DTYPES, LanguageModel, device_of, load
from alignlab.models.quant import load_quantised
from alignlab.models.rewarders import ChatRewarder
from alignlab.protocols import Completer, FeedbackSource, PairJudge
from alignlab.recording import Recorder
from alignlab.runs import Run
from alignlab.training.conditioning import with_best_reward_prefix
from alignlab.training.config import TrainConfig
from alignlab.training.launch import Parallel, sharded
from alignlab.training.tracking import Track
from alignlab.types import Checkpoint, Feedback, Prompt, Response


@dataclass(frozen=True)
class Hardware(Bounded):
    """Device, precision and parallelism of models."""

    device: str = "auto"
    """Device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", ..."""
    dtype: str = "auto"
    """Precision: "float32", "bfloat16", or "auto" (bfloat16 on a GPU, float32 on a CPU)."""
    workers: NonNegativeInt = 0
    """Processes for independent branches; 0 is one per core (at most 4), or 1 with a GPU."""
    threads: NonNegativeInt = 0
    """Torch threads per process; 0 shares the cores among the workers."""
    parallel: Parallel = "auto"
    """Parallelism of a training under torchrun or accelerate: "data" (full weights on every
    process) or "fsdp" (sharded weights); "auto" follows accelerate's configuration, else data."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dtype != "auto" and self.dtype not in DTYPES:
            known = ", ".join(("auto", *DTYPES))
            raise BadInput(f"setting hardware.dtype: expected one of {known}, found {self.dtype!r}")
        if self.device != "auto":
            _find_device(self.device)
        self._check_launch()

    def _check_launch(self) -> None:
        """Refuse settings that a launch by torchrun or accelerate overrides or forbids."""
        sharded(self.parallel)
        if not is_launched():
            return
        if self.workers > 1:
            raise BadInput(
                "setting hardware.workers: has no effect here: torchrun or accelerate says how "
                "many processes there are"
            )
        if ":" in self.device:
            raise BadInput(
                f"setting hardware.device: expected auto, cpu or cuda where several processes "
                f"take a device each, found {self.device!r}"
            )

    @property
    def sharded(self) -> bool:
        """True if the weights of a training are sharded over processes."""
        return sharded(self.parallel)

    @property
    def kind(self) -> str:
        """Type of the device, "cuda" or "cpu"."""
        return device_of(self.device).type


@dataclass(frozen=True)
class RunContext:
    """Scope of a run, seed and hardware; picklable for worker processes."""

    run: Run
    seed: int
    hardware: Hardware = Hardware()
    chat_template: str | None = None
    """Chat template by name or file, for models without one, or instead of their own."""
    track: Track = "none"
    """Tracker of training metrics, in addition to the run's files."""
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
        return 1 if torch.cuda.is_available() else min(4, os.cpu_count() or 1)

    @property
    def threads(self) -> int:
        """Torch threads per process, fixed by the settings so that results are reproducible."""
        processes = self.workers * local_world_size()
        return self.hardware.threads or max(1, (os.cpu_count() or 1) // processes)

    @property
    def cache(self) -> Path:
        """Folder of cached judge calls, teacher calls and reference log-probabilities."""
        return self.run.path / "cache"

    def open(self, model: Checkpoint) -> LanguageModel:
        """Load a checkpoint for inference; the last three stay in memory."""
        return _open(model.path, self.hardware.device, self.hardware.dtype, self.chat_template)

    def load(self, model: Checkpoint) -> LanguageModel:
        """Load a private copy of a checkpoint in float32, to train or measure."""
        return _load(model.path, self.hardware.device, "float32", self.chat_template)

    def student(self, model: Checkpoint, config: TrainConfig) -> LanguageModel:
        """Load a private copy of a checkpoint for training, quantised by `config.quant`.

        Raises:
            BadInput: quantised weights would have to be sharded.
        """
        if config.quant == "none":
            # Sharded weights go to their devices layer by layer.
            place = "cpu" if self.hardware.sharded else self.hardware.device
            return _load(model.path, place, "float32", self.chat_template)
        if self.hardware.sharded:
            raise BadInput("train: quant: quantised weights are not shared out; use parallel=data")
        return load_quantised(
            model.path,
            config.quant,
            compute=config.dtype,
            device=self.hardware.device,
            chat_template=self.chat_template,
        )

    def engine(self, model: Checkpoint) -> Completer:
        """Return the local engine of a checkpoint; responses carry the checkpoint's name."""
        if self.recorder:
            return self.recorder.engine(model)
        lm = self.open(model)
        return metered(with_best_reward_prefix(LocalEngine(lm, name=model.name), lm.path))

    def completer(self, spec: str) -> Completer:
        """Return a completer by spec: local:FOLDER, openai:MODEL@URL, sandbox:strong, ..."""
        if self.recorder:
            return self.recorder.completer(spec)
        return metered(engines.completer(spec, cache_dir=self.cache))

    def judge(self, spec: str, itself: Checkpoint | None = None) -> FeedbackSource:
        """Return a feedback source by spec; `self` in it stands for the given checkpoint."""
        engines_made: list[str] = []
        judge = feedback_specs.judge(spec, make_completer=self._maker(itself, engines_made))
        self._record_files(judge)
        return self.recorder.source(spec) if self.recorder and not engines_made else judge

    def pair_judge(self, spec: str, itself: Checkpoint | None = None) -> PairJudge:
        """Return a judge of pairs by spec; `self` in it stands for the given checkpoint."""
        engines_made: list[str] = []
        judge = feedback_specs.pair_judge(spec, make_completer=self._maker(itself, engines_made))
        self._record_files(judge)
        return self.recorder.source(spec) if self.recorder and not engines_made else judge

    def rater(self, spec: str) -> FeedbackSource:
        """Return a source of scores by spec; one that only compares gives shares of pairs won."""
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
        """Return the feedback of a source, one per response."""
        if self.recorder:
            return self.recorder.rate(source, items, seed)
        return source.rate(items, seed)

    def learned_reward(self, model: Checkpoint) -> FeedbackSource:
        """Return a checkpoint with a scalar head as a feedback source of the checkpoint's name."""
        if self.recorder:
            return self.recorder.source(model.name)
        place, template = self.hardware.device, self.chat_template
        lm = load_reward_model(model.path, device=place, chat_template=template)
        return RewardSource(ChatRewarder(lm), model.name)

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


def _find_device(device: str) -> None:
    """Check that a device exists.

    Raises:
        BadInput: this machine has no such device.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0]
        raise BadInput(
            f"setting hardware.device: expected a device of this machine, found {device!r} ({why})"
        ) from None


def resolve_model(spec: str, name: str = "M0") -> Checkpoint:
    """Resolve a base model: hub id, folder, GGUF file, package:NAME, or sandbox:NAME."""
    kind, colon, rest = spec.partition(":")
    if colon and kind in registry.names("model"):
        return Checkpoint(name, str(registry.get("model", kind)(rest)))
    return Checkpoint(name, spec)


def _load(path: str, device: str, dtype: str, chat_template: str | None) -> LanguageModel:
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    if dtype == "auto":
        dtype = "bfloat16" if device_of(device).type == "cuda" else "float32"
    return load(path, device=device, dtype=dtype, chat_template=chat_template)


_open = lru_cache(maxsize=3)(_load)
