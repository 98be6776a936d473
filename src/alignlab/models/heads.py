"""Build and score reward models: a decoder's body with a scalar head.

The reward of a response is the head's value at its last token, the end of turn.
`AutoModelForSequenceClassification` pools there too, given a padding token that ends no response
and a chat template that writes nothing after the last turn; `with_reward_head` sets both.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from alignlab.errors import BadInput
from alignlab.models.adapter_folders import checked_base
from alignlab.models.adapters import base_of, is_reward_model, merged
from alignlab.models.chat_template import end_of_turn, without_template_end
from alignlab.models.load import (
    LanguageModel,
    base_for,
    base_of_adapter,
    classifier_in,
    is_adapter,
    load,
    merged_onto,
)
from alignlab.models.locate import locate
from alignlab.models.packed import PackedBatch, TokenGroup, by_group
from alignlab.models.quant import is_quantised
from alignlab.models.scorer import EmbeddingNoise, Scorer, read_groups


@dataclass(frozen=True)
class SequenceRewards:
    """Rewards of every response of a micro-batch, in order of sequences."""

    reward_N: Tensor
    """Rewards in the head's type, with gradient."""


class RewardScorer(Scorer[SequenceRewards]):
    """Scorer of responses by a sequence classifier of one label."""

    path = "packed classifier"

    @contextmanager
    def _packed(
        self, groups: Sequence[TokenGroup], noise: EmbeddingNoise | None
    ) -> Iterator[SequenceRewards]:
        with self._stream(groups, noise) as (batch, hidden_Td):
            last_Nd = hidden_Td.index_select(0, last_positions(batch).to(hidden_Td.device))
            yield SequenceRewards(_head(self.base)(last_Nd)[:, 0])

    @contextmanager
    def _padded(
        self, groups: Sequence[TokenGroup], noise: EmbeddingNoise | None
    ) -> Iterator[SequenceRewards]:
        padding = self.base.config.get_text_config().pad_token_id
        yield SequenceRewards(self._logits(self._rows(groups, fill=padding), groups, noise)[:, 0])

    def _values(self, found: SequenceRewards) -> Tensor:
        return found.reward_N

    def _head_unserved(self) -> str | None:
        if _head(self.base) is None:
            return f"{type(self.base).__name__} has no scalar head next to its body"
        return None


def with_reward_head(lm: LanguageModel, *, seed: int) -> LanguageModel:
    """Make a reward model of a decoder's body, with a head drawn from the seed.

    The body is copied, an adapter merged first. The head's initial weights are normal with std
    1 / sqrt(d + 1) (arXiv 2009.01325, appendix B.1). A reward model is returned unchanged.

    Raises:
        BadInput: transformers has no sequence classifier of this architecture, or the decoder's
            weights are quantised.
    """
    if is_reward_model(lm.model):
        return lm
    if is_quantised(base_of(lm.model)):
        raise BadInput(
            f"{lm.name}: a reward model is made of plain weights, found quantised ones; choose "
            "quant=none"
        )
    source = merged(lm).model
    # In bfloat16 rewards have three digits and responses tie: save in float32 instead.
    lm = replace(lm, tokenizer=copy.deepcopy(lm.tokenizer), stored=None)
    lm.tokenizer.chat_template = without_template_end(lm)
    config = _classifier_config(lm, source.config)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            model: Any = AutoModelForSequenceClassification.from_config(  # type: ignore[no-untyped-call]
                config, dtype=source.dtype
            )
        except ValueError as error:
            raise BadInput(
                f"{lm.name}: expected an architecture with a sequence classifier, found "
                f"{type(source).__name__}"
            ) from error
        head = _head(model)
        if head is None:
            raise BadInput(f"{lm.name}: {type(model).__name__} has no linear head of one label")
        torch.nn.init.normal_(head.weight, std=(head.in_features + 1) ** -0.5)
        if head.bias is not None:
            torch.nn.init.zeros_(head.bias)
    model.base_model.load_state_dict(source.base_model.state_dict())
    model.to(lm.device).eval()
    return replace(lm, model=model)


def load_reward_model(
    path: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = "auto",
    chat_template: str | Path | None = None,
    deferred: bool = False,
) -> LanguageModel:
    """Load a saved reward model with its tokenizer; `deferred` as in `load`.

    Raises:
        BadInput: no such model, or it is no classifier of one label.
    """
    if is_adapter(folder := locate(path)):
        return _merged_rewards(folder, chat_template, device=device, dtype=dtype)
    expected = "a reward model (a classifier of one label)"
    try:
        lm = load(
            path,
            device=device,
            dtype=dtype,
            chat_template=chat_template,
            model_class=AutoModelForSequenceClassification,
            deferred=deferred,
        )
    except BadInput as error:
        if classifier_in(folder):
            raise
        raise BadInput(f"{path}: expected {expected}: {error}") from error
    if not is_reward_model(lm.model) or lm.model.config.num_labels != 1:
        raise BadInput(f"{path}: expected {expected}")
    text = lm.model.config.get_text_config()
    if text.pad_token_id is None:  # transformers then refuses to pool batches
        text.pad_token_id = lm.model.config.pad_token_id = lm.tokenizer.pad_token_id
    return lm


def _merged_rewards(folder: Path, chat_template: str | Path | None, **placed: Any) -> LanguageModel:
    """Load the reward model of an adapter's folder, which holds the head."""
    if not classifier_in(folder):
        raise BadInput(f"{folder}: expected a reward model, found an adapter of a decoder")
    if classifier_in(locate(base := base_of_adapter(folder))):
        base = checked_base(folder)
        lm = load_reward_model(base, dtype="float32", device="cpu", chat_template=chat_template)
    else:
        lm = with_reward_head(base_for(folder, chat_template=chat_template), seed=0)
    return merged_onto(lm, folder, **placed)


def rewards(
    lm: LanguageModel, groups: Sequence[TokenGroup], *, token_budget: int = 8192
) -> list[tuple[float, ...]]:
    """Score every response of every group by a reward model, in order."""

    def take(scored: SequenceRewards, members: Sequence[TokenGroup]) -> list[tuple[float, ...]]:
        return by_group(scored.reward_N.double().tolist(), members)

    scorer = RewardScorer(lm.model, tokenizer=lm.tokenizer)
    return read_groups(scorer, groups, token_budget, take)


def _classifier_config(lm: LanguageModel, config: Any) -> Any:
    """Return the decoder's configuration with one label and a padding token that ends no turn."""
    plain = config.to_dict()
    plain.pop("architectures", None)
    made = type(config).from_dict(plain)
    made.num_labels = 1
    text = made.get_text_config()
    tokenizer, end = lm.tokenizer, end_of_turn(lm)
    candidates = (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id, 0, 1)
    padding = next(t for t in candidates if t is not None and t != end)
    if padding != tokenizer.pad_token_id:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(padding)
    made.pad_token_id = text.pad_token_id = padding
    return made


def _head(model: Any) -> Any:
    """Return the linear layer of one output outside the model's body, if there is one."""
    body = base_of(model).base_model
    for module in base_of(model).children():
        if module is body:
            continue
        # An adapter wraps the head: the original, and a trained copy.
        linear = getattr(module, "original_module", module)
        if isinstance(linear, torch.nn.Linear) and linear.out_features == 1:
            return module
    return None


def last_positions(batch: PackedBatch) -> Tensor:
    """Return the stream position of each response's last token; (N,)."""
    found: list[int] = []
    for start, group in zip(batch.prompt_start_B, batch.groups, strict=True):
        end = start + len(group.prompt_T) - batch.root
        for response in group.responses:
            end += len(response)
            found.append(end - 1)
    return torch.tensor(found)
