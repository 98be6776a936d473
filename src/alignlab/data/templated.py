"""Texts that hold a chat template already: rendered again, they would teach its tokens as words."""

from __future__ import annotations

import re

from alignlab.data.build_records import Record
from alignlab.types import (
    CritiquedResponse,
    Demonstration,
    PreferenceGroup,
    Prompt,
    UnpairedPreference,
)

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
    """Find the template's token that a text opens with or ends in; empty where there is none.

    A text that only speaks of such tokens holds them elsewhere.
    """
    if found := _OPENING.match(text):
        return found[1]
    tail = text[-200:]
    if found := _CLOSING.search(tail):
        return found[1]
    ended = tail.rstrip().endswith("</s>") and text.count("<s>") < text.count("</s>")
    return "</s>" if ended else ""


def ends_in_template_words(prompt: Prompt) -> bool:
    """Say whether a prompt ends as a template of plain words does, asking for an answer."""
    return bool(_WORDED.search(prompt.text[-200:]))


def texts_of(record: Record) -> list[str]:
    """List the texts of a record that a chat template is put around."""
    prompt = record if isinstance(record, Prompt) else record.prompt
    texts = [message.content for message in prompt.messages]
    if isinstance(record, PreferenceGroup):
        return texts + [response.text for response in record.responses]
    if isinstance(record, Demonstration | UnpairedPreference | CritiquedResponse):
        return [*texts, record.response.text]
    return texts
