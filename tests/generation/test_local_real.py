"""The local engine on a trained model, where one is at hand."""

from __future__ import annotations

import pytest
import torch

from alignlab.generation.local import LocalEngine
from alignlab.models.chat_template import encode_prompt
from alignlab.models.load import load
from tests.conftest import shared_path
from tests.generation.tiny import ask


@pytest.mark.shared
def test_greedy_text_equals_transformers() -> None:
    lm = load(shared_path("models/tinychat-7m"), dtype="float32", device="cpu")
    texts = ["What is a cat?", "Tell me how to bake bread at home.", "List three cities."]
    requests = [ask(t, t, temperature=0, max_tokens=32) for t in texts]
    for request, (got,) in zip(requests, LocalEngine(lm).complete(requests), strict=True):
        ids = torch.tensor([encode_prompt(lm, request.messages)])
        out = lm.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=32,
            pad_token_id=lm.tokenizer.pad_token_id,
        )
        assert got.text == lm.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
        assert len(got.text) > 20
