"""Real models take the fast paths, which agree with transformers.

Models lie in the folder ALIGNLAB_MODELS.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from alignlab.generation.decode import DecodeBatch, decode
from alignlab.generation.next_token import NextTokenScorer
from alignlab.generation.shared import Reader
from alignlab.models.packed import TokenGroup
from alignlab.models.scorer import ResponseScorer

pytestmark = pytest.mark.heavy

MODELS = ["smollm2-135m-instruct", "gemma-3-270m", "qwen2.5-coder-0.5b-instruct"]
LONG = "The river rises in the hills, and every village on its banks tells a story about it. " * 40


def opened(name: str, dtype: torch.dtype):
    """A model and its tokenizer; skips the test where there is none."""
    folder = Path(os.environ.get("ALIGNLAB_MODELS", "")) / name
    if "ALIGNLAB_MODELS" not in os.environ or not folder.is_dir():
        pytest.skip(f"no model {name} (set ALIGNLAB_MODELS to the folder of real models)")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    return model, AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bfloat16", "float32"])
@pytest.mark.parametrize("name", MODELS)
def test_no_fallback(name, dtype):
    model, tokenizer = opened(name, dtype)
    for text in (tokenizer, None):
        assert ResponseScorer(model, tokenizer=text).padded_because is None
        assert NextTokenScorer(model, tokenizer=text).padded_because is None
        reader = Reader(model, text)
        assert (reader.fallback, reader._limit) == (None, None)


@pytest.mark.parametrize("name", MODELS[:2])
def test_packed_equals_transformers_beyond_the_window(name):
    """Gemma's window is 512; in float32, one sequence at a time."""
    model, tokenizer = opened(name, torch.float32)
    prompt = tokenizer(LONG)["input_ids"][:600]
    answers = [tokenizer(t, add_special_tokens=False)["input_ids"] for t in (" It is old.", " No.")]
    scorer = ResponseScorer(model, tokenizer=tokenizer)
    group = TokenGroup("x", tuple(prompt), tuple(map(tuple, answers)))
    expected = []
    with torch.no_grad():
        with scorer.scored([group]) as found:
            pass
        for answer in answers:
            logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
            logps = logits.double().log_softmax(-1)
            expected.append(logps.gather(1, torch.tensor(answer)[:, None])[:, 0])
    assert scorer.padded_because is None
    torch.testing.assert_close(found.logp_R.double(), torch.cat(expected), rtol=0, atol=2e-3)


@pytest.mark.parametrize("name", MODELS[:2])
def test_greedy_equals_transformers(name):
    """In float32; one prompt is longer than Gemma's window."""
    model, tokenizer = opened(name, torch.float32)
    prompts = [
        tokenizer("The capital of France is")["input_ids"],
        tokenizer(LONG)["input_ids"][:530],
    ]
    steps = 16
    batch = DecodeBatch(
        prompts=tuple(map(tuple, prompts)),
        prompt_of_B=torch.arange(2),
        uniform_BT=torch.zeros((2, steps), dtype=torch.float64),
        limit_B=torch.full((2,), steps),
        temperature=0.0,
        top_p=1.0,
    )
    drawn = decode(Reader(model, tokenizer), batch, torch.tensor([], dtype=torch.long))
    model.generation_config.eos_token_id = None
    for row, prompt in enumerate(prompts):
        ids = torch.tensor([prompt])
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=steps,
            pad_token_id=0,
        )  # fmt: skip
        assert drawn.tokens_BT[row].tolist() == out[0, len(prompt) :].tolist()
