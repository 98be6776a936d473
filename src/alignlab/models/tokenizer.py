"""Read tokenizers, and give base models a chat template by name.

| name | turn | added tokens |
|---|---|---|
| `chatml` | `<|im_start|>ROLE`, text, `<|im_end|>` | the two, where the tokenizer lacks them |
| `zephyr` | `<|ROLE|>`, text, end of sequence | none |
| `plain` | `User:` or `Assistant:`, text, end of sequence after answers | none |

A template begins with the beginning-of-sequence token where the tokenizer adds it to plain text.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import AddedToken
from transformers import AutoTokenizer

from alignlab.errors import BadInput
from alignlab.models.weight_files import SETTINGS, reading


@dataclass(frozen=True)
class NamedTemplate:
    """Chat template for base models."""

    text: str
    """Jinja source."""
    tokens: tuple[str, ...] = ()
    """Special tokens that it writes, the end of turn last; empty writes end of sequence only."""


TEMPLATES = {
    "chatml": NamedTemplate(
        "{% for m in messages %}"
        "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        ("<|im_start|>", "<|im_end|>"),
    ),
    "zephyr": NamedTemplate(
        "{% for m in messages %}"
        "{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
    ),
    "plain": NamedTemplate(
        "{% for m in messages %}"
        "{% if m['role'] == 'user' %}{{ 'User:\n' + m['content'] + '\n\n' }}"
        "{% elif m['role'] == 'assistant' %}"
        "{{ 'Assistant:\n' + m['content'] + eos_token + '\n\n' }}"
        "{% else %}{{ m['content'] + '\n\n' }}{% endif %}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ 'Assistant:\n' }}{% endif %}"
    ),
}
"""Name -> template, for models that have none."""
_FILES = (*SETTINGS, "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_READ = (".json", ".jinja", ".txt", ".model", ".tiktoken")
"""Endings of the files that a tokenizer may be read from."""
_known: dict[str, Any] = {}
"""Digest of a tokenizer's files -> tokenizer, the last one used last."""
_CHOICES = f"FILE (a Jinja template), or by name: {', '.join(sorted(TEMPLATES))}"


class ReadTokenizer(NamedTuple):
    """Tokenizer with its chat template."""

    tokenizer: Any
    added: tuple[int, ...] = ()
    """Ids of the tokens that the template added to the vocabulary, the end of turn last."""


def read_tokenizer(
    folder: Path, chat_template: str | Path | None, trust_remote_code: bool = False
) -> ReadTokenizer:
    """Read a folder's tokenizer with a chat template.

    Args:
        folder: model in Hugging Face format.
        chat_template: name of a template, Jinja text, or a file, instead of the tokenizer's own.

    Raises:
        BadInput: no tokenizer, or no chat template.
    """
    named = TEMPLATES.get(str(chat_template))
    # Tokens are added to a vocabulary that nobody shares.
    adds = named is not None and bool(named.tokens)
    tokenizer = (
        _read(folder, trust_remote_code) if adds else plain_tokenizer(folder, trust_remote_code)
    )
    added: tuple[int, ...] = ()
    if chat_template is not None:
        added = _set_template(tokenizer, str(chat_template), folder)
    if not tokenizer.chat_template:
        raise BadInput(
            f"{folder}: the tokenizer has no chat template; choose chat_template={_CHOICES}"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return ReadTokenizer(tokenizer, added)


def plain_tokenizer(folder: Path, trust_remote_code: bool = False) -> Any:
    """Read a folder's tokenizer as it is.

    Raises:
        BadInput: there is none, or it cannot be read.
    """
    return _read(folder, True) if trust_remote_code else _own_copy(_shared(folder))


def _shared(folder: Path) -> Any:
    """Read a tokenizer, or return the one that was read from files of the same content.

    The checkpoints of a study have equal tokenizers, and Gemma's takes seconds to read and 300 MB.
    The last two are kept.
    """
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        if file.suffix in _READ and file.is_file():
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    key = digest.hexdigest()
    found = _known.pop(key, None)
    _known[key] = _read(folder) if found is None else found
    while len(_known) > 2:
        del _known[next(iter(_known))]
    return _known[key]


def _own_copy(tokenizer: Any) -> Any:
    """Copy a tokenizer's settings; the vocabulary stays shared."""
    made = copy.copy(tokenizer)
    for name, value in vars(made).items():
        if isinstance(value, dict | list | set):
            setattr(made, name, copy.copy(value))
    return made


def _read(folder: Path, trust_remote_code: bool = False) -> Any:
    with reading("a tokenizer", folder, _FILES):
        try:
            return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
        except ValueError as error:
            if not str(error).startswith("Couldn't instantiate the backend tokenizer"):
                raise
            found = "found no tokenizer.json and nothing else that can be read as one"
            raise BadInput(f"{folder}: expected a tokenizer, {found}") from error


def _set_template(tokenizer: Any, given: str, folder: Path) -> tuple[int, ...]:
    """Set a tokenizer's template; return the ids of the tokens that this adds."""
    named = TEMPLATES.get(given)
    if named is None:
        tokenizer.chat_template = _template_text(given)
        return ()
    if not named.tokens and tokenizer.eos_token is None:
        raise BadInput(
            f"{folder}: chat_template={given} ends answers with the end-of-sequence token, which "
            "the tokenizer lacks; choose chat_template=chatml"
        )
    known = tokenizer.get_vocab()
    new = [token for token in named.tokens if token not in known]
    special = [AddedToken(token, special=True, normalized=False) for token in named.tokens]
    tokenizer.add_tokens(special, special_tokens=True)
    start = tokenizer.bos_token_id
    begins = start is not None and tokenizer("a")["input_ids"][:1] == [start]
    tokenizer.chat_template = ("{{ bos_token }}" if begins else "") + named.text
    return tuple(tokenizer.convert_tokens_to_ids(token) for token in new)


def _template_text(given: str) -> str:
    """Return a chat template, given as text or as a file."""
    if "{" in given:
        return given
    try:
        return Path(given).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"chat_template={given}: expected chat_template={_CHOICES}; found: {error}"
        ) from error
