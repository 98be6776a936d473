from __future__ import annotations

import pytest
import torch

from alignlab.models.head import row_logps
from alignlab.models.logprobs import response_logprobs
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
