"""Texts that start alike are read once."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch

from alignlab.generation.local import LocalEngine
from alignlab.generation.next_token import NextTokenScorer, by_common_start, rows_of
from alignlab.models.heads import last_positions
from alignlab.models.packed import TokenGroup, by_group, pack
from alignlab.models.scorer import ResponseScorer, read_groups
from tests.generation.tiny import ask, tiny
from tests.models.helpers import random_groups, tiny_model


def shapes(rows):
    return [(g.prompt_T, g.responses) for g in by_common_start(sorted(rows))]


def test_common_starts_are_found():
    """Two prompts (3 and 4) under one rubric (1, 2), two answers to each."""
    rows = [
        (1, 2, 3, 3, 3, 5), (1, 2, 3, 3, 3, 6), (1, 2, 4, 4, 4, 5, 5), (1, 2, 4, 4, 4, 6),
        (9, 9, 9),
    ]  # fmt: skip
    assert shapes(rows) == [
        ((1, 2, 3, 3, 3), ((5,), (6,))),
        ((1, 2, 4, 4, 4), ((5, 5), (6,))),
        ((9, 9), ((9,),)),
    ]
    # Under a rubric (1, 1, 1) that all start with, a prompt of one token is worth a group.
    longer = [(1, 1, 1, 3, k) for k in (5, 6)] + [(1, 1, 1, 4, k) for k in (5, 6)]
    assert shapes(longer) == [((1, 1, 1, 3), ((5,), (6,))), ((1, 1, 1, 4), ((5,), (6,)))]


def test_a_row_within_another_keeps_a_token():
    assert shapes([(1, 2, 3), (1, 2, 3, 4)]) == [((1, 2), ((3,), (3, 4)))]
    assert shapes([]) == []


def test_the_fewest_tokens_are_read():
    """Against every way to cut eight sorted rows into runs."""
    rng = torch.Generator().manual_seed(0)
    for _ in range(20):
        rows = {tuple(torch.randint(0, 2, (6,), generator=rng).tolist()) for _ in range(8)}
        rows = sorted(rows)

        root = min(4, next(k for k in range(7) if k == 6 or len({r[k] for r in rows}) > 1))

        def cost(part, root=root):
            kept = min(
                min(map(len, part)) - 1,
                next(k for k in range(7) if k == 6 or len({r[k] for r in part}) > 1),
            )
            fits = len(part) == 1 or kept > 0
            read = sum(map(len, part)) - kept * (len(part) - 1) - min(root, kept)
            return read if fits else 10_000

        least = min(
            sum(cost(rows[a:b]) for a, b in itertools.pairwise([0, *cuts, len(rows)]))
            for n in range(len(rows))
            for cuts in itertools.combinations(range(1, len(rows)), n)
        )
        groups = by_common_start(rows)
        assert rows_of(groups) == rows
        assert sum(g.tokens - min(root, len(g.prompt_T)) for g in groups) == least


def test_a_rubric_stands_once_in_the_stream():
    """Root (1, 2, 3), prompts (4, 5) and (6), responses (7), (8, 9), (7)."""
    groups = [
        TokenGroup("a", (1, 2, 3, 4, 5), ((7,), (8, 9))),
        TokenGroup("b", (1, 2, 3, 6), ((7,),)),
    ]
    batch = pack(groups, torch.device("cpu"), 3)
    assert batch.token_1T[0, :10].tolist() == [1, 2, 3, 4, 5, 7, 8, 9, 6, 7]
    assert batch.position_1T[0, :10].tolist() == [0, 1, 2, 3, 4, 5, 5, 6, 3, 4]
    assert batch.row_R.tolist() == [4, 4, 6, 8]
    assert last_positions(batch).tolist() == [5, 7, 9]
    assert batch.tokens == 10


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2", "gemma2", "gemma3", "gpt2"])
def test_packed_values_with_a_root(name):
    """Log-probabilities of responses, and gradients, with what all prompts start with read once."""
    model = tiny_model(name)
    groups = [
        replace(g, prompt_T=(7, 8, 9, 10, 11, 12, 13, *g.prompt_T))
        for g in random_groups(4, (3, 1), seed=2)
    ]
    scorer = ResponseScorer(model)
    gradients = []
    values = []
    for root in (0, 7):
        model.zero_grad()
        with scorer._stream(groups, None, root) as (batch, hidden_Td):
            found = scorer._predicted(hidden_Td[batch.row_R], batch.targets).logp_R
            found.sum().backward()
        values.append(found.detach())
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    torch.testing.assert_close(values[0], values[1], rtol=0, atol=1e-4)
    assert (gradients[0] - gradients[1]).norm() < 1e-5 * gradients[0].norm()


@pytest.mark.parametrize("name", ["llama", "gemma2", "gemma3", "gptj"])
def test_equal_to_one_text_at_a_time(name):
    model = tiny_model(name)
    rows = sorted([(5, 6, 7, 8, 9, 10), (5, 6, 7, 8, 4), (5, 6, 7, 8, 4, 3), (11, 12, 13)])
    groups = by_common_start(rows)
    assert [len(g.responses) for g in groups] == [3, 1]
    scorer = NextTokenScorer(model)
    assert (scorer.padded_because is None) == (name != "gptj")
    found = read_groups(scorer, groups, 8192, by_group)
    for row, got in zip(rows, itertools.chain(*found), strict=True):
        with torch.no_grad():
            expected = model(torch.tensor([row])).logits[0, -1].log_softmax(-1)
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


def test_answers_to_one_prompt_share_its_tokens(monkeypatch):
    lm = tiny()
    engine = LocalEngine(lm)
    requests = [ask(str(k), f"{'What is good? ' * 5}Answer: {'cat ' * k}") for k in range(1, 5)]
    apart = [engine.choice_logprobs([r], ["1", "2"])[0] for r in requests]
    seen = []
    lm.model.get_input_embeddings().register_forward_pre_hook(
        lambda module, args: seen.append(args[0].numel())
    )
    together = engine.choice_logprobs(requests, ["1", "2"])
    alone = sum(len(lm.tokenizer(r.messages[0].content)["input_ids"]) for r in requests)
    assert len(seen) == 1
    assert seen[0] < 0.6 * alone
    for one, other in zip(together, apart, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_a_prompt_of_one_token():
    lm = tiny()
    lm.tokenizer.chat_template = "{{ messages[0].content }}"
    (got,) = LocalEngine(lm).choice_logprobs([ask("x", "a")], ["1", "2"])
    token = lm.tokenizer("a12")["input_ids"]
    with torch.no_grad():
        expected = lm.model(torch.tensor([token[:1]])).logits[0, -1].log_softmax(-1)
    assert got == pytest.approx(expected[token[1:]].tolist(), abs=1e-5)
