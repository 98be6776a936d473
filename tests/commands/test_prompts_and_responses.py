"""Prompts and responses that commands take from data: each conversation and text once."""

import json

from alignlab.commands._support.prompts_and_responses import prompts_of, responses_of
from alignlab.commands._support.responses_from_run import answers_of_run
from alignlab.data import load
from alignlab.runs import Run, RunIdentity
from alignlab.types import Message, Prompt, Response, SampledBy


def test_pairs_of_one_prompt_are_one_prompt_with_all_its_responses(tmp_path):
    rows = [
        {"prompt": "Why?", "chosen": "a", "rejected": "b"},
        {"prompt": "Why?", "chosen": "a", "rejected": "c"},
        {"prompt": "How?", "chosen": "d", "rejected": "a"},
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    corpus = load(str(path))
    assert [p.text for p in prompts_of(corpus)] == ["Why?", "How?"]
    found = responses_of(corpus)
    ids = {p.id: p.text for p in found.prompts}
    assert [(ids[r.prompt_id], r.text) for r in found.responses] == [
        ("Why?", "a"), ("Why?", "b"), ("Why?", "c"), ("How?", "d"), ("How?", "a"),
    ]  # fmt: skip
    assert (found.tally.kept, found.tally.dropped) == (5, {"repeated response": 1})
    assert len({r.id for r in found.responses}) == 5
    assert [r.text for r in responses_of(corpus, limit=1).responses] == ["a", "b", "c"]


def test_an_id_of_two_texts_is_no_prompt_of_a_run(tmp_path):
    stages = {
        "one": [Prompt("0", (Message("user", "Why?"),)), Prompt("1", (Message("user", "How?"),))],
        "two": [Prompt("0", (Message("user", "When?"),))],
    }
    run = Run.start(tmp_path / "run", RunIdentity("test", {}, (0,)))
    for name, prompts in stages.items():
        with run.stage(name) as stage:
            stage.write("prompts", Prompt, prompts)
    given = [Response(f"r{i}", str(i), "Yes.", SampledBy("M1")) for i in range(3)]
    with run.stage("answer-M1") as stage:
        stage.write("responses", Response, given)
    run.finish()
    run.close()
    found = answers_of_run(tmp_path / "run")
    assert [r.id for r in found.responses] == ["r1"]
    assert found.tally.dropped == {"prompt id of two texts": 1, "prompt not kept in the run": 1}
