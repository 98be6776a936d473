"""Sample a model's responses to prompts into a file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from alignlab import configs
from alignlab.api import settings as known
from alignlab.api.folders import place_for, writing
from alignlab.api.inputs import DataLike, ModelLike, data_spec, model_spec
from alignlab.api.results import FileResult


def generate(
    model: ModelLike,
    prompts: DataLike,
    *overrides: str,
    out: str | Path | None = None,
    config: str | Path | None = None,
    repair: bool = False,
    **settings: Any,
) -> FileResult:
    """Answer prompts with a model, or resume; records of the work are in OUT.run.

    Args:
        model: [NAME=]SPEC: folder, run directory, GGUF file, package:NAME, hub id or engine.
        prompts: data with prompts: PATH or FORMAT:PATH; in Python also a list of texts.
        overrides: settings, such as n=4 temperature=0.7 max_tokens=512.
        out: file to write: .jsonl, .jsonl.gz or .parquet.
        config: YAML file of settings, under the others.
        repair: compute the damaged stages of the run in OUT.run again.
        settings: settings by keyword, as in overrides.

    Returns:
        A row per response: `prompt`, `completion`, `model`, `finish`, `tokens`.

    Raises:
        BadInput: an unknown setting or model, data without prompts, or an existing output file.
        RunFailed: the work could not be finished; the same call resumes.
    """
    configs.refuse_unknown(known.generation().options, known.given(config, overrides, settings))
    own = {k: v for k, v in getattr(model, "settings", {}).items() if k == "chat_template"}
    specs = {"model": model_spec(model, named=True), "prompts": data_spec(prompts)}
    place = place_for(out, f"generate-{short(specs['model'])}", "answers.jsonl")

    from alignlab.commands.generate import generate as answer_prompts

    with writing(place, repair=repair):
        written = answer_prompts(
            *overrides, out=place, config=config, **specs, **{**own, **settings}
        )
    return FileResult(written, file_rows(written.path))


def short(spec: str) -> str:
    """Return a short name for a folder: the last part of a path, the model of an engine's spec."""
    name, equals, _ = spec.partition("=")
    text = (
        name
        if equals and "/" not in name
        else re.split("[/:]", spec.partition("@")[0].rstrip("/"))[-1]
    )
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.") or "model"


def file_rows(path: str) -> list[dict[str, Any]]:
    """Read the rows of a file written by a command."""
    from alignlab.data.read import Faults, read_table

    return [dict(row.values) for row in read_table(path, Faults()).rows]
