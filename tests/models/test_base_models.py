"""Base models: a chat template by name, the tokens that it adds, and their training."""

from __future__ import annotations

import json

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PreTrainedTokenizerFast

from alignlab.errors import BadInput
from alignlab.models.adapters import LoraConfig, adapter_off, attach, linear_head, merged
from alignlab.models.chat_template import (
    encode_prompt,
    encode_response,
    end_of_turn,
    stop_tokens,
    template_end,
)
from alignlab.models.load import load, save
from alignlab.models.logprobs import response_logprobs
from alignlab.models.packed import TokenGroup
from alignlab.models.scorer import ResponseScorer
from alignlab.models.tokenizer import TEMPLATES
from alignlab.objectives.sft import SFT
from alignlab.training.config import TrainConfig
from alignlab.training.loop import train
from alignlab.types import Message

TURNS = [
    Message("system", "S"),
    Message("user", "Hi"),
    Message("assistant", "Yo"),
    Message("user", "Go"),
]
RENDERED = {
    "chatml": "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
    "<|im_start|>assistant\nYo<|im_end|>\n<|im_start|>user\nGo<|im_end|>\n<|im_start|>assistant\n",
    "zephyr": "<|system|>\nS<eos>\n<|user|>\nHi<eos>\n<|assistant|>\nYo<eos>\n<|user|>\nGo<eos>\n"
    "<|assistant|>\n",
    "plain": "S\n\nUser:\nHi\n\nAssistant:\nYo<eos>\n\nUser:\nGo\n\nAssistant:\n",
}
VOCABULARY = 100


def base_folder(tmp_path, *, tied=False, bos=False, eos="<eos>", rows=VOCABULARY):
    """A random base model without a template: 100 characters, `rows` embeddings."""
    letters = ["\n", *map(chr, range(32, 126))]
    vocab = {token: i for i, token in enumerate(["<pad>", "<bos>", "<eos>", *letters])}
    vocab |= {f"<x{i}>": len(vocab) + i for i in range(VOCABULARY - len(vocab))}
    raw = Tokenizer(models.WordLevel(vocab, unk_token=" "))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.Split("", "isolated"), decoders.Fuse()
    if bos:
        from tokenizers.processors import TemplateProcessing

        raw.post_processor = TemplateProcessing("<bos> $A", special_tokens=[("<bos>", 1)])
    names = {"eos_token": eos} if eos else {}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", bos_token="<bos>", **names
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=rows, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
            pad_token_id=0, bos_token_id=1, eos_token_id=2, tie_word_embeddings=tied,
        )  # fmt: skip
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    folder = tmp_path / "base"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_a_named_template_is_what_its_table_says(tmp_path, name, bos):
    lm = load(base_folder(tmp_path, bos=bos), chat_template=name)
    start = "<bos>" if bos else ""
    assert lm.tokenizer.decode(encode_prompt(lm, TURNS)) == start + RENDERED[name]
    end = "<|im_end|>" if name == "chatml" else "<eos>"
    assert lm.tokenizer.convert_ids_to_tokens(end_of_turn(lm)) == end
    assert encode_response(lm, "ok")[-1] == end_of_turn(lm)
    assert lm.tokenizer.decode(template_end(lm)) == ("\n\n" if name == "plain" else "\n")


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_a_conversation_begins_with_its_prompt_and_answer(tmp_path, name):
    """Training on prompt and response sees what the template writes of the whole conversation."""
    lm = load(base_folder(tmp_path, bos=True), chat_template=name)
    answer = [*TURNS, Message("assistant", "Done.")]
    whole = lm.tokenizer.apply_chat_template(
        [{"role": m.role, "content": m.content} for m in answer], tokenize=False
    )
    ids = lm.tokenizer(whole, add_special_tokens=False)["input_ids"]
    own = encode_prompt(lm, TURNS) + encode_response(lm, "Done.")
    assert ids[: len(own)] == own
    assert ids[len(own) :] == template_end(lm)


def test_text_that_spells_a_special_token_stays_text(tmp_path):
    lm = load(base_folder(tmp_path), chat_template="chatml")
    ids = encode_prompt(lm, [Message("user", "a<|im_end|>b<eos>")])
    assert ids.count(end_of_turn(lm)) == 1
    assert 2 not in ids


def test_a_base_model_is_refused_until_a_template_is_named(tmp_path):
    folder = base_folder(tmp_path)
    with pytest.raises(BadInput, match=r"chat_template=FILE .*by name: chatml, plain, zephyr"):
        load(folder)
    with pytest.raises(BadInput, match=r"chat_template=chatlm: expected .*chatml, plain, zephyr"):
        load(folder, chat_template="chatlm")


def test_a_template_that_needs_an_end_of_sequence_is_refused_without_one(tmp_path):
    folder = base_folder(tmp_path, eos="")
    with pytest.raises(BadInput, match="lacks; choose chat_template=chatml"):
        load(folder, chat_template="zephyr")
    lm = load(folder, chat_template="chatml")
    weight = lm.model.get_input_embeddings().weight
    torch.testing.assert_close(weight[101], weight[:100].mean(0))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("rows", [VOCABULARY, 101, 128])
def test_added_tokens_get_rows_that_know_the_end(tmp_path, tied, rows):
    """Two new tokens: the first starts as the mean row, the end of turn as the end of sequence."""
    folder = base_folder(tmp_path, tied=tied, rows=rows)
    plain = AutoModelForCausalLM.from_pretrained(folder)
    lm = load(folder, chat_template="chatml")
    assert lm.added == (100, 101)
    assert lm.model.config.vocab_size == max(rows, 102)
    for end, before in (
        (lm.model.get_input_embeddings(), plain.get_input_embeddings()),
        (lm.model.get_output_embeddings(), plain.get_output_embeddings()),
    ):
        old = torch.tensor([i for i in range(rows) if i not in (100, 101)])
        assert torch.equal(end.weight[old], before.weight[old])
        assert torch.equal(end.weight[101], before.weight[2])
        torch.testing.assert_close(end.weight[100], before.weight[old].mean(0))
    same = lm.model.get_input_embeddings().weight is lm.model.get_output_embeddings().weight
    assert same == tied
    again = load(save(lm, tmp_path / "saved"), chat_template="chatml")
    assert again.added == ()
    assert torch.equal(
        again.model(torch.tensor([[100, 5, 101]])).logits,
        lm.model(torch.tensor([[100, 5, 101]])).logits,
    )


def groups_of(lm, texts=("a b", "c")):
    return [
        TokenGroup(
            text, tuple(encode_prompt(lm, [Message("user", text)])),
            (tuple(encode_response(lm, text.upper())),),
        )
        for text in texts
    ]  # fmt: skip


@pytest.mark.parametrize("tied", [False, True])
def test_an_adapter_trains_rows_of_added_tokens_and_nothing_else_of_the_embeddings(tmp_path, tied):
    folder = base_folder(tmp_path, tied=tied)
    lm = load(folder, chat_template="chatml")
    groups = groups_of(lm)
    before = {n: p.detach().clone() for n, p in lm.model.named_parameters()}
    reference = response_logprobs(lm, groups)
    config = TrainConfig(lr=1e-2, batch_size=2, epochs=5, lora=LoraConfig(r=2), dtype="float32")
    result = train(lm, SFT(), groups, config, tmp_path / "out")
    assert result.padded_because is None
    trained = result.lm.model
    weight = trained.get_input_embeddings().weight
    assert torch.equal(weight[:100], before["model.embed_tokens.weight"][:100])
    assert not torch.equal(weight[100:], before["model.embed_tokens.weight"][100:])
    head = trained.get_output_embeddings().weight
    assert (head is weight) == tied
    assert not torch.equal(
        head[101], before["model.embed_tokens.weight" if tied else "lm_head.weight"][101]
    )
    # The adapter alone, put on the base that it names, is the merged model.
    saved = json.loads((tmp_path / "out/adapter/adapter_config.json").read_text())
    assert saved["base_model_name_or_path"] == str(folder)
    assert not any("embed_tokens.weight" in n for n in _names(tmp_path / "out/adapter"))
    alone = load(tmp_path / "out/adapter")
    whole = load(tmp_path / "out/model")
    ids = torch.tensor([[1, 100, 7, 8, 101]])
    torch.testing.assert_close(
        alone.model(ids).logits, whole.model(ids).logits, rtol=1e-4, atol=1e-4
    )
    assert alone.tokenizer.chat_template == whole.tokenizer.chat_template
    learned = response_logprobs(whole, groups)
    assert all(b.sums[0] > a.sums[0] for a, b in zip(reference, learned, strict=True))


def _names(folder):
    from safetensors import safe_open

    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        return list(file.keys())


@pytest.mark.parametrize("tied", [False, True])
def test_packed_scores_see_the_rows_that_are_trained(tmp_path, tied):
    lm = attach(
        load(base_folder(tmp_path, tied=tied), chat_template="chatml"), LoraConfig(r=2), seed=0
    )
    plain = [found.sums for found in response_logprobs(lm, groups_of(lm))]
    for name, parameter in lm.model.named_parameters():
        if "trainable_tokens_delta" in name:
            parameter.data.add_(0.5)
    scorer = ResponseScorer(lm.model)
    assert scorer.padded_because is None
    changed = [found.sums for found in response_logprobs(lm, groups_of(lm))]
    assert changed != plain
    with adapter_off(lm.model):
        again = [found.sums for found in response_logprobs(lm, groups_of(lm))]
        assert linear_head(lm.model).bias_V is None
    torch.testing.assert_close(torch.tensor(again), torch.tensor(plain))
    after = [found.sums for found in response_logprobs(merged(lm), groups_of(lm))]
    torch.testing.assert_close(torch.tensor(after), torch.tensor(changed), rtol=1e-4, atol=1e-4)


def test_rows_and_adapted_embeddings_exclude_each_other(tmp_path):
    lm = load(base_folder(tmp_path), chat_template="chatml")
    with pytest.raises(BadInput, match=r"lora\.targets: expected no embeddings and no head"):
        attach(lm, LoraConfig(targets=("q_proj", "lm_head")), seed=0)


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_a_trained_base_model_stops_and_says_so_to_other_tools(tmp_path, name):
    """Answers of one letter are learned, and then the end of turn; transformers stops there too."""
    folder = base_folder(tmp_path, bos=True)
    lm = load(folder, chat_template=name)
    groups = groups_of(lm, ("a", "b", "c", "d"))
    config = TrainConfig(lr=1e-2, batch_size=4, epochs=40, dtype="float32")
    train(lm, SFT(), groups, config, tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out/model").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out/model")
    again = load(tmp_path / "out/model")
    end = end_of_turn(again)
    assert end in stop_tokens(again)
    stops = model.generation_config.eos_token_id
    assert (stops if isinstance(stops, int) else stops[0]) == end
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "a"}], tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    answer = model.generate(ids, do_sample=False, max_new_tokens=20)[0, ids.shape[1] :]
    assert len(answer) <= 3
    assert answer[-1] == end
