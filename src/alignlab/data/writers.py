"""Convert a corpus to rows of a layout; records that the layout cannot hold count as dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

from alignlab.data.build_records import UNKNOWN_WRITER
from alignlab.data.conversations import as_dicts
from alignlab.types import Corpus, Demonstration, Message, PreferenceGroup, Prompt, Response

Pairs = Literal["best_worst", "all"]
PAIRS = ("best_worst", "all")
Row = dict[str, Any]


@dataclass
class Written:
    """Rows of a layout, with counts of dropped and changed records."""

    rows: list[Row] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)


def _groups(corpus: Corpus, pairs: Pairs) -> Written:
    written = Written(dropped=_others(corpus, "groups"))
    turns = _as_turns(group.prompt for group in corpus.groups)
    for group in corpus.groups:
        answers = [
            {"text": response.text, "score": score, "model": _writer_of(response)}
            for response, score in zip(group.responses, group.scores, strict=True)
        ]
        ordered_by = group.source if group.source != group.prompt.source else None
        row = _row(group.prompt, turns, responses=answers)
        written.rows.append({**row, "ordered_by": ordered_by})
        if group.probability is not None:
            written.changed["probability left out"] += 1
    return written


def _preference(corpus: Corpus, pairs: Pairs) -> Written:
    written = Written(dropped=_others(corpus, "groups"))
    turns = _as_turns(group.prompt for group in corpus.groups)
    soft = any(group.probability is not None for group in corpus.groups)
    for group in corpus.groups:
        chosen_pairs = list(_pairs(group, pairs))
        if not chosen_pairs:
            written.dropped["all scores equal"] += 1
        for better, worse in chosen_pairs:
            row = _row(
                group.prompt,
                turns,
                chosen=_answer(group.responses[better].text, turns),
                rejected=_answer(group.responses[worse].text, turns),
                score_chosen=group.scores[better],
                score_rejected=group.scores[worse],
            )
            if soft:
                row["chosen_probability"] = group.probability
            written.rows.append(row)
        if len(group.responses) > 2 and chosen_pairs:
            written.changed["group of more than two to pairs"] += 1
    return written


def _messages(corpus: Corpus, pairs: Pairs) -> Written:
    targets, written = _targets(corpus)
    for target in targets:
        turns = (*target.prompt.messages, Message("assistant", target.response.text))
        written.rows.append({"messages": as_dicts(turns), **_extras(target.prompt)})
    return written


def _prompt_completion(corpus: Corpus, pairs: Pairs) -> Written:
    targets, written = _targets(corpus)
    turns = _as_turns(target.prompt for target in targets)
    written.rows += [
        _row(target.prompt, turns, completion=_answer(target.response.text, turns))
        for target in targets
    ]
    return written


def _unpaired(corpus: Corpus, pairs: Pairs) -> Written:
    """Convert labelled responses, and of each group the best as desirable, the worst as not."""
    written = Written(dropped=_others(corpus, "groups", "labelled"))
    labelled: list[tuple[Prompt, str, bool]] = [
        (each.prompt, each.response.text, each.desirable) for each in corpus.labelled
    ]
    for group in corpus.groups:
        ends = group.best_and_worst()
        if ends is None:
            written.dropped["all scores equal"] += 1
            continue
        written.changed["group to two labelled responses"] += 1
        labelled += [
            (group.prompt, response.text, good)
            for response, good in zip(ends.responses, (True, False), strict=True)
        ]
    turns = _as_turns(prompt for prompt, _, _ in labelled)
    written.rows += [
        _row(prompt, turns, completion=_answer(text, turns), label=good)
        for prompt, text, good in labelled
    ]
    return written


def _commented(corpus: Corpus, pairs: Pairs) -> Written:
    written = Written(dropped=_others(corpus, "commented"))
    turns = _as_turns(each.prompt for each in corpus.commented)
    for each in corpus.commented:
        completion = _answer(each.response.text, turns)
        written.rows.append(_row(each.prompt, turns, completion=completion, feedback=each.comment))
    return written


def _prompts(corpus: Corpus, pairs: Pairs) -> Written:
    """Convert the distinct prompts of all records."""
    written = Written()
    everything = [
        *corpus.prompts,
        *(each.prompt for each in corpus.demonstrations),
        *(each.prompt for each in corpus.groups),
        *(each.prompt for each in corpus.labelled),
        *(each.prompt for each in corpus.commented),
    ]
    distinct: dict[tuple[Message, ...], Prompt] = {}
    for prompt in everything:
        if distinct.setdefault(prompt.messages, prompt) is not prompt:
            written.dropped["repeated prompt"] += 1
    turns = _as_turns(distinct.values())
    written.rows += [_row(prompt, turns) for prompt in distinct.values()]
    return written


WRITERS: Mapping[str, Callable[[Corpus, Pairs], Written]] = {
    "groups": _groups,
    "preference": _preference,
    "messages": _messages,
    "prompt_completion": _prompt_completion,
    "unpaired": _unpaired,
    "commented": _commented,
    "prompts": _prompts,
}


def _targets(corpus: Corpus) -> tuple[Sequence[Demonstration], Written]:
    """Return the demonstrations; without any, the best response of every group."""
    if corpus.demonstrations:
        return corpus.demonstrations, Written(dropped=_others(corpus, "demonstrations"))
    written = Written(dropped=_others(corpus, "groups"))
    if corpus.groups:
        written.changed["best response of a group"] = len(corpus.groups)
    return [Demonstration(g.prompt, g.responses[0]) for g in corpus.groups], written


def _others(corpus: Corpus, *used: str) -> Counter[str]:
    """Count the records of the kinds that a layout does not use."""
    reasons = {
        "demonstrations": "a demonstration has no second response",
        "groups": "a group beside demonstrations",
        "labelled": "a labelled response is no target and no pair",
        "commented": "a response with feedback in words",
        "prompts": "a prompt without responses",
    }
    numbers = {why: len(getattr(corpus, kind)) for kind, why in reasons.items() if kind not in used}
    return Counter({why: number for why, number in numbers.items() if number})


def _pairs(group: PreferenceGroup, pairs: Pairs) -> Iterator[tuple[int, int]]:
    """Yield the indices of the better and the worse response of each pair."""
    last = len(group.responses) - 1
    places = combinations(range(last + 1), 2) if pairs == "all" else [(0, last)]
    return ((b, w) for b, w in places if group.scores[b] > group.scores[w])


def _as_turns(prompts: Iterable[Prompt]) -> bool:
    """Return true if a prompt has more than one user turn, so that all are written as turns."""
    return any(len(p.messages) > 1 or p.messages[0].role != "user" for p in prompts)


def _row(prompt: Prompt, turns: bool, **answer: Any) -> Row:
    """Build the row of a prompt with the fields of its answer."""
    text = as_dicts(prompt.messages) if turns else prompt.messages[0].content
    return {"prompt": text, **answer, **_extras(prompt)}


def _answer(text: str, turns: bool) -> Any:
    return as_dicts((Message("assistant", text),)) if turns else text


def _extras(prompt: Prompt) -> Row:
    """Return the optional fields; nulls are not written to JSONL."""
    return {
        "source": prompt.source or None,
        "reference": prompt.reference,
        "query_type": prompt.query_type,
    }


def _writer_of(response: Response) -> str | None:
    return response.sampler.model if response.sampler.model != UNKNOWN_WRITER else None
