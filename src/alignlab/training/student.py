"""Load the model that a training starts from, in the type that its weights are held in."""

from __future__ import annotations

from pathlib import Path

from alignlab.errors import BadInput
from alignlab.models.dtypes import LEAST_PARAMETERS, device_of, resolve_dtype, stored_parameters
from alignlab.models.heads import load_reward_model
from alignlab.models.load import LanguageModel, classifier_in, load, stored_type
from alignlab.models.quant import load_quantised
from alignlab.training.config import TrainConfig, keeps_bfloat16


def load_student(
    path: str,
    config: TrainConfig,
    *,
    device: str,
    sharded: bool,
    chat_template: str | None,
    rewards: bool = False,
    alone: bool = False,
) -> LanguageModel:
    """Load a model for training: quantised by `config.quant`, else with float32 weights.

    The weights under an adapter are bfloat16 where the training is, and either the files are too
    or the adapter is saved alone.

    Args:
        path: folder, GGUF file, package or hub id of the model.
        config: settings of the training.
        device: device of the weights.
        sharded: processes share the weights, which then wait on the meta device where they can.
        chat_template: template instead of the tokenizer's own.
        rewards: train rewards; a reward model keeps its scalar head.
        alone: save the adapter alone.

    Raises:
        BadInput: quantised weights would have to be sharded.
    """
    folder = Path(path)
    parameters = stored_parameters(folder) if folder.is_dir() else LEAST_PARAMETERS
    dtype = resolve_dtype(config.dtype, device_of(device), parameters)
    if config.quant != "none":
        if sharded:
            raise BadInput("train: quant: quantised weights are not shared out; use parallel=data")
        return load_quantised(
            path, config.quant, compute=dtype, device=device, chat_template=chat_template
        )
    scalar = rewards and classifier_in(path)
    # A fresh head is drawn next to weights in memory; DoRA reads weights, and an adapter of the
    # vocabulary head may untie it.
    adapter = config.lora is not None and (config.lora.dora or bool(config.lora.targets))
    fresh = adapter or (rewards and not scalar)
    stored = str(stored_type(folder)).removeprefix("torch.") if folder.is_dir() else ""
    alone = alone and not fresh
    kept = keeps_bfloat16(config, stored=stored, dtype=dtype, alone=alone)
    kept = kept and not (rewards or sharded)
    lm = (load_reward_model if scalar else load)(
        path,
        device="cpu" if sharded else device,  # shards move layer by layer
        dtype="bfloat16" if kept else "float32",
        chat_template=chat_template,
        deferred=sharded and not fresh,
    )
    if lm.added:
        lm.model.float()  # of the tokens that a template adds, an adapter trains rows
    return lm
