"""Set a training up: its settings, its run directory and the context of its stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import torch

from alignlab import configs, registry
from alignlab.configs import NonNegativeInt
from alignlab.context import Hardware, RunContext, resolve_model
from alignlab.errors import BadInput
from alignlab.models import adapters
from alignlab.models.load import fingerprint, save
from alignlab.models.load import load as load_model
from alignlab.records import to_dict
from alignlab.runs import Run, RunIdentity
from alignlab.specs import split
from alignlab.training.config import SaveDtype, TrainConfig
from alignlab.training.launch import NO_DEEPSPEED, Parallel, refuse_unmet
from alignlab.training.tracking import Track, require_tracker
from alignlab.types import Checkpoint

S = TypeVar("S", bound="Surroundings")
C = TypeVar("C", bound=TrainConfig)


@dataclass(frozen=True)
class Surroundings(configs.Bounded):
    """Settings of a training besides those of its loop."""

    adapter: str = ""
    """Folder or hub id of a PEFT adapter that is merged into the model first."""
    chat_template: str = ""
    """File with a chat template, for a model that comes without one."""
    device: str = "auto"
    """"auto" takes a GPU where there is one; else "cpu", "cuda", "cuda:1", ..."""
    threads: NonNegativeInt = 0
    """Torch threads; 0 is one per core."""
    save_dtype: SaveDtype = "input"
    """Type of the saved weights: "float32", "bfloat16", or "input": that of the model's files (of
    a new reward model, or of a model that `adapter` was merged into, float32)."""
    parallel: Parallel = "auto"
    """Sharing of a training by the processes of torchrun or accelerate: "data" (each holds all
    weights), "fsdp" (each its share); "auto" is what accelerate's configuration says, else data."""
    track: Track = "none"
    """Tracker of the metrics, besides metrics.jsonl: tensorboard, wandb or trackio; needs pip
    install 'alignlab[track]'."""

    def hardware(self) -> Hardware:
        return Hardware(self.device, workers=1, threads=self.threads, parallel=self.parallel)


class Chosen(NamedTuple, Generic[S]):
    """Settings as they were given."""

    settings: S
    given: Mapping[str, Any]
    """Settings given by name, rather than left at their defaults; later layers win."""


def choose(
    cls: type[S], config: str | Path | None, overrides: Sequence[str], settings: Mapping[str, Any]
) -> Chosen[S]:
    """The settings from a YAML file, under `key=value` overrides, under keyword arguments.

    Raises:
        BadInput: an unknown setting, or one that cannot be met here.
    """
    layers: list[Mapping[str, Any]] = [configs.read_yaml(Path(config))] if config else []
    layers += [configs.parse_overrides(overrides), settings]
    if any("deepspeed" in layer for layer in layers):
        raise BadInput(f"setting deepspeed: {NO_DEEPSPEED}")
    chosen = configs.build(cls, *layers)
    refuse_unmet(chosen)  # type: ignore[arg-type]
    require_tracker(chosen.track)
    chosen.hardware()  # a device that is not there is refused first
    return Chosen(chosen, {key: value for layer in layers for key, value in layer.items()})


def loop_of(cls: type[C], settings: C) -> C:
    """The settings of the loop alone."""
    return cls(**{f.name: getattr(settings, f.name) for f in fields(cls)})


def objective_class(objective: Any) -> type:
    """The class of an objective that is given by name or whole.

    Raises:
        BadInput: no such objective.
    """
    found: type = (
        registry.get("objective", objective) if isinstance(objective, str) else type(objective)
    )
    return found


def made_objective(objective: Any, options: Mapping[str, Any]) -> Any:
    """An objective by name with its options, or the one that was given whole.

    Raises:
        BadInput: no such objective or option, or options with a whole objective.
    """
    if isinstance(objective, str):
        return configs.build(registry.get("objective", objective), options)
    if options:
        raise BadInput("setting objective: has no effect with an objective that is given whole")
    return objective


def drops_bad(data: str) -> bool:
    """Tell whether a data spec leaves bad records out (`?bad=drop`)."""
    return "bad=drop" in split(data).options


def refuse_idle(given: Mapping[str, Any], idle: Sequence[tuple[str, bool, str]]) -> None:
    """Refuse settings that were given and change nothing.

    Args:
        idle: name of a setting, whether it has no effect, and where.
    """
    for key, without_effect, why in idle:
        if key in given and without_effect:
            raise BadInput(f"setting {key}: has no effect {why}; leave it out")


@contextmanager
def laboratory(
    settings: Surroundings, seed: int, out: str | Path, identity: Mapping[str, Any]
) -> Iterator[RunContext]:
    """A run directory with what a stage is handed; closed at the end.

    Args:
        identity: parts of the run's identity besides the settings.
    """
    plain = to_dict(settings) | dict(identity)
    for key in ("threads", "track", "parallel"):  # they change no figure
        plain.pop(key)
    hardware = settings.hardware()
    run = Run.start(Path(out), RunIdentity("train", plain, (seed,)))
    try:
        lab = RunContext(run, seed, hardware, settings.chat_template or None, settings.track)
        torch.set_num_threads(lab.threads)
        yield lab
    finally:
        run.close()


def parent_of(lab: RunContext, model: str, adapter: str) -> Checkpoint:
    """The model to start from, with the adapter merged as a checkpoint of the run."""
    parent = resolve_model(model)
    if not adapter:
        return parent
    inputs = {"model": parent.path, "adapter": adapter}
    with lab.run.stage("merged", inputs=inputs) as stage:
        folder = stage.path / "model"
        if not stage.done:
            lm = load_model(
                parent.path,
                dtype="float32",
                device=lab.hardware.device,
                adapter=adapter,
                chat_template=lab.chat_template,
            )
            save(adapters.merged(lm), folder)
        return Checkpoint("merged", str(folder), parent.name, fingerprint=fingerprint(folder))
