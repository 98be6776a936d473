"""Audit what a training reads: template, mask and end token, on one tokenised example."""

from __future__ import annotations

from collections.abc import Sequence

from alignlab.errors import BadInput
from alignlab.finding import Finding, judged
from alignlab.models.chat_template import encode_response, end_of_turn, stop_tokens
from alignlab.models.load import LanguageModel
from alignlab.models.packed import TokenGroup
from alignlab.types import Count, Message

SHOWN = 700
"""Maximum number of characters of an example that are shown of its prompt, and of its response."""
OPEN, CLOSE = "⟦", "⟧"
"""Marks around the trained part."""


def audit(
    lm: LanguageModel, groups: Sequence[TokenGroup], tally: Count, messages: Sequence[Message]
) -> list[Finding]:
    """Diagnose the template, the end of turn and the records left out.

    Args:
        groups: records as training tokenises them.
        tally: count of the records dropped or changed by it.
        messages: conversation of a record, to compare with the template's own text.
    """
    first = groups[0]
    faults = [*_faults(lm, first), *_against_template(lm, messages)]
    trained = sum(map(len, first.responses))
    total = first.tokens
    text = "; ".join(faults) or (
        f"{trained} of {total} tokens of the first record are trained, the last is "
        f"{_written(lm, (end_of_turn(lm),))}, which ends generation too"
    )
    found = [judged("template", text, float(len(faults)), bad=bool(faults))]
    lost = sum(tally.dropped.values())
    share = lost / max(1, lost + tally.kept)
    changes = {**tally.dropped, **tally.changed}
    why = ", ".join(f"{reason} {n}" for reason, n in changes.items()) or "none dropped or cut"
    found.append(judged("records", f"{tally.kept} to train on: {why}", share, bad=share > 0.1))
    return found


def decoded(lm: LanguageModel, group: TokenGroup) -> str:
    """Return the text of an example's first response as tokenised, the trained part in ⟦ ⟧."""
    prompt, response = _written(lm, group.prompt_T), _written(lm, group.responses[0])
    if len(prompt) > SHOWN:
        prompt = f"{prompt[: SHOWN // 2]} … {prompt[-SHOWN // 2 :]}"
    if len(response) > SHOWN:
        response = f"{response[: SHOWN // 2]} … {response[-SHOWN // 2 :]}"
    return f"{prompt}{OPEN}{response}{CLOSE}"


def _faults(lm: LanguageModel, group: TokenGroup) -> list[str]:
    """Describe what is wrong with an example's tokens."""
    tokenizer, end, found = lm.tokenizer, end_of_turn(lm), []
    for response in group.responses:
        if response[-1] != end:
            found.append("a response was cut, so that no end of turn is trained in it")
            break
    if end not in stop_tokens(lm):
        found.append(f"{_written(lm, (end,))} ends a turn, but does not end generation")
    start = tokenizer.bos_token_id
    if start is not None and group.prompt_T[:2] == (start, start):
        found.append(f"the prompt begins with {_written(lm, (start,))} twice")
    unknown = tokenizer.unk_token_id
    if unknown is not None and unknown != end:
        times = sum(part.count(unknown) for part in (group.prompt_T, *group.responses))
        if times:
            found.append(f"{times} tokens are unknown to the tokenizer")
    if end == tokenizer.eos_token_id and "eos_token" not in str(tokenizer.chat_template):
        written = tokenizer.convert_ids_to_tokens(end)
        if str(written) not in str(tokenizer.chat_template):
            found.append(f"the template ends no turn; {written} is trained as its end")
    return found


def _against_template(lm: LanguageModel, messages: Sequence[Message]) -> list[str]:
    """Describe how prompt and response differ from the template's text of the conversation."""
    answer = "Zq7 ok"
    turns = [{"role": m.role, "content": m.content} for m in messages]
    try:
        whole = lm.tokenizer.apply_chat_template(
            [*turns, {"role": "assistant", "content": answer}], tokenize=False
        )
        asked = lm.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        trained = encode_response(lm, answer)
    except (BadInput, ValueError, TypeError) as error:
        return [f"the template cannot be compared ({str(error).splitlines()[0]})"]
    if not whole.startswith(asked):
        return ["the prompt for generation is no beginning of the template's conversation"]
    text = lm.tokenizer.decode(trained)
    if not whole[len(asked) :].startswith(text):
        return [f"the template writes {whole[len(asked) :][:60]!r}, trained is {text[:60]!r}"]
    return []


def _written(lm: LanguageModel, tokens: Sequence[int]) -> str:
    text: str = lm.tokenizer.decode(list(tokens), skip_special_tokens=False)
    return text
