"""Training from labels, rewards and words through the one loop."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from alignlab.errors import BadInput
from alignlab.models.adapters import LoraConfig
from alignlab.models.chat_template import encode_prompt, encode_response
from alignlab.models.heads import load_reward_model, rewards
from alignlab.models.logprobs import response_logprobs
from alignlab.models.packed import TokenGroup
from alignlab.objectives.dpo import DPO
from alignlab.objectives.joint_feedback import JointFeedback
from alignlab.objectives.kto import KTO
from alignlab.objectives.reward_conditioned import RewardConditioned
from alignlab.objectives.reward_model import RewardModel
from alignlab.objectives.sft import SFT
from alignlab.training.conditioning import (
    FILE,
    AtBin,
    RewardBins,
    fit_bins,
    load_bins,
    most_bins,
    with_best_reward_prefix,
)
from alignlab.training.config import TrainConfig
from alignlab.training.loop import train
from alignlab.training.record_kinds import prepare_for
from alignlab.training.token_groups import FEEDBACK_REQUEST, with_mismatched
from alignlab.types import (
    Completion,
    CompletionRequest,
    CritiquedResponse,
    Message,
    PreferenceGroup,
    Sampling,
    UnpairedPreference,
)
from tests.models.helpers import random_groups, tiny_lm
from tests.training.test_token_groups import demonstration, prompt, response

QUICK = TrainConfig(lr=1e-3, epochs=2, batch_size=4, log_every=1, save_every=3, seed=5)


def lines_of(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith("time/")} for line in lines]


def labelled_groups(count):
    singles = [replace(g, scores=(float(i % 2),)) for i, g in enumerate(random_groups(count, (1,)))]
    return with_mismatched(singles, seed=0)


class Killed(Exception):
    pass


@pytest.mark.parametrize(
    ("objective", "groups", "config"),
    [
        (KTO(), labelled_groups(14), QUICK),
        (RewardModel(centre=0.01), random_groups(14, (2, 3)), QUICK),
        (RewardModel(), random_groups(14, (2,)), replace(QUICK, lora=LoraConfig(r=2))),
    ],
    ids=["kto", "reward_model", "reward_lora"],
)
def test_a_killed_run_ends_as_one_that_was_not(tmp_path, objective, groups, config):
    whole = train(tiny_lm(), objective, groups, config, tmp_path / "whole")

    def kill(metrics, step, total):
        if step == 5:
            raise Killed

    with pytest.raises(Killed):
        train(tiny_lm(), objective, groups, config, tmp_path / "killed", on_step=kill)
    resumed = train(tiny_lm(), objective, groups, config, tmp_path / "killed")
    assert resumed.resumed_from == 3
    one, other = (load_file(f"{r.lm.path}/model.safetensors") for r in (whole, resumed))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert lines_of(tmp_path / "whole") == lines_of(tmp_path / "killed")


@pytest.mark.parametrize(
    ("objective", "groups"),
    [(KTO(beta=0.5), labelled_groups(8)), (RewardModel(), random_groups(8, (2, 3)))],
    ids=["kto", "reward_model"],
)
def test_micro_batches_change_nothing(tmp_path, objective, groups):
    config = replace(QUICK, epochs=1, save_every=0)
    train(tiny_lm(), objective, groups, config, tmp_path / "a")
    train(tiny_lm(), objective, groups, replace(config, token_budget=1), tmp_path / "b")
    for one, other in zip(lines_of(tmp_path / "a"), lines_of(tmp_path / "b"), strict=True):
        for name in one:
            assert one[name] == pytest.approx(other[name], rel=1e-3, abs=1e-4), name


def test_kto_starts_at_a_half_and_separates_the_labels(tmp_path):
    groups = labelled_groups(8)
    train(tiny_lm(scale=2.0), KTO(beta=0.5), groups, replace(QUICK, epochs=8), tmp_path)
    first, *_, last = lines_of(tmp_path)
    assert first["loss"] == pytest.approx(0.5, abs=1e-5)
    assert first["kl"] == 0
    assert last["loss"] < 0.2
    assert last["rewards/chosen"] > 0 > last["rewards/rejected"]
    assert "logps/rejected" in last


def test_mismatched_responses_are_of_another_prompt():
    prompts = [(1,), (1,), (2,), (1,), (3,), (3,)]
    groups = [TokenGroup(str(i), p, ((p[0], 9),), (1.0,)) for i, p in enumerate(prompts)]
    for seed in range(20):
        made = with_mismatched(groups, seed=seed)
        assert [g.id for g in made] == [g.id for g in groups]
        assert all(g.responses[1][0] != g.prompt_T[0] for g in made)
    with pytest.raises(BadInput, match="found one prompt"):
        with_mismatched(groups[:2], seed=0)


def test_a_reward_model_learns_the_order(tmp_path):
    groups = random_groups(8, (2,))
    lm = tiny_lm(scale=2.0)
    before = {n: p.clone() for n, p in lm.model.named_parameters()}
    result = train(lm, RewardModel(), groups, replace(QUICK, epochs=10), tmp_path)
    assert result.padded_because is None
    assert result.loss < 0.2
    assert lines_of(tmp_path)[-1]["rewards/accuracies"] == 1
    found = rewards(load_reward_model(tmp_path / "model"), groups)
    assert all(best > worst for best, worst in found)
    # The decoder itself is not touched.
    assert all(torch.equal(p, before[n]) for n, p in lm.model.named_parameters())


def test_a_reward_adapter_comes_out_merged_and_alone(tmp_path):
    config = replace(QUICK, lora=LoraConfig(r=2))
    result = train(tiny_lm(), RewardModel(), random_groups(6, (2,)), config, tmp_path)
    assert (tmp_path / "adapter" / "adapter_config.json").is_file()
    merged = load_reward_model(tmp_path / "model")
    groups = random_groups(3, (2,), seed=8)
    for one, other in zip(rewards(merged, groups), rewards(result.lm, groups), strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_feedback_is_learned_as_the_next_answer(tmp_path):
    lm = tiny_lm()
    records = [CritiquedResponse(prompt("ask"), response("said"), "good"),
               CritiquedResponse(prompt("more"), response("other"), "too long")]  # fmt: skip
    groups, tally = prepare_for(lm, JointFeedback(), records, seed=0)
    shown = [Message("user", "ask"), Message("assistant", "said"),
             Message("user", FEEDBACK_REQUEST)]  # fmt: skip
    assert tally.kept == 4
    assert groups[1].prompt_T == tuple(encode_prompt(lm, shown))
    assert groups[1].responses == (tuple(encode_response(lm, "good")),)
    sums = [found.sums[0] for found in response_logprobs(lm, groups)]
    tokens = sum(g.response_tokens for g in groups)
    expected = -(0.5 * (sums[0] + sums[2]) + sums[1] + sums[3]) / tokens
    result = train(lm, JointFeedback(0.5), groups, replace(QUICK, epochs=1), tmp_path)
    assert result.loss == pytest.approx(expected, rel=1e-4)
    assert math.isfinite(lines_of(tmp_path)[0]["logps/feedback"])


def test_reward_bins():
    assert fit_bins([0, 1, 1, 2, 3, 4], 5).edges == (1.0, 2.0, 3.0, 4.0)
    two = fit_bins([1.0, 2.0, 3.0, 4.0], 2)
    assert [two.prefix(s) for s in (-9, 2.9, 3.0, 99)] == [
        "[reward 1 of 2]\n", "[reward 1 of 2]\n", "[reward 2 of 2]\n", "[reward 2 of 2]\n",
    ]  # fmt: skip
    assert two.best == "[reward 2 of 2]\n"
    with pytest.raises(BadInput, match="at most the 2 different scores"):
        fit_bins([1.0, 2.0], 3)
    assert most_bins([0.0, 1.0] * 4, 5) == 2
    assert most_bins([0.0, 0.5, 1.0], 5) == 3
    assert most_bins([0.0] * 97 + [1.0, 2.0, 3.0], 3) == 2  # too uneven for three
    assert most_bins([float(x) for x in range(20)], 5) == 5
    with pytest.raises(BadInput, match="unevenly"):
        fit_bins([1.0] * 50 + [2.0, 3.0, 4.0], 3)


def test_bins_are_kept_beside_the_model(tmp_path):
    bins = RewardBins((1.5,))
    bins.save(tmp_path)
    assert (tmp_path / FILE).is_file()
    assert load_bins(tmp_path) == bins
    with pytest.raises(BadInput, match="expected a reward-conditioned model"):
        load_bins(tmp_path / "other")


def test_conditioned_responses_follow_their_bin():
    lm = tiny_lm()
    group = PreferenceGroup(prompt("b"), (response("yes"), response("no")), (4.0, 1.0), "judge")
    groups, _ = prepare_for(lm, RewardConditioned(bins=2), [group], seed=0)
    prefixes = ["[reward 2 of 2]\n", "[reward 1 of 2]\n"]
    expected = [tuple(encode_prompt(lm, group.prompt.messages, p)) for p in prefixes]
    assert [g.prompt_T for g in groups] == expected
    assert [g.responses[0] for g in groups] == [
        tuple(encode_response(lm, text)) for text in ("yes", "no")
    ]


def test_generation_asks_for_the_best_bin(tmp_path):
    class Recorder:
        name = "recorder"

        def complete(self, requests):
            self.prefixes = [r.prefix for r in requests]
            return [(Completion("", "stop", 1, 1),) for _ in requests]

    engine = Recorder()
    assert with_best_reward_prefix(engine, tmp_path) is engine
    RewardBins((1.5, 2.5)).save(tmp_path)
    best = with_best_reward_prefix(engine, tmp_path)
    best.complete([CompletionRequest("a", (Message("user", "hi"),), Sampling(), 0, prefix="So")])
    assert engine.prefixes == ["[reward 3 of 3]\nSo"]
    worst = AtBin(best, 1, 3, "worst")
    worst.complete([CompletionRequest("a", (Message("user", "hi"),), Sampling(), 0, prefix="So")])
    assert engine.prefixes == ["[reward 1 of 3]\nSo"]
    assert worst.name == "worst"
    assert best.name == "recorder"
    with pytest.raises(BadInput, match="log-probabilities"):
        best.choice_logprobs([], ["a"])


def test_groups_give_their_ends_as_labelled():
    group = PreferenceGroup(prompt("b"), (response("yes"), response("no")), (4.0, 1.0), "judge")
    other = UnpairedPreference(prompt("c"), response("maybe"), True)
    groups, tally = prepare_for(tiny_lm(), KTO(), [group, other], seed=0)
    assert [g.scores[0] for g in groups] == [1.0, 0.0, 1.0]
    assert (tally.kept, tally.changed) == (3, {"group to two labelled responses": 1})
    equal = replace(group, scores=(1.0, 1.0))
    _, tally = prepare_for(tiny_lm(), KTO(), [group, equal, other], seed=0)
    assert tally.dropped == {"all scores equal": 1}


def test_records_that_do_not_fit_are_refused():
    lm = tiny_lm()
    with pytest.raises(BadInput, match="KTO learns from labelled responses, found demonstrations"):
        prepare_for(lm, KTO(), [demonstration("a", "A")], seed=0)
    group = PreferenceGroup(prompt("b"), (response("yes"), response("no")), (4.0, 1.0), "judge")
    with pytest.raises(BadInput, match="SFT learns from demonstrations, found preference groups"):
        prepare_for(lm, SFT(), [group], seed=0)
    with pytest.raises(BadInput, match=r"train on \(response too long 1\)"):
        prepare_for(lm, DPO(), [group], seed=0, max_response_tokens=2)
