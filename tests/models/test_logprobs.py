from __future__ import annotations

import pytest
import torch

from alignlab.models.head import row_logps
from alignlab.models.logprobs import response_logprobs
from alignlab.models.packed import Targets
from alignlab.models.scorer import ResponseScorer, TokenLogps
from alignlab.training.budget import TokenBudget
from tests.models.helpers import random_groups, tiny_lm


@pytest.mark.parametrize("budget", [1, 8192])
def test_equal_to_plain_forwards_in_order(budget):
    lm = tiny_lm()
    groups = random_groups(5, (1, 3, 2))
    found = response_logprobs(lm, groups, token_budget=budget)
    assert [f.group_id for f in found] == [g.id for g in groups]
    for group, logps in zip(groups, found, strict=True):
        for response, tokens, total in zip(group.responses, logps.tokens, logps.sums, strict=True):
            ids = torch.tensor([group.prompt_T + response])
            rows = torch.log_softmax(lm.model(ids).logits[0].double(), -1)
            rows = rows[len(group.prompt_T) - 1 : -1]
            expected = rows.gather(1, torch.tensor(response)[:, None])[:, 0]
            assert tokens == pytest.approx(expected.tolist(), abs=1e-5)
            assert total == pytest.approx(sum(tokens), abs=1e-9)


@pytest.mark.parametrize("softcap", [None, 3.0])
def test_head_gradients_by_finite_differences(softcap):
    torch.manual_seed(0)
    hidden, weight = torch.randn(5, 4).double(), torch.randn(7, 4).double()
    bias, token = torch.randn(7).double(), torch.tensor([0, 6, 3, 3, 1])
    inputs = [t.requires_grad_() for t in (hidden, weight, bias)]
    # The weight's gradient is summed in float32, hence the coarse step.
    assert torch.autograd.gradcheck(
        lambda h, b: row_logps(h, weight.detach(), b, token, softcap=softcap),
        (inputs[0], inputs[2]), atol=1e-5,
    )  # fmt: skip
    row_logps(hidden, weight, bias, token, softcap=softcap).sum().backward()
    logits = hidden @ weight.T + bias
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    plain = torch.log_softmax(logits, -1).gather(1, token[:, None]).sum()
    expected = torch.autograd.grad(plain, weight)[0]
    torch.testing.assert_close(weight.grad, expected, rtol=1e-5, atol=1e-5)


class Spy:
    """Remembers how a model's forward is called."""

    def __init__(self, model):
        self.calls = []
        model.register_forward_pre_hook(
            lambda module, args, kwargs: self.calls.append((kwargs, module.training)),
            with_kwargs=True,
        )


def test_padded_sequences_say_where_they_end():
    model = tiny_lm().model
    scorer = ResponseScorer(model, padded_because="asked for")
    spy = Spy(model)
    groups = random_groups(3, (2,), seed=4)
    with scorer.scored(groups):
        pass
    ((kwargs, _),) = spy.calls
    sequences = [g.prompt_T + r for g in groups for r in g.responses]
    assert kwargs["attention_mask"].sum(1).tolist() == [len(s) for s in sequences]
    for row, mask, sequence in zip(
        kwargs["input_ids"], kwargs["attention_mask"], sequences, strict=True
    ):
        assert row[mask.bool()].tolist() == list(sequence)
        assert mask[: len(sequence)].all()


@pytest.mark.parametrize("plain", [None, "asked for"])
def test_half_precision_ends_at_the_logits(plain):
    """From the same bfloat16 logits the log-probability is right to float32's digits."""
    model = tiny_lm().model.bfloat16()
    kept = []
    model.lm_head.register_forward_hook(lambda m, i, out: kept.append(out.detach()))
    hidden = []
    model.model.register_forward_hook(lambda m, i, out: hidden.append(out[0].detach()))
    scorer = ResponseScorer(model, padded_because=plain)
    (group,) = random_groups(1, (1,), seed=6)
    with torch.no_grad(), scorer.scored([group]) as scored:
        found = scored.logp_R
    start, response = len(group.prompt_T) - 1, torch.tensor(group.responses[0])
    packed = scorer.padded_because is None
    logits = hidden[-1][0] @ model.lm_head.weight.T if packed else kept[-1][0]
    rows = torch.log_softmax(logits[start : start + len(response)].double(), -1)
    expected = rows.gather(1, response[:, None])[:, 0]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-5)


def test_sums_are_in_float64():
    """1,400 nats over 1,000 tokens: float32 sums are off by 5e-4."""
    logp = torch.full((1000,), -1.4)
    targets = Targets(torch.zeros(1000), torch.zeros(1000, dtype=torch.long), (1000,), (1,))
    (total,) = TokenLogps(logp, targets).sequence_N().tolist()
    assert total == pytest.approx(1000 * float(logp[0]), abs=1e-9)


@pytest.mark.parametrize("training", [True, False])
def test_scoring_is_without_dropout_and_leaves_the_mode_as_it_was(training):
    """GPT-2 drops a tenth of its activations while it trains."""
    lm = tiny_lm("gpt2")
    groups = random_groups(4, (2,))
    expected = response_logprobs(lm, groups)
    again = TokenBudget(8192).score(ResponseScorer(lm.model), groups)
    lm.model.train(training)
    assert response_logprobs(lm, groups) == expected
    assert lm.model.training is training
    scorer = ResponseScorer(lm.model)
    assert scorer.padded_because is None  # the probe compares without dropout too
    assert TokenBudget(8192).score(scorer, groups) == again
    assert lm.model.training is training
    assert [found.sums for found in expected] == [pytest.approx(row) for row in again]
