"""Data by role: mixtures by weight, replaced parts, and overlap between roles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alignlab.data.mixing import Weighted, mixed, sources_of
from alignlab.data.overlap import OverlapIndex
from alignlab.data.roles import DataRoles, drawn, load_roles
from alignlab.errors import BadInput
from alignlab.types import Corpus, Count, Message, Prompt

HELD_OUT = "Explain in simple words why the sky looks blue during the day and red at sunset"
"""16 words."""


def prompt(text: str) -> Prompt:
    return Prompt(text, (Message("user", text),))


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def pairs(*prompts: str) -> list[dict[str, Any]]:
    return [{"prompt": p, "completion": f"answer to {p}"} for p in prompts]


def count(corpus: Corpus, what: str) -> Count:
    (found,) = [c for c in corpus.counts if c.what == what]
    return found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (HELD_OUT.upper() + "?!", "same as a held-out prompt"),
        # The first 9 of 16 words: two 8-grams cover 9 words, more than half.
        (
            "Please: explain in simple words why the sky looks blue!",
            "shares 8-grams with a held-out prompt",
        ),
        # The first 8 of 16 words: one 8-gram covers half, which is not more than half.
        ("Please explain in simple words why the sky looks", None),
        # One of 16 words changed at the sixth place: the last ten words are covered.
        (HELD_OUT.replace("why", "how"), "shares 8-grams with a held-out prompt"),
        ("Why is the sky blue?", None),
        ("¿¿??", None),
    ],
)
def test_overlap_by_hand(text, found):
    assert OverlapIndex([prompt(HELD_OUT)]).find(prompt(text)) == found


def test_questions_with_other_operators_are_not_the_same():
    index = OverlapIndex([prompt("What is 35 - 37?"), prompt("A well-known state?")])
    assert index.find(prompt("what is 35-37")) == "same as a held-out prompt"
    assert index.find(prompt("What is 35 + 37?")) == "nearly a held-out prompt"
    assert index.find(prompt("What is 35 / 37?")) == "nearly a held-out prompt"
    assert index.find(prompt("a well known state")) == "same as a held-out prompt"


def test_a_short_prompt_with_one_word_changed_is_near():
    index = OverlapIndex([prompt("name the two largest cities on the east coast today")])
    # 10 words, no common 8-gram; the common subsequence has 9: F = 0.9.
    near = "name the two largest cities near the east coast today"
    assert index.find(prompt(near)) == "nearly a held-out prompt"
    assert index.find(prompt("name the two largest lakes near the east coast today")) is None


def test_the_instruction_of_a_task_is_no_overlap():
    asked = "Translate this text from German into English. Write the translation alone."
    texts = [f"{asked}\n\nSatz {word} steht hier." for word in map(chr, range(97, 109))]
    index = OverlapIndex([prompt(text) for text in texts])
    assert index.find(prompt(f"{asked}\n\nDie Ware kam gestern an.")) is None
    assert index.find(prompt(f"{asked}\n\nDie Ware.")) is None
    assert index.find(prompt(texts[3].upper())) == "same as a held-out prompt"
    # What follows the instruction is compared as before.
    one = "der lange Satz von der Ware die gestern nicht in das Lager kam"
    index = OverlapIndex([prompt(text) for text in [*texts, f"{asked}\n\n{one}"]])
    found = index.find(prompt(f"{asked}\n\nWar es nicht so, {one.replace('Lager', 'Haus')}?"))
    assert found == "shares 8-grams with a held-out prompt"
    # In a few prompts, common words are those of one prompt and its copies.
    few = OverlapIndex([prompt(text) for text in texts[:9]])
    assert few.find(prompt(f"{asked}\n\nDie Ware.")) == "shares 8-grams with a held-out prompt"
    again = OverlapIndex([prompt(texts[0])] * 20)
    assert again.find(prompt(f"{asked} Now.")) == "shares 8-grams with a held-out prompt"


def test_every_user_turn_of_a_conversation_counts():
    turns = (Message("user", HELD_OUT), Message("assistant", "Scattering."), Message("user", "Ok"))
    assert OverlapIndex([prompt(HELD_OUT)]).find(Prompt("p", turns)) == "same as a held-out prompt"


def test_weights_are_shares_and_nothing_is_repeated():
    assert mixed([list("abcdef"), list("xyz")], [None, None]) == list("axbcyde" + "zf")
    # Shares 3 : 1 of 6 and 3 records: 6 of the first, 2 of the second.
    found = mixed([list("abcdef"), list("xyz")], [0.75, 0.25])
    assert (sorted(found), found[:4].count("x")) == (list("abcdefxy"), 1)
    assert mixed([[], list("xy")], [0.9, 0.1]) == ["x", "y"]
    assert mixed([[], []], [None, None]) == []


def test_weights_are_read_off_specs():
    assert sources_of("a.jsonl", "data") == (Weighted("a.jsonl", None),)
    assert sources_of(("a?weight=0.3", "b?limit=5&weight=2"), "data") == (
        Weighted("a", 0.3),
        Weighted("b?limit=5", 2.0),
    )
    assert Weighted("oasst:/x/y/trees.jsonl?seed=1", None).name == "oasst:trees.jsonl?seed=1"


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (("a?weight=0.3", "b"), "expected a weight on each source, or none"),
        (("a?weight=0.3",), "expected no weight on one source"),
        (("a?weight=0", "b?weight=1"), "expected a weight above 0, found weight=0 in a"),
        (("a?weight=x", "b?weight=1"), "found weight=x"),
        (("a", "a"), "expected different sources"),
    ],
)
def test_weights_without_meaning_are_refused(specs, message):
    with pytest.raises(BadInput, match=message):
        sources_of(specs, "data")


def test_roles_replace_the_seed_datas_own_parts(tmp_path):
    seed = write(tmp_path / "seed.jsonl", pairs("one", "two", "three", "four"))
    rounds = write(tmp_path / "rounds.jsonl", [{"prompt": "five"}, {"prompt": "two"}])
    test = write(tmp_path / "test.jsonl", pairs("six", "four"))
    corpus = load_roles(DataRoles(seed, rounds, test))
    assert [d.prompt.text for d in corpus.demonstrations] == ["one", "two", "three"]
    assert [p.text for p in corpus.prompts] == ["five", "two"]
    assert [p.text for p in corpus.test_prompts] == ["six", "four"]
    # An answer of a held-out record is its reference.
    assert corpus.test_prompts[0].reference == "answer to six"
    removed = count(corpus, "demonstrations of seed.jsonl")
    assert (removed.kept, removed.dropped) == (3, {"same as a held-out prompt": 1})
    assert set(corpus.files) == {seed, rounds, test}
    assert corpus.name == f"{seed}; prompts: {rounds}; test: {test}"


def test_held_out_parts_are_taken_where_a_test_source_has_some(tmp_path):
    seed = write(tmp_path / "seed.jsonl", pairs("one", "two"))
    every = write(tmp_path / "all.jsonl", pairs(*(f"question {i}" for i in range(40))))
    part = load_roles(DataRoles(seed, "", f"{every}?test_share=0.3"))
    assert 0 < len(part.test_prompts) < 40
    assert len(load_roles(DataRoles(seed, "", every)).test_prompts) == 40


def test_overlap_can_be_kept_or_refused(tmp_path):
    seed = write(tmp_path / "seed.jsonl", pairs("one", "two"))
    test = write(tmp_path / "test.jsonl", [{"prompt": "Two?"}])
    kept = load_roles(DataRoles(seed, "", test), "keep")
    assert len(kept.demonstrations) == 2
    changed = count(kept, "demonstrations of seed.jsonl").changed
    assert changed == {"same as a held-out prompt (kept)": 1}
    with pytest.raises(BadInput, match=r"seed.jsonl: expected no prompt that overlaps .* 'two'"):
        load_roles(DataRoles(seed, "", test), "refuse")


def test_several_sources_are_distinct_and_counted(tmp_path):
    first = write(tmp_path / "first.jsonl", pairs("one", "two", "three"))
    second = write(tmp_path / "second.jsonl", pairs("three", "four", "five"))
    corpus = load_roles(DataRoles((first, second)))
    assert sorted(d.prompt.text for d in corpus.demonstrations) == sorted(
        ["one", "two", "three", "four", "five"]
    )
    repeated = count(corpus, "demonstrations of second.jsonl")
    assert (repeated.kept, repeated.dropped) == (2, {"duplicate of another source's": 1})
    weighed = load_roles(DataRoles((f"{first}?weight=3", f"{second}?weight=1")))
    assert len(weighed.demonstrations) == 4
    over = count(weighed, "demonstrations, mixed")
    assert (over.kept, over.dropped) == (4, {"beyond a weight's share": 1})


def test_one_source_alone_is_read_as_ever(tmp_path):
    seed = write(tmp_path / "seed.jsonl", pairs("one", "two"))
    corpus = load_roles(DataRoles(seed))
    assert [c.what for c in corpus.counts] == ["records"]
    assert load_roles(DataRoles("sandbox")).reserved


def test_later_turns_are_kept_and_counted(tmp_path):
    seed = write(tmp_path / "seed.jsonl", pairs("one", "two"))
    rows = [
        {
            "question_id": 1,
            "category": "math",
            "turns": ["2+2?", "And 3?"],
            "reference": ["4", "7"],
        },
        {"question_id": 2, "category": "other", "turns": ["Hi"]},
    ]
    corpus = load_roles(DataRoles(seed, "", write(tmp_path / "question.jsonl", rows)))
    math, other = corpus.test_prompts
    assert (math.text, math.later_turns, math.reference) == ("2+2?", ("And 3?",), "4")
    assert (other.later_turns, other.reference) == ((), None)
    changed = count(corpus, "test prompts of question.jsonl").changed
    assert changed == {"later turns kept but not asked": 1}
    bad = write(tmp_path / "bad.jsonl", [{"question_id": 1, "turns": "Hi"}])
    with pytest.raises(BadInput, match=r"bad.jsonl, line 1, field 'turns'"):
        load_roles(DataRoles(seed, "", bad))


def test_a_part_of_a_benchmark_is_no_beginning_of_it():
    prompts = [prompt(f"question {i}") for i in range(100)]
    chosen = drawn(prompts, 10)
    assert len(chosen) == 10
    assert chosen != prompts[:10]
    assert chosen == drawn(prompts, 10)
    assert [prompts.index(p) for p in chosen] == sorted(prompts.index(p) for p in chosen)
    assert drawn(prompts, 0) == prompts
