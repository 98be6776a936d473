"""Reward models: the packed forward, and what plain transformers makes of the saved folder."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from alignlab.errors import BadInput
from alignlab.models.chat_template import encode_prompt, encode_response, end_of_turn
from alignlab.models.heads import RewardScorer, load_reward_model, rewards, with_reward_head
from alignlab.models.load import load, save
from alignlab.models.packed import TokenGroup
from alignlab.types import Message
from tests.models.helpers import TEMPLATE, random_groups, tiny_lm
from tests.models.test_chat_template import NO_SYSTEM, lm_with


@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2", "gpt_neox", "gemma2"])
def test_packed_rewards_are_those_of_the_classifier(name):
    lm = with_reward_head(tiny_lm(name), seed=3)
    groups = random_groups(5, (2, 3), seed=4)
    scorer = RewardScorer(lm.model)
    assert scorer.padded_because is None
    found = rewards(lm, groups)
    for group, values in zip(groups, found, strict=True):
        for response, value in zip(group.responses, values, strict=True):
            ids = torch.tensor([group.prompt_T + response])
            expected = lm.model(ids, attention_mask=torch.ones_like(ids)).logits.item()
            if ids[0, -1] != lm.model.config.pad_token_id:
                assert value == pytest.approx(expected, abs=2e-4)


def test_saved_reward_models_load_in_transformers(tmp_path):
    """Padded batches of texts give the same rewards, with the end of turn as the last token."""
    lm = with_reward_head(tiny_lm(), seed=3)
    save(lm, tmp_path / "rm")
    messages, texts = (Message("user", "hi"),), ["yes", "no no no"]
    prompt = tuple(encode_prompt(lm, messages))
    responses = tuple(tuple(encode_response(lm, text)) for text in texts)
    found = rewards(load_reward_model(tmp_path / "rm"), [TokenGroup("a", prompt, responses)])
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "rm")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "rm")
    assert plain.config.num_labels == 1
    rows = [list(prompt + r) for r in responses]
    batch = tokenizer.pad({"input_ids": rows}, return_tensors="pt")
    logits = plain(**batch).logits[:, 0].tolist()
    assert list(found[0]) == pytest.approx(logits, abs=1e-4)


def test_the_head_follows_the_seed_and_the_body_is_a_copy():
    lm = tiny_lm()
    one, same, other = (with_reward_head(lm, seed=s).model for s in (1, 1, 2))
    assert torch.equal(one.score.weight, same.score.weight)
    assert not torch.equal(one.score.weight, other.score.weight)
    mine, theirs = one.base_model.state_dict(), lm.model.base_model.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    one.base_model.embed_tokens.weight.data.zero_()
    assert lm.model.base_model.embed_tokens.weight.abs().sum() > 0


def test_padding_never_ends_a_response():
    lm = tiny_lm()
    lm.tokenizer.pad_token = "<|im_end|>"
    made = with_reward_head(lm, seed=0)
    assert made.model.config.pad_token_id not in (None, end_of_turn(made))
    assert made.tokenizer.pad_token_id == made.model.config.pad_token_id


def test_what_is_no_reward_model_and_no_decoder_is_refused(tmp_path):
    save(tiny_lm(), tmp_path / "lm")
    save(with_reward_head(tiny_lm(), seed=0), tmp_path / "rm")
    with pytest.raises(BadInput, match="found a reward model"):
        load(tmp_path / "rm")
    with pytest.raises(BadInput, match="expected a reward model"):
        load_reward_model(tmp_path / "lm")


@pytest.mark.parametrize("template", [TEMPLATE, TEMPLATE + "\n", NO_SYSTEM])
def test_text_of_the_saved_template_has_the_same_reward_in_transformers(tmp_path, template):
    """`apply_chat_template` writes nothing after the token that the reward is read at."""
    lm = with_reward_head(lm_with(template), seed=3)
    save(lm, tmp_path / "rm")
    asked = [("hi", "yes"), ("tell me more", "no no no"), ("", "so be it")]
    groups = [
        TokenGroup(
            "g",
            tuple(encode_prompt(lm, [Message("user", ask)])),
            (tuple(encode_response(lm, answer)),),
        )
        for ask, answer in asked
    ]
    found = [values[0] for values in rewards(load_reward_model(tmp_path / "rm"), groups)]
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "rm").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "rm")
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": ask}, {"role": "assistant", "content": answer}],
            tokenize=False,
        )
        for ask, answer in asked
    ]
    batch = tokenizer(texts, padding=True, return_tensors="pt", add_special_tokens=False)
    logits = plain(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    assert found == pytest.approx(logits[:, 0].tolist(), abs=1e-4)
    assert texts[0].endswith("yes<|im_end|>")


def test_the_decoders_own_tokenizer_is_left_as_it_is():
    lm = tiny_lm()
    before = lm.tokenizer.chat_template
    made = with_reward_head(lm, seed=0)
    assert lm.tokenizer.chat_template == before != made.tokenizer.chat_template
