"""The training loop: what it minimises, and that nothing but the seed decides where it ends."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file

from alignlab.errors import BadInput, RunFailed
from alignlab.models.adapters import LoraConfig
from alignlab.models.load import load, save
from alignlab.models.packed import TokenGroup
from alignlab.objectives.base import ObjectiveOutput
from alignlab.objectives.dpo import DPO
from alignlab.objectives.dpo_pro import DPOPRO
from alignlab.objectives.preferred_ft import PreferredFT
from alignlab.objectives.sft import SFT
from alignlab.training.config import TrainConfig
from alignlab.training.loop import train
from alignlab.training.selection import is_better
from tests.models.helpers import random_groups, tiny_lm

QUICK = TrainConfig(lr=1e-3, epochs=2, batch_size=4, log_every=2, save_every=3, seed=5)


def weights_of(result):
    return load_file(f"{result.lm.path}/model.safetensors")


def lines_of(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith("time/")} for line in lines]


def assert_equal_weights(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


class Killed(Exception):
    pass


@pytest.mark.parametrize(
    ("objective", "config"),
    [
        (DPO(), QUICK),
        (DPOPRO(), replace(QUICK, dtype="bfloat16")),
        (SFT(), replace(QUICK, dropout=0.1, neftune_alpha=5.0)),
        (DPO(), replace(QUICK, lora=LoraConfig(r=2, dropout=0.1))),
    ],
    ids=["dpo", "bfloat16", "dropout", "lora"],
)
def test_a_killed_run_ends_as_one_that_was_not(tmp_path, objective, config):
    K = objective.max_responses or 3
    groups = random_groups(14, (K,))
    whole = train(tiny_lm(), objective, groups, config, tmp_path / "whole")

    def kill(metrics, step, total):
        assert total == 8
        if step == 5:
            raise Killed

    with pytest.raises(Killed):
        train(tiny_lm(), objective, groups, config, tmp_path / "killed", on_step=kill)
    # What a killed process leaves: a folder that was not finished.
    (tmp_path / "killed" / "checkpoint-5.partial").mkdir()
    resumed = train(tiny_lm(), objective, groups, config, tmp_path / "killed")
    assert resumed.resumed_from == 3
    assert resumed.steps == whole.steps == 8
    assert resumed.tokens == whole.tokens
    assert_equal_weights(weights_of(whole), weights_of(resumed))
    assert lines_of(tmp_path / "whole") == lines_of(tmp_path / "killed")


@pytest.mark.parametrize("objective", [SFT(), DPO()], ids=["sft", "dpo"])
def test_micro_batches_and_packing_change_nothing(tmp_path, objective):
    """One batch a step, one group a batch, and plain batches: equal up to rounding."""
    groups = random_groups(8, (objective.max_responses,))
    # Adam divides by the gradient's size, so that rounding shows where a gradient is near zero.
    config = replace(QUICK, epochs=1, save_every=0)
    whole = weights_of(train(tiny_lm(), objective, groups, config, tmp_path / "a"))
    split = replace(config, token_budget=1)
    small = weights_of(train(tiny_lm(), objective, groups, split, tmp_path / "b"))
    for name in whole:
        torch.testing.assert_close(whole[name], small[name], rtol=0, atol=2e-5)


def test_sft_is_the_mean_over_all_target_tokens(tmp_path):
    """By hand: one step's reported loss is total NLL / total response tokens."""
    groups = random_groups(4, (1,), seed=9)
    lm = tiny_lm()
    nll = count = 0.0
    for group in groups:
        ids = torch.tensor([group.prompt_T + group.responses[0]])
        rows = torch.log_softmax(lm.model(ids).logits[0].double(), -1)[len(group.prompt_T) - 1 :]
        for row, token in zip(rows, group.responses[0], strict=False):
            nll, count = nll - float(row[token].detach()), count + 1
    config = replace(QUICK, epochs=1, token_budget=20)
    result = train(lm, SFT(), groups, config, tmp_path)
    assert result.loss == pytest.approx(nll / count, rel=1e-5)


def test_dpo_starts_at_log_2_and_learns(tmp_path):
    result = train(
        tiny_lm(scale=2.0), DPO(beta=0.5), random_groups(8, (2,)),
        replace(QUICK, epochs=10, log_every=1), tmp_path,
    )  # fmt: skip
    lines = lines_of(tmp_path)
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert lines[0]["rewards/margins"] == pytest.approx(0, abs=1e-5)
    assert lines[-1]["rewards/accuracies"] == 1
    assert result.loss < 0.3
    assert result.padded_because is None


def test_preferred_ft_reads_the_best_response_only(tmp_path):
    groups = random_groups(4, (3,))
    best = [TokenGroup(g.id, g.prompt_T, g.responses[:1]) for g in groups]
    config = replace(QUICK, epochs=1)
    one = train(tiny_lm(), PreferredFT(), groups, config, tmp_path / "a")
    other = train(tiny_lm(), SFT(), best, config, tmp_path / "b")
    assert_equal_weights(weights_of(one), weights_of(other))


def test_the_best_model_is_kept(tmp_path):
    values = iter([1.0, 3.0, 2.0, 0.5])
    kept = []

    def validate(lm):
        kept.append({n: p.detach().clone() for n, p in lm.model.named_parameters()})
        return next(values)

    config = replace(QUICK, validate_every=2)
    groups = random_groups(14, (2,))
    result = train(tiny_lm(), DPO(), groups, config, tmp_path, validate=validate)
    assert (result.best_step, result.best_value) == (4, 3.0)
    saved = weights_of(result)
    in_memory = dict(result.lm.model.named_parameters())
    for name, tensor in kept[1].items():
        assert torch.equal(in_memory[name], tensor)
        if name in saved:
            assert torch.equal(saved[name], tensor)


def test_weights_of_an_unknown_value_are_not_the_best(tmp_path):
    groups = random_groups(6, (2,))
    for given, best in (([math.nan, 3.0, 2.0], (2, 3.0)), ([math.nan] * 3, (None, None))):
        config = replace(QUICK, validate_every=1, batch_size=2, epochs=1)
        values = iter(given)
        out = tmp_path / str(best[0])
        result = train(tiny_lm(), DPO(), groups, config, out, validate=lambda _, v=values: next(v))
        assert (result.best_step, result.best_value) == best


def test_weights_are_compared_on_prompts_with_both_scores(tmp_path):
    """An easier set of scored answers raises a mean; it must not select a checkpoint."""
    given = [{"a": 2.0, "b": 4.0, "c": 4.0}, {"b": 3.5, "c": 3.5}, {"a": 2.5, "b": 4.0, "c": 4.0}]
    config = replace(QUICK, validate_every=1, batch_size=2, epochs=1, log_every=1)
    values = iter(given)
    lm, groups = tiny_lm(), random_groups(6, (2,))
    result = train(lm, DPO(), groups, config, tmp_path, validate=lambda _: next(values))
    assert (result.best_step, result.best_value) == (3, 3.5)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    assert [line["validation/scored"] for line in lines] == [3, 2, 3]


@pytest.mark.parametrize(
    ("scores", "best", "better"),
    [
        ({"a": 5.0}, {"a": 1.0, "b": 1.0, "c": 1.0}, False),  # a third has scores
        ({"a": 0.0, "b": 0.0, "c": 0.0}, {"a": 5.0}, True),
        ({"a": 1.0, "b": 3.0}, {"a": 2.0, "b": 1.0, "c": 9.0}, True),
        ({"a": 1.0}, {"a": 1.0}, False),
        ({"a": 1.0}, {"b": 1.0}, False),
    ],
)
def test_the_better_of_two_sets_of_scores(scores, best, better):
    assert is_better(scores, best, "step 2") is better


def test_result_loads_in_plain_transformers(tmp_path):
    result = train(tiny_lm(), SFT(), random_groups(4, (1,)), QUICK, tmp_path)
    again = load(tmp_path / "model")
    assert again.fingerprint == result.lm.fingerprint
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(again.model(ids).logits, result.lm.model.eval()(ids).logits)


def test_a_checkpoint_is_a_model(tmp_path):
    train(tiny_lm(), SFT(), random_groups(14, (1,)), QUICK, tmp_path)
    assert load(tmp_path / "checkpoint-6").model.dtype == torch.float32


def test_checkpointed_layers_train_the_same(tmp_path):
    groups = random_groups(6, (2,))
    config = replace(QUICK, epochs=1)
    one = weights_of(train(tiny_lm(), DPO(), groups, config, tmp_path / "a"))
    again = replace(config, gradient_checkpointing=True)
    other = weights_of(train(tiny_lm(), DPO(), groups, again, tmp_path / "b"))
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=1e-6)


def test_lora_trains_the_adapter_and_gives_a_merged_model(tmp_path):
    lm = tiny_lm()
    before = {n: p.detach().clone() for n, p in lm.model.named_parameters()}
    config = replace(QUICK, lora=LoraConfig(r=2, targets=("q_proj",)))
    result = train(lm, DPO(), random_groups(6, (2,)), config, tmp_path)
    changed = {n for n, p in result.lm.model.named_parameters() if not torch.equal(p, before[n])}
    assert changed
    assert all("q_proj" in name for name in changed)
    assert (tmp_path / "adapter" / "adapter_config.json").is_file()
    merged = load(tmp_path / "model")
    ids = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(merged.model(ids).logits, result.lm.model.eval()(ids).logits)


def test_weights_of_bfloat16_files_under_an_adapter_are_held_once(tmp_path):
    """In memory as float32 or as bfloat16: the same first step, and updates are not rounded.

    peft rounds an adapter's initial weights to the type of the weights under it.
    """
    config = replace(QUICK, dtype="bfloat16", lora=LoraConfig(r=2), log_every=1, lr=0.01)
    groups = random_groups(6, (2,))
    wide, narrow = tiny_lm(), tiny_lm()
    wide.model.to(torch.bfloat16).float()
    narrow.model.to(torch.bfloat16)
    one = train(wide, DPO(), groups, config, tmp_path / "wide")
    other = train(narrow, DPO(), groups, config, tmp_path / "narrow")
    assert {p.dtype for p in other.lm.model.parameters()} == {torch.float32}
    first, same = (lines_of(tmp_path / name)[0] for name in ("wide", "narrow"))
    assert first == same
    for name, weight in weights_of(one).items():
        torch.testing.assert_close(weights_of(other)[name], weight, rtol=0, atol=0.02)
    changed = [p for p in other.lm.model.parameters() if not torch.equal(p, p.bfloat16().float())]
    assert changed


def test_neftune_noise_has_an_effect_and_follows_the_seed(tmp_path):
    groups = random_groups(4, (1,))
    noisy = replace(QUICK, epochs=1, neftune_alpha=5.0)
    one = weights_of(train(tiny_lm(), SFT(), groups, noisy, tmp_path / "a"))
    same = weights_of(train(tiny_lm(), SFT(), groups, noisy, tmp_path / "b"))
    plain = weights_of(train(tiny_lm(), SFT(), groups, replace(QUICK, epochs=1), tmp_path / "c"))
    assert_equal_weights(one, same)
    assert any(not torch.equal(one[name], plain[name]) for name in one)


@dataclass(frozen=True)
class Broken:
    needs_reference: ClassVar[bool] = False
    min_responses: ClassVar[int] = 1
    max_responses: ClassVar[int | None] = None
    best_only: ClassVar[bool] = False

    def __call__(self, logps):
        return ObjectiveOutput(logps.policy_BK[:, 0] * math.nan, {})


def test_what_is_not_finite_stops_the_run_and_is_kept(tmp_path):
    groups = random_groups(3, (1,))
    with pytest.raises(RunFailed, match="step 1: loss nan"):
        train(tiny_lm(), Broken(), groups, QUICK, tmp_path)
    failed = json.loads((tmp_path / "failed_batch.json").read_text())
    assert {g["id"] for g in failed["groups"]} == {"g0", "g1", "g2"}


def test_unsuited_groups_and_settings_are_refused(tmp_path):
    with pytest.raises(BadInput, match="at least one group"):
        train(tiny_lm(), SFT(), [], QUICK, tmp_path)
    with pytest.raises(BadInput, match="group g0: DPO expects 2 responses, found 3"):
        train(tiny_lm(), DPO(), random_groups(2, (3,)), QUICK, tmp_path)
    with pytest.raises(BadInput, match="dropout"):
        TrainConfig(dropout=1.0)
    with pytest.raises(BadInput, match="epochs"):
        TrainConfig(epochs=0)


def test_another_run_in_the_same_folder_is_refused(tmp_path):
    groups = random_groups(14, (2,))
    train(tiny_lm(), DPO(), groups, QUICK, tmp_path)
    with pytest.raises(BadInput, match="other settings, data or first weights"):
        train(tiny_lm(), DPO(beta=0.2), groups, QUICK, tmp_path)


def test_checkpoints_are_thinned_out(tmp_path):
    train(tiny_lm(), DPO(), random_groups(30, (2,)), QUICK, tmp_path)
    assert sorted(p.name for p in tmp_path.glob("checkpoint-*")) == [
        "checkpoint-12",
        "checkpoint-15",
    ]


@pytest.mark.parametrize("lora", [None, LoraConfig(r=2)])
def test_validation_sees_the_model_without_dropout(tmp_path, lora):
    modes = []
    config = replace(QUICK, dropout=0.1, validate_every=1, epochs=1, lora=lora)

    def validate(lm):
        modes.append(lm.model.training)
        return 0.0

    train(tiny_lm("gpt2"), SFT(), random_groups(4, (1,)), config, tmp_path, validate=validate)
    assert modes == [False]


def test_the_reference_of_an_adapter_is_the_model_without_it(tmp_path):
    """A run that is resumed without its cache computes the same reference from trained weights."""
    config = replace(QUICK, lr=0.05, lora=LoraConfig(r=2), log_every=1)
    groups = random_groups(8, (2,))
    whole = train(tiny_lm(), DPO(), groups, config, tmp_path / "whole")

    def kill(metrics, step, total):
        if step == 3:
            raise Killed

    with pytest.raises(Killed):
        train(tiny_lm(), DPO(), groups, replace(config, save_every=1), tmp_path / "x", on_step=kill)
    for file in (tmp_path / "x" / "reference").iterdir():
        file.unlink()
    train(tiny_lm(), DPO(), groups, replace(config, save_every=1), tmp_path / "x")
    for one, other in zip(lines_of(tmp_path / "whole"), lines_of(tmp_path / "x"), strict=True):
        assert one["rewards/margins"] == pytest.approx(other["rewards/margins"], abs=1e-3)
    assert abs(lines_of(tmp_path / "whole")[-1]["rewards/margins"]) > 0.05
    assert whole.steps == 4


@pytest.mark.parametrize(
    ("stored", "asked", "kept"),
    [
        ("bfloat16", "input", torch.bfloat16),
        ("float32", "input", torch.float32),
        ("bfloat16", "float32", torch.float32),
        ("float32", "bfloat16", torch.bfloat16),
        (None, "input", torch.float32),
    ],
)
@pytest.mark.parametrize("lora", [None, LoraConfig(r=2)])
def test_saved_weights_keep_the_type_of_the_input_unless_asked(tmp_path, stored, asked, kept, lora):
    lm = tiny_lm()
    if stored is not None:
        lm = load(save(lm, tmp_path / "first", dtype=stored), dtype="float32")
    config = replace(QUICK, epochs=1, lora=lora)
    train(lm, SFT(), random_groups(4, (1,)), config, tmp_path / "t", save_dtype=asked)
    found = load_file(tmp_path / "t" / "model" / "model.safetensors")
    assert {value.dtype for value in found.values()} == {kept}
    assert load(tmp_path / "t" / "model").model.dtype == kept
