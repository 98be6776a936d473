"""Check a data source: bad records, dropped records and statistics (`alignlab data check`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from alignlab.data.read import Faults
from alignlab.data.sources import read_spec
from alignlab.errors import BadInput
from alignlab.types import Corpus, Count, Prompt


@dataclass(frozen=True)
class Spread:
    """Distribution of text lengths, in words split at white space."""

    n: int
    mean: float
    median: float
    p95: float
    """95th percentile."""
    longest: int


@dataclass(frozen=True)
class CheckReport:
    """Bad records and statistics of a data source."""

    spec: str
    problems: tuple[str, ...]
    """One line per bad record: file, line, field, expected, found."""
    source: str = ""
    """Detected or named layout."""
    records: Mapping[str, int] = field(default_factory=dict)
    """Kind of record -> number; held-out kinds are named `test ...`."""
    group_sizes: Mapping[int, int] = field(default_factory=dict)
    """Responses per group (K) -> number of groups."""
    prompt_words: Spread | None = None
    response_words: Spread | None = None
    repeated_prompts: int = 0
    """Training records whose prompt an earlier record of their kind has."""
    overlap: int = 0
    """Held-out prompts whose last turn equals a training prompt's up to case and white space."""
    counts: tuple[Count, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    """Path -> SHA-256 of every file that was read."""

    @property
    def ok(self) -> bool:
        """True if no record is bad."""
        return not self.problems

    def __str__(self) -> str:
        """Format the report as text, bad records first."""
        return "\n".join(_lines(self))


def check(spec: str) -> CheckReport:
    """Read a whole source and report on it; bad records are listed, not raised."""
    faults = Faults(stop=False)
    try:
        corpus = read_spec(spec, faults)
    except BadInput as error:
        return CheckReport(spec, (*map(str, faults.found), str(error)))
    training = {
        "demonstrations": [each.prompt for each in corpus.demonstrations],
        "groups": [each.prompt for each in corpus.groups],
        "labelled": [each.prompt for each in corpus.labelled],
        "commented": [each.prompt for each in corpus.commented],
        "prompts": list(corpus.prompts),
    }
    held_out = {
        "test groups": [each.prompt for each in corpus.test_groups],
        "test prompts": list(corpus.test_prompts),
    }
    everything = [prompt for part in (training, held_out) for ps in part.values() for prompt in ps]
    known = {_plain(prompt) for prompts in training.values() for prompt in prompts}
    tested = {_plain(prompt) for prompts in held_out.values() for prompt in prompts}
    return CheckReport(
        spec=spec,
        problems=tuple(map(str, faults.found)),
        source=corpus.name,
        records={kind: len(ps) for kind, ps in {**training, **held_out}.items() if ps},
        group_sizes=dict(
            sorted(Counter(len(g.responses) for g in (*corpus.groups, *corpus.test_groups)).items())
        ),
        prompt_words=_spread(prompt.text for prompt in everything),
        response_words=_spread(_responses(corpus)),
        repeated_prompts=sum(map(_repeated, training.values())),
        overlap=len(known & tested),
        counts=corpus.counts,
        files=corpus.files,
    )


def _responses(corpus: Corpus) -> Iterator[str]:
    yield from (each.response.text for each in corpus.demonstrations)
    yield from (each.response.text for each in corpus.labelled)
    yield from (each.response.text for each in corpus.commented)
    for group in (*corpus.groups, *corpus.test_groups):
        yield from (response.text for response in group.responses)


def _spread(texts: Iterable[str]) -> Spread | None:
    lengths_N = np.array([len(text.split()) for text in texts])
    if not lengths_N.size:
        return None
    return Spread(
        n=int(lengths_N.size),
        mean=float(lengths_N.mean()),
        median=float(np.median(lengths_N)),
        p95=float(np.quantile(lengths_N, 0.95)),
        longest=int(lengths_N.max()),
    )


def _repeated(prompts: Sequence[Prompt]) -> int:
    return len(prompts) - len({prompt.messages for prompt in prompts})


def _plain(prompt: Prompt) -> str:
    return " ".join(prompt.text.lower().split())


def _lines(report: CheckReport) -> Iterator[str]:
    yield from report.problems
    bad = len(report.problems)
    records = "bad record" if bad == 1 else "bad records"
    yield f"{report.spec}: {report.source or 'not readable'}, {bad} {records}"
    for kind, number in report.records.items():
        yield f"  {kind}: {number}"
    for count in report.counts:
        left_out = [f"{why} {n}" for why, n in count.dropped.items()]
        mended = [f"{why} {n}" for why, n in count.changed.items()]
        yield (
            f"  {count.what}: kept {count.kept}, dropped {sum(count.dropped.values())}"
            + (f" ({'; '.join(left_out)})" if left_out else "")
            + (f"; changed: {'; '.join(mended)}" if mended else "")
        )
    if report.group_sizes:
        yield "  responses per group: " + ", ".join(
            f"{groups} of {k}" for k, groups in report.group_sizes.items()
        )
    for name, words in (("prompt", report.prompt_words), ("response", report.response_words)):
        if words:
            yield (
                f"  words per {name}: mean {words.mean:.1f}, median {words.median:g}, "
                f"95% up to {words.p95:g}, longest {words.longest}"
            )
    if report.records:
        yield f"  repeated prompts: {report.repeated_prompts}"
        yield f"  held-out prompts that are also training prompts: {report.overlap}"
