"""Data sets of a judge card: pairs of answers with verdicts of people, found in folders or named.

Known sets are PandaLM's test (arXiv 2306.05087), LLMBar (arXiv 2310.07641) with its copy of
MT-Bench's human votes (arXiv 2306.05685), and AlpacaEval's lists, which GPT-4 judged. Any other
preference data joins as NAME=SPEC. A known set that is not there is named as absent.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from alignlab import seeds
from alignlab.data.build_records import UNKNOWN_WRITER
from alignlab.data.sources import load
from alignlab.errors import BadInput
from alignlab.evaluation.benchmarks.judge_quality import Pair, ordered_pairs
from alignlab.types import Count, PreferenceGroup


class KnownSet(NamedTuple):
    """Data set that is recognised by its files' names."""

    files: tuple[str, ...]
    """Patterns of paths under a folder; the first one that matches is read, whole."""
    judged_by: str = "people"


KNOWN: Mapping[str, KnownSet] = {
    "pandalm": KnownSet(("testset-v1.json",)),
    "llmbar_natural": KnownSet(("LLMBar__Natural.json", "LLMBar/Natural/dataset.json")),
    "llmbar_adversarial": KnownSet(
        ("LLMBar__Adversarial__*.json", "LLMBar/Adversarial/*/dataset.json")
    ),
    "mt_bench": KnownSet(("Processed__MT-Bench.json", "Processed/MT-Bench/dataset.json")),
    "alpacaeval_lists": KnownSet(("alpacaeval_listwise.jsonl*",), judged_by="GPT-4"),
}
"""Name -> files of a known set."""
_NAMED = re.compile(r"([A-Za-z][\w-]*)=(.+)", re.DOTALL)


@dataclass(frozen=True)
class CardSet:
    """Pairs of one data set, with verdicts of people or of a model."""

    name: str
    judged_by: str
    """ "people", or the model that gave the verdicts."""
    pairs: tuple[Pair, ...]
    """Pairs drawn for the card."""
    available: int
    """Number of pairs that the set holds."""
    identity: tuple[float | None, ...]
    """Verdict on each pair by the writers' records alone; None where a writer is not named."""
    files: Mapping[str, str]
    """File -> SHA-256."""
    counts: tuple[Count, ...] = ()
    """Records kept and dropped in reading."""

    @property
    def by_people(self) -> bool:
        """True if people gave the verdicts."""
        return self.judged_by == "people"


def find_sets(given: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the specs of every set in some folders and `[NAME=]SPEC`s, by the set's name.

    Raises:
        BadInput: a name occurs twice, or nothing was given.
    """
    found: dict[str, tuple[str, ...]] = {}
    for one in given:
        named = _NAMED.fullmatch(one)
        spec = named[2] if named else one
        parts = _known_in(Path(spec)) if not named and Path(spec).is_dir() else {}
        if not parts:
            name = named[1] if named else _known_name(spec) or Path(spec.split("?")[0]).stem
            parts = {name: (spec,)}
        for name, specs in parts.items():
            if name in found:
                raise BadInput(f"--data {one}: expected each set once, found {name} again")
            found[name] = specs
    if not found:
        raise BadInput(
            "--data: expected a folder with known sets, or [NAME=]FORMAT:PATH of preferences, "
            "found none"
        )
    return found


def _known_in(folder: Path) -> dict[str, tuple[str, ...]]:
    """Return the known sets in a folder and the files of each."""
    found = {}
    for name, known in KNOWN.items():
        matches = (sorted(folder.rglob(pattern)) for pattern in known.files)
        files = next((files for files in matches if files), [])
        if files:
            found[name] = tuple(map(str, files))
    return found


def _known_name(spec: str) -> str:
    """Return the name of the known set that a file's name belongs to; empty for others."""
    path = Path(spec.rpartition(":")[2])
    return next((n for n, k in KNOWN.items() if any(path.match(p) for p in k.files)), "")


def read_set(name: str, specs: Sequence[str], n: int, seed: int) -> CardSet:
    """Read a set, and draw pairs: one per prompt before any prompt gives a second one.

    Of data with a test part only that part is read, so that a reward model may be trained on the
    other.

    Args:
        n: number of pairs; 0 takes all.

    Raises:
        BadInput: the set cannot be read, or holds no ranked responses.
    """
    groups: list[PreferenceGroup] = []
    files: dict[str, str] = {}
    counts: list[Count] = []
    for spec in specs:
        corpus = load(spec)
        groups += corpus.test_groups or corpus.groups
        files |= corpus.files
        counts += corpus.counts
    if not groups:
        raise BadInput(f"--data {specs[0]}: expected ranked responses, found none")
    every = ordered_pairs(groups, seed)
    pairs = _drawn(every, n or len(every), seed)
    known = KNOWN.get(name)
    judged_by = known.judged_by if known else "people"
    return CardSet(
        name, judged_by, pairs, len(every), by_identity(pairs, every), files, tuple(counts)
    )


def _drawn(pairs: Sequence[Pair], n: int, seed: int) -> tuple[Pair, ...]:
    """Draw pairs by the seed, prompt by prompt in turns."""

    def place(pair: Pair) -> int:
        return seeds.derive(seed, "card", pair.prompt.id, *sorted((pair.first.id, pair.second.id)))

    before: Counter[str] = Counter()
    turns = []
    for pair in sorted(pairs, key=place):
        turns.append((before[pair.prompt.cluster], pair))
        before[pair.prompt.cluster] += 1
    return tuple(pair for _, pair in sorted(turns, key=lambda turn: turn[0])[:n])


def by_identity(pairs: Sequence[Pair], every: Sequence[Pair]) -> tuple[float | None, ...]:
    """Predict each pair's verdict from its writers' win rates on all other prompts.

    Returns 1 where the first writer won more often elsewhere, 0 where the second did, 0.5 for
    equal records; None where a writer is not named or was compared on no other prompt.
    """
    whole = _records(every, lambda pair: "")[""]
    by_prompt = _records(every, lambda pair: pair.prompt.cluster)

    def rate(writer: str, pair: Pair) -> float | None:
        won, number = whole[writer]
        won_here, number_here = by_prompt[pair.prompt.cluster][writer]
        left = number - number_here
        return (won - won_here) / left if left else None

    found: list[float | None] = []
    for pair in pairs:
        writers = _writer(pair, 0), _writer(pair, 1)
        rates = [rate(writer, pair) if writer else None for writer in writers]
        if rates[0] is None or rates[1] is None:
            found.append(None)
        else:
            found.append(0.5 if rates[0] == rates[1] else float(rates[0] > rates[1]))
    return tuple(found)


Records = dict[str, dict[str, tuple[float, int]]]


def _records(pairs: Sequence[Pair], key: Callable[[Pair], str]) -> Records:
    """Return each writer's wins (ties half) and comparisons, by a key of the pairs."""
    found: Records = defaultdict(lambda: defaultdict(lambda: (0.0, 0)))
    for pair in pairs:
        for side, value in ((0, pair.human), (1, 1 - pair.human)):
            writer = _writer(pair, side)
            if writer:
                won, number = found[key(pair)][writer]
                found[key(pair)][writer] = (won + value, number + 1)
    return found


def _writer(pair: Pair, side: int) -> str:
    """Return the model that wrote a response; empty where the data does not name it."""
    model = (pair.first, pair.second)[side].sampler.model
    return "" if model == UNKNOWN_WRITER else model
