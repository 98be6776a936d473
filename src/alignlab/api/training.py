"""Train a model with an objective."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignlab import configs
from alignlab.api import settings as known
from alignlab.api.folders import place_for, writing
from alignlab.api.inputs import (
    DataLike,
    JudgeLike,
    ModelLike,
    data_spec,
    judge_spec,
    model_spec,
    objective_parts,
)
from alignlab.api.results import Text, Training
from alignlab.errors import BadInput
from alignlab.launched import NO_DEEPSPEED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from alignlab.objectives.base import Objective
    from alignlab.objectives.rollout_batch import PolicyGradient


def train(
    objective: str | Mapping[str, Any] | Objective | PolicyGradient,
    model: ModelLike,
    data: DataLike,
    *overrides: str,
    out: str | Path | None = None,
    reward: JudgeLike | None = None,
    config: str | Path | None = None,
    repair: bool = False,
    **settings: Any,
) -> Training:
    """Train a model with an objective, or resume the training where it stopped.

    On several GPUs: torchrun --standalone --nproc-per-node 8 -m alignlab train ..., or
    accelerate launch -m alignlab train ... (see docs/distributed.md).

    Args:
        objective: name from `alignlab list objectives`; in Python also al.DPO(beta=0.1) or {"name":
            "dpo", "beta": 0.1}.
        model: model to start from: folder, run directory, GGUF file, package:NAME, hub id, or
            sandbox:NAME.
        data: PATH or FORMAT:PATH; `?test_share=0.1` holds prompts out.
        overrides: settings, such as lr=1e-6 objective.beta=0.3.
        out: run directory; without it one under `runs/`, which the repeated command resumes; in
            Python a new one each time.
        reward: feedback source of ppo, reinforce, rloo, grpo: sandbox:oracle, ...
        config: YAML file of settings, under the others.
        repair: compute the damaged stages of the run in `out` again.
        settings: settings by keyword, as in overrides.

    Raises:
        BadInput: unknown objective or setting, settings without effect, or data that does not fit;
            nothing is written.
        RunFailed: the loss is not finite; the same call resumes.
    """
    chosen, options = objective_parts(objective)
    values = known.given(config, overrides, settings)
    if "deepspeed" in values:
        raise BadInput(f"setting deepspeed: {NO_DEEPSPEED}")
    configs.refuse_unknown(known.training(chosen).options, values | _nested(values, options))
    own = getattr(model, "settings", {})
    specs = {"model": model_spec(model), "data": data_spec(data), "reward": judge_spec(reward)}
    name = chosen if isinstance(chosen, str) else type(chosen).__name__.lower()
    place = place_for(out, name)

    from alignlab.commands.train import train as train_model

    with writing(place, repair=repair):
        trained = train_model(
            chosen,
            *(f"objective.{key}={json.dumps(value)}" for key, value in options.items()),
            *overrides,
            out=place,
            config=config,
            **specs,
            **{**own, **settings},
        )
    return Training(trained, place, read_lines(trained.metrics))


def train_classifier(what: str, model: str, data: str, *overrides: str, out: str | Path) -> Text:
    """Train a classifier for a feedback source.

    Args:
        what: query_types, a classifier of open- and closed-ended questions.
        model: sentence encoder: minilm, a folder or a hub id.
        data: PATH or FORMAT:PATH of prompts with a `query_type`.
        overrides: settings: test=DATA measures the accuracy on other prompts.
        out: folder for the classifier.

    Raises:
        BadInput: prompts without labels, or no such encoder.
    """
    from alignlab.errors import unknown_name
    from alignlab.records import to_dict
    from alignlab.source import describe

    if what != "query_types":
        raise unknown_name("classifier", what, ["query_types"])
    configs.refuse_unknown(describe(known.QUERY_TYPES), configs.parse_overrides(overrides))

    from alignlab.commands.query_types import train_query_types

    learned = train_query_types(*overrides, model=model, data=data, out=out)
    return Text(learned, [to_dict(learned)], what)


def read_lines(path: str | Path) -> list[dict[str, Any]]:
    """Read a file of JSON objects, one a line; empty if the file is missing."""
    try:
        with open(path, encoding="utf-8") as file:
            return [json.loads(line) for line in file]
    except FileNotFoundError:
        return []


def _nested(values: dict[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Merge the objective's options from both places, to check their names."""
    given = values.get("objective", {})
    return {"objective": {**options, **given}} if options or given else {}
