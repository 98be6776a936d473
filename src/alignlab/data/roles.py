"""Load the data of a study by role: seed data, prompts for the rounds, held-out prompts.

Each role has one source or several. Held-out prompts given as `test=` take the place of the seed
data's own, and `prompts=` that of its spare ones. Training records whose prompts overlap held-out
prompts of another source are removed and counted; within a source its layout's own split holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from alignlab.data import sources
from alignlab.data.build_records import Record
from alignlab.data.mixing import Specs, Weighted, mixed, sources_of
from alignlab.data.overlap import OverlapIndex
from alignlab.data.split_dedupe import STAGE, content_of, distinct_prompts, prompt_of
from alignlab.errors import BadInput
from alignlab.types import Corpus, Count, Prompt

R = TypeVar("R")
OverlapRule = Literal["remove", "refuse", "keep"]
TRAINING = {
    "demonstrations": "demonstrations",
    "groups": "ranked groups",
    "labelled": "labelled responses",
    "commented": "responses with feedback in words",
    "prompts": "prompts",
}
"""Field of a corpus -> name of its records in counts."""
KEPT = "{} (kept)"


@dataclass(frozen=True)
class DataRoles:
    """Specs of the data of a study, by role."""

    seed: Specs
    """Demonstrations and ranked groups."""
    prompts: Specs = ""
    """Prompts for the rounds; empty: the seed data's own."""
    test: Specs = ""
    """Held-out prompts; empty: the seed data's own."""

    @property
    def name(self) -> str:
        """Return the specs as one text, the seed data's alone where it has all roles."""
        given = {"": self.seed, "prompts: ": self.prompts, "test: ": self.test}
        texts = {r: s if isinstance(s, str) else " + ".join(s) for r, s in given.items()}
        return "; ".join(f"{role}{text}" for role, text in texts.items() if text)


@dataclass
class _Source:
    """One source of a role, as read."""

    given: Weighted
    corpus: Corpus
    counts: list[Count] = field(default_factory=list)


def load_roles(roles: DataRoles, overlap: OverlapRule = "remove") -> Corpus:
    """Load the data of a study.

    Args:
        roles: specs by role.
        overlap: treatment of training records that overlap held-out prompts of another source.

    Raises:
        BadInput: bad data or weights, a source without prompts, or overlap that is to be refused.
    """
    seeds = sources_of(roles.seed, "data")
    if len(seeds) == 1 and not roles.prompts and not roles.test:
        return sources.load(seeds[0].spec)
    read: dict[str, Corpus] = {}

    def load(specs: Specs, setting: str) -> list[_Source]:
        found = []
        for given in sources_of(specs, setting):
            read[given.spec] = read.get(given.spec) or sources.load(given.spec)
            found.append(_Source(given, read[given.spec]))
        return found

    own, asked, tested = (
        load(specs, setting)
        for specs, setting in (
            (roles.seed, "data"), (roles.prompts, "prompts"), (roles.test, "test"),
        )
    )  # fmt: skip
    tests = _tests(own, tested)
    held_out = [(s.given.spec, p) for s, prompts in tests for p in prompts]
    held_out += [(s.given.spec, g.prompt) for s in own for g in s.corpus.test_groups]
    counts = [replace(c, what=f"{c.what} of {s.given.name}")
              for s in {s.given.spec: s for s in (*own, *asked, *tested)}.values()
              for c in s.corpus.counts]  # fmt: skip
    training = _training(own, asked)
    kept = {
        kind: _clean(kind, parts, held_out, overlap, counts) for kind, parts in training.items()
    }
    test_prompts = _mixed_tests(tests, counts)
    test_groups = mixed([s.corpus.test_groups for s in own], [s.given.weight for s in own])
    for setting, given, kind in (("prompts", asked, "prompts"), ("test", tested, "test_prompts")):
        lost = sum(len(getattr(s.corpus, kind)) for s in own) if given else 0
        if lost:
            what = f"{kind.replace('_', ' ')} of the seed data"
            counts.append(Count(STAGE, what, 0, {f"replaced by {setting}=": lost}))
    every = list(read.values())
    return Corpus(
        name=roles.name,
        **{kind: tuple(records) for kind, records in kept.items()},  # type: ignore[arg-type]
        test_prompts=tuple(test_prompts),
        test_groups=tuple(test_groups),
        counts=tuple(counts),
        files={path: digest for corpus in every for path, digest in corpus.files.items()},
        reserved=tuple(dict.fromkeys(w for s in (*own, *tested) for w in s.corpus.reserved)),
    )


def drawn(prompts: Sequence[Prompt], most: int) -> list[Prompt]:
    """Choose prompts by the hash of their content, in their order; all if `most` is 0.

    A benchmark's file is sorted by its parts, so that its beginning is no sample of it.
    """
    if not most or len(prompts) <= most:
        return list(prompts)
    chosen = sorted(range(len(prompts)), key=lambda i: prompts[i].cluster)[:most]
    return [prompts[i] for i in sorted(chosen)]


def _training(
    own: Sequence[_Source], asked: Sequence[_Source]
) -> dict[str, list[tuple[_Source, Sequence[Record]]]]:
    """Return the training records of every kind, by source."""
    found = {kind: [(s, getattr(s.corpus, kind)) for s in own] for kind in TRAINING}
    if asked:
        found["prompts"] = [(s, prompts_in(s.corpus, held_out=False)) for s in asked]
        for source, prompts in found["prompts"]:
            if not prompts:
                spec = source.given.spec
                raise BadInput(f"setting prompts: {spec}: expected prompts, found none")
    return found


def prompts_in(corpus: Corpus, *, held_out: bool) -> tuple[Prompt, ...]:
    """Collect the distinct prompts of a corpus, of any kind of record.

    Args:
        held_out: take the held-out part, where there is one; else the training part.
    """
    training: list[Record] = [r for kind in TRAINING for r in getattr(corpus, kind)]
    tests: list[Record] = [*corpus.test_prompts, *corpus.test_groups]
    return distinct_prompts((tests or training) if held_out else training)


def _tests(
    own: Sequence[_Source], tested: Sequence[_Source]
) -> list[tuple[_Source, Sequence[Prompt]]]:
    """Return the prompts on which models are measured, by source."""
    found: list[tuple[_Source, Sequence[Prompt]]] = [
        (s, prompts_in(s.corpus, held_out=True)) for s in tested
    ]
    for source, prompts in found:
        if not prompts:
            raise BadInput(f"setting test: {source.given.spec}: expected prompts, found none")
    return found if tested else [(s, s.corpus.test_prompts) for s in own]


def _clean(
    kind: str,
    parts: Sequence[tuple[_Source, Sequence[Record]]],
    held_out: Sequence[tuple[str, Prompt]],
    rule: OverlapRule,
    counts: list[Count],
) -> list[Record]:
    """Mix the records of a kind without repetitions and without overlap; count the others."""
    seen: set[str] = set()
    cleaned: list[list[Record]] = []
    for source, records in parts:
        index = OverlapIndex([prompt for spec, prompt in held_out if spec != source.given.spec])
        dropped: Counter[str] = Counter()
        changed: Counter[str] = Counter()
        kept = []
        for record in records:
            found = index.find(record)
            if found and rule == "refuse":
                raise BadInput(
                    f"{source.given.spec}: expected no prompt that overlaps a held-out one, found "
                    f"{prompt_of(record).text[:80]!r} ({found}); corpus.overlap=remove counts them"
                )
            content = content_of(record)
            if found and rule == "remove":
                dropped[found] += 1
            elif content in seen:
                dropped["duplicate of another source's"] += 1
            else:
                seen.add(content)
                kept.append(record)
                changed.update([KEPT.format(found)] if found else [])
        cleaned.append(kept)
        if records:
            what = f"{TRAINING[kind]} of {source.given.name}"
            counts.append(Count(STAGE, what, len(kept), dict(dropped), dict(changed)))
    return _weighed(cleaned, [s for s, _ in parts], TRAINING[kind], counts)


def _weighed(
    parts: Sequence[Sequence[R]], given: Sequence[_Source], what: str, counts: list[Count]
) -> list[R]:
    """Mix records by the sources' weights; count those beyond their source's share."""
    weights = [s.given.weight for s in given]
    found = mixed(parts, weights)
    over = sum(map(len, parts)) - len(found)
    if over:
        counts.append(Count(STAGE, f"{what}, mixed", len(found), {"beyond a weight's share": over}))
    return found


def _mixed_tests(
    tests: Sequence[tuple[_Source, Sequence[Prompt]]], counts: list[Count]
) -> list[Prompt]:
    """Mix the distinct held-out prompts of sources; count repetitions and later turns."""
    seen: set[str] = set()
    parts: list[list[Prompt]] = []
    for source, prompts in tests:
        new = [p for p in prompts if p.cluster not in seen]
        seen.update(p.cluster for p in new)
        parts.append(new)
        later = sum(bool(p.later_turns) for p in new)
        changed = {"later turns kept but not asked": later} if later else {}
        repeated = len(prompts) - len(new)
        dropped = {"duplicate of another source's": repeated} if repeated else {}
        what = f"test prompts of {source.given.name}"
        counts.append(Count(STAGE, what, len(new), dropped, changed))
    return _weighed(parts, [s for s, _ in tests], "test prompts", counts)
