"""Encode conversations, prompt and response tokenised separately.

All responses to a prompt thus share its tokens (the packed forward and the sampler encode it once),
and training and sampling see the same prompt. The template writes the beginning-of-sequence token
where it wants one; none is added.

Texts of messages are data: a special token spelled out in one ("<|im_end|>") is encoded as
characters, so that no text ends a turn or opens another.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from jinja2 import TemplateError

from alignlab.errors import BadInput
from alignlab.turns import strip_thoughts
from alignlab.types import Message

if TYPE_CHECKING:
    from alignlab.models.load import LanguageModel

T = TypeVar("T")

_PROBE = "Zq7"
"""Content of a test turn that locates the template's end-of-turn token."""
_OPEN, _CLOSE = "\ue0f0", "\ue0f1"
"""Private characters around a special token's text while the template is rendered."""


def encode_prompt(lm: LanguageModel, messages: Sequence[Message], prefix: str = "") -> list[int]:
    """Encode a conversation up to the start of the assistant's answer, then a prefix of it.

    Without messages, encode only the prefix, as plain text for a base model.

    Raises:
        BadInput: the chat template refuses the roles or their order, or leaves a turn out.
    """
    if not messages:
        start = lm.tokenizer.bos_token_id
        found = ([] if start is None else [start]) + _text_ids(lm.tokenizer, prefix)
        return _embedded(lm, found)
    found = _rendered_ids(lm.tokenizer, messages, add_generation_prompt=True)
    return _embedded(lm, found + (_text_ids(lm.tokenizer, prefix) if prefix else []))


def encode_response(lm: LanguageModel, text: str) -> list[int]:
    """Encode a response, its end-of-turn token included."""
    return _embedded(lm, [*_text_ids(lm.tokenizer, text), end_of_turn(lm)])


def end_of_turn(lm: LanguageModel) -> int:
    """Return the token that ends an assistant's turn in the chat template, or end-of-sequence."""
    return _end_of_turn(lm.tokenizer, lm.tokenizer.chat_template)


def stop_tokens(lm: LanguageModel) -> frozenset[int]:
    """Return the token ids at which generation stops."""
    found = {end_of_turn(lm), lm.tokenizer.eos_token_id}
    config = getattr(lm.model, "generation_config", None)
    eos = getattr(config, "eos_token_id", None)
    found.update(eos if isinstance(eos, list) else [eos])
    return frozenset(token for token in found if token is not None)


def check_template(lm: LanguageModel) -> None:
    """Check that the model has embeddings for the tokens of its chat template.

    Raises:
        BadInput: a token has none; it was added only to the tokenizer.
    """
    if lm.tokenizer.chat_template:
        encode_prompt(lm, [Message("user", _PROBE)])
        encode_response(lm, _PROBE)


def templated(
    lm: LanguageModel, messages: Sequence[Message], responses: Sequence[str]
) -> str | None:
    """Find a text that holds the chat template already; training would write it twice.

    Returns:
        The turn and the token at its edge; None where no text holds the template.
    """
    tokenizer = lm.tokenizer
    written = _written_tokens(tokenizer, tokenizer.chat_template)
    texts = [(f"the {m.role} turn", m.content) for m in messages]
    for where, text in texts + [("a response", text) for text in responses]:
        for token in written:
            if text.lstrip().startswith(token):
                return f"{where} begins with {token}"
            if where == "a response" and text.rstrip().endswith(token):
                return f"{where} ends with {token}"
    return None


def special_in(lm: LanguageModel, texts: Sequence[str]) -> bool:
    """Return True where a text spells out a special token."""
    special = _special_tokens(lm.tokenizer)
    return any(special.search(text) for text in texts)


def template_end(lm: LanguageModel) -> list[int]:
    """Return the tokens that the chat template writes after an assistant's end of turn."""
    turns = [Message("user", _PROBE), Message("assistant", _PROBE)]
    text = _render(lm.tokenizer, turns, add_generation_prompt=False)
    written = _ids(lm.tokenizer, text[text.rindex(_PROBE) + len(_PROBE) :])
    end = end_of_turn(lm)
    return written[written.index(end) + 1 :] if end in written else []


def without_template_end(lm: LanguageModel) -> str:
    """Return the chat template, changed so that a conversation ends at its last end of turn.

    Text that the template writes after an end of turn (usually a line break) stays between turns.
    """
    tokenizer = lm.tokenizer
    template: str = tokenizer.chat_template
    rest = tokenizer.decode(template_end(lm))
    if not rest or not isinstance(template, str):
        return template
    # Jinja blocks trim the white space next to them; empty expressions protect the template's.
    body = "{{ '' }}" + template.removesuffix("\n") + "{{ '' }}"
    end = f"conversation if add_generation_prompt else conversation.removesuffix({rest!r})"
    return f"{{% set conversation %}}{body}{{% endset %}}{{{{ {end} }}}}"


def prompt_gap(lm: LanguageModel) -> str:
    """Describe how prompts for generation differ from the template's conversations; else empty.

    Answers are trained where they are generated, right after the generation prompt.
    """
    turns = [Message("user", _PROBE), Message("assistant", _PROBE)]
    try:
        asked = _render(lm.tokenizer, turns[:1], add_generation_prompt=True)
        whole = _render(lm.tokenizer, turns, add_generation_prompt=False)
    except BadInput:
        return ""
    if not whole.startswith(asked):
        return f"the generation prompt {asked[-40:]!r} begins none of the template's answers"
    written = whole[len(asked) : whole.rindex(_PROBE)]
    if not written.strip():
        return ""
    return f"the template writes {written!r} before an answer, the generation prompt does not"


def _rendered_ids(
    tokenizer: Any, messages: Sequence[Message], *, add_generation_prompt: bool
) -> list[int]:
    """Encode a conversation; special tokens in its texts are encoded as characters."""
    special = _special_tokens(tokenizer)
    marked = [m.content for m in messages]
    has_special = any(special.search(text) for text in marked)
    if has_special:
        unmarked = [text.replace(_OPEN, "").replace(_CLOSE, "") for text in marked]
        marked = [special.sub(rf"{_OPEN}\g<0>{_CLOSE}", text) for text in unmarked]
    turns = [Message(m.role, text) for m, text in zip(messages, marked, strict=True)]
    text = _render(tokenizer, turns, add_generation_prompt=add_generation_prompt)
    for turn in turns:
        if _shown(turn) not in text:
            raise BadInput(f"the chat template leaves the {turn.role} turn out")
    if not has_special:
        return _ids(tokenizer, text)
    parts = re.compile(f"{_OPEN}(?P<data>.*?){_CLOSE}|(?P<own>{special.pattern})", re.DOTALL)
    found: list[int] = []
    plain, at = "", 0
    for part in parts.finditer(text):
        plain += text[at : part.start()] + (part["data"] or "")
        at = part.end()
        if part["own"]:
            found += [*_text_ids(tokenizer, plain), tokenizer.convert_tokens_to_ids(part["own"])]
            plain = ""
    return found + _text_ids(tokenizer, plain + text[at:])


def _shown(turn: Message) -> str:
    """Return the text of a turn that a template must write: many leave out thoughts of answers."""
    if turn.role != "assistant":
        return turn.content.strip()
    return "" if _OPEN in turn.content else strip_thoughts(turn.content.rpartition("</think>")[2])


def _render(tokenizer: Any, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
    turns = [{"role": m.role, "content": m.content} for m in messages]
    try:
        text: str = tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=add_generation_prompt
        )
    except (TemplateError, TypeError, ValueError) as error:
        roles = ", ".join(m.role for m in messages)
        raise BadInput(f"the chat template refuses turns of {roles}: {error}") from error
    return text


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _text_ids(tokenizer: Any, text: str) -> list[int]:
    """Encode a text; special tokens in it are encoded as characters."""
    if not text:
        return []
    if not _special_tokens(tokenizer).search(text):
        return _ids(tokenizer, text)
    return list(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])


def _embedded(lm: LanguageModel, tokens: list[int]) -> list[int]:
    """Return the tokens after checking that the model has embeddings for them."""
    config = getattr(lm.model, "config", None)
    rows = config.get_text_config(decoder=True).vocab_size if config is not None else None
    if rows is not None and max(tokens, default=0) >= rows:
        worst = max(tokens)
        raise BadInput(
            f"{lm.name}: the tokenizer gives token {worst} "
            f"({lm.tokenizer.convert_ids_to_tokens(worst)!r}), the model has {rows} embeddings; "
            "resize them, or take the tokenizer that the model was trained with"
        )
    return tokens


def _by_tokenizer(work: Callable[..., T]) -> Callable[..., T]:
    """Keep results by tokenizer and further arguments, as long as the tokenizer lives.

    A tokenizer takes up to 300 MB (Gemma 3), so that no cache may hold it.
    """
    kept: WeakKeyDictionary[Any, dict[str, T]] = WeakKeyDictionary()

    def known(tokenizer: Any, *rest: Any) -> T:
        own, key = kept.setdefault(tokenizer, {}), repr(rest)  # templates may come by name
        if key not in own:
            own[key] = work(tokenizer, *rest)
        return own[key]

    return known


@_by_tokenizer
def _special_tokens(tokenizer: Any) -> re.Pattern[str]:
    """Return a pattern that matches any special token, longer ones first."""
    added = tokenizer.added_tokens_decoder.values()
    known = {t.content for t in added if t.special} | set(tokenizer.all_special_tokens)
    longest_first = sorted(filter(None, known), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


@_by_tokenizer
def _written_tokens(tokenizer: Any, template: str) -> tuple[str, ...]:
    """Return the special tokens of the template and those around whole sequences."""
    turns = [Message("user", _PROBE), Message("assistant", _PROBE)]
    text = _render(tokenizer, turns, add_generation_prompt=True)
    found = {*_special_tokens(tokenizer).findall(text), tokenizer.bos_token, tokenizer.eos_token}
    return tuple(sorted(filter(None, found)))


@_by_tokenizer
def _end_of_turn(tokenizer: Any, template: str) -> int:
    """Return the first added token that the template writes after an assistant's turn.

    Some tokenizers hold their end of turn as an added token that is not special.
    """
    turns = [Message("user", _PROBE), Message("assistant", _PROBE)]
    text = _render(tokenizer, turns, add_generation_prompt=False)
    after = text[text.rindex(_PROBE) + len(_PROBE) :]
    added = {t.content for t in tokenizer.added_tokens_decoder.values()}
    known = {*filter(str.strip, added), *tokenizer.all_special_tokens}
    ends = [token for token in known if token in after]
    if ends:
        first = min(ends, key=lambda token: (after.index(token), -len(token)))
        return int(tokenizer.convert_tokens_to_ids(first))
    if tokenizer.eos_token_id is None:
        raise BadInput(
            "the chat template ends a turn with no special token and the tokenizer "
            "has no end-of-sequence token; give a template with chat_template=FILE"
        )
    return int(tokenizer.eos_token_id)
