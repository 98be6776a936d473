"""Set up a training: its settings, run directory and context."""

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
    """Settings of a training in addition to those of its loop."""

    adapter: str = ""
    """Folder or hub id of a PEFT adapter to merge into the model first."""
    chat_template: str = ""
    """File with a chat template, for a model without one."""
    device: str = "auto"
    """Device: "auto" uses a GPU if there is one; else "cpu", "cuda", "cuda:1", ..."""
    threads: NonNegativeInt = 0
    """Torch threads; 0 is one per core."""
    save_dtype: SaveDtype = "input"
    """Type of the saved weights: "float32", "bfloat16", or "input", the type of the model's files
    (float32 for a new reward model and for a model that `adapter` was merged into)."""
    parallel: Parallel = "auto"
    """Sharing of a training among the processes of torchrun or accelerate: "data" (each holds all
    weights), "fsdp" (each holds a share); "auto" follows accelerate's configuration, else data."""
    track: Track = "none"
    """Tracker of the metrics, in addition to metrics.jsonl: tensorboard, wandb or trackio; needs
    pip install 'alignlab[track]'."""

    def hardware(self) -> Hardware:
        return Hardware(self.device, workers=1, threads=self.threads, parallel=self.parallel)


class Chosen(NamedTuple, Generic[S]):
    """Settings, with those that the user set."""

    settings: S
    given: Mapping[str, Any]
    """Settings set by name, rather than left at their defaults; later layers win."""


def choose(
    cls: type[S], config: str | Path | None, overrides: Sequence[str], settings: Mapping[str, Any]
) -> Chosen[S]:
    """Merge the settings of a YAML file, `key=value` overrides and keywords; later ones win.

    Raises:
        BadInput: an unknown setting, or one that this machine cannot meet.
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
    """Return the settings of the training loop alone."""
    return cls(**{f.name: getattr(settings, f.name) for f in fields(cls)})


def objective_class(objective: Any) -> type:
    """Return the class of an objective given by name or as an instance.

    Raises:
        BadInput: no such objective.
    """
    found: type = (
        registry.get("objective", objective) if isinstance(objective, str) else type(objective)
    )
    return found


def made_objective(objective: Any, options: Mapping[str, Any]) -> Any:
    """Build an objective from its name and options, or return the instance given.

    Raises:
        BadInput: no such objective or option, or options with an instance.
    """
    if isinstance(objective, str):
        return configs.build(registry.get("objective", objective), options)
    if options:
        raise BadInput("setting objective: has no effect with an objective that is given whole")
    return objective


def drops_bad(data: str) -> bool:
    """Return whether a data spec drops bad records (`?bad=drop`)."""
    return "bad=drop" in split(data).options


def refuse_idle(given: Mapping[str, Any], idle: Sequence[tuple[str, bool, str]]) -> None:
    """Refuse settings that were set but have no effect.

    Args:
        idle: triples of a setting's name, whether it has no effect, and where.
    """
    for key, without_effect, why in idle:
        if key in given and without_effect:
            raise BadInput(f"setting {key}: has no effect {why}; leave it out")


@contextmanager
def laboratory(
    settings: Surroundings, seed: int, out: str | Path, identity: Mapping[str, Any]
) -> Iterator[RunContext]:
    """Open a run directory with the context of its stages; close it at the end.

    Args:
        identity: parts of the run's identity in addition to the settings.
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
    """Return the model to start from, with the adapter merged as a checkpoint of the run."""
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
