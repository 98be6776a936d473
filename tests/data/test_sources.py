from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from alignlab import registry
from alignlab.data import load
from alignlab.data.formats import Format
from alignlab.errors import BadInput
from alignlab.types import Corpus
from tests.data.conftest import Write

PAIRS = [{"prompt": f"p{n}", "chosen": "good", "rejected": "bad"} for n in range(40)]


def test_named_and_recognised_are_the_same(write: Write) -> None:
    path = write(PAIRS)
    assert load(str(path)) == load(f"preference:{path}")
    assert registry.get("data", "preference")(str(path)) == load(str(path))


def test_unknown_format_names_the_nearest(write: Write) -> None:
    with pytest.raises(BadInput, match="unknown data format 'preferences'; did you mean 'prefer"):
        load(f"preferences:{write(PAIRS)}")


def test_unknown_columns_list_the_layouts(write: Write) -> None:
    path = write([{"question": "x", "answer": "y"}])
    with pytest.raises(BadInput) as caught:
        load(str(path))
    assert "found question, answer; name the layout as NAME:PATH" in str(caught.value)


def test_options_are_checked(write: Write) -> None:
    path = write(PAIRS)
    for options, complaint in (
        ("limt=3", "did you mean 'limit'"),
        ("limit=0", "limit: expected at least 1"),
        ("limit=many", "setting limit"),
        ("test_share=1", "test_share: expected 0 <= share < 1"),
        ("seed=3", "seed: has no effect without test_share"),
        ("bad=skip", "setting bad"),
        ("limit", "expected key=value"),
        ("hub_split=test", "are for hub ids"),
        ("min_ratio=2", "unknown setting"),
    ):
        with pytest.raises(BadInput, match=complaint):
            load(f"{path}?{options}")
    with pytest.raises(BadInput, match="expected a path"):
        load("preference:?limit=3")


def test_limit(write: Write) -> None:
    corpus = load(f"{write(PAIRS)}?limit=3")
    assert [g.prompt.text for g in corpus.groups] == ["p0", "p1", "p2"]
    assert corpus.counts[-1].dropped == {"over the limit": 37}


def test_test_share_is_by_prompt_and_seed(write: Write) -> None:
    path = write([*PAIRS, {"prompt": "p0", "chosen": "better", "rejected": "bad"}])
    corpus = load(f"{path}?test_share=0.5")
    train = {g.prompt.text for g in corpus.groups}
    test = {g.prompt.text for g in corpus.test_groups}
    assert train | test == {f"p{n}" for n in range(40)}
    assert not train & test
    assert 10 < len(test) < 30
    other = load(f"{path}?test_share=0.5&seed=1")
    assert {g.prompt.text for g in other.test_groups} != test
    count = corpus.counts[-1]
    assert count.kept + count.dropped["held out for testing"] == 41


def test_demonstrations_held_out_become_prompts_with_references(write: Write) -> None:
    path = write([{"prompt": f"p{n}", "completion": f"c{n}"} for n in range(20)])
    corpus = load(f"{path}?test_share=0.5")
    assert corpus.test_prompts
    assert all(p.reference == p.text.replace("p", "c") for p in corpus.test_prompts)


def test_folder_split_and_shared_prompts(write: Write) -> None:
    path = write(PAIRS, "d/train.jsonl")
    write(PAIRS[:3], "d/test.jsonl")
    corpus = load(str(path.parent))
    assert len(corpus.test_groups) == 3
    assert len(corpus.groups) == 37
    count = corpus.counts[-1]
    assert count.dropped == {"prompt is held out": 3, "held out for testing": 3}


def test_ignored_files_are_counted(write: Write) -> None:
    path = write(PAIRS, "d/a.jsonl")
    write("x", "d/LICENSE")
    files = load(str(path.parent)).counts[0]
    assert (files.what, files.kept, files.dropped) == ("files", 1, {"not a data file": 1})


def test_ids_are_unique_and_stable(write: Write) -> None:
    same_prompt = [
        {"prompt": "p", "chosen": "a", "rejected": "b"},
        {"prompt": "p", "chosen": "b", "rejected": "a"},
        {"prompt": "p", "chosen": "a", "rejected": "c"},
        {"prompt": "p", "chosen": "a", "rejected": "b"},
    ]
    corpus = load(str(write(same_prompt)))
    assert len({g.id for g in corpus.groups}) == len(corpus.groups) == 3
    responses = [r for g in corpus.groups for r in g.responses]
    assert len({r.id for r in responses}) == 6
    for group in corpus.groups:
        assert {r.prompt_id for r in group.responses} == {group.prompt.id}
    alone = load(str(write(same_prompt[:1], "alone.jsonl"))).groups[0]
    assert alone == corpus.groups[0]
    assert alone.prompt.id == hashlib.sha256(b'["user", "p"]').hexdigest()[:16]


def test_bad_drop_and_nothing_left(write: Write) -> None:
    path = write("nope\n")
    with pytest.raises(BadInput, match="at least one readable record"):
        load(f"{path}?bad=drop")


def test_a_source_without_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def world(rest: str) -> Corpus:
        asked.append(rest)
        return Corpus("world")

    monkeypatch.setitem(registry._parts, ("data", "world"), world)
    assert [load(spec).name for spec in ("world", "world?seed=1", "world:x?y=1")] == ["world"] * 3
    assert asked == ["", "?seed=1", "x?y=1"]


def test_a_path_wins_over_a_name(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(PAIRS, "groups")
    monkeypatch.chdir(path.parent)
    Path("groups").rename("oasst")
    Path("groups").mkdir()
    Path("oasst").rename("groups/a.jsonl")
    assert len(load("groups").groups) == 40


def test_every_layout_says_what_it_is() -> None:
    for name in registry.names("data"):
        part = registry.get("data", name)
        if isinstance(part, Format):
            assert part.name == name
            assert part.__doc__ == part.doc
            assert part.doc.endswith(".")


def test_ambiguous_columns_ask_for_a_name(write: Write) -> None:
    path = write([{"conversations": [], "messages": []}])
    with pytest.raises(BadInput, match=r"fit several layouts; write messages:.* or sharegpt:"):
        load(str(path))
