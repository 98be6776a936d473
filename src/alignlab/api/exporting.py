"""Export a model for other tools."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from alignlab.api.folders import place_for, writing
from alignlab.api.inputs import ModelLike, model_spec
from alignlab.api.results import Text


def export(
    model: ModelLike,
    out: str | Path,
    *,
    dtype: Literal["input", "float32", "bfloat16", "float16"] = "input",
    adapter: str = "",
    chat_template: str = "",
    licence: str = "",
    evaluations: Sequence[str] = (),
) -> Text:
    """Export a model as a Hugging Face folder: merged weights, tokenizer, settings, model card.

    The card is made from the records of the model's runs: base model, data, objective, settings,
    figures with interval, n and judge, and what is not known.

    Args:
        model: run directory, folder, adapter, GGUF file, package:NAME or hub id.
        out: new folder.
        dtype: type of the saved weights; input is that of the model's files.
        adapter: folder or hub id of a PEFT adapter to merge.
        chat_template: chatml, plain, zephyr or a file, for a model without a chat template.
        licence: licence in the card; empty takes the base model's, where it is known.
        evaluations: run directory with further figures of the model; may be repeated.

    Raises:
        BadInput: no such model, or a folder in the way.
    """
    from alignlab.commands.export import export as export_model
    from alignlab.records import to_dict

    given = getattr(model, "settings", {})
    place = place_for(str(out), "model")
    with writing(place):
        done = export_model(
            model_spec(model),
            place,
            dtype=dtype,
            adapter=adapter or given.get("adapter", ""),
            chat_template=chat_template or given.get("chat_template", ""),
            licence=licence,
            evaluations=evaluations,
        )
    return Text(done, [to_dict(done)], "exported model")
