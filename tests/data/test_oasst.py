from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from alignlab.data import load
from alignlab.errors import BadInput
from alignlab.types import Corpus, Count
from tests.data.conftest import Write


def message(
    name: str, parent: str | None = None, rank: int | None = None, **more: Any
) -> dict[str, Any]:
    tree = name[0]
    return {
        "message_id": name,
        "parent_id": parent,
        "message_tree_id": tree,
        "text": f"text of {name}",
        "role": "prompter" if len(name) % 2 else "assistant",
        "lang": "en",
        "deleted": False,
        "review_result": True,
        "rank": rank,
        **more,
    }


def tree(root: str, **more: Any) -> list[dict[str, Any]]:
    """A prompt with answers of ranks 1, 0 and none, and a second turn under the best one."""
    best = root + "b"
    return [
        message(root, **more),
        message(root + "a", root, 1),
        message(best, root, 0),
        message(root + "c", root),
        message(best + "q", best),
        message(best + "qx", best + "q", 0),
        message(best + "qy", best + "q", 2),
    ]


def nested(messages: list[dict[str, Any]]) -> dict[str, Any]:
    def grow(node: dict[str, Any]) -> dict[str, Any]:
        below = [grow(m) for m in messages if m["parent_id"] == node["message_id"]]
        return {k: v for k, v in node.items() if k != "message_tree_id"} | {"replies": below}

    return {"message_tree_id": messages[0]["message_tree_id"], "prompt": grow(messages[0])}


def counts(corpus: Corpus) -> dict[str, Count]:
    for count in corpus.counts:
        assert count.stage == "data"
        assert all(number > 0 for number in count.dropped.values())
    return {count.what: count for count in corpus.counts}


def no_test(write: Write, messages: list[dict[str, Any]], more: str = "") -> Corpus:
    return load(f"{write(messages)}?test_share=0{more}")


def test_one_tree(write: Write) -> None:
    corpus = no_test(write, tree("A"))
    assert corpus.name == "oasst"
    (target,) = corpus.demonstrations
    assert (target.prompt.text, target.response.text) == ("text of A", "text of Ab")
    assert target.response.sampler.model == "human"
    (group,) = corpus.groups
    assert [r.text for r in group.responses] == ["text of Ab", "text of Aa"]
    assert group.scores == (0.0, -1.0)
    assert group.responses[0] == target.response
    assert corpus.prompts == ()
    found = counts(corpus)
    assert found["messages"] == Count("data", "messages", 7)
    assert found["trees"].kept == 1
    assert found["eft groups"].changed == {"unranked answer left out": 1}
    assert found["prompts"].dropped == {"used for ift": 1}


def test_flat_and_nested_give_the_same(write: Write) -> None:
    flat = no_test(write, tree("A"))
    path = write([nested(tree("A"))], "trees.jsonl")
    again = load(f"oasst:{path}?test_share=0")
    assert (again.demonstrations, again.groups) == (flat.demonstrations, flat.groups)
    assert [c for c in again.counts if c.what != "rows"] == list(flat.counts)


def test_all_turns(write: Write) -> None:
    corpus = no_test(write, tree("A"), "&turns=all")
    first, second = corpus.groups
    assert first.prompt.text == "text of A"
    assert [m.content for m in second.prompt.messages] == [
        "text of A",
        "text of Ab",
        "text of Abq",
    ]
    assert second.scores == (0.0, -2.0)  # a missing rank leaves a gap, it is no tie
    assert counts(corpus)["eft groups"].kept == 2
    assert len(corpus.demonstrations) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"lang": "de"}, "not English"),
        ({"deleted": True}, "deleted"),
        ({"review_result": None}, "not reviewed"),
        ({"review_result": False}, "failed review"),
        ({"text": " "}, "empty"),
    ],
)
def test_unusable_root_takes_its_tree_along(
    write: Write, change: dict[str, Any], reason: str
) -> None:
    corpus = no_test(write, [*tree("A"), *tree("B", **change)])
    found = counts(corpus)
    assert found["messages"].kept == 7
    assert found["messages"].dropped == {reason: 1, "under a missing or dropped message": 6}
    assert found["trees"].dropped == {"root not usable": 1}
    assert len(corpus.demonstrations) == 1


def test_unusable_answers(write: Write) -> None:
    messages = tree("A")
    messages[2]["deleted"] = True  # the best answer
    corpus = no_test(write, messages)
    found = counts(corpus)
    assert found["messages"].dropped == {"deleted": 1, "under a missing or dropped message": 3}
    assert found["ift"].dropped == {"no answer of rank 0": 1}
    assert found["eft groups"].dropped == {"fewer than two ranked answers": 1}
    assert [p.text for p in corpus.prompts] == ["text of A"]
    assert corpus.prompts[0].reference is None


def test_lost_parents_and_circles(write: Write) -> None:
    lost = message("Bb", "B", 0)
    circle = [message("Cc", "Ccc", 0), message("Ccc", "Cc")]
    found = counts(no_test(write, [*tree("A"), lost, *circle]))
    assert found["messages"].dropped == {
        "under a missing or dropped message": 1,
        "parents in a circle": 2,
    }
    assert found["trees"].dropped == {"root missing": 2}


def test_other_languages(write: Write) -> None:
    messages = [{**m, "lang": "de"} for m in tree("A")]
    assert no_test(write, messages).demonstrations == ()
    assert len(no_test(write, messages, "&english=false").demonstrations) == 1


def many(number: int) -> list[dict[str, Any]]:
    letters = [chr(0x4E00 + n) for n in range(number)]
    return [m for letter in letters for m in tree(letter)]


def test_split_by_tree(write: Write) -> None:
    path = write(many(200))
    corpus = load(f"{path}?test_share=0.25&turns=all")
    train = {g.prompt.messages[0].content for g in corpus.groups}
    test = {g.prompt.messages[0].content for g in corpus.test_groups}
    assert not train & test
    assert len(train) + len(test) == 200
    assert 30 <= len(test) <= 70
    assert {p.text for p in corpus.test_prompts} == test
    assert all(p.reference == p.text + "b" for p in corpus.test_prompts)
    assert {d.prompt.text for d in corpus.demonstrations} == train
    assert corpus == load(f"{path}?test_share=0.25&turns=all")
    other = load(f"{path}?test_share=0.25&turns=all&seed=1")
    assert {g.prompt.messages[0].content for g in other.test_groups} != test
    more = load(f"{path}?test_share=0.5&turns=all")
    assert test < {g.prompt.messages[0].content for g in more.test_groups}


def test_pool(write: Write) -> None:
    path = write(many(100))
    half = load(f"{path}?test_share=0.2&ift_share=0.5")
    used = {d.prompt.id for d in half.demonstrations}
    pool = {p.id for p in half.prompts}
    assert not used & pool
    assert len(used) + len(pool) + len(half.test_prompts) == 100
    assert counts(half)["ift"].dropped["left for the prompt pool"] == len(pool)
    everything = load(f"{path}?test_share=0.2&ift_share=0.5&pool=all")
    assert {p.id for p in everything.prompts} == used | pool


def test_every_count_adds_up(write: Write) -> None:
    corpus = load(f"{write(many(50))}?test_share=0.3&turns=all")
    found = counts(corpus)
    totals = {what: count.kept + sum(count.dropped.values()) for what, count in found.items()}
    assert totals == {"messages": 350, "trees": 50, "ift": 50, "eft groups": 100, "prompts": 50}


def test_a_prompt_in_two_trees_stays_on_one_side(write: Write) -> None:
    messages = [{**m, "text": "same" if m["parent_id"] is None else m["text"]} for m in many(40)]
    corpus = load(f"{write(messages)}?test_share=0.3")
    assert corpus.demonstrations == ()
    assert len(corpus.test_prompts) == 1
    assert counts(corpus)["ift"].dropped["prompt is held out"] > 0
    alone = load(f"{write(messages)}?test_share=0")
    assert len(alone.demonstrations) == 40
    assert len({g.id for g in alone.groups}) == 40


def test_bad_messages(write: Write) -> None:
    rows = tree("A")
    rows[1]["role"] = "tool"
    path = write(rows)
    with pytest.raises(BadInput, match="line 2, field 'role': expected prompter or assistant"):
        load(str(path))
    corpus = load(f"{path}?bad=drop&test_share=0")
    assert counts(corpus)["messages"].dropped == {"bad record": 1}
    with pytest.raises(
        BadInput, match="line 8, field 'message_id': expected an id that comes once"
    ):
        load(str(write([*tree("A"), message("A")])))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("?test_share=2", "test_share: expected 0 to 1"),
        ("?ift_share=-1", "ift_share: expected 0 to 1"),
        ("?test_share=0&seed=3", "seed: has no effect"),
        ("?turns=some", "turns"),
        ("?englisch=true", "did you mean 'english'"),
    ],
)
def test_bad_options(write: Write, options: str, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        load(f"oasst:{write(tree('A'))}{options}")


def test_ids_are_of_the_content(write: Write) -> None:
    one = no_test(write, tree("A"))
    renamed = [
        {k: (v + "!" if v and k.endswith("_id") else v) for k, v in m.items()} for m in tree("A")
    ]
    assert no_test(write, renamed).demonstrations == one.demonstrations
    ids = Counter(r.id for g in one.groups for r in g.responses)
    assert set(ids.values()) == {1}
