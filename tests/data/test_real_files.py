"""The published files, recounted here by code of another kind."""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from alignlab.data import check, convert, load
from alignlab.types import Corpus, Count
from tests import conftest

pytestmark = pytest.mark.shared

FLAT = "oasst/oasst1_en_validation_messages.jsonl.gz"
NESTED = "oasst/oasst_en_100_tree.jsonl"


def shared_path(relative: str) -> Path:
    return conftest.shared_path(f"data/{relative}")


def raw(relative: str) -> list[dict[str, Any]]:
    path = shared_path(relative)
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    if ".jsonl" in path.name:
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    return json.loads(text)  # type: ignore[no-any-return]


def counts(corpus: Corpus) -> dict[str, Count]:
    return {count.what: count for count in corpus.counts}


def total(count: Count) -> int:
    return count.kept + sum(count.dropped.values())


def test_oasst_messages_recounted() -> None:
    corpus = load(f"oasst:{shared_path(FLAT)}?english=true&test_share=0&turns=all")
    rows = {row["message_id"]: row for row in raw(FLAT)}
    good = {
        i for i, r in rows.items() if r["lang"] == "en" and not r["deleted"] and r["review_result"]
    }

    def whole(identity: str | None) -> bool:
        while identity is not None:
            if identity not in good:
                return False
            identity = rows[identity]["parent_id"]
        return True

    usable = {identity for identity in rows if whole(identity)}
    found = counts(corpus)
    assert total(found["messages"]) == len(rows) == 2022
    assert found["messages"].kept == len(usable)
    assert found["messages"].dropped["deleted"] == sum(r["deleted"] for r in rows.values()) == 40

    siblings: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for identity in usable:
        row = rows[identity]
        if row["role"] == "assistant" and row["rank"] is not None:
            siblings[row["parent_id"]].append(row)
    ranked = [
        sorted(group, key=lambda r: int(r["rank"])) for group in siblings.values() if len(group) > 1
    ]
    assert Counter(tuple(r.text for r in g.responses) for g in corpus.groups) == Counter(
        tuple(dict.fromkeys(r["text"] for r in group)) for group in ranked
    )
    assert len(corpus.groups) == len(ranked)
    prompts = [i for i in usable if rows[i]["role"] == "prompter"]
    assert total(found["eft groups"]) == len(prompts)

    roots = [i for i in usable if rows[i]["parent_id"] is None]
    best = [
        (rows[r["parent_id"]]["text"], r["text"])
        for group in siblings.values()
        for r in group
        if r["rank"] == 0 and r["parent_id"] in roots
    ]
    assert sorted((d.prompt.text, d.response.text) for d in corpus.demonstrations) == sorted(best)
    assert total(found["ift"]) == total(found["prompts"]) == len(roots) == 188
    assert total(found["trees"]) == len({r["message_tree_id"] for r in rows.values()}) == 191


def test_oasst_split_recounted() -> None:
    whole = load(f"oasst:{shared_path(FLAT)}?test_share=0")
    split = load(f"oasst:{shared_path(FLAT)}?test_share=0.25&seed=3")
    together = {g.prompt.text for g in (*split.groups, *split.test_groups)}
    assert together == {g.prompt.text for g in whole.groups}
    training = {d.prompt.id for d in split.demonstrations} | {g.prompt.id for g in split.groups}
    training |= {p.id for p in split.prompts}
    assert not training & {p.id for p in split.test_prompts}
    assert len(training) + len(split.test_prompts) == 188
    assert 0.15 < len(split.test_prompts) / 188 < 0.35


def test_oasst_nested_recounted() -> None:
    corpus = load(f"{shared_path(NESTED)}?test_share=0&turns=all")
    sizes: list[int] = []
    messages = 0

    def walk(message: dict[str, Any]) -> None:
        nonlocal messages
        messages += 1
        ranks = [r["rank"] for r in message["replies"] if r.get("rank") is not None]
        if message["role"] == "prompter" and len(ranks) > 1:
            sizes.append(len(ranks))
        for reply in message["replies"]:
            walk(reply)

    for tree in raw(NESTED):
        walk(tree["prompt"])
    found = counts(corpus)
    assert messages == found["messages"].kept == 1167
    left_out = found["eft groups"].changed.get("repeated response left out", 0)
    assert sum(len(g.responses) for g in corpus.groups) == sum(sizes) - left_out
    assert len(corpus.groups) == len(sizes)
    assert {g.responses[0].sampler.model for g in corpus.groups} == {"human", "chip20b"}


def test_hh_harmless() -> None:
    path = shared_path("hh_harmless/hh_harmless_test.jsonl.gz")
    corpus = load(str(path))
    rows = raw("hh_harmless/hh_harmless_test.jsonl.gz")
    empty = sum(not row["chosen"].strip() for row in rows)
    diverging = sum(not row["same_last_context"] for row in rows)
    count = corpus.counts[-1]
    assert corpus.name == "hh"
    assert total(count) == len(rows) == 1812
    assert count.dropped == {"empty chosen response": empty, "contexts differ": diverging}
    expected = json.loads(shared_path("expected.json").read_text())["hh_harmless"]
    assert (empty, diverging) == (expected["empty_chosen"], expected["diverging_context"])
    assert len({group.id for group in corpus.groups}) == count.kept
    assert all(group.prompt.messages[-1].role == "user" for group in corpus.groups)
    # The dialogues whole, as Anthropic publishes them, say the same.
    assert corpus.groups[0].responses[0].text == rows[0]["chosen"].strip()


def test_hh_whole_dialogues(tmp_path: Any) -> None:
    rows = raw("hh_harmless/hh_harmless_test.jsonl.gz")
    whole = tmp_path / "whole.jsonl"
    whole.write_text(
        "".join(
            json.dumps({side: row["prompt"] + row[side] for side in ("chosen", "rejected")}) + "\n"
            for row in rows
        )
    )
    assert (
        load(str(whole)).groups
        == load(str(shared_path("hh_harmless/hh_harmless_test.jsonl.gz"))).groups
    )
    assert load(str(whole)).counts[-1].dropped["contexts differ"] == 2


def test_ultrafeedback_folder() -> None:
    folder = shared_path("ultrafeedback_binarized_1200")
    corpus = load(str(folder))
    train = raw("ultrafeedback_binarized_1200/train_clean.jsonl.gz")
    test = raw("ultrafeedback_binarized_1200/eval_clean.jsonl")

    def good(row: dict[str, Any]) -> bool:
        texts = [row["chosen"], row["rejected"]]
        return texts[0] != texts[1] and all(text.strip(" \n\u200b") for text in texts)

    assert len(corpus.groups) == sum(map(good, train))
    assert len(corpus.test_groups) == sum(map(good, test))
    count = corpus.counts[-1]
    assert total(count) == 1200
    assert check(str(folder)).overlap == 0


def test_alpacaeval_listwise() -> None:
    path = shared_path("alpacaeval/alpacaeval_listwise.jsonl.gz")
    corpus = load(str(path))
    rows = raw("alpacaeval/alpacaeval_listwise.jsonl.gz")
    assert (len(corpus.groups), len(corpus.test_groups)) == (605, 200)
    distinct = sum(len({r["text"] for r in row["responses"]}) for row in rows)
    assert sum(len(g.responses) for g in (*corpus.groups, *corpus.test_groups)) == distinct
    best = Counter(
        max(row["responses"], key=lambda r: float(r["score"]))["model"]
        for row in rows
        if row["split"] == "test"
    )
    assert Counter(g.responses[0].sampler.model for g in corpus.test_groups) == best


def test_alpacaeval_annotations() -> None:
    name = "alpacaeval/original/falcon-7b-instruct.annotations.json.gz"
    corpus = load(str(shared_path(name)))
    rows = raw(name)
    wins = sum(row["preference"] > 1.5 for row in rows)
    assert sum(g.responses[0].sampler.model == "falcon-7b-instruct" for g in corpus.groups) == wins
    assert corpus.counts[-1].dropped == {"tie": sum(row["preference"] == 1.5 for row in rows)}


@pytest.mark.parametrize(
    ("name", "layout", "kept", "dropped"),
    [
        ("instructions/alpaca_5000.json.gz", "alpaca", 4998, {"empty response": 2}),
        ("instructions/alpaca_en_demo_999.json", "alpaca", 985, {"duplicate": 14}),
        ("instructions/lima_1029.json.gz", "alpaca", 1029, {}),
        ("instructions/self_instruct__seed_tasks.jsonl", "self_instruct", 175, {}),
        ("query_type/alpacafarm_val_2000.jsonl.gz", "prompts", 2000, {}),
        ("query_type/alpacaeval_400.jsonl.gz", "prompts", 400, {}),
    ],
)
def test_others_are_recognised(name: str, layout: str, kept: int, dropped: dict[str, int]) -> None:
    corpus = load(str(shared_path(name)))
    count = corpus.counts[-1]
    assert (corpus.name, count.kept, count.dropped) == (layout, kept, dropped)


def test_query_types_and_references_are_read() -> None:
    rows = raw("query_type/alpacafarm_val_2000.jsonl.gz")
    prompts = load(str(shared_path("query_type/alpacafarm_val_2000.jsonl.gz"))).prompts
    assert Counter(p.query_type for p in prompts) == Counter(r["query_type"] for r in rows)
    assert [p.reference for p in prompts] == [r["reference"] or None for r in rows]


def test_ranked_lists_keep_their_order() -> None:
    corpus = load(str(shared_path("oasst/oasst_rm_zh_ranked_lists.json.gz")))
    rows = raw("oasst/oasst_rm_zh_ranked_lists.json.gz")
    assert total(corpus.counts[-1]) == len(rows) == 775
    first = {row["instruction"]: row["output"][0] for row in rows[:5]}
    for group in corpus.groups[:5]:
        assert group.responses[0].text == first[group.prompt.text]


def test_conversion_of_oasst(tmp_path: Any) -> None:
    spec = f"oasst:{shared_path(FLAT)}?turns=all"
    corpus = load(spec)
    out = tmp_path / "groups.parquet"
    convert(spec, out, to="groups")
    again = load(str(out))
    assert again.groups == corpus.groups
    convert(spec, tmp_path / "messages.jsonl", to="messages")
    targets = load(str(tmp_path / "messages.jsonl")).demonstrations
    assert [t.prompt for t in targets] == [d.prompt for d in corpus.demonstrations]
    assert [t.response.id for t in targets] == [d.response.id for d in corpus.demonstrations]
