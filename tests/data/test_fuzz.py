"""Ten thousand broken records in every layout: read or refused, each on one line, none let in.

The records are drawn from a seed: an example of each layout with values, fields and nested values
replaced by what files of others are known to hold.
"""

from __future__ import annotations

import copy
import csv
import io
import json
import math
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignlab import registry
from alignlab.data import check, load, load_rows
from alignlab.data.formats import Format
from alignlab.data.split_dedupe import prompt_of
from alignlab.data.templated import template_mark, texts_of
from alignlab.errors import BadInput
from alignlab.records import to_line
from alignlab.text import trimmed
from alignlab.types import Corpus, CritiquedResponse, PreferenceGroup, Prompt, UnpairedPreference

RECORDS, PER_FILE = 10_000, 50
KINDS = ("jsonl", "jsonl", "json", "csv", "parquet", "rows")
ASK, REPLY = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
BY = {"model": "m", "sampling": None, "seed": 1}
OWN_PROMPT = {
    "id": "p", "messages": [ASK], "source": "s", "reference": None, "query_type": None
}  # fmt: skip


def own_response(n: int, text: str) -> dict[str, Any]:
    told = {"id": f"r{n}", "prompt_id": "p", "text": text}
    return {**told, "sampler": BY, "tokens": 1, "finish": "stop"}


def judged(answer: str) -> str:
    return (
        f"###The instruction to evaluate:\nHi\n\n###Response to evaluate:\n{answer}\n\n"
        "###Score Rubrics:\n[Good?]\n\n###Feedback: "
    )


EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "alpaca": [
        {"instruction": "Add.", "input": "1 1", "output": "2"},
        {"instruction": "Add.", "history": [["a", "b"]], "system": "S", "output": ["2", "3"]},
    ],
    "alpacaeval": [
        {"instruction": "Hi", "output_1": "a", "output_2": "b", "generator_1": "x",
         "generator_2": "y", "preference": 1.3}
    ],
    "alpacaeval_listwise": [
        {"instruction_id": 1, "split": "train", "prompt": "Hi",
         "responses": [{"text": "a", "score": 1}, {"text": "b", "score": 0}]}
    ],
    "alpacafarm": [
        {"instruction": "Hi", "input": "", "output_1": "a", "output_2": "b", "preference": 2}
    ],
    "arena": [
        {"winner": "model_a", "conversation_a": [ASK, REPLY],
         "conversation_b": [ASK, {**REPLY, "content": "Go"}],
         "model_a": "x", "model_b": "y", "turn": 1, "judge": "human"}
    ],
    "arena_prompts": [
        {"prompt": '["Hi", "And?"]', "response_a": '["a", "b"]', "response_b": '["a", "c"]',
         "winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0}
    ],
    "autoj": [{"prompt": "Hi", "response 1": "a", "response 2": "b", "label": 0}],
    "commented": [{"prompt": "Hi", "completion": "a", "feedback": "Good."}],
    "finegrained_rlhf": [
        {"question": "Hi", **{f"prediction {n}": f"a{n}" for n in range(1, 5)},
         "preference": [1, 1, 1, 0, 1, 1]}
    ],
    "gsm8k": [{"question": "1+1?", "answer": "1+1=<<1+1=2>>2\n#### 2"}],
    "groups": [
        {"prompt": "Hi", "responses": [{"text": "a", "score": 2, "rank": 0},
                                       {"text": "b", "score": 1, "rank": 1}]}
    ],
    "hh": [
        {"chosen": "\n\nHuman: Hi\n\nAssistant: a", "rejected": "\n\nHuman: Hi\n\nAssistant: b"}
    ],
    "hhh": [
        {"input": "Hi", "targets": {"choices": ["a", "b"], "labels": [1, 0]}},
        {"source": "x", "chosen_instruction": judged("a"), "rejected_instruction": judged("b")},
    ],
    "ifeval": [
        {"key": 1, "prompt": "Hi", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    ],
    "judgebench": [
        {"source": "livebench-math", "question": "Hi", "response_A": "a", "response_B": "b",
         "label": "A>B"}
    ],
    "llmbar": [{"input": "Hi", "output_1": "a", "output_2": "b", "label": 1}],
    "messages": [
        {"messages": [ASK, REPLY]},
        {"messages": [ASK, {**REPLY, "weight": 0}, ASK, {**REPLY, "weight": 1}], "system": "S"},
        {"messages": [ASK, REPLY], "rejected_response": "Go", "kto_tag": None},
    ],
    "oasst": [
        {"message_id": "m", "parent_id": None, "message_tree_id": "m", "text": "Hi",
         "role": "prompter", "lang": "en", "deleted": False, "review_result": True, "rank": None}
    ],
    "pandalm": [
        {"instruction": "Hi", "input": "", "response1": "a", "response2": "b", "annotator1": 1,
         "annotator2": 1, "annotator3": 0, "cmp_key": "x_y"}
    ],
    "pku": [
        {"prompt": "Hi", "response_0": "a", "response_1": "b", "better_response_id": 0,
         "safer_response_id": 1}
    ],
    "translation": [{"src": "Hallo", "ref": "Hi", "id": 0}],
    "preference": [
        {"prompt": "Hi", "chosen": "a", "rejected": "b", "score_chosen": 2, "score_rejected": 1},
        {"chosen": [ASK, REPLY], "rejected": [ASK, {**REPLY, "content": "Go"}]},
        {"question": "Hi", "system": "S", "chosen": "a", "rejected": "b"},
        {"chosen": "Hi there. a", "rejected": "Hi there. b"},
    ],
    "prometheus": [
        {"instruction": judged("a"), "response_source": "x", "gpt4_score": [1, 2]},
        {"instruction": judged("b"), "response_source": "y", "gpt4_score": [3]},
    ],
    "prompt_completion": [
        {"prompt": "Hi", "completion": "a"},
        {"prompt": [ASK], "completion": [REPLY]},
        {"question": "Hi", "response": "a"},
    ],
    "prompts": [{"prompt": "Hi", "reference": "a", "query_type": "open"}],
    "questions": [{"question_id": 1, "category": "x", "turns": ["Hi", "And?"], "reference": "a"}],
    "ratings": [{"instruction": "Hi", "generations": ["a", "b"], "ratings": [2, 1]}],
    "records": [
        {"prompt": OWN_PROMPT, "responses": [own_response(1, "a"), own_response(2, "b")],
         "scores": [1.0, 0.5], "source": "s"},
        {"prompt": OWN_PROMPT, "response": own_response(3, "c"), "task": "ift"},
        {"prompt": OWN_PROMPT, "response": own_response(4, "d"), "desirable": True},
        {"prompt": OWN_PROMPT, "response": own_response(5, "e"), "comment": "Good."},
        OWN_PROMPT,
    ],
    "self_instruct": [{"instruction": "Hi", "instances": [{"input": "x", "output": "a"}]}],
    "sharegpt": [
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "a"}]},
        {"conversations": [{"from": "human", "value": "Hi"}],
         "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}},
    ],
    "shp": [
        {"history": "Hi", "human_ref_A": "a", "human_ref_B": "b", "labels": 1, "score_ratio": 2.0}
    ],
    "tldr": [
        {"info": {"post": "Hi", "title": "t", "subreddit": "s"}, "split": "train", "choice": 0,
         "summaries": [{"text": "a", "policy": "x"}, {"text": "b", "policy": "y"}]}
    ],
    "ultrafeedback": [
        {"instruction": "Hi", "completions": [
            {"response": "a", "model": "x", "fine-grained_score": 4.0},
            {"response": "b", "model": "y", "fine-grained_score": 2.0}]}
    ],
    "unpaired": [{"prompt": "Hi", "completion": "a", "label": True}],
    "rewardbench": [
        {"prompt": "Hi", "chosen": "a", "rejected": "b", "chosen_model": "x",
         "rejected_model": "y", "subset": "s"},
        {"prompt": "Hi", "chosen": ["a", "b"], "rejected": ["c"], "models": ["x", "y", "z"],
         "num_correct": 2, "domain": "chat"},
    ],
    "tulu_eval": [
        {"prompt": "Hi", "model_a": "x", "model_b": "y", "completion_a": "a", "completion_b": "b",
         "preference": "a-is-better", "evaluator": "z", "timestamp": "2023-05-01"}
    ],
    "wmt_mqm": [
        {"system": "x", "doc": "d", "seg_id": "1", "rater": "r", "source": "Hi", "target": "a",
         "category": "Style", "severity": "Minor"}
    ],
    "xstest": [
        {"type": "homonyms", "prompt": "Hi", "completion": "a",
         "annotation_1": "1_full_compliance", "annotation_2": "1_full_compliance",
         "final_label": "1_full_compliance"}
    ],
}  # fmt: skip
GATHERED = ("oasst", "prometheus", "tulu_eval", "wmt_mqm")
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 7, 0.5, 1e400, -1e400, float("nan"), 10**400, "", " ", "\n", "a",
    "b", "Hi", "\u200b", "\x00", "\ufeff\u2060", "\u2800", "a\u200b", "one\ntwo", "x\r\ny",
    "\u2028", "NaN", "inf", "1.5", "1", "true", "null", "[]", "[1, 2", "{'role': 'user'}",
    "[{'role': 'user', 'content': 'Hi'}]", '[{"role": "assistant", "content": "a"}]',
    '[ {"role":\n"user", "content": "Hi"} ]', "<|im_start|>user\nHi<|im_end|>", "a</s>",
    "[INST] Hi [/INST]", "\n\nHuman: Hi\n\nAssistant: a", [], {}, [None], [[]], ["a", "b"], [1, 2],
    [1.0, 0.5], [0.5, 1.0], ["1.0", "0.5"], [ASK], [REPLY], [ASK, REPLY], [REPLY, ASK, REPLY],
    {"role": "user", "content": "Hi"}, {"from": "gpt", "value": "a"}, "ä" * 3000, "user",
    "assistant", "tool", "p", "r1", "r2", {"text": "a", "score": float("inf")},
    "=1+1", "a;b,c\t\"d\"",
]  # fmt: skip
TEXTS = [
    "",
    " ",
    "\u200b",
    "\x00",
    "a",
    "b",
    "a ",
    "a\u2060",
    "p",
    "p2",
    "r1",
    "r2",
    "assistant",
    "1",
]
"""Put in the place of other texts: blank ones, those of another response, ids and roles."""
NAMES = [
    "prompt", "question", "system", "input", "tools", "images", "weight", "tool_calls", "label",
    "kto_tag", "rejected_response", "completions", "id", "prompt_id", "score", "text", "content",
    "messages", "reasoning_content", "history", "extra field",
]  # fmt: skip


def spots(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a record that can be changed: container and key."""
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    for key in list(keys):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from spots(value[key])


def spoilt(rng: random.Random, example: dict[str, Any]) -> dict[str, Any]:
    record = copy.deepcopy(example)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        places = list(spots(record))
        if not places:
            break
        place, key = rng.choice(places)
        how = rng.random()
        if how < 0.6:
            near = isinstance(place[key], str) and rng.random() < 0.5
            place[key] = copy.deepcopy(rng.choice(TEXTS if near else VALUES))
        elif how < 0.7:
            del place[key]
        elif how < 0.85 and isinstance(place, dict):
            place[rng.choice(NAMES)] = copy.deepcopy(rng.choice(VALUES))
        elif isinstance(place, dict):
            place[rng.choice(NAMES)] = place.pop(key)
        else:
            place.append(copy.deepcopy(rng.choice(place)))
    return record


def written(path: Path, kind: str, rows: list[dict[str, Any]]) -> None:
    """Write rows in one of the kinds of files; lines are damaged later."""
    if kind == "parquet":
        try:
            pq.write_table(pa.Table.from_pylist(rows), path)
            return
        except (pa.ArrowException, OverflowError, ValueError, TypeError):
            kind = "jsonl"  # no column has one type; the reader finds that this is no Parquet
    if kind == "json":
        path.write_text(json.dumps(rows))
    elif kind == "csv":
        names = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        table = csv.writer(text)
        table.writerow(names)
        for row in rows:
            values = [row.get(name) for name in names]
            shown = [v if isinstance(v, str) else str(v) if v is not None else "" for v in values]
            table.writerow(shown)
        path.write_bytes(text.getvalue().encode("utf-8", "replace"))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@contextmanager
def no_hang(seconds: int) -> Iterator[None]:
    def late(signum: int, frame: Any) -> None:
        raise AssertionError(f"reading took over {seconds} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def everything(corpus: Corpus) -> list[Any]:
    return [
        *corpus.groups, *corpus.demonstrations, *corpus.labelled, *corpus.commented,
        *corpus.prompts, *corpus.test_groups, *corpus.test_prompts,
    ]  # fmt: skip


def assert_sound(corpus: Corpus) -> None:
    """Nothing that a record may not be has been let in."""
    ids: dict[tuple[str, str], Any] = {}
    for record in everything(corpus):
        prompt = prompt_of(record)
        assert prompt.messages[-1].role == "user"
        assert trimmed(prompt.text)
        assert ids.setdefault((type(record).__name__, record.id), record) == record
        if isinstance(record, Prompt):
            continue
        many = isinstance(record, PreferenceGroup)
        responses = record.responses if many else (record.response,)
        texts = [trimmed(response.text) for response in responses]
        assert all(texts)
        assert len(set(texts)) == len(texts)
        assert {response.prompt_id for response in responses} == {prompt.id}
        assert len({response.id for response in responses}) == len(responses)
        if many:
            assert all(type(score) is float or type(score) is int for score in record.scores)
            assert all(map(math.isfinite, record.scores))
        if isinstance(record, CritiquedResponse):
            assert trimmed(record.comment)
        if isinstance(record, UnpairedPreference):
            assert type(record.desirable) is bool
        to_line(record).encode()  # what a run writes


def problems_of(path: Path, kind: str, layout: str, rows: list[dict[str, Any]]) -> list[str]:
    """Read a file, or rows, to the end; list what was refused and look into what was not."""
    spec = f"{layout}:{path}" if layout else str(path)
    problems: list[str] = []
    try:
        if kind == "rows":
            corpus = load_rows(rows, layout=layout, bad="drop")
        else:
            problems += check(spec).problems
            corpus = load(f"{spec}?bad=drop")
            assert sum(c.dropped.get("bad record", 0) for c in corpus.counts) == len(problems)
    except BadInput as error:
        return [*problems, str(error)]
    assert_sound(corpus)
    if corpus.name not in GATHERED:
        for record in everything(corpus):
            assert not any(map(template_mark, texts_of(record)))
    return problems


def test_every_layout_has_examples() -> None:
    parts = {name: registry.get("data", name) for name in registry.names("data")}
    known = {name for name, part in parts.items() if isinstance(part, Format)}
    assert set(EXAMPLES) == known - {"faireval"}  # a folder of several files


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_are_sound(tmp_path: Path, name: str) -> None:
    for number, example in enumerate(EXAMPLES[name]):
        path = tmp_path / f"{number}.jsonl"
        written(path, "jsonl", [example])
        assert problems_of(path, "jsonl", name, [example]) == []


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name not in GATHERED])
@pytest.mark.parametrize(
    ("field", "value"),
    [("tools", [{"name": "f"}]), ("images", ["a.png"]), ("tool_calls", "[1]"), ("kto_tag", [1])],
)
def test_no_layout_drops_what_changes_the_meaning(
    tmp_path: Path, name: str, field: str, value: Any
) -> None:
    for example in EXAMPLES[name]:
        path = tmp_path / "x.jsonl"
        written(path, "jsonl", [{**example, field: value}])
        assert any(
            field in each or "expected the fields" in each
            for each in problems_of(path, "jsonl", name, [])
        )


def test_ten_thousand_broken_records(tmp_path: Path) -> None:
    rng = random.Random(16)
    names = [*sorted(EXAMPLES), *["records"] * 6]  # the layout with the most to get wrong
    refused = read = 0
    for number in range(RECORDS // PER_FILE):
        name = names[number % len(names)]
        kind = rng.choice(KINDS)
        rows = [spoilt(rng, rng.choice(EXAMPLES[name])) for _ in range(PER_FILE)]
        path = tmp_path / f"{number}.{kind}"
        if kind != "rows":
            written(path, kind, rows)
            if rng.random() < 0.1:  # a torn or damaged file
                content = bytearray(path.read_bytes())
                for _ in range(3):
                    content[rng.randrange(len(content))] = rng.randrange(256)
                path.write_bytes(content[: rng.randrange(len(content))])
        with no_hang(20):
            found = problems_of(path, kind, name if rng.random() < 0.8 else "", rows)
        for problem in found:
            assert "\n" not in problem
            assert problem.isprintable()
            assert len(problem) < 2000
        refused, read = refused + bool(found), read + (not found)
    assert refused > RECORDS // PER_FILE // 2
