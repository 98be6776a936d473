"""Give tokens that a chat template adds rows in a model's embeddings and vocabulary head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def embed_tokens(model: Any, added: Sequence[int], end_of_sequence: int | None) -> None:
    """Set the first weights of added tokens; enlarge the vocabulary where it has no row for them.

    The last token, the end of turn, starts as a copy of the end of sequence, after which a base
    model has learned to stop; the others start as the mean of all rows. Nothing is drawn at
    random, so that every process and stage gets the same weights.

    Args:
        model: a transformers model; changed in place. Tied matrices stay tied.
        added: ids of the tokens, the end of turn last; none leaves the model as it is.
        end_of_sequence: id of the tokenizer's end of sequence; None where it has none.
    """
    if not added:
        return
    rows = model.get_input_embeddings().weight.shape[0]
    fresh = torch.tensor(sorted({*added, *range(rows, max(added) + 1)}))
    if max(added) >= rows:
        model.resize_token_embeddings(max(added) + 1, mean_resizing=False)
    head = model.get_output_embeddings()
    ends = (model.get_input_embeddings(), head)
    tensors = [end.weight for end in ends if end is not None]
    if getattr(head, "bias", None) is not None:
        tensors.append(head.bias)
    old = torch.ones(tensors[0].shape[0], dtype=torch.bool)
    old[fresh] = False
    known = end_of_sequence is not None and end_of_sequence not in set(fresh.tolist())
    with torch.no_grad():
        for tensor in {id(t): t for t in tensors}.values():
            tensor[fresh] = tensor[old].float().mean(dim=0).to(tensor.dtype)
            if known:
                tensor[added[-1]] = tensor[end_of_sequence]
