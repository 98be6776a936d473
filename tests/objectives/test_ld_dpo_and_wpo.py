"""LD-DPO and WPO by hand, at their limits, through the packed and the padded forward, and trl's."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest
import torch
from safetensors.torch import load_file

from alignlab.models.moments import MomentScorer
from alignlab.models.packed import TokenGroup
from alignlab.models.scorer import ResponseScorer
from alignlab.objectives.base import GroupLogps, TailedLogps, WeightedLogps
from alignlab.objectives.dpo import DPO
from alignlab.objectives.ld_dpo import LDDPO
from alignlab.objectives.wpo import WPO
from alignlab.training.budget import TokenBudget
from alignlab.training.config import TrainConfig
from alignlab.training.inputs import inputs_for
from alignlab.training.loop import _start, train
from tests.models.helpers import random_groups, tiny_lm, tiny_model
from tests.objectives.test_limits import drawn, gradcheck
from tests.objectives.test_objectives import PAIR, logps

F64 = torch.float64


def of_fields(given):
    return {f.name: getattr(given, f.name) for f in fields(GroupLogps)}


def tailed(given, tail, reference_tail):
    made = [torch.as_tensor(part, dtype=F64) for part in (tail, reference_tail)]
    return TailedLogps(**of_fields(given), tail_BK=made[0], reference_tail_BK=made[1])


def weighted(given, weight):
    return WeightedLogps(**of_fields(given), weight_BK=torch.as_tensor(weight, dtype=F64))


def test_ld_dpo_by_hand():
    # Log-ratios 1 and -1; of the rejected response's, a tail of -3 under the policy and -2 under
    # the reference counts half: -1 + 0.5 * 1 = -0.5. beta * delta = 0.5 * 1.5 = 0.75.
    given = tailed(logps(*PAIR), [[0.0, -3.0]], [[0.0, -2.0]])
    output = LDDPO(beta=0.5)(given)
    assert output.loss_B.item() == pytest.approx(0.3868710)  # log(1 + e^-0.75)
    assert output.metrics["rewards/rejected"].item() == -0.25
    assert output.metrics["logps/rejected"].item() == -5.0


def test_ld_dpo_at_its_limits():
    given = tailed(drawn(3, 2), [[0.0, -1.0], [-2.0, 0.0], [0.0, 0.0]], [[0.0, -3.0]] * 3)
    whole = DPO(beta=0.3)(given).loss_B
    assert LDDPO(beta=0.3, alpha=1.0)(given).loss_B.tolist() == whole.tolist()
    equal = tailed(given, torch.zeros(3, 2), torch.zeros(3, 2))
    assert LDDPO(beta=0.3, alpha=0.2)(equal).loss_B.tolist() == whole.tolist()
    cut = replace(
        given,
        policy_BK=given.policy_BK - given.tail_BK,
        reference_BK=given.reference_BK - given.reference_tail_BK,
    )
    short = DPO(beta=0.3)(cut).loss_B.tolist()
    assert LDDPO(beta=0.3, alpha=0.0)(given).loss_B.tolist() == pytest.approx(short)
    nll = LDDPO(beta=0.3, alpha=0.0, nll_weight=1.0)(given).loss_B - torch.tensor(short)
    assert nll.tolist() == pytest.approx((-given.policy_BK / given.length_BK)[:, 0].tolist())


def swapped(given):
    grid = {f.name: getattr(given, f.name).flip(1) for f in fields(given) if f.name.endswith("_BK")}
    return replace(given, **grid)


@pytest.mark.parametrize("eps", [0.0, 0.2])
def test_swapping_the_responses_swaps_the_label(eps):
    tails = tailed(drawn(3, 2), [[0.0, -1.0], [-2.0, 0.0], [0.0, 0.0]], [[0.0, -3.0]] * 3)
    weights = weighted(drawn(3, 2), [[0.5, 0.1], [1.2, 0.3], [1.0, 1.0]])
    for objective, given in ((LDDPO(0.3), tails), (WPO(0.3), weights)):
        half = replace(given, probability_B=torch.full((3,), 1 - eps, dtype=F64))
        turned = replace(swapped(given), probability_B=torch.full((3,), eps, dtype=F64))
        one, other = objective(half).loss_B, objective(turned).loss_B
        assert one.tolist() == pytest.approx(other.tolist())


def test_wpo_by_hand():
    # 0.5 * 0.25 of DPO's loss, whose weight is no part of the gradient.
    output = WPO(beta=0.5)(weighted(logps(*PAIR), [[0.5, 0.25]]))
    assert output.loss_B.item() == pytest.approx(0.125 * 0.31326168751822286)
    assert output.metrics["weights"].item() == 0.125
    given = weighted(drawn(3, 2), torch.ones(3, 2))
    assert WPO(beta=0.3)(given).loss_B.tolist() == DPO(beta=0.3)(given).loss_B.tolist()
    assert WPO()(weighted(drawn(3, 2), torch.zeros(3, 2))).loss_B.tolist() == [0.0, 0.0, 0.0]


def test_gradients():
    tails = tailed(drawn(3, 2), [[0.0, -1.0], [-2.0, 0.0], [0.0, 0.0]], [[0.0, -3.0]] * 3)
    weights = weighted(drawn(3, 2), [[0.5, 0.1], [1.2, 0.3], [1.0, 1.0]])
    for objective, given in ((LDDPO(0.3), tails), (WPO(0.3), weights)):
        gradcheck(lambda p: objective(replace(given, policy_BK=p)).loss_B, given.policy_BK)  # noqa: B023
    leaf = torch.zeros(3, 2, dtype=F64, requires_grad=True)
    gradcheck(lambda t: LDDPO(0.3)(replace(tails, tail_BK=t)).loss_B, leaf)


def of_inputs(objective, model, groups, reference, **options):
    """The objective's input as training makes it."""
    kind = inputs_for(objective)
    scorer = kind.scorer_class(model, **options)
    return kind(scorer, groups, reference, TokenBudget(10_000)).of(range(len(groups)), None)


def known(reference, groups):
    def sums(of):
        with torch.no_grad(), ResponseScorer(reference).scored(of) as scored:
            return scored.sequence_N().view(-1, 2)

    whole = sums(groups)
    tails = whole - sums(list(map(_start, groups)))
    return whole.tolist(), torch.cat([whole, tails], 1).tolist()


@pytest.mark.parametrize("padded", [None, "for this test"])
def test_tails_and_weights_of_tokens(padded):
    """Against a plain softmax over each sequence."""
    model, groups = tiny_model(), [TokenGroup("a", (5, 6, 7), ((8, 9, 10, 11), (12, 13)))]
    rows = [torch.log_softmax(model(torch.tensor([[5, 6, 7, *r]])).logits[0].double(), 1)
            for r in groups[0].responses]  # fmt: skip
    tokens = [row[[2 + i for i in range(len(r))], list(r)]
              for row, r in zip(rows, groups[0].responses, strict=True)]  # fmt: skip
    moments = [torch.logsumexp(2 * row[2 : 2 + len(r)], 1)
               for row, r in zip(rows, groups[0].responses, strict=True)]  # fmt: skip
    nothing = [[0.0] * 4]
    with of_inputs(LDDPO(), model, groups, nothing, padded_because=padded) as given:
        expected = [tokens[0][2:].sum().item(), 0.0]
        assert given.tail_BK[0].tolist() == pytest.approx(expected, abs=1e-4)
        assert given.tail_BK.requires_grad
    with of_inputs(WPO(), model, groups, [[0.0] * 2], padded_because=padded) as given:
        expected = [(t - m).mean().exp().item() for t, m in zip(tokens, moments, strict=True)]
        assert given.weight_BK[0].tolist() == pytest.approx(expected, rel=1e-4)
        assert not given.weight_BK.requires_grad


def test_moments_see_soft_caps():
    groups = random_groups(3, (2,), seed=4)
    model = tiny_model("gemma2")
    with MomentScorer(model).scored(groups) as packed:
        pass
    with MomentScorer(model, padded_because="for this test").scored(groups) as padded:
        pass
    assert torch.allclose(packed.moment_R, padded.moment_R, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "objective"),
    [
        ({"ld_alpha": 0.4}, LDDPO(beta=0.3, alpha=0.4)),
        ({"ld_alpha": 0.0}, LDDPO(beta=0.3, alpha=0.0)),
        ({"use_weighting": True}, WPO(beta=0.3)),
    ],
    ids=str,
)
def test_loss_and_gradients_equal_trls(settings, objective, tmp_path):
    pytest.importorskip("trl")
    from tests.objectives.test_against_trl import gradients, of_trl

    # Of a sharp model all weights are nearly 0.
    models = [tiny_model(seed=seed, scale=2.0) for seed in (0, 1)]
    groups = random_groups(6, (2,), seed=11)
    theirs, their_loss = of_trl(
        {"loss_type": ["sigmoid"], "beta": 0.3, **settings}, *models, groups, tmp_path
    )
    their_loss.backward()
    sums, with_tails = known(models[1], groups)
    reference = with_tails if isinstance(objective, LDDPO) else sums
    with of_inputs(objective, models[0], groups, reference) as given:
        our_loss = objective(given).loss_B.mean()
        our_loss.backward()
    assert our_loss.item() == pytest.approx(their_loss.item(), rel=1e-5, abs=1e-5)
    ours, expected = gradients(models[0]), gradients(theirs)
    for name, gradient in expected.items():
        assert (ours[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-9, name


def trained(objective, out):
    config = TrainConfig(lr=1e-3, epochs=2, batch_size=4, log_every=1, seed=5)
    result = train(tiny_lm(), objective, random_groups(8, (2,), seed=3), config, out)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return load_file(f"{result.lm.path}/model.safetensors"), lines


def test_training_end_to_end(tmp_path):
    plain, _ = trained(DPO(beta=0.3), tmp_path / "dpo")
    same, _ = trained(LDDPO(beta=0.3, alpha=1.0), tmp_path / "same")
    other, lines = trained(LDDPO(beta=0.3, alpha=0.2), tmp_path / "ld")
    assert all(torch.allclose(plain[name], same[name], atol=1e-6) for name in plain)
    assert any(not torch.allclose(plain[name], other[name], atol=1e-6) for name in plain)
    # Before the first update policy and reference agree, on the tails too.
    assert lines[0]["rewards/margins"] == pytest.approx(0.0, abs=1e-3)
    _, lines = trained(WPO(beta=0.3), tmp_path / "wpo")
    assert lines[0]["weights"] >= 0
    assert lines[0]["loss"] < 0.6931 * 1.5
