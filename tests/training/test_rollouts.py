"""Rollout training: what it learns, and that nothing but the seed decides where it ends."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from alignlab.errors import BadInput, RunFailed
from alignlab.models.adapters import LoraConfig
from alignlab.models.load import load, save
from alignlab.models.packed import TokenGroup
from alignlab.models.scorer import ResponseScorer
from alignlab.models.values import ModelWithValueHead, ValueScorer, load_value_head, value_head
from alignlab.objectives.dpo import DPO
from alignlab.objectives.grpo import GRPO
from alignlab.objectives.ppo import PPO
from alignlab.objectives.reinforce import Reinforce
from alignlab.objectives.rloo import RLOO
from alignlab.training.environment import Environment, Sample, SampledGroup
from alignlab.training.loop import train
from alignlab.training.rollout_config import RolloutConfig
from alignlab.training.rollout_samples import FILE
from alignlab.training.rollouts import train_rollouts
from alignlab.training.step import StepRunner
from alignlab.training.trainer_state import TrainingCallbacks
from alignlab.types import Message, Prompt
from tests.models.helpers import random_groups, tiny_lm
from tests.training.playing import sampler

QUICK = RolloutConfig(
    lr=3e-3, batch_size=4, steps=5, responses=3, max_tokens=6, save_every=2, seed=5
)
PROMPTS = [Prompt(f"p{i}", (Message("user", f"say {i}"),)) for i in range(6)]
LETTER = 40
"""The token that the tests' reward counts."""


def letters(groups, seed):
    """How often a token occurs in each response."""
    return [tuple(float(s.tokens.count(LETTER)) for s in g.samples) for g in groups]


def parity(groups, seed):
    """A reward of every response that differs within groups from the first step on."""
    return [tuple(float(sum(s.tokens) % 5) for s in g.samples) for g in groups]


def go(objective, config, out, *, lm=None, reward=parity, prompts=PROMPTS, **hooks):
    environment = Environment(sampler(config), reward)
    lm = lm or tiny_lm(scale=1.0)
    return train_rollouts(
        lm,
        objective,
        prompts,
        config,
        out,
        environment=environment,
        hooks=TrainingCallbacks(**hooks),
    )


def weights_of(result):
    return load_file(f"{result.trained.lm.path}/model.safetensors")


def lines_of(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith("time/")} for line in lines]


class Killed(Exception):
    pass


@pytest.mark.parametrize(
    ("objective", "config"),
    [
        (
            PPO(kl_target=0.01, kl_horizon=20, scores="scaled"),
            replace(QUICK, updates=2, minibatches=2),
        ),
        (Reinforce(baseline="moving"), replace(QUICK, dtype="bfloat16", log_every=2)),
        (RLOO(), replace(QUICK, lora=LoraConfig(r=2, dropout=0.1), updates=2)),
        (GRPO(kl_coef=0.1), replace(QUICK, dropout=0.1, steps=0, epochs=3)),
    ],
    ids=["ppo", "bfloat16", "lora", "dropout"],
)
def test_a_killed_run_ends_as_one_that_was_not(tmp_path, objective, config):
    whole = go(objective, config, tmp_path / "whole")
    total = config.steps or 6

    def kill(metrics, step, of):
        assert of == total
        if step == 3:
            raise Killed

    with pytest.raises(Killed):
        go(objective, config, tmp_path / "killed", on_step=kill)
    resumed = go(objective, config, tmp_path / "killed")
    assert resumed.trained.resumed_from == 2
    assert resumed.state == whole.state
    assert (resumed.rollouts, resumed.drawn) == (whole.rollouts, whole.drawn)
    one, other = weights_of(whole), weights_of(resumed)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert lines_of(tmp_path / "whole") == lines_of(tmp_path / "killed")
    assert (tmp_path / "whole" / FILE).read_text() == (tmp_path / "killed" / FILE).read_text()
    if isinstance(objective, PPO):
        heads = [load_file(tmp_path / n / "model/value_head.safetensors") for n in
                 ("whole", "killed")]  # fmt: skip
        assert heads[0]["weight"].abs().max() > 0
        assert all(torch.equal(heads[0][name], heads[1][name]) for name in heads[0])


@pytest.mark.parametrize("objective", [PPO(kl_coef=0.01), Reinforce(), RLOO(), GRPO()],
                         ids=lambda o: type(o).__name__)  # fmt: skip
def test_a_reward_that_can_be_had_is_learned(tmp_path, objective):
    config = replace(QUICK, lr=2e-2, steps=15, batch_size=6, responses=6, save_every=0)
    go(objective, config, tmp_path, reward=letters)
    lines = lines_of(tmp_path)
    first = sum(line["objective/scores"] for line in lines[:3]) / 3
    last = sum(line["objective/scores"] for line in lines[-3:]) / 3
    assert first < 0.5
    assert last > first + 1
    assert lines[0]["objective/kl"] == pytest.approx(0, abs=1e-6)
    assert lines[-1]["objective/kl"] > 0.3


def test_the_metrics_have_trls_names(tmp_path):
    go(PPO(), replace(QUICK, steps=1, updates=2), tmp_path)
    (line,) = lines_of(tmp_path)
    assert {
        "step", "epoch", "learning_rate", "tokens", "loss", "grad_norm", "objective/scores",
        "objective/kl", "objective/kl_coef", "objective/rlhf_reward", "objective/entropy",
        "objective/unscored", "policy/clipfrac", "policy/approxkl", "loss/policy", "loss/value",
        "val/clipfrac", "val/mean", "val/error", "val/ratio", "completions/mean_length",
        "completions/clipped_ratio",
    } <= line.keys()  # fmt: skip


def test_the_first_update_of_a_batch_has_ratio_1(tmp_path):
    go(GRPO(), replace(QUICK, minibatches=1), tmp_path)
    for line in lines_of(tmp_path):
        assert line["policy/approxkl"] == pytest.approx(0, abs=1e-10)
        assert line["policy/clipfrac"] == 0


def test_what_has_no_score_is_left_out_and_counted(tmp_path):
    """Of three responses the first is unscored; of one prompt, two are: too few for RLOO."""

    def partly(groups, seed):
        return [
            (None, None if g.prompt.id == "p0" else 1.0, float(sum(g.samples[2].tokens) % 5))
            for g in groups
        ]

    config = replace(QUICK, steps=2, batch_size=6, save_every=0)
    result = go(RLOO(), config, tmp_path, reward=partly)
    assert result.rollouts == 36
    assert result.unscored == 2 * (6 + 2)
    assert [line["objective/unscored"] for line in lines_of(tmp_path)] == [8, 8]


def test_nothing_scored_ends_the_run(tmp_path):
    def never(groups, seed):
        return [(None,) * len(g.samples) for g in groups]

    with pytest.raises(RunFailed, match="step 1: none of 12 responses to 4 prompts"):
        go(GRPO(), QUICK, tmp_path, reward=never)

    def odd(groups, seed):
        return [(math.nan,) * len(g.samples) for g in groups]

    with pytest.raises(RunFailed, match="expected a finite score"):
        go(GRPO(), QUICK, tmp_path / "b", reward=odd)

    def endless(groups, seed):
        return [(1.0, 2.0, -math.inf)] * len(groups)

    with pytest.raises(RunFailed, match="expected a finite score of each response, found -inf"):
        go(GRPO(), QUICK, tmp_path / "c", reward=endless)


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path):
    def huge(groups, seed):
        return [tuple(1e200 * (-1) ** k for k in range(len(g.samples))) for g in groups]

    with pytest.raises(RunFailed, match="not finite; its batch is in"):
        go(RLOO(), QUICK, tmp_path, reward=huge)
    assert (tmp_path / "failed_batch.json").is_file()


def test_a_response_that_was_cut_off_pays_the_penalty(tmp_path):
    def same(groups, seed):
        return [(1.0,) * len(g.samples) for g in groups]

    config = replace(QUICK, steps=1, no_end_penalty=2.0)
    go(GRPO(), config, tmp_path, reward=same)
    (line,) = lines_of(tmp_path)
    assert line["objective/scores"] == 1
    cut = line["completions/clipped_ratio"]
    assert cut > 0
    assert line["objective/rlhf_reward"] == pytest.approx(1 - 2 * cut)


def test_the_best_model_is_kept(tmp_path):
    values, kept = iter([1.0, 3.0, 2.0]), []

    def validate(lm):
        kept.append({n: p.detach().clone() for n, p in lm.model.named_parameters()})
        return next(values)

    result = go(PPO(), replace(QUICK, validate_every=2), tmp_path, validate=validate)
    assert (result.trained.best_step, result.trained.best_value) == (4, 3.0)
    logged = {line["step"]: line.get("validation") for line in lines_of(tmp_path)}
    assert logged == {1: None, 2: 1.0, 3: None, 4: 3.0, 5: 2.0}
    saved = weights_of(result)
    assert all(torch.equal(saved[name], kept[1][name]) for name in saved)


def test_the_result_loads_as_a_model_and_its_value_head(tmp_path):
    go(PPO(), replace(QUICK, steps=2), tmp_path)
    lm = load(tmp_path / "model")
    head = load_value_head(lm, tmp_path / "model")
    assert head.weight.shape == (1, 32)
    with pytest.raises(BadInput, match="expected a value head of 32 inputs"):
        load_value_head(lm, tmp_path)


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "falcon_alibi"])
def test_packed_values_and_logps_equal_plain_ones(name):
    lm = tiny_lm(name)
    head = value_head(lm)
    assert not head.weight.any()
    torch.nn.init.normal_(head.weight, generator=torch.Generator().manual_seed(0))
    groups = random_groups(5, (3, 1))
    found = []
    for scorer in (
        ValueScorer(ModelWithValueHead(lm.model, head)),
        ValueScorer(ModelWithValueHead(lm.model, head), padded_because="a test"),
    ):
        with scorer.scored(groups) as scored:
            (scored.value_R.sum() + scored.logp_R.sum()).backward()
        found.append((scored.logp_R, scored.value_R, head.weight.grad.clone()))
        head.weight.grad = None
    for packed, plain in zip(*found, strict=True):
        torch.testing.assert_close(packed, plain, rtol=1e-4, atol=1e-4)


def test_a_value_is_the_heads_on_the_state_before_the_token():
    """By hand: hidden states of prompt + response, from the last prompt token on."""
    lm = tiny_lm()
    head = value_head(lm)
    torch.nn.init.normal_(head.weight, generator=torch.Generator().manual_seed(0))
    group = TokenGroup("g", (5, 6, 7), ((8, 9),))
    with torch.no_grad():
        hidden = lm.model.base_model(torch.tensor([[5, 6, 7, 8, 9]]))[0][0]
        expected = head(hidden[2:4])[:, 0]
    with torch.no_grad(), ValueScorer(ModelWithValueHead(lm.model, head)).scored([group]) as scored:
        torch.testing.assert_close(scored.value_R, expected, rtol=1e-4, atol=1e-4)
    with torch.no_grad(), ResponseScorer(lm.model).scored([group]) as plain:
        torch.testing.assert_close(scored.logp_R, plain.logp_R)


@pytest.mark.parametrize(
    ("objective", "change", "line"),
    [
        (RLOO(), {"responses": 1}, "RLOO compares 2 responses or more"),
        (GRPO(), {"responses": 1}, "GRPO compares 2 responses or more"),
        (Reinforce(), {"updates": 2}, "Reinforce learns from a rollout once"),
        (Reinforce(), {"minibatches": 2}, "Reinforce learns from a rollout once"),
        (PPO(), {"validate_every": 1}, "expected a validation with it"),
        (DPO(), {}, "DPO learns from given responses"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path, objective, change, line):
    with pytest.raises(BadInput, match=line):
        go(objective, replace(QUICK, **change), tmp_path)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"epochs": 2}, "epochs: has no effect with steps"),
        ({"minibatches": 9}, "expected at most batch_size"),
        ({"updates": 0}, "updates: expected 1 or more"),
        ({"no_end_penalty": -1.0}, "no_end_penalty: expected 0 or more"),
        ({"neftune_alpha": 5.0}, "neftune_alpha: expected 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(change, line):
    with pytest.raises(BadInput, match=line):
        replace(QUICK, **change)


def test_prompts_are_needed_and_the_offline_loop_refuses(tmp_path):
    with pytest.raises(BadInput, match="expected prompts to answer"):
        go(PPO(), QUICK, tmp_path, prompts=[])
    with pytest.raises(BadInput, match="PPO learns from rollouts"):
        train(tiny_lm(), PPO(), random_groups(4, (2,)), replace(QUICK, steps=0), tmp_path)


def test_the_reference_of_a_policys_adapter_is_the_model_without_it(tmp_path):
    """With the adapter on, policy and reference would be one, and the KL 0 for ever."""
    config = replace(QUICK, lr=0.1, lora=LoraConfig(r=4), save_every=0)
    go(RLOO(kl_coef=0.0), config, tmp_path)
    first, *_, last = lines_of(tmp_path)
    assert first["objective/kl"] == pytest.approx(0, abs=1e-5)
    assert abs(last["objective/kl"]) > 0.05


def test_saved_policies_keep_the_type_of_the_input(tmp_path):
    lm = load(save(tiny_lm(scale=1.0), tmp_path / "m", dtype="bfloat16"), dtype="float32")
    config = replace(QUICK, steps=1)
    environment = Environment(sampler(config), parity)
    for asked, kept in (("input", torch.bfloat16), ("float32", torch.float32)):
        train_rollouts(
            lm, RLOO(), PROMPTS, config, tmp_path / asked, environment=environment,
            save_dtype=asked,
        )  # fmt: skip
        assert load(tmp_path / asked / "model").model.dtype == kept


def test_a_batch_is_counted_and_shuffled_by_hand(tmp_path, monkeypatch):
    """8 prompts with responses of 1 and 3 tokens, the second cut off; p0's first is unscored."""
    seeds, steps = {"sample": [], "reward": []}, []

    def sample(lm, prompts, seed):
        seeds["sample"].append(seed)
        two = (Sample("a", (7,), True), Sample("b", (8, 9, 10), False))
        return [SampledGroup(p, (5, 6), two) for p in prompts]

    def reward(groups, seed):
        seeds["reward"].append(seed)
        return [(None if g.prompt.id == "p0" else 1.0, 0.0) for g in groups]

    step = StepRunner.step

    def remember(self, number, groups, reference, lr, window):
        steps.append((number, [g.id for g in groups]))
        step(self, number, groups, reference, lr, window)

    monkeypatch.setattr(StepRunner, "step", remember)
    prompts = [Prompt(f"p{i}", (Message("user", f"say {i}"),)) for i in range(8)]
    config = replace(
        QUICK, steps=2, batch_size=8, responses=2, updates=2, minibatches=2, save_every=0
    )
    result = train_rollouts(
        tiny_lm(), PPO(), prompts, config, tmp_path, environment=Environment(sample, reward)
    )
    assert len({*seeds["sample"], *seeds["reward"]}) == 4
    assert [number for number, _ in steps] == list(range(8))
    passes = [steps[i][1] + steps[i + 1][1] for i in range(0, 8, 2)]
    assert all(sorted(p) == [f"p{i}" for i in range(8)] for p in passes)
    assert len({tuple(p) for p in passes}) == 4
    assert (result.rollouts, result.drawn, result.unscored) == (32, 64, 2)
    first, last = lines_of(tmp_path)
    assert first["completions/mean_length"] == 2
    assert first["completions/clipped_ratio"] == 0.5
    assert first["objective/scores"] == pytest.approx(7 / 15)
    assert first["objective/unscored"] == 1
    # A prompt of 2, responses of 1 and 3, but for p0's first; learned from twice.
    assert (first["tokens"], last["tokens"]) == (2 * 47, 4 * 47)


def test_the_reference_computes_in_the_policys_type(tmp_path):
    config = replace(QUICK, steps=1, dtype="bfloat16", save_every=0)
    go(GRPO(), config, tmp_path)
    (line,) = lines_of(tmp_path)
    assert line["objective/kl"] == pytest.approx(0, abs=1e-9)


def test_the_coefficient_of_the_penalty_goes_on_from_batch_to_batch(tmp_path):
    """KL 0 at first, far below the target: 12 rollouts of a horizon of 60 take 0.2 * 0.2 off."""
    objective = RLOO(kl_coef=0.1, kl_target=50.0, kl_horizon=60)
    result = go(objective, replace(QUICK, steps=2, save_every=0), tmp_path)
    first, second = lines_of(tmp_path)
    assert first["objective/kl_coef"] == pytest.approx(0.1)
    assert second["objective/kl_coef"] == pytest.approx(0.1 * 0.96)
    assert result.state.kl_coef == pytest.approx(0.1 * 0.96 * 0.98)  # 6 rollouts, of 2 prompts
