"""Detect texts with a rendered chat template, which a second template would corrupt."""

from __future__ import annotations

import re

from alignlab.data.build_records import Record
from alignlab.data.split_dedupe import prompt_of
from alignlab.types import PreferenceGroup, Prompt, PromptResponse

_OPENING = re.compile(
    r"\s*(<\|im_start\|>|<\|start_header_id\|>|<\|begin_of_text\|>|<\|start_of_role\|>|<\|start\|>"
    r"|<\|(?:system|user|assistant|endoftext)\|>|<start_of_turn>|<bos>|<s>\s*(?:\[INST\]|<)"
    r"|\[INST\]|<<SYS>>|<[|｜]begin▁of▁sentence[|｜]>|<[|｜](?:User|Assistant)[|｜]>)"
)
_CLOSING = re.compile(
    r"(<\|(?:im_end|eot_id|eom_id|end_of_text|endoftext|end_of_role|end|return|assistant)\|>"
    r"|<\|im_start\|>\s*assistant|<\|start_header_id\|>\s*assistant\s*<\|end_header_id\|>"
    r"|<start_of_turn>\s*model|<end_of_turn>|<eos>|\[/INST\]"
    r"|<[|｜]end▁of▁sentence[|｜]>|<[|｜]Assistant[|｜]>)\s*\Z"
)
_WORDED = re.compile(r"(### ?(Response|Assistant|Answer):|\n(Assistant|ASSISTANT):)\s*\Z")
IN_WORDS = "prompt that ends in a template's words (### Response:, Assistant:)"


def template_mark(text: str) -> str:
    """Find the template token at the start or end of a text; empty without one.

    Tokens elsewhere do not count: the text may be about them.
    """
    if opening := _OPENING.match(text):
        return opening[1]
    tail = text[-200:]
    if closing := _CLOSING.search(tail):
        return closing[1]
    ended = tail.rstrip().endswith("</s>") and text.count("<s>") < text.count("</s>")
    return "</s>" if ended else ""


def ends_in_template_words(prompt: Prompt) -> bool:
    """Return true if a prompt ends in the answer heading of a plain-text template."""
    return bool(_WORDED.search(prompt.text[-200:]))


def texts_of(record: Record) -> list[str]:
    """List the texts of a record that enter a chat template."""
    texts = [message.content for message in prompt_of(record).messages]
    if isinstance(record, PreferenceGroup):
        texts += [response.text for response in record.responses]
    if isinstance(record, PromptResponse):
        texts.append(record.response.text)
    return texts
