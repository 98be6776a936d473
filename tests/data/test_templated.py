"""Texts that a chat template has been put around already are refused."""

from __future__ import annotations

import pytest

from alignlab.data import load
from alignlab.data.templated import IN_WORDS
from alignlab.errors import BadInput
from tests.data.conftest import Write

PAIR = {"prompt": "Add 2 and 2", "chosen": "4", "rejected": "5"}


@pytest.mark.parametrize(
    ("field", "text", "mark"),
    [
        ("prompt", "<|im_start|>user\nAdd<|im_end|>\n<|im_start|>assistant\n", r"<\|im_start\|>"),
        ("prompt", "<s>[INST] Add [/INST]", r"<s>\[INST\]"),
        ("prompt", "[INST] Add [/INST]", r"\[INST\]"),
        ("prompt", "<<SYS>>\nBe brief.\n<</SYS>>\n\nAdd", "<<SYS>>"),
        ("prompt", "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nAdd", "<.begin"),
        ("prompt", "<bos><start_of_turn>user\nAdd<end_of_turn>\n<start_of_turn>model\n", "<bos>"),
        ("prompt", "<|user|>\nAdd</s>\n<|assistant|>\n", r"<\|user\|>"),
        ("prompt", "Add<|im_end|>\n<|im_start|>assistant", r"<\|im_start\|>assistant"),
        ("prompt", "<｜begin▁of▁sentence｜><｜User｜>Add<｜Assistant｜>", "<｜begin"),
        ("prompt", "<|start|>user<|message|>Add<|end|>", r"<\|start\|>"),
        ("chosen", "4<|im_end|>", r"<\|im_end\|>"),
        ("chosen", "4<|im_end|>\n", r"<\|im_end\|>"),
        ("rejected", "5</s>", "</s>"),
        ("chosen", "4<|eot_id|>", r"<\|eot_id\|>"),
        ("chosen", "4<|endoftext|>", r"<\|endoftext\|>"),
        ("chosen", "4<end_of_turn>", "<end_of_turn>"),
        ("chosen", "4<|end|>", r"<\|end\|>"),
        ("chosen", "<|im_start|>assistant\n4", r"<\|im_start\|>"),
    ],
)
def test_refused_with_its_field(write: Write, field: str, text: str, mark: str) -> None:
    path = write([PAIR, {**PAIR, field: text}])
    expected = f"line 2, field '{field}': expected text to put into a chat template.*found {mark}"
    with pytest.raises(BadInput, match=expected):
        load(str(path))


def test_in_turns_too(write: Write) -> None:
    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello</s>"}]
    with pytest.raises(BadInput, match=r"field 'messages'.*found </s>"):
        load(str(write([{"messages": said}])))


@pytest.mark.parametrize(
    "text",
    [
        "What does <|im_start|>user mean in ChatML?",
        "The token is <|im_end|>, I think.",
        "<s>old</s> new",
        "Strike it: <s>old</s>",
        "[1] is a list",
        "<start> here",
    ],
)
def test_texts_about_templates_are_read(write: Write, text: str) -> None:
    rows = [{**PAIR, "prompt": text}, {**PAIR, "chosen": text}]
    assert len(load(str(write(rows))).groups) == 2


def test_templates_of_plain_words_are_counted(write: Write) -> None:
    text = "Below is an instruction.\n\n### Instruction:\nAdd.\n\n### Response:\n"
    corpus = load(str(write([{**PAIR, "prompt": text}, PAIR])))
    assert corpus.counts[-1].changed == {IN_WORDS: 1}
