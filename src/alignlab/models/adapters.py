"""LoRA and DoRA adapters through peft; with the adapter off, the model is its own reference.

LoRA: arXiv 2106.09685. DoRA: arXiv 2402.09353.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from alignlab.configs import BelowOne, Bounded, Positive, PositiveInt
from alignlab.errors import BadInput
from alignlab.models.adapter_folders import untie_adapted
from alignlab.models.deferred import placeholders
from alignlab.models.load import LanguageModel
from alignlab.models.quant import is_quantised, merged_into_dequantised


@dataclass(frozen=True)
class LoraConfig(Bounded):
    """Settings of a low-rank adapter; only its weights are trained."""

    r: PositiveInt = 16
    """Rank of the update of each adapted matrix."""
    alpha: Positive = 16.0
    """Scale of the update, as alpha / r."""
    dropout: BelowOne = 0.0
    """Share of the adapter's inputs set to zero in training, in [0, 1)."""
    targets: tuple[str, ...] = ()
    """Names of the adapted linear layers (q_proj, ...); empty is every linear layer but the
    vocabulary head."""
    dora: bool = False
    """Train magnitude and direction of each matrix separately (DoRA)."""


def attach(lm: LanguageModel, config: LoraConfig, *, seed: int) -> LanguageModel:
    """Add a fresh adapter to a model, with initial weights drawn from the seed.

    peft rounds them to the type of the weights under them, which are those of the files.

    Raises:
        BadInput: the model has no layer of the given names, or an adapter already.
    """
    from peft import LoraConfig as PeftLora
    from peft import TaskType, get_peft_model

    if is_adapted(lm.model):
        raise BadInput(f"{lm.name} already has an adapter; merge it or load the model without")
    names = [name for name, _ in lm.model.named_modules()]
    for target in config.targets:
        if not any(f".{name}".endswith(f".{target}") for name in names):
            raise BadInput(f"lora.targets: {lm.name} has no layer {target!r}")
    settings = PeftLora(
        task_type=TaskType.SEQ_CLS if is_reward_model(lm.model) else TaskType.CAUSAL_LM,
        r=config.r,
        lora_alpha=config.alpha,  # type: ignore[arg-type]
        lora_dropout=config.dropout,
        target_modules=list(config.targets) or "all-linear",
        use_dora=config.dora,
        trainable_token_indices=_rows_to_train(lm, config),
    )
    # Weights that stand for float32 ones, such as those of merged adapters, round nothing.
    narrowed = lm.stored == torch.float32 != lm.model.dtype and not is_quantised(lm.model)
    stand_in = torch.float32 if narrowed and not config.dora else None  # DoRA reads weights
    with torch.random.fork_rng(), placeholders(lm.model, stand_in):
        torch.manual_seed(seed)
        try:
            model = get_peft_model(lm.model, settings)
        except ValueError as error:
            raise BadInput(f"lora: {str(error).splitlines()[0]}") from error
    untie_adapted(model)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return replace(lm, model=model)


def _rows_to_train(lm: LanguageModel, config: LoraConfig) -> dict[str, list[int]] | None:
    """Return the rows of tokens that the chat template added, by the names of their matrices.

    Raises:
        BadInput: peft cannot train rows of this model's head.
    """
    if not lm.added:
        return None
    head = lm.model.get_output_embeddings()
    if getattr(head, "bias", None) is not None:
        raise BadInput(
            f"lora: {lm.name}: rows of added tokens cannot be trained in a head with a bias; "
            "choose chat_template=zephyr or plain, which add none"
        )
    ends = [lm.model.get_input_embeddings()]
    if head is not None and head.weight is not ends[0].weight:
        ends.append(head)
    names = [n for n, m in lm.model.named_modules() if any(m is end for end in ends)]
    if any(name.rpartition(".")[2] in config.targets for name in names):
        raise BadInput(
            "lora.targets: expected no embeddings and no head with a chat template that adds "
            "tokens, whose rows are trained on their own"
        )
    return {name: sorted(lm.added) for name in names}


class Head(NamedTuple):
    """Weights of a linear vocabulary head."""

    weight_Vd: Tensor
    bias_V: Tensor | None


def linear_head(model: Any) -> Head | None:
    """Return the weights of a model's vocabulary head, trained rows in place; None if not linear.

    With the adapter off, the rows are the base model's.
    """
    head = base_of(model).get_output_embeddings()
    rows = getattr(head, "token_adapter", None)  # peft's layer of trained rows
    linear = head if rows is None else rows.base_layer
    if type(linear) is not torch.nn.Linear:
        return None
    if rows is None or rows.disable_adapters or rows.merged:
        return Head(linear.weight, linear.bias)
    return Head(rows.get_merged_weights(rows.active_adapters), linear.bias)


def is_adapted(model: Any) -> bool:
    """Return True for a model that carries a PEFT adapter."""
    return hasattr(model, "merge_and_unload")


def is_reward_model(model: Any) -> bool:
    """Return True for a sequence classifier, whose trained head belongs to an adapter."""
    return type(base_of(model)).__name__.endswith("ForSequenceClassification")


def base_of(model: Any) -> Any:
    """Return the transformers model inside a PEFT model, adapter layers in place."""
    return model.get_base_model() if is_adapted(model) else model


@contextmanager
def adapter_off(model: Any) -> Iterator[None]:
    """Disable a model's adapter inside the block; without an adapter, do nothing."""
    with model.disable_adapter() if is_adapted(model) else nullcontext():
        yield


def merged(lm: LanguageModel) -> LanguageModel:
    """Merge a model's adapter into its weights, dequantised where they are quantised."""
    if not is_adapted(lm.model):
        return lm
    if is_quantised(base_of(lm.model)):
        return replace(lm, model=merged_into_dequantised(lm.model))
    # peft froze the weights under the adapter; the merged model may be trained like any other.
    return replace(lm, model=lm.model.merge_and_unload().requires_grad_(True))


def merged_weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield a model's weights by the names of its files, an adapter merged into a copy.

    Tied weights come once; the model stays as it is.
    """
    if is_adapted(model):
        model = copy.deepcopy(model).merge_and_unload()
    yield from model.named_parameters()
