"""The corpus: sizes, balance, disjoint towns, ranks."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from alignlab import registry
from alignlab.errors import BadInput
from alignlab.sandbox.corpus import SandboxData, build_corpus, make_corpus
from alignlab.sandbox.oracle import assess
from alignlab.sandbox.questions import FAMILIES, parse_question
from alignlab.sandbox.world import world
from alignlab.types import Corpus, PreferenceGroup


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return make_corpus("")


def truth(group: PreferenceGroup) -> list[int]:
    question = parse_question(group.prompt.text)
    assert question is not None
    return [assess(group.prompt.text, question, r.text).score for r in group.responses]


def test_default_sizes(corpus: Corpus) -> None:
    assert len(corpus.demonstrations) == 300
    assert len(corpus.groups) == 600
    assert len(corpus.prompts) >= 1200
    assert len(corpus.test_prompts) >= 400
    assert {c.what: c.kept for c in corpus.counts}["prompts"] == len(corpus.prompts)


def test_no_text_is_shared_and_no_town_crosses(corpus: Corpus) -> None:
    train = [d.prompt for d in corpus.demonstrations] + [g.prompt for g in corpus.groups]
    train += corpus.prompts
    test = [*corpus.test_prompts, *(g.prompt for g in corpus.test_groups)]
    texts = [p.text for p in train + test]
    assert len(texts) == len(set(texts)) == len({p.id for p in train + test})
    answers = [d.response for d in corpus.demonstrations]
    answers += [r for g in corpus.groups for r in g.responses]
    for prompts, towns in ((train, world().test), (test, world().alignment)):
        words = {w.strip(".,?:!") for p in prompts for w in p.text.split()}
        assert not words & set(towns)
    words = {w.strip(".,?:!") for r in answers for w in r.text.split()}
    assert not words & set(world().test)


def test_families_are_balanced(corpus: Corpus) -> None:
    counts = Counter(p.source for p in corpus.test_prompts)
    assert set(counts) == {f"sandbox/{family}" for family in FAMILIES}
    assert max(counts.values()) - min(counts.values()) <= 1


def test_references_are_ideal(corpus: Corpus) -> None:
    for p in corpus.test_prompts:
        question = parse_question(p.text)
        assert question is not None
        assert p.reference is not None
        assert assess(p.text, question, p.reference).score == 5
        assert p.query_type == question.query_type


def test_people_rank_better_than_chance_and_not_perfectly(corpus: Corpus) -> None:
    agreements = []
    for group in corpus.groups:
        assert list(group.scores) == sorted(group.scores, reverse=True)
        assert all(0 <= score <= 5 for score in group.scores)
        assert len({r.text for r in group.responses}) == 4
        scores = truth(group)
        pairs = [(a, b) for i, a in enumerate(scores) for b in scores[i + 1 :] if a != b]
        agreements += [a > b for a, b in pairs]
    assert 0.8 < np.mean(agreements) < 0.99


def test_demonstrations_are_human(corpus: Corpus) -> None:
    scores = []
    for d in corpus.demonstrations:
        question = parse_question(d.prompt.text)
        assert question is not None
        scores.append(assess(d.prompt.text, question, d.response.text).score)
    assert 3.3 < np.mean(scores) < 4.0


def test_seeded_and_sized_by_options(corpus: Corpus) -> None:
    small = "?ift=7&groups=3&k=3&prompts=5&test=7&test_groups=2&seed=1"
    made = make_corpus(small)
    assert made == make_corpus(small.lstrip("?"))
    assert len(made.groups[0].responses) == 3
    assert made.demonstrations[0] != corpus.demonstrations[0]
    assert registry.get("data", "sandbox") is make_corpus


@pytest.mark.parametrize("rest", ["?iftt=3", "?k=1", "?ift=many", "?prompts=100000"])
def test_bad_options(rest: str) -> None:
    with pytest.raises(BadInput):
        make_corpus(rest)


def test_no_parts() -> None:
    empty = build_corpus(SandboxData(ift=0, groups=0, prompts=0, test=0, test_groups=0))
    assert empty.demonstrations == ()
    assert empty.test_groups == ()
