"""Read a model's own words: its turn without template markers, thoughts and other channels.

Servers and tokenizers leave the markup of chat templates in texts: thoughts of reasoning models
(`<think>`, with or without its opening tag, which many templates write into the prompt), channels
(OpenAI harmony), headers of turns, end tokens. `own_turn` reads a judge's reply, where nothing but
the final words may hold a verdict; `strip_thoughts` prepares an answer, in which a tag can also be
what the answer is about.
"""

from __future__ import annotations

import re
from functools import cache

_NAMES = r"(?:antml:|seed:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|scratchpad|reflection)"
_OPEN = (
    rf"(?:<{_NAMES}>|\[THINK\]|◁think▷|<\|thinking\|>|<\|START_THINKING\|>|<\|begin_of_thought\|>)"
)
_CLOSE = (
    rf"(?:</{_NAMES}>|\[/THINK\]|◁/think▷|<\|/thinking\|>|<\|END_THINKING\|>|<\|end_of_thought\|>)"
)
_FLAGS = re.IGNORECASE | re.DOTALL
_UNQUOTED = "(?<![`'\"])"
_TAG_OPEN = re.compile(rf"{_UNQUOTED}{_OPEN}(?![`'\"])", _FLAGS)
_TAG_CLOSE = re.compile(rf"{_UNQUOTED}{_CLOSE}(?![`'\"])", _FLAGS)
_LINE_OPEN = re.compile(rf"(?m:^)[ \t]*{_OPEN}", _FLAGS)

_CHANNEL = re.compile(
    r"(?:<\|start\|>\s*assistant\s*)?<\|channel\|>(?P<name>[^<]*)(?:<\|constrain\|>[^<]*)?<\|message\|>"
    r"(?P<body>.*?)(?:<\|(?:end|return|call)\|>|(?=<\|start\|>|<\|channel\|>)|\Z)",
    _FLAGS,
)
_GEMMA_CHANNEL = re.compile(r"<\|channel>\s*thought\b.*?(?:<channel\|>|\Z)", _FLAGS)
_BARE_CHANNELS = re.compile(r"\Aanalysis(?=[A-Z]).*?(?:assistantfinal|\Z)", re.DOTALL)
"""Channels whose markers were lost in decoding: `analysisWe need ...assistantfinalScore: 4`."""

_ROLE = r"(?:assistant|model|bot|chatbot(?:_token)?)"
_LEAD = re.compile(
    r"\s*(?:<s>|<bos>|<pad>|<\|(?:begin_of_text|startoftext|endoftext)\|>|<\|begin▁of▁sentence\|>|\[/INST\]"
    rf"|<\|(?:im_end|eot_id|end)\|>(?=\s*<\|(?:im_start|start_header_id)\|>\s*{_ROLE}\b)"
    rf"|<\|im_start\|>\s*{_ROLE}\b(?:<\|im_sep\|>)?|<start_of_turn>\s*{_ROLE}\b|<\|turn>\s*{_ROLE}\b"
    rf"|<\|(?:start_header_id|start_of_role|start|role_start)\|>\s*{_ROLE}\s*"
    r"(?:<\|(?:end_header_id|end_of_role|message|role_end)\|>)?"
    rf"|<\|{_ROLE}\|>|<\|START_OF_TURN_TOKEN\|>|<\|begin_of_solution\|>|<｜begin▁of▁sentence｜>"
    r"|<｜Assistant｜>)",
    re.IGNORECASE,
)
"""Markers that open the model's own turn."""
_MARKER = re.compile(
    r"<\|[a-z_▁]+\|>|<｜[a-z_▁]+｜>|</?s>|<(?:start|end)_of_turn>|<\|?turn\|?>|<(?:bos|eos)>|\[/?INST\]",
    re.IGNORECASE,
)
"""Markers that separate turns in the chat templates in use."""


def own_turn(text: str) -> str:
    """Return the words of a reply that its writer meant as the reply.

    Thoughts are dropped wherever they stand; one that is not closed runs to the end. Of channels
    the final one is kept. Markers that open the model's turn are skipped, and all from the next
    marker on, written in somebody else's name, is dropped.
    """
    text = _without_spans(_final_channel(text), _TAG_OPEN)
    while lead := _LEAD.match(text):
        text = text[lead.end() :]
    found = _MARKER.search(text)
    return text[: found.start()] if found else text


def strip_thoughts(text: str) -> str:
    """Return an answer without the thoughts that precede it; "" where there is nothing else.

    A thought opens the answer or a line of it, or lacks its opening tag; tags within a sentence,
    in quotes or backticks belong to the answer. Text without a thought is returned unchanged.
    """
    stripped = _without_spans(_final_channel(text), _LINE_OPEN)
    return text if stripped == text else stripped.strip()


def answer_in(transcript: str) -> str:
    """Return the reply in a ChatML transcript that opens with the prompt as the user's turn.

    The reply stands between the end of the first turn and the next marker; the header of the
    assistant's turn may be missing. A text that opens with no user's turn is all reply.
    """
    if transcript.lstrip().startswith("<|im_start|>user"):
        _, _, transcript = transcript.partition("<|im_end|>")
    return own_turn(transcript)


def tags_of(template: str) -> tuple[str, ...]:
    """Return the names of the tags in a prompt, between which it shows what is judged."""
    return tuple(sorted(set(re.findall(r"</?([A-Za-z_][\w-]*)>", template))))


def neutral(text: str, tags: tuple[str, ...] = ()) -> str:
    """Return text that cannot end its tags nor fake a turn: these lose their opening bracket."""
    return _fakes(tags).sub(lambda found: "&lt;" if found[0] == "<" else "&#91;", text)


@cache
def _fakes(tags: tuple[str, ...]) -> re.Pattern[str]:
    names = "|".join(map(re.escape, tags)) or "(?!)"
    return re.compile(
        rf"<(?=\s*/?\s*(?:{names})\b|[|｜]|/?s>|(?:start|end)_of_turn>|\|?turn\|?>|(?:bos|eos)>"
        rf"|/?{_NAMES}>)|\[(?=/?(?:INST|THINK)\])",
        re.IGNORECASE,
    )


def _final_channel(text: str) -> str:
    """Keep the final channel of a reply in channels; other text is unchanged."""
    text = _GEMMA_CHANNEL.sub("", _BARE_CHANNELS.sub("", text))
    channels = list(_CHANNEL.finditer(text))
    if not channels:
        return text
    final = [c["body"] for c in channels if c["name"].strip().lower() == "final"]
    # Some servers put the final words behind the other channels without a channel of their own.
    return final[-1] if final else text[channels[-1].end() :]


def _without_spans(text: str, opening: re.Pattern[str]) -> str:
    kept = ""
    while True:
        first, close = _TAG_OPEN.search(text), _TAG_CLOSE.search(text)
        if close and (first is None or close.start() < first.start()):
            # The template wrote the opening tag (or tags were nested): all before was thought.
            text = text[close.end() :]
            continue
        thought = opening.search(text)
        if thought is None:
            return kept + text
        kept += text[: thought.start()]
        close = _TAG_CLOSE.search(text, thought.end())
        text = text[close.end() :] if close else ""
