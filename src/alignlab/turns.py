"""Extract a model's own turn from text with template markers, reasoning and channels.

Servers and tokenizers leave the markup of chat templates in texts: reasoning (`<think>`, with or
without its opening tag, which many templates write into the prompt), channels (OpenAI harmony),
headers of turns, end tokens. `own_turn` reads a judge's reply, whose verdict stands in the final
text alone; `strip_thoughts` prepares an answer, which may mention a tag as its subject.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

_NAMES = (
    r"(?:antml:|seed:)?"
    r"(?:think(?:ing)?|thoughts?|reason(?:ing)?(?:_content)?|scratchpad|reflection)"
)
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
_HARMONY = {f"<|{name}|>" for name in ("start", "channel", "constrain", "message", "end")}
_GEMMA_CHANNEL = re.compile(r"<\|channel>\s*thought\b.*?(?:<channel\|>|\Z)", _FLAGS)
_BARE_CHANNELS = re.compile(r"\Aanalysis(?=[A-Z]).*?(?:assistantfinal|\Z)", re.DOTALL)
"""Channels without markers, lost in decoding: `analysisWe need ...assistantfinalScore: 4`."""

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
"""Markers at the start of the model's turn."""
_MARKER = re.compile(
    r"<\|[a-z_▁]+\|>|<｜[a-z_▁]+｜>|</?s>|<(?:start|end)_of_turn>|<\|?turn\|?>|<(?:bos|eos)>|\[/?INST\]",
    re.IGNORECASE,
)
"""Markers between turns in common chat templates."""


_END_TOKENS = re.compile(
    r"(?:\s*(?:<\|(?:im_end|eot_id|eom_id|end_of_text|endoftext|end_of_role|end|return)\|>"
    r"|<end_of_turn>|<eos>|<pad>|</s>|<[|｜]end▁of▁sentence[|｜]>))+\s*\Z"
)


def own_turn(text: str) -> str:
    """Return the final text of a reply.

    Reasoning is removed, an unclosed span up to the end. Of channels the final one remains.
    Markers at the start of the model's turn are removed, and everything from the next marker on,
    which belongs to another turn.
    """
    text = _without_spans(_final_channel(text), _TAG_OPEN)
    while lead := _LEAD.match(text):
        text = text[lead.end() :]
    marker = _MARKER.search(text)
    return text[: marker.start()] if marker else text


def strip_markers(text: str) -> str:
    """Remove an assistant's header and the end tokens around an answer.

    Texts decoded with their special tokens hold them. A text without them is returned unchanged;
    `</s>` counts only where it closes no `<s>`, which is markup.
    """
    bare = text
    while (lead := _LEAD.match(bare)) and not lead[0].strip().startswith("<s>"):
        bare = bare[lead.end() :]
    ends = _END_TOKENS.search(bare)
    if ends and ("</s>" not in ends[0] or "<s>" not in bare):
        bare = bare[: ends.start()]
    return text if bare == text else bare.strip()


def strip_thoughts(text: str) -> str:
    """Remove reasoning from an answer; "" if nothing else remains.

    A reasoning span opens at the start of a line or lacks its opening tag; tags within a
    sentence, in quotes or in backticks belong to the answer. Text without reasoning is returned
    unchanged.
    """
    stripped = _without_spans(_final_channel(text), _LINE_OPEN)
    return text if stripped == text else stripped.strip()


def opened_thought(prompt: str) -> str:
    """Return the reasoning tag that a chat template leaves open at the end of a prompt, or ""."""
    opened = re.search(rf"({_OPEN})\s*\Z", prompt, re.IGNORECASE)
    return opened[1] if opened else ""


def thought_marks(tokens: Iterable[str]) -> set[str]:
    """Select the tokens that mark reasoning or channels, which decoding must keep."""
    names = set(tokens)
    thoughts = rf"{_OPEN}|{_CLOSE}|<\|channel>|<channel\|>"
    marks = {name for name in names if re.fullmatch(thoughts, name, re.IGNORECASE)}
    return marks | (names & _HARMONY if "<|channel|>" in names else set())


def answer_in(transcript: str) -> str:
    """Return the reply in a ChatML transcript whose first turn is the user's prompt.

    The reply runs from the end of the first turn to the next marker; the header of the
    assistant's turn may be missing. A text without a leading user turn is all reply.
    """
    if transcript.lstrip().startswith("<|im_start|>user"):
        _, _, transcript = transcript.partition("<|im_end|>")
    return own_turn(transcript)


def tags_of(template: str) -> tuple[str, ...]:
    """List the names of the XML-like tags in a prompt template, sorted."""
    return tuple(sorted(set(re.findall(r"</?([A-Za-z_][\w-]*)>", template))))


def neutral(text: str, tags: tuple[str, ...] = ()) -> str:
    """Escape the opening bracket of tags and turn markers in a text shown to a judge.

    The text can then neither close the tags around it nor fake a turn.
    """
    return _fakes(tags).sub(lambda opening: "&lt;" if opening[0] == "<" else "&#91;", text)


@cache
def _fakes(tags: tuple[str, ...]) -> re.Pattern[str]:
    names = "|".join(map(re.escape, tags)) or "(?!)"
    return re.compile(
        rf"<(?=\s*/?\s*(?:{names})\b|[|｜]|/?s>|(?:start|end)_of_turn>|\|?turn\|?>|(?:bos|eos)>"
        rf"|/?{_NAMES}>)|\[(?=/?(?:INST|THINK)\])",
        re.IGNORECASE,
    )


def _final_channel(text: str) -> str:
    """Return the final channel of a reply; text without channels is unchanged."""
    text = _GEMMA_CHANNEL.sub("", _BARE_CHANNELS.sub("", text))
    channels = list(_CHANNEL.finditer(text))
    if not channels:
        return text
    final = [c["body"] for c in channels if c["name"].strip().lower() == "final"]
    # Some servers put the final words behind the other channels without a channel of their own.
    return final[-1] if final else text[channels[-1].end() :]


def _without_spans(text: str, opening: re.Pattern[str]) -> str:
    rest = ""
    while True:
        first, close = _TAG_OPEN.search(text), _TAG_CLOSE.search(text)
        if close and (first is None or close.start() < first.start()):
            # The template wrote the opening tag (or tags are nested): all before is reasoning.
            text = text[close.end() :]
            continue
        thought = opening.search(text)
        if thought is None:
            return rest + text
        rest += text[: thought.start()]
        close = _TAG_CLOSE.search(text, thought.end())
        text = text[close.end() :] if close else ""
