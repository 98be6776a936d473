"""Set up a training: its settings, run directory and context."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from alignlab import configs, registry
from alignlab.commands._support.job import open_run, setting_layers
from alignlab.configs import NonNegativeInt
from alignlab.context import Hardware, RunContext, resolve_model
from alignlab.errors import BadInput
from alignlab.launched import NO_DEEPSPEED
from alignlab.models import adapters
from alignlab.models.dtypes import device_of, stored_parameters
from alignlab.models.footprint import refuse_training
from alignlab.models.load import fingerprint, save
from alignlab.models.load import load as load_model
from alignlab.records import to_dict
from alignlab.runs import RunIdentity
from alignlab.training.config import SaveDtype, TrainConfig
from alignlab.training.launch import Parallel, refuse_unmet
from alignlab.training.rollout_config import RolloutConfig
from alignlab.training.tracking import Track, require_tracker
from alignlab.types import Checkpoint, Corpus, Count

S = TypeVar("S", bound="TrainSetup")


@dataclass(frozen=True)
class TrainSetup(configs.Bounded):
    """Setup of a training: adapter, chat template, device, saved weights, parallelism, tracker."""

    adapter: str = ""
    """Folder or hub id of a PEFT adapter to merge into the model first."""
    chat_template: str = ""
    """Chat template for models without one, or instead of their own: chatml, plain, zephyr, or a
    file."""
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
        """Return the hardware of a training, which has one worker."""
        return Hardware(self.device, workers=1, threads=self.threads, parallel=self.parallel)


class DataUsed(NamedTuple):
    """Data of a training, and the count of records that it takes from them."""

    corpus: Corpus
    tally: Count


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
    layers = setting_layers(config, overrides, settings)
    if any("deepspeed" in layer for layer in layers):
        raise BadInput(f"setting deepspeed: {NO_DEEPSPEED}")
    chosen = configs.build(cls, *layers)
    refuse_unmet(chosen)  # type: ignore[arg-type]
    require_tracker(chosen.track)
    chosen.hardware()  # a device that is not there is refused first
    return Chosen(chosen, {key: value for layer in layers for key, value in layer.items()})


def objective_class(objective: Any) -> type:
    """Return the class of an objective given by name or as an instance.

    Raises:
        BadInput: no such objective.
    """
    found: type = (
        registry.get("objective", objective) if isinstance(objective, str) else type(objective)
    )
    return found


def build_objective(objective: Any, options: Mapping[str, Any]) -> Any:
    """Build an objective from its name and options, or return the instance given.

    Raises:
        BadInput: no such objective or option, or options with an instance.
    """
    if isinstance(objective, str):
        return configs.build(registry.get("objective", objective), options)
    if options:
        raise BadInput("setting objective: has no effect with an objective that is given whole")
    return objective


def refuse_idle(
    chosen: Any, given: Mapping[str, Any], *more: tuple[str, bool, str], section: str = ""
) -> None:
    """Refuse settings that were set but have no effect.

    Args:
        chosen: settings of a training loop.
        given: settings set by name.
        more: further triples of a setting's name, whether it has no effect, and where.
        section: prefix of the names of a training among others.

    Raises:
        BadInput: a setting without effect is given.
    """
    for key, without_effect, why in (
        ("min_lr_ratio", chosen.schedule == "constant", f"with {section}schedule=constant"),
        ("keep_checkpoints", not chosen.save_every, f"with {section}save_every=0"),
        *more,
    ):
        if key in given and without_effect:
            raise BadInput(f"setting {section}{key}: has no effect {why}; leave it out")


def check_token_budget(key: str, tokens: int, budget: int) -> None:
    """Check that a response of the greatest length fits into a pass.

    Raises:
        BadInput: the setting `key`, in tokens, exceeds the budget.
    """
    if tokens > budget:
        raise BadInput(
            f"setting {key}: expected at most token_budget ({budget}), found {tokens}: a response "
            "would be longer than the budget of a pass"
        )


def refuse_large(
    model: str, loop: TrainConfig, device: str, *, frozen_copy: bool = False, alone: bool = False
) -> None:
    """Refuse a training on a CPU whose weights and optimiser states exceed the free memory.

    Args:
        model: folder of the model; another is not known before it is loaded.
        loop: settings of the training.
        device: device of the training.
        frozen_copy: True where a copy of the initial weights is the reference.
        alone: True where an adapter is saved alone, not merged.

    Raises:
        BadInput: they exceed it.
    """
    folder = Path(resolve_model(model).path)
    if device_of(device).type != "cpu" or loop.quant != "none" or not folder.is_dir():
        return
    parameters = stored_parameters(folder)
    trainable = parameters if loop.lora is None else 0
    frozen_copy = frozen_copy and loop.lora is None
    refuse_training(parameters, trainable, frozen_copy=frozen_copy, alone=alone)


class Opened(NamedTuple):
    """Run of a training, with the model to start from."""

    context: RunContext
    parent: Checkpoint


@contextmanager
def open_training(
    settings: TrainSetup, seed: int, out: str | Path, identity: Mapping[str, Any], data: DataUsed
) -> Iterator[Opened]:
    """Open the run of a training, record its data, and prepare the model; close it at the end.

    Args:
        identity: parts of the run's identity in addition to the settings, `model` and `data`
            among them.
    """
    rolled = isinstance(settings, RolloutConfig)
    if isinstance(settings, TrainConfig):
        refuse_large(identity["model"], settings, settings.device, frozen_copy=rolled)
    plain = to_dict(settings) | dict(identity)
    for key in ("threads", "track", "parallel"):  # they change no figure
        plain.pop(key)
    run_identity = RunIdentity("train", plain, (seed,))
    hardware, template = settings.hardware(), settings.chat_template
    with open_run(Path(out), run_identity, hardware, template, settings.track) as context:
        context = replace(context, merges=True)
        context.run.add_inputs(data.corpus.files)
        with context.run.stage("data", inputs={"data": identity["data"]}) as stage:
            stage.count([*data.corpus.counts, data.tally])
        yield Opened(context, _parent(context, identity["model"], settings.adapter))


def _parent(context: RunContext, model: str, adapter: str) -> Checkpoint:
    """Return the model to start from, with the adapter merged as a checkpoint of the run."""
    parent = resolve_model(model)
    if not adapter:
        return parent
    inputs = {"model": parent.path, "adapter": adapter}
    with context.run.stage("merged", inputs=inputs) as stage:
        folder = stage.path / "model"
        if not stage.done:
            lm = load_model(
                parent.path,
                dtype="float32",
                device=context.hardware.device,
                adapter=adapter,
                chat_template=context.chat_template,
            )
            save(adapters.merged(lm), folder)
        return Checkpoint("merged", str(folder), parent.name, fingerprint=fingerprint(folder))
