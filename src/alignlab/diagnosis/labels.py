"""Count contradicting labels, ties, repetitions, and held-out prompts among training data."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from alignlab.data.build_records import Record
from alignlab.data.overlap import OverlapIndex
from alignlab.finding import Finding, judged
from alignlab.types import Corpus, Count, PreferenceGroup, Prompt

CONTRADICTING, REPEATED, COMMONEST = 0.01, 0.05, 0.02
"""Shares above which contradictions, repeated records, and one response are warned of."""
_TIES = ("tie", "equal scores", "all scores equal")


def labels(corpus: Corpus) -> list[Finding]:
    """Diagnose label noise: the same comparison with opposite labels, and ties."""
    compared, contradicting = _comparisons(corpus.groups)
    if corpus.labelled:
        seen = Counter((r.prompt.cluster, r.response.text.strip()) for r in corpus.labelled)
        both = {k for k, n in seen.items() if n > 1 and len(_labels_of(corpus, k)) > 1}
        compared, contradicting = compared + len(seen), contradicting + len(both)
    if not compared:
        return []
    repeated = contradicting + _counted(corpus.counts, "duplicate")
    ties = sum(_counted(corpus.counts, why) for why in _TIES)
    share = contradicting / compared
    noise = contradicting / repeated if repeated else 0.0
    text = f"{contradicting} of {compared} comparisons occur with opposite labels; {ties} ties"
    if repeated >= 10:
        # Two labels that are each wrong with probability e differ with probability 2e(1 - e).
        flipped = (1 - math.sqrt(max(0.0, 1 - 2 * noise))) / 2
        text += f"; of {repeated} repeated ones about {100 * flipped:.0f}% of labels are flipped"
    return [judged("labels", text, share, bad=share > CONTRADICTING)]


def duplicates(corpus: Corpus) -> list[Finding]:
    """Diagnose repeated records and prompts, and one response to many prompts."""
    records: list[Record] = [
        *corpus.demonstrations, *corpus.groups, *corpus.labelled, *corpus.commented,
    ]  # fmt: skip
    records = records or list(corpus.prompts)
    if not records:
        return []
    dropped = _counted(corpus.counts, "duplicate")
    share = dropped / (dropped + len(records))
    prompts = {(type(record), _prompt(record).cluster) for record in records}
    again = 1 - len(prompts) / len(records)
    text = f"{dropped} repeated records left out, {100 * again:.0f}% of prompts occur again"
    bad = share > REPEATED
    answers = Counter(text for record in records for text in _answers(record))
    if answers:
        commonest, times = answers.most_common(1)[0]
        often = times / sum(answers.values())
        if often > COMMONEST and times >= 5:
            bad = True
            text += f"; {times} responses are {' '.join(commonest.split())[:40]!r}"
    return [judged("duplicates", text, share, bad=bad)]


def overlap(corpus: Corpus) -> list[Finding]:
    """Diagnose training prompts that equal or nearly equal held-out ones."""
    held_out = [*corpus.test_prompts, *(g.prompt for g in corpus.test_groups)]
    if not held_out:
        return []
    index = OverlapIndex(held_out)
    records: list[Record] = [
        *corpus.demonstrations, *corpus.groups, *corpus.labelled, *corpus.commented,
        *corpus.prompts,
    ]  # fmt: skip
    training = {_prompt(record).cluster: record for record in records}
    found = Counter(filter(None, map(index.find, training.values())))
    removed = sum(
        n
        for count in corpus.counts
        for why, n in count.dropped.items()
        if "a held-out prompt" in why
    )
    reasons = ", ".join(f"{why} {n}" for why, n in found.items())
    total = sum(found.values())
    text = f"{total} of {len(training)} training prompts overlap held-out ones"
    text += f" ({reasons})" * bool(found) + f"; {removed} records removed for it" * bool(removed)
    return [judged("overlap", text, total / max(1, len(training)), bad=bool(total))]


def _comparisons(groups: Sequence[PreferenceGroup]) -> tuple[int, int]:
    """Count distinct comparisons of two responses, and those with both outcomes."""
    outcomes: dict[tuple[str, frozenset[str]], set[str]] = {}
    for group in groups:
        texts = [response.text.strip() for response in group.responses]
        for i, better in enumerate(texts):
            for worse, score in zip(texts[i + 1 :], group.scores[i + 1 :], strict=True):
                if group.scores[i] > score and better != worse:
                    key = (group.prompt.cluster, frozenset((better, worse)))
                    outcomes.setdefault(key, set()).add(better)
    return len(outcomes), sum(len(winners) > 1 for winners in outcomes.values())


def _labels_of(corpus: Corpus, key: tuple[str, str]) -> set[bool]:
    return {
        r.desirable for r in corpus.labelled if (r.prompt.cluster, r.response.text.strip()) == key
    }


def _counted(counts: Sequence[Count], reason: str) -> int:
    """Sum the records dropped for a reason."""
    return sum(n for count in counts for why, n in count.dropped.items() if why == reason)


def _prompt(record: Record) -> Prompt:
    return record if isinstance(record, Prompt) else record.prompt


def _answers(record: Record) -> list[str]:
    if isinstance(record, Prompt):
        return []
    if isinstance(record, PreferenceGroup):
        return [response.text.strip() for response in record.responses]
    return [record.response.text.strip()]
