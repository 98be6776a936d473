"""The local engine against transformers' own generate and against itself in other batches."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from scipy.stats import chisquare

from alignlab.errors import BadInput
from alignlab.generation.decode import DecodeBatch, decode
from alignlab.generation.local import LocalEngine
from alignlab.generation.shared import Reader
from alignlab.generation.token_text import TokenText
from alignlab.models.chat_template import encode_prompt
from alignlab.protocols import ChoiceScorer, Completer
from alignlab.types import CompletionRequest
from tests.generation.tiny import CONFIGS, ask, tiny
from tests.models.helpers import tiny_lm

PROMPTS = ["Hi", "What is the capital of the small country?", "Tell me of the cat " * 4, "The mat"]


def _greedy_by_transformers(lm, request: CompletionRequest) -> tuple[list[int], str]:
    ids = torch.tensor([encode_prompt(lm, request.messages)])
    out = lm.model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=request.sampling.max_tokens,
        eos_token_id=lm.tokenizer.eos_token_id,
        pad_token_id=lm.tokenizer.pad_token_id,
    )[0, ids.shape[1] :].tolist()
    return out, lm.tokenizer.decode(out, skip_special_tokens=True)


@pytest.mark.parametrize("kind", sorted(CONFIGS))
def test_greedy_equals_transformers(kind: str) -> None:
    lm = tiny(kind)
    requests = [ask(str(k), text, temperature=0, max_tokens=24) for k, text in enumerate(PROMPTS)]
    for request, (got,) in zip(requests, LocalEngine(lm).complete(requests), strict=True):
        ids, text = _greedy_by_transformers(lm, request)
        assert got.text == text
        assert got.tokens == len(ids)
        assert got.prompt_tokens == len(encode_prompt(lm, request.messages))


def test_plays_both_roles() -> None:
    engine = LocalEngine(tiny())
    assert isinstance(engine, Completer)
    assert isinstance(engine, ChoiceScorer)


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt2"])
def test_a_completion_depends_on_its_request_alone(kind: str) -> None:
    lm = tiny(kind)
    requests = [
        ask(f"r{k}", PROMPTS[k % 4], seed=7, n=1 + k % 3, max_tokens=20 + k, temperature=0.9)
        for k in range(10)
    ]
    together = LocalEngine(lm).complete(requests)
    for size in (1, 5):
        split = LocalEngine(lm, batch_size=size).complete(requests[::-1])[::-1]
        for a, b in zip(together, split, strict=True):
            assert [(c.text, c.tokens) for c in a] == [(c.text, c.tokens) for c in b]
            assert [c.logprob for c in a] == pytest.approx([c.logprob for c in b], abs=1e-3)
    more = LocalEngine(lm).complete(
        [ask("r0", PROMPTS[0], seed=7, n=4, max_tokens=20, temperature=0.9)]
    )
    assert more[0][0].text == together[0][0].text


def test_seed_id_and_sample_each_change_the_draw() -> None:
    engine = LocalEngine(tiny())
    texts = [
        c.text
        for request in (
            ask("a", "Hi", seed=1, n=2, temperature=1.0, top_p=1.0, max_tokens=16),
            ask("b", "Hi", seed=1, temperature=1.0, top_p=1.0, max_tokens=16),
            ask("a", "Hi", seed=2, temperature=1.0, top_p=1.0, max_tokens=16),
        )
        for c in engine.complete([request])[0]
    ]
    assert len(set(texts)) == 4


def test_samples_follow_the_model_distribution() -> None:
    lm = tiny(spread=0.2)
    request = ask("x", "Hi", n=4000, temperature=1.0, top_p=1.0, max_tokens=1)
    completions = LocalEngine(lm, batch_size=1000).complete([request])[0]
    ids = torch.tensor([encode_prompt(lm, request.messages)])
    with torch.no_grad():
        probs = lm.model(ids).logits[0, -1].softmax(-1).double()
    # Tokens are told apart by their log-probability, which is distinct for a random model.
    logps, order = probs.log().sort()
    drawn = torch.tensor([c.logprob for c in completions], dtype=torch.double)
    near = (drawn[:, None] - logps).abs().min(dim=-1)
    assert near.values.max() < 1e-4
    counts = torch.bincount(order[near.indices], minlength=len(probs)).double()
    often = probs * 4000 >= 8
    assert int(often.sum()) >= 20
    observed = [*counts[often].tolist(), float(counts[~often].sum())]
    expected = [*(probs[often] * 4000).tolist(), float(probs[~often].sum() * 4000)]
    assert chisquare(observed, [x * 4000 / sum(expected) for x in expected]).pvalue > 1e-3


@pytest.mark.parametrize("kind", sorted(CONFIGS))
def test_logprobs_equal_a_plain_forward(kind: str) -> None:
    """Padding, shared prompts, cache growth and compaction leave every token's logprob alone."""
    lm = tiny(kind, spread=0.25)
    prompts = tuple(tuple(encode_prompt(lm, ask("", text).messages)) for text in PROMPTS)
    rows, steps = 16, 80
    rng = torch.Generator().manual_seed(1)
    batch = DecodeBatch(
        prompts=prompts,
        prompt_of_B=torch.arange(4).repeat_interleave(4),
        uniform_BT=torch.rand((rows, steps), dtype=torch.float64, generator=rng),
        limit_B=torch.randint(1, steps + 1, (rows,), generator=rng),
        temperature=1.0,
        top_p=0.95,
    )
    drawn = decode(Reader(lm.model), batch, torch.tensor([lm.tokenizer.eos_token_id]))
    for row, length in enumerate(drawn.length_B.tolist()):
        prompt = list(prompts[row // 4])
        answer = drawn.tokens_BT[row, :length]
        assert length == batch.limit_B[row] or answer[-1] == lm.tokenizer.eos_token_id
        with torch.no_grad():
            logits = lm.model(torch.tensor([prompt + answer.tolist()])).logits[
                0, len(prompt) - 1 : -1
            ]
        want = logits.log_softmax(-1).gather(-1, answer[:, None])[:, 0]
        torch.testing.assert_close(drawn.logprobs_BT[row, :length], want, atol=2e-4, rtol=1e-4)


def test_logprob_sums_the_tokens_that_count() -> None:
    lm = tiny()
    (one,) = LocalEngine(lm).complete([ask("x", "Hi", temperature=0, max_tokens=1)])[0]
    ids = torch.tensor([encode_prompt(lm, ask("x", "Hi").messages)])
    with torch.no_grad():
        want = lm.model(ids).logits[0, -1].log_softmax(-1).max()
    assert one.logprob == pytest.approx(float(want), abs=1e-5)


def test_stop_strings_are_cut_off_and_tokens_counted() -> None:
    engine = LocalEngine(tiny())
    plain = engine.complete([ask("x", "Hi", temperature=1.0, max_tokens=60, n=8)])[0]
    stop = (plain[0].text[10:12],)
    cut = engine.complete([ask("x", "Hi", temperature=1.0, max_tokens=60, n=8, stop=stop)])[0]
    for a, b in zip(plain, cut, strict=True):
        assert b.text == a.text.split(stop[0])[0]
        if stop[0] in a.text:
            assert b.finish == "stop"
            assert b.tokens <= a.tokens
    assert cut[0].tokens < plain[0].tokens


def test_length_and_context_limits() -> None:
    engine = LocalEngine(tiny())
    short, long, over = engine.complete(
        [
            ask("a", "Hi", temperature=1.0, max_tokens=3, seed=5),
            ask("b", "Hi " * 80, temperature=1.0, max_tokens=500),
            ask("c", "the cat " * 400, n=2),
        ]
    )
    assert short[0].tokens <= 3
    assert long[0].prompt_tokens + long[0].tokens <= 256
    assert [c.finish for c in over] == ["error", "error"]
    assert "256" in over[0].error
    assert over[0].text == ""


def test_prefix_is_continued_and_its_last_space_healed() -> None:
    lm = tiny()
    engine = LocalEngine(lm)
    healed, plain = engine.complete(
        [
            ask("x", "Hi", prefix="Score: ", temperature=0, max_tokens=8),
            ask("x", "Hi", prefix="Score:", temperature=0, max_tokens=8),
        ]
    )
    assert healed[0].text == plain[0].text.removeprefix(" ")
    prompt = encode_prompt(lm, ask("x", "Hi").messages) + lm.tokenizer("Score:")["input_ids"]
    assert plain[0].prompt_tokens == len(prompt)


def _by_hand(lm, request: CompletionRequest, choice: str) -> float:
    prompt = encode_prompt(lm, request.messages)
    ids = lm.tokenizer(request.prefix + choice, add_special_tokens=False)["input_ids"]
    held = lm.tokenizer(request.prefix.rstrip(), add_special_tokens=False)["input_ids"]
    assert ids[: len(held)] == held
    with torch.no_grad():
        logps = lm.model(torch.tensor([prompt + ids])).logits[0].double().log_softmax(-1)
    return sum(float(logps[len(prompt) + k - 1, ids[k]]) for k in range(len(held), len(ids)))


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt2", "bloom"])
def test_choices_by_hand(kind: str) -> None:
    lm = tiny(kind)
    engine = LocalEngine(lm, batch_size=3)
    scores = tuple("012345")
    requests = [ask(str(k), text, prefix="Score: ") for k, text in enumerate(PROMPTS)]
    for request, got in zip(requests, engine.choice_logprobs(requests, scores), strict=True):
        assert got == pytest.approx([_by_hand(lm, request, s) for s in scores], abs=1e-4)


def test_choices_of_several_tokens_and_a_choice_within_another() -> None:
    lm = tiny()
    request = ask("x", "Hi", prefix="Score: ")
    (got,) = LocalEngine(lm, batch_size=2).choice_logprobs([request], ["1", "10", "the cat sat"])
    one, ten, cat = (_by_hand(lm, request, c) for c in ("1", "10", "the cat sat"))
    assert got[1:] == pytest.approx((ten, cat), abs=1e-4)
    assert math.exp(got[0]) == pytest.approx(math.exp(one) - math.exp(ten), rel=1e-3)


def test_choices_beyond_the_context_are_nan_and_empty_choices_refused() -> None:
    engine = LocalEngine(tiny())
    far, near = engine.choice_logprobs([ask("a", "cat " * 300), ask("b", "Hi")], ["1", "2"])
    assert all(math.isnan(x) for x in far)
    assert all(x < 0 for x in near)
    with pytest.raises(BadInput, match="choices"):
        engine.choice_logprobs([ask("b", "Hi")], [""])


def test_training_mode_is_left_as_found() -> None:
    lm = tiny()
    lm.model.train()
    LocalEngine(lm).complete([ask("a", "Hi", max_tokens=2)])
    assert lm.model.training


@pytest.mark.parametrize(
    "sampling", [{"temperature": -1}, {"top_p": 0}, {"top_p": 1.1}, {"max_tokens": 0}, {"n": 0}]
)
def test_bad_sampling(sampling: dict) -> None:
    with pytest.raises(BadInput, match=next(iter(sampling))):
        LocalEngine(tiny()).complete([ask("a", "Hi", **sampling)])


@pytest.mark.parametrize(
    ("marks", "texts", "kept"),
    [
        (["[THINK]", "[/THINK]"], ["[THINK]", "hm", "[/THINK]", "<|im_start|>", "Yes"],
         "[THINK]hm[/THINK]Yes"),
        (["<|channel|>", "<|message|>", "<|end|>"],
         ["<|channel|>", "final", "<|message|>", "Yes", "<|end|>"],
         "<|channel|>final<|message|>Yes<|end|>"),
        (["<|message|>", "<|end|>"], ["<|message|>", "Yes", "<|end|>"], "Yes"),
        ([], ["<|im_start|>", "Yes"], "Yes"),
    ],
)  # fmt: skip
def test_special_tokens_that_mark_reasoning_stay_in_the_text(marks, texts, kept) -> None:
    lm = tiny_lm()
    lm.tokenizer.add_special_tokens({"extra_special_tokens": [*marks, "<|im_start|>"]})
    ids = [n for text in texts for n in lm.tokenizer.encode(text, add_special_tokens=False)]
    assert TokenText(lm).texts([ids]) == [kept]


def test_a_tag_that_the_template_opens_opens_the_completion() -> None:
    lm = tiny_lm()
    request = ask("one", "Hi", temperature=0, max_tokens=4)
    ((plain,),) = LocalEngine(lm).complete([request])
    assert not plain.text.startswith("<think>")
    lm.tokenizer.chat_template = lm.tokenizer.chat_template.replace(
        "assistant\n{% endif %}", "assistant\n<think>\n{% endif %}"
    )
    ((thought,),) = LocalEngine(lm).complete([request])
    assert thought.text.startswith("<think>")
    assert thought.tokens == 4
    ((prefixed,),) = LocalEngine(lm).complete([replace(request, prefix="Score:")])
    assert not prefixed.text.startswith("<think>")
