"""Soft labels: the probability of a pair's order, from the file to the loss of DPO and RM."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from alignlab.data import load
from alignlab.data.writers import WRITERS
from alignlab.errors import BadInput
from alignlab.objectives.dpo import DPO
from alignlab.objectives.ipo import IPO
from alignlab.objectives.reward_model import RewardModel
from alignlab.records import from_line, to_dict, to_line
from alignlab.training.record_kinds import prepare_for
from alignlab.types import Message, PreferenceGroup, Prompt, Response, SampledBy
from tests.models.helpers import tiny_lm
from tests.objectives.test_limits import drawn, gradcheck
from tests.objectives.test_more_objectives import rewards
from tests.objectives.test_objectives import PAIR, logps

F64 = torch.float64
# -log sigmoid(1) and -log sigmoid(-1)
RIGHT, FLIPPED = 0.31326168751822286, 1.3132616875182228


def soft(given, *probabilities):
    return replace(given, probability_B=torch.tensor(probabilities, dtype=F64))


def dpo(objective, *probabilities):
    rows = [part * len(probabilities) for part in PAIR]
    return objective(soft(logps(*rows), *probabilities)).loss_B.tolist()


def test_dpo_by_hand():
    # beta * delta = 0.5 * 2 = 1
    found = dpo(DPO(beta=0.5), 1.0, 0.75, 0.5)
    expected = [RIGHT, 0.75 * RIGHT + 0.25 * FLIPPED, (RIGHT + FLIPPED) / 2]
    assert found == pytest.approx(expected)
    # A share eps of flipped labels on top: p becomes 0.9 * 0.75 + 0.1 * 0.25 = 0.7.
    smoothed = dpo(DPO(beta=0.5, label_smoothing=0.1), 0.75)
    assert smoothed == pytest.approx([0.7 * RIGHT + 0.3 * FLIPPED])
    # The unbiased correction of that undoes it.
    mixed = 0.9 * dpo(DPO(beta=0.5, label_smoothing=0.1, robust=True), 0.75)[0]
    turned = [[-5.0, -2.0]], [[-4.0, -3.0]]
    robust = DPO(beta=0.5, label_smoothing=0.1, robust=True)
    mixed += 0.1 * robust(soft(logps(*turned), 0.75)).loss_B.item()
    assert mixed == pytest.approx(0.75 * RIGHT + 0.25 * FLIPPED)


def test_dpo_is_the_cross_entropy_of_its_preference():
    given = soft(drawn(6, 2), 1.0, 0.9, 0.75, 0.6, 0.55, 0.5)
    ratio_BK = given.policy_BK - given.reference_BK
    logit_B = 0.3 * (ratio_BK[:, 0] - ratio_BK[:, 1])
    expected = binary_cross_entropy_with_logits(logit_B, given.probability_B, reduction="none")
    assert DPO(beta=0.3)(given).loss_B.tolist() == pytest.approx(expected.tolist())


def test_a_turned_pair_of_the_other_probability_has_the_same_loss():
    given = soft(drawn(3, 2), 0.9, 0.6, 0.5)
    turned = soft(
        replace(given, policy_BK=given.policy_BK.flip(1), reference_BK=given.reference_BK.flip(1)),
        0.1, 0.4, 0.5,
    )  # fmt: skip
    one, other = DPO(beta=0.3)(given).loss_B, DPO(beta=0.3)(turned).loss_B
    assert one.tolist() == pytest.approx(other.tolist())


def test_dpo_has_its_optimum_at_the_log_odds():
    at = torch.tensor([[0.0, 0.0]], dtype=F64)
    at[0, 0] = torch.logit(torch.tensor(0.8, dtype=F64)) / 0.5
    given = soft(replace(logps(at.tolist(), [[0.0, 0.0]])), 0.8)
    (slope,) = torch.autograd.grad(DPO(beta=0.5)(given).loss_B.sum(), given.policy_BK)
    assert slope.abs().max() < 1e-12


@pytest.mark.parametrize(
    "objective",
    [
        RewardModel(),
        RewardModel(plackett_luce=True),
        RewardModel(margin=0.5, margin_per_score=0.2, centre=0.1),
    ],
    ids=repr,
)
def test_reward_models(objective):
    given = rewards([[1.0, 0.0], [0.5, 2.0]])
    hard = objective(given).loss_B
    assert objective(soft(given, 1.0, 1.0)).loss_B.tolist() == pytest.approx(hard.tolist())
    turned = objective(replace(given, reward_BK=given.reward_BK.flip(1))).loss_B
    half = objective(soft(given, 0.75, 0.5)).loss_B
    expected = [0.75 * hard[0] + 0.25 * turned[0], 0.5 * hard[1] + 0.5 * turned[1]]
    assert half.tolist() == pytest.approx([e.item() for e in expected])
    if objective == RewardModel():
        assert half[0].item() == pytest.approx(0.75 * RIGHT + 0.25 * FLIPPED)


def test_gradients():
    given = soft(drawn(3, 2), 0.9, 0.6, 1.0)
    for objective in (DPO(beta=0.3), DPO(beta=0.3, label_smoothing=0.2, robust=True)):
        gradcheck(lambda p: objective(replace(given, policy_BK=p)).loss_B, given.policy_BK)  # noqa: B023
    head = soft(rewards([[1.0, 0.0], [0.5, 2.0]]), 0.75, 0.5)
    for model in (RewardModel(margin=0.5), RewardModel(plackett_luce=True)):
        gradcheck(lambda r: model(replace(head, reward_BK=r)).loss_B, head.reward_BK)  # noqa: B023


def pair(probability, texts=("yes", "no")):
    prompt = Prompt("p", (Message("user", "Hi"),))
    responses = tuple(Response(text, "p", text, SampledBy("m")) for text in texts)
    return PreferenceGroup(prompt, responses, (1.0, 0.0), "judge", probability)


def test_a_hard_label_is_written_as_before():
    assert "probability" not in to_dict(pair(None))
    assert to_dict(pair(0.75))["probability"] == 0.75
    for group in (pair(None), pair(0.75)):
        assert from_line(PreferenceGroup, to_line(group)) == group
    with pytest.raises(ValueError, match=r"in \[0.5, 1\]"):
        pair(0.4)
    with pytest.raises(ValueError, match="two ordered responses"):
        replace(pair(0.6), scores=(1.0, 1.0))


def test_probabilities_are_read_and_turn_pairs(tmp_path):
    rows = [
        {"prompt": "a", "chosen": "x", "rejected": "y", "chosen_probability": 0.8},
        {"prompt": "b", "chosen": "x", "rejected": "y", "chosen_probability": 0.3},
        {"prompt": "c", "chosen": "x", "rejected": "y", "chosen_probability": 0.5},
        {"prompt": "d", "chosen": "x", "rejected": "y", "chosen_probability": None},
        {"prompt": "e", "chosen": "x", "rejected": "y", "chosen_probability": 0.2,
         "score_chosen": 5, "score_rejected": 1},
    ]  # fmt: skip
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    corpus = load(str(file))
    found = {g.prompt.text: (g.responses[0].text, g.probability) for g in corpus.groups}
    assert found == {"a": ("x", 0.8), "b": ("y", 0.7), "d": ("x", None)}
    counts = {k: v for c in corpus.counts for k, v in {**c.dropped, **c.changed}.items()}
    assert counts["equal probabilities"] == 1
    assert counts["scores contradict the probability"] == 1
    assert counts["turned round by its probability"] == 1
    # What is written is read back, as rows and as records.
    written = WRITERS["preference"](corpus, "best_worst").rows
    file.write_text("".join(json.dumps(row) + "\n" for row in written))
    assert [g.probability for g in load(str(file)).groups] == [0.8, 0.7, None]
    file.write_text("".join(map(to_line, corpus.groups)))
    assert load(str(file)).groups == corpus.groups
    file.write_text(json.dumps({**rows[0], "chosen_probability": 1.2}) + "\n")
    with pytest.raises(BadInput, match=r"'chosen_probability': expected a probability in \[0, 1\]"):
        load(str(file))


def test_objectives_of_hard_labels_count_what_they_leave_out():
    records = [pair(0.75), pair(None, ("A", "B"))]
    groups, tally = prepare_for(tiny_lm(), DPO(), records, seed=0)
    assert [g.probability for g in groups] == [0.75, None]
    assert tally.changed == {}
    _, tally = prepare_for(tiny_lm(), IPO(), records, seed=0)
    assert tally.changed == {"probability of the order not used": 1}
