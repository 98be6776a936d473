"""PandaLM, LLMBar and Auto-J: votes, ties and what their files really hold."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from alignlab.data import load
from alignlab.data.build_records import Origin, ResponseDraft
from alignlab.data.judged_pairs import (
    FIRST,
    NOT_TEXT,
    SECOND,
    TIE,
    JudgedPair,
    autoj_pair,
    llmbar_pair,
    pandalm_pair,
    read_judged_pairs,
)
from alignlab.errors import BadInput
from tests.conftest import shared_path
from tests.data.conftest import Write

ROW = {"instruction": "Say hello.", "input": "", "response1": "Hello!", "response2": "What?"}


def voted(*votes: float) -> JudgedPair:
    return JudgedPair("p", ResponseDraft("a"), ResponseDraft("b"), votes, Origin("test"))


@pytest.mark.parametrize(
    ("votes", "majority"),
    [
        ((FIRST,), FIRST),
        ((FIRST, SECOND, SECOND), SECOND),
        ((TIE, TIE, FIRST), TIE),
        ((FIRST, TIE, SECOND), TIE),
        ((FIRST, SECOND), TIE),
    ],
)
def test_majority(votes: tuple[float, ...], majority: float) -> None:
    assert voted(*votes).majority == majority


def test_pandalm_by_hand(write: Write) -> None:
    rows = [
        {**ROW, "cmp_key": "x_y", "annotator1": 2, "annotator2": 2, "annotator3": 0},
        {**ROW, "response2": True, "annotator1": 0, "annotator2": 0, "annotator3": 1},
        {**ROW, "response2": "", "annotator1": 1, "annotator2": 1, "annotator3": 1},
    ]
    corpus = load(f"pandalm:{write(rows)}")
    worse, tied = corpus.groups
    assert [(r.text, r.sampler.model) for r in worse.responses] == [("What?", "y"), ("Hello!", "x")]
    assert worse.scores == (1.0, 0.0)
    assert (tied.scores, tied.responses[1].text) == ((0.5, 0.5), "True")
    count = corpus.counts[-1]
    assert count.dropped == {"fewer than two different responses": 1}
    assert count.changed == {NOT_TEXT: 1}


def test_families_and_ties(write: Write) -> None:
    made = {"scenario": "s", "prompt": "p", "response 1": "a", "response 2": "b"}
    tied, first = load(f"autoj:{write([{**made, 'label': 2}, {**made, 'label': 0}])}").groups
    assert (tied.scores, first.scores) == ((0.5, 0.5), (1.0, 0.0))
    assert tied.prompt.source == "autoj/s"
    bar = {"input": "p", "output_1": "a", "output_2": "b", "label": 2}
    (group,) = load(f"llmbar:{write([bar])}").groups
    assert group.responses[0].text == "b"
    assert group.prompt.source.startswith("llmbar/")


def test_equal_answers_are_no_group(write: Write) -> None:
    bar = {"input": "p", "output_1": "a", "output_2": "a", "label": 2}
    count = load(f"llmbar:{write([bar])}").counts[-1]
    assert count.dropped == {"fewer than two different responses": 1}


def test_a_label_out_of_range_is_named(write: Write) -> None:
    bad = {**ROW, "annotator1": 3, "annotator2": 1, "annotator3": 1}
    with pytest.raises(BadInput, match="line 1, field 'annotator1': expected an integer from 0"):
        load(f"pandalm:{write([bad])}")
    bar = {"input": "p", "output_1": "a", "output_2": "b", "label": 0}
    with pytest.raises(BadInput, match="field 'label': expected an integer from 1 to 2"):
        load(f"llmbar:{write([bar])}")
    other = {"input": "p", "output_1": True, "output_2": "b", "label": 1}
    with pytest.raises(BadInput, match="field 'output_1': expected text"):
        load(f"llmbar:{write([other])}")


@pytest.mark.shared
def test_pandalm_as_published() -> None:
    file = shared_path("data/pandalm/testset-v1.json")
    pairs = read_judged_pairs(str(file), pandalm_pair)
    # Its authors' README: 105 ties, 422 and 472.
    assert Counter(pair.majority for pair in pairs) == {TIE: 105, FIRST: 422, SECOND: 472}
    rows = json.loads(file.read_text())
    unanimous = sum(r["annotator1"] == r["annotator2"] == r["annotator3"] for r in rows)
    assert sum(len(set(pair.votes)) == 1 for pair in pairs) == unanimous == 879
    count = load(f"pandalm:{file}").counts[-1]
    assert count.kept + sum(count.dropped.values()) == 999


@pytest.mark.shared
def test_llmbar_and_autoj_are_read_whole() -> None:
    files = sorted(shared_path("data/llmbar").glob("*.json"))
    sizes = {f.name: len(read_judged_pairs(str(f), llmbar_pair)) for f in files}
    assert sum(n for name, n in sizes.items() if name.startswith("LLMBar")) == 419
    assert sum(sizes.values()) == 419 + 200 + 200 + 66
    pairs = read_judged_pairs(str(shared_path("data/autoj/testdata_pairwise.jsonl.gz")), autoj_pair)
    assert Counter(pair.majority for pair in pairs) == {FIRST: 520, SECOND: 499, TIE: 373}
    assert len({pair.origin.source for pair in pairs}) == 58
